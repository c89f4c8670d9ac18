"""The pipeline, simulated as far as Prometheus sees it: every metric of the catalogue, of every process, at every scrape.

    a story ─► who lives when, and what flows ─► what each process says ─► what each scrape finds
                        flow.py              processes.py, watchers.py        exposition.py

Whatever is random is so by the story's seed: the same story is the same series.
"""

from collections.abc import Collection, Iterator

import numpy as np

from alerts.proof.exposition import Exposition
from alerts.proof.flow import Flow
from alerts.proof.processes import Processes
from alerts.proof.series import Series
from alerts.proof.story import Story
from alerts.proof.watchers import Watchers


class World:
    """The series of a story; `wanted`: names, as rules read them, or None for all."""

    def __init__(self, story: Story, wanted: Collection[str] | None = None) -> None:
        rng = np.random.default_rng(story.seed)
        self._flow, self._expose = Flow(story, rng), Exposition(story, wanted)
        self._processes, self._watchers = Processes(self._flow, self._expose, rng), Watchers(self._flow, self._expose, rng)

    def series(self) -> Iterator[Series]:
        for target in self._flow.targets:
            said = (self._expose.up(target), self._processes.of(target), self._watchers.of(target))
            for each in (*said, self._processes.telemetry(target), self._processes.itself(target)):
                for series in each:
                    yield from self._expose.without_hidden(series)
