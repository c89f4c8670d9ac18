"""Which events are traced, and how the spans of many processes become one trace without talking to each other.

Rules.
- Whether an event is traced is a pure function of what it carries: its trace context, its mark, its id. So every hop decides
  the same, and a trace is whole or not there at all. What is not traced costs one comparison.
- An event with a W3C `traceparent` belongs to that trace. One without has a trace of its own, whose id is made of its identity.
- The span id of a hop is made of the trace, the event and the hop's name. So a hop knows its parent's span without having been
  told, the event's bytes stay as the producer made them, and a batch that is processed twice gives the same spans again.
- A hop that fails an event, or takes too long with it, emits its spans although nobody asked: its own, and those of the hops
  before it, rebuilt from the times that the event carries. These are bounded per second.
- Batches have spans of their own, in traces of their own; they and the spans of their events link to each other, at most
  `LINKS_MAX` of them.
- Text values pass the scrubber: an id is what its producer made it.

Spans are built at the end, from times that were kept: a `start_span` for every event would cost 5.5 us.
"""

import functools
import hashlib
import os
import random
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from telemetry.settings import TelemetrySettings

LINKS_MAX = 32
SCRUBBED_MAX = 256
CANARY_ATTRIBUTE = "canary"
TRACEPARENT_ATTRIBUTE = "traceparent"
TRACEPARENT_CHARS = 55
MESSAGING_SYSTEM = "aws_kinesis"
_CRC_SPACE = 1 << 32
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Value = str | bool | int | float | Sequence[str]


@dataclass(frozen=True, slots=True)
class Trace:
    """One event's place in the world of traces. `producer_span_id` is 0 if the producer gave no context."""

    trace_id: int
    producer_span_id: int
    source: str
    id: str

    @property
    def hex_id(self) -> str:
        return f"{self.trace_id:032x}"

    def span_id(self, hop: str) -> int:
        """The id of this event's span at a hop: 8 bytes, never zero."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.trace_id.to_bytes(16, "big"), hop.encode(), self.source.encode(), self.id.encode()):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return int.from_bytes(digest.digest(), "big") or 1

    def traceparent(self, hop: str) -> str:
        """The W3C context that says: this hop's span is the parent, and the trace is kept."""
        return f"00-{self.trace_id:032x}-{self.span_id(hop):016x}-01"


def parse_traceparent(text: str) -> tuple[int, int, bool] | None:
    """(trace id, span id, sampled), or None if it is not one. Source: W3C Trace Context, 3.2."""
    if len(text) < TRACEPARENT_CHARS or text[2] != "-" or text[35] != "-" or text[52] != "-" or text[:2] == "ff":
        return None
    try:
        trace_id, span_id, flags = int(text[3:35], 16), int(text[36:52], 16), int(text[53:55], 16)
    except ValueError:
        return None
    if len(text) > TRACEPARENT_CHARS and (text[:2] == "00" or text[TRACEPARENT_CHARS] != "-"):
        return None
    return (trace_id, span_id, bool(flags & 1)) if trace_id and span_id else None


def trace_id_of(source: str, id: str) -> int:
    """The trace id of an event that came without a context."""
    digest = hashlib.blake2b(source.encode() + b"\0" + id.encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big") or 1


def trace_of(source: str, id: str, traceparent: str = "") -> Trace:
    """The event's trace, whether it is kept or not."""
    context = parse_traceparent(traceparent) if traceparent else None
    if context is None:
        return Trace(trace_id_of(source, id), 0, source, id)
    return Trace(context[0], context[1], source, id)


@dataclass(frozen=True, slots=True)
class Keeping:
    """The rule by which events are traced; the same in every process of a deployment."""

    trace_share: float = 0.0005
    flagged_share: float = 1.0

    def trace(self, source: str, id: str, traceparent: str = "", canary: bool = False) -> Trace | None:
        """The event's trace if it is kept. About 0.3 us for one that is not."""
        if not traceparent:
            if canary or zlib.crc32(id.encode()) < self.trace_share * _CRC_SPACE:
                return trace_of(source, id)
            return None
        context = parse_traceparent(traceparent)
        if context is None:
            return self.trace(source, id, "", canary)
        trace_id, span_id, sampled = context
        share = self.flagged_share if sampled else self.trace_share
        if canary or (trace_id & 0xFFFF_FFFF) < share * _CRC_SPACE:
            return Trace(trace_id, span_id, source, id)
        return None


@dataclass(frozen=True, slots=True)
class BatchSpan:
    """Where a batch's own span is, for the spans of its events to link to."""

    trace_id: int
    span_id: int


class Tracer:
    """Builds spans and hands them to `ship`. Thread-safe as far as `ship` is."""

    def __init__(
        self,
        part: str,
        worker: str,
        ship: Callable[[ReadableSpan], None] | None,
        settings: TelemetrySettings | None = None,
        *,
        scrub: Callable[[str], str] = str,
        later: Callable[[Callable[[], None]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ship` None: nothing is kept and nothing emitted. `later` calls what emits spans, when
        that is cheap; None: at once."""
        settings = settings or TelemetrySettings()
        self.part = part
        self.on = ship is not None
        self.slow_seconds = settings.slow_seconds
        self.keeping = Keeping(settings.trace_share, settings.flagged_share)
        self.later = later or (lambda make: make())
        self._ship = ship
        # Of a span's values nearly all are those of the span before it.
        self._scrub = functools.lru_cache(maxsize=SCRUBBED_MAX)(scrub)
        self._clock = clock
        self._rate = settings.unplanned_spans_per_second_max
        self._allowance, self._allowance_at = self._rate, clock()
        self._random = random.Random(os.urandom(16))
        self._resource = Resource({"service.name": "spillway", "service.instance.id": worker, "spillway.part": part})

    @classmethod
    def off(cls) -> "Tracer":
        return cls("", "", None)

    def trace(self, source: str, id: str, traceparent: str = "", canary: bool = False) -> Trace | None:
        """The trace of an event that is to be traced, else None."""
        return self.keeping.trace(source, id, traceparent, canary) if self.on else None

    def may_emit_unplanned(self, spans: int = 1) -> bool:
        """Whether a failed or slow event that nobody asked for may be traced now; takes from the second's budget."""
        if not self.on:
            return False
        now = self._clock()
        self._allowance = min(self._rate, self._allowance + (now - self._allowance_at) * self._rate)
        self._allowance_at = now
        if self._allowance < spans:
            return False
        self._allowance -= spans
        return True

    def event(
        self,
        trace: Trace,
        hop: str,
        began_ns: int,
        ended_ns: int,
        *,
        parent: str = "",
        name: str = "",
        kind: SpanKind = SpanKind.CONSUMER,
        attributes: Mapping[str, Value] | None = None,
        batch: BatchSpan | None = None,
        error: str = "",
        part: str = "",
        worker: str = "",
    ) -> None:
        """Emit one event's span at a hop. `parent` is the hop before it; empty: the producer, or none.

        Times are nanoseconds since 1970. `part` and `worker` say who did it, where that was not this process.
        """
        if self._ship is None:
            return
        parent_id = trace.span_id(parent) if parent else trace.producer_span_id
        said: dict[str, Value] = {
            "spillway.hop": hop,
            "cloudevents.event_id": trace.id,
            "cloudevents.event_source": trace.source,
            **(attributes or {}),
        }
        resource = self._resource
        if part or worker:
            resource = Resource(
                {**resource.attributes, "service.instance.id": worker or part, "spillway.part": part or self.part}
            )
        self._emit(
            name or hop, trace.trace_id, trace.span_id(hop), parent_id, began_ns, ended_ns, kind, said,
            [(batch.trace_id, batch.span_id)] if batch else [], error, resource,
        )  # fmt: skip

    def batch(
        self,
        name: str,
        hop: str,
        began_ns: int,
        ended_ns: int,
        *,
        members: Sequence[Trace] = (),
        attributes: Mapping[str, Value] | None = None,
        kind: SpanKind = SpanKind.CONSUMER,
        error: str = "",
    ) -> BatchSpan | None:
        """Emit the span of a batch, in a trace of its own, with links to its events' spans at this hop."""
        if self._ship is None:
            return None
        at = BatchSpan(self._random.getrandbits(128) or 1, self._random.getrandbits(64) or 1)
        links = [(trace.trace_id, trace.span_id(hop)) for trace in members[:LINKS_MAX]]
        said: dict[str, Value] = {"spillway.hop": hop, "spillway.batch.traced_events": len(members), **(attributes or {})}
        self._emit(name, at.trace_id, at.span_id, 0, began_ns, ended_ns, kind, said, links, error, self._resource)
        return at

    def _emit(
        self,
        name: str,
        trace_id: int,
        span_id: int,
        parent_id: int,
        began_ns: int,
        ended_ns: int,
        kind: SpanKind,
        attributes: Mapping[str, Value],
        links: Sequence[tuple[int, int]],
        error: str,
        resource: Resource,
    ) -> None:
        assert self._ship is not None
        scrub = self._scrub
        if error:
            attributes = {**attributes, "error.type": error.split(":", 1)[0]}
        span = ReadableSpan(
            name=name,
            context=_context(trace_id, span_id, remote=False),
            parent=_context(trace_id, parent_id, remote=True) if parent_id else None,
            resource=resource,
            attributes={key: scrub(value) if isinstance(value, str) else value for key, value in attributes.items()},
            links=[Link(_context(linked_trace, linked_span, remote=True)) for linked_trace, linked_span in links],
            kind=kind,
            status=Status(StatusCode.ERROR, scrub(error)) if error else Status(StatusCode.UNSET),
            start_time=began_ns,
            end_time=max(began_ns, ended_ns),
        )
        self._ship(span)


def _context(trace_id: int, span_id: int, *, remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, remote, _SAMPLED)
