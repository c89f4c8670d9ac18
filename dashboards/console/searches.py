"""The pages that ask the trace store: search of traces, one trace, search of log lines."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from dashboards.console.layout import Markup, choice, field, html, notice, table, tag
from dashboards.console.units import duration
from telemetry.hops import HOPS
from telemetry.journey import Bar, Journey, Span

TRACE_ID = re.compile(r"^[0-9a-fA-F]{1,32}$")
DURATION = re.compile(r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h)$")
LEVELS = ("debug", "info", "warning", "error", "critical")
SINCE_SECONDS = {"15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800}
DEFAULT_SINCE = "1h"
LIMIT = 100
VALUE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What the form of `/traces` asks."""

    tenant: str = ""
    hop: str = ""
    status: str = ""
    min_duration: str = ""
    event_id: str = ""
    q: str = ""
    since: str = DEFAULT_SINCE
    start: str = ""
    end: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Question":
        said = {name: given.get(name, "").strip()[:2000] for name in cls.__dataclass_fields__}
        return cls(**{**said, "since": said["since"] if said["since"] in SINCE_SECONDS else DEFAULT_SINCE})

    def traceql(self) -> str:
        """Raises:
        ValueError: the shortest duration is none.
        """
        if self.q:
            return self.q
        conditions = []
        for attribute, value in (
            ("spillway.tenant", self.tenant),
            ("spillway.hop", self.hop),
            ("cloudevents.event_id", self.event_id),
        ):
            if value:
                conditions.append(f"span.{attribute} = {quoted(value)}")
        if self.status:
            conditions.append(f"status = {'error' if self.status == 'error' else 'ok' if self.status == 'ok' else 'unset'}")
        if self.min_duration:
            if not DURATION.match(self.min_duration):
                raise ValueError(f"“{self.min_duration}” is no duration: write it as 250ms, 2s or 1m")
            conditions.append(f"duration >= {self.min_duration}")
        return "{ " + " && ".join(conditions) + " }" if conditions else "{ }"

    def params(self, now: float) -> list[tuple[str, str]]:
        start = self.start if self.start.isdigit() else str(int(now) - SINCE_SECONDS[self.since])
        end = self.end if self.end.isdigit() else str(int(now) + 60)
        return [("q", self.traceql()), ("limit", str(LIMIT)), ("start", start), ("end", end)]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def trace_form(asked: Question) -> Markup:
    hops = [("", "any"), *((hop.name, hop.title) for hop in HOPS if hop.traced != "never")]
    statuses = [("", "any"), ("error", "failed"), ("unset", "not failed")]
    since = [(name, f"last {name}") for name in SINCE_SECONDS]
    carried = [
        tag("input", type="hidden", name=name, value=value)
        for name, value in (("start", asked.start), ("end", asked.end))
        if value
    ]
    return tag(
        "form",
        field("event_id", "Event id", asked.event_id, first=True),
        field("tenant", "Tenant", asked.tenant),
        choice("hop", "Hop", hops, asked.hop),
        choice("status", "Status", statuses, asked.status),
        field("min_duration", "A span of at least", asked.min_duration, hint="250ms"),
        Markup("") if carried else choice("since", "When", since, asked.since),
        field("q", "TraceQL, instead of the fields", asked.q, hint='{ span.spillway.hop = "lake" && status = error }', wide=True),
        *carried,
        tag("button", "Search", type="submit", class_="main"),
        method="get",
        action="/traces",
        class_="search",
        role="search",
    )


def trace_results(found: Sequence[Mapping[str, Any]], event_ids: Mapping[str, str] | None = None) -> Markup:
    if not found:
        return notice("No trace fits. About one event in a thousand is traced, and every canary, failed or slow one.", "quiet")
    longest = max((float(each.get("durationMs") or 0) for each in found), default=0.0) or 1.0
    rows = [_result(each, longest) for each in found]
    heads = ("Began (UTC)", "Trace", "First span", "Spans found", "Took")
    more = f"{len(found)} traces, newest first" + (": the first of more, perhaps" if len(found) >= LIMIT else "")
    return table(heads, rows, more, "results")


def _result(each: Mapping[str, Any], longest: float) -> Markup:
    trace_id = str(each.get("traceID") or "").rjust(32, "0")
    took_ms = float(each.get("durationMs") or 0)
    root = str(each.get("rootTraceName") or "")
    sets = each.get("spanSets") or ([each["spanSet"]] if each.get("spanSet") else [])
    matched = sum(int(one.get("matched") or len(one.get("spans") or ())) for one in sets)
    bar = tag(
        "svg", tag("rect", width=f"{max(0.5, 100 * took_ms / longest):.1f}%", height="100%"), class_="share", aria_hidden="true"
    )
    return tag(
        "tr",
        tag("td", clock(int(each.get("startTimeUnixNano") or 0)), class_="time"),
        tag("td", tag("a", tag("code", trace_id[:16]), tag("code", trace_id[16:], class_="tail"), href=f"/trace/{trace_id}")),
        tag("td", root or str(each.get("rootServiceName") or "")),
        tag("td", str(matched or ""), class_="number"),
        tag("td", bar, tag("span", duration(took_ms / 1000)), class_="took"),
    )


def clock(unix_nano: int, *, day: bool = True) -> str:
    """UTC, to the millisecond."""
    if unix_nano <= 0:
        return ""
    at = datetime.fromtimestamp(unix_nano / 1e9, UTC)
    return at.strftime("%m-%d %H:%M:%S." if day else "%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def trace_head(found: Journey) -> Markup:
    spans = [bar.span for bar in found.bars]
    tenants = sorted({span.attributes["spillway.tenant"] for span in spans if "spillway.tenant" in span.attributes})
    final = next((span.attributes["spillway.final"] for span in spans if "spillway.final" in span.attributes), "")
    facts = [
        ("Began", f"{clock(found.began_ns)} UTC"),
        ("Took", duration(found.seconds)),
        ("Spans", f"{len(spans)}" + (f" and {found.left_out} not shown" if found.left_out else "")),
        ("Tenant", ", ".join(tenants)),
        ("Event", ", ".join(found.events[:3]) + (f" and {len(found.events) - 3} more" if len(found.events) > 3 else "")),
        ("Ended as", final.replace("_", " ")),
    ]
    parts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value]
    wrong = [
        tag("li", tag("strong", span.hop or span.name), ": ", span.attributes.get("spillway.reason") or span.error)
        for span in found.errors
    ]
    failed = tag("ul", *wrong, class_="notice bad") if wrong else Markup("")
    return html(tag("dl", *parts, class_="facts"), failed)


def waterfall(found: Journey) -> Markup:
    lines: list[Markup] = []
    event = None
    several = len(found.events) > 1
    for bar in found.bars:
        if several and bar.span.event_id != event:
            event = bar.span.event_id
            lines.append(tag("h3", f"Event {event}" if event else "Without an event", class_="of-event"))
        lines.append(_bar(bar, found))
    quarters = [tag("span", duration(found.seconds * part / 4), class_=f"q{part}") for part in range(5)]
    axis = tag("div", tag("span", ""), tag("div", *quarters, class_="ticks"), tag("span", ""), class_="axis", aria_hidden="true")
    key = tag(
        "p", tag("i", "", class_="key work"), "at work ", tag("i", "", class_="key wait"), "waiting before the hop ",
        tag("i", "", class_="key bad"), "failed ", tag("i", "", class_="key rebuilt"), "rebuilt from the event's times",
        class_="quiet legend",
    )  # fmt: skip
    return tag("div", axis, *lines, key, class_="waterfall")


def _bar(bar: Bar, found: Journey) -> Markup:
    span = bar.span
    state = " ".join(name for name, on in (("bad", span.failed), ("rebuilt", span.rebuilt), ("part", bar.depth > 0)) if on)
    shapes = []
    if bar.waited_seconds > 0:
        wide = bar.from_share - bar.waited_from_share
        shapes.append(tag("rect", x=_percent(bar.waited_from_share), width=_percent(wide), y="30%", height="40%", class_="wait"))
    shapes.append(
        tag(
            "rect",
            x=_percent(bar.from_share),
            width=_percent(bar.to_share - bar.from_share),
            y="12%",
            height="76%",
            class_="work",
        )
    )
    waited = f"waited {duration(bar.waited_seconds)}" if bar.waited_seconds >= 0.001 else ""
    said = f"{span.hop or span.name}, took {duration(span.seconds)}" + (f", {waited}" if waited else "")
    took = tag("span", tag("b", duration(span.seconds)), tag("small", waited), class_="took")
    name = tag("span", tag("b", span.hop or span.name), tag("small", span.name if span.hop else ""), class_="name")
    chart = tag("svg", *shapes, aria_hidden="true")
    return tag(
        "details",
        tag("summary", name, chart, took, aria_label=said + (f", failed: {span.error}" if span.failed else "")),
        _details(span, found),
        class_=f"span {state}".strip(),
        data_line=True,
    )


def _percent(share: float) -> str:
    return f"{share * 100:.3f}%"


def _details(span: Span, found: Journey) -> Markup:
    own = [
        ("span", span.span_id),
        ("began", f"{clock(span.began_ns)} UTC"),
        ("after the trace began", duration((span.began_ns - found.began_ns) / 1e9)),
        ("process", span.resource.get("service.instance.id", "")),
    ]
    if span.failed:
        own.insert(0, ("failed", span.error))
    if span.rebuilt:
        own.append(("rebuilt", "this hop said nothing itself; its times come from what the event carries"))
    pairs = [(key, value) for key, value in own if value] + sorted(span.attributes.items())
    rows = [tag("div", tag("dt", key), tag("dd", value[:VALUE_CHARS_MAX])) for key, value in pairs]
    links = [
        tag("li", tag("a", f"trace {trace_id}", href=f"/trace/{trace_id}"), f", span {span_id}")
        for trace_id, span_id in span.links
        if trace_id != span.trace_id
    ]
    word = "Events of this batch" if span.attributes.get("spillway.batch.traced_events") else "Processed in this batch"
    linked = html(tag("h4", word), tag("ul", *links)) if links else Markup("")
    return tag("div", tag("dl", *rows), linked, class_="attributes")


def log_form(given: Mapping[str, str]) -> Markup:
    levels = [("", "any"), *((each, each) for each in LEVELS)]
    since = [(name, f"last {name}") for name in SINCE_SECONDS]
    return tag(
        "form",
        field("q", "Text", given.get("q", ""), first=True),
        field("trace_id", "Trace id", given.get("trace_id", "")),
        field("event_id", "Event id", given.get("event_id", "")),
        choice("level", "Level", levels, given.get("level", "")),
        field("process", "Process", given.get("process", ""), hint="redactor"),
        choice("since", "When", since, given.get("since") or DEFAULT_SINCE),
        tag("button", "Search", type="submit", class_="main"),
        method="get",
        action="/logs",
        class_="search",
        role="search",
    )


def log_params(given: Mapping[str, str], now: float) -> list[tuple[str, str]]:
    params = [(name, given[name].strip()) for name in ("trace_id", "event_id", "q", "level", "process") if given.get(name)]
    since = SINCE_SECONDS.get(given.get("since", ""), SINCE_SECONDS[DEFAULT_SINCE])
    return [*params, ("start", str(int(now) - since)), ("end", str(int(now) + 60)), ("limit", str(LIMIT * 2))]


def log_table(lines: Sequence[Mapping[str, Any]], empty: str, *, with_trace: bool = True) -> Markup:
    if not lines:
        return notice(empty, "quiet")
    heads = ("When (UTC)", "Level", "Process", "What happened", *(("Trace",) if with_trace else ()))
    return table(heads, [_line(each, with_trace) for each in lines], f"{len(lines)} lines", "logs")


def _line(line: Mapping[str, Any], with_trace: bool) -> Markup:
    level, fields = str(line.get("level") or "").lower(), dict(line.get("fields") or {})
    left_out = ("part", "worker", "level", "event", "time", "trace_id")
    shown = {key: value for key, value in fields.items() if key not in left_out and value not in ("", None)}
    said = [
        html(tag("span", key, class_="key"), "=", tag("span", str(value)[:VALUE_CHARS_MAX], class_="value"), " ")
        for key, value in shown.items()
    ]
    trace_id = str(line.get("trace_id") or "")
    leads = tag("a", tag("code", trace_id[:8]), href=f"/trace/{trace_id}") if TRACE_ID.match(trace_id) else Markup("")
    return tag(
        "tr",
        tag("td", clock(int(line.get("time_unix_nano") or 0)), class_="time"),
        tag("td", tag("span", level, class_=f"level level-{level if level in LEVELS else 'info'}")),
        tag("td", str(line.get("worker") or line.get("part") or "")),
        tag("td", tag("b", str(line.get("event") or "")), " ", tag("span", *said, class_="fields")),
        *((tag("td", leads),) if with_trace else ()),
        class_=f"line {'bad' if level in ('error', 'critical') else ''}".strip(),
    )


def link_to_logs(**asked: str) -> str:
    return "/logs?" + urlencode(asked)
