"""Watching an exit: first sightings, blindness, and the percentile that freshness is told by."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from canary.exits import Watcher, percentile


@dataclass
class FakeExit:
    name: str = "fake"
    holds: list[str] = field(default_factory=list)
    broken: Exception | None = None

    def observed(self) -> Iterable[str]:
        if self.broken is not None:
            raise self.broken
        return list(self.holds)


def test_an_id_keeps_the_time_of_its_first_sighting() -> None:
    exit = FakeExit(holds=["a"])
    watcher = Watcher(exit)
    watcher.look()
    first = watcher.first_seen["a"]
    exit.holds.append("b")
    watcher.look()
    assert (first, {"a", "b"}) == (watcher.first_seen["a"], set(watcher.first_seen))


def test_an_exit_that_cannot_be_read_is_blind_and_not_empty() -> None:
    """TRAPS 30."""
    exit = FakeExit(holds=["a"], broken=ConnectionError("refused"))
    watcher = Watcher(exit)
    watcher.look()
    assert ("ConnectionError: refused", 1) == (watcher.blind, watcher.missing(["a"]))
    exit.broken = None
    watcher.look()
    assert (None, 0) == (watcher.blind, watcher.missing(["a"]))


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 0.5) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_value_that_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert all(sum(value <= lower for value in values) < share * len(values) for lower in values if lower < found)
