"""A pipeline that only reports: every metric of the catalogue, with every plausible label set, moving.

One HTTP server plays all processes, each at its own path, as Prometheus targets with labels `process` and `worker`. What is
reported advances with the clock at each scrape, so it needs no thread of its own: counters grow (errors slowly, but they grow, so
that no panel of errors is empty), gauges swing, histograms take in observations with exemplars.

    with stand_in() as pipeline:
        pipeline.write_targets(folder / "stack.json")     # for file_sd_configs

Whoever has traces says so by `observed`: what a histogram saw of them becomes its exemplars, in the place of ids of no trace.

By hand: `python -m tests.dashboards.stand_in --targets FILE [--port P]`. A metric that the catalogue gains is reported without
a change here, unless it has a label that is not in `LABEL_VALUES`: then a test says so.
"""

import argparse
import itertools
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from telemetry import metrics as m
from telemetry.hops import EXITS
from telemetry.metrics import CATALOGUE, OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, Metric, Metrics

STREAMS = ("web-events", "events", "events-clean")
SHARDS = ("shardId-000000000000", "shardId-000000000001")
LABEL_VALUES: dict[str, tuple[str, ...]] = {
    "door": ("http", "grpc"),
    "status": ("accepted", "queued", "rejected", "retry"),
    "stream": STREAMS,
    "shard": SHARDS,
    "part": ("transcoder", "redactor"),
    "exit": EXITS,
    "tenant": ("acme", "globex"),
    "type": ("spillway.events.v1.PageViewed", "spillway.events.v1.OrderPlaced", "spillway.events.v1.FlightDeparted"),
    "reason": ("unknown_type", "rule", "undecodable", "overloaded"),
    "outcome": ("accepted", "rejected", "lost", "expired"),
    "kind": ("downstream", "failed", "lost"),
    "stage": ("transcoder", "redactor", "etl-lake"),
    "action": ("drop", "mask", "pseudonymise", "generalise"),
    "signal": ("spans", "logs"),
    "verdict": ("whole", "partial"),
    "missing": ("", "redactor", "lake"),
    "check": ("broken_event", "personal_data"),
    "hop": ("grpc-door", "redactor", "lake"),
    "watcher": ("prometheus", "canary"),
    "channel": ("pagerduty", "log"),
    "state": ("open", "acknowledged"),
    "service": ("s3", "dynamodb"),
}
VERDICTS: dict[str, tuple[str, ...]] = {
    m.CANARY_VERDICTS.name: ("delivered", "late", "lost"),
    m.CANARY_CHECKS.name: ("held", "unknown"),
    m.LEDGER_WINDOWS.name: ("OK", "LATE", "LOST", "UNKNOWN"),
    m.LEDGER_STANDING.name: ("OK", "LATE", "LOST", "UNKNOWN"),
    m.LEDGER_FINDINGS.name: ("LOST", "DOUBLED", "PHANTOM", "CORRUPT"),
}
OUTCOMES: dict[str, tuple[str, ...]] = {
    m.KINESIS_WRITE_RECORDS.name: ("written", "throttled", "failed"),
    m.CONSUMER_EVENTS.name: ("delivered", "dead_letter"),
    m.ETL_ROWS.name: ("loaded", "duplicate", "conflict", "dead"),
    m.TELEMETRY_ITEMS.name: ("shipped", "dropped", "failed"),
    m.STORE_ITEMS.name: ("stored", "refused", "expired"),
    m.CANARY_SENT.name: ("accepted", "rejected"),
    m.CANARY_LOOKS.name: ("looked", "failed"),
    m.LEDGER_SEGMENTS.name: ("written", "failed"),
    m.WATCH_MESSAGES.name: ("sent", "failed"),
    m.ESCALATOR_NOTIFICATIONS.name: ("ok", "retry"),
}
# Of a label set's values, those that mean trouble: they grow slowly.
TROUBLE = frozenset(
    (
        "retry",
        "rejected",
        "throttled",
        "failed",
        "dead_letter",
        "conflict",
        "dead",
        "dropped",
        "refused",
        "expired",
        "lost",
        "late",
        "partial",
    )
)
TROUBLE_METRICS = frozenset(
    each.name
    for each in (
        m.DOOR_REJECTIONS,
        m.DOOR_LOST_EVENTS,
        m.CONSUMER_FAILURES,
        m.DEAD_LETTERS,
        m.ETL_FAILURES,
        m.BACKUP_DAMAGE,
        m.BACKUP_AUDIT_FAILURES,
        m.LEDGER_FINDINGS,
        m.KINESIS_WRITE_ENTRY_FAILURES,
        m.LAKE_REFUSALS,
        m.AWS_FAILURES,
        m.PROCESS_CRASHES,
    )
)
PROCESSES = ("sdk", "http", "transcoder", "grpc", "redactor", "etl", "auditor", "canary", "ledger", "store", "escalator", "watch")
# Who reports digests; the other figures of the ledger are its own.
_REPORT_DIGESTS = ("http", "transcoder", "grpc", "redactor", "auditor")
_WRITER_OF = {"web-events": "http", "events": "grpc", "events-clean": "redactor"}
MIB = 1 << 20
# Gauges: the middle they swing about, in the metric's unit. A gauge that is not here swings about 1.
_MIDDLES: dict[str, float] = {
    m.DOOR_IN_FLIGHT_BYTES.name: 12 * MIB,
    m.SDK_BUFFER_BYTES.name: 6 * MIB,
    m.SDK_PENDING_EVENTS.name: 400,
    m.CONSUMER_BEHIND_SECONDS.name: 2,
    m.ETL_INPUT_RATE.name: 900,
    m.ETL_PROCESSING_RATE.name: 2500,
    m.STORE_BYTES.name: 300 * MIB,
    m.DISK_USED_BYTES.name: 90_000 * MIB,
    m.BACKUP_BEHIND_SECONDS.name: 20,
    m.TELEMETRY_QUEUE_ITEMS.name: 60,
}
_FIXED: dict[str, float] = {
    m.DOOR_IN_FLIGHT_LIMIT_BYTES.name: 64 * MIB,
    m.SDK_BUFFER_LIMIT_BYTES.name: 64 * MIB,
    m.STORE_LIMIT_BYTES.name: 2048 * MIB,
    m.DISK_SIZE_BYTES.name: 200_000 * MIB,
    m.ETL_BATCH_LIMIT_SECONDS.name: 20,
    m.DOOR_KEYS_USABLE.name: 1,
    m.LEDGER_SIGHT.name: 1,
    m.ESCALATOR_CHANNEL_USABLE.name: 1,
    m.WATCH_SIGHT.name: 1,
    m.REDACTION_RULES.name: 12,
}
_BUSY_PER_SECOND, _TROUBLED_PER_SECOND, _BYTES_PER_SECOND = 120.0, 0.4, 260_000.0
SECONDS_AHEAD_MAX = 30.0


def label_sets(metric: Metric) -> list[dict[str, str]]:
    """Every plausible label set of the metric.

    Raises:
        KeyError: a label that is not in `LABEL_VALUES`.
    """
    own = {"outcome": OUTCOMES, "verdict": VERDICTS}
    values = [own.get(name, {}).get(metric.name, LABEL_VALUES[name]) for name in metric.labels]
    sets = [dict(zip(metric.labels, each, strict=True)) for each in itertools.product(*values)]
    # A whole trace misses nothing, a partial one misses a hop.
    return [each for each in sets if "missing" not in each or (each["verdict"] == "whole") == (each["missing"] == "")]


def process_of(metric: Metric, labels: dict[str, str]) -> tuple[str, ...]:
    """Who reports this label set."""
    if metric in (m.TELEMETRY_ITEMS, m.TELEMETRY_QUEUE_ITEMS):
        return PROCESSES
    if metric in (m.PROCESS_START, m.PROCESS_CPU_SECONDS, m.PROCESS_CRASHES):
        return PROCESSES
    if metric in (m.AWS_FAILURES, m.AWS_CLOCK_SKEW_SECONDS) or metric in (
        m.LEDGER_EVENTS,
        m.LEDGER_SEGMENTS,
        m.LEDGER_UNWRITTEN_SECONDS,
    ):
        return _REPORT_DIGESTS
    if metric.name.startswith("spillway_canary_"):
        return ("canary",)
    if "part" in labels or "door" in labels:
        return (labels.get("part") or labels["door"],)
    if "exit" in labels:
        return ("etl",)
    if "stage" in labels:
        return (labels["stage"].split("-")[0],)
    for prefix, process in (
        ("backup", "auditor"),
        ("sdk", "sdk"),
        ("store", "store"),
        ("traces", "store"),
        ("ledger", "ledger"),
        ("redacted", "redactor"),
        ("escalator", "escalator"),
        ("watch", "watch"),
        ("redaction", "redactor"),
        ("lake", "etl"),
    ):
        if metric.name.startswith(f"spillway_{prefix}_"):
            return (process,)
    return (_WRITER_OF.get(labels.get("stream", ""), "grpc"),)


Step = Callable[[float, float], None]
# What a histogram with these labels saw since it was asked last: (value, trace id).
Observed = Callable[[Metric, Mapping[str, str]], Sequence[tuple[float, str]]]


@dataclass
class Process:
    """One process's metrics; `advance` brings them up to now."""

    name: str
    seed: int
    # Of the usual pace of trouble; 0: none happens.
    trouble: float = 1.0
    observed: Observed | None = None
    metrics: Metrics = field(default_factory=Metrics)
    _steps: list[Step] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _then: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for metric in CATALOGUE:
            for labels in label_sets(metric):
                if self.name in process_of(metric, labels):
                    self._steps.append(self._step(metric, labels))

    def scraped(self, now: float, *, openmetrics: bool) -> bytes:
        with self._lock:
            seconds = min(now - self._then, SECONDS_AHEAD_MAX) if self._then else 1.0
            self._then = now
            for step in self._steps:
                step(now, seconds)
            return self.metrics.exposition(openmetrics=openmetrics)

    def _step(self, metric: Metric, labels: dict[str, str]) -> Step:
        if metric.kind == "counter":
            return self._count(metric, labels)
        return self._swing(metric, labels) if metric.kind == "gauge" else self._observe(metric, labels)

    def _count(self, metric: Metric, labels: dict[str, str]) -> Step:
        counter = self.metrics.counter(metric, **labels)
        troubled = metric.name in TROUBLE_METRICS or TROUBLE & set(labels.values())
        busy = _BYTES_PER_SECOND if "bytes" in metric.name else _BUSY_PER_SECOND
        pace = _TROUBLED_PER_SECOND * self.trouble if troubled else busy * self._random.uniform(0.5, 1.5)
        return lambda now, seconds: counter.inc(pace * seconds * (1.2 + math.sin(now / 20)))

    def _swing(self, metric: Metric, labels: dict[str, str]) -> Step:
        gauge = self.metrics.gauge(metric, **labels)
        if metric.name in _FIXED:
            return lambda now, seconds: gauge.set(_FIXED[metric.name])
        if metric.name.endswith("_timestamp_seconds"):
            return lambda now, seconds: gauge.set(now - 1)
        middle, phase = _MIDDLES.get(metric.name, 1.0), self._random.uniform(0, 6)
        return lambda now, seconds: gauge.set(middle * (1.1 + math.sin(phase + now / 15)))

    def _observe(self, metric: Metric, labels: dict[str, str]) -> Step:
        histogram = self.metrics.histogram(metric, **labels)
        typical = metric.buckets[len(metric.buckets) // 3]

        def step(now: float, seconds: float) -> None:
            for _ in range(max(1, round(8 * seconds))):
                histogram.observe(typical * self._random.lognormvariate(0, 0.7))
            if self.observed is not None:
                for value, trace_id in self.observed(metric, labels):
                    histogram.observe(value, exemplar={"trace_id": trace_id})
                return
            trace_id = f"{self._random.getrandbits(128):032x}"
            histogram.observe(typical * self._random.lognormvariate(1, 0.5), exemplar={"trace_id": trace_id})

        return step


class StandIn:
    def __init__(
        self,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        *,
        trouble: float = 1.0,
        observed: Observed | None = None,
    ) -> None:
        self._clock = clock
        self.processes = {name: Process(name, seed, trouble, observed) for seed, name in enumerate(PROCESSES)}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def targets(self) -> list[dict[str, object]]:
        """As Prometheus' file_sd wants them."""
        return [
            {
                "targets": [self.address],
                "labels": {"__metrics_path__": f"/{name}/metrics", "process": name, "worker": f"{name}-1"},
            }
            for name in self.processes
        ]

    def write_targets(self, file: Path) -> None:
        file.write_text(json.dumps(self.targets(), indent=1))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        processes, clock = self.processes, self._clock

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                process = processes.get(self.path.strip("/").split("/")[0])
                if process is None:
                    self.send_error(404)
                    return
                openmetrics = "openmetrics" in self.headers.get("accept", "")
                body = process.scraped(clock(), openmetrics=openmetrics)
                # Whoever asked may have gone: a Prometheus that ends, one that waits no longer.
                with suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("content-type", OPENMETRICS_CONTENT_TYPE if openmetrics else TEXT_CONTENT_TYPE)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


@contextmanager
def stand_in(port: int = 0, *, trouble: float = 1.0, observed: Observed | None = None) -> Iterator[StandIn]:
    pipeline = StandIn(port, trouble=trouble, observed=observed)
    pipeline.start()
    try:
        yield pipeline
    finally:
        pipeline.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Report every metric of the catalogue, moving, for Prometheus to scrape.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--targets", type=Path, help="write a file_sd file here")
    chosen = parser.parse_args(arguments)
    with stand_in(chosen.port) as pipeline:
        if chosen.targets:
            pipeline.write_targets(chosen.targets)
        print(f"http://{pipeline.address}/grpc/metrics", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
