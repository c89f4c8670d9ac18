"""The circuit breaker: whether the collector is worth a try.

    closed ──(failures in a row reach the limit)──► open ──(pause over)──► half-open ──(success)──► closed
                                                     ▲                        │
                                                     └───────(failure)────────┘

Rules. Only "no answer" and "broken" count as failures; throttling does not, a collector that asks for less is not down
(TRAPS 4). While open nobody tries. Half-open lets one try through at a time; a try whose end is never told gives its place
up after the pause. Each opening in a row doubles the pause up to its bound. `now` is an argument: no clock in here.
"""

import threading
from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    failures_to_open: int = 5
    pause_seconds_first: float = 0.5
    pause_seconds_max: float = 5.0


class Breaker:
    """Thread-safe; ask `wait_seconds` before a try, tell `succeeded` or `failed` after it."""

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self.limits = limits or BreakerLimits()
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._openings = 0
        # When the open state ends, or when a half-open try gives its place up.
        self._until = 0.0
        self._lock = threading.Lock()

    @property
    def state(self) -> BreakerState:
        return self._state

    def wait_seconds(self, now: float) -> float:
        """0.0: try now, and tell how it went. Else: ask again after so many seconds."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return 0.0
            if now < self._until:
                return self._until - now
            self._state = BreakerState.HALF_OPEN
            self._until = now + self._pause_seconds()
            return 0.0

    def succeeded(self) -> None:
        with self._lock:
            self._state, self._failures, self._openings = BreakerState.CLOSED, 0, 0

    def failed(self, now: float) -> None:
        with self._lock:
            self._failures += 1
            if self._state is BreakerState.OPEN:  # a try from before the opening: nothing new
                return
            if self._state is BreakerState.HALF_OPEN or self._failures >= self.limits.failures_to_open:
                self._openings += 1
                self._state = BreakerState.OPEN
                self._until = now + self._pause_seconds()

    def _pause_seconds(self) -> float:
        doublings = min(max(self._openings, 1) - 1, 30)
        return min(self.limits.pause_seconds_max, self.limits.pause_seconds_first * float(2**doublings))
