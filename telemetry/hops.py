"""The hops of the path, declared once: dashboards, rules, the console, the trace judge, the canary and the drills read this.

A hop has four signals, each a PromQL query over metrics of the catalogue: traffic, errors, latency, saturation. `$window` is the
range that the reader chooses; `$selector` is what it adds to every selector (empty, or `,worker="grpc-1"`). A query that divides
never divides by nothing that happened: an idle hop reads as 0, and only a hop that does not report reads as no data.

To add a hop: one entry in `HOPS`. Tests fail until each of its signals has data in a live run, and until every event's trace is
judged by it.
"""

from dataclasses import dataclass
from typing import Literal

from telemetry import metrics as m
from telemetry.metrics import Metric

# How long the streams are provisioned to keep a record: a reader that is further behind loses it. At least a week, since Firehose
# gives up at a stream's retention (TRAPS 27).
STREAM_RETENTION_HOURS = 168

Unit = Literal["events/s", "records/s", "ratio", "seconds", "bytes", "objects/s", "items/s"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One golden signal. `limit` is where it is full, or too slow, if there is such a figure."""

    title: str
    query: str
    unit: Unit
    limit: float | None = None

    def at(self, window: str = "1m", selector: str = "") -> str:
        query = self.query.replace("$window", window).replace("$selector", selector)
        # A selector without labels of its own begins with what the reader adds.
        return query.replace("{,", "{")


@dataclass(frozen=True, slots=True)
class Hop:
    # As in `spillway.hop` of spans.
    name: str
    title: str
    takes: str
    gives: str
    # Hops that an event comes from. The span of the first that applies is the parent.
    after: tuple[str, ...]
    traffic: Signal
    errors: Signal
    latency: Signal
    saturation: Signal
    # The process (label `process` of its Prometheus target); empty for the SDK, which lives in the producer.
    process: str
    # A trace of an event is whole only with a span of this hop: of every event, of those that came by HTTP, or of none.
    traced: Literal["always", "http", "sdk", "never"] = "always"

    @property
    def signals(self) -> dict[str, Signal]:
        return {"traffic": self.traffic, "errors": self.errors, "latency": self.latency, "saturation": self.saturation}


def _sum_rate(metric: Metric, by: str = "", **labels: str) -> str:
    return f"sum{by}(rate({metric.name}{_where(**labels)}[$window]))"


def _where(**labels: str) -> str:
    """Selectors; a value that begins with `~` is a regular expression, with `!` a negation."""
    parts = []
    for name, value in labels.items():
        operator, text = (
            ("=~", value[1:]) if value.startswith("~") else ("!=", value[1:]) if value.startswith("!") else ("=", value)
        )
        parts.append(f'{name}{operator}"{text}"')
    return "{" + ",".join(parts) + "$selector}"


def _share(part: str, whole: str) -> str:
    """`part` of `whole`, 0 while nothing happens."""
    return f"({part}) / ({whole} > 0) or ({whole}) * 0"


def _quantile(metric: Metric, quantile: float, **labels: str) -> str:
    """0 while nothing happens, but no data if the hop does not report."""
    rate = f"rate({metric.name}_bucket{_where(**labels)}[$window])"
    return f"histogram_quantile({quantile}, sum by (le) ({rate})) >= 0 or sum({rate}) * 0"


def _p99(title: str, metric: Metric, limit: float, **labels: str) -> Signal:
    return Signal(f"{title}, 99th percentile", _quantile(metric, 0.99, **labels), "seconds", limit)


def _door(door: str, title: str, takes: str, gives: str, after: tuple[str, ...]) -> Hop:
    bad = _sum_rate(m.DOOR_EVENTS, door=door, status="retry")
    of_door = _where(door=door)
    return Hop(
        name=f"{door}-door",
        title=title,
        takes=takes,
        gives=gives,
        after=after,
        traffic=Signal("Events answered", _sum_rate(m.DOOR_EVENTS, door=door), "events/s"),
        errors=Signal("Asked to send again", _share(bad, _sum_rate(m.DOOR_EVENTS, door=door)), "ratio", 0.01),
        latency=_p99("Request to answer", m.DOOR_REQUEST_SECONDS, 1.0, door=door),
        saturation=Signal(
            "Bytes in flight of the limit",
            f"sum({m.DOOR_IN_FLIGHT_BYTES.name}{of_door}) / sum({m.DOOR_IN_FLIGHT_LIMIT_BYTES.name}{of_door})",
            "ratio",
            0.8,
        ),
        process=door,
        traced="http" if door == "http" else "always",
    )


def _worker(part: str, title: str, takes: str, gives: str, after: tuple[str, ...], traced: Literal["always", "http"]) -> Hop:
    dead = _sum_rate(m.CONSUMER_EVENTS, part=part, outcome="dead_letter")
    stops = _sum_rate(m.CONSUMER_FAILURES, part=part)
    everything = _sum_rate(m.CONSUMER_EVENTS, part=part)
    return Hop(
        name=part,
        title=title,
        takes=takes,
        gives=gives,
        after=after,
        traffic=Signal("Events processed", everything, "events/s"),
        errors=Signal("Dead letters and failures", f"({dead}) + ({stops})", "events/s", 0.1),
        latency=_p99("Delivery to last write", m.CONSUMER_PROCESS_SECONDS, 2.0, part=part),
        saturation=Signal(
            "Behind the tip of the stream", f"max({m.CONSUMER_BEHIND_SECONDS.name}{_where(part=part)})", "seconds", 30.0
        ),
        process=part,
        traced=traced,
    )


def _exit(exit: str, title: str) -> Hop:
    dead = _sum_rate(m.ETL_ROWS, exit=exit, outcome="~dead|conflict")
    failures = _sum_rate(m.ETL_FAILURES, exit=exit)
    return Hop(
        name=exit,
        title=title,
        takes="events-clean",
        gives=exit,
        after=("redactor",),
        traffic=Signal("Rows loaded", _sum_rate(m.ETL_ROWS, exit=exit), "events/s"),
        errors=Signal("Dead letters, conflicts and failed batches", f"({dead}) + ({failures})", "events/s", 0.1),
        latency=_p99("Accepted to visible", m.ETL_FRESHNESS_SECONDS, 60.0, exit=exit),
        saturation=Signal("Batch time of what keeps up", batch_fullness(exit=exit), "ratio", 0.8),
        process="etl",
    )


def batch_fullness(by: str = "", **labels: str) -> str:
    """How long a micro-batch takes, or has been under way, of the longest stretch of stream that it may hold.

    The more comes, the longer a batch takes, the more comes meanwhile: at 1 the next batch may not hold all of that, and the exit
    falls behind. Spark's own rates do not show it: a query that never pauses takes exactly what comes, at any load.
    """
    where = _where(**labels)
    count = f"sum{by}(rate({m.ETL_BATCH_SECONDS.name}_count{where}[$window]))"
    taken = f"(sum{by}(rate({m.ETL_BATCH_SECONDS.name}_sum{where}[$window])) / ({count} > 0))"
    since = f"(time() - max{by}({m.ETL_LAST_BATCH.name}{where}))"
    return f"(({taken} >= {since}) or {since}) / max{by}({m.ETL_BATCH_LIMIT_SECONDS.name}{where})"


_BYTES = f"(sum by (stream, shard) (rate({m.KINESIS_WRITE_BYTES.name}{_where()}[$window])) / 1048576)"
_RECORDS = f"(sum by (stream, shard) (rate({m.KINESIS_SHARD_RECORDS.name}{_where()}[$window])) / 1000)"
_WRITTEN = _sum_rate(m.KINESIS_WRITE_RECORDS, outcome="written")

HOPS: tuple[Hop, ...] = (
    Hop(
        name="sdk",
        title="SDK",
        takes="the producer's events",
        gives="the gRPC door",
        after=(),
        traffic=Signal("Events answered", _sum_rate(m.SDK_EVENTS), "events/s"),
        errors=Signal(
            "Not accepted", _share(_sum_rate(m.SDK_EVENTS, outcome="!accepted"), _sum_rate(m.SDK_EVENTS)), "ratio", 0.01
        ),
        latency=_p99("Sent to acknowledged", m.SDK_SEND_SECONDS, 2.0),
        saturation=Signal(
            "Buffer of its limit",
            f"max({m.SDK_BUFFER_BYTES.name}{_where()} / {m.SDK_BUFFER_LIMIT_BYTES.name}{_where()})",
            "ratio",
            0.8,
        ),
        process="",
        traced="sdk",
    ),
    _door("http", "HTTP door", "CloudEvents JSON", "web-events", ()),
    _worker("transcoder", "Transcoder", "web-events", "the gRPC door", ("http-door",), "http"),
    _door("grpc", "gRPC door", "CloudEvents Protobuf", "events", ("transcoder", "sdk")),
    Hop(
        name="kinesis",
        title="Kinesis writes",
        takes="records",
        gives="web-events, events, events-clean",
        after=("grpc-door",),
        traffic=Signal("Records confirmed", _WRITTEN, "records/s"),
        errors=Signal(
            "Records not confirmed at an attempt",
            _share(_sum_rate(m.KINESIS_WRITE_RECORDS, outcome="!written"), _sum_rate(m.KINESIS_WRITE_RECORDS)),
            "ratio",
            0.01,
        ),
        latency=_p99("One PutRecords", m.KINESIS_WRITE_SECONDS, 1.0),
        # A shard takes 1 MiB and 1,000 records a second. Source: Kinesis Data Streams quotas.
        saturation=Signal(
            "Fullest shard of its limits",
            f"max(({_BYTES} >= {_RECORDS}) or {_RECORDS})",
            "ratio",
            0.8,
        ),
        process="grpc",
        traced="never",
    ),
    _worker("redactor", "Redactor", "events", "events-clean", ("grpc-door",), "always"),
    Hop(
        name="backup",
        title="Firehose backup",
        takes="web-events, events",
        gives="backup/ on S3",
        after=("grpc-door", "http-door"),
        traffic=Signal("Events in the backup", _sum_rate(m.BACKUP_EVENTS), "events/s"),
        errors=Signal(
            "Damage and failed rounds",
            f"({_sum_rate(m.BACKUP_DAMAGE)}) + ({_sum_rate(m.BACKUP_AUDIT_FAILURES)})",
            "events/s",
            0.001,
        ),
        latency=_p99("Accepted to backed up", m.BACKUP_FRESHNESS_SECONDS, 900.0),
        saturation=Signal("Oldest object not yet read", f"max({m.BACKUP_BEHIND_SECONDS.name}{_where()})", "seconds", 120.0),
        process="auditor",
    ),
    _exit("lake", "Lake"),
    _exit("rds", "RDS"),
    _exit("redis", "Redis"),
    Hop(
        name="telemetry",
        title="Telemetry itself",
        takes="spans and log lines",
        gives="the trace store",
        after=(),
        traffic=Signal("Spans and lines stored", _sum_rate(m.STORE_ITEMS, outcome="stored"), "items/s"),
        errors=Signal("Lost on the way", _sum_rate(m.TELEMETRY_ITEMS, outcome="~dropped|failed"), "items/s", 0.001),
        latency=_p99("One transaction of the store", m.STORE_WRITE_SECONDS, 0.5),
        saturation=Signal(
            "Store of its limit",
            f"max({m.STORE_BYTES.name}{_where()}) / max({m.STORE_LIMIT_BYTES.name}{_where()})",
            "ratio",
            0.95,
        ),
        process="store",
        traced="never",
    ),
)
BY_NAME = {hop.name: hop for hop in HOPS}
EXITS = ("lake", "rds", "redis")


def expected_hops(*, http: bool, sdk: bool) -> frozenset[str]:
    """The hops whose spans a whole trace of one event has."""
    wanted = {"always", *(["http"] if http else []), *(["sdk"] if sdk else [])}
    return frozenset(hop.name for hop in HOPS if hop.traced in wanted)
