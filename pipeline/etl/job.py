"""One Spark application, three streaming queries: lake, RDS, Redis.

    records -> mapInArrow (decode, load or stage) -> the driver's commit -> Spark's commit log

Rules. Each query has its own checkpoint and offsets, and fails alone; the others run on (TRAPS 24). A batch that fails at its
exit is tried again within its query; whatever fails else ends the query, and it starts again; both after a bounded wait with full
jitter. (A query that starts needs a new Python process, for which Spark waits ten seconds: on a busy machine in vain.) Starting
needs neither the stream nor an exit to be up (TRAPS 12). SIGTERM ends what is in flight first. If Spark itself is gone, so are
we: the supervisor starts us again and every query goes on from its offsets.

On EMR or Databricks: `spark-submit --py-files spillway.zip pipeline/etl/__main__.py` with SPILLWAY_ETL_MASTER empty and
SPILLWAY_ETL_CHECKPOINT_DIR at S3; the cluster needs Spark 4.2 or newer, Python 3.11, and the packages of requirements.lock.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.etl.exits import BatchReport, ExitLoader
from pipeline.etl.progress import Progress, waits_for_more
from pipeline.etl.report import KeptEvent
from pipeline.etl.source import format_of, source_of
from pipeline.etl.spans import Loaded, examples, kept_of, tell, tell_failure
from telemetry.log import Logger
from telemetry.many import observe_all
from telemetry.metrics import (
    DEAD_LETTERS,
    ETL_BATCH_LIMIT_SECONDS,
    ETL_BATCH_SECONDS,
    ETL_FAILURES,
    ETL_FRESHNESS_SECONDS,
    ETL_ROWS,
    Metrics,
)
from telemetry.tracing import Tracer

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_POLL_SECONDS = 0.5
_RESTART_SECONDS_BASE = 1.0
# Tries of one batch in one query. Then the query starts anew, for whatever only that helps against.
_TRIES_MAX = 20
_ERROR_TEXT_MAX = 600
OUTCOMES = ("loaded", "duplicate", "conflict", "dead")
# Why an exit buries an event.
REASONS = ("corrupt", "undecodable", "unknown_type", "unknown_field", "bad_time", "conflict")
EXIT_REASONS = {"lake": ("unconvertible",), "rds": ("unstorable",)}


@dataclass(frozen=True, slots=True)
class Stream:
    """What all queries read, and where they keep their place."""

    name: str
    region: str
    span_seconds: float
    trigger_seconds: float
    checkpoints: str
    restart_seconds_max: float


class ExitQuery:
    """One exit's query, kept running."""

    def __init__(
        self,
        session: "SparkSession",
        stream: Stream,
        exit: ExitLoader,
        metrics: Metrics,
        log: Logger,
        tracer: Tracer,
        *,
        rng: random.Random,
        stopping: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._stopping = stopping
        self._stream = stream
        self._exit = exit
        self._metrics = metrics
        self._log = log.bind(exit=exit.name)
        self._tracer = tracer
        self._rng = rng
        self._clock = clock
        self._query: StreamingQuery | None = None
        self._failures = 0
        self._start_at = 0.0
        self._tried = False
        self._progress = Progress(exit.name, metrics, clock)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """So that "no data" means that nobody counts, and the first error is an increase."""
        name, metrics = self._exit.name, self._metrics
        for outcome in OUTCOMES:
            metrics.counter(ETL_ROWS, exit=name, outcome=outcome)
        for reason in (*REASONS, *EXIT_REASONS.get(name, ())):
            metrics.counter(DEAD_LETTERS, stage=f"etl-{name}", reason=reason)
        metrics.counter(ETL_FAILURES, exit=name)
        metrics.histogram(ETL_BATCH_SECONDS, exit=name)
        metrics.gauge(ETL_BATCH_LIMIT_SECONDS, exit=name).set(self._stream.span_seconds)
        metrics.histogram(ETL_FRESHNESS_SECONDS, exit=name)

    @property
    def tried(self) -> bool:
        """Whether it has looked at the stream once, or failed to."""
        return self._tried

    def tend(self) -> None:
        """Start the query if it is due, notice if it has failed."""
        if self._query is None:
            if self._clock() >= self._start_at:
                self._start()
        elif not self._query.isActive:
            failure = self._query.exception()
            self._query = None
            self._failed(str(failure) if failure else "the query ended by itself")
        else:
            if not self._tried:
                self._tried = self._query.lastProgress is not None or waits_for_more(self._query)
            self._progress.look(self._query)

    def _start(self) -> None:
        from pyspark.errors import PySparkException

        from pipeline.errors import SpillwayError

        try:
            self._exit.begin()
        except (SpillwayError, OSError) as exc:
            self._failed(f"{type(exc).__name__}: {exc}")
            return
        # What Spark's own process says of its death is not caught: then this process has to end too.
        try:
            self._query = self._started()
        except PySparkException as exc:
            self._failed(f"{type(exc).__name__}: {exc}")

    def _started(self) -> "StreamingQuery":
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", self._exit.name)
        options = {"stream": self._stream.name, "region": self._stream.region, "spanSeconds": str(self._stream.span_seconds)}
        return (
            self._session.readStream.format(format_of(self._exit.name))
            .options(**options)
            .load()
            .writeStream.queryName(self._exit.name)
            .foreachBatch(self._batch)
            .option("checkpointLocation", f"{self._stream.checkpoints}/{self._exit.name}")
            .trigger(processingTime=f"{int(self._stream.trigger_seconds * 1000)} milliseconds")
            .start()
        )

    def _failed(self, said: str) -> None:
        self._start_at = self._clock() + self._count_failure("the query failed and will start again", said)

    def _count_failure(self, what: str, said: str) -> float:
        """Seconds to wait."""
        self._failures += 1
        self._tried = True
        ceiling = min(self._stream.restart_seconds_max, _RESTART_SECONDS_BASE * 2**self._failures)
        wait_seconds = self._rng.uniform(_RESTART_SECONDS_BASE / 2, ceiling)
        self._metrics.counter(ETL_FAILURES, exit=self._exit.name).inc()
        self._progress.rest()
        self._log.error(what, error=_gist(said), wait_seconds=round(wait_seconds, 1))
        return wait_seconds

    def _loaded(self, frame: "DataFrame", batch: int) -> tuple[BatchReport, int]:
        """The batch is at its exit, however often it takes; and when the last try began (nanoseconds since 1970).

        Raises whatever failed, if Spark itself is gone, it is time to stop or that were enough tries.
        """
        from py4j.protocol import Py4JNetworkError

        query_id = frame.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId") or self._exit.name
        tries = 0
        while True:
            began_ns, tries = self._now_ns(), tries + 1
            try:
                if tries > 1:
                    self._exit.begin()
                return self._exit.load(frame, batch, query_id), began_ns
            except Exception as exc:
                error = f"{type(exc).__name__}: {_gist(str(exc))}"
                tell_failure(self._tracer, self._exit.name, self._stream.name, batch, began_ns, self._now_ns(), error)
                if isinstance(exc, Py4JNetworkError) or self._stopping.is_set() or tries == _TRIES_MAX:
                    raise
                wait_seconds = self._count_failure("the batch failed and will be tried again", str(exc))
                if self._stopping.wait(wait_seconds):
                    raise

    def _batch(self, frame: "DataFrame", batch: int) -> None:
        report, began_ns = self._loaded(frame, batch)
        name, stream = self._exit.name, self._stream.name
        self._failures = 0
        self._tried = True
        self._progress.loaded()
        # What comes after the lake's commit (compaction) is no part of when its rows were visible.
        visible_ns = report.commit.ended_ns if report.commit is not None else self._now_ns()
        loaded = Loaded(name, stream, batch, began_ns, visible_ns, report)
        if report.records:
            self._count(loaded, (self._now_ns() - began_ns) / 1e9)
        tell(self._tracer, self._log, loaded)

    def _now_ns(self) -> int:
        return int(self._clock() * 1e9)

    def _count(self, batch: Loaded, seconds: float) -> None:
        name, report = self._exit.name, batch.report
        conflicts = report.dead.get("conflict", 0)
        outcomes = {
            "loaded": report.loaded,
            "duplicate": report.duplicates,
            "conflict": conflicts,
            "dead": sum(report.dead.values()) - conflicts,
        }
        for outcome, count in outcomes.items():
            self._metrics.counter(ETL_ROWS, exit=name, outcome=outcome).inc(count)
        for reason, count in report.dead.items():
            self._metrics.counter(DEAD_LETTERS, stage=f"etl-{name}", reason=reason).inc(count)
        shown = examples(kept_of(report))
        exemplar = {"trace_id": shown[0].trace.hex_id} if shown else None
        self._metrics.histogram(ETL_BATCH_SECONDS, exit=name).observe(seconds, exemplar=exemplar)
        self._count_freshness(batch, shown)
        self._log.info("batch loaded", batch=batch.number, records=report.records, seconds=round(seconds, 3), **outcomes)

    def _count_freshness(self, batch: Loaded, shown: Sequence[KeptEvent]) -> None:
        """Every event once: the traced ones with their trace, the others by their accept times."""
        counts: Counter[int] = Counter()
        for accepted_micros, events in batch.report.accepted:
            counts[accepted_micros] += events
        counts.subtract(event.accepted_micros for event in shown)

        def age(accepted_micros: int) -> float:
            return max(0.0, batch.visible_ns / 1e9 - accepted_micros / 1e6)

        observe_all(
            self._metrics.histogram(ETL_FRESHNESS_SECONDS, exit=self._exit.name),
            ETL_FRESHNESS_SECONDS,
            ((age(accepted_micros), events) for accepted_micros, events in counts.items() if events > 0),
            ((age(event.accepted_micros), event.trace.hex_id) for event in shown),
        )

    def stop(self) -> None:
        """End the batch under way, within Spark's stop timeout. What it interrupts is done again at the next start."""
        from pyspark.errors import PySparkException

        if self._query is not None:
            try:
                self._query.stop()
            except PySparkException as exc:
                self._log.warning("the query did not stop in time; its batch will be done again", error=_gist(str(exc)))
            self._query = None


def run_queries(
    session: "SparkSession", queries: Sequence[ExitQuery], stopping: threading.Event, on_ready: Callable[[], None]
) -> None:
    """Keep the queries running until told to stop.

    Raises:
        Py4JError and the like: Spark's own process is gone.
    """
    ready = False
    while not stopping.is_set():
        for query in queries:
            query.tend()
        if not ready and all(query.tried for query in queries):
            ready = True
            on_ready()
        stopping.wait(_POLL_SECONDS)
    for query in queries:
        query.stop()


def register(session: "SparkSession", exits: Iterable[str]) -> None:
    """Make a source known for each exit's query, and start the Python daemon with a batch of nothing: the first real one need not
    wait for it.
    """
    for exit in exits:
        session.dataSource.register(source_of(exit))
    session.range(1).mapInArrow(_same, "id long").collect()


def _same(batches: Iterator["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
    return batches


def _gist(text: str) -> str:
    """The line that says what went wrong; tracebacks through two languages are long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("pipeline.", "Exception:", "RuntimeError", "ValueError"))]
    return " | ".join(dict.fromkeys([*lines[:1], *telling[-2:]]))[:_ERROR_TEXT_MAX]
