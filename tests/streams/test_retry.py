from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.streams.retry import Backoff, RetryBudget

from .simulated import Time


@given(failures=st.integers(1, 10_000), seed=st.integers())
def test_every_failed_attempt_advances_time_within_its_cap(failures: int, seed: int) -> None:
    """TRAPS 7."""
    backoff = Backoff()
    delay = backoff.delay_seconds(failures, Random(seed))
    assert backoff.floor_seconds <= delay <= backoff.cap_seconds


def test_the_unluckiest_draw_still_advances_time() -> None:
    """TRAPS 7."""

    class Lowest(Random):
        def uniform(self, a: float, b: float) -> float:
            return a

    assert Backoff().floor_seconds == Backoff().delay_seconds(1, Lowest())
    assert Backoff().floor_seconds > 0


def test_full_jitter_spreads_over_the_whole_range() -> None:
    """TRAPS 4."""
    random = Random(1)
    delays = [Backoff().delay_seconds(4, random) for _ in range(2000)]
    assert min(delays) < 0.02
    assert max(delays) > 0.38


def test_budget_bounds_retries_over_all_calls_and_refills_by_time_and_success() -> None:
    """TRAPS 4."""
    time = Time()
    budget = RetryBudget(time, tokens_max=3, tokens_per_second=1, tokens_per_success=0.5)
    assert [True, True, True, False] == [budget.spend() for _ in range(4)]
    budget.succeeded(2)
    assert [True, False] == [budget.spend() for _ in range(2)]
    time.now += 100
    assert [True, True, True, False] == [budget.spend() for _ in range(4)]
