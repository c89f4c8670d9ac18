"""`python -m canary`: the scheduled canary as a process. What it knows is at `/canary` of its health port, as JSON."""

import os
import signal
import sys
import threading
import time
from types import FrameType

from canary.service import PATH, service
from canary.settings import CanarySettings
from canary.state import State
from pipeline.config import Settings, load
from pipeline.errors import Permanent
from telemetry.log import configure
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

PART = "canary"
STATE = "canary/probes.sqlite"
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
SHIP_SECONDS_MAX = 1.5


def run() -> int:
    """Be the canary until told to stop; return the exit code."""
    log, telemetry = configure(PART, scrub=mask), None
    try:
        settings, own, telling = load(Settings), load(CanarySettings), load(TelemetrySettings)
        worker = settings.worker or f"{PART}-{os.getpid()}"
        telemetry = Telemetry.begin(PART, worker, telling, health_port=settings.health_port, scrub=mask)
        log = telemetry.log
        _serve(telemetry, settings, own)
    except Permanent as exc:
        log.error("refused to run", kind=type(exc).__name__, detail=str(exc))
        print(f"{PART}: {exc}", file=sys.stderr)
        return EXIT_CONFIGURATION
    finally:
        if telemetry is not None:
            telemetry.end(SHIP_SECONDS_MAX)
    return 0


def _serve(telemetry: Telemetry, settings: Settings, own: CanarySettings) -> None:
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        telemetry.set_ready(False)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    state = State(settings.state_dir / STATE)
    running = service(settings, own, state, telemetry.metrics, telemetry.log, time.time)
    if telemetry.health is not None:
        telemetry.health.add_page(PATH, running.said)
    telemetry.set_ready(True)
    telemetry.log.info("started", source=state.source, open_probes=len(running.canary.open))
    running.run(stopping)
    running.close()
    telemetry.log.info("stopped", drained=True)


if __name__ == "__main__":
    sys.exit(run())
