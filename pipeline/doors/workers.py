"""Several processes of one door on one port, one a core.

Each worker is a process of its own, started anew (gRPC objects do not survive a fork), and binds the same port with
SO_REUSEPORT. A worker that dies is started again with full jitter. SIGTERM goes to all of them, each drains, and this process
leaves last. If this process is killed, the workers notice and drain.
"""

import asyncio
import os
import signal
import sys
from random import Random

from pipeline.config import Settings, load
from pipeline.doors.run import PARENT_VARIABLE
from pipeline.doors.settings import DoorSettings, GrpcSettings, HttpSettings
from pipeline.errors import InvalidConfiguration
from pipeline.streams.retry import Backoff
from telemetry import log as logs

RESTART = Backoff(floor_seconds=0.1, base_seconds=0.5, cap_seconds=15.0)
# A worker that ran this long is healthy again.
_HEALTHY_SECONDS = 30.0
_KILL_MARGIN_SECONDS = 3.0


async def supervise(name: str, workers: int) -> None:
    """Raises: InvalidConfiguration: workers can't share port 0."""
    shared, settings = load(Settings), load(DoorSettings)
    port = load(GrpcSettings).port if name == "grpc" else load(HttpSettings).port
    if port == 0:
        raise InvalidConfiguration(f"SPILLWAY_{name.upper()}_PORT must be given when {workers} workers are to share it")
    log = logs.configure(f"door-{name}", "supervisor")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bound = settings.drain_wait_seconds + settings.drain_budget_seconds + _KILL_MARGIN_SECONDS
    keepers = [
        asyncio.create_task(_keep(name, index, _environment(name, index, shared), stop, bound, log)) for index in range(workers)
    ]
    await asyncio.gather(*keepers)


def _environment(name: str, index: int, shared: Settings) -> dict[str, str]:
    health = {} if not shared.health_port else {"SPILLWAY_HEALTH_PORT": str(shared.health_port + index)}
    return {
        **os.environ,
        **health,
        f"SPILLWAY_{name.upper()}_WORKERS": "1",
        "SPILLWAY_WORKER": f"{shared.worker or name}-{index}",
        PARENT_VARIABLE: str(os.getpid()),
    }


async def _keep(
    name: str, index: int, env: dict[str, str], stop: asyncio.Event, stop_seconds_max: float, log: logs.Logger
) -> None:
    """One worker's place: run it, start it again when it dies, end it when told."""
    failures, random = 0, Random()
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        began = asyncio.get_running_loop().time()
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "pipeline.doors", name, env=env)
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            done, _ = await asyncio.wait({ended}, timeout=stop_seconds_max)
            if not done:
                log.error("worker did not drain in time, killed", index=index)
                process.kill()
                await ended
            return
        failures = 1 if asyncio.get_running_loop().time() - began > _HEALTHY_SECONDS else failures + 1
        delay = RESTART.delay_seconds(failures, random)
        log.error("worker died, starting another", index=index, exit_code=process.returncode, delay_seconds=round(delay, 2))
        await asyncio.wait({stopping}, timeout=delay)
