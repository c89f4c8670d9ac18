"""`python -m dashboards.console`: the console as a process of its own."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn

from dashboards.console.access import RefusedToStart, check_start
from dashboards.console.app import ConsoleSettings, console
from dashboards.console.runbooks import FOLDER as RUNBOOK_FOLDER
from dashboards.queries import JSON_FOLDER
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

TOKEN_VARIABLE = "SPILLWAY_CONSOLE_TOKEN"
# The escalator asks for it where it listens to more than this machine.
ESCALATOR_TOKEN_VARIABLE = "SPILLWAY_ESCALATOR_TOKEN"
EXIT_REFUSED = 2
DRAIN_SECONDS_MAX = 2


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to `_serve`, so that a drain ends with exit code 0, and says when it serves."""

    def __init__(self, config: uvicorn.Config, serves: Callable[[], None]) -> None:
        super().__init__(config)
        self._serves = serves

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._serves()


async def _serve(settings: ConsoleSettings, telemetry: Telemetry) -> None:
    config = uvicorn.Config(
        console(settings), host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False,
        ws="none", timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )  # fmt: skip

    def serves() -> None:
        telemetry.set_ready(True)
        telemetry.log.info("console serves", address=f"http://{settings.host}:{settings.port}/")

    def stop() -> None:
        telemetry.set_ready(False)
        server.should_exit = True

    server = _Server(config, serves)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    await server.serve()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.console", description="The console: hop map, dashboards, traces, logs."
    )
    parser.add_argument("--host", default="127.0.0.1", help="another than the loopback needs a token")
    parser.add_argument("--port", type=int, default=8088)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--store", default="http://127.0.0.1:4318", metavar="URL", help="the trace store's HTTP port")
    parser.add_argument("--canary", default="", metavar="URL", help="the health port of the canary's process")
    parser.add_argument("--ledger", default="", metavar="URL", help="the ledger's health port")
    parser.add_argument("--alertmanager", default="", metavar="URL", help="what fires, and silences")
    parser.add_argument("--escalator", default="", metavar="URL", help="who is paged, and acknowledging")
    parser.add_argument("--token", default="", help=f"or {TOKEN_VARIABLE}, which other users can't see in the process list")
    parser.add_argument("--health-port", type=int, default=None, help="/livez, /readyz and /metrics of this process")
    parser.add_argument("--targets", type=Path, default=None, help="file_sd file or folder: which processes should answer")
    parser.add_argument("--runbooks", type=Path, default=RUNBOOK_FOLDER, help="folder of Markdown, a file a runbook")
    parser.add_argument("--dashboards", type=Path, default=JSON_FOLDER, help="folder of Grafana JSON")
    chosen = parser.parse_args(arguments)
    token = chosen.token or os.environ.get(TOKEN_VARIABLE, "")
    try:
        check_start(chosen.host, token)
    except RefusedToStart as exc:
        print(f"not started: {exc}", file=sys.stderr)
        return EXIT_REFUSED
    settings = ConsoleSettings(
        chosen.prometheus, chosen.store, chosen.host, chosen.port, token, chosen.dashboards, chosen.targets, chosen.runbooks,
        chosen.canary, chosen.ledger, chosen.alertmanager, chosen.escalator,
        os.environ.get(ESCALATOR_TOKEN_VARIABLE, ""),
    )  # fmt: skip
    endpoint = TelemetrySettings(otlp_endpoint=os.environ.get("SPILLWAY_TELEMETRY_OTLP_ENDPOINT", ""))
    telemetry = Telemetry.begin("console", os.environ.get("SPILLWAY_WORKER", "console"), endpoint, health_port=chosen.health_port)
    try:
        asyncio.run(_serve(settings, telemetry))
    finally:
        telemetry.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
