"""The store, put together: begin, serve, drain."""

import asyncio
import math
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from telemetry.health import Health
from telemetry.log import Logger
from telemetry.metrics import DISK_SIZE_BYTES, DISK_USED_BYTES, Metrics
from telemetry.serving import QuietServer
from telemetry.store.database import Database
from telemetry.store.grpc_door import grpc_server
from telemetry.store.http_door import HttpDoor
from telemetry.store.ingest import Ingest
from telemetry.store.intake import Intake
from telemetry.store.judge import Judge
from telemetry.store.query import Queries
from telemetry.store.retention import Retention
from telemetry.store.settings import StoreSettings
from telemetry.store.tempo import Tempo

DRAIN_SECONDS = 5
# Longer than a quiet sender pauses: one that sends as we hang up loses what it sent.
KEEP_ALIVE_SECONDS = 75


class Store:
    """One store in one folder. Ports that were given as 0 are known after `start`."""

    def __init__(self, settings: StoreSettings, metrics: Metrics, log: Logger) -> None:
        """Raises: FolderInUseError. OSError: the folder can't be used, or the health port is taken."""
        self._settings, self._log = settings, log
        clock = steady_clock()
        self._database = Database(settings.folder, log, clock)
        retention = Retention(settings.retention_seconds, settings.bytes_max)
        judge = Judge(metrics, settings.judge_seconds)
        self._ingest = Ingest(
            self._database, judge, retention, metrics, log, waiting_bytes_max=settings.waiting_bytes_max, clock=clock
        )
        self._intake = Intake(self._ingest, settings.reading_bytes_max, clock)
        self._tempo = Tempo(Queries(self._database, settings.query_seconds_max))
        watch_disk(metrics, settings.folder)
        self._health = Health(metrics, settings.health_port, settings.host)
        self.grpc_port, self.http_port, self.health_port = 0, 0, self._health.port

    async def start(self) -> None:
        """Raises: OSError or RuntimeError: a port can't be had."""
        settings = self._settings
        self._grpc = grpc_server(self._intake)
        self.grpc_port = self._grpc.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
        listener = _listen(settings.host, settings.http_port)
        self.http_port = listener.getsockname()[1]
        self._ingest.start()
        routes = [*HttpDoor(self._intake).routes(), *self._tempo.routes()]
        application = Starlette(routes=routes, exception_handlers={404: _not_spoken})
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        self._http = QuietServer(config)
        self._serving = asyncio.create_task(self._http.serve(sockets=[listener]))
        await self._grpc.start()
        self._health.set_ready(True)
        self._log.info("serving", grpc_port=self.grpc_port, http_port=self.http_port, health_port=self.health_port)

    async def stop(self) -> None:
        """Answer what was taken in, write it, close."""
        self._health.set_ready(False)
        self._http.should_exit = True
        await self._grpc.stop(grace=DRAIN_SECONDS)
        await self._serving
        await asyncio.to_thread(self._ingest.close)
        self._intake.close()
        self._tempo.close()
        self._database.close()
        self._health.close()
        self._log.info("stopped")


def steady_clock() -> Callable[[], float]:
    """Seconds since 1970 that never jump: a clock that is set must not judge or expire everything at once."""
    began, at = time.time(), time.monotonic()
    return lambda: began + time.monotonic() - at


async def _not_spoken(request: Request, _: Exception) -> Response:
    return PlainTextResponse(f"{request.url.path} is not spoken here: see telemetry/store/README.md\n", 404)


def watch_disk(metrics: Metrics, folder: Path) -> None:
    """How full the folder's disk is, asked at each scrape. What only root may fill counts as no room."""

    def used_and_size() -> tuple[float, float]:
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            return math.nan, math.nan  # the disk is gone: the other figures are wanted more than ever
        return usage.used, usage.used + usage.free

    metrics.gauge(DISK_USED_BYTES).set_function(lambda: used_and_size()[0])
    metrics.gauge(DISK_SIZE_BYTES).set_function(lambda: used_and_size()[1])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
