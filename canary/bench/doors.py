"""What the canary's probes cost the doors.

Each door is a process of its own as in the stack: it writes to a stream in another process, ships its spans, keeps its digests.
In turn it is left alone, probed (some fifty times as often as by default, so that there is something to measure), and loaded in
requests of several sizes. The price is CPU seconds of its process: what probing takes more than idling, at the interval of
the settings, of all that it takes at that load; within a round, and the median of the rounds. At the gRPC door a round is its own
probes, and those of the HTTP door as they come from the transcoder, one request each at worst.
"""

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import boto3
import click

from canary.lanes import DOORS, Door, Slot
from canary.probes import Probe
from canary.send import ACCEPTED, GrpcSender, HttpSender
from canary.settings import CanarySettings
from pipeline.doors.bench import batch_body, grpc_client, http_client, serve_door
from pipeline.emulator.process import Served
from pipeline.ledger.tally import Tally
from pipeline.measured import Measured, processes, serve
from telemetry import nowhere
from telemetry.metrics import Metrics
from telemetry.otlp import span_sender
from telemetry.settings import TelemetrySettings
from telemetry.shipping import Shipper
from telemetry.tracing import Tracer

SIZES = (1, 10, 100)
PROBED_A_SECOND = 10.0
_SOURCE = "/canary/bench"
_IN_FLIGHT_MAX = 64


@dataclass(frozen=True, slots=True)
class Price:
    """CPU of one door."""

    door: Door
    # In a request of the load.
    events: int
    # For one round of probes, and all that the door takes in a second of the load.
    round_micros: float
    load_micros: float
    share: float
    # Between these is the middle half of the rounds.
    share_low: float
    share_high: float


def door_prices(
    settings: CanarySettings, slots: Sequence[Slot], load_a_second: float, rounds: int, seconds: float
) -> Iterator[Price]:
    """`load_a_second`: events, half of them through each door; all of them come to the gRPC door in the end."""
    with tempfile.TemporaryDirectory() as folder:
        stream = Served(Path(folder), "--limits", "off")
        stream.start()
        try:
            os.environ |= {"AWS_ENDPOINT_URL_KINESIS": stream.url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
            boto3.client("kinesis", region_name="us-east-1").create_stream(StreamName="events", ShardCount=max(1, len(slots)))
            with processes({"backend": nowhere.serve}) as backend:
                endpoint = f"http://127.0.0.1:{backend['backend'].said}"
                for door in DOORS:
                    with processes({door: partial(_serve, door, endpoint)}) as measured:
                        of_door = load_a_second if door == "grpc" else load_a_second / len(DOORS)
                        yield from _Prices(door, measured[door], settings, slots, of_door).prices(rounds, seconds)
        finally:
            stream.stop()


@dataclass
class _Prices:
    door: Door
    process: Measured
    settings: CanarySettings
    slots: Sequence[Slot]
    load_a_second: float

    def prices(self, rounds: int, seconds: float) -> Iterator[Price]:
        sender = self._sender()
        costs: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
        for number in range(-1, rounds):
            idle = self._spent(partial(time.sleep, seconds)) / seconds
            probed = self._spent(partial(self._probe, sender, seconds)) / seconds
            a_round = (probed - idle) / PROBED_A_SECOND
            for size in SIZES:
                a_second = self._loaded(size, seconds)
                if number >= 0:  # the first round warms
                    costs[size].append((a_round, a_second))
        sender.close()
        for size, found in costs.items():
            shares = [a_round / self.settings.interval_seconds / a_second for a_round, a_second in found]
            low, share, high = statistics.quantiles(shares, n=4)
            round_micros, load_micros = (statistics.median(costs) * 1e6 for costs in zip(*found, strict=True))
            yield Price(self.door, size, round_micros, load_micros, share, low, high)

    def _spent(self, work: Callable[[], object]) -> float:
        began = self.process.cpu()
        work()
        return self.process.cpu() - began

    def _sender(self) -> GrpcSender | HttpSender:
        port, key = self.process.said
        if self.door == "grpc":
            return GrpcSender(f"127.0.0.1:{port}", key, deadline_seconds=self.settings.door_seconds_max)
        return HttpSender(f"http://127.0.0.1:{port}", key, deadline_seconds=self.settings.door_seconds_max)

    def _probe(self, sender: GrpcSender | HttpSender, seconds: float) -> None:
        began = time.monotonic()
        for number in range(round(seconds * PROBED_A_SECOND)):
            time.sleep(max(0.0, began + number / PROBED_A_SECOND - time.monotonic()))
            requests = [self._round(self.door, number)]
            if self.door == "grpc":
                requests += [[probe] for probe in self._round("http", number)]
            for request in requests:
                if {ACCEPTED} != {sent.outcome for sent in sender.send(request)}:
                    raise click.ClickException("a probe was not accepted: these figures are void")
        time.sleep(max(0.0, began + seconds - time.monotonic()))

    def _round(self, door: Door, turn: int) -> list[Probe]:
        now = time.time()
        return [Probe(_SOURCE, turn * 100 + at, door, slot.slice, now, turn) for at, slot in enumerate(self.slots)]

    def _loaded(self, size: int, seconds: float) -> float:
        """CPU seconds for a second of this load, also if not all of it came through in time."""
        events, spent = asyncio.run(self._load(size, seconds))
        return spent / events * self.load_a_second

    async def _load(self, size: int, seconds: float) -> tuple[int, float]:
        bodies = itertools.cycle([batch_body(self.door, [str(uuid4()) for _ in range(size)]) for _ in range(200)])
        client = grpc_client if self.door == "grpc" else http_client
        send, close = await client(self.process.said, bodies, size)
        await send()
        free, tasks = asyncio.Semaphore(_IN_FLIGHT_MAX), set[asyncio.Task[None]]()
        began, spent, count = time.monotonic(), self.process.cpu(), 0

        async def one() -> None:
            try:
                await send()
            finally:
                free.release()

        while (due := began + count * size / self.load_a_second) < began + seconds:
            await asyncio.sleep(due - time.monotonic())
            await free.acquire()  # past what may be under way the load waits
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        await asyncio.gather(*tasks)
        spent = self.process.cpu() - spent
        await close()
        return count * size, spent


def _serve(door: Door, endpoint: str, pipe: Connection) -> None:
    serve(pipe, partial(_start, door, endpoint))


async def _start(door: Door, endpoint: str, folder: Path) -> tuple[int, str]:
    metrics = Metrics()
    spans = Shipper("spans", span_sender(endpoint, 3.0), metrics)
    tracer = Tracer(f"{door}-door", "bench", spans.put, TelemetrySettings(), later=spans.later)
    return await serve_door(door, folder, metrics, tracer, tally=Tally(), kinesis=True)
