"""The span of an event at its sender: from `send` to what became of it, for the events that are traced.

    the caller's span, if it gave its context
      sdk                        one per traced event
        grpc-door, redactor, ... by the `traceparent` that `stamp` left in the event

Rules. Whether an event is traced is decided as at every hop, by what it carries; for nearly all that is one comparison. A traced
event that `send` made is stamped: its `traceparent` names the span `sdk`, in the trace of the caller or of its own, so that the
door's span is its child. The stamp is made of the event's identity and context alone: sent again it is the same. An event is not
stamped if that could change its fate: where it would be too large, have too many attributes, or be dropped by the shares in force
(`flagged_share` below 1). It is traced all the same, as what it carries says, and its door's span stands beside this one.
A complete event of the caller's is never touched.

An event that was not to be traced and is not accepted, or takes long, has a span although nobody asked, within the tracer's
bound; nobody promised that the rest of its trace is there, so such a span is marked as rebuilt unless it is the last one.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from opentelemetry.trace import SpanKind

from pipeline.errors import InvalidEvent, SpillwayError
from pipeline.event import text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.sdk.answers import Accepted
from pipeline.sdk.fates import Fate, fate_of
from pipeline.sdk.report import Finished, Kept
from pipeline.sdk.send_times import Stretch
from pipeline.tracing import kept
from telemetry.tracing import CANARY_ATTRIBUTE, MESSAGING_SYSTEM, TRACEPARENT_ATTRIBUTE, Trace, Tracer, Value, trace_of

HOP = "sdk"
# What the doors take at most (pipeline/doors/accept.py).
EVENT_BYTES_MAX = 256 * 1024
ATTRIBUTES_MAX = 64
# An attribute `traceparent`, encoded.
STAMP_BYTES = 72
# Slow events of one batch that get spans although nobody asked.
SLOW_EVENTS_MAX = 16
# After these nothing more is to be expected of the event.
_FINAL = (Fate.REJECTED, Fate.GIVEN_UP, Fate.NOT_TAKEN)


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an event, and when, in nanoseconds since 1970. `attempts` is None where it is not known."""

    ended_ns: int
    fate: Fate
    attempts: int | None
    error: SpillwayError | None = None
    # An earlier process sent it; its span begins where this one found it.
    recovered: bool = False
    # Acknowledged by the collector's memory only.
    queued: bool = False
    # Nobody asked to trace it.
    unplanned: bool = False


class SdkSpans:
    """Thread-safe as far as the tracer is."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._slow_seconds = tracer.slow_seconds
        self._flagged_are_kept = tracer.keeping.flagged_share >= 1.0
        # An event without context and mark is traced if its id's checksum is below this.
        self.by_chance_below = math.ceil(tracer.keeping.trace_share * (1 << 32))

    def trace(self, source: str, id: str, traceparent: str, canary: bool) -> Trace | None:
        """The event's trace if it is traced."""
        return self._tracer.trace(source, id, traceparent, canary)

    def trace_of_complete(self, event: CloudEvent) -> Trace | None:
        """The same, of what an event carries already."""
        return kept(self._tracer, event)

    def stamp(self, event: CloudEvent, trace: Trace) -> None:
        """Make this hop the parent of the next one, unless it could change the event's fate."""
        attributes = event.attributes
        stamped = trace.traceparent(HOP)
        if event.ByteSize() + STAMP_BYTES > EVENT_BYTES_MAX:
            return
        if TRACEPARENT_ATTRIBUTE not in attributes and len(attributes) >= ATTRIBUTES_MAX:
            return
        if self._flagged_are_kept or self._tracer.trace(event.source, event.id, stamped, CANARY_ATTRIBUTE in attributes):
            attributes[TRACEPARENT_ATTRIBUTE].ce_string = stamped

    def not_taken(self, event: CloudEvent, kept: Kept | None, began_ns: int, ended_ns: int, error: SpillwayError) -> None:
        """`send` raised."""
        ended = Ended(ended_ns, Fate.NOT_TAKEN, 0, error)
        if kept is not None:
            self._emit(kept, ended)
        elif self._tracer.may_emit_unplanned():
            self._unplanned(event, began_ns, ended)

    def concerned(self, stretches: Sequence[Stretch], now: float) -> bool:
        """Whether any of these events, which are accepted and not known to be traced, may want a span: recovered or slow ones."""
        return any(sent_at is None or now - sent_at > self._slow_seconds for _, _, sent_at in stretches)

    def finished(self, of: Finished) -> None:
        """The spans of a batch's traced, failed and slow events."""
        told = set(of.kept)
        for place, one in of.kept.items():
            self._emit(one, _ended(of, place))
        for stretch in of.stretches:
            if stretch.sent_at is None:
                self._recovered(of, stretch, told)
        if of.failed:
            self._failed(of, told)
        for stretch in of.stretches:
            if stretch.sent_at is not None and of.now - stretch.sent_at > self._slow_seconds:
                self._slow(of, stretch, told)

    def _recovered(self, of: Finished, stretch: Stretch, told: set[int]) -> None:
        """Events of an earlier process: what they carry is all that is known of them."""
        for place in range(stretch.start, stretch.end):
            event = CloudEvent.FromString(of.entries[place].event)
            trace = self.trace_of_complete(event)
            if trace is not None:
                told.add(place)
                self._emit(Kept(trace, of.began_ns, event.type), replace(_ended(of, place), recovered=True))

    def _failed(self, of: Finished, told: Container[int]) -> None:
        for stretch in of.stretches:
            for place in range(stretch.start, stretch.end):
                if place in told or isinstance(of.outcomes[place], Accepted):
                    continue
                if not self._tracer.may_emit_unplanned():
                    return
                ended = replace(_ended(of, place), recovered=stretch.sent_at is None)
                self._unplanned(CloudEvent.FromString(of.entries[place].event), of.sent_ns(stretch), ended)

    def _slow(self, of: Finished, stretch: Stretch, told: Container[int]) -> None:
        accepted = [p for p in range(stretch.start, stretch.end) if p not in told and isinstance(of.outcomes[p], Accepted)]
        for place in accepted[:SLOW_EVENTS_MAX]:
            if not self._tracer.may_emit_unplanned():
                return
            self._unplanned(CloudEvent.FromString(of.entries[place].event), of.sent_ns(stretch), _ended(of, place))

    def _unplanned(self, event: CloudEvent, began_ns: int, ended: Ended) -> None:
        trace = trace_of(event.source, event.id, text_attribute(event, TRACEPARENT_ATTRIBUTE))
        self._emit(Kept(trace, began_ns, event.type), replace(ended, unplanned=True))

    def _emit(self, event: Kept, ended: Ended) -> None:
        trace = event.trace
        if trace.producer_span_id and trace.producer_span_id == trace.span_id(HOP):
            # Stamped, by an earlier process: what is above it is not known.
            trace = replace(trace, producer_span_id=0)
        attributes = _attributes(event, ended)
        if ended.ended_ns - event.began_ns > self._slow_seconds * 1e9:
            attributes["spillway.slow"] = True
        self._tracer.event(
            trace,
            HOP,
            event.began_ns,
            ended.ended_ns,
            name="send event",
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            error="" if ended.error is None else f"{reason(ended.error)}: {ended.error}",
        )


def _ended(of: Finished, place: int) -> Ended:
    outcome = of.outcomes[place]
    error = outcome if isinstance(outcome, SpillwayError) else None
    return Ended(
        of.now_ns,
        fate_of(outcome),
        of.attempts_at(place),
        error,
        queued=isinstance(outcome, Accepted) and not outcome.durable,
    )


def reason(error: SpillwayError) -> str:
    """The error in a word: the collector's for a rejection, else its kind."""
    return error.reason if isinstance(error, InvalidEvent) else type(error).__name__


def _attributes(event: Kept, ended: Ended) -> dict[str, Value]:
    said: dict[str, Value] = {
        "messaging.system": MESSAGING_SYSTEM,
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.message.id": event.trace.id,
        "cloudevents.event_type": event.type,
        "spillway.outcome": ended.fate.value,
    }
    if ended.attempts is not None:
        said["spillway.attempts"] = ended.attempts
    if ended.error is not None:
        said["spillway.reason"] = reason(ended.error)
    if ended.fate in _FINAL:
        said["spillway.final"] = ended.fate.value
    elif ended.unplanned:
        said["spillway.rebuilt"] = True
    flags = {
        "spillway.recovered": ended.recovered,
        "spillway.queued": ended.queued,
        "spillway.unplanned": ended.unplanned,
    }
    return said | {name: True for name, holds in flags.items() if holds}
