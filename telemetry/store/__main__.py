"""`python -m telemetry.store`: the trace store as a process of its own.

Exit codes: 0 after SIGTERM or SIGINT; 1 if it can't begin: the folder is another store's, or a port is taken; 2: wrong options.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from telemetry import log as logs
from telemetry.log import Logger
from telemetry.metrics import Metrics
from telemetry.store.database import FolderInUseError
from telemetry.store.service import Store
from telemetry.store.settings import BYTES_MAX_MIN, MIB, StoreSettings

_SIZES = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def size_bytes(text: str) -> int:
    """Bytes of a size as `2GiB`; a bare number is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found.group(2) not in _SIZES:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 512MiB, 2GiB, or bytes")
    size = int(float(found.group(1)) * _SIZES[found.group(2)])
    if size < BYTES_MAX_MIN:
        raise argparse.ArgumentTypeError(f"{text!r} is too little: at least {BYTES_MAX_MIN // MIB}MiB")
    return size


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: more than 0")
    return number


def settings_of(arguments: list[str]) -> StoreSettings:
    parser = argparse.ArgumentParser(prog="python -m telemetry.store", description="Takes OTLP in, speaks Tempo's HTTP API.")
    parser.add_argument("--folder", type=Path, required=True, help="where the file is; one store a folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=4317, help="OTLP over gRPC")
    parser.add_argument("--http-port", type=int, default=4318, help="OTLP over HTTP, and Tempo's API")
    parser.add_argument("--health-port", type=int, required=True)
    parser.add_argument("--retention-hours", type=_positive, default=72.0)
    parser.add_argument("--bytes-max", type=size_bytes, default=size_bytes("2GiB"), help="past it the oldest go")
    parser.add_argument("--judge-seconds", type=_positive, default=180.0, help="when a trace must be whole")
    said = parser.parse_args(arguments)
    return StoreSettings(
        folder=said.folder,
        host=said.host,
        grpc_port=said.grpc_port,
        http_port=said.http_port,
        health_port=said.health_port,
        retention_seconds=said.retention_hours * 3600.0,
        bytes_max=said.bytes_max,
        judge_seconds=said.judge_seconds,
    )


async def _serve(settings: StoreSettings, log: Logger) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    store = Store(settings, Metrics(), log)
    await store.start()
    await stopping.wait()
    await store.stop()


def main() -> int:
    settings = settings_of(sys.argv[1:])
    import uvloop

    log = logs.configure("store", os.environ.get("SPILLWAY_WORKER", ""))
    try:
        uvloop.run(_serve(settings, log))
    except (FolderInUseError, OSError, RuntimeError) as exc:
        log.error("the store can't begin", why=str(exc))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
