"""HTTP of one process for people and programs: served until it is told to end, and what its rules of access rest on.

The console and the escalator share it; each has its own rules (`access.py` there).
"""

import asyncio
import contextlib
import hmac
import ipaddress
import signal
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from telemetry.process import Telemetry

DRAIN_SECONDS_MAX = 2
TOKEN_CHARS_MIN = 16


async def serve(app: ASGIApp, host: str, port: int, telemetry: Telemetry, **facts: object) -> None:
    """Until SIGTERM or SIGINT; ready from when it answers. `facts` stand in the line that says so."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )  # fmt: skip

    def stop() -> None:
        telemetry.set_ready(False)
        server.should_exit = True

    async def serves() -> None:
        await server.is_up.wait()
        telemetry.set_ready(True)
        telemetry.log.info(f"{telemetry.part} serves", address=f"http://{host}:{port}/", **facts)

    server = QuietServer(config)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    saying = asyncio.create_task(serves())
    try:
        await server.serve()
    finally:
        saying.cancel()


class QuietServer(uvicorn.Server):
    """uvicorn that leaves signals to whoever started it, whose order of stopping it is, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self.is_up.set()


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(host_header: str) -> str:
    """Without the port."""
    return host_header if host_header.endswith("]") else host_header.rsplit(":", 1)[0]


def bears(authorization: str, token: str) -> bool:
    """Whether `Authorization: Bearer` holds this token. Takes constant time."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
