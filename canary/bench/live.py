"""What the canary costs on a stack that is idle but for it: its own CPU, and that of the doors while it runs and is held."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from canary.lanes import DOORS
from pipeline.stack.launch import Stack

PARTS = ("ministack", "emulator", "provision", "postgres", "redis", *DOORS, "transcoder", "redactor", "etl", "canary")
# After a start or an end, until it is as it always is.
SETTLE_SECONDS = 15.0
TURNS = 2
_START_SECONDS_MAX = 120.0


def prices(seconds: float) -> Iterator[tuple[str, float, float | None]]:
    """(process, its CPU of a core while the canary runs, and while it is held)."""
    names = ("grpc", "http", "canary")
    found: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Stack.start(Path(folder), parts=PARTS) as stack:
        for _ in range(TURNS):
            for runs in (True, False):
                if runs:
                    stack.release("canary")
                    stack.wait_ready("canary", _START_SECONDS_MAX)
                else:
                    stack.hold("canary")
                time.sleep(SETTLE_SECONDS)
                here = names if runs else names[:-1]
                before = {name: _cpu_of(stack.pid(name)) for name in here}
                time.sleep(seconds)
                for name in here:
                    found.setdefault((name, runs), []).append((_cpu_of(stack.pid(name)) - before[name]) / seconds)
    for name in names:
        held = found.get((name, False))
        yield name, statistics.mean(found[name, True]), None if held is None else statistics.mean(held)


def _cpu_of(pid: int) -> float:
    """CPU seconds of the threads that it has. Source: Linux, Documentation/scheduler/sched-stats: /proc/<pid>/schedstat."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
