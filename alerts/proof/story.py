"""What happens to a simulated pipeline: faults and the ordinary events of a healthy week, all as spans of time.

Times are seconds since the story's begin. A fault without an end lasts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from alerts.proof.series import Floats

SCRAPE_SECONDS = 5.0
# Since 1970: a Monday.
EPOCH_MS = 1_780_272_000_000

Kind = Literal[
    # The process is gone: nobody answers, a scrape fails. `where`: a worker, or a process for all of its workers.
    "killed",
    # The hop takes nothing, though its process lives. `where`: a hop, or `kinesis` (every write is refused).
    "stopped",
    # An exit's store can't be reached, by nobody.
    "away",
    # A door asks a share of events to be sent again.
    "errors",
    # A share of what comes to a door is not what it may be: refused, by right.
    "malformed",
    # A share of a door's requests takes longer than anybody waits.
    "slow",
    # A share of what was acknowledged never comes to the exit `where`.
    "loss",
    # The ledger convicts once in ten seconds: `where` is the verdict.
    "convicted",
    # The canary's check `where` convicts.
    "leak",
    # The auditor finds damage in the backup.
    "damage",
    # Scrapes of the worker miss, and that is all.
    "unscraped",
    # The series of `where` (a metric's name, or a worker's `up`) are gone, though all is well.
    "absent",
    # The ledger can't look.
    "blind",
]


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    where: str
    begins: float
    ends: float = math.inf
    share: float = 1.0

    @property
    def span(self) -> tuple[float, float]:
        return self.begins, self.ends


def steady(events_per_second: float) -> Callable[[Floats], Floats]:
    return lambda at: np.full(len(at), events_per_second)


@dataclass(frozen=True)
class Story:
    """`scrapes`: when a target is looked at, but for its own offset. The bins between `edges` are what happens at one pace."""

    scrapes: Floats
    edges: Floats
    faults: tuple[Fault, ...] = ()
    # Events a second at each door, from inside a bin's time.
    traffic: Callable[[Floats], Floats] = field(default_factory=lambda: steady(200.0))
    # Workers of each process of which there are several.
    workers_each: int = 2
    # Since 1970, of the story's begin.
    epoch_ms: int = EPOCH_MS
    seed: int = 1
    # When the streams' shards are others.
    reshards: tuple[float, ...] = ()
    # Spans of what else is worth a look: bursts of traffic.
    happens: tuple[tuple[float, float], ...] = ()

    def of(self, kind: Kind, where: str) -> Iterator[Fault]:
        return (fault for fault in self.faults if fault.kind == kind and fault.where == where)

    def spans(self, kind: Kind, *where: str) -> list[tuple[float, float]]:
        """Of any of these, in order; they may overlap."""
        return sorted(fault.span for name in where for fault in self.of(kind, name))
