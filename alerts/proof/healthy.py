"""A healthy, busy week: its traffic, and what happens in it though nothing is wrong.

Daily and weekly seasons, quiet nights, bursts, floods of events that are refused by right, deploys one worker at a time,
restarts, counter resets, missed scrapes, throttling within the budget, late batches inside their SLO, a reshard, midnights, and
restarts of canary and ledger.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.proof.processes import TENANTS
from alerts.proof.series import Floats
from alerts.proof.story import SCRAPE_SECONDS, Fault, Story

HOUR, DAY, WEEK = 3600.0, 86400.0, 604800.0
WORKERS_EACH = 2
_SEVERAL = ("grpc", "http", "transcoder", "redactor")


def healthy(seed: int, seconds: float = WEEK, faults: Sequence[Fault] = (), looks: Sequence[tuple[float, float]] = ()) -> Story:
    """And `faults`, and `looks`: spans that are worth one."""
    rng = np.random.default_rng([seed, 7])
    ordinary = tuple(fault for happens in _ORDINARY for fault in happens(rng, seconds))
    pace = Traffic.of(rng, seconds)
    return Story(
        scrapes=np.arange(0.0, seconds, SCRAPE_SECONDS),
        edges=np.arange(0.0, seconds + SCRAPE_SECONDS, SCRAPE_SECONDS),
        faults=(*ordinary, *faults),
        traffic=pace.at,
        workers_each=WORKERS_EACH,
        reshards=(float(rng.uniform(0.2, 0.8) * seconds),),
        # What lasts for long is worth a look at its begin and its end.
        happens=(*((at, at) for begins, lasts, _ in pace.bursts for at in (begins, begins + lasts)), *looks),
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events a second at each door: by hour, by day of the week, with noise, and bursts of up to twenty times."""

    base: float
    # Of the base, between noon and midnight.
    swing: float
    weekend: float
    # Begin, duration, times: bursts, and hours of a tenth of the usual.
    bursts: tuple[tuple[float, float, float], ...]
    seed: int

    @staticmethod
    def of(rng: np.random.Generator, seconds: float) -> "Traffic":
        base, swing, weekend = 10 ** rng.uniform(1.0, 3.0), rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)
        bursts = [
            (float(rng.uniform(0, seconds)), float(rng.uniform(20, 300)), float(10 ** rng.uniform(0.3, 1.3)))
            for _ in range(rng.poisson(4 * seconds / DAY))
        ]
        lulls = [(float(rng.uniform(0, seconds)), HOUR, 0.1) for _ in range(3)]
        return Traffic(base, swing, weekend, (*bursts, *lulls), int(rng.integers(1 << 31)))

    def at(self, when: Floats) -> Floats:
        pace = self.base * (1 - self.swing * np.cos(2 * np.pi * (when / DAY - 3 / 24)))
        pace = pace * np.where((when / DAY) % 7 >= 5, self.weekend, 1.0)
        for begins, lasts, times in self.bursts:
            pace = pace * np.where((when >= begins) & (when < begins + lasts), times, 1.0)
        noise = np.random.default_rng(self.seed).gamma(20.0, 1 / 20, len(when))
        return np.asarray(np.clip(pace, 0.5, 6000) * noise, dtype=np.float64)


Happens = Callable[[np.random.Generator, float], Iterator[Fault]]


def _times(rng: np.random.Generator, seconds: float, a_week: float) -> Floats:
    return np.sort(rng.uniform(0, seconds, rng.poisson(a_week * seconds / WEEK)))


def _deploys(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """Worker by worker; who drains asks a few to send again, and its shards stand for a moment until another has the lease."""
    for begins in _times(rng, seconds, 14):
        at = float(begins)
        for process in _SEVERAL:
            for number in range(WORKERS_EACH):
                lasts = float(rng.uniform(1.5, 9.0))
                yield Fault("killed", f"{process}-{number + 1}", at, at + lasts)
                if process in ("grpc", "http"):
                    yield Fault("errors", f"{process}-door", at - 2, at + 1, share=0.001)
                else:
                    yield Fault("stopped", process, at, at + float(rng.uniform(0.3, 3.0)))
                at += lasts + float(rng.uniform(8.0, 40.0))


def _restarts(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """Of any process, of which another is there or which nobody waits for."""
    several = [f"{process}-{number + 1}" for process in _SEVERAL for number in range(WORKERS_EACH)]
    for begins in _times(rng, seconds, 12):
        worker = str(rng.choice([*several, "auditor", "store", "console", "canary", "ledger"]))
        yield Fault("killed", worker, float(begins), float(begins + rng.uniform(1.0, 9.0)))


def _watchers_restart(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    for worker, a_week in (("canary", 4), ("ledger", 4)):
        for begins in _times(rng, seconds, a_week):
            yield Fault("killed", worker, float(begins), float(begins + rng.uniform(2.0, 14.0)))


def _missed_scrapes(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    everybody = [f"{process}-{number + 1}" for process in _SEVERAL for number in range(WORKERS_EACH)]
    everybody += ["etl", "auditor", "canary", "ledger", "store"]
    for begins in _times(rng, seconds, 20):
        yield Fault("unscraped", str(rng.choice(everybody)), float(begins), float(begins + SCRAPE_SECONDS))
    # Prometheus itself is busy: all of them at once.
    for begins in _times(rng, seconds, 4):
        for worker in everybody:
            yield Fault("unscraped", worker, float(begins), float(begins + SCRAPE_SECONDS))


def _late_batches(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A batch takes long, and what comes after waits: still within what the exit promises."""
    for exit in ("lake", "rds", "redis"):
        for begins in _times(rng, seconds, 3):
            yield Fault("stopped", exit, float(begins), float(begins + rng.uniform(4.0, 9.0)))


def _midnights(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """The lake begins a new partition of each tenant and type."""
    for day in range(1, int(seconds // DAY) + 1):
        yield Fault("stopped", "lake", day * DAY, day * DAY + float(rng.uniform(1.0, 2.0)) * len(TENANTS))


def _throttling(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A hot shard for some seconds: a few events are asked to be sent again."""
    for begins in _times(rng, seconds, 10):
        door = str(rng.choice(["grpc-door", "http-door"]))
        yield Fault(
            "errors", door, float(begins), float(begins + rng.uniform(5.0, 30.0)), share=float(rng.uniform(0.0005, 0.004))
        )


def _floods(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A producer whose events break the schema: a fifth of all, refused by right."""
    for begins in _times(rng, seconds, 5):
        door = str(rng.choice(["grpc-door", "http-door"]))
        yield Fault("malformed", door, float(begins), float(begins + rng.uniform(60, 300)), share=0.2)


_ORDINARY: tuple[Happens, ...] = (
    _deploys, _restarts, _watchers_restart, _missed_scrapes, _late_batches, _midnights, _throttling, _floods,
)  # fmt: skip
