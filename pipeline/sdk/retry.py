"""When to try again: full jitter, a budget over all calls, a deadline on a clock that only goes forward.

Rules. A delay is drawn evenly from 0 to a ceiling that doubles with each failed attempt in a row (full jitter), never below
a floor, so that every failed attempt advances time (TRAPS 7); what the other side asked for is added, not replaced, so that
clients who got the same hint do not come back together. The budget is one token bucket for all calls of a publisher: however
many callers fail at once, retries stay a small share of the traffic (TRAPS 4). An empty bucket delays a retry, it never drops
an event: what ends a call is its deadline. Pure but for the lock of the bucket; clock and random generator are arguments.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter); Finagle's RetryBudget (the bucket).
"""

import random
import threading
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time for deadlines. `sleep` may return early when whoever waits is closed."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock. `wake` ends every sleep, those to come as well."""

    def __init__(self) -> None:
        self._awake = threading.Event()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._awake.wait(seconds)

    def wake(self) -> None:
        self._awake.set()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between attempts, in seconds."""

    ceiling_seconds_first: float = 0.05
    ceiling_seconds_max: float = 5.0
    floor_seconds: float = 0.005
    # A hint beyond this is taken as this: a broken server must not put clients to sleep for a day.
    hint_seconds_max: float = 60.0

    def delay_seconds(self, failures: int, rng: random.Random, hint_seconds: float | None = None) -> float:
        """How long to wait after `failures` failed attempts in a row (1 or more)."""
        doublings = min(max(failures, 1) - 1, 30)
        ceiling = min(self.ceiling_seconds_max, self.ceiling_seconds_first * float(2**doublings))
        jitter = max(self.floor_seconds, rng.uniform(0.0, ceiling))
        return jitter + min(max(hint_seconds or 0.0, 0.0), self.hint_seconds_max)


@dataclass(frozen=True, slots=True)
class BudgetSize:
    """`per_second` tokens flow in by time, `per_success` by each call that was answered; a retry takes one."""

    tokens_max: float = 20.0
    per_second: float = 2.0
    per_success: float = 0.2


class RetryBudget:
    """A token bucket that lends: a retry is always granted, at the time when its token will have come.

    It lends `tokens_max` at most, so that after a long failure of many callers nobody waits longer than that takes to flow in.
    """

    def __init__(self, size: BudgetSize, now: float) -> None:
        self.size = size
        self._tokens = size.tokens_max
        self._filled_at = now
        self._lock = threading.Lock()

    def take(self, now: float) -> float:
        """Take one token; returns the seconds to wait until it is really there (0.0: it is)."""
        with self._lock:
            self._refill(now)
            self._tokens = max(-self.size.tokens_max, self._tokens - 1.0)
            return max(0.0, -self._tokens) / self.size.per_second

    def succeeded(self, now: float) -> None:
        with self._lock:
            self._refill(now)
            self._tokens = min(self.size.tokens_max, self._tokens + self.size.per_success)

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._filled_at)
        self._tokens = min(self.size.tokens_max, self._tokens + passed * self.size.per_second)
        self._filled_at = max(now, self._filled_at)
