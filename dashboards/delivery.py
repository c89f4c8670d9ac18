"""Delivery and freshness by exit: did everything arrive, how late, and can every event's way be told?"""

from dashboards.links import hop_traces
from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m
from telemetry.hops import BY_NAME, EXITS

UID = "spillway-delivery"
ask = Ask()


def page() -> Page:
    return Page(
        uid=UID,
        title="Delivery and freshness",
        description="For each exit: how late events become visible, what became of them, and whether their traces are whole.",
        rows=(*(_exit(exit) for exit in EXITS), _backup(), _traces()),
    )


def _exit(exit: str) -> Row:
    hop = BY_NAME[exit]
    return Row(
        hop.title,
        (
            Panel(
                f"{hop.title}: freshness",
                "s",
                "From the door's accept time to being visible: the median reader's wait (p50), and the unlucky one's (p99).",
                "p99 alone is high: single batches are slow, click a dot. Both are high: the exit is behind.",
                (
                    Query(ask.quantile(0.99, m.ETL_FRESHNESS_SECONDS.name, exit=exit), "p99", exemplars=True),
                    Query(ask.quantile(0.5, m.ETL_FRESHNESS_SECONDS.name, exit=exit), "p50"),
                ),
                width=8,
                limit=hop.latency.limit,
                hop=exit,
            ),
            Panel(
                f"{hop.title}: rows by outcome",
                "eps",
                "Loaded, duplicate (was there already), conflict (same id, other content), dead (could not be a row).",
                "Conflicts or dead rows: see the dead letters of this exit.",
                (Query(ask.rate(m.ETL_ROWS.name, "outcome", exit=exit), "{{outcome}}"),),
                width=8,
                hop=exit,
            ),
            Panel(
                f"{hop.title}: not loaded yet",
                "eps",
                "What the redactor delivers less what this exit loads, a second. Above 0 a backlog grows, at 0 it keeps up.",
                "Above 0 for minutes: see capacity and trends, Spark input against processing.",
                (
                    Query(
                        f"clamp_min({ask.rate(m.CONSUMER_EVENTS.name, part='redactor', outcome='delivered')}"
                        f" - {ask.rate(m.ETL_ROWS.name, exit=exit)}, 0)",
                        "growing by",
                    ),
                ),
                width=8,
                hop=exit,
            ),
        ),
    )


def _backup() -> Row:
    fresh, hop = m.BACKUP_FRESHNESS_SECONDS.name, BY_NAME["backup"]
    return Row(
        "Backup",
        (
            Panel(
                "Backup: freshness by stream",
                "s",
                "From the door's accept time to the object in the bucket. Firehose waits up to 5 minutes by design.",
                "Above 15 minutes: Firehose does not deliver. The stream still holds the events for a day.",
                (
                    Query(ask.quantile(0.99, fresh, "stream"), "{{stream}} p99", exemplars=True),
                    Query(ask.quantile(0.5, fresh, "stream"), "{{stream}} p50"),
                ),
                width=8,
                limit=hop.latency.limit,
                hop="backup",
            ),
            Panel(
                "Backup: events by stream",
                "eps",
                "Events found in backup objects.",
                "Compare with the doors; the two should agree over an hour.",
                (Query(ask.rate(m.BACKUP_EVENTS.name, "stream"), "{{stream}}"),),
                width=8,
                hop="backup",
            ),
            Panel(
                "Backup: oldest object not yet read",
                "s",
                "Until the auditor has read an object nobody knows whether it is whole.",
                "Rising: restart the auditor.",
                (Query(ask.now("max", m.BACKUP_BEHIND_SECONDS.name, "stream"), "{{stream}}"),),
                width=8,
                limit=hop.saturation.limit,
                hop="backup",
            ),
        ),
    )


def _traces() -> Row:
    judged = ask.rate(m.TRACES_JUDGED.name)
    whole = ask.rate(m.TRACES_JUDGED.name, verdict="whole")
    return Row(
        "Can every event's way be told?",
        (
            Panel(
                "Share of whole traces",
                "percentunit",
                "Of the events that were judged, those whose trace has every hop. Promised: 99.9 %.",
                "Below: see which hop is missing, beside. If the telemetry was dropped (see telemetry itself), events are well.",
                (Query(f"({whole}) / (({judged}) > 0) or ({judged}) * 0 + 1", "whole"),),
                width=8,
                limit=0.999,
                falling=True,
                hop="telemetry",
                traces="{ }",
                decimals=2,
            ),
            Panel(
                "Traces judged, by verdict",
                "cps",
                "How many traces were judged whole, and how many partial.",
                "No traces judged under load: the trace store does not receive spans.",
                (Query(ask.rate(m.TRACES_JUDGED.name, "verdict"), "{{verdict}}"),),
                width=8,
                hop="telemetry",
                traces="{ }",
            ),
            Panel(
                "Partial traces, by the first hop that is missing",
                "cps",
                "Where the tale of an event breaks off. A hop missing for all events has lost its way to the trace store.",
                "Open that hop's page: traffic there, but no spans, is a fault of telemetry; no traffic is a fault of delivery.",
                (
                    Query(
                        f"{ask.rate(m.TRACES_JUDGED.name, 'missing', verdict='partial')}"
                        f' or label_replace({judged} * 0, "missing", "none", "", "")',
                        "{{missing}}",
                    ),
                ),
                width=8,
                hop="telemetry",
                traces=hop_traces("redactor"),
            ),
        ),
    )
