"""One live world for all tests that need one: it is begun once, and takes about 15 s until rates have samples."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.hops import HOPS
from tests.console.live import Live, live

FILLED_SECONDS_MAX = 60.0
# A chart's last point lies up to a step of 5 s back, and a rate needs two samples before it.
SAMPLES_MIN = 12
# Of the usual pace of the stand-in's errors: some, so that no panel of errors is empty.
TROUBLE = 1.0


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("console")
    with live(folder, trouble=TROUBLE) as now:
        ends = time.monotonic() + FILLED_SECONDS_MAX
        lacking = _lacking(now)
        while lacking:
            assert time.monotonic() < ends, f"Prometheus has no data of {lacking}"
            time.sleep(0.5)
            lacking = _lacking(now)
        yield now


def _lacking(now: Live) -> list[str]:
    """What has no value yet, in the window that the console asks for."""
    if not now.prometheus.query(f"min(count_over_time(up[1m])) >= {SAMPLES_MIN}"):
        return ["samples"]
    return [
        f"{hop.name} {name}" for hop in HOPS for name, signal in hop.signals.items() if not now.prometheus.query(signal.at("1m"))
    ]
