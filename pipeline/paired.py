"""What one thing costs more than another in CPU, told on a machine that is shared and never quiet.

    generation: fresh processes of each kind ─► rounds: each kind is loaded for a moment, in shuffled order ─► CPU a unit of each
    a ratio for each generation ─► their median, and where the true one lies (95 %)

Rules
- What disturbs lasts longer than a moment: kinds that are loaded by turns share it.
- Two processes of one kind differ by where their memory happens to lie, by some percent, for as long as they live. Only fresh
  processes average that out; so the uncertainty is that between generations, not that between rounds.
- What a kind does later, for what came in its turn, is its own: all its CPU counts, from its first turn until after its last.
- A kind that is there twice shows the noise. A verdict says if it lies within it.
"""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

# The last turn, too, has something to do later.
AFTERWARDS_SECONDS = 1.0
# Student's t for 95 %, two-sided, by degrees of freedom; beyond the last, as there. Source: any table of it.
_STUDENT = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09,
)  # fmt: skip
GENERATIONS_MIN = 5

# CPU seconds a unit, by kind.
Costs = dict[str, float]


class Loaded(Protocol):
    """One of the kinds, as it runs."""

    async def load(self) -> int:
        """Give it a moment's work; how many units that were."""

    async def cpu_seconds(self) -> float:
        """What it has used since it started."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two costs."""

    median: float
    # Where the mean of many generations would be, with a probability of 95 %.
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"

    def verdict(self, goal_max: float) -> str:
        """In words; whether it is met is a matter of the median, and how sure that is of the rest."""
        sure = self.high <= goal_max or self.low > goal_max
        return f"<= {goal_max} {'met' if self.met(goal_max) else 'MISSED'}{'' if sure else ', within the noise'}"

    def met(self, goal_max: float) -> bool:
        return self.median <= goal_max


async def costs(kinds: Mapping[str, Loaded], rounds: int, random: Random) -> Costs:
    """Of one generation. One round more warms."""
    order = list(kinds)
    began = {kind: 0.0 for kind in kinds}
    units = dict.fromkeys(kinds, 0)
    for number in range(rounds + 1):
        random.shuffle(order)
        for kind in order:
            done = await kinds[kind].load()
            if number:
                units[kind] += done
        if not number:
            began = {kind: await kinds[kind].cpu_seconds() for kind in kinds}
    await asyncio.sleep(AFTERWARDS_SECONDS)
    return {kind: (await kinds[kind].cpu_seconds() - began[kind]) / units[kind] for kind in kinds}


def ratio(generations: Sequence[Costs], kind: str, *of: str) -> Ratio:
    """Of what `costs` said in several generations; `of`: if several, of their mean.

    Raises: ValueError: of fewer than `GENERATIONS_MIN`.
    """
    if len(generations) < GENERATIONS_MIN:
        raise ValueError(f"{len(generations)} generations say nothing: take at least {GENERATIONS_MIN}")
    each = [costs[kind] / statistics.fmean(costs[other] for other in of) for costs in generations]
    mean = statistics.fmean(each)
    about = _STUDENT[min(len(each) - 1, len(_STUDENT)) - 1] * statistics.stdev(each) / len(each) ** 0.5
    return Ratio(statistics.median(each), mean - about, mean + about)
