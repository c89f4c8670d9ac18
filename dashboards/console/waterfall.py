"""One trace as a waterfall: a bar for each span on one axis of time, with what it waited before; above it, what is wrong.

Rules. What nobody waits for does not decide the scale: Firehose gathers for minutes by design, so the backup's bar runs off the
axis, and says how long it took. The longest step is named: of work and of waiting, whichever is more. A hop without a span is
said to be missing only where the event did not end before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from dashboards.console.layout import Markup, html, notice, tag
from dashboards.console.units import clock, duration
from telemetry.hops import HOPS, expected_hops
from telemetry.journey import Bar, Journey, Span

# Hops that end long after all others by design.
ASIDE = frozenset(("backup",))
# The axis is cut if the whole trace is so many times as long as what is waited for.
CUT_FACTOR = 1.5
TICKS_MAX = 6
VALUE_CHARS_MAX = 1000
# Until then a hop's span may be on its way: the slowest exit, and the shipping.
LATE_SECONDS = 180.0
_STEPS = tuple(
    [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    + [10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0]
)
_TITLES = {hop.name: hop.title for hop in HOPS}


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis: from when, how long, and whether spans run beyond its end."""

    began_ns: int
    seconds: float
    cut: bool

    def share(self, at_ns: int) -> float:
        return min(1.0, max(0.0, (at_ns - self.began_ns) / 1e9 / self.seconds))

    @property
    def ticks(self) -> list[float]:
        step = next((each for each in _STEPS if self.seconds / each <= TICKS_MAX), self.seconds)
        return [step * index for index in range(int(self.seconds / step) + 1)]

    def words(self, tick: float) -> str:
        for seconds, name in ((1800.0, "h"), (120.0, "min"), (1.0, "s"), (1e-3, "ms")):
            if self.seconds >= seconds:
                return f"{tick / {'h': 3600.0, 'min': 60.0, 's': 1.0, 'ms': 1e-3}[name]:.4g} {name}"
        return f"{tick * 1e6:.4g} us"


def scale_of(found: Journey) -> Scale:
    awaited = [bar.span.ended_ns for bar in found.bars if base_of(bar.span) not in ASIDE]
    seconds = (max(awaited, default=found.ended_ns) - found.began_ns) / 1e9
    cut = 0 < seconds * CUT_FACTOR < found.seconds
    return Scale(found.began_ns, max(1e-6, seconds * 1.02 if cut else found.seconds), cut)


def base_of(span: Span) -> str:
    """The hop that it belongs to: of `lake/commit` the lake."""
    return span.hop.split("/")[0]


@dataclass(frozen=True, slots=True)
class Longest:
    """The step that took most of the time."""

    bar: Bar
    seconds: float
    waiting: bool

    @property
    def words(self) -> str:
        return f"{duration(self.seconds)} {'waiting before' if self.waiting else 'at work in'} {self.bar.span.hop}"


def longest(found: Journey) -> Longest | None:
    steps = [
        Longest(bar, seconds, waiting)
        for bar in found.bars
        if bar.span.hop and bar.depth == 0 and bar.span.hop not in ASIDE
        for seconds, waiting in ((bar.span.seconds, False), (bar.waited_seconds, True))
    ]
    return max(steps, key=lambda step: step.seconds, default=None) if len(found.bars) > 1 else None


def missing(found: Journey) -> dict[str, list[str]]:
    """By event id: the hops whose spans should be there, in the order of the path. None for an event that ended early, or whose
    spans are not all shown: of a long trace the last.
    """
    lacking: dict[str, list[str]] = {}
    cut_off = found.bars[-1].span.event_id if found.left_out else ""
    for event_id in found.events:
        if event_id == cut_off:
            continue
        spans = [bar.span for bar in found.bars if bar.span.event_id == event_id]
        there = {base_of(span) for span in spans}
        if any("spillway.final" in span.attributes for span in spans):
            continue
        wanted = expected_hops(http=bool(there & {"http-door", "transcoder"}), sdk="sdk" in there)
        hops = [hop.name for hop in HOPS if hop.name in wanted - there]
        if hops:
            lacking[event_id] = hops
    return lacking


# -- above the waterfall


def head(found: Journey, now: float) -> Markup:
    return html(tag("dl", *_facts(found), class_="facts"), *_failures(found), *_missing(found, now))


def _facts(found: Journey) -> Iterator[Markup]:
    spans = [bar.span for bar in found.bars]
    awaited = scale_of(found)
    took = duration(found.seconds)
    if awaited.cut:
        took = f"{duration(awaited.seconds / 1.02)}, with the backup {took}"
    step = longest(found)
    final = next((span.attributes["spillway.final"] for span in spans if "spillway.final" in span.attributes), "")
    tenants = sorted({span.attributes["spillway.tenant"] for span in spans if "spillway.tenant" in span.attributes})
    types = sorted({span.attributes["cloudevents.event_type"] for span in spans if "cloudevents.event_type" in span.attributes})
    yield _fact("Began", f"{clock(found.began_ns)} UTC")
    yield _fact("Took", took)
    if step is not None:
        yield _fact("Longest step", tag("a", step.words, href=f"#{_anchor(step.bar.span)}"))
    if final:
        yield _fact("Ended as", tag("span", final.replace("_", " "), class_="state-bad"))
    yield _fact("Spans", f"{len(spans)}" + (f" and {found.left_out} not shown" if found.left_out else ""))
    if tenants:
        yield _fact("Tenant", ", ".join(tenants))
    if types:
        yield _fact("Type", ", ".join(types))
    if found.events:
        links = [tag("a", event, href="/logs?" + urlencode({"event_id": event, "since": "7d"})) for event in found.events[:3]]
        more = f" and {len(found.events) - 3} more" if len(found.events) > 3 else ""
        yield _fact("Event" if len(found.events) == 1 else "Events", *_joined(links), more)


def _fact(name: str, *values: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", *values))


def _joined(links: Sequence[Markup]) -> Iterator[Markup]:
    for index, link in enumerate(links):
        yield html(", ", link) if index else link


def _failures(found: Journey) -> Iterator[Markup]:
    """Each failure once: where it failed, and why."""
    reasons = {
        (span.hop or span.name, span.attributes.get("spillway.reason") or span.error): span for span in reversed(found.errors)
    }
    if reasons:
        items = [
            tag("li", tag("a", where, href=f"#{_anchor(span)}"), " failed: ", tag("strong", why))
            for (where, why), span in reversed(reasons.items())
        ]
        yield tag("ul", *items, class_="notice bad")


def _missing(found: Journey, now: float) -> Iterator[Markup]:
    lacking = missing(found)
    if not lacking:
        return
    late = now - found.began_ns / 1e9 > LATE_SECONDS
    hops = ", ".join(_TITLES[hop] for hop in next(iter(lacking.values())))
    of = "" if len(found.events) == 1 else f" for {len(lacking)} of {len(found.events)} events, the first lacks"
    word = "They were lost on the way to the store, or the event has not arrived there." if late else "They may be on their way."
    yield notice(f"No span{of or ' of'} {hops}. {word}", "away" if late else "quiet")


# -- the waterfall


def waterfall(found: Journey) -> Markup:
    scale, step = scale_of(found), longest(found)
    lines: list[Markup] = []
    event, several = None, len(found.events) > 1
    for bar in found.bars:
        if several and bar.span.event_id != event:
            event = bar.span.event_id
            lines.append(tag("h3", f"Event {event}" if event else "Without an event", class_="of-event"))
        lines.append(_line(bar, found, scale, step is not None and step.bar is bar))
    labels = [
        tag("text", scale.words(tick), x=_percent(scale.share(scale.began_ns + int(tick * 1e9))), y="70%") for tick in scale.ticks
    ]
    axis = tag("div", tag("span", ""), tag("svg", *labels), tag("span", ""), class_="axis", aria_hidden="true")
    keys = [("work", "at work"), ("wait", "waiting before the hop")]
    keys += [("bad", "failed")] if found.errors else []
    keys += [("rebuilt", "rebuilt from the event's times")] if any(bar.span.rebuilt for bar in found.bars) else []
    key = tag("p", *(html(tag("i", "", class_=f"key {name}"), f"{words} ") for name, words in keys), class_="quiet legend")
    return tag("div", axis, *lines, key, class_="waterfall")


def _line(bar: Bar, found: Journey, scale: Scale, is_longest: bool) -> Markup:
    span = bar.span
    flags = (("bad", span.failed), ("rebuilt", span.rebuilt), ("part", bar.depth > 0), ("longest", is_longest))
    state = " ".join(name for name, on in flags if on)
    waited = f"waited {duration(bar.waited_seconds)}" if bar.waited_seconds >= 0.001 else ""
    said = f"{span.hop or span.name}, took {duration(span.seconds)}" + (f", {waited}" if waited else "")
    name = tag(
        "span",
        tag("b", span.hop or span.name, tag("em", " longest") if is_longest else ""),
        tag("small", span.name if span.hop else ""),
        class_="name",
    )
    took = tag("span", tag("b", duration(span.seconds)), tag("small", waited), class_="took")
    return tag(
        "details",
        tag(
            "summary",
            name,
            tag("svg", *_shapes(bar, scale), aria_hidden="true"),
            took,
            aria_label=said + (f", failed: {span.error}" if span.failed else ""),
        ),
        _details(span, found),
        class_=f"span {state}".strip(),
        id=_anchor(span),
        data_line=True,
    )


def _shapes(bar: Bar, scale: Scale) -> Iterator[Markup]:
    for tick in scale.ticks:
        at = _percent(scale.share(scale.began_ns + int(tick * 1e9)))
        yield tag("line", x1=at, x2=at, y1="0", y2="100%")
    began, ended = scale.share(bar.span.began_ns), scale.share(bar.span.ended_ns)
    waited = scale.share(bar.span.began_ns - int(bar.waited_seconds * 1e9))
    if bar.waited_seconds > 0:
        yield tag("rect", x=_percent(waited), width=_percent(began - waited), y="30%", height="40%", class_="wait")
    yield tag("rect", x=_percent(began), width=_percent(ended - began), y="12%", height="76%", class_="work")
    if scale.cut and bar.span.ended_ns > scale.began_ns + scale.seconds * 1e9:
        head = tag("path", d="M0 -9 L9 0 L0 9 Z", class_="work")
        yield tag("svg", head, x="100%", y="50%", width=1, height=1, overflow="visible")


def _percent(share: float) -> str:
    return f"{share * 100:.3f}%"


def _anchor(span: Span) -> str:
    return f"span-{span.span_id}"


def _details(span: Span, found: Journey) -> Markup:
    own = [
        ("failed", span.error if span.failed else ""),
        ("rebuilt", "this hop said nothing itself; its times come from what the event carries" if span.rebuilt else ""),
        ("process", span.resource.get("service.instance.id", "")),
        ("began", f"{clock(span.began_ns)} UTC"),
        ("after the trace began", duration((span.began_ns - found.began_ns) / 1e9)),
        ("span", span.span_id),
    ]
    pairs = [(key, value) for key, value in own if value] + sorted(span.attributes.items())
    rows = [tag("div", tag("dt", key), tag("dd", cut(value))) for key, value in pairs]
    links = [
        tag("li", tag("a", f"trace {trace_id}", href=f"/trace/{trace_id}"), f", span {span_id}")
        for trace_id, span_id in span.links
        if trace_id != span.trace_id
    ]
    word = "Events of this batch" if span.attributes.get("spillway.batch.traced_events") else "Processed in this batch"
    linked = html(tag("h4", word), tag("ul", *links)) if links else Markup("")
    return tag("div", tag("dl", *rows), linked, class_="attributes")


def cut(value: str) -> str:
    """As much of a value as a page should hold; it says so where there is more."""
    return value if len(value) <= VALUE_CHARS_MAX else f"{value[:VALUE_CHARS_MAX]}… and {len(value) - VALUE_CHARS_MAX} more"
