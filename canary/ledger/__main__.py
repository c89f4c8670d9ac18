"""`python -m canary.ledger`: accounts for every acknowledged event, all the time.

It starts without the bucket, the lake or RDS being up (TRAPS 12), and says UNKNOWN, or nothing, of what it can't see.
"""

import os
import signal
import sys
import threading
from types import FrameType

import boto3
from botocore.config import Config

from canary.ledger.exits import LakeExit, RdsExit
from canary.ledger.hearing import Court
from canary.ledger.service import Service
from canary.ledger.settings import LedgerSettings
from canary.ledger.teller import Teller
from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.errors import Permanent
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings
from telemetry.log import configure
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

PART = "ledger"
CALLS = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}, max_pool_connections=16)
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
SHIP_SECONDS_MAX = 1.5


def run() -> int:
    """Be the ledger until told to stop; return the exit code."""
    log, telemetry = configure(PART, scrub=mask), None
    try:
        settings, own, telling = load(Settings), load(LedgerSettings), load(TelemetrySettings)
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


def _serve(telemetry: Telemetry, settings: Settings, own: LedgerSettings) -> None:
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        telemetry.set_ready(False)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    objects = S3Objects(boto3.client("s3", region_name=settings.region, config=CALLS), settings.bucket)
    exits = (LakeExit(Lake(load(EtlSettings).lake(settings), settings.region)), RdsExit(load(RdsSettings).url))
    streams = {"http": settings.web_stream, "grpc": settings.events_stream}
    court = Court(exits, Backup(objects), streams, telemetry.log)
    service = Service(objects, exits, court, Teller(telemetry.metrics, telemetry.log), own)
    if telemetry.health is not None:
        telemetry.health.add_page("/ledger.json", service.told)
    telemetry.set_ready(True)
    telemetry.log.info("started", health_port=telemetry.health.port if telemetry.health else None)
    service.run(stopping)
    telemetry.log.info("stopped", drained=True)


if __name__ == "__main__":
    sys.exit(run())
