"""`python -m alerts.watch`: the watch as a process. What it found is at `/watch` of its health port, as JSON."""

import os
import signal
import sys
import threading
from types import FrameType

from alerts.watch.service import Watch
from alerts.watch.settings import InvalidSetting, load
from alerts.watch.tell import Tellers
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

PART, PATH = "watch", "/watch"
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
SHIP_SECONDS_MAX = 1.5


def run() -> int:
    """Watch until told to stop; return the exit code."""
    try:
        settings = load()
    except InvalidSetting as exc:
        print(f"{PART}: {exc}", file=sys.stderr)
        return EXIT_CONFIGURATION
    port = os.environ.get("SPILLWAY_HEALTH_PORT", "")
    telling = TelemetrySettings(otlp_endpoint=os.environ.get("SPILLWAY_TELEMETRY_OTLP_ENDPOINT", ""))
    worker = os.environ.get("SPILLWAY_WORKER") or f"{PART}-{os.getpid()}"
    telemetry = Telemetry.begin(PART, worker, telling, health_port=int(port) if port else None)
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        telemetry.set_ready(False)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    watch = Watch(settings, telemetry.metrics, telemetry.log, Tellers.of(settings, telemetry.metrics, telemetry.log))
    if telemetry.health is not None:
        telemetry.health.add_page(PATH, watch.said)
    telemetry.set_ready(True)
    try:
        watch.run(stopping)
    finally:
        telemetry.end(SHIP_SECONDS_MAX)
    return 0


if __name__ == "__main__":
    sys.exit(run())
