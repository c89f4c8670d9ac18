"""What every process says of itself: since when it runs, how much CPU it takes, how often it has crashed.

A crash is what the supervisor saw of this worker's former lives, and tells by `SPILLWAY_TELEMETRY_CRASHES`: a process can't count
its own deaths, and one that is up again within a second is never seen to be down. Where nobody tells (ECS starts another task
instead), the figure stays 0, and a worker that is away is seen by `up`.
"""

import time
from collections.abc import Callable

from telemetry import metrics as m
from telemetry.metrics import Metrics


def report(
    metrics: Metrics,
    crashes: int,
    now_seconds: Callable[[], float] = time.time,
    cpu_seconds: Callable[[], float] = time.process_time,
) -> None:
    metrics.gauge(m.PROCESS_START).set(now_seconds())
    metrics.counter(m.PROCESS_CRASHES).inc(crashes)
    metrics.counter_of(m.PROCESS_CPU_SECONDS, cpu_seconds)
