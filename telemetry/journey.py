"""A trace as the waterfall shows it: its spans in the order of the path, each with the time it waited before it.

Rules. The order is the path's, not the clock's: hops run on machines whose clocks differ, and a wait is never negative. Of spans
with one id the last that was not rebuilt stands. Reads OTLP JSON in both of its spellings: ids in hexadecimal (OTLP) or base64
(Protobuf's JSON), enumerations as names or numbers.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from telemetry.hops import HOPS

_ORDER = {hop.name: index for index, hop in enumerate(HOPS)}
SPANS_MAX = 500
WAITED = "spillway.waited_seconds"


@dataclass(frozen=True, slots=True)
class Span:
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    hop: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str]
    resource: Mapping[str, str]
    error: str = ""
    failed: bool = False
    # (trace id, span id)
    links: tuple[tuple[str, str], ...] = ()
    kind: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9

    @property
    def rebuilt(self) -> bool:
        return self.attributes.get("spillway.rebuilt", "").lower() == "true"

    @property
    def event_id(self) -> str:
        return self.attributes.get("cloudevents.event_id", "")

    @property
    def source(self) -> str:
        return self.attributes.get("cloudevents.event_source", "")

    @property
    def worker(self) -> str:
        return self.resource.get("service.instance.id", "")

    @property
    def final(self) -> str:
        """How the event ended here (`dead_letter`, `rejected`), if no later hop will see it."""
        return self.attributes.get("spillway.final", "")

    @property
    def base(self) -> str:
        """The hop that it belongs to: that of `grpc-door/write` is `grpc-door`."""
        return self.hop.split("/")[0]


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall. Shares are of the whole trace's time."""

    span: Span
    depth: int
    from_share: float
    to_share: float
    waited_seconds: float
    waited_from_share: float


@dataclass(frozen=True, slots=True)
class Journey:
    trace_id: str
    bars: tuple[Bar, ...]
    began_ns: int
    ended_ns: int
    left_out: int = 0

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9

    @property
    def errors(self) -> list[Span]:
        return [bar.span for bar in self.bars if bar.span.failed]

    @property
    def events(self) -> list[str]:
        return sorted({bar.span.event_id for bar in self.bars if bar.span.event_id})


def journey(trace_id: str, spans: Sequence[Span]) -> Journey:
    spans = one_each(spans)
    by_id = {span.span_id: span for span in spans}
    ordered = sorted(spans, key=_place)
    shown = ordered[:SPANS_MAX]
    began = min((span.began_ns - _waited_ns(span, by_id) for span in shown), default=0)
    ended = max((span.ended_ns for span in shown), default=0)
    whole = max(1, ended - began)

    def share(at_ns: int) -> float:
        return min(1.0, max(0.0, (at_ns - began) / whole))

    bars = []
    for span in shown:
        waited = _waited_ns(span, by_id)
        bars.append(
            Bar(
                span, _depth(span, by_id), share(span.began_ns), share(span.ended_ns), waited / 1e9, share(span.began_ns - waited)
            )
        )
    return Journey(trace_id, tuple(bars), began, ended, len(ordered) - len(shown))


def one_each(spans: Sequence[Span]) -> list[Span]:
    """One span of each id: a hop that did an event twice said it twice, and not every backend lets the last word stand."""
    chosen: dict[tuple[str, str], Span] = {}
    for span in spans:
        known = chosen.setdefault((span.trace_id, span.span_id), span)
        if (not span.rebuilt, span.began_ns) >= (not known.rebuilt, known.began_ns):
            chosen[(span.trace_id, span.span_id)] = span
    return list(chosen.values())


def _place(span: Span) -> tuple[str, str, int, bool, int, str]:
    """By event, then hop; what is no hop (the producer's own spans) first, a hop's parts after it."""
    order = _ORDER.get(span.base, len(_ORDER)) if span.hop else -1
    return span.event_id, span.source, order, "/" in span.hop, span.began_ns, span.name


def _waited_ns(span: Span, by_id: Mapping[str, Span]) -> int:
    """From its parent's end to its begin; where the hop says how long the record lay in the stream, that."""
    said = span.attributes.get(WAITED)
    if said is not None:
        try:
            return max(0, int(float(said) * 1e9))
        except (ValueError, OverflowError):  # not a number, or an endless one
            return 0
    parent = by_id.get(span.parent_id)
    return max(0, span.began_ns - parent.ended_ns) if parent else 0


def _depth(span: Span, by_id: Mapping[str, Span]) -> int:
    """0 of a hop, 1 of a part of a hop (`grpc-door/write`)."""
    parent = by_id.get(span.parent_id)
    return 1 if parent is not None and "/" in span.hop and span.base == parent.hop else 0


def spans_of(raw: Mapping[str, Any]) -> list[Span]:
    """Of a Tempo answer (`batches`, `trace.resourceSpans`) or of OTLP JSON."""
    inner = raw.get("trace") or raw
    return list(_spans(inner.get("batches") or inner.get("resourceSpans") or ()))


def _spans(batches: Sequence[Mapping[str, Any]]) -> Iterator[Span]:
    for batch in batches:
        resource = _attributes((batch.get("resource") or {}).get("attributes") or ())
        for scope in batch.get("scopeSpans") or batch.get("instrumentationLibrarySpans") or ():
            for span in scope.get("spans") or ():
                yield _span(span, resource)


def _span(raw: Mapping[str, Any], resource: Mapping[str, str]) -> Span:
    attributes = _attributes(raw.get("attributes") or ())
    status = raw.get("status") or {}
    failed = status.get("code") in (2, "2", "STATUS_CODE_ERROR")
    return Span(
        trace_id=hex_id(str(raw.get("traceId") or ""), 16),
        span_id=hex_id(str(raw.get("spanId") or ""), 8),
        parent_id=hex_id(str(raw.get("parentSpanId") or ""), 8),
        name=str(raw.get("name") or ""),
        hop=attributes.get("spillway.hop", ""),
        began_ns=int(raw.get("startTimeUnixNano") or 0),
        ended_ns=max(int(raw.get("endTimeUnixNano") or 0), int(raw.get("startTimeUnixNano") or 0)),
        attributes=attributes,
        resource=resource,
        error=str(status.get("message") or (attributes.get("error.type") or "failed" if failed else "")),
        failed=failed,
        links=tuple(
            (hex_id(str(each.get("traceId") or ""), 16), hex_id(str(each.get("spanId") or ""), 8))
            for each in raw.get("links") or ()
        ),
        kind=str(raw.get("kind") or "").removeprefix("SPAN_KIND_").lower(),
    )


def hex_id(text: str, size_bytes: int) -> str:
    """An id in lower-case hexadecimal, whichever way it is written."""
    if len(text) == size_bytes * 2:
        return text.lower()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_" if set("-_") & set(text) else None).hex()
    except (binascii.Error, ValueError):
        return text


def _attributes(raw: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(each.get("key")): text_of_value(each.get("value") or {}) for each in raw}


def text_of_value(value: Mapping[str, Any]) -> str:
    if "arrayValue" in value:
        return ", ".join(text_of_value(each) for each in (value["arrayValue"] or {}).get("values") or ())
    for kind, inner in value.items():
        return str(inner).lower() if kind == "boolValue" else str(inner)
    return ""
