"""What a dashboard is, before it is Grafana's JSON: pages of rows of panels, each a question with its answer's meaning.

A panel says what it shows in plain words, in which unit, what that means and what to do about it. Layout is not said: panels flow
from left to right in a grid of 24 columns, and a row begins a new line. `grafana.py` turns a page into JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

COLUMNS = 24
WINDOW = "$__rate_interval"
# Lets the reader of a hop's page choose one worker of it.
WORKER = ',worker=~"$worker"'

# Grafana's unit ids: events/s, records/s, counts/s, share of one, seconds, bytes, bytes/s, days, US dollars, plain number.
Unit = Literal["eps", "suffix: rec/s", "cps", "percentunit", "s", "bytes", "binBps", "d", "currencyUSD", "short"]
UNITS: dict[str, Unit] = {
    "events/s": "eps",
    "records/s": "suffix: rec/s",
    "objects/s": "cps",
    "items/s": "cps",
    "ratio": "percentunit",
    "seconds": "s",
    "bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    # Short; `{{label}}` names a series by its label.
    legend: str
    # Show exemplars: points that are links to a trace.
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: Unit
    means: str
    do: str
    queries: tuple[Query, ...]
    kind: Literal["chart", "number", "text"] = "chart"
    width: int = 12
    height: int = 8
    # Where it is too much. Drawn as a line on a chart, a colour on a number.
    limit: float | None = None
    # Below the limit is bad, not above.
    falling: bool = False
    # Values may be negative, and that must be seen.
    below_zero: bool = False
    # Whose traces, page and runbook the panel leads to.
    hop: str = ""
    # TraceQL of the trace search that the panel leads to; the hop's spans if empty.
    traces: str = ""
    # Lead to the hop's page (from the overview).
    opens_hop: bool = False
    # Of a text panel, Markdown.
    text: str = ""
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A figure that queries use as `$name`. One that is `asked` can be changed at the top of the page."""

    name: str
    value: str
    label: str
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    hop: str = ""
    # The metric whose `worker` label fills the worker menu; no menu if empty.
    workers_of: str = ""
    variables: tuple[Variable, ...] = ()
    from_ago: str = "now-1h"


def hop_uid(hop: str) -> str:
    return f"spillway-hop-{hop}"


def selector(labels: Mapping[str, str], extra: str = "") -> str:
    """`{door="grpc",worker=~"$worker"}`; a value that begins with `~` is a regular expression, with `!` a negation."""
    signs = {"~": "=~", "!": "!="}
    parts = [f'{name}{signs.get(text[:1], "=")}"{text.lstrip("~!")}"' for name, text in labels.items()]
    inside = ",".join([*parts, *([extra.lstrip(",")] if extra else [])])
    return f"{{{inside}}}" if inside else ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Writes the usual queries over one choice of workers."""

    extra: str = ""
    window: str = field(default=WINDOW)

    def rate(self, metric: str, by: str = "", **labels: str) -> str:
        return f"sum{_by(by)} (rate({metric}{selector(labels, self.extra)}[{self.window}]))"

    def now(self, how: str, metric: str, by: str = "", **labels: str) -> str:
        return f"{how}{_by(by)} ({metric}{selector(labels, self.extra)})"

    def quantile(self, quantile: float, metric: str, by: str = "", **labels: str) -> str:
        """0 while nothing happens, as the hops' own signals have it: no data means that nobody reports."""
        where = selector(labels, self.extra)
        within = f"le, {by}" if by else "le"
        rate = f"rate({metric}_bucket{where}[{self.window}])"
        return f"histogram_quantile({quantile}, sum by ({within}) ({rate})) >= 0 or sum{_by(by)} ({rate}) * 0"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def share(part: str, whole: str) -> str:
    """`part` of `whole`, 0 while nothing happens."""
    return f"({part}) / (({whole}) > 0) or ({whole}) * 0"
