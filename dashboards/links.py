"""Where a panel leads: the console's trace search and trace, a hop's page, a hop's runbooks.

`${console}` is a variable of every dashboard: the console's address for a Grafana elsewhere, empty on the console itself.
"""

from dataclasses import dataclass
from urllib.parse import quote

from dashboards.page import hop_uid

_SPAN = "${__from:date:seconds}", "${__to:date:seconds}"


@dataclass(frozen=True, slots=True)
class Link:
    title: str
    url: str


def hop_traces(hop: str) -> str:
    """TraceQL: the traces with a span of this hop."""
    return f'{{ span.spillway.hop = "{hop}" }}'


def failed_traces() -> str:
    return "{ status = error }"


def search_link(title: str, traceql: str) -> Link:
    """The console's trace search, over the time that the dashboard shows."""
    return Link(title, f"${{console}}/traces?q={quote(traceql)}&start={_SPAN[0]}&end={_SPAN[1]}")


def trace_link() -> Link:
    """From an exemplar to its trace: the value is the exemplar's trace id."""
    return Link("Trace of this exemplar", "${console}/trace/${__value.raw}")


def hop_link(hop: str) -> Link:
    return Link("Page of this hop", f"/d/{hop_uid(hop)}?${{__url_time_range}}")


def runbook_link(hop: str) -> Link:
    """The folder of the hop's runbooks, as the console will serve it. One function, so that they can move."""
    return Link("Runbooks", f"${{console}}/runbooks/{hop or 'overview'}")
