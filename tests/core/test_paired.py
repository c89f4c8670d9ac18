"""Ratios of CPU that hold on a noisy machine: what is dearer is said to be so, by that much, and noise is said to be noise."""

from dataclasses import dataclass, field
from random import Random

import pytest

from pipeline.paired import GENERATIONS_MIN, Costs, Ratio, costs, ratio


@dataclass
class Worker:
    """Uses so many seconds a unit, ten units a turn, on a machine that is slower for a while now and then; and some later."""

    seconds_a_unit: float
    machine: "Machine"
    later_seconds: float = 0.0
    used: float = 0.0
    owed: float = field(default=0.0)

    async def load(self) -> int:
        self.machine.turns += 1
        self.used += 10 * self.seconds_a_unit * self.machine.slowness()
        self.owed += self.later_seconds
        return 10

    async def cpu_seconds(self) -> float:
        self.used, self.owed = self.used + self.owed, 0.0
        return self.used


@dataclass
class Machine:
    random: Random
    turns: int = 0

    def slowness(self) -> float:
        """Slow for twenty turns, then not."""
        return 2.0 if self.turns // 20 % 2 else 1.0


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr("pipeline.paired.asyncio.sleep", at_once)


async def generations(later_seconds: float = 0.0) -> list[Costs]:
    found = []
    for number in range(12):
        random = Random(number)
        machine = Machine(random)
        # Where its memory lies makes each process faster or slower, by one percent or so.
        kinds = {
            kind: Worker(dear * random.gauss(1, 0.01), machine) for kind, dear in (("dear", 1.1), ("base", 1.0), ("again", 1.0))
        }
        kinds["dear"].later_seconds = later_seconds
        found.append(await costs(kinds, 40, random))
    return found


async def test_what_is_a_tenth_dearer_is_said_to_be_so_although_the_machine_is_twice_as_slow_by_times() -> None:
    found = await generations()
    dear, again = ratio(found, "dear", "base"), ratio(found, "again", "base")
    assert dear.low < 1.1 < dear.high < 1.15
    assert again.low < 1.0 < again.high < 1.05


async def test_what_is_done_after_a_turn_counts() -> None:
    assert ratio(await generations(later_seconds=1.5), "dear", "base").median == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (Ratio(1.01, 1.005, 1.015), "<= 1.02 met"),
        (Ratio(1.015, 1.0, 1.03), "<= 1.02 met, within the noise"),
        (Ratio(1.025, 1.0, 1.05), "<= 1.02 MISSED, within the noise"),
        (Ratio(1.05, 1.03, 1.07), "<= 1.02 MISSED"),
    ],
)
def test_a_verdict_says_how_sure_it_is(of: Ratio, said: str) -> None:
    assert of.verdict(1.02) == said


def test_too_few_generations_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        ratio([{"a": 1.0, "b": 1.0}] * (GENERATIONS_MIN - 1), "a", "b")
