"""`python -m dashboards.console`: the console as a process of its own."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dashboards.console.access import RefusedToStart, check_start
from dashboards.console.app import ConsoleSettings, console
from dashboards.console.runbooks import FOLDER as RUNBOOK_FOLDER
from dashboards.queries import JSON_FOLDER
from telemetry.process import Telemetry
from telemetry.serving import serve
from telemetry.settings import TelemetrySettings

TOKEN_VARIABLE = "SPILLWAY_CONSOLE_TOKEN"
# The escalator asks for it where it listens to more than this machine.
ESCALATOR_TOKEN_VARIABLE = "SPILLWAY_ESCALATOR_TOKEN"
EXIT_REFUSED = 2


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
        asyncio.run(serve(console(settings), settings.host, settings.port, telemetry))
    finally:
        telemetry.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
