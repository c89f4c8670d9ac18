"""Laws of the pure parts: back-off, budget, breaker, ids."""

import random
import threading
import uuid
import zlib

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sdk.breaker import Breaker, BreakerLimits, BreakerState
from pipeline.sdk.envelope import IdSource, uuid7
from pipeline.sdk.retry import Backoff, BudgetSize, RetryBudget


@given(st.integers(1, 1000), st.integers(), st.one_of(st.none(), st.floats(-10.0, 1e6)))
def test_a_delay_lies_between_floor_and_ceiling_behind_the_hint(failures: int, seed: int, hint: float | None) -> None:
    """TRAPS 4, 7."""
    backoff = Backoff()
    waited_for = min(max(hint or 0.0, 0.0), backoff.hint_seconds_max)
    delay = backoff.delay_seconds(failures, random.Random(seed), hint)
    assert waited_for + backoff.floor_seconds <= delay <= waited_for + backoff.ceiling_seconds_max


def test_jitter_is_full_and_replays_from_its_seed() -> None:
    backoff = Backoff(ceiling_seconds_first=1.0, ceiling_seconds_max=1.0, floor_seconds=0.0)
    rng = random.Random(1)
    drawn = sorted(backoff.delay_seconds(1, rng) for _ in range(1000))
    assert drawn[0] < 0.02
    assert drawn[-1] > 0.98
    again = random.Random(1)
    assert drawn == sorted(backoff.delay_seconds(1, again) for _ in range(1000))


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), max_size=100))
def test_retries_never_exceed_the_budget(steps: list[tuple[float, bool]]) -> None:
    """Retries that could start by any moment <= what the bucket held and got until then."""
    size = BudgetSize(tokens_max=5.0, per_second=1.0, per_success=0.5)
    budget, now, starts, successes = RetryBudget(size, 0.0), 0.0, list[float](), 0
    for passed, success in steps:
        now += passed
        if success:
            budget.succeeded(now)
            successes += 1
        else:
            wait = budget.take(now)
            assert 0.0 <= wait <= size.tokens_max / size.per_second
            starts.append(now + wait)
    granted_at_once = sum(start <= now for start in starts)
    # What it lends at most comes on top: see RetryBudget.
    assert granted_at_once <= 2 * size.tokens_max + now * size.per_second + successes * size.per_success + 1


class Oracle:
    """The breaker's diagram, written down once more the simple way."""

    def __init__(self, limits: BreakerLimits) -> None:
        self.limits, self.state, self.failures, self.pause, self.until = limits, BreakerState.CLOSED, 0, 0.0, 0.0

    def may_try(self, now: float) -> bool:
        if self.state is BreakerState.CLOSED:
            return True
        if now >= self.until:
            self.state, self.until = BreakerState.HALF_OPEN, now + self.pause
            return True
        return False

    def failed(self, now: float) -> None:
        self.failures += 1
        opens = self.state is BreakerState.CLOSED and self.failures >= self.limits.failures_to_open
        if opens or self.state is BreakerState.HALF_OPEN:
            self.pause = min(self.limits.pause_seconds_max, self.pause * 2 or self.limits.pause_seconds_first)
            self.state, self.until = BreakerState.OPEN, now + self.pause

    def succeeded(self) -> None:
        self.state, self.failures, self.pause = BreakerState.CLOSED, 0, 0.0


@given(st.lists(st.tuples(st.sampled_from(["try", "fail", "succeed"]), st.integers(0, 4)), max_size=60))
def test_the_breaker_walks_its_diagram(steps: list[tuple[str, int]]) -> None:
    limits = BreakerLimits(failures_to_open=3, pause_seconds_first=1.0, pause_seconds_max=4.0)
    breaker, oracle, now = Breaker(limits), Oracle(limits), 0.0
    for step, passed in steps:
        now += passed
        if step == "try":
            assert oracle.may_try(now) == (breaker.wait_seconds(now) == 0.0)
        elif step == "fail":
            breaker.failed(now)
            oracle.failed(now)
        else:
            breaker.succeeded()
            oracle.succeeded()
        assert oracle.state == breaker.state


def test_half_open_lets_one_through_and_a_success_closes() -> None:
    breaker = Breaker(BreakerLimits(failures_to_open=1, pause_seconds_first=1.0))
    breaker.failed(0.0)
    assert [1.0, 0.5, 0.0, 1.0] == [breaker.wait_seconds(now) for now in (0.0, 0.5, 1.0, 1.0)]
    breaker.succeeded()
    assert 0.0 == breaker.wait_seconds(1.0)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_that_holds_its_time(millis: int, entropy: bytes) -> None:
    made = uuid.UUID(uuid7(millis, entropy))
    assert (7, uuid.RFC_4122, millis) == (made.version, made.variant, made.int >> 80)


def test_ids_differ_and_sort_by_time() -> None:
    ids = IdSource()
    assert 1000 == len({ids.new(1_700_000_000_000_000) for _ in range(1000)})
    assert ids.new(1_700_000_000_000_000) < ids.new(1_700_000_000_001_000)


@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=20))
def test_an_id_comes_with_its_checksum(micros: list[int]) -> None:
    """It decides whether the event is traced: another one would be traced here and nowhere else."""
    ids = IdSource()
    for now in micros:
        id, checksum = ids.new_with_checksum(now)
        assert zlib.crc32(id.encode()) == checksum


def test_threads_do_not_make_the_same_id() -> None:
    ids, made = IdSource(), list[list[str]]()
    threads = [threading.Thread(target=lambda: made.append([ids.new(0) for _ in range(5000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 20_000 == len({id for some in made for id in some})
