"""Panels of a hop's four golden signals, from the table of hops."""

from dataclasses import replace

from dashboards.page import UNITS, WINDOW, WORKER, Panel, Query
from telemetry.hops import Hop, Signal

ORDER = ("traffic", "errors", "latency", "saturation")
SIGNAL_WORDS = {"traffic": "Traffic", "errors": "Errors", "latency": "Latency", "saturation": "Saturation"}
_P99, _P50 = "histogram_quantile(0.99,", "histogram_quantile(0.5,"

_MEANS = {
    "traffic": "How much passes this hop. A fall to 0 while the hop before it is busy means that this hop has stopped.",
    "errors": "What this hop could not do. It counts what callers or later hops feel, not what a retry has mended.",
    "latency": "How long it takes here. The dots are single events: click one to see its trace.",
    "saturation": "How full it is. What is full becomes slow first, and then refuses.",
}
_DO = {
    "traffic": "Compare with the hop before and the hop after; where the figures part is where events wait or die.",
    "errors": "Open the traces of this time and read the error of the first failed span; then the runbooks.",
    "latency": "Open the trace of a slow dot; its longest span names the hop that is slow. If all are slow, look at saturation.",
    "saturation": "Above its limit: add shards or workers, or slow the producers. Capacity and trends says how long there is.",
}


def signal_panel(hop: Hop, kind: str, *, width: int = 12, height: int = 8) -> Panel:
    """A chart of one signal for the hop's own page."""
    signal = hop.signals[kind]
    return Panel(
        title=f"{SIGNAL_WORDS[kind]}: {_small(signal.title)}",
        unit=UNITS[signal.unit],
        means=_MEANS[kind] + _limit_words(signal),
        do=_DO[kind],
        queries=_queries(hop, kind),
        width=width,
        height=height,
        limit=signal.limit,
        hop=hop.name,
    )


def signal_number(hop: Hop, kind: str, *, width: int = 6, height: int = 3) -> Panel:
    """One signal now, with its sparkline, for the overview."""
    panel = signal_panel(hop, kind, width=width, height=height)
    query = Query(hop.signals[kind].at(WINDOW), SIGNAL_WORDS[kind])
    title = _small(hop.signals[kind].title).replace("99th percentile", "p99")
    return replace(panel, title=f"{hop.title} · {title}", kind="number", queries=(query,), opens_hop=True)


def _queries(hop: Hop, kind: str) -> tuple[Query, ...]:
    query = hop.signals[kind].at(WINDOW, WORKER)
    if kind != "latency":
        return (Query(query, SIGNAL_WORDS[kind]),)
    return Query(query, "p99", exemplars=True), Query(query.replace(_P99, _P50), "p50")


def _limit_words(signal: Signal) -> str:
    return "" if signal.limit is None else f" The limit is {signal.limit:g} ({signal.unit})."


def _small(title: str) -> str:
    """As the second part of a title; words such as "One PutRecords" keep their inner capitals."""
    return title[0].lower() + title[1:]
