"""One exit's query without Spark: a batch that fails at its exit is tried again where it is."""

import io
import json
import random
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from py4j.protocol import Py4JNetworkError

from pipeline.errors import Unavailable
from pipeline.etl.exits import BatchReport
from pipeline.etl.job import ExitQuery, Stream
from telemetry.log import configure
from telemetry.metrics import ETL_FAILURES, Metrics
from telemetry.tracing import Tracer

FRAME = cast(Any, SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=SimpleNamespace(getLocalProperty=lambda _: "q"))))


@dataclass
class FakeExit:
    """Raises these, one after the other, from what they are for; then all is well."""

    failures: list[tuple[str, Exception]]
    name: str = "lake"
    calls: list[str] = field(default_factory=list)

    def begin(self) -> None:
        self._called("begin")

    def load(self, frame: object, batch: int, query_id: str) -> BatchReport:
        self._called("load")
        return BatchReport(records=1, loaded=10)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.failures and self.failures[0][0] == what:
            raise self.failures.pop(0)[1]


class Stopping(threading.Event):
    """Whoever waits for it goes on at once; `ends_at`: at the wait of that number it is set."""

    def __init__(self, ends_at: int | None = None) -> None:
        super().__init__()
        self.ends_at, self.waits = ends_at, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self.ends_at:
            self.set()
        return self.is_set()


@dataclass
class Query:
    exit: FakeExit
    stopping: Stopping = field(default_factory=Stopping)
    metrics: Metrics = field(default_factory=Metrics)
    log: io.StringIO = field(default_factory=io.StringIO)

    def batch(self) -> None:
        stream = Stream("events-clean", "us-east-1", 20.0, 2.0, "/nowhere", 30.0)
        log = configure("etl", stream=self.log)
        query = ExitQuery(
            cast(Any, None),
            stream,
            self.exit,
            self.metrics,
            log,
            Tracer.off(),
            rng=random.Random(1),
            stopping=self.stopping,
        )
        query._batch(FRAME, 7)

    @property
    def told(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]

    @property
    def failures(self) -> float | None:
        return self.metrics.value(ETL_FAILURES, exit="lake")


def test_a_batch_whose_exit_is_away_is_tried_again_without_a_new_query() -> None:
    """A query that starts needs a Python process that a busy machine does not start in time."""
    away = Unavailable("the lake is away")
    query = Query(FakeExit([("load", away), ("load", RuntimeError("a task failed")), ("begin", away)]))
    query.batch()
    assert ["load", "begin", "load", "begin", "begin", "load"] == query.exit.calls
    assert 3.0 == query.failures
    assert ["the batch failed and will be tried again"] * 3 + ["batch loaded"] == query.told
    assert all(0.5 <= wait <= 8.0 for wait in query.stopping.waits)


def test_waits_grow_to_the_most_that_is_set() -> None:
    query = Query(FakeExit([("load", Unavailable("away")) for _ in range(15)]))
    query.batch()
    assert 15 == len(query.stopping.waits)
    assert 16.0 < max(query.stopping.waits) <= 30.0


def test_whoever_stops_does_not_wait_for_an_exit_that_is_away() -> None:
    query = Query(FakeExit([("load", Unavailable("away")) for _ in range(9)]), Stopping(ends_at=2))
    with pytest.raises(Unavailable, match="away"):
        query.batch()
    assert ["load", "begin", "load"] == query.exit.calls


def test_a_batch_that_never_goes_through_has_its_query_started_anew() -> None:
    query = Query(FakeExit([("load", Unavailable("away")) for _ in range(40)]))
    with pytest.raises(Unavailable, match="away"):
        query.batch()
    assert (20, 19) == (query.exit.calls.count("load"), len(query.stopping.waits))


def test_without_spark_nothing_is_tried_again() -> None:
    query = Query(FakeExit([("load", Py4JNetworkError("gone"))]))
    with pytest.raises(Py4JNetworkError):
        query.batch()
    assert ["load"] == query.exit.calls
