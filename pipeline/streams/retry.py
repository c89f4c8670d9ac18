"""How often and how soon a failed write is tried again.

Rules. Full jitter: a delay is drawn evenly between a floor and a ceiling that doubles, so callers that failed together do not
return together. The floor is never zero: every failed attempt advances time (TRAPS 7). A budget over all calls, a token bucket
that successes and time refill, bounds what retries may add to the load of a stream that is in trouble (TRAPS 4).
Source: AWS Builders' Library, "Timeouts, retries, and backoff with jitter".
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    floor_seconds: float = 0.005
    base_seconds: float = 0.05
    cap_seconds: float = 2.0

    def delay_seconds(self, failures: int, random: Random) -> float:
        """How long to wait after this many failures in a row (from 1)."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2 ** min(failures - 1, 30))
        return random.uniform(self.floor_seconds, max(ceiling, self.floor_seconds))


class RetryBudget:
    """Tokens that retries spend. Shared by all calls of a process to one stream."""

    def __init__(
        self, clock: Clock, *, tokens_max: float = 500.0, tokens_per_second: float = 50.0, tokens_per_success: float = 0.1
    ) -> None:
        self._clock = clock
        self._tokens_max = tokens_max
        self._per_second = tokens_per_second
        self._per_success = tokens_per_success
        self._tokens = tokens_max
        self._at = clock()

    def spend(self, tokens: int = 1) -> bool:
        """Take this many tokens; False, and nothing taken, if there are not enough."""
        now = self._clock()
        self._tokens = min(self._tokens_max, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def succeeded(self, count: int = 1) -> None:
        self._tokens = min(self._tokens_max, self._tokens + count * self._per_success)
