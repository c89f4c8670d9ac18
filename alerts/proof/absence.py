"""No alert is silent because its series are gone: for each, the processes that report what it reads are taken away, and within
three minutes the alert itself must fire, or the one that its `absence` names.

Taken away in two ways: dead (`up` is 0), and not even known any more (`up` is gone, as with a target that nobody announces).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alerts.alert import Alert
from alerts.proof.flow import PROCESSES
from alerts.proof.rulebook import Pace, Rulebook, judge
from alerts.proof.server import server
from alerts.proof.story import EPOCH_MS, SCRAPE_SECONDS, Fault, Story
from alerts.proof.world import World

WITHIN_SECONDS = 180.0
_HEALTHY_SECONDS, _DENSE_SECONDS = 3900.0, 700.0
_APART_SECONDS = 30 * 3600.0
WORKERS_EACH = 2


@dataclass(frozen=True, slots=True)
class Loss:
    processes: frozenset[str]
    # Not even known any more.
    forgotten: bool

    @property
    def words(self) -> str:
        return f"{', '.join(sorted(self.processes))} {'unknown' if self.forgotten else 'dead'}"

    def faults(self) -> tuple[Fault, ...]:
        killed = [Fault("killed", process, _HEALTHY_SECONDS) for process in sorted(self.processes)]
        workers = [
            process if not PROCESSES[process] else f"{process}-{number + 1}"
            for process in sorted(self.processes)
            for number in range(WORKERS_EACH if PROCESSES[process] else 1)
        ]
        return (*killed, *(Fault("absent", worker, _HEALTHY_SECONDS) for worker in workers if self.forgotten))


def sources(book: Rulebook, alert: Alert) -> frozenset[str]:
    """The processes that report what an alert reads."""
    reads = book.reads([alert.name])
    story = Story(np.arange(0.0, 60.0, 5.0), np.arange(0.0, 65.0, 5.0), workers_each=WORKERS_EACH)
    return frozenset(each.labels["process"] for each in World(story, reads - {"up"}).series())


def losses(by_alert: dict[str, frozenset[str]]) -> list[Loss]:
    sets = sorted({each for each in by_alert.values() if each}, key=lambda each: (len(each), sorted(each)))
    return [Loss(processes, forgotten) for processes in sets for forgotten in (False, True)]


def fired(
    programs: Path, folder: Path, book: Rulebook, lost: Sequence[Loss], seed: int = 1
) -> Iterator[tuple[Loss, dict[str, float]]]:
    """What fires after each loss, and after how many seconds."""
    rules = [rule for rule in book.closure([rule.name for rule in book.alerts]) if rule.is_alert]
    reads = frozenset(word for rule in rules for word in rule.words)
    with server(programs, folder) as where:
        for number, loss in enumerate(lost):
            ends, dense = _HEALTHY_SECONDS + WITHIN_SECONDS, _HEALTHY_SECONDS - _DENSE_SECONDS
            scrapes = np.concatenate([np.arange(0.0, dense, 60.0), np.arange(dense, ends + SCRAPE_SECONDS, SCRAPE_SECONDS)])
            epoch_ms = EPOCH_MS + int(number * _APART_SECONDS * 1000)
            story = Story(scrapes, scrapes, loss.faults(), workers_each=WORKERS_EACH, epoch_ms=epoch_ms, seed=seed)
            where.write(World(story, reads).series())
            begins_ms = epoch_ms + int(_HEALTHY_SECONDS * 1000)
            first: dict[str, float] = {}
            for each in judge(where, rules, begins_ms - 5000, begins_ms + int(WITHIN_SECONDS * 1000), Pace({}, 5000)):
                first.setdefault(each.alert, (each.begins_ms - begins_ms) / 1000)
            yield loss, first


def complaints(
    alerts: Sequence[Alert], by_alert: dict[str, frozenset[str]], found: Sequence[tuple[Loss, dict[str, float]]]
) -> list[str]:
    """Alerts that stay silent together with those that should speak for them."""
    said = []
    for alert in alerts:
        if not by_alert[alert.name]:
            continue
        speakers = {alert.name, alert.absence} - {""}
        cases = [(loss, first) for loss, first in found if loss.processes == by_alert[alert.name]]
        if not cases:
            said.append(f"{alert.name}: {', '.join(sorted(by_alert[alert.name]))} never taken away")
        for loss, first in cases:
            if not speakers & first.keys():
                others = ", ".join(sorted(first.keys() - {"Watchdog"})) or "nothing"
                said.append(f"{alert.name}: {loss.words}, and neither of {', '.join(sorted(speakers))} fires (but {others})")
    return said
