"""Log lines: JSON on standard error, one object a line.

A line says what happened in `event`, and names its part, worker and the ids that lead on (shard, sequence number, event id,
trace id). It never holds a payload. `scrub` is applied to every text value before it is written, so that personal data that
slipped into an error text does not reach a log file.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

Logger = structlog.stdlib.BoundLogger


def configure(part: str, worker: str = "", *, scrub: Callable[[str], str] | None = None, stream: TextIO | None = None) -> Logger:
    """Set up logging for this process, once, and return the part's logger."""

    def scrubbed(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if scrub is None:
            return line
        return {key: scrub(value) if isinstance(value, str) else value for key, value in line.items()}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            scrubbed,
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
