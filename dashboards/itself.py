"""Telemetry itself: what watches must be watched, or silence looks like health."""

from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m
from telemetry.hops import BY_NAME

UID = "spillway-telemetry"
HOP = "telemetry"
ask = Ask()


def page() -> Page:
    return Page(
        uid=UID,
        title="Telemetry itself",
        description="What was shipped, dropped, failed; the trace store; scraping; pages. Trouble here never touches events.",
        rows=(
            Row("On the way to the store", _shipping()),
            Row("The store", _store()),
            Row("Prometheus", _scraping()),
            Row("Processes, and what they say of AWS", _processes()),
            Row("From an alert to a person", _escalation()),
            Row("The watch", _watch()),
        ),
    )


def _shipping() -> tuple[Panel, ...]:
    items = m.TELEMETRY_ITEMS.name
    lost = ask.rate(items, "process", outcome="~dropped|failed")
    everything = ask.rate(items, "process")
    return (
        Panel(
            "Shipped, dropped, failed",
            "cps",
            "Spans and log lines by what became of them. Dropped: the queue was full. Failed: the store was away.",
            "Dropped: lower the sampled share or look for a flood of log lines. Failed: see the store below.",
            (Query(ask.rate(items, "signal, outcome"), "{{signal}} {{outcome}}"),),
            hop=HOP,
        ),
        Panel(
            "Share lost, by process",
            "percentunit",
            "Which process loses telemetry. Its charts are right all the same: metrics are scraped, not shipped.",
            "One process: it is flooded. All: the store.",
            (Query(f"({lost}) / (({everything}) > 0) or ({everything}) * 0", "{{process}}"),),
            limit=0.001,
            hop=HOP,
        ),
        Panel(
            "Waiting to be shipped, by process",
            "short",
            "Spans and log lines in the queue. The queue has a bound, so this never costs much memory.",
            "At its bound things are dropped: see above.",
            (Query(ask.now("sum", m.TELEMETRY_QUEUE_ITEMS.name, "process, signal"), "{{process}} {{signal}}"),),
            hop=HOP,
        ),
        Panel(
            "Lost in the last hour",
            "short",
            "Spans and log lines that never reached the store.",
            "More than a few: traces of that time may be partial, and say so.",
            (Query(f'sum by (signal) (increase({items}{{outcome=~"dropped|failed"}}[1h]))', "{{signal}}"),),
            "number",
            hop=HOP,
            limit=100.0,
        ),
    )


def _store() -> tuple[Panel, ...]:
    hop = BY_NAME[HOP]
    return (
        Panel(
            "Arrived, by outcome",
            "cps",
            "Stored, refused, or expired by age and size.",
            "Refused: disk full or flooded. It heals by itself when the load falls or space is freed.",
            (Query(ask.rate(m.STORE_ITEMS.name, "signal, outcome"), "{{signal}} {{outcome}}"),),
            hop=HOP,
        ),
        Panel(
            "One transaction",
            "s",
            "How long a write to the store's file takes. Clients never wait for it.",
            "Slow: the disk is busy, or the file is near its limit and expiring.",
            (
                Query(ask.quantile(0.99, m.STORE_WRITE_SECONDS.name), "p99"),
                Query(ask.quantile(0.5, m.STORE_WRITE_SECONDS.name), "p50"),
            ),
            limit=hop.latency.limit,
            hop=HOP,
        ),
        Panel(
            "Size and limit",
            "bytes",
            "The store's file on disk. At the limit the oldest traces go.",
            "If what you look for is gone already: raise the limit, or lower the sampled share.",
            (Query(ask.now("max", m.STORE_BYTES.name), "size"), Query(ask.now("max", m.STORE_LIMIT_BYTES.name), "limit")),
            hop=HOP,
        ),
        Panel(
            "Traces judged, by verdict",
            "cps",
            "Each traced event is judged when its trace must be complete.",
            "Partial ones: see delivery and freshness for the hop that is missing.",
            (Query(ask.rate(m.TRACES_JUDGED.name, "verdict"), "{{verdict}}"),),
            hop=HOP,
        ),
    )


def _scraping() -> tuple[Panel, ...]:
    return (
        Panel(
            "Processes that answer a scrape",
            "short",
            "1 for each worker that Prometheus reads. What is not read has no charts and no alerts.",
            "0: the process is dead, or its metrics port is blocked. `spillway status` knows.",
            (Query("min by (process, worker) (up)", "{{worker}}"),),
            limit=1.0,
            falling=True,
            hop=HOP,
        ),
        Panel(
            "Time of a scrape, by process",
            "s",
            "How long a process takes to answer.",
            "Above a second: the process is starved of CPU, or has far too many series.",
            (Query("max by (process) (scrape_duration_seconds)", "{{process}}"),),
            limit=1.0,
            hop=HOP,
        ),
        Panel(
            "Samples a scrape, by process",
            "short",
            "How many series a process reports. Labels are bounded, so this is flat after the start.",
            "Growing: a label has values that are not bounded. Find it before Prometheus runs out of memory.",
            (Query("sum by (process) (scrape_samples_scraped)", "{{process}}"),),
            hop=HOP,
        ),
    )


def _escalation() -> tuple[Panel, ...]:
    told = ask.rate(m.ESCALATOR_NOTIFICATIONS.name, "channel, outcome")
    return (
        Panel(
            "Pages that are not over",
            "short",
            "Open: somebody is told until one acknowledges. Acknowledged: somebody has it.",
            "`spillway pages` lists them, with what comes next.",
            (Query(ask.now("sum", m.ESCALATOR_PAGES.name, "state"), "{{state}}"),),
            hop=HOP,
        ),
        Panel(
            "Attempts to tell somebody",
            "cps",
            "Messages by channel: taken, to be tried again, refused for good.",
            "Refused: the channel's key or address is wrong. Its words stand in `spillway pages`.",
            (Query(told, "{{channel}} {{outcome}}"),),
            hop=HOP,
        ),
        Panel(
            "Channels that take pages",
            "short",
            "0: refuses pages, and a page PagerRefusing is open over the other channels. `none`: no channel reaches a person.",
            "Look at its last error: `spillway pages` says it below the list.",
            (Query(ask.now("min", m.ESCALATOR_CHANNEL_USABLE.name, "channel"), "{{channel}}"),),
            limit=1.0,
            falling=True,
            hop=HOP,
        ),
        Panel(
            "Ages on the way to a person",
            "s",
            "Since when the dead man's switch was not heard; the oldest message that waits; the last hourly test's round trip.",
            "Above the limit MonitorBlind is open: Prometheus, Alertmanager or the way between is down.",
            (
                Query(ask.now("max", m.ESCALATOR_DEADMAN_AGE.name), "Watchdog"),
                Query(ask.now("max", m.ESCALATOR_OUTBOX_AGE.name), "oldest waiting"),
                Query(ask.now("max", m.ESCALATOR_TEST_SECONDS.name), "test page"),
            ),
            limit=100.0,
            hop=HOP,
        ),
    )


def _watch() -> tuple[Panel, ...]:
    return (
        Panel(
            "Watchers that see",
            "short",
            "1 for each that showed the watch that it works. The watch needs none of them, and pages by itself.",
            "0: `spillway watch --once` says why, and alerts/watch/README.md what is asked.",
            (Query(ask.now("min", m.WATCH_SIGHT.name, "watcher"), "{{watcher}}"),),
            limit=1.0,
            falling=True,
            hop=HOP,
        ),
        Panel(
            "Messages of the watch",
            "short",
            "Pages, and ends of pages, that it sent in the last hour, by channel; `none`: it has no channel.",
            "Failed: the address or the key of that channel is wrong, or it is away. It is tried again at each look.",
            (Query(f"sum by (channel, outcome) (increase({m.WATCH_MESSAGES.name}[1h]))", "{{channel}} {{outcome}}"),),
            hop=HOP,
        ),
    )


def _processes() -> tuple[Panel, ...]:
    return (
        Panel(
            "Running for, by worker",
            "s",
            "Since when each process runs. A line that falls to 0 is a restart.",
            "One that falls again and again dies in a loop: its log says of what.",
            (Query(f"time() - {ask.now('max', m.PROCESS_START.name, 'process, worker')}", "{{worker}}"),),
            hop=HOP,
        ),
        Panel(
            "Crashes in ten minutes, by worker",
            "short",
            "Bad ends, as the supervisor saw them: killed, an exit code, not ready in time. A drain is none.",
            "Read the end of its log; `spillway status` shows the last exit.",
            (Query(f"sum by (process, worker) (increase({m.PROCESS_CRASHES.name}[10m]))", "{{worker}}"),),
            limit=1.0,
            hop=HOP,
        ),
        Panel(
            "CPU cores used, by worker",
            "short",
            "Of Python a process uses about one core at most. Spark's JVM is not in it.",
            "A door near 1: start another worker of it. The machine full: see who else takes it.",
            (Query(ask.rate(m.PROCESS_CPU_SECONDS.name, "process, worker"), "{{worker}}"),),
            limit=0.9,
            hop=HOP,
        ),
        Panel(
            "Calls that AWS did not do, by service and kind",
            "cps",
            "Denied: a policy, a grant, a disabled key. Throttled. Unavailable: broken or not reached. Clock: our time is wrong.",
            "Denied is a person's work: what was changed in IAM or KMS? The others are retried, and tell where it is slow.",
            (Query(ask.rate(m.AWS_FAILURES.name, "service, kind"), "{{service}} {{kind}}"),),
            limit=0.1,
            hop=HOP,
        ),
        Panel(
            "Our clock less AWS's, by worker",
            "s",
            "To a second, and late by as long as an answer took.",
            "Minutes: signatures are refused, and accept times are wrong. Mend the machine's time service.",
            (Query(ask.now("max", m.AWS_CLOCK_SKEW_SECONDS.name, "process, worker"), "{{worker}}"),),
            limit=5.0,
            hop=HOP,
        ),
    )
