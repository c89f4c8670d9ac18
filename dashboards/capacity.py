"""Capacity and trends: how full everything is, how long until it is too full, and whether what comes in is as usual.

Trends are read from recording rules (`telemetry.recording`), which say what they are fitted to and what they are compared with:
the legends repeat it, so that nobody takes a line through an hour for one through four weeks.
"""

from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m
from telemetry.hops import BY_NAME, batch_fullness
from telemetry.recording import bands, days, forecasts, golden

UID = "spillway-capacity"
ask = Ask()
# Readers that are behind by seconds of a day would be a line along the bottom.
_BUT_READERS = f'{{resource!="{forecasts.RETENTION}"}}'
_FAR = f"{forecasts.DAYS_MAX} days means: not in sight."


def page() -> Page:
    return Page(
        uid=UID,
        title="Capacity and trends",
        description="How full everything is, how many days are left, and whether tenants and types send what they usually send.",
        rows=(
            Row("How full", _fullness()),
            Row("How long until it is full, and how far to trust that", _forecasts()),
            Row("As usual? By tenant and type", _bands()),
            Row("Day by day: each point is of the 24 hours before it", _days()),
        ),
        from_ago="now-6h",
    )


def _fullness() -> tuple[Panel, ...]:
    in_flight, limit = m.DOOR_IN_FLIGHT_BYTES.name, m.DOOR_IN_FLIGHT_LIMIT_BYTES.name
    return (
        Panel(
            "Use of each shard",
            "percentunit",
            "Of what a shard takes (1 MiB or 1,000 records a second), the greater of the two.",
            "Above 80 %: split it. One far above the others: a hot key.",
            (Query(golden.SHARD_USE, "{{stream}} {{shard}}"),),
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
            "Batch time of what keeps up, by exit",
            "percentunit",
            "How long a micro-batch takes, of the longest stretch of stream that one may hold. At 100 % the exit falls behind.",
            "Above 80 %: more cores, or a longer stretch (SPILLWAY_ETL_BATCH_SPAN_SECONDS).",
            (Query(batch_fullness(" by (exit)").replace("$window", ask.window).replace("$selector", ""), "{{exit}}"),),
            width=8,
            limit=0.8,
            hop="lake",
        ),
        Panel(
            "Spark: what comes of what it takes",
            "percentunit",
            "Input rate by processing rate, by exit: how much of the time it works. At 100 % it never pauses, which is no harm "
            "as long as a batch's time keeps up.",
            "Lasting 100 %, and batches that take longer: more cores.",
            (
                Query(
                    f"sum by (exit) ({m.ETL_INPUT_RATE.name}) / (sum by (exit) ({m.ETL_PROCESSING_RATE.name}) > 0)"
                    f" or sum by (exit) ({m.ETL_INPUT_RATE.name}) * 0",
                    "{{exit}}",
                ),
            ),
            width=8,
            hop="lake",
        ),
        Panel(
            "Trace store of its limit",
            "percentunit",
            "At 100 % the oldest traces go, which is by design.",
            "Raise the limit if traces are gone before you need them.",
            (Query(forecasts.of(forecasts.USE, forecasts.STORE), "store"),),
            width=12,
            limit=0.95,
            hop="telemetry",
        ),
        Panel(
            "Disk of its size",
            "percentunit",
            "The disk that the trace store lies on; in a local stack all that is kept lies there.",
            "Above 90 %: make room. Telemetry is lost first, and says so; then the emulator and the databases refuse.",
            (Query(f"max({m.DISK_USED_BYTES.name}) / (max({m.DISK_SIZE_BYTES.name}) > 0)", "disk"),),
            width=12,
            limit=0.9,
            hop="telemetry",
        ),
    )


def _forecasts() -> tuple[Panel, ...]:
    limit = forecasts.BY_NAME[forecasts.SHARDS].limit
    return (
        Panel(
            f"Shards: days to {limit * 100:g} %",
            "d",
            f"A day's fullest minute of the fullest shard, at its growth; what the growth is fitted to is named. {_FAR}",
            "Below a week: split the stream's shards. After a split the old peak counts for a day. Fitted to the last hour: do "
            "not believe it yet.",
            (Query(_left(forecasts.SHARDS), "{{stream}}: {{fitted_to}}"),),
            "number",
            width=10,
            height=5,
            hop="kinesis",
        ),
        Panel(
            f"Disk: days to {forecasts.BY_NAME[forecasts.DISK].limit * 100:g} %, trace store: to its limit",
            "d",
            f"At their growth; what the growth is fitted to is named. {_FAR} Store, 0 days: full, and the oldest traces go, "
            "which is by design.",
            "Below a week: make room on the disk; raise the store's limit or sample less. Fitted to the last hour: do not "
            "believe it yet.",
            (
                Query(_left(forecasts.DISK), "disk: {{fitted_to}}"),
                Query(_left(forecasts.STORE), "store: {{fitted_to}}"),
            ),
            "number",
            width=8,
            height=5,
            hop="telemetry",
        ),
        Panel(
            "Readers: time until records are forgotten",
            "s",
            f"How long until a reader is as far behind as Kinesis remembers ({forecasts.RETENTION_SECONDS // 3600} hours), if it "
            f"goes on falling behind as in the last 15 minutes. {_FAR}",
            "Below half of it: lengthen the stream's retention first, then mend the reader.",
            (Query(f"{forecasts.HOURS_TO_LOSS} * 3600", "{{part}}"),),
            "number",
            width=6,
            height=5,
            limit=forecasts.RETENTION_SECONDS / 2,
            falling=True,
            hop="redactor",
        ),
        Panel(
            "Use, and what was forecast for now",
            "percentunit",
            "The forecast was made as long ago as its name says. Where both lines lie on each other, forecasts can be trusted.",
            "Lines that part: something has changed since then. Find out what before you believe the days above.",
            (
                Query(f"max by (resource) ({forecasts.USE}{_BUT_READERS})", "{{resource}}"),
                Query(f"max by (resource, ahead) ({forecasts.FORECAST}{_BUT_READERS})", "{{resource}}, {{ahead}} ago"),
            ),
            hop="kinesis",
        ),
        Panel(
            "Error of the forecast for now",
            "percentunit",
            "How far what was forecast for now is from what is now, as a share of what there is: for shards and store as it was "
            "forecast a day ago, for readers an hour ago, or as long ago as there has been a forecast.",
            "Above 10 %: the days above are worth nothing until the new course is in the history that they are fitted to.",
            (Query(f"max by (resource, ahead) ({forecasts.FORECAST_ERROR})", "{{resource}}, {{ahead}} ago"),),
            limit=0.1,
            hop="kinesis",
        ),
    )


def _left(resource: str) -> str:
    return forecasts.of(forecasts.DAYS_TO_LIMIT, resource)


def _bands() -> tuple[Panel, ...]:
    return (
        Panel(
            "Stored events by tenant and type",
            "eps",
            "What each tenant sends of each type, over 5 minutes.",
            "A line that stops: ask that tenant what was released.",
            (Query(_named(bands.RATE), "{{of}}"),),
            hop="grpc-door",
        ),
        Panel(
            "What is usual now, and compared with what",
            "eps",
            f"From and to: {bands.WIDTHS} widths either side of the mean of the same hour of the last 4 weeks; without two such "
            "weeks of the last 7 days, without two such days of the last hours. The name says which.",
            "Compared with the last hours alone, a daily rhythm looks unusual at its edges.",
            (
                Query(_named(bands.UPPER), "{{of}} to, {{compared_with}}"),
                Query(_named(bands.LOWER), "{{of}} from, {{compared_with}}"),
            ),
            hop="grpc-door",
        ),
        Panel(
            "How unusual",
            "short",
            "How many widths of its band each rate is away from what is expected. A width is a standard deviation, but at least "
            f"a tenth of the mean and {bands.WIDTH_EVENTS_PER_SECOND_MIN:g} events/s. A tenant that is expected and gone: 0.",
            "Above 3: look at that line beside. Many lines at once: it is us, not a tenant.",
            (Query(f"abs({_named(bands.DEVIATIONS)})", "{{of}}: {{compared_with}}"),),
            limit=float(bands.WIDTHS),
            hop="grpc-door",
        ),
        Panel(
            "Compared with what, how many",
            "short",
            "Of how many tenants and types what is usual is known from weeks, from days, or only from hours.",
            "Many at the last hours: Prometheus has lost its history, or everything is new.",
            (Query(f"count by (compared_with) ({bands.DEVIATIONS})", "{{compared_with}}"),),
            hop="grpc-door",
        ),
    )


def _named(series: str) -> str:
    """With a label `of`: tenant and type without its package, short enough for a legend."""
    short = f'label_replace({series}, "of", "$1", "type", "(?:.*[.])?(.+)")'
    return f'label_join({short}, "of", " ", "tenant", "of")'


def _days() -> tuple[Panel, ...]:
    none = f'label_replace(max({golden.TRAFFIC}{{hop="redactor"}}) * 0, "stage", "none", "", "")'
    return (
        Panel(
            "Events a day, by tenant and type",
            "short",
            "Events that the gRPC door stored, whichever door they came by. A trend and no account: `spillway ledger` counts.",
            "A tenant that fades over days: ask before it leaves.",
            (Query(_named(days.EVENTS), "{{of}}"),),
            width=8,
            hop="grpc-door",
        ),
        Panel(
            "Bytes a day, by stream",
            "bytes",
            "What was confirmed by Kinesis.",
            "Growing faster than events: events have become bigger. See who sends what.",
            (Query(days.BYTES, "{{stream}}"),),
            width=8,
            hop="kinesis",
        ),
        Panel(
            "A day's fullest minute, by shard",
            "percentunit",
            "Peak use of each shard. A shard above the others day after day holds a hot key.",
            "Above 80 %: split it.",
            (Query(days.SHARD_PEAK, "{{stream}} {{shard}}"),),
            width=8,
            limit=0.8,
            hop="kinesis",
        ),
        Panel(
            "Dead letters a day",
            "short",
            "Events that could not go on, by hop and reason. They are kept whole.",
            "Rising from day to day: a producer's release. Read one with `spillway dlq`, mend, replay.",
            (Query(f"{days.DEAD_LETTERS} or {none}", "{{stage}} {{reason}}"),),
            traces='{ span.spillway.final = "dead_letter" }',
        ),
        Panel(
            "A day's freshness by exit, 99th percentile",
            "s",
            "From the door's accept time to being visible: 99 of 100 events of the day were within this.",
            "Rising from day to day: the exit is outgrown. See Spark, of what it can take.",
            (Query(days.FRESHNESS, "{{exit}}"),),
            limit=BY_NAME["lake"].latency.limit,
            hop="lake",
        ),
    )
