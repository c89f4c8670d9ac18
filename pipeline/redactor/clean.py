"""One batch with personal data to records without. Pure, but for the tenant's key.

Rules. Slice, tenant, door and accept time stay. A batch stays one record unless redaction made it too large for one: then it is
halved, in order; one event that is too large by itself is refused. An event that breaks the redactor is refused as poison and its
neighbours pass (TRAPS 9, 17). Nothing else is caught: without a key nothing passes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline import frame
from pipeline.errors import InvalidEvent, SpillwayError
from pipeline.event import Record, explicit_hash_key
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.redaction.redact import Redacted

# Data and partition key of one record. Source: PutRecords, Kinesis Data Streams API Reference (1 MiB unless raised).
RECORD_BYTES_MAX = 1024 * 1024


class Redacts(Protocol):
    def redact(self, batch: StoredBatch) -> Redacted: ...


@dataclass(slots=True)
class Cleaned:
    """`refused` by place in the batch; with the events of `records` it is all of the batch."""

    records: list[Record] = field(default_factory=list)
    refused: list[tuple[int, InvalidEvent]] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)

    def record_of(self, events: int) -> dict[int, int]:
        """Which of `records` each event is in that passed, by its place in the batch of so many `events`."""
        refused = {index for index, _ in self.refused}
        passed = (index for index in range(events) if index not in refused)
        return {next(passed): number for number, record in enumerate(self.records) for _ in range(record.events)}


def clean(redactor: Redacts, batch: StoredBatch) -> Cleaned:
    """Raises: Retryable: the tenant's key can't be had."""
    out = Cleaned()
    try:
        _take(out, redactor.redact(batch), range(len(batch.events)))
    except (SpillwayError, OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - one event breaks the code: each alone, so that only that one is refused
        out = Cleaned()
        for index in range(len(batch.events)):
            _alone(out, redactor, batch, index)
    return out


def _alone(out: Cleaned, redactor: Redacts, batch: StoredBatch, index: int) -> None:
    try:
        _take(out, redactor.redact(_part(batch, index, index + 1)), range(index, index + 1))
    except (SpillwayError, OSError, MemoryError):
        raise
    except Exception as exc:  # noqa: BLE001 - the one that breaks the code is kept whole, not skipped
        out.refused.append((index, InvalidEvent("poison", f"redacting it raised {type(exc).__name__}")))


def _take(out: Cleaned, redacted: Redacted, places: range) -> None:
    refused = {places[index] for index, _ in redacted.refused}
    out.refused += [(places[index], exc) for index, exc in redacted.refused]
    passed = [place for place in places if place not in refused]
    for start, record in _records(redacted.clean, 0):
        if isinstance(record, InvalidEvent):
            out.refused.append((passed[start], record))
        else:
            out.records.append(record)
    for action, count in redacted.changed.items():
        out.changed[action] = out.changed.get(action, 0) + count


def _records(batch: StoredBatch, start: int) -> Iterator[tuple[int, Record | InvalidEvent]]:
    """Records that hold the batch, in order, each with the place of its first event."""
    if not batch.events:
        return
    payload = batch.SerializeToString()
    key = f"{batch.tenant}/{batch.slice}"
    if len(payload) + frame.OVERHEAD_BYTES + len(key.encode()) <= RECORD_BYTES_MAX:
        hash_key = explicit_hash_key(batch.slice, batch.slices)
        yield start, Record(frame.encode(payload), key, hash_key, len(batch.events))
    elif len(batch.events) == 1:
        yield start, InvalidEvent("too_large", "without its personal data the event is larger than a record can be")
    else:
        middle = len(batch.events) // 2
        yield from _records(_part(batch, 0, middle), start)
        yield from _records(_part(batch, middle, len(batch.events)), start + middle)


def _part(batch: StoredBatch, start: int, end: int) -> StoredBatch:
    return StoredBatch(
        events=batch.events[start:end],
        tenant=batch.tenant,
        accepted_at_unix_micros=batch.accepted_at_unix_micros,
        door=batch.door,
        worker=batch.worker,
        slice=batch.slice,
        slices=batch.slices,
    )
