"""Acknowledged against delivered, by identity.

A count hides a loss behind a duplicate (TRAPS 28), so everything here is about ids. The words are those of Jepsen's total-queue:
attempted, acknowledged, lost, duplicated, unexpected. What was attempted but not acknowledged may arrive or not:
an answer that got lost on its way back is no loss and no surprise. A reconciliation of nothing proves nothing: its
verdict is UNKNOWN, never OK (TRAPS 30).
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Identity = TypeVar("Identity")


class Verdict(Enum):
    OK = "OK"
    LOST = "LOST"
    DOUBLED = "DOUBLED"
    PHANTOM = "PHANTOM"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Reconciliation(Generic[Identity]):
    """What one exit did with what was attempted."""

    acknowledged: int
    # Acknowledged and there at least once.
    delivered: int
    # Attempted, never acknowledged, and there all the same: the answer was lost, not the event.
    recovered: int
    missing: frozenset[Identity]
    # There more often than once, with how often.
    duplicated: dict[Identity, int]
    # There, but never attempted.
    unexpected: frozenset[Identity]

    @property
    def verdict(self) -> Verdict:
        """The worst that happened. Raises nothing; UNKNOWN when nothing was acknowledged."""
        if self.missing:
            return Verdict.LOST
        if self.unexpected:
            return Verdict.PHANTOM
        if self.duplicated:
            return Verdict.DOUBLED
        return Verdict.OK if self.acknowledged else Verdict.UNKNOWN


def reconcile(
    attempted: Collection[Identity], acknowledged: Collection[Identity], observed: Iterable[Identity]
) -> Reconciliation[Identity]:
    """Compare. `observed` is everything that the exit holds, with repetitions.

    Raises:
        ValueError: something was acknowledged that was never attempted: the books themselves are wrong.
    """
    tried, acked = frozenset(attempted), frozenset(acknowledged)
    if not acked <= tried:
        raise ValueError(f"{len(acked - tried)} acknowledged events were never attempted, such as {next(iter(acked - tried))!r}")
    counts = Counter(observed)
    seen = frozenset(counts)
    return Reconciliation(
        acknowledged=len(acked),
        delivered=len(acked & seen),
        recovered=len((tried - acked) & seen),
        missing=acked - seen,
        duplicated={identity: count for identity, count in counts.items() if count > 1},
        unexpected=seen - tried,
    )
