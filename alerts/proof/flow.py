"""Who lives when, and what flows through each hop in each bin of time."""

from collections.abc import Iterator

import numpy as np

from alerts.proof import canary
from alerts.proof.exposition import Target
from alerts.proof.series import Floats
from alerts.proof.spans import Spans, within
from alerts.proof.story import Story
from telemetry.hops import EXITS, HOPS

# Process, and whether several share its work.
PROCESSES: dict[str, bool] = {
    "grpc": True, "http": True, "transcoder": True, "redactor": True, "etl": False, "auditor": False, "canary": False,
    "ledger": False, "store": False, "console": False, "escalator": False, "watch": False,
}  # fmt: skip
_PORT_FIRST = 4600
_DRAIN_SECONDS = 5.0


class Flow:
    """Of a story; arrays have a value for each bin."""

    def __init__(self, story: Story, rng: np.random.Generator) -> None:
        self.story = story
        self.at = (story.edges[:-1] + story.edges[1:]) / 2
        self.width = np.diff(story.edges)
        self.ends = float(story.edges[-1])
        # Since 1970, of the story's begin.
        self.epoch = story.epoch_ms / 1000
        self.targets = list(self._targets(rng))
        self.outages = {
            hop: self._outage(hop) for hop in (*canary.way("http", "lake"), *EXITS, "backup", "web-backup", "kinesis")
        }
        self.traffic = np.maximum(story.traffic(self.at), 0.0)

    def _targets(self, rng: np.random.Generator) -> Iterator[Target]:
        port = _PORT_FIRST
        for process, several in PROCESSES.items():
            count = self.story.workers_each if several else 1
            for number in range(count):
                worker = process if count == 1 else f"{process}-{number + 1}"
                labels = {"job": "spillway", "process": process, "worker": worker, "instance": f"127.0.0.1:{port}"}
                port += 1
                scrapes = self.story.scrapes + round(rng.uniform(0, 4.999), 3)
                dead, missed = self.story.spans("killed", process, worker), self.story.spans("unscraped", worker)
                yield Target(process, worker, labels, scrapes, dead, missed=missed)

    def of(self, process: str) -> list[Target]:
        return [target for target in self.targets if target.process == process]

    def _all_dead(self, process: str) -> Spans:
        """When no worker of it lives."""
        common: Spans = [(-np.inf, np.inf)]
        for target in self.of(process):
            common = [(max(a, c), min(b, d)) for a, b in common for c, d in target.dead if max(a, c) < min(b, d)]
        return common

    def _outage(self, hop: str) -> Spans:
        """When a hop takes nothing."""
        process = {hop.name: hop.process for hop in HOPS}.get(hop, "")
        process = "" if hop in ("kinesis", "backup") else process
        spans = self.story.spans("stopped", hop) + self.story.spans("away", hop)
        spans += self._all_dead(process) if process else []
        return sorted(spans + (self.story.spans("stopped", "kinesis") if hop != "kinesis" and hop not in EXITS else []))

    def open(self, hop: str) -> Floats:
        """1 where the hop takes what comes."""
        return (~within(self.at, self.outages[hop])).astype(float)

    def portion(self, target: Target) -> Floats:
        """Of its process's work, what this worker has: those that live share it."""
        living = [~within(self.at, each.dead) for each in self.of(target.process)]
        mine = ~within(self.at, target.dead)
        shared: Floats = mine / np.maximum(np.sum(living, axis=0), 1).astype(np.float64)
        return shared

    def share(self, kind: str, hop: str) -> Floats:
        share = np.zeros(len(self.at))
        for fault in self.story.faults:
            if fault.kind == kind and fault.where == hop:
                share[(self.at >= fault.begins) & (self.at < fault.ends)] = fault.share
        return share

    def late(self, hop: str) -> Floats:
        """How much more than usual a hop takes in each bin: what had waited, within some seconds of its outage's end."""
        late = np.zeros(len(self.at))
        for begins, ends in self.outages[hop]:
            drain = (self.at >= ends) & (self.at < ends + _DRAIN_SECONDS)
            if drain.any():
                waited = self.traffic[within(self.at, [(begins, ends)])] @ self.width[within(self.at, [(begins, ends)])]
                late[drain] += waited / float(self.width[drain].sum())
        return late

    def waited(self, hop: str) -> Floats:
        """How long what comes late in a bin had waited at most."""
        waited = np.ones(len(self.at))
        for begins, ends in self.outages[hop]:
            waited[(self.at >= ends) & (self.at < ends + _DRAIN_SECONDS)] = max(1.0, ends - begins)
        return waited
