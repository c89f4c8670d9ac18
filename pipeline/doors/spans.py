"""What a door says of the events that are traced: after the answer, and only of them.

    request ──────────────────────────────────────── answer     span of each such event at `<door>-door`
              submit ───────────────── settled                  its child `<door>-door/write`, by Written: shard, sequence number

Rules. A request without traced, rejected or slow events comes here not at all. The spans are built after the answer has gone
to the server, so nobody waits for them, and several requests' at once: one request's alone take ten times as long, since that
code is out of the processor's cache by then. What waits holds the traced events alone, not their requests. A
rejected event has its last span here, and a log line without its payload; a slow one has its spans although nobody asked. Both
are bounded per second by the tracer, since a flood of them must cost nothing.
What was asked to be sent again is no end: its span says why, if it is traced anyway.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from pipeline.doors.accept import Accepted, Decision, Rejected
from pipeline.doors.reasons import Status
from pipeline.event import text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.streams.batching import Origin, Request
from pipeline.streams.sink import NotWritten, Outcome
from telemetry.log import Logger
from telemetry.tracing import MESSAGING_SYSTEM, TRACEPARENT_ATTRIBUTE, BatchSpan, Trace, Tracer, Value, trace_of

# Slow events of one request that get spans although nobody asked.
SLOW_EVENTS_MAX = 16


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered, as far as its spans need it."""

    origin: Origin
    # How many it had.
    events: int
    # By position: the decisions, at least of those that are traced; a `Status`; the trace of those that are traced; the reason
    # word of those that are not stored.
    decisions: Mapping[int, Decision]
    statuses: Mapping[int, int]
    traces: Mapping[int, Trace]
    reasons: Mapping[int, str]
    # By `time.perf_counter`: the request's arrival and its answer.
    began: float
    ended: float
    # The account of what was accepted, if that is all in `decisions`.
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Writes:
    """What became of traced events that were accepted, by position among those."""

    origin: Origin
    # By `time.perf_counter`.
    submitted_at: float
    settled_at: float
    traces: Mapping[int, Trace]
    outcomes: Mapping[int, Outcome]
    # Where it was not one.
    attempts: Mapping[int, int]

    @staticmethod
    def of(request: Request, traces: Mapping[int, Trace]) -> "Writes":
        attempts = request.attempts or {}
        return Writes(
            request.origin,
            request.submitted_at,
            request.settled_at,
            traces,
            {position: request.outcomes[position] for position in traces},
            {position: attempts[position] for position in traces if position in attempts},
        )


class DoorSpans:
    """The spans and log lines of one door's events."""

    def __init__(self, door: str, stream: str, tracer: Tracer, log: Logger | None = None) -> None:
        self._door, self._hop, self._stream = door, f"{door}-door", stream
        self._tracer, self._log = tracer, log
        self.slow_seconds = tracer.slow_seconds if tracer.on else float("inf")

    def answered(self, of: Answered) -> None:
        """The spans at the door of a request's traced, rejected and, if it was slow, accepted events."""
        batch = self._batch(of, list(of.traces.values())) if of.traces and of.events > 1 else None
        for index, trace in of.traces.items():
            decision = of.decisions[index]
            if isinstance(decision, Accepted):
                self._accepted(of, index, trace, batch, decision.type)
        if of.ended - of.began > self.slow_seconds:
            self._slow(of)
        for index in of.reasons:
            decision = of.decisions[index]
            if isinstance(decision, Rejected):
                self._rejected(of, decision, batch)

    def written(self, of: Writes) -> None:
        """The spans of the Kinesis writes of a settled request's traced events."""
        began_ns, ended_ns = wall_ns(of.submitted_at), wall_ns(of.settled_at)
        for position, trace in of.traces.items():
            outcome = of.outcomes[position]
            attributes: dict[str, Value] = {
                "messaging.system": MESSAGING_SYSTEM,
                "messaging.operation.type": "send",
                "messaging.operation.name": "PutRecords",
                "messaging.destination.name": self._stream,
                "messaging.message.id": trace.id,
                "spillway.tenant": of.origin.tenant,
            }
            attempts = of.attempts.get(position)
            error = ""
            if isinstance(outcome, NotWritten):
                error = outcome.reason or "not written"
                attempts = attempts or 0
            else:
                attributes["messaging.destination.partition.id"] = outcome.shard_id
                attributes["messaging.aws_kinesis.sequence_number"] = outcome.sequence_number
                attempts = attempts or 1
            attributes["spillway.attempts"] = attempts
            self._tracer.event(
                trace, f"{self._hop}/write", began_ns, ended_ns, parent=self._hop, name=f"send {self._stream}",
                kind=SpanKind.PRODUCER, attributes=attributes, error=error,
            )  # fmt: skip

    def _accepted(
        self, of: Answered, index: int, trace: Trace, batch: BatchSpan | None, type: str, *, slow: bool = False
    ) -> None:
        reason = of.reasons.get(index, "")
        said: dict[str, Value] = {"spillway.door.status": Status(of.statuses[index]).name.lower()}
        if reason:
            said["spillway.reason"] = reason
        if slow:
            said["spillway.slow"] = said["spillway.unplanned"] = True
        self._event(of, trace, type, said, batch, reason)

    def _rejected(self, of: Answered, decision: Rejected, batch: BatchSpan | None) -> None:
        event, trace = decision.event, decision.trace
        if trace is None and not self._tracer.may_emit_unplanned():
            return
        if trace is None and event is not None:
            trace = trace_of(event.source, event.id, text_attribute(event, TRACEPARENT_ATTRIBUTE))
        reason = str(decision.reason)
        if trace is not None and event is not None:
            final: dict[str, Value] = {
                "spillway.door.status": "rejected",
                "spillway.final": "rejected",
                "spillway.reason": reason,
            }
            self._event(of, trace, event.type, final, batch if decision.trace else None, reason)
        if self._log is not None:
            self._log.warning(
                "event rejected",
                reason=reason,
                tenant=of.origin.tenant,
                event_id=trace.id if trace else "",
                trace_id=trace.hex_id if trace else "",
            )

    def _slow(self, of: Answered) -> None:
        """Of a slow request's accepted events that are not traced, as many as the bounds allow: at the door, and their writes."""
        position, left = -1, SLOW_EVENTS_MAX
        writes: dict[int, Trace] = {}
        for index, decision in of.decisions.items():
            if not isinstance(decision, Accepted):
                continue
            position += 1
            if decision.trace is not None:
                continue
            if left == 0 or not self._tracer.may_emit_unplanned(2):
                break
            left -= 1
            event = CloudEvent.FromString(decision.encoded)
            trace = writes[position] = trace_of(event.source, event.id, text_attribute(event, TRACEPARENT_ATTRIBUTE))
            self._accepted(of, index, trace, None, decision.type, slow=True)
        if of.request is not None and of.request.settled:
            self.written(Writes.of(of.request, writes))
        if self._log is not None and writes:
            first = next(iter(writes.values()))
            self._log.warning(
                "slow request",
                seconds=round(of.ended - of.began, 3),
                events=of.events,
                tenant=of.origin.tenant,
                event_id=first.id,
                trace_id=first.hex_id,
            )

    def _batch(self, of: Answered, members: Sequence[Trace]) -> BatchSpan | None:
        attributes: dict[str, Value] = {
            "messaging.system": MESSAGING_SYSTEM,
            "messaging.operation.name": "accept",
            "messaging.destination.name": self._stream,
            "messaging.batch.message_count": of.events,
            "spillway.tenant": of.origin.tenant,
        }
        name = f"accept {self._stream}"
        return self._tracer.batch(
            name, self._hop, wall_ns(of.began), wall_ns(of.ended), members=members, attributes=attributes, kind=SpanKind.SERVER
        )

    def _event(
        self, of: Answered, trace: Trace, type: str, said: Mapping[str, Value], batch: BatchSpan | None, error: str
    ) -> None:
        attributes: dict[str, Value] = {
            "messaging.system": MESSAGING_SYSTEM,
            "messaging.operation.name": "accept",
            "messaging.destination.name": self._stream,
            "messaging.message.id": trace.id,
            "cloudevents.event_type": type,
            "spillway.tenant": of.origin.tenant,
            **said,
        }
        self._tracer.event(
            trace,
            self._hop,
            wall_ns(of.began),
            wall_ns(of.ended),
            # On behalf of the other door: the transcoder sends it.
            parent="" if of.origin.door == self._door else "transcoder",
            name=f"accept {self._stream}",
            kind=SpanKind.SERVER,
            attributes=attributes,
            batch=batch,
            error=error,
        )


def wall_ns(at: float) -> int:
    """A reading of `time.perf_counter` as nanoseconds since 1970."""
    return time.time_ns() - int((time.perf_counter() - at) * 1e9)
