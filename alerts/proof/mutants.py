"""What is unhealthy, put into a healthy stretch one after the other: each must page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alerts.proof.healthy import HOUR, healthy
from alerts.proof.rulebook import Firing
from alerts.proof.story import Fault, Kind, Story


@dataclass(frozen=True, slots=True)
class Mutant:
    words: str
    faults: tuple[Fault, ...]
    # From its begin, a page is there within so many seconds.
    within_seconds: float

    def moved(self, seconds: float) -> "Mutant":
        moved = tuple(replace(each, begins=each.begins + seconds, ends=each.ends + seconds) for each in self.faults)
        return replace(self, faults=moved)


def _minute(kind: Kind, where: str, share: float = 1.0, seconds: float = 60.0) -> tuple[Fault, ...]:
    return (Fault(kind, where, 0.0, seconds, share),)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("all gRPC doors gone", _minute("killed", "grpc"), 90),
    Mutant("all HTTP doors gone", _minute("killed", "http"), 90),
    Mutant("the gRPC door hangs", _minute("stopped", "grpc-door"), 90),
    Mutant("Kinesis refuses every write", _minute("stopped", "kinesis"), 90),
    Mutant("half of what comes by gRPC is to be sent again", _minute("errors", "grpc-door", 0.5, 120.0), 180),
    Mutant("all transcoders gone", _minute("killed", "transcoder"), 90),
    Mutant("all redactors gone", _minute("killed", "redactor"), 90),
    Mutant("the ETL gone", _minute("killed", "etl"), 90),
    Mutant("the lake takes no rows", _minute("stopped", "lake"), 90),
    Mutant("RDS takes no rows", _minute("stopped", "rds"), 90),
    Mutant("RDS can't be reached", _minute("away", "rds"), 90),
    Mutant("Redis can't be reached", _minute("away", "redis"), 90),
    Mutant("one event in 2,000 lost on the way to RDS", _minute("loss", "rds", 0.0005, 600.0), 700),
    Mutant("events twice at an exit", _minute("convicted", "DOUBLED"), 300),
    Mutant("events altered", _minute("convicted", "CORRUPT"), 300),
    Mutant("personal data at an exit", _minute("leak", "personal_data", 1.0, 300.0), 400),
    Mutant("damage in the backup", _minute("damage", "events"), 180),
    Mutant("the backup gets nothing", _minute("stopped", "backup", 1.0, 900.0), 900),
    Mutant("the canary gone", _minute("killed", "canary", 1.0, 300.0), 300),
    Mutant("the ledger gone", _minute("killed", "ledger", 1.0, 600.0), 600),
    Mutant("the ledger can't look", _minute("blind", "ledger", 1.0, 900.0), 900),
)
# Between two of them, and before the first.
MUTANT_HOURS = 2.0


def mutated(seed: int) -> tuple[Story, tuple[Mutant, ...]]:
    """A healthy stretch with each mutant in it."""
    rng = np.random.default_rng([seed, 8])
    placed = tuple(
        mutant.moved((number + 1) * MUTANT_HOURS * HOUR + float(rng.uniform(0, 600))) for number, mutant in enumerate(MUTANTS)
    )
    faults = [fault for mutant in placed for fault in mutant.faults]
    # Each until it must have paged.
    looks = [(each.faults[0].begins, each.faults[0].begins + each.within_seconds) for each in placed]
    return healthy(seed, (len(MUTANTS) + 1) * MUTANT_HOURS * HOUR, faults, looks), placed


def missed(placed: Sequence[Mutant], pages: Sequence[Firing], epoch_ms: int) -> list[str]:
    """Mutants that did not page in time, in words."""
    out = []
    for mutant in placed:
        begins = mutant.faults[0].begins
        after = sorted((each.begins_ms - epoch_ms) / 1000 - begins for each in pages)
        first = next((seconds for seconds in after if seconds >= 0), np.inf)
        if first > mutant.within_seconds:
            out.append(f"{mutant.words}: no page within {mutant.within_seconds:g} s")
    return out


def met(placed: Sequence[Mutant], pages: Sequence[Firing], epoch_ms: int) -> list[str]:
    """What each mutant was paged by, and how soon."""
    out = []
    for mutant in placed:
        begins = mutant.faults[0].begins
        first: dict[str, float] = {}
        for each in pages:
            seconds = (each.begins_ms - epoch_ms) / 1000 - begins
            if 0 <= seconds <= mutant.within_seconds:
                first.setdefault(each.alert, seconds)
        by = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(first.items(), key=lambda item: item[1]))
        out.append(f"{mutant.words}: {by or 'nothing'}")
    return out
