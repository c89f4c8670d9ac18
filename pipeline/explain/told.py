"""What the trace store says of one trace, or of one event. It asks, and decides nothing.

Rules. What can't be asked is not known, and never taken for absent: that the spans are not known is an error of the store
(`telemetry.store_client`), that only something beside them is not, is said in its place. Questions are bounded: the linked traces
of batches, the traces of one event, the hops whose last sign is looked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.explain.fate import Became, Fate, fates
from pipeline.explain.verdict import in_short, outcome, seconds_text
from telemetry.hops import BY_NAME
from telemetry.journey import Span, one_each
from telemetry.personal_data import mask
from telemetry.store_client import LINES_MAX, SIGN_SECONDS_MAX, Line, StoreError, TraceStore, Within
from telemetry.tracing import LINKS_MAX, trace_of

# Traces that are read for the events of batches, in all.
LINKED_MAX = LINKS_MAX
# Traces of one event: more than one only if its producer sent it with several contexts.
TRACES_MAX = 5
HOPS_ASKED_MAX = 3
EVENT_REJECTED = "event rejected"
NO_LINES = "this store keeps none"


@dataclass(frozen=True, slots=True)
class Linked:
    """An event that a batch links to. `here` is what the batch's hop made of it, `became` its fate; "?" if not known."""

    trace_id: str
    event_id: str = ""
    here: str = "?"
    became: str = "?"
    fate: Fate | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    span: Span
    linked: tuple[Linked, ...]


@dataclass(frozen=True, slots=True)
class LastSign:
    """What a hop that is waited for said last, in a sentence."""

    hop: str
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """Of a trace, or of the traces of one event."""

    trace_ids: tuple[str, ...]
    fates: tuple[Fate, ...] = ()
    batches: tuple[Batch, ...] = ()
    # Spans of neither events nor batches, such as the producer's own.
    others: tuple[Span, ...] = ()
    lines: tuple[Line, ...] = ()
    # Why it is not known which lines there are; "" if it is.
    lines_unknown: str = ""
    last_signs: tuple[LastSign, ...] = ()

    @property
    def rejected_line(self) -> Line | None:
        """The last line by which a door says that it rejected the event."""
        return next((line for line in reversed(self.lines) if line.event == EVENT_REJECTED), None)


@dataclass(frozen=True, slots=True)
class Asked:
    """An event, as far as the asker knows it: any source or tenant, if he knows none."""

    id: str
    source: str = ""
    tenant: str = ""
    within: Within = field(default_factory=lambda: Within(0, 0))

    @property
    def ids(self) -> list[str]:
        """As it may stand in spans: ids that hold personal data are masked there."""
        return list(dict.fromkeys((self.id, mask(self.id))))

    def is_this(self, span: Span) -> bool:
        tenant = span.attributes.get("spillway.tenant", "")  # parts of hops do not say it
        return span.event_id in self.ids and self.may_be(span.source, tenant)

    def may_be(self, source: str, tenant: str) -> bool:
        """Whether nothing that is said speaks against it."""
        return (not self.source or not source or source in (self.source, mask(self.source))) and (
            not self.tenant or not tenant or tenant == self.tenant
        )


def of_trace(store: TraceStore, trace_id: str, now: float) -> Told | None:
    """All of one trace; None if the store has neither a span nor a line of it.

    Raises:
        StoreError: it is not known whether there is such a trace.
    """
    spans = one_each(store.trace(trace_id) or ())
    lines, lines_unknown = _lines(store, trace_id=trace_id)
    if not spans and not lines:
        if lines_unknown and lines_unknown != NO_LINES:
            raise StoreError(f"there is no span of it, and its log lines are not known: {lines_unknown}")
        return None
    found = tuple(fates(spans, int(now * 1e9)))
    batches = [span for span in spans if _is_batch(span)]
    return Told(
        trace_ids=(trace_id,),
        fates=found,
        batches=_linked(store, batches, now),
        others=tuple(span for span in spans if not _is_batch(span) and not (span.event_id and span.hop)),
        lines=lines,
        lines_unknown=lines_unknown,
        last_signs=_last_signs(store, found, now),
    )


def of_event(store: TraceStore, asked: Asked, now: float) -> Told:
    """What all traces of one event say of it; without a span of it, no fate.

    Raises:
        StoreError: it is not known.
    """
    trace_ids = [trace_id for id in asked.ids for trace_id in store.traces_of_event(id, asked.within)]
    if asked.source:
        # The trace of an event that came without a context of its producer's.
        trace_ids.append(trace_of(asked.source, asked.id).hex_id)
    found: list[Fate] = []
    spoke: list[str] = []
    for trace_id in list(dict.fromkeys(trace_ids))[:TRACES_MAX]:
        spans = [span for span in store.trace(trace_id) or () if asked.is_this(span)]
        found += fates(spans, int(now * 1e9))
        spoke += [trace_id] if spans else []
    lines, lines_unknown = _lines(store, event_ids=asked.ids)
    return Told(
        trace_ids=tuple(spoke),
        fates=tuple(found),
        lines=tuple(line for line in lines if _is_of(line, asked)),
        lines_unknown=lines_unknown,
        last_signs=_last_signs(store, found, now),
    )


def _is_of(line: Line, asked: Asked) -> bool:
    """Whether it may be a line about this event: many do not say the source, and some not the tenant."""
    said = line.fields.get
    return asked.may_be(str(said("event_source") or said("source") or ""), str(said("tenant") or ""))


def _lines(store: TraceStore, trace_id: str = "", event_ids: Sequence[str] = ()) -> tuple[tuple[Line, ...], str]:
    """The lines, or why they are not known."""
    lines: list[Line] = []
    try:
        for event_id in event_ids or [""]:
            found = store.lines(trace_id=trace_id, event_id=event_id, limit=LINES_MAX)
            if found is None:
                return (), NO_LINES
            lines += found
    except StoreError as exc:
        return (), str(exc)
    return tuple(sorted(lines, key=lambda line: line.time_ns)), ""


def _is_batch(span: Span) -> bool:
    return not span.event_id and "spillway.batch.traced_events" in span.attributes


def _linked(store: TraceStore, spans: Sequence[Span], now: float) -> tuple[Batch, ...]:
    """Each batch with its events, as far as the bound on questions goes."""
    traces: dict[str, list[Span]] = {}
    left = LINKED_MAX
    batches = []
    for batch in spans:
        linked = []
        for trace_id, span_id in batch.links:
            if trace_id not in traces and left:
                left -= 1
                try:
                    traces[trace_id] = one_each(store.trace(trace_id) or ())
                except StoreError:
                    left = 0  # what is not known is shown as "?"; a store that is away is not asked 31 times more
            linked.append(_link(trace_id, span_id, traces.get(trace_id, ()), now))
        batches.append(Batch(batch, tuple(linked)))
    return tuple(batches)


def _link(trace_id: str, span_id: str, spans: Sequence[Span], now: float) -> Linked:
    here = next((span for span in spans if span.span_id == span_id), None)
    if here is None:
        return Linked(trace_id)
    of_event = [span for span in spans if (span.source, span.event_id) == (here.source, here.event_id)]
    fate = next(iter(fates(of_event, int(now * 1e9))), None)
    return Linked(trace_id, here.event_id, outcome(here, ended=bool(here.final)), in_short(fate) if fate else "?", fate)


def _last_signs(store: TraceStore, found: Sequence[Fate], now: float) -> tuple[LastSign, ...]:
    """Of the hops that are waited for: is it that hop that says nothing, or only this event that it has not said?"""
    hops = dict.fromkeys(fate.at for fate in found if fate.became is Became.WAITS and fate.at)
    return tuple(LastSign(hop, _last_sign(store, hop, now)) for hop in list(hops)[:HOPS_ASKED_MAX])


def _last_sign(store: TraceStore, hop: str, now: float) -> str:
    within = seconds_text(SIGN_SECONDS_MAX)
    try:
        at_ns = store.last_sign_ns(hop, now)
        warnings = store.lines(process=_part_of(hop), level="warning", limit=1) or []
    except StoreError as exc:
        return f"What {hop} itself said last is not known: {exc}."
    said = f"The last span of any event at {hop} is {seconds_text(max(0.0, now - at_ns / 1e9))} old."
    said = said if at_ns else f"No event has a span of {hop} within the last {within}."
    for line in warnings:
        ago_seconds = now - line.time_ns / 1e9
        if ago_seconds <= SIGN_SECONDS_MAX:
            detail = str(line.fields.get("detail") or line.fields.get("reason") or line.fields.get("error") or "")
            about = f": {detail}" if detail else ""
            said += f" Its last warning, {seconds_text(max(0.0, ago_seconds))} ago: {line.event}{about}."
    return said


def _part_of(hop: str) -> str:
    """What the process of a hop calls itself in its lines."""
    process = BY_NAME[hop].process
    return process if process in ("etl", "auditor") else hop
