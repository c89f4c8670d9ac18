"""A pipeline that is only simulated, under a clock that only the test moves: doors that acknowledge, exits that hold.

`faults` say what becomes of one probe on its way to one exit; without any, each arrives after `DELAY_SECONDS`, once, as it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from canary import probes
from canary.blame import EXITS, exits_of
from canary.lanes import DOORS, Door, Shard
from canary.looks import Held
from canary.probes import Fields, Probe
from canary.report import Report, report
from canary.send import Sent
from canary.settings import CanarySettings
from canary.state import State
from canary.watch import Canary
from canary.work import Inline, Workers
from pipeline.event import HASH_SPACE
from telemetry.log import Logger
from telemetry.metrics import Metrics

DELAY_SECONDS = 3.0
STEP_SECONDS = 2.0
SETTINGS = CanarySettings(
    key="spw_a_b", due_seconds=20.0, lost_seconds=60.0, backup_due_seconds=20.0, backup_lost_seconds=60.0, blind_seconds=300.0
)
STREAMS = ("web-events", "events", "events-clean")
SHARDS = {
    stream: [Shard(f"{stream}-{at}", HASH_SPACE * at // 2, HASH_SPACE * (at + 1) // 2 - 1) for at in range(2)]
    for stream in STREAMS
}


@dataclass
class Copy:
    """One copy that arrives so many seconds after the probe was sent."""

    after_seconds: float
    fields: Fields


Fault = Callable[[Probe, str, list[Copy]], list[Copy]]


class Quiet:
    """A log that nobody reads."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@lru_cache(maxsize=10_000)
def held_of(exit: str, probe: Probe) -> Fields:
    match exit:
        case "redis":
            return probes.expected_state(probe)
        case "web-backup":
            return probes.expected_as_sent(probe)
        case _:
            return probes.expected(probe)


@dataclass
class World:
    now: float = 1_795_000_000.0
    faults: list[Fault] = field(default_factory=list)
    # Doors that do not acknowledge, and exits that can't be read.
    deaf: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    sent: list[Probe] = field(default_factory=list)
    # What lies at an exit under the canary's source and came by no door.
    strangers: dict[str, dict[str, Fields]] = field(default_factory=dict)

    def held(self, exit: str, since: float) -> Held:
        held: Held = {id: [fields] for id, fields in self.strangers.get(exit, {}).items()}
        for probe in reversed(self.sent):
            if probe.sent_at < since:
                break
            if exit not in exits_of(probe.door):
                continue
            copies = [Copy(DELAY_SECONDS, held_of(exit, probe))]
            for fault in self.faults:
                copies = fault(probe, exit, copies)
            there = [copy.fields for copy in copies if self.now >= probe.sent_at + copy.after_seconds]
            if there:
                held[probe.id] = there
        return held


@dataclass
class FakeDoor:
    world: World
    door: Door

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        if self.door in self.world.deaf:
            return [Sent("unanswered", "connection refused")] * len(round)
        self.world.sent += round
        return [Sent("accepted")] * len(round)


@dataclass
class FakeExit:
    world: World
    name: str

    @property
    def once(self) -> bool:
        return self.name not in ("backup", "web-backup")

    def look(self, wanted: Sequence[Probe]) -> Held:
        if self.name in self.world.blind:
            raise ConnectionError("refused")
        return self.world.held(self.name, min(probe.sent_at for probe in wanted))

    def expected(self, probe: Probe) -> Fields:
        return held_of(self.name, probe)


def canary_in(world: World, path: Path | None = None, workers: Workers | None = None, **changed: Any) -> Canary:
    settings = CanarySettings(**{**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__}, **changed})
    log: Logger = Quiet()  # type: ignore[assignment]

    def shards() -> Mapping[str, Sequence[Shard]]:
        return SHARDS

    return Canary(
        settings,
        State(path),
        [FakeDoor(world, door) for door in DOORS],
        [FakeExit(world, exit) for exit in EXITS],
        shards,
        workers or Inline(),
        Metrics(),
        log,
        clock=lambda: world.now,
    )


def pass_time(world: World, canary: Canary, seconds: float, until: Callable[[Report], bool] | None = None) -> float:
    """Step by step; how long it took until the report was so, or all of it."""
    began = world.now
    while world.now < began + seconds:
        canary.step()
        world.now += STEP_SECONDS
        if until is not None and until(said(canary)):
            break
    return world.now - began


def said(canary: Canary) -> Report:
    return report(canary, ())
