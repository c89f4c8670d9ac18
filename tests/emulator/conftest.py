"""The simulated world of the model's tests, and the option that names the contract's targets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pipeline.emulator.inprocess import World
from pipeline.emulator.limits import Limits
from pipeline.emulator.log import Log


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when pytest is pointed at this folder; SPILLWAY_CONTRACT_TARGET works from anywhere."""
    parser.addoption("--target", help="contract targets, by comma: model,served,ministack,kinesis-local,aws")


@dataclass
class Clock:
    """Seconds since the epoch, moved by the test."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Simulation:
    """A world and its clock. `again` is the same account after a restart, over the given log."""

    clock: Clock = field(default_factory=Clock)
    world: World = field(init=False)
    opened: int = 0

    def __post_init__(self) -> None:
        self.world = self.open()

    def open(self, log: Log | None = None, rates: Limits | None = None) -> World:
        self.opened += 1
        self.world = World.of(self.clock, random.Random(self.opened), log=log, rates=rates or Limits(enforced=False))
        return self.world

    def call(self, operation: str, **request: object) -> dict[str, object]:
        return self.world.kinesis.call(operation, dict(request))


@pytest.fixture
def simulation() -> Simulation:
    return Simulation()


@pytest.fixture
def open_world(simulation: Simulation) -> Callable[..., World]:
    return simulation.open
