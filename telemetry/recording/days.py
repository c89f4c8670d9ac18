"""Daily aggregates: each is of the 24 hours before, so that one point a day is that day, and a line through all is the trend.

They are trends and no accounts: a restart of Prometheus leaves a hole, and a counter's first events come before its first scrape.
What was lost or doubled is counted by the ledger, by identity. A split shard's peak counts for a day after the split.
"""

from telemetry import metrics as m
from telemetry.recording import golden
from telemetry.recording.record import Group, Record

EVENTS = "tenant_type:events:increase1d"
BYTES = "stream:bytes:increase1d"
SHARD_PEAK = "stream_shard:use:max1d"
DEAD_LETTERS = "stage_reason:dead_letters:increase1d"
FRESHNESS = "exit:freshness_seconds:p99_1d"

# Whatever comes in by HTTP is brought to the gRPC door by the transcoder: counted there, each event counts once.
ENTRY = 'door="grpc"'


def _increase(metric: m.Metric, by: str, where: str = "") -> str:
    return f"sum by ({by}) (increase({metric.name}{where}[1d]))"


_FRESHNESS_BUCKETS = f"increase({m.ETL_FRESHNESS_SECONDS.name}_bucket[1d])"

GROUP = Group(
    "spillway-days",
    4,
    (
        Record(
            EVENTS,
            "Events of a day, by tenant and type",
            "events",
            _increase(m.DOOR_TENANT_EVENTS, "tenant, type", f"{{{ENTRY}}}"),
            ("tenant", "type"),
        ),
        Record(BYTES, "Bytes written in a day, by stream", "bytes", _increase(m.KINESIS_WRITE_BYTES, "stream"), ("stream",)),
        Record(
            SHARD_PEAK,
            "A day's fullest minute of each shard",
            "ratio",
            f"max_over_time({golden.SHARD_USE}[1d])",
            ("stream", "shard"),
            compared_with="1 MiB or 1,000 records a second, whichever is nearer",
        ),
        Record(
            DEAD_LETTERS,
            "Dead letters of a day, by hop and reason",
            "events",
            _increase(m.DEAD_LETTERS, "stage, reason"),
            ("stage", "reason"),
        ),
        Record(
            FRESHNESS,
            "A day's freshness by exit, 99th percentile",
            "seconds",
            f"histogram_quantile(0.99, sum by (exit, le) ({_FRESHNESS_BUCKETS})) >= 0"
            f" or sum by (exit) ({_FRESHNESS_BUCKETS}) * 0",
            ("exit",),
        ),
    ),
)
