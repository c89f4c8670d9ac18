"""`python -m alerts.escalator`: the escalator as a process of its own."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alerts.escalator import policy, settings
from alerts.escalator.access import RefusedToStart, check_start
from alerts.escalator.alertmanager import Alertmanager
from alerts.escalator.api import app
from alerts.escalator.channels import Channel, Console, Log, configured
from alerts.escalator.clock import Clock
from alerts.escalator.engine import Engine
from alerts.escalator.links import secret_of
from alerts.escalator.naming import by_ledger
from alerts.escalator.policy import InvalidPolicy, in_force
from alerts.escalator.service import Service
from alerts.escalator.settings import EscalatorSettings, InvalidSetting
from alerts.escalator.state import Setup
from alerts.escalator.store import FolderInUse, Sqlite, WrongLayout
from alerts.escalator.words import Message
from telemetry.log import Logger
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.serving import serve
from telemetry.settings import TelemetrySettings

EXIT_REFUSED = 2


def channels_of(env: Mapping[str, str], chosen: EscalatorSettings, log: Logger) -> dict[str, Channel]:
    """Raises: InvalidSetting."""

    def write(message: Message) -> None:
        say = log.warning if message.kind == "trigger" else log.info
        say(f"page {message.kind}", key=message.key, title=message.title, note=message.id, **{"facts": dict(message.facts)})

    return {**configured(env, chosen), "console": Console(), "log": Log(write)}


def setup_of(channels: Mapping[str, Channel], chosen: EscalatorSettings, console: str) -> Setup:
    """Raises: InvalidPolicy."""
    return Setup(
        in_force(policy.load(chosen.policies), channels),
        {name: channel.tells for name, channel in channels.items()},
        console,
        chosen.deadman_seconds,
        chosen.deadman_grace_seconds,
        chosen.test_every_seconds,
        chosen.test_late_seconds,
        chosen.test_first_seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m alerts.escalator",
        description="Tells people of alerts until one acknowledges. Channels and their secrets: alerts/escalator/README.md.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="another than the loopback needs SPILLWAY_ESCALATOR_TOKEN")
    parser.add_argument("--port", type=int, default=9095)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where pages and the outbox are kept")
    parser.add_argument("--alertmanager", default="http://127.0.0.1:9093", metavar="URL")
    parser.add_argument("--console", default="http://127.0.0.1:8088", metavar="URL", help="where links of pages lead")
    parser.add_argument("--ledger", default="", metavar="URL", help="its health port: pages of lost events then hold their ids")
    parser.add_argument("--health-port", type=int, default=None, help="/livez, /readyz, /metrics; or SPILLWAY_HEALTH_PORT")
    given = parser.parse_args(arguments)
    health_port = os.environ.get("SPILLWAY_HEALTH_PORT", "") if given.health_port is None else given.health_port
    endpoint = TelemetrySettings(otlp_endpoint=os.environ.get("SPILLWAY_TELEMETRY_OTLP_ENDPOINT", ""))
    telemetry = Telemetry.begin(
        "escalator", os.environ.get("SPILLWAY_WORKER", "escalator"), endpoint,
        health_port=None if health_port == "" else int(health_port), scrub=mask,
    )  # fmt: skip
    try:
        chosen = settings.load()
        chosen = replace(chosen, links=chosen.links or f"http://{given.host}:{given.port}")
        check_start(given.host, chosen.token)
        channels = channels_of(os.environ, chosen, telemetry.log)
        setup = setup_of(channels, chosen, given.console.rstrip("/"))
        store = Sqlite(given.data)
    except (InvalidSetting, InvalidPolicy, RefusedToStart, FolderInUse, WrongLayout) as exc:
        print(f"not started: {exc}", file=sys.stderr)
        telemetry.end()
        return EXIT_REFUSED
    service = Service(
        Engine(store, Clock(), setup), store, channels, Alertmanager(given.alertmanager), chosen,
        secret_of(given.data, chosen.secret), telemetry.metrics, telemetry.log, by_ledger(given.ledger),
    )  # fmt: skip
    service.begin()
    try:
        asyncio.run(serve(app(service), given.host, given.port, telemetry, said=service.health()["said"]))
    finally:
        service.end()
        # A sender may still write down what became of its message: SQLite must not be closed under it.
        with service.engine.lock:
            store.close()
        telemetry.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
