"""The four golden signals of each hop at one window: cheap to read for the overview, the console and every alert rule.

A hop's own page still asks raw series, since its reader chooses a worker and a window.
"""

from telemetry import metrics as m
from telemetry.hops import HOPS, Hop
from telemetry.recording.record import Group, Record

# At least three scrapes, at up to 20 s a scrape.
WINDOW = "1m"
TRAFFIC = "hop:traffic:rate1m"
ERRORS = "hop:errors:rate1m"
LATENCY = "hop:latency_seconds:p99_1m"
SATURATION = "hop:saturation:now"
NAMES = {"traffic": TRAFFIC, "errors": ERRORS, "latency": LATENCY, "saturation": SATURATION}

SHARD_USE = "stream_shard:use:rate1m"
# What a shard takes. Source: Kinesis Data Streams quotas.
SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND = 1048576, 1000


def _signals(hop: Hop) -> tuple[Record, ...]:
    return tuple(
        Record(
            name=NAMES[kind],
            title=f"{hop.title}: {signal.title}",
            unit=signal.unit,
            expr=signal.at(WINDOW),
            labels=("hop",),
            fixed={"hop": hop.name},
            compared_with="" if signal.limit is None else f"its limit, {signal.limit:g}",
        )
        for kind, signal in hop.signals.items()
    )


def _shard_use() -> Record:
    """The greater share of a shard's two limits."""

    def share(metric: m.Metric, limit: int) -> str:
        return f"(sum by (stream, shard) (rate({metric.name}[{WINDOW}])) / {limit})"

    size = share(m.KINESIS_WRITE_BYTES, SHARD_BYTES_PER_SECOND)
    records = share(m.KINESIS_SHARD_RECORDS, SHARD_RECORDS_PER_SECOND)
    return Record(
        name=SHARD_USE,
        title="Use of each shard, of what it takes",
        unit="ratio",
        expr=f"({size} >= {records}) or {records}",
        labels=("stream", "shard"),
        compared_with="1 MiB or 1,000 records a second, whichever is nearer",
    )


GROUP = Group("spillway-golden", 1, (*(record for hop in HOPS for record in _signals(hop)), _shard_use()))
