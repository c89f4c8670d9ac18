"""In an executor: what goes home in a part's report about events that are traced, and about those that died."""

from collections.abc import Collection, Sequence
from itertools import islice

from pipeline import frame
from pipeline.etl.decode import Dead, Decoded, Event
from pipeline.etl.report import FAILED_EVENTS_MAX, KEPT_EVENTS_MAX, FailedEvent, KeptEvent, Seen, Spot
from pipeline.event import StoredRecord, text_attribute
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from telemetry.tracing import CANARY_ATTRIBUTE, TRACEPARENT_ATTRIBUTE, Trace


def seen(decoded: Decoded, decoded_ns: int, dead: Sequence[Dead], duplicates: Collection[bytes] = ()) -> Seen:
    """`dead`: all that this part buried. `duplicates`: identities that the exit had already."""
    records = decoded.records
    buried = {(one.record, one.index) for one in dead}
    alive = ((trace, event) for trace, event in decoded.kept if (event.record, event.place) not in buried)
    kept = [_kept(trace, event, records[event.record], duplicates) for trace, event in islice(alive, KEPT_EVENTS_MAX)]
    return Seen(
        decoded_ns=decoded_ns,
        kept=tuple(kept),
        kept_beyond=sum(1 for _ in alive),
        failed=failed_events(records, dead),
        failed_beyond=max(0, len(dead) - FAILED_EVENTS_MAX),
    )


def failed_events(records: Sequence[StoredRecord], dead: Sequence[Dead]) -> tuple[FailedEvent, ...]:
    """The first so many of them."""
    return tuple(_failed(records[one.record], one) for one in dead[:FAILED_EVENTS_MAX])


def _kept(trace: Trace, event: Event, record: StoredRecord, duplicates: Collection[bytes]) -> KeptEvent:
    return KeptEvent(
        trace,
        event.key,
        event.tenant,
        event.kind.name,
        Spot(record.shard_id, record.sequence_number, event.place),
        event.accepted_micros,
        record.arrived_at_unix_micros,
        "duplicate" if event.key in duplicates else "loaded",
    )


def _failed(record: StoredRecord, dead: Dead) -> FailedEvent:
    spot = Spot(record.shard_id, record.sequence_number, dead.index)
    if dead.index is None:
        return FailedEvent(dead.reason, spot, record.arrived_at_unix_micros)
    batch = StoredBatch.FromString(frame.decode(record.data))
    event = batch.events[dead.index]
    return FailedEvent(
        dead.reason,
        spot,
        record.arrived_at_unix_micros,
        tenant=batch.tenant,
        source=event.source,
        id=event.id,
        type=event.type,
        traceparent=text_attribute(event, TRACEPARENT_ATTRIBUTE),
        canary=CANARY_ATTRIBUTE in event.attributes,
        door=batch.door,
        accepted_by=batch.worker,
        accepted_micros=batch.accepted_at_unix_micros,
    )
