"""The live world, old enough for the console: every rate of the hops' signals has samples."""

import time

import pytest

from telemetry.hops import HOPS
from tests.console.live import Live

FILLED_SECONDS_MAX = 60.0
# A chart's last point lies up to a step of 5 s back, and a rate needs two samples before it.
SAMPLES_MIN = 12


@pytest.fixture(scope="session")
def filled(world: Live) -> Live:
    ends = time.monotonic() + FILLED_SECONDS_MAX
    lacking = _lacking(world)
    while lacking:
        assert time.monotonic() < ends, f"Prometheus has no data of {lacking}"
        time.sleep(0.5)
        lacking = _lacking(world)
    return world


def _lacking(now: Live) -> list[str]:
    """What has no value yet, in the window that the console asks for."""
    if not now.prometheus.query(f"min(count_over_time(up[1m])) >= {SAMPLES_MIN}"):
        return ["samples"]
    return [
        f"{hop.name} {name}" for hop in HOPS for name, signal in hop.signals.items() if not now.prometheus.query(signal.at("1m"))
    ]
