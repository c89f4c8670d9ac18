"""From the backup into a stream again: the same bytes, so the same ids, tenants and accept times.

Every exit drops what it has, however old (TRAPS 25), so a whole replay changes nothing there, and a replay after a loss brings
back what is missing. Records are written under the hash key of their slice, as the doors wrote them. What the stream does not
confirm is tried again by the writer until its deadline; after that the replay ends with an error and can be run again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline import frame
from pipeline.backup.reader import Damaged, Found
from pipeline.errors import Unavailable
from pipeline.event import Record, explicit_hash_key
from pipeline.streams.sink import NotWritten, Sink

WRITE_SECONDS_MAX = 60.0
WRITE_RECORDS_MAX = 500
WRITE_BYTES_MAX = 4 * 1024 * 1024


@dataclass
class Replayed:
    """What a replay did. `damaged` is not in the stream: it could not be read."""

    records: int = 0
    events: int = 0
    damaged: list[Damaged] = field(default_factory=list)


async def replay(parts: Iterable[Found | Damaged], sink: Sink) -> Replayed:
    """Write every batch. Raises: Unavailable: some were not confirmed; nothing was skipped before them."""
    done = Replayed()
    for group in _groups(parts, done.damaged):
        outcomes = await sink.write(group, deadline_seconds=WRITE_SECONDS_MAX)
        failed = [outcome for outcome in outcomes if isinstance(outcome, NotWritten)]
        if failed or len(outcomes) != len(group):
            raise Unavailable(f"after {done.records} records: {len(failed)} were not confirmed; run the replay again")
        done.records += len(group)
        done.events += sum(record.events for record in group)
    return done


def record_of(found: Found) -> Record:
    batch = found.batch
    # A batch without slices can't come from our doors; it still has a place, that of slice 0.
    hash_key = explicit_hash_key(batch.slice, batch.slices or 1)
    return Record(frame.encode(found.payload), f"{batch.tenant}/{batch.slice}", hash_key, len(batch.events))


def _groups(parts: Iterable[Found | Damaged], damaged: list[Damaged]) -> Iterator[list[Record]]:
    group: list[Record] = []
    size = 0
    for part in parts:
        if isinstance(part, Damaged):
            damaged.append(part)
            continue
        record = record_of(part)
        if group and (len(group) >= WRITE_RECORDS_MAX or size + len(record.data) > WRITE_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record.data)
    if group:
        yield group
