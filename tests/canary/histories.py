"""Seeded histories of one probe at one exit: what really happened, and what looks saw of it.

The truth is chosen first, the looks are taken of it, and what must be found is derived from the truth and from when somebody
looked; nothing of `canary.judge` is used. So a judge that confuses two classes disagrees with some history.
"""

import random
from dataclasses import dataclass, field

from canary.judge import Deadlines, Look, Verdict

DEADLINES = Deadlines(due_seconds=20.0, lost_seconds=120.0, blind_seconds=900.0)
SENT_AT = 1_000_000.0


@dataclass
class Truth:
    """What happened to the event. Times are seconds since it was sent; None: never."""

    acknowledged: bool = True
    arrives: float | None = 3.0
    second_copy: float | None = None
    vanishes: float | None = None
    # When a later event of the same lane arrives.
    later_arrives: float = 8.0
    wrong_fields: tuple[str, ...] = ()

    def copies(self, at: float) -> int:
        if self.arrives is None or at < self.arrives or (self.vanishes is not None and at >= self.vanishes):
            return 0
        return 2 if self.second_copy is not None and at >= self.second_copy else 1


@dataclass
class History:
    seed: int
    truth: Truth
    looks: list[Look] = field(default_factory=list)
    now: float = 0.0
    expected: frozenset[Verdict] = frozenset()


def history(seed: int) -> History:
    rng = random.Random(seed)
    truth = _truth(rng)
    made = History(seed, truth)
    blind = _blind(rng)
    ends = rng.choice((rng.uniform(1, 19), rng.uniform(30, 110), rng.uniform(150, 400), rng.uniform(901, 1200)))
    at, every = rng.uniform(0.1, 2.0), rng.uniform(1.0, 12.0)
    while at < ends:
        took = rng.uniform(0.0, 0.4)
        if any(start <= at < end for start, end in blind):
            made.looks.append(Look(SENT_AT + at, SENT_AT + at + took, None))
        else:
            # A look sees a snapshot of the moment when it began.
            copies = truth.copies(at)
            overtaken = not copies and at >= truth.later_arrives
            made.looks.append(Look(SENT_AT + at, SENT_AT + at + took, copies, truth.wrong_fields if copies else (), overtaken))
        at += took + every * rng.uniform(0.5, 1.5)
    made.now = SENT_AT + ends
    made.expected = _expected(truth, [look.began - SENT_AT for look in made.looks if look.copies is not None], ends)
    return made


def _truth(rng: random.Random) -> Truth:
    arrives = rng.choice((None, rng.uniform(0.2, 15), rng.uniform(0.2, 15), rng.uniform(25, 110), rng.uniform(125, 300)))
    truth = Truth(
        acknowledged=rng.random() < 0.9,
        arrives=arrives,
        later_arrives=rng.choice((rng.uniform(5, 15), 10_000.0)),
        wrong_fields=rng.choice(((), (), (), ("subject",), ("lines.0.sku", "tenant"))),
    )
    if arrives is not None and rng.random() < 0.2:
        truth.second_copy = arrives + rng.uniform(0, 10)
    if arrives is not None and rng.random() < 0.15:
        truth.vanishes = arrives + rng.uniform(1, 60)
    return truth


def _blind(rng: random.Random) -> list[tuple[float, float]]:
    """Stretches in which nobody can look."""
    return rng.choice(([], [], [(0.0, 10_000.0)], [(rng.uniform(0, 30), rng.uniform(30, 200))], [(rng.uniform(5, 19), 10_000.0)]))


def _expected(truth: Truth, looked: list[float], now: float) -> frozenset[Verdict]:
    """From the truth and the moments of the looks that worked."""
    due, lost = DEADLINES.due_seconds, DEADLINES.lost_seconds
    seen = [at for at in looked if truth.copies(at)]
    if not seen:
        if not truth.acknowledged:
            told = any(at >= lost for at in looked) or now >= DEADLINES.blind_seconds
            return frozenset({Verdict.UNKNOWN if told else Verdict.WAITING})
        if any(at >= lost for at in looked):
            return frozenset({Verdict.LOST})
        if any(at >= due for at in looked):
            return frozenset({Verdict.LATE})
        return frozenset({Verdict.UNKNOWN if now >= due + DEADLINES.look_seconds else Verdict.WAITING})
    found = set()
    before = [at for at in looked if at < seen[0]]
    if truth.acknowledged and any(at >= due for at in before):
        found.add(Verdict.LATE)
    if looked[-1] > seen[-1]:
        found.add(Verdict.LOST)
    if any(truth.copies(at) > 1 for at in seen):
        found.add(Verdict.DUPLICATED)
    if truth.wrong_fields:
        found.add(Verdict.CORRUPTED)
    if any(at >= truth.later_arrives for at in before):
        found.add(Verdict.REORDERED)
    return frozenset(found or {Verdict.DELIVERED})
