"""Where one event is: every place on its path is asked, and answers found, absent or unknown.

Rules. Absent is said only of a place that was read whole for the stretch of time in question; a place that could not be read, or
not far enough, is UNKNOWN. The search goes from places that can be asked by id (RDS, the lake) to those that have to be read
(backup, streams, dead letters): the first sighting tells the accept time, and that bounds the reading. No payload is shown.

Each place is a function from what is known so far to sightings; the order of `PLACES` is the order of the path.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import deltalake
import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq
import redis

from pipeline import frame
from pipeline.backup.reader import Backup, Damaged, Range
from pipeline.dead_letters.office import Office
from pipeline.errors import Corrupt, Permanent, SpillwayError
from pipeline.etl.kinesis import At, KinesisClient
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.redis_exit import state_key
from pipeline.event import event_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch

# How far around the accept time streams, backup and dead letters are read.
BEFORE = timedelta(seconds=10)
AFTER = timedelta(minutes=15)
# At most so many records of a shard are read; past that the answer is UNKNOWN.
SHARD_RECORDS_MAX = 200_000
PAGE_RECORDS_MAX = 5_000


class Seen(Enum):
    FOUND = "found"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    place: str
    seen: Seen
    # A position, an object, a row; or why it is not known.
    detail: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The event, as far as it is known. `since` is where reading starts if nobody knows the accept time."""

    id: str
    tenant: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    entity: str | None = None
    accepted_at: datetime | None = None
    door: str | None = None
    since: datetime | None = None

    def is_this(self, event: CloudEvent, tenant: str) -> bool:
        return event.id == self.id and self.source in (None, event.source) and self.tenant in (None, tenant)

    @property
    def start(self) -> datetime:
        return self.accepted_at - BEFORE if self.accepted_at else self.since or datetime.now(UTC) - timedelta(hours=1)

    @property
    def end(self) -> datetime:
        return self.accepted_at + AFTER if self.accepted_at else datetime.now(UTC) + timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Sources:
    """What can be asked. Clients are made by the caller."""

    rds_url: str
    redis_url: str
    lake: Lake
    backup: Backup
    dead_letters: Office
    kinesis: KinesisClient
    web_stream: str
    events_stream: str
    clean_stream: str


class Ambiguous(Permanent):
    """Several events have this id; the message says how to choose."""


def journey(wanted: Wanted, sources: Sources) -> tuple[Wanted, list[Sighting]]:
    """What is known of the event in the end, and a sighting or more of each place, in the order of the path.

    Raises:
        Ambiguous: several tenants or sources use this id.
    """
    found: dict[str, list[Sighting]] = {}
    for place, look in _ASKED:
        try:
            wanted, found[place] = look(wanted, sources)
        except Ambiguous:
            raise
        except (SpillwayError, psycopg.Error, redis.RedisError, deltalake.exceptions.DeltaError, OSError) as exc:
            found[place] = [Sighting(place, Seen.UNKNOWN, f"{type(exc).__name__}: {str(exc).splitlines()[0][:200]}")]
    return wanted, [sighting for place in PLACES for sighting in found[place]]


Looked = tuple[Wanted, list[Sighting]]


def _rds(wanted: Wanted, sources: Sources) -> Looked:
    query = (
        "SELECT tenant, source, type, subject, entity, accepted_at, door, loaded_at FROM event_history"
        " WHERE event_id = %s AND (%s::text IS NULL OR tenant = %s) AND (%s::text IS NULL OR source = %s) LIMIT 20"
    )
    with psycopg.connect(sources.rds_url, connect_timeout=5) as connection:
        rows = connection.execute(query, (wanted.id, wanted.tenant, wanted.tenant, wanted.source, wanted.source)).fetchall()
    if not rows:
        return wanted, [Sighting("rds", Seen.ABSENT, "no row in event_history")]
    sightings = [
        Sighting("rds", Seen.FOUND, f"event_history: tenant {row[0]}, source {row[1]}, {row[2]}", row[7]) for row in rows
    ]
    tenant, source, type, subject, entity, accepted_at, door, _ = rows[0]
    if len(rows) > 1:
        return wanted, sightings  # several events of this id: the user must say which
    return replace(
        wanted, tenant=tenant, source=source, type=type, subject=subject, entity=entity, accepted_at=accepted_at, door=door
    ), sightings


def _lake(wanted: Wanted, sources: Sources) -> Looked:
    if not sources.lake.exists():
        return wanted, [Sighting("lake", Seen.ABSENT, "there is no table yet")]
    table = sources.lake.table()
    filesystem = sources.lake.filesystem()
    sightings = []
    for file in data_files(table):
        if wanted.tenant not in (None, file.tenant) or wanted.type not in (None, file.type):
            continue
        columns = ["event_id", "source", "accepted_at", "subject", "door"]
        rows = pq.read_table(
            file.path, filesystem=filesystem, columns=columns, partitioning=None, filters=pc.field("event_id") == wanted.id
        )
        for row in rows.to_pylist():
            if wanted.source in (None, row["source"]):
                sightings.append(Sighting("lake", Seen.FOUND, f"{sources.lake.uri}/{file.path} (version {table.version()})"))
                known = {
                    "source": row["source"],
                    "accepted_at": row["accepted_at"],
                    "subject": row["subject"],
                    "door": row["door"],
                }
                wanted = replace(wanted, tenant=file.tenant, type=file.type, **known)
    return wanted, sightings or [Sighting("lake", Seen.ABSENT, f"in no file of version {table.version()}")]


def _redis(wanted: Wanted, sources: Sources) -> Looked:
    if not (wanted.tenant and wanted.subject and wanted.entity):
        return wanted, [
            Sighting("redis", Seen.UNKNOWN, "state is kept by subject, and no other place knows this event's subject")
        ]
    client = redis.Redis.from_url(sources.redis_url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True)
    try:
        fields: Any = client.hgetall(state_key(wanted.tenant, wanted.entity, wanted.subject))
    finally:
        client.close()
    if not fields:
        return wanted, [Sighting("redis", Seen.ABSENT, f"no state of {wanted.entity} {wanted.subject}")]
    # A token ends with the key of the event that spoke (fold.Order.token).
    key = event_key(wanted.tenant, wanted.source or "", wanted.id).hex()
    holds = sorted(name[1:] for name, token in fields.items() if name.startswith("@") and token.endswith(key))
    detail = f"{wanted.entity} {wanted.subject}: " + (
        f"this event's word stands for {', '.join(holds)}" if holds else "later events have the word on every attribute"
    )
    return wanted, [Sighting("redis", Seen.FOUND, detail)]


def _backup_of(stream_of: Callable[[Sources], str], place: str) -> Callable[[Wanted, Sources], Looked]:
    def look(wanted: Wanted, sources: Sources) -> Looked:
        sightings, damaged = [], 0
        for part in sources.backup.batches(stream_of(sources), Range(wanted.start, wanted.end)):
            if isinstance(part, Damaged):
                damaged += 1
                continue
            for event in part.batch.events:
                if wanted.is_this(event, part.batch.tenant):
                    wanted = _learn(wanted, event, part.batch)
                    sightings.append(Sighting(place, Seen.FOUND, f"{part.place.key} at byte {part.place.offset}"))
        if sightings:
            return wanted, sightings
        if damaged:
            return wanted, [Sighting(place, Seen.UNKNOWN, f"not in what can be read; {damaged} ranges are damaged")]
        return wanted, [Sighting(place, Seen.ABSENT, f"in no object of {_span(wanted)}; Firehose may not have written it yet")]

    return look


def _stream(stream_of: Callable[[Sources], str], place: str) -> Callable[[Wanted, Sources], Looked]:
    def look(wanted: Wanted, sources: Sources) -> Looked:
        stream, sightings, cut = stream_of(sources), list[Sighting](), False
        for shard in sources.kinesis.shards(stream):
            for record in _records(sources.kinesis, stream, shard.id, wanted):
                if record is None:
                    cut = True
                    continue
                sequence_number, arrived_at, batch = record
                for event in batch.events:
                    if wanted.is_this(event, batch.tenant):
                        wanted = _learn(wanted, event, batch)
                        sightings.append(Sighting(place, Seen.FOUND, f"{stream} {shard.id} {sequence_number}", arrived_at))
        if sightings:
            return wanted, sightings
        if cut:
            return wanted, [Sighting(place, Seen.UNKNOWN, f"not in the first {SHARD_RECORDS_MAX} records of a shard")]
        return wanted, [Sighting(place, Seen.ABSENT, f"in no record that arrived in {_span(wanted)}")]

    return look


def _records(
    kinesis: KinesisClient, stream: str, shard_id: str, wanted: Wanted
) -> Iterator[tuple[str, datetime, StoredBatch] | None]:
    """The batches of a shard in the span; None where the bound was reached. Records that are no batch are passed over."""
    iterator: str | None = kinesis.iterator(stream, shard_id, At(at_millis=int(wanted.start.timestamp() * 1000)))
    read = 0
    while iterator is not None:
        page = kinesis.read(iterator, PAGE_RECORDS_MAX)
        for record in page.records:
            arrived_at = datetime.fromtimestamp(record.arrived_millis / 1000, UTC)
            if arrived_at > wanted.end:
                return
            try:
                yield record.sequence_number, arrived_at, StoredBatch.FromString(frame.decode(record.data))
            except Corrupt:
                continue
        read += len(page.records)
        if read >= SHARD_RECORDS_MAX:
            yield None
            return
        iterator = page.next_iterator if page.behind_millis or page.records else None


def _dead_letters(wanted: Wanted, sources: Sources) -> Looked:
    sightings = []
    for listed in sources.dead_letters.letters():
        if not wanted.start.date().isoformat() <= listed.place.day <= wanted.end.date().isoformat():
            continue
        letter = sources.dead_letters.read(listed.key)
        if letter.WhichOneof("original") != "event":
            continue
        for event in letter.event.events:
            if wanted.is_this(event, letter.event.tenant):
                wanted = _learn(wanted, event, letter.event)
                at = datetime.fromtimestamp(letter.dead_at_unix_micros / 1e6, UTC)
                detail = f"{letter.stage}: {letter.reason}: {letter.detail} ({listed.key})"
                sightings.append(Sighting("dead letters", Seen.FOUND, detail, at))
    return wanted, sightings or [Sighting("dead letters", Seen.ABSENT, f"in no letter of {_span(wanted)}")]


def _learn(wanted: Wanted, event: CloudEvent, batch: StoredBatch) -> Wanted:
    return replace(
        wanted,
        tenant=batch.tenant,
        source=event.source,
        type=event.type,
        accepted_at=wanted.accepted_at or datetime.fromtimestamp(batch.accepted_at_unix_micros / 1e6, UTC),
        door=batch.door,
    )


def _span(wanted: Wanted) -> str:
    return f"{wanted.start:%Y-%m-%d %H:%M:%S} to {wanted.end:%H:%M:%S} UTC"


PLACES = ("web-events", "web backup", "events", "backup", "events-clean", "lake", "rds", "redis", "dead letters")

# The order of asking: cheap and by id first.
_ASKED: tuple[tuple[str, Callable[[Wanted, Sources], Looked]], ...] = (
    ("rds", _rds),
    ("lake", _lake),
    ("redis", _redis),
    ("dead letters", _dead_letters),
    ("backup", _backup_of(lambda sources: sources.events_stream, "backup")),
    ("web backup", _backup_of(lambda sources: sources.web_stream, "web backup")),
    ("events", _stream(lambda sources: sources.events_stream, "events")),
    ("web-events", _stream(lambda sources: sources.web_stream, "web-events")),
    ("events-clean", _stream(lambda sources: sources.clean_stream, "events-clean")),
)
