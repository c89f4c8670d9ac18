"""`python -m pipeline.emulator`: the model as a server, put together here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from .door import Door
from .faults import Faults
from .firehose import Firehose
from .http import Connection
from .limits import Limits
from .log import FileLog
from .model import Kinesis
from .server import Server
from .store import S3Store

BACKLOG = 512
EXIT_LOG_FAILED = 70


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the server is told, once."""

    host: str
    port: int
    port_file: Path | None
    state: Path
    rates: Limits
    fsync: bool
    settle_ms: int
    region: str
    account: str


async def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    log = FileLog(settings.state)
    chance = random.SystemRandom()
    kinesis = Kinesis(
        time.time,
        chance,
        log=log,
        rates=settings.rates,
        region=settings.region,
        account=settings.account,
        settle_ms=settings.settle_ms,
    )
    door = Door(kinesis, Firehose(kinesis), Faults(time.time, chance))
    server = Server(door, log, S3Store(settings.region), fsync=settings.fsync)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), settings.host, settings.port, backlog=BACKLOG)
    port = listener.sockets[0].getsockname()[1]
    server.start()
    if settings.port_file is not None:
        fresh = settings.port_file.with_name(settings.port_file.name + ".new")
        fresh.write_text(f"{port}\n")
        fresh.replace(settings.port_file)
    print(f"kinesis and firehose on http://{settings.host}:{port}", flush=True)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    ends: set[asyncio.Future[Any]] = {stop, server.failed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    listener.close()
    if server.failed.done():
        logging.critical("the emulator stops without answering: %r", server.failed.exception())
        return EXIT_LOG_FAILED
    await server.stop()
    return 0


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=4568, show_default=True, help="0 picks a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Where to write the port once it listens.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the log.")
@click.option("--limits", "rates", type=click.Choice(["aws", "off"]), default="aws", envvar="SPILLWAY_EMULATOR_LIMITS")
@click.option("--limits-scale", default=1.0, show_default=True, help="Times AWS's rates per shard.")
@click.option("--fsync", type=click.Choice(["always", "off"]), default="off", show_default=True)
@click.option("--settle-ms", default=200, show_default=True, help="How long creating and resharding take.")
@click.option("--account", default="000000000000", show_default=True)
def main(
    host: str,
    port: int,
    port_file: Path | None,
    state: Path,
    rates: str,
    limits_scale: float,
    fsync: str,
    settle_ms: int,
    account: str,
) -> None:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    limits = Limits(enforced=rates == "aws", scale=limits_scale)
    settings = Settings(host, port, port_file, state, limits, fsync == "always", settle_ms, region, account)
    sys.exit(uvloop.run(serve(settings)))


if __name__ == "__main__":
    main(auto_envvar_prefix="SPILLWAY_EMULATOR")
