"""In the driver, when a batch is visible at its exit: spans of the batch and of its traced events, last words of its dead.

    the batch                    a trace of its own, linked with its events
    lake | rds | redis           per traced event, below `redactor`: from the part's begin in the executor to visible
      lake/stage, lake/commit    what the executor and what the driver did of it

Rules. All times were kept on the way; nothing here is timed. A span of an event that the exit had before (a batch that was done
again, a repeat by the producer) is marked `spillway.rebuilt`: it never takes the place of the first one, and stands in for it
where the first died with a driver. Hops come before their children: if the queue to the store is full, the children are lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from pipeline.etl.exits import BatchReport
from pipeline.etl.report import FailedEvent, KeptEvent, Seen
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.tracing import unplanned
from telemetry.log import Logger
from telemetry.tracing import MESSAGING_SYSTEM, TRACEPARENT_ATTRIBUTE, BatchSpan, Trace, Tracer, Value, trace_of

PARENT = "redactor"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch that is visible: which, and when in nanoseconds since 1970."""

    exit: str
    stream: str
    number: int
    began_ns: int
    visible_ns: int
    report: BatchReport

    @property
    def seconds(self) -> float:
        return (self.visible_ns - self.began_ns) / 1e9


def kept_of(report: BatchReport) -> list[tuple[Seen, KeptEvent]]:
    """The traced events that the exit has; not those that the driver found to be dead."""
    dead = {event.spot for event in report.failed}
    return [(part, event) for part in report.seen for event in part.kept if event.spot not in dead]


def tell(tracer: Tracer, log: Logger, loaded: Loaded) -> None:
    """Emit all that is to be said of a batch that was loaded."""
    kept = kept_of(loaded.report)
    slow = loaded.seconds > tracer.slow_seconds
    batch = None
    if kept or (slow and tracer.may_emit_unplanned()):
        batch = tracer.batch(
            f"load {loaded.exit}",
            loaded.exit,
            loaded.began_ns,
            loaded.visible_ns,
            members=[event.trace for _, event in kept],
            attributes=_of_batch(loaded),
            error=f"slow: {loaded.seconds:.1f} s" if slow else "",
        )
    for part, event in kept:
        _hop(tracer, loaded, part, event, batch)
    if loaded.exit == "lake":
        for part, event in kept:
            _lake_steps(tracer, loaded, part, event)
    for part in loaded.report.seen:
        _bury(tracer, log, loaded, part, part.failed, batch)
    # The driver found these itself, in a second look: they have the batch's times.
    _bury(tracer, log, loaded, Seen(began_ns=loaded.began_ns), loaded.report.failed, batch)


def tell_failure(tracer: Tracer, exit: str, stream: str, number: int, began_ns: int, ended_ns: int, error: str) -> None:
    """The batch failed and will be done again: only its own span, since nothing came back of its events."""
    if tracer.may_emit_unplanned():
        attributes = {"spillway.etl.batch": number, **_messaging(stream)}
        tracer.batch(f"load {exit}", exit, began_ns, ended_ns, attributes=attributes, error=error)


def _messaging(stream: str) -> dict[str, Value]:
    return {
        "messaging.system": MESSAGING_SYSTEM,
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": stream,
    }


def _of_batch(loaded: Loaded) -> dict[str, Value]:
    report = loaded.report
    return {
        **_messaging(loaded.stream),
        "messaging.batch.message_count": report.records,
        "spillway.etl.batch": loaded.number,
        "spillway.etl.rows": report.loaded,
        "spillway.etl.duplicates": report.duplicates,
        "spillway.etl.parts": len(report.seen),
        # Traced by all other hops, but too many for a part's report.
        "spillway.etl.untraced_events": sum(part.kept_beyond for part in report.seen),
    }


def _hop(tracer: Tracer, loaded: Loaded, part: Seen, event: KeptEvent, batch: BatchSpan | None) -> None:
    known = loaded.report.commit is not None and event.key in loaded.report.commit.known
    outcome = "duplicate" if known else event.outcome
    attributes: dict[str, Value] = {
        **_messaging(loaded.stream),
        "messaging.destination.partition.id": event.spot.shard_id,
        "messaging.aws_kinesis.sequence_number": event.spot.sequence_number,
        "messaging.message.id": event.trace.id,
        "cloudevents.event_type": event.type,
        "spillway.tenant": event.tenant,
        "spillway.outcome": outcome,
        "spillway.etl.batch": loaded.number,
        "spillway.etl.executor": part.worker,
        "spillway.etl.decode_seconds": (part.decoded_ns - part.began_ns) / 1e9,
        "spillway.waited_seconds": _waited(part.began_ns, event.arrived_micros),
    }
    if outcome == "duplicate":
        attributes["spillway.rebuilt"] = True
    else:
        attributes["spillway.freshness_seconds"] = max(0.0, loaded.visible_ns / 1e9 - event.accepted_micros / 1e6)
    tracer.event(
        event.trace, loaded.exit, part.began_ns, loaded.visible_ns,
        parent=PARENT, name=f"process {loaded.stream}", attributes=attributes, batch=batch,
    )  # fmt: skip


def _lake_steps(tracer: Tracer, loaded: Loaded, part: Seen, event: KeptEvent) -> None:
    commit = loaded.report.commit
    if commit is None or commit.version is None or event.key in commit.known:
        return
    tracer.event(
        event.trace, "lake/stage", part.decoded_ns, part.ended_ns, parent="lake", name="stage Parquet",
        kind=SpanKind.INTERNAL, attributes={"spillway.etl.executor": part.worker}, part=tracer.part, worker=part.worker,
    )  # fmt: skip
    tracer.event(
        event.trace, "lake/commit", commit.began_ns, commit.ended_ns, parent="lake", name="commit Delta",
        kind=SpanKind.CLIENT, attributes={"spillway.lake.version": commit.version, "spillway.etl.batch": loaded.number},
    )  # fmt: skip


def _bury(
    tracer: Tracer, log: Logger, loaded: Loaded, part: Seen, failed: Iterable[FailedEvent], batch: BatchSpan | None
) -> None:
    for event in failed:
        line: dict[str, str | int] = {"shard_id": event.spot.shard_id, "sequence_number": event.spot.sequence_number}
        if event.id:
            trace = trace_of(event.source, event.id, event.traceparent)
            line |= {"event_id": event.id, "source": event.source, "trace_id": trace.hex_id}
            _last_span(tracer, loaded, part, event, batch)
        log.warning("an event went to the dead letters", reason=event.reason, batch=loaded.number, **line)


def _last_span(tracer: Tracer, loaded: Loaded, part: Seen, event: FailedEvent, batch: BatchSpan | None) -> None:
    trace = tracer.trace(event.source, event.id, event.traceparent, event.canary) or _rebuilt(tracer, loaded.stream, event)
    if trace is None:
        return
    attributes: dict[str, Value] = {
        **_messaging(loaded.stream),
        "messaging.destination.partition.id": event.spot.shard_id,
        "messaging.aws_kinesis.sequence_number": event.spot.sequence_number,
        "messaging.message.id": event.id,
        "cloudevents.event_type": event.type,
        "spillway.tenant": event.tenant,
        "spillway.final": "dead_letter",
        "spillway.reason": event.reason,
        "spillway.etl.batch": loaded.number,
        "spillway.etl.executor": part.worker,
        "spillway.waited_seconds": _waited(part.began_ns, event.arrived_micros),
    }
    tracer.event(
        trace, loaded.exit, part.began_ns, part.ended_ns or loaded.visible_ns,
        parent=PARENT, name=f"process {loaded.stream}", attributes=attributes, batch=batch, error=event.reason,
    )  # fmt: skip


def _rebuilt(tracer: Tracer, stream: str, failed: FailedEvent) -> Trace | None:
    """The spans of the hops before this one, which said nothing about an event that nobody traced."""
    event = CloudEvent(id=failed.id, source=failed.source, type=failed.type)
    if failed.traceparent:
        event.attributes[TRACEPARENT_ATTRIBUTE].ce_string = failed.traceparent
    batch = StoredBatch(
        tenant=failed.tenant, accepted_at_unix_micros=failed.accepted_micros, door=failed.door, worker=failed.accepted_by
    )
    record = StoredRecord(stream, failed.spot.shard_id, failed.spot.sequence_number, b"", failed.arrived_micros)
    trace = unplanned(tracer, event, batch, record)
    if trace is not None:
        attributes: dict[str, Value] = {"spillway.rebuilt": True, "spillway.tenant": failed.tenant}
        times = (failed.accepted_micros * 1_000, failed.arrived_micros * 1_000)
        tracer.event(trace, PARENT, *times, parent="grpc-door", attributes=attributes, part=PARENT)
    return trace


def _waited(began_ns: int, arrived_micros: int) -> float:
    return max(0.0, began_ns / 1e9 - arrived_micros / 1e6)


def examples(kept: Sequence[tuple[Seen, KeptEvent]]) -> list[KeptEvent]:
    """The traced events that this batch made visible: what histograms point at."""
    return [event for _, event in kept if event.outcome == "loaded"]
