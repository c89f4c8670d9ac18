"""The searches of the trace store: for traces, and for log lines. Forms, questions and results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dashboards.console.layout import Markup, choice, counted, field, html, notice, table, tag
from dashboards.console.units import clock, duration
from dashboards.console.waterfall import ASIDE, cut
from telemetry.hops import HOPS

TRACE_ID = re.compile(r"^[0-9a-fA-F]{1,32}$")
DURATION = re.compile(r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h)$")
SECONDS = re.compile(r"^[0-9]{1,12}$")
LEVELS = ("debug", "info", "warning", "error", "critical")
SINCE_SECONDS = {"15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800}
DEFAULT_SINCE = "1h"
LIMIT = 100
LINES_MAX = 200
# Of each trace found, so many of its matching spans are asked for: a whole trace of one event has 13.
SPANS_MAX = 20
# How an event ended, as TraceQL.
ENDS: dict[str, tuple[str, str]] = {
    "error": ("failed", "status = error"),
    "dead_letter": ("dead letter", 'span.spillway.final = "dead_letter"'),
    "rejected": ("rejected at a door", 'span.spillway.final = "rejected"'),
    "slow": ("slow in a hop", "span.spillway.slow = true"),
}
KINDS: dict[str, tuple[str, str]] = {
    "events": ("events", 'span.cloudevents.event_id != ""'),
    "batches": ("batches", "span.spillway.batch.traced_events >= 0"),
    "all": ("both", ""),
}
# Never part of a shipped line's meaning, or shown in a column of its own.
_SHOWN_APART = frozenset(("part", "worker", "level", "event", "time", "trace_id"))


@dataclass(frozen=True, slots=True)
class Question:
    """What the form of `/traces` asks."""

    of: str = "events"
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
    def read(cls, given: Mapping[str, str]) -> "Question":
        said = {name: given.get(name, "").strip()[:2000] for name in cls.__dataclass_fields__}
        said["of"] = said["of"] if said["of"] in KINDS else "events"
        said |= {name: said[name] if SECONDS.match(said[name]) else "" for name in ("start", "end")}
        return cls(**{**said, "since": said["since"] if said["since"] in SINCE_SECONDS else DEFAULT_SINCE})

    def traceql(self) -> str:
        """Raises:
        ValueError: the shortest duration is none.
        """
        if self.q:
            return self.q
        conditions = [
            f"span.{attribute} = {quoted(value)}"
            for attribute, value in (
                ("cloudevents.event_id", self.event_id),
                ("spillway.tenant", self.tenant),
                ("spillway.hop", self.hop),
            )
            if value
        ]
        if self.status in ENDS:
            conditions.append(ENDS[self.status][1])
        if self.min_duration:
            if not DURATION.match(self.min_duration):
                raise ValueError(f"“{self.min_duration}” is no duration: write it as 250ms, 2s or 1m")
            conditions.append(f"duration >= {self.min_duration}")
            conditions += [f'span.spillway.hop != "{hop}"' for hop in sorted(ASIDE) if hop != self.hop]
        kind = KINDS[self.of][1]
        if kind and not self.event_id:
            conditions.append(kind)
        return "{ " + " && ".join(conditions) + " }" if conditions else "{ }"

    def params(self, now: float) -> list[tuple[str, str]]:
        start = self.start or str(int(now) - SINCE_SECONDS[self.since])
        end = self.end or str(int(now) + 60)
        return [("q", self.traceql()), ("limit", str(LIMIT)), ("spss", str(SPANS_MAX)), ("start", start), ("end", end)]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def trace_form(asked: Question) -> Markup:
    hops = [("", "any"), *((hop.name, hop.title) for hop in HOPS if hop.traced != "never")]
    ends = [("", "any"), *((name, words) for name, (words, _) in ENDS.items())]
    since = [(name, f"last {name}") for name in SINCE_SECONDS]
    carried = [
        tag("input", type="hidden", name=name, value=value)
        for name, value in (("start", asked.start), ("end", asked.end))
        if value
    ]
    return tag(
        "form",
        field("event_id", "Event id or trace id", asked.event_id, first=True),
        field("tenant", "Tenant", asked.tenant),
        choice("hop", "Hop", hops, asked.hop),
        choice("status", "Ended as", ends, asked.status),
        field("min_duration", "A step of at least", asked.min_duration, hint="250ms"),
        choice("of", "Traces of", [(name, words) for name, (words, _) in KINDS.items()], asked.of),
        _chosen_time(asked) if carried else choice("since", "When", since, asked.since),
        field("q", "TraceQL, instead of the fields", asked.q, hint='{ span.spillway.hop = "lake" && status = error }', wide=True),
        *carried,
        tag("button", "Search", type="submit", class_="main"),
        method="get",
        action="/traces",
        class_="search",
        role="search",
    )


def _chosen_time(asked: Question) -> Markup:
    """A range that came with a link from a panel, and the way out of it."""
    seconds = [int(each) for each in (asked.start, asked.end) if each]
    words = " to ".join(clock(each * 1_000_000_000)[:-4] for each in seconds)
    rest = {name: getattr(asked, name) for name in ("q", "event_id", "tenant", "hop", "status", "min_duration", "of")}
    away = tag("a", "any time", href="/traces?" + urlencode({name: value for name, value in rest.items() if value}))
    return tag("p", tag("span", "When (UTC)"), html(words, " "), away, class_="chosen")


def trace_results(found: Sequence[Mapping[str, Any]]) -> Markup:
    if not found:
        return notice("No trace fits. About one event in two thousand is traced, and every canary, failed or slow one.", "quiet")
    rows = sorted((Found.read(each) for each in found), key=lambda each: -each.began_ns)
    most = max((each.step_seconds for each in rows), default=0.0) or 1.0
    heads = ("Began (UTC)", "Trace", "Begins with", "Longest step", "", "Spans", "Failed")
    more = f"{counted(len(rows), 'traces')}, newest first" + (": the first of more, perhaps" if len(rows) >= LIMIT else "")
    return table(heads, [_result(each, most) for each in rows], more, "results")


@dataclass(frozen=True, slots=True)
class Found:
    """One trace of a search's answer; its longest step is of the spans that fit."""

    trace_id: str
    began_ns: int
    root: str
    step: str
    step_seconds: float
    spans: int
    failed: int

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Found":
        sets = raw.get("spanSets") or ([raw["spanSet"]] if raw.get("spanSet") else [])
        steps = [(int(span.get("durationNanos") or 0) / 1e9, _step(span)) for one in sets for span in one.get("spans") or ()]
        seconds, step = max((each for each in steps if not _is_aside(each[1])), default=max(steps, default=(0.0, "")))
        services = (raw.get("serviceStats") or {}).values()
        return cls(
            trace_id=str(raw.get("traceID") or "").rjust(32, "0"),
            began_ns=int(raw.get("startTimeUnixNano") or 0),
            root=str(raw.get("rootTraceName") or raw.get("rootServiceName") or ""),
            step=step,
            step_seconds=seconds,
            spans=sum(int(each.get("spanCount") or 0) for each in services),
            failed=sum(int(each.get("errorCount") or 0) for each in services),
        )


def _step(span: Mapping[str, Any]) -> str:
    """The hop where the store says it, else the span's name."""
    said = {str(each.get("key")): each.get("value") or {} for each in span.get("attributes") or ()}
    return str(said.get("spillway.hop", {}).get("stringValue") or span.get("name") or "")


def _is_aside(step: str) -> bool:
    return any(step.split("/")[0] == hop or step.startswith(f"process {hop}/") for hop in ASIDE)


def _result(each: Found, most: float) -> Markup:
    wide = f"{max(0.5, 100 * each.step_seconds / most):.1f}%"
    bar = tag("svg", tag("rect", width=wide, height="100%"), class_="share", aria_hidden="true")
    code = html(tag("code", each.trace_id[:16]), tag("code", each.trace_id[16:], class_="tail"))
    return tag(
        "tr",
        tag("td", clock(each.began_ns), class_="time"),
        tag("td", tag("a", code, href=f"/trace/{each.trace_id}"), class_="trace"),
        tag("td", each.root, class_="root"),
        tag("td", each.step),
        tag("td", bar, tag("span", duration(each.step_seconds)), class_="took"),
        tag("td", str(each.spans or ""), class_="number"),
        tag("td", tag("span", f"{each.failed} failed", class_="state-bad") if each.failed else "", class_="failed"),
        class_="line",
    )


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
    return [*params, ("start", str(int(now) - since)), ("end", str(int(now) + 60)), ("limit", str(LINES_MAX))]


def lines_found(lines: Sequence[Mapping[str, Any]]) -> Markup:
    """Of a search: the newest first."""
    ordered = sorted(lines, key=_at, reverse=True)
    more = f"{counted(len(ordered), 'lines')}, newest first" + (
        ": the first of more, perhaps" if len(ordered) >= LINES_MAX else ""
    )
    heads = ("When (UTC)", "Level", "Process", "What happened", "Trace")
    return table(heads, [_line(each, None) for each in ordered], more, "logs") if ordered else notice("No line fits.", "quiet")


def lines_of_trace(lines: Sequence[Mapping[str, Any]], began_ns: int) -> Markup:
    """In the order in which they were written, each with the time since the trace began."""
    heads = ("When (UTC)", "After", "Level", "Process", "What happened")
    rows = [_line(each, began_ns) for each in sorted(lines, key=_at)]
    return (
        table(heads, rows, counted(len(rows), "lines"), "logs") if rows else notice("No process wrote a line about it.", "quiet")
    )


def _at(line: Mapping[str, Any]) -> int:
    return int(line.get("time_unix_nano") or 0)


def _line(line: Mapping[str, Any], began_ns: int | None) -> Markup:
    level, trace_id = str(line.get("level") or "").lower(), str(line.get("trace_id") or "")
    # Without a trace to compare with, the line leads to its trace.
    after = tag("td", duration((_at(line) - began_ns) / 1e9) if began_ns else "", class_="number")
    leads = tag("a", tag("code", trace_id[:8]), href=f"/trace/{trace_id}") if TRACE_ID.match(trace_id) else Markup("")
    return tag(
        "tr",
        tag("td", clock(_at(line)), class_="time"),
        *((after,) if began_ns is not None else ()),
        tag("td", tag("span", level, class_=f"level level-{level if level in LEVELS else 'info'}")),
        tag("td", str(line.get("worker") or line.get("part") or ""), class_="who"),
        tag("td", tag("b", str(line.get("event") or "")), " ", *_fields(dict(line.get("fields") or {})), class_="what"),
        *((tag("td", leads),) if began_ns is None else ()),
        class_=f"line {'bad' if level in ('error', 'critical') else ''}".strip(),
    )


def _fields(fields: Mapping[str, Any]) -> Iterator[Markup]:
    """Short ones in a row; an exception, with its lines, folded below."""
    shown = {key: value for key, value in fields.items() if key not in _SHOWN_APART and value not in ("", None)}
    folded = {key: str(shown.pop(key)) for key in list(shown) if "\n" in str(shown[key])}
    said = [html(tag("span", key, class_="key"), "=", _value(key, str(value)), " ") for key, value in shown.items()]
    yield tag("span", *said, class_="fields")
    for key, value in folded.items():
        yield tag("details", tag("summary", key), tag("pre", cut(value)))


def _value(key: str, value: str) -> Markup:
    if key == "event_id":
        return tag("a", cut(value), href="/traces?" + urlencode({"event_id": value, "since": "7d"}))
    return tag("span", cut(value), class_="value")


def link_to_logs(**asked: str) -> str:
    return "/logs?" + urlencode(asked)
