"""One panel's answer: its queries, filled in and asked, as JSON that the browser draws.

The browser names a panel of a committed dashboard and a range; it never gives PromQL. Every series comes with one value per time
of a common axis, `null` where there is none: a gap is drawn as a gap. Many series that are 0 throughout are counted, not drawn:
what is left is what happened.
"""

import asyncio
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards.console.grafana import Dashboard, Panel, Target, Threshold
from dashboards.console.sources import Exemplar, Prometheus, Refused, Series, Unanswered
from dashboards.console.units import Unit, text_of, unit_of
from dashboards.queries import UnknownVariable, resolve

RANGES_SECONDS = {"5m": 300, "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800}
DEFAULT_RANGE = "15m"
POINTS_MAX = 240
SPARK_POINTS_MAX = 60
# Of a drawn value: more can't be seen, and is to be carried.
DIGITS = 5
SERIES_MAX = 40
# So many series that are 0 throughout are drawn; more are only counted.
IDLE_MAX = 3
EXEMPLARS_MAX = 40
ROWS_MAX = 200
SCRAPE_SECONDS = 5
# A variable's value as a reader may give it: a label's value, or several by `|`; nothing that ends a string or a selector.
VALUE = re.compile(r"^[\w.*+|:/@ -]{1,120}$")
_HEX = re.compile(r"^#[0-9a-f]{6}$")
# Grafana's names of colours, as what they mean here; of others the hue says it.
_MEANING = {"green": "ok", "red": "bad", "orange": "near", "yellow": "near"}
_DRAWN = ("timeseries", "graph")


@dataclass(frozen=True, slots=True)
class Range:
    """From where to where, and how fine, in seconds; ends on a multiple of the step, so that points stay where they are."""

    start: float
    end: float
    step: float

    @classmethod
    def until(cls, now: float, seconds: float, points_max: int = POINTS_MAX) -> "Range":
        step = max(float(SCRAPE_SECONDS), math.ceil(seconds / points_max / SCRAPE_SECONDS) * SCRAPE_SECONDS)
        end = math.floor(now / step) * step
        return cls(end - math.floor(seconds / step) * step, end, step)

    @property
    def times(self) -> list[float]:
        return [self.start + index * self.step for index in range(round((self.end - self.start) / self.step) + 1)]

    @property
    def window(self) -> str:
        """What `$__rate_interval` stands for: at least four scrapes, and never less than from one point to the next."""
        return f"{int(max(60, self.step + SCRAPE_SECONDS))}s"

    @property
    def coarse(self) -> "Range":
        """The same stretch in as many points as a sparkline has."""
        return Range.until(self.end, self.end - self.start, SPARK_POINTS_MAX)


def choices(board: Dashboard, given: Mapping[str, str]) -> dict[str, str]:
    """The values of the dashboard's variables: as given, where it is a value, else the default."""
    chosen = {}
    for variable in board.variables:
        value = given.get(f"var-{variable.name}", "") if variable.asked else ""
        chosen[variable.name] = value if VALUE.match(value) else variable.default
    return chosen


async def answer(prometheus: Prometheus, panel: Panel, chosen: Mapping[str, str], span: Range) -> dict[str, object]:
    """What the browser draws; `error` says shortly, and `why` at length, that there is nothing to draw."""
    base: dict[str, object] = {"id": panel.id, "kind": panel.kind, "unit": unit_of(panel.unit).as_json(), "error": "", "why": ""}
    try:
        if panel.kind in _DRAWN:
            return base | await _chart(prometheus, panel, chosen, span)
        if panel.kind == "table":
            return base | await _table(prometheus, panel, chosen, span)
        return base | await _numbers(prometheus, panel, chosen, span)
    except Unanswered as exc:
        return base | {"error": exc.short, "why": str(exc.args[0])}
    except UnknownVariable as exc:
        return base | {"error": str(exc.args[0])}


async def _chart(prometheus: Prometheus, panel: Panel, chosen: Mapping[str, str], span: Range) -> dict[str, object]:
    exprs = [resolve(target.expr, span.window, chosen) for target in panel.targets]
    answers = await asyncio.gather(*(prometheus.over(expr, span.start, span.end, span.step) for expr in exprs))
    wanted = [expr for target, expr in zip(panel.targets, exprs, strict=True) if target.exemplar]
    found = await asyncio.gather(*(_exemplars(prometheus, expr, span) for expr in wanted))
    named = [(name, aligned(each, span)) for name, each in _named(panel, answers)]
    zero_is_bad = state_at(0.0, panel.thresholds) == "bad"
    shown, idle = worth_drawing(named, idle_max=SERIES_MAX if zero_is_bad else IDLE_MAX)
    limits = [{"value": step.value, "state": state_of(step)} for step in panel.thresholds if step.value is not None]
    return {
        "times": [round(at) for at in span.times],
        "series": [{"name": name, "values": values} for name, values in shown[:SERIES_MAX]],
        "left_out": max(0, len(shown) - SERIES_MAX),
        "idle": idle,
        "exemplars": [_dot(each) for each in worth_showing([one for some in found for one in some], span)],
        "limits": limits if panel.draws_thresholds else [],
        "min": panel.minimum,
        "max": panel.maximum,
        "stacked": panel.stacked,
        "fill": panel.fill,
    }


Values = list[float | None]


def worth_drawing(named: Sequence[tuple[str, Values]], idle_max: int = IDLE_MAX) -> tuple[list[tuple[str, Values]], list[str]]:
    """The series with something to see, and the names of those that are 0 throughout. If all are, they are one line."""
    there = [(name, values) for name, values in named if any(value is not None for value in values)]
    idle = [(name, values) for name, values in there if not any(values)]
    if len(idle) <= idle_max:
        return there, []
    if len(idle) == len(there):
        return [(f"all {len(idle)}", _somewhere(values for _, values in idle))], []
    return [(name, values) for name, values in there if any(values)], [name for name, _ in idle]


def _somewhere(idle: Iterable[Values]) -> Values:
    """0 where any of them is known."""
    return [0.0 if any(value is not None for value in at) else None for at in zip(*idle, strict=True)]


async def _exemplars(prometheus: Prometheus, expr: str, span: Range) -> list[Exemplar]:
    """None where Prometheus keeps none: a chart without its dots is still a chart."""
    try:
        return await prometheus.exemplars(expr, span.start, span.end)
    except Refused:
        return []


def _dot(exemplar: Exemplar) -> dict[str, object]:
    where = ", ".join(f"{key} {exemplar.labels[key]}" for key in ("door", "part", "exit", "worker") if key in exemplar.labels)
    return {"at": exemplar.at, "value": exemplar.value, "trace": exemplar.trace_id, "where": where}


def worth_showing(exemplars: Sequence[Exemplar], span: Range, at_most: int = EXEMPLARS_MAX) -> list[Exemplar]:
    """The slowest of each stretch of time, so that a spike keeps its dot however many there are."""
    stretch = max((span.end - span.start) / at_most, 1e-9)
    slowest: dict[int, Exemplar] = {}
    for each in exemplars:
        place = min(at_most - 1, int((each.at - span.start) / stretch))
        if place not in slowest or each.value > slowest[place].value:
            slowest[place] = each
    return [slowest[place] for place in sorted(slowest)]


def aligned(series: Series, span: Range) -> Values:
    """One value for each time of the range."""
    values: Values = [None] * len(span.times)
    for at, value in series.points:
        place = round((at - span.start) / span.step)
        if 0 <= place < len(values) and math.isfinite(value):
            values[place] = float(f"{value:.{DIGITS}g}")
    return values


async def _numbers(prometheus: Prometheus, panel: Panel, chosen: Mapping[str, str], span: Range) -> dict[str, object]:
    """Of a stat or gauge: the last value of each series, its words and its state, and its course if that is wanted."""
    answers = await asyncio.gather(*(_last(prometheus, target, panel, chosen, span) for target in panel.targets))
    unit = unit_of(panel.unit)
    named = [(name, series.last) for name, series in _named(panel, answers)]
    courses = await _courses(prometheus, panel, chosen, span.coarse) if panel.sparkline and named else {}
    return {
        "values": [
            {
                # The title says what a single number is.
                "name": name if len(named) > 1 else "",
                "text": (panel.maps or {}).get(f"{value:g}") or text_of(value, unit, panel.decimals),
                "state": state_at(value, panel.thresholds),
                "share": share_of(value, panel),
                "course": courses.get(name, []),
            }
            for name, value in named[:SERIES_MAX]
        ]
    }


async def _courses(
    prometheus: Prometheus, panel: Panel, chosen: Mapping[str, str], span: Range
) -> dict[str, Values]:  # fmt: skip
    exprs = [resolve(target.expr, span.window, chosen) for target in panel.targets]
    answers = await asyncio.gather(*(prometheus.over(expr, span.start, span.end, span.step) for expr in exprs))
    return {name: aligned(each, span) for name, each in _named(panel, answers)}


async def _last(
    prometheus: Prometheus, target: Target, panel: Panel, chosen: Mapping[str, str], span: Range
) -> list[Series]:  # fmt: skip
    """Of an instant query its value; else the range reduced as the panel wants it."""
    if panel.calculation.startswith("last") or target.instant:
        return await prometheus.now(resolve(target.expr, span.window, chosen))
    found = await prometheus.over(resolve(target.expr, span.window, chosen), span.start, span.end, span.step)
    return [Series(each.labels, ((span.end, reduced(each, panel.calculation)),)) for each in found]


def reduced(series: Series, calculation: str) -> float:
    values = [value for _, value in series.points if math.isfinite(value)]
    if not values:
        return math.nan
    match calculation:
        case "max":
            return max(values)
        case "min":
            return min(values)
        case "mean":
            return sum(values) / len(values)
        case "sum":
            return sum(values)
        case "first" | "firstNotNull":
            return values[0]
        case _:
            return values[-1]


async def _table(prometheus: Prometheus, panel: Panel, chosen: Mapping[str, str], span: Range) -> dict[str, object]:
    """Rows by their labels, a column for each query."""
    answers = await asyncio.gather(
        *(prometheus.now(resolve(target.expr, span.window, chosen)) for target in panel.targets)
    )  # fmt: skip
    hidden = panel.hidden | {"Time", "__name__"}
    labels = sorted({name for found in answers for each in found for name in each.labels} - hidden)
    keys: dict[tuple[str, ...], dict[int, float]] = {}
    for column, found in enumerate(answers):
        for each in found:
            keys.setdefault(tuple(each.labels.get(name, "") for name in labels), {})[column] = each.last
    shown = [index for index, target in enumerate(panel.targets) if not hidden & {f"Value #{target.ref}"}]
    heads = [_column(panel, panel.targets[index], len(answers)) for index in shown]
    names = panel.renamed or {}
    return {
        "columns": [names.get(name, name) for name in labels] + [head for head, _ in heads],
        "numeric": len(labels),
        "rows": [
            [*key, *(text_of(values.get(index), unit) for index, (_, unit) in zip(shown, heads, strict=True))]
            for key, values in list(sorted(keys.items()))[:ROWS_MAX]
        ],
    }


def _column(panel: Panel, target: Target, columns: int) -> tuple[str, Unit]:
    field = f"Value #{target.ref}" if columns > 1 else "Value"
    name = (panel.renamed or {}).get(field) or target.legend or field
    units = panel.units_by_field or {}
    return name, unit_of(units.get(field) or units.get(name) or panel.unit)


def _named(panel: Panel, answers: Sequence[Sequence[Series]]) -> list[tuple[str, Series]]:
    named = [
        (legend_of(target, each, panel.title), each)
        for target, found in zip(panel.targets, answers, strict=True)
        for each in found
    ]  # fmt: skip
    renamed = panel.renamed or {}
    return [(renamed.get(name, name), each) for name, each in named]


def legend_of(target: Target, series: Series, otherwise: str) -> str:
    if target.legend:
        said = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: _short(series.labels.get(match[1], "")), target.legend)
        return said.strip() or otherwise
    shown = {key: value for key, value in series.labels.items() if key != "__name__"}
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(shown.items())) or otherwise


_SHARD = re.compile(r"^shardId-0*(\d+)$")
_TYPE = re.compile(r"^spillway\.events\.v\d+\.(\w+)$")


def _short(value: str) -> str:
    """What is the same in every legend tells nothing: a shard's number, an event type's own name."""
    shard, type = _SHARD.match(value), _TYPE.match(value)
    return f"shard {shard[1]}" if shard else type[1] if type else value


def state_of(step: Threshold) -> str:
    """What a threshold's colour means."""
    name = step.color.lower()
    if _HEX.match(name):
        red, green = int(name[1:3], 16), int(name[3:5], 16)
        return "ok" if green > red else "near" if green > red / 2 else "bad"
    return next((meaning for word, meaning in _MEANING.items() if word in name), "plain")


def state_at(value: float, thresholds: Sequence[Threshold]) -> str:
    """The state of the highest threshold that the value reached."""
    if math.isnan(value):
        return "nodata"
    reached = [step for step in thresholds if step.value is None or value >= step.value]
    return state_of(reached[-1]) if reached else "plain"


def share_of(value: float, panel: Panel) -> float | None:
    """How full a gauge is, 0 to 1."""
    if panel.kind not in ("gauge", "bargauge") or not math.isfinite(value):
        return None
    limits = [step.value for step in panel.thresholds if step.value is not None]
    top = panel.maximum or (1.0 if panel.unit == "percentunit" else max(limits, default=value or 1.0) * 1.25)
    bottom = panel.minimum or 0.0
    return min(1.0, max(0.0, (value - bottom) / ((top - bottom) or 1.0)))


def range_name(given: str, remembered: str = "") -> str:
    """The range that was asked for, or chosen last, or the usual one."""
    return next((name for name in (given, remembered) if name in RANGES_SECONDS), DEFAULT_RANGE)


def range_of(name: str, now: float | None = None) -> Range:
    return Range.until(time.time() if now is None else now, RANGES_SECONDS[range_name(name)])
