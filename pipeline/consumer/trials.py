"""What to try next when records make their processor fail (TRAPS 17), as a pure function.

Rules
- Records are tried together. A range that failed is halved; a single record that failed is tried again, then is poison.
- What succeeded is left behind; the poison is then in the rest of the range that failed, which is halved further.
- So among n records each poison one costs at most log2(n) + tries + 2 failures, every sound record is processed, and every poison
  one is buried. The same holds over crashes of the process, because the last trial is in the lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.consumer.lease import Trial
from pipeline.event import StoredRecord


@dataclass(frozen=True, slots=True)
class Try:
    """Process the first `count` records; `trial` says so in the lease beforehand."""

    count: int
    trial: Trial


@dataclass(frozen=True, slots=True)
class Poison:
    """The first record has failed alone `tries` times: bury it."""

    tries: int


def next_step(records: Sequence[StoredRecord], failed: Trial | None, tries_max: int) -> Try | Poison:
    """What to do with the first of these records, given the trial that failed last, in whole or in what is left of it."""
    suspects = 0 if failed is None else sum(1 for record in records if int(record.sequence_number) <= int(failed.last))
    if failed is None or suspects == 0:
        return _try(records, len(records), 1)
    if suspects > 1:
        return _try(records, suspects // 2, 1)
    if failed.first != records[0].sequence_number:
        return _try(records, 1, 1)
    if failed.tries >= tries_max:
        return Poison(failed.tries)
    return _try(records, 1, failed.tries + 1)


def _try(records: Sequence[StoredRecord], count: int, tries: int) -> Try:
    return Try(count, Trial(records[0].sequence_number, records[count - 1].sequence_number, tries))
