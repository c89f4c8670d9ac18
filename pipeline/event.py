"""What an event is to the pipeline, wherever it is: its identity, its time, its place in the hash space.

Rules. The identity of an event is (tenant, source, id). Two events of one identity and one payload are duplicates; of one
identity and different payloads they are a conflict, which is kept and counted, never dropped as a duplicate (TRAPS 22).
The event time is what the producer says; the accept time is the door's clock. An event belongs to the slice of its
partition key; slices, not shards, are what records are grouped by, so no producer needs a shard map (TRAPS 14).
Pure functions over CloudEvents; nothing here does I/O.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch

HASH_SPACE = 1 << 128
EVENT_KEY_BYTES = 16
PAYLOAD_DIGEST_BYTES = 8
PROTOBUF_CONTENT_TYPE = "application/protobuf"
JSON_CONTENT_TYPE = "application/json"
# Whose events are sent to be looked for. What business reads (views, the lake's SQL and its totals) leaves this tenant out, and
# does so by these words alone; the pipeline moves its events like any other's.
CANARY_TENANT = "canary"
BUSINESS_SQL = f"tenant <> '{CANARY_TENANT}'"


def event_key(tenant: str, source: str, id: str) -> bytes:
    """The identity as 16 bytes (BLAKE2b-128 of the three parts, each with its length in front)."""
    digest = hashlib.blake2b(digest_size=EVENT_KEY_BYTES)
    for part in (tenant, source, id):
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()


def payload_digest(event: CloudEvent) -> bytes:
    """Eight bytes over type, subject, time and data: what tells a duplicate from a conflict."""
    digest = hashlib.blake2b(digest_size=PAYLOAD_DIGEST_BYTES)
    time = event_time_micros(event)
    for raw in (event.type.encode(), subject(event).encode(), str(time).encode(), data_bytes(event)):
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()


def data_bytes(event: CloudEvent) -> bytes:
    """The payload, whichever of the three ways it came; empty if there is none."""
    match event.WhichOneof("data"):
        case "binary_data":
            return event.binary_data
        case "text_data":
            return event.text_data.encode()
        case "proto_data":
            return event.proto_data.value
        case _:
            return b""


def text_attribute(event: CloudEvent, name: str) -> str:
    """A textual attribute or extension; empty if it is absent."""
    if name not in event.attributes:  # reading a map entry would create it
        return ""
    value = event.attributes[name]
    match value.WhichOneof("attr"):
        case "ce_string":
            return value.ce_string
        case "ce_uri":
            return value.ce_uri
        case "ce_uri_ref":
            return value.ce_uri_ref
        case _:
            return ""


def subject(event: CloudEvent) -> str:
    return text_attribute(event, "subject")


def partition_key(event: CloudEvent) -> str:
    """What keeps events together: the `partitionkey` extension, else the subject, else the event's own id."""
    return text_attribute(event, "partitionkey") or subject(event) or event.id


def event_time_micros(event: CloudEvent) -> int | None:
    """The event time in microseconds since 1970, or None if the event has none or it can't be read."""
    if "time" not in event.attributes:
        return None
    value = event.attributes["time"]
    if value.HasField("ce_timestamp"):
        return value.ce_timestamp.seconds * 1_000_000 + value.ce_timestamp.nanos // 1_000
    if value.HasField("ce_string"):
        try:
            return micros(datetime.fromisoformat(value.ce_string))
        except ValueError:
            return None
    return None


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a moment that knows its time zone.

    Raises:
        ValueError: the moment has no time zone: "local time" of an unknown machine is not a time.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def slice_of(key: str, slices: int) -> int:
    """The slice of the hash space, 0 to `slices` - 1, that this partition key falls into (Kinesis hashes by MD5)."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big") * slices // HASH_SPACE


def explicit_hash_key(slice: int, slices: int) -> str:
    """The first hash key of a slice, as PutRecords wants it: a decimal string."""
    return str(-(-slice * HASH_SPACE // slices))


@dataclass(frozen=True, slots=True)
class Record:
    """One Kinesis record to be written: a frame, and where in the hash space it goes."""

    data: bytes
    partition_key: str
    explicit_hash_key: str
    # How many events are inside: for counting, not stored.
    events: int = 1
    # The trace of one of them that is kept, if there is one, as 32 hexadecimal digits: for exemplars, not stored.
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One Kinesis record as it was read."""

    stream: str
    shard_id: str
    sequence_number: str
    data: bytes
    arrived_at_unix_micros: int


def stored_batch(
    events: Iterable[CloudEvent], *, tenant: str, accepted_at_unix_micros: int, door: str, worker: str, slice: int, slices: int
) -> StoredBatch:
    return StoredBatch(
        events=events,
        tenant=tenant,
        accepted_at_unix_micros=accepted_at_unix_micros,
        door=door,
        worker=worker,
        slice=slice,
        slices=slices,
    )
