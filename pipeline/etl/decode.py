"""From Kinesis records to events, or to the reason why not.

Rules. A bad event is data: it leaves here as `Dead`, with its reason and the place to find it whole, and its neighbours go on.
Within one part of a micro-batch the first event of an identity stays; a repeat of the same payload is a duplicate, of another
payload a conflict (TRAPS 22). Everything here is a pure function of the records, so a batch that is read again decodes to
the same events in the same order.

Which events are traced is decided here, by the rule that every hop has (telemetry/tracing.py); for the others that decision is
all that tracing costs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.message import DecodeError, Message

from pipeline import frame
from pipeline.errors import Corrupt, InvalidEvent
from pipeline.event import (
    EVENT_KEY_BYTES,
    PAYLOAD_DIGEST_BYTES,
    StoredRecord,
    data_bytes,
    event_time_micros,
    subject,
    text_attribute,
)
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.schema.registry import EventType
from telemetry.tracing import CANARY_ATTRIBUTE, TRACEPARENT_ATTRIBUTE, Keeping, Trace

# What a timestamp column and PostgreSQL's timestamptz can both hold: the years 1 to 9999.
TIME_MICROS_MIN = -62_135_596_800_000_000
TIME_MICROS_MAX = 253_402_300_799_999_999


class Event(NamedTuple):
    """One event with its envelope read. A named tuple: there are a million of them a minute."""

    key: bytes
    tenant: str
    source: str
    id: str
    kind: EventType
    subject: str
    time_micros: int
    accepted_micros: int
    door: str
    traceparent: str
    digest: bytes
    # The parsed payload, and its bytes as they were stored.
    message: Message
    data: bytes
    # Where it was read: number of the record in its part, and place of the event in the record.
    record: int
    place: int


@dataclass(frozen=True, slots=True)
class Dead:
    """An event, or (index None) a whole record, that can't go on."""

    reason: str
    detail: str
    record: int
    index: int | None = None


@dataclass(slots=True)
class Decoded:
    """One part of a micro-batch: accepted = events + conflicts + dead + duplicates."""

    records: Sequence[StoredRecord]
    events: list[Event] = field(default_factory=list)
    # Events whose identity another one of this part has taken before them.
    conflicts: list[Event] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    duplicates: int = 0
    # Those of `events` that are traced.
    kept: list[tuple[Trace, Event]] = field(default_factory=list)

    def buried(self) -> list[Dead]:
        """All that goes to the dead letters."""
        return [*self.dead, *map(conflict, self.conflicts)]


def decode(records: Sequence[StoredRecord], find: Callable[[str], EventType], keeping: Keeping | None = None) -> Decoded:
    """Every event of these records. `find` gives the event type of a name or raises InvalidEvent "unknown_type".

    `keeping` None: no event is traced.
    """
    out = Decoded(records)
    trace_if_kept = keeping.trace if keeping is not None else None
    first: dict[bytes, bytes] = {}
    for number, record in enumerate(records):
        try:
            batch = StoredBatch.FromString(frame.decode(record.data))
        except Corrupt as exc:
            out.dead.append(Dead("corrupt", str(exc), number))
            continue
        except DecodeError:
            out.dead.append(Dead("undecodable", "the frame is whole, but holds no stored batch", number))
            continue
        for index, cloud_event in enumerate(batch.events):
            try:
                event = _event(cloud_event, batch, number, index, find)
            except InvalidEvent as exc:
                out.dead.append(Dead(exc.reason, str(exc), number, index))
                continue
            if _admit(event, first, out) and trace_if_kept is not None:
                trace = trace_if_kept(event.source, event.id, event.traceparent, CANARY_ATTRIBUTE in cloud_event.attributes)
                if trace is not None:
                    out.kept.append((trace, event))
    return out


def _admit(event: Event, first: dict[bytes, bytes], out: Decoded) -> bool:
    """Whether it is the first of its identity."""
    seen = first.setdefault(event.key, event.digest)
    if seen is event.digest:
        out.events.append(event)
        return True
    if seen == event.digest:
        out.duplicates += 1
    else:
        out.conflicts.append(event)
    return False


def conflict(event: Event) -> Dead:
    """What becomes of an event whose identity is taken by another payload."""
    detail = "another event with this tenant, source and id, but with other content, came first and stays"
    return Dead("conflict", detail, event.record, event.place)


def _event(raw: CloudEvent, batch: StoredBatch, record: int, index: int, find: Callable[[str], EventType]) -> Event:
    time = event_time_micros(raw)
    if time is None or not TIME_MICROS_MIN <= time <= TIME_MICROS_MAX:
        raise InvalidEvent("bad_time", "`time` is missing or is no time between the years 1 and 9999")
    tenant, source, id, name = batch.tenant, raw.source, raw.id, raw.type
    kind, about, data = find(name), subject(raw), data_bytes(raw)
    return Event(
        _blake(EVENT_KEY_BYTES, tenant.encode(), source.encode(), id.encode()),
        tenant,
        source,
        id,
        kind,
        about,
        time,
        batch.accepted_at_unix_micros,
        batch.door,
        text_attribute(raw, TRACEPARENT_ATTRIBUTE) if TRACEPARENT_ATTRIBUTE in raw.attributes else "",
        _blake(PAYLOAD_DIGEST_BYTES, name.encode(), about.encode(), str(time).encode(), data),
        kind.parse(data),
        data,
        record,
        index,
    )


def _blake(size: int, *parts: bytes) -> bytes:
    """pipeline.event's identity and digest, of parts that are already at hand: half its time."""
    whole = b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])
    return blake2b(whole, digest_size=size).digest()


def by_type(events: Iterable[Event]) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.kind.name, []).append(event)
    return groups
