"""The store without its doors: the real file, writer, judge and questions, under a clock that the test moves."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telemetry import log as logs
from telemetry.metrics import STORE_ITEMS, TRACES_JUDGED, Metrics
from telemetry.store import shapes
from telemetry.store.database import Database
from telemetry.store.ingest import Ingest
from telemetry.store.judge import Judge
from telemetry.store.query import Queries, Range
from telemetry.store.retention import Retention
from telemetry.store.rows import Request, export_of
from telemetry.store.traceql import Condition, parse

WAIT_SECONDS_MAX = 20.0
HOUR = 3600.0


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS_MAX} s: {what}"
        time.sleep(0.01)


class Clock:
    """Seconds since 1970, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A store in a folder. It may be closed and another one begun there; the clock goes on."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        judge_seconds: float = 180.0,
        retention: Retention | None = None,
        waiting_bytes_max: int = 32 << 20,
        query_seconds_max: float = 10.0,
        query_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.clock, self.metrics, self.said = folder, clock or Clock(), Metrics(), io.StringIO()
        log = logs.configure("store", stream=self.said)
        self.database = Database(folder, log, self.clock)
        self.ingest = Ingest(
            self.database,
            Judge(self.metrics, judge_seconds),
            retention or Retention(72 * HOUR, 2 << 30),
            self.metrics,
            log,
            waiting_bytes_max=waiting_bytes_max,
            clock=self.clock,
        )
        self.queries = Queries(self.database, query_seconds_max, query_clock)
        self.ingest.start()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.ingest.close()
        self.database.close()

    def take(self, request: Request) -> int:
        """How many of its items were not valid, once it is in the file."""
        return self.ingest.offer(export_of(request, int(self.clock())), request.ByteSize()).result(WAIT_SECONDS_MAX)

    def trace(self, trace_id: bytes) -> dict[str, Any] | None:
        found = self.queries.trace(trace_id)
        return None if found is None else shapes.trace_v2(*found)

    def search(self, asked: str | Condition, limit: int = 1000) -> list[dict[str, Any]]:
        condition = parse(asked) if isinstance(asked, str) else asked
        found = self.queries.search(condition, Range(), limit)
        traces: list[dict[str, Any]] = shapes.search_answer(found, 1000)["traces"]
        return traces

    def names(self, query: str) -> list[str]:
        """The names of the spans that fit."""
        return sorted(span["name"] for trace in self.search(query) for span in trace["spanSet"]["spans"])

    def items(self, signal: str, outcome: str) -> float:
        return self.metrics.value(STORE_ITEMS, signal=signal, outcome=outcome)

    def judged(self, verdict: str, missing: str = "") -> float:
        return self.metrics.value(TRACES_JUDGED, verdict=verdict, missing=missing)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said.getvalue().splitlines()]
