"""Log lines: JSON on standard error, one object a line; shipped as OTLP logs as well, where there is a backend.

A line says what happened in `event`, and names its hop (`part`), worker and the ids that lead on (shard, sequence number,
`event_id`, `trace_id`). It never holds a payload. `scrub` is applied to every text value before it is written, so that personal
data that slipped into an error text does not reach a log file. A line that repeats (same event, same level) more than
`REPEATS_MAX` times in `REPEAT_SECONDS` is held back, and counted: the next one that passes says how many in `held_back`.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

from telemetry.otlp import LogLine

Logger = structlog.stdlib.BoundLogger

REPEATS_MAX = 20
REPEAT_SECONDS = 10.0
_KINDS_MAX = 1000
_SHIPPED_APART = frozenset(("time", "level", "event", "trace_id"))


class Repeats:
    """Lets so many equal lines pass in a while. Thread-safe."""

    def __init__(
        self, repeats_max: int = REPEATS_MAX, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._repeats_max, self._seconds, self._clock = repeats_max, seconds, clock
        self._lock = threading.Lock()
        # (level, event): when its while began, how many passed, how many were held back.
        self._seen: dict[tuple[str, str], tuple[float, int, int]] = {}

    def __call__(self, level: str, event: str) -> int | None:
        """How many were held back before this line, or None if this one is held back."""
        now = self._clock()
        with self._lock:
            if len(self._seen) >= _KINDS_MAX:
                self._seen.clear()
            began, passed, held_back = self._seen.get((level, event), (now, 0, 0))
            if now - began >= self._seconds:
                began, passed = now, 0
            if passed >= self._repeats_max:
                self._seen[(level, event)] = (began, passed, held_back + 1)
                return None
            self._seen[(level, event)] = (began, passed + 1, 0)
            return held_back


def configure(
    part: str,
    worker: str = "",
    *,
    scrub: Callable[[str], str] | None = None,
    stream: TextIO | None = None,
    ship: Callable[[LogLine], None] | None = None,
    repeats: Repeats | None = None,
) -> Logger:
    """Set up logging for this process and return the part's logger. Called again, it replaces what was set up."""
    repeats = repeats or Repeats()

    def without_repeats(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        held_back = repeats(str(line.get("level", "")), str(line.get("event", "")))
        if held_back is None:
            raise structlog.DropEvent
        return {**line, "held_back": held_back} if held_back else line

    def scrubbed(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if scrub is None:
            return line
        return {key: scrub(value) if isinstance(value, str) else value for key, value in line.items()}

    def shipped(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if ship is not None:
            rest = {key: value for key, value in line.items() if key not in _SHIPPED_APART}
            ship(
                LogLine(
                    time.time_ns(), str(line.get("level", "")), str(line.get("event", "")), str(line.get("trace_id", "")), rest
                )
            )
        return line

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            without_repeats,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            scrubbed,
            shipped,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING,
        stream=stream or sys.stderr,
        format='{"time": "%(asctime)s", "level": "%(levelname)s", "event": "%(name)s: %(message)s"}',
    )
    return cast(Logger, structlog.get_logger().bind(part=part, worker=worker or part))
