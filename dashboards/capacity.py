"""Capacity and trends: how full everything is, how long until it is too full, and whether what comes in is as usual."""

from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m
from telemetry.hops import BY_NAME

UID = "spillway-capacity"
ask = Ask()
# Kinesis keeps records for a day unless told otherwise; a reader that is further behind than that loses them.
RETENTION_SECONDS = 86400
FAR_DAYS = 365
_BYTES, _RECORDS = m.KINESIS_WRITE_BYTES.name, m.KINESIS_SHARD_RECORDS.name


def page() -> Page:
    return Page(
        uid=UID,
        title="Capacity and trends",
        description="How full everything is, how many days are left, and whether tenants and types send what they usually send.",
        rows=(
            Row("How full", _fullness()),
            Row("How long until it is full", _forecasts()),
            Row("As usual? By tenant and type", _trends()),
        ),
        from_ago="now-6h",
    )


def _shard_use() -> str:
    """Share of a shard's limits, the greater of bytes (1 MiB/s) and records (1,000/s)."""
    size = f"({ask.rate(_BYTES, 'stream, shard')} / 1048576)"
    records = f"({ask.rate(_RECORDS, 'stream, shard')} / 1000)"
    return f"({size} >= {records}) or {records}"


def _fullness() -> tuple[Panel, ...]:
    in_flight, limit = m.DOOR_IN_FLIGHT_BYTES.name, m.DOOR_IN_FLIGHT_LIMIT_BYTES.name
    return (
        Panel(
            "Use of each shard",
            "percentunit",
            "Of what a shard takes (1 MiB or 1,000 records a second), the greater of the two.",
            "Above 80 %: split it. One far above the others: a hot key.",
            (Query(_shard_use(), "{{stream}} {{shard}}"),),
            width=8,
            limit=0.8,
            hop="kinesis",
        ),
        Panel(
            "Bytes in flight of the limit, by door",
            "percentunit",
            "How much of what a door may hold at once it holds.",
            "Above 80 %: the door is about to refuse. See Kinesis writes first.",
            (Query(f"{ask.now('sum', in_flight, 'door')} / {ask.now('sum', limit, 'door')}", "{{door}}"),),
            width=8,
            limit=0.8,
            hop="grpc-door",
        ),
        Panel(
            "Iterator age, by reader",
            "s",
            "How far the slowest shard of each reader is behind. Kinesis forgets after a day.",
            "Rising over an hour: add workers or shards now; an hour behind takes about an hour to make good.",
            (Query(ask.now("max", m.CONSUMER_BEHIND_SECONDS.name, "part"), "{{part}}"),),
            width=8,
            limit=BY_NAME["redactor"].saturation.limit,
            hop="redactor",
        ),
        Panel(
            "Producers' buffer or spool, of its limit",
            "percentunit",
            "The fullest SDK. A full spool makes producers wait or refuse.",
            "Mend the door; the spool drains by itself.",
            (Query(f"max by (worker) ({m.SDK_BUFFER_BYTES.name} / {m.SDK_BUFFER_LIMIT_BYTES.name})", "{{worker}}"),),
            width=8,
            limit=0.8,
            hop="sdk",
        ),
        Panel(
            "Spark: what comes of what it can take",
            "percentunit",
            "Input rate by processing rate, by exit. At 100 % it never catches up after a pause.",
            "Above 80 %: more cores, or bigger batches.",
            (
                Query(
                    f"sum by (exit) ({m.ETL_INPUT_RATE.name}) / (sum by (exit) ({m.ETL_PROCESSING_RATE.name}) > 0)"
                    f" or sum by (exit) ({m.ETL_INPUT_RATE.name}) * 0",
                    "{{exit}}",
                ),
            ),
            width=8,
            limit=0.8,
            hop="lake",
        ),
        Panel(
            "Trace store of its limit",
            "percentunit",
            "At 100 % the oldest traces go, which is by design.",
            "Raise the limit if traces are gone before you need them.",
            (Query(BY_NAME["telemetry"].saturation.at(ask.window), "store"),),
            width=8,
            limit=0.95,
            hop="telemetry",
        ),
    )


def _forecasts() -> tuple[Panel, ...]:
    left = f"({ask.now('max', m.STORE_LIMIT_BYTES.name)} - {ask.now('max', m.STORE_BYTES.name)})"
    growth = f"max(deriv({m.STORE_BYTES.name}[1h]))"
    return (
        Panel(
            "Trace store: days to its limit",
            "d",
            f"At the growth of the last hour. {FAR_DAYS} means: not in sight.",
            "Below a week: raise the limit or sample less.",
            (Query(f"clamp({left} / clamp_min({growth}, 1e-9) / 86400, 0, {FAR_DAYS})", "days"),),
            "number",
            limit=7.0,
            falling=True,
            hop="telemetry",
        ),
        Panel(
            "Readers: hours until records are forgotten",
            "s",
            "Kinesis keeps a record for a day. What is left of that for the reader that is furthest behind.",
            "Below half a day: lengthen the stream's retention first, then mend the reader.",
            (Query(f"{RETENTION_SECONDS} - {ask.now('max', m.CONSUMER_BEHIND_SECONDS.name, 'part')}", "{{part}}"),),
            "number",
            limit=RETENTION_SECONDS / 2,
            falling=True,
            hop="redactor",
        ),
    )


def _trends() -> tuple[Panel, ...]:
    return (
        Panel(
            "Stored events by tenant and type",
            "eps",
            "What each tenant sends of each type.",
            "A line that stops: ask that tenant what was released.",
            (Query(ask.rate(m.DOOR_TENANT_EVENTS.name, "tenant, type"), "{{tenant}} {{type}}"),),
            hop="grpc-door",
        ),
        Panel(
            "How unusual, against the last hour",
            "short",
            "How many standard deviations each tenant's rate of a type is away from its mean of the last hour. Compared with "
            "the last hour alone: a daily rhythm looks unusual at its edges.",
            "Above 3: look at that line beside. Many lines at once: it is us, not a tenant.",
            (Query(_unusual(), "{{tenant}} {{type}}"),),
            limit=3.0,
            hop="grpc-door",
        ),
    )


def _unusual() -> str:
    """Deviations from the mean, each at least 0.1 events/s wide, so that a trickle that stops is no alarm."""
    rate = ask.rate(m.DOOR_TENANT_EVENTS.name, "tenant, type")
    return f"abs({rate} - avg_over_time(({rate})[1h:15s])) / clamp_min(stddev_over_time(({rate})[1h:15s]), 0.1)"
