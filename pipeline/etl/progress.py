"""What Spark says of a query, as gauges: how much comes, how much it can take, and when it last looked at the stream.

Rules. Asked for every `LOOK_SECONDS`, not at each poll: an answer is JSON from another process. Spark tells of batches alone, so
a query that has had none for `IDLE_SECONDS` reads 0. `ETL_LAST_BATCH` begins with the process, and moves whenever a trigger has
ended well, with new data or without: Spark waits for the next one then. A query that hangs or fails moves it no more.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from telemetry.metrics import ETL_INPUT_RATE, ETL_LAST_BATCH, ETL_PROCESSING_RATE, Metrics

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

LOOK_SECONDS = 2.0
IDLE_SECONDS = 15.0


class Progress:
    """Of one exit's query, over its restarts."""

    def __init__(self, exit: str, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._input = metrics.gauge(ETL_INPUT_RATE, exit=exit)
        self._processing = metrics.gauge(ETL_PROCESSING_RATE, exit=exit)
        self._last = metrics.gauge(ETL_LAST_BATCH, exit=exit)
        self._last.set(clock())
        self._looked_at = float("-inf")
        self._batch_began = ""
        self._news_at = float("-inf")

    def look(self, query: "StreamingQuery") -> None:
        now = self._clock()
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        waits = waits_for_more(query)
        if waits:
            self._last.set(now)
        progress = query.lastProgress
        if progress is not None and progress["timestamp"] != self._batch_began and progress["numInputRows"]:
            self._batch_began, self._news_at = progress["timestamp"], now
            self._input.set(_rate(progress.get("inputRowsPerSecond")))
            self._processing.set(_rate(progress.get("processedRowsPerSecond")))
        elif waits and now - self._news_at > IDLE_SECONDS:
            self.rest()

    def loaded(self) -> None:
        """A batch has just gone through."""
        self._last.set(self._clock())

    def rest(self) -> None:
        self._input.set(0)
        self._processing.set(0)


def waits_for_more(query: "StreamingQuery") -> bool:
    """Whether its last look at the stream has ended well, and it waits for the next one, or for data."""
    return str(query.status["message"]).startswith("Waiting for")


def _rate(value: object) -> float:
    """Spark leaves out what it can't divide."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
