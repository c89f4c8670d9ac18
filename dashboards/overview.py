"""The page to open at night: is it well, which hop is to blame, and what might be the cause, in that order from top to bottom.

First row: what users feel, one number each, red when it is not as promised. Then what came in against what came out. Then every
signal that has a limit, as a share of that limit, so that whatever is above 1 is the place to look. Then the hops in the order of
the path. Causes come last: they explain, they do not page.
"""

from dashboards.links import failed_traces
from dashboards.page import Ask, Page, Panel, Query, Row, share
from dashboards.signals import ORDER, signal_number
from telemetry import metrics as m
from telemetry.hops import EXITS, HOPS, Hop

UID = "spillway-overview"
ask = Ask()
# What the gRPC door accepted is what entered: the transcoder brings the HTTP door's events there too.
ENTERED = ask.rate(m.DOOR_EVENTS.name, door="grpc", status="~accepted|queued")
_WIDTH, _HEIGHT = 4, 4


def page() -> Page:
    return Page(
        uid=UID,
        title="Overview",
        description="Is the pipeline well, and if not, where? Read from top to bottom: symptoms, flow, hops in order, causes.",
        rows=(
            Row("Is it well? What users feel", _symptoms()),
            Row("Does what comes in come out?", _flow()),
            Row("Which hop? Everything above 1 is over its limit", tuple(_of_limit(kind) for kind in ORDER[1:])),
            *(Row(_path_title(hop), tuple(signal_number(hop, kind) for kind in ORDER)) for hop in HOPS),
            Row("Possible causes", _causes()),
        ),
    )


def _symptoms() -> tuple[Panel, ...]:
    answered = ask.rate(m.DOOR_EVENTS.name)
    again = ask.rate(m.DOOR_EVENTS.name, status="retry")
    judged = ask.rate(m.TRACES_JUDGED.name)
    whole = ask.rate(m.TRACES_JUDGED.name, verdict="whole")
    dead = f"{ask.rate(m.DEAD_LETTERS.name)} or {judged} * 0"
    lost = f"{ask.rate(m.DOOR_LOST_EVENTS.name)} + {ask.rate(m.BACKUP_DAMAGE.name)}"
    return (
        Panel(
            "Events taken in",
            "eps",
            "Events that both doors stored, each counted once.",
            "0 with producers at work: nobody gets in. See the doors below.",
            (Query(ENTERED, "events"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            traces='{ span.spillway.hop = "grpc-door" }',
        ),
        Panel(
            "Asked to send again",
            "percentunit",
            "Share of answers at the doors that were `retry`. Producers feel this as delay; nothing is lost yet.",
            "Look at bytes in flight at the doors and at Kinesis writes below.",
            (Query(share(again, answered), "share"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.01,
            traces=failed_traces(),
        ),
        Panel(
            "Answer time, p99",
            "s",
            "99 of 100 requests at the doors are answered within this.",
            "Click through to traces of this time and look for the longest span.",
            (Query(ask.quantile(0.99, m.DOOR_REQUEST_SECONDS.name), "p99"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=1.0,
            traces='{ span.spillway.hop =~ ".*-door" && duration > 500ms }',
        ),
        Panel(
            "Stalest exit, p99",
            "s",
            "From acceptance to being visible at the slowest of lake, RDS and Redis.",
            "See freshness by exit below; then that exit's page.",
            (Query(f"max({ask.quantile(0.99, m.ETL_FRESHNESS_SECONDS.name, 'exit')})", "p99"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=60.0,
            traces='{ span.spillway.hop = "lake" }',
        ),
        Panel(
            "Dead letters",
            "eps",
            "Events that could not go on. They are kept whole, and can be replayed after mending.",
            "See possible causes at the bottom for hop and reason; `spillway dlq` shows the events.",
            (Query(dead, "events"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.1,
            traces='{ span.spillway.final = "dead_letter" }',
        ),
        Panel(
            "Lost or damaged",
            "eps",
            "Fire-and-forget events that could not be written, and damaged places in the backup. Promised: 0.",
            "Any figure above 0 is an incident. `spillway ledger` names the events.",
            (Query(lost, "events"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.001,
            traces=failed_traces(),
        ),
        Panel(
            "Whole traces",
            "percentunit",
            "Share of the judged events whose trace has every hop. Promised: 99.9 %. It says how far to trust the traces.",
            "See delivery and freshness for the hop that is missing most often.",
            (Query(f"({whole}) / (({judged}) > 0) or ({judged}) * 0 + 1", "whole"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.999,
            falling=True,
            traces="{ }",
            decimals=2,
        ),
        Panel(
            "Processes that do not answer",
            "short",
            "Processes that Prometheus knows and cannot scrape. A dead process and one that hangs look the same here.",
            "`spillway status` names it; its log says why. The stack restarts what dies.",
            (Query("count(up == 0) or count(up) * 0", "down"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=1.0,
            traces=failed_traces(),
        ),
        Panel(
            "Producers' buffer",
            "percentunit",
            "The fullest SDK buffer of its limit. Producers hold what the doors do not take.",
            "Filling while the doors answer quickly: the network between. Otherwise mend the door.",
            (Query(f"max({m.SDK_BUFFER_BYTES.name} / {m.SDK_BUFFER_LIMIT_BYTES.name})", "fullest"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.8,
            hop="sdk",
        ),
        Panel(
            "Behind the tip, worst reader",
            "s",
            "How far the slowest reader of any shard is behind.",
            "Rising steadily: more comes in than the transcoder or the redactor can take. See their pages.",
            (Query(ask.now("max", m.CONSUMER_BEHIND_SECONDS.name), "behind"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=30.0,
            hop="redactor",
        ),
        Panel(
            "Fullest shard",
            "percentunit",
            "The busiest shard of what a shard takes: 1 MiB or 1,000 records a second.",
            "Above 80 %: split it now, before it throttles. Capacity and trends says which one.",
            (Query(_saturation("kinesis"), "of its limit"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=0.8,
            hop="kinesis",
        ),
        Panel(
            "Backup behind, p99",
            "s",
            "How old the newest events are that are not in the backup: what a loss of the stream would cost.",
            "Above Firehose's buffer time of 5 minutes: see the backup's page.",
            (Query(ask.quantile(0.99, m.BACKUP_FRESHNESS_SECONDS.name), "p99"),),
            "number",
            width=_WIDTH,
            height=_HEIGHT,
            limit=900.0,
            hop="backup",
        ),
    )


def _flow() -> tuple[Panel, ...]:
    exits = tuple(Query(ask.rate(m.ETL_ROWS.name, exit=exit, outcome="~loaded|duplicate"), exit) for exit in EXITS)
    return (
        Panel(
            "Entered, and arrived at each exit",
            "eps",
            "All lines should lie on each other, the exits later by their freshness. Where a line stays below the one before, "
            "events wait or die between the two.",
            "Find the first line that is lower and open that hop's page. Lines that recover were waiting, not lost.",
            (
                Query(ENTERED, "entered"),
                Query(ask.rate(m.CONSUMER_EVENTS.name, part="redactor", outcome="delivered"), "redacted"),
                *exits,
                Query(ask.rate(m.BACKUP_EVENTS.name, stream="events"), "backup"),
            ),
            hop="redactor",
        ),
        Panel(
            "Freshness by exit, 99th percentile",
            "s",
            "From the door's accept time to being visible. One exit high: that exit. All high: the redactor, Kinesis or Spark.",
            "Click a dot to see one event's trace and where it waited.",
            (Query(ask.quantile(0.99, m.ETL_FRESHNESS_SECONDS.name, "exit"), "{{exit}}", exemplars=True),),
            limit=60.0,
            hop="lake",
        ),
    )


def _of_limit(kind: str) -> Panel:
    hops = [hop for hop in HOPS if hop.signals[kind].limit]
    queries = tuple(Query(f"({_signal(hop, kind)}) / {hop.signals[kind].limit:g}", hop.title) for hop in hops)
    return Panel(
        f"{kind.capitalize()} of the limit, by hop",
        "percentunit",
        f"Each hop's {kind} divided by its own limit, so that hops compare. Above 100 % is too much.",
        "The highest line names the hop. If several are high, the one that is latest in the path is usually the cause, since "
        "what is full there presses back.",
        queries,
        width=8,
        limit=1.0,
        traces=failed_traces(),
    )


def _signal(hop: Hop, kind: str) -> str:
    return hop.signals[kind].at(ask.window)


def _saturation(name: str) -> str:
    return next(_signal(hop, "saturation") for hop in HOPS if hop.name == name)


def _path_title(hop: Hop) -> str:
    return f"{hop.title}: {hop.takes} → {hop.gives}"


def _causes() -> tuple[Panel, ...]:
    return (
        Panel(
            "Dead letters by hop and reason",
            "eps",
            "Where events died and why.",
            "One reason that jumps is one cause. Read one event with `spillway dlq`, mend, replay.",
            (
                Query(
                    f"{ask.rate(m.DEAD_LETTERS.name, 'stage, reason')} or {_none('stage', m.CONSUMER_EVENTS.name)}",
                    "{{stage}} {{reason}}",
                ),
            ),
            width=8,
            traces='{ span.spillway.final = "dead_letter" }',
        ),
        Panel(
            "Refused at the doors, by reason",
            "eps",
            "Reason words as the producers were told them.",
            "overloaded, throttled, unavailable, deadline: ours to mend. All others: a producer's.",
            (
                Query(
                    f"{ask.rate(m.DOOR_REJECTIONS.name, 'door, reason')} or {_none('door', m.DOOR_EVENTS.name)}",
                    "{{door}} {{reason}}",
                ),
            ),
            width=8,
            traces='{ span.spillway.final = "rejected" }',
        ),
        Panel(
            "Kinesis attempts that were not confirmed",
            "suffix: rec/s",
            "Throttled: a shard is full. Failed: the endpoint did not answer.",
            "Throttled: see which shard is fullest and split it. Failed: check the endpoint and the credentials.",
            (Query(ask.rate(m.KINESIS_WRITE_RECORDS.name, "stream, outcome", outcome="!written"), "{{stream}} {{outcome}}"),),
            width=8,
            hop="kinesis",
        ),
        Panel(
            "Readers stopped, by kind",
            "cps",
            "Failures that stopped a shard's reader. Leases that change hands at a deployment are normal.",
            "Steady: open that worker's log.",
            (
                Query(
                    f"{ask.rate(m.CONSUMER_FAILURES.name, 'part, kind')} or {_none('part', m.CONSUMER_EVENTS.name)}",
                    "{{part}} {{kind}}",
                ),
            ),
            width=8,
            hop="redactor",
        ),
        Panel(
            "Failed micro-batches and backup rounds",
            "cps",
            "Both are repeated whole. Steady failures stop an exit or leave the backup unread.",
            "Open the log of the ETL or of the auditor at this time.",
            (
                Query(ask.rate(m.ETL_FAILURES.name, "exit"), "{{exit}}"),
                Query(ask.rate(m.BACKUP_AUDIT_FAILURES.name), "auditor"),
            ),
            width=8,
            hop="lake",
        ),
        Panel(
            "Processes that answer",
            "short",
            "Workers that Prometheus can scrape, by process. A step down is a crash, a drain or a scale-in.",
            "Compare with deployments; `spillway status` shows restarts.",
            (Query("sum by (process) (up)", "{{process}}"),),
            width=8,
            traces=failed_traces(),
        ),
    )


def _none(label: str, metric: str) -> str:
    """A series "none" at 0, for counters that begin to exist with their first event."""
    return f'label_replace({ask.rate(metric)} * 0, "{label}", "none", "", "")'
