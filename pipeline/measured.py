"""Fresh processes that a benchmark measures: each says first where it is, and then, whenever it is asked, the CPU it has used.

Here
    with processes({"bare": partial(_serve, "bare"), ...}) as measured:
        address, cpu = measured["bare"].said, measured["bare"].cpu()
There
    def _serve(kind, pipe): serve(pipe, partial(_start, kind))
"""

import asyncio
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

_START_SECONDS_MAX = 120.0
_END_SECONDS_MAX = 10.0
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """One of them, from outside."""

    pipe: Connection
    # What it said when it was ready.
    said: Any

    def cpu(self) -> float:
        """Seconds, user and system, since it began."""
        self.pipe.send(None)
        return float(self.pipe.recv())


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """A server that is sent requests for some seconds at a time: a `paired.Loaded`."""

    measured: Measured
    send: Callable[[], Awaitable[object]]
    seconds: float
    # What one request counts.
    units: int = 1

    async def load(self) -> int:
        count, ends = 0, time.perf_counter() + self.seconds

        async def loop() -> None:
            nonlocal count
            while time.perf_counter() < ends:
                await self.send()
                count += self.units

        await asyncio.gather(*(loop() for _ in range(_CONNECTIONS)))
        return count

    async def cpu_seconds(self) -> float:
        return self.measured.cpu()


@contextlib.contextmanager
def processes(targets: Mapping[str, Callable[[Connection], None]]) -> Iterator[dict[str, Measured]]:
    """One of each, by name; ended afterwards. A target can be pickled.

    Raises: ClickException: one does not say that it is ready.
    """
    context = multiprocessing.get_context("spawn")  # gRPC objects do not survive a fork
    running, pipes = [], {}
    try:
        for name, target in targets.items():
            pipes[name], theirs = context.Pipe()
            running.append(context.Process(target=target, args=(theirs,), daemon=True))
            running[-1].start()
        yield {name: Measured(pipe, _first(name, pipe)) for name, pipe in pipes.items()}
    finally:
        # Who sees that nobody asks any more, tidies up.
        for pipe in pipes.values():
            pipe.close()
        for process in running:
            process.join(_END_SECONDS_MAX)
            process.terminate()
            process.join(_END_SECONDS_MAX)


def _first(name: str, pipe: Connection) -> Any:
    if not pipe.poll(_START_SECONDS_MAX):
        raise click.ClickException(f"the process {name!r} of the benchmark did not start")
    try:
        return pipe.recv()
    except EOFError:
        raise click.ClickException(f"the process {name!r} of the benchmark ended when it should have started") from None


def serve(pipe: Connection, start: Callable[[Path], Awaitable[object]]) -> None:
    """The whole life of a process with a server: start it in a folder of its own, say what `start` returns, and answer."""
    import uvloop

    uvloop.run(_serve(pipe, start))


async def _serve(pipe: Connection, start: Callable[[Path], Awaitable[object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipe.send(await start(Path(folder)))
        await asyncio.to_thread(answer, pipe)
    os._exit(0)  # grpc.aio's server complains, at length, when it outlives its loop


def answer(pipe: Connection, asked: Callable[[Any], object] | None = None) -> None:
    """Until nobody is there to ask: None is asked for the CPU used so far, anything else is for `asked`."""
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        pipe.send(time.process_time() if question is None or asked is None else asked(question))
