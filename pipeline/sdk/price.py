"""What telemetry costs a sender, as a ratio; `python -m pipeline.sdk.bench` prints it.

Rules. For each way of sending six producers run, each a process of its own: three instrumented (figures in a registry, one event
in two thousand traced by chance, its spans shipped to a live backend) and three bare. They send in turn, in slices, and the order
changes from round to round. A producer's figure is the lower quartile, over the rounds, of its CPU seconds an event, background
threads and what it does between its slices included: what else a machine does only ever adds. The ratio is of the means of three
and three, because two processes that do the same differ, for as long as they live, by one or two per cent. The spread of the bare
ones shows that noise: a ratio that differs from 1 by less says nothing.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import click

from pipeline.sdk.bench import START_SECONDS_MAX, Nobody, page
from pipeline.sdk.client import Client, SdkTelemetry
from telemetry import nowhere
from telemetry.settings import TelemetrySettings

KINDS = ("bare", "instrumented")
PRODUCERS = tuple((kind, number) for number in range(3) for kind in KINDS)
# For events that are really sent. Without a collector the SDK is alone, and the ratio that of a part.
GOAL_RATIO_MAX = 1.03
# Half a second or more: at full rate, spans go out once a second.
_SLICE_EVENTS = 40_000
_SLICE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """How events are sent: to a collector over gRPC or to nobody, with a spool or without."""

    name: str
    grpc: bool
    spool: bool


WAYS = (
    Way("no collector, memory", False, False),
    Way("gRPC, memory", True, False),
    Way("gRPC, spool, fsync interval", True, True),
)


@dataclass(frozen=True, slots=True)
class Price:
    way: Way
    # CPU of a bare producer for one event.
    bare_micros: float
    # Instrumented to bare; and the dearest of the bare ones to the cheapest.
    ratio: float
    noise_ratio: float


def measure(target: str, rounds: int) -> Iterator[Price]:
    """`target`: a collector that accepts everything."""
    context = multiprocessing.get_context("spawn")  # gRPC objects do not survive a fork
    ours, theirs = context.Pipe()
    backend = context.Process(target=nowhere.serve, args=(theirs,), daemon=True)
    backend.start()
    try:
        endpoint = f"http://127.0.0.1:{_received(ours, START_SECONDS_MAX)}"
        for way in WAYS:
            pipes = {producer: context.Pipe() for producer in PRODUCERS}
            producers = [
                context.Process(target=_produce, args=(kind, way, target, endpoint, theirs), daemon=True)
                for (kind, _), (_, theirs) in pipes.items()
            ]
            for producer in producers:
                producer.start()
            try:
                yield _price(way, {producer: ours for producer, (ours, _) in pipes.items()}, rounds)
            finally:
                for producer in producers:
                    producer.terminate()
                    producer.join(START_SECONDS_MAX)
    finally:
        backend.terminate()
        backend.join(START_SECONDS_MAX)


def _price(way: Way, pipes: dict[tuple[str, int], Connection], rounds: int) -> Price:
    costs: dict[tuple[str, int], list[float]] = {producer: [] for producer in PRODUCERS}
    for number in range(-1, rounds):
        turn = number % len(PRODUCERS)
        order = PRODUCERS[turn:] + PRODUCERS[:turn]
        for producer in order if number % 2 else order[::-1]:
            pipes[producer].send(_SLICE_EVENTS)
            cost = _received(pipes[producer], _SLICE_SECONDS_MAX)
            if number >= 0:  # the first round connects and warms
                costs[producer].append(cost)
    quiet: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for (kind, _), cost_of_each in costs.items():
        quiet[kind].append(statistics.quantiles(cost_of_each, n=4)[0])
    bare = statistics.mean(quiet["bare"])
    return Price(way, bare * 1e6, statistics.mean(quiet["instrumented"]) / bare, max(quiet["bare"]) / min(quiet["bare"]))


def _received(pipe: Connection, seconds_max: float) -> float:
    if not pipe.poll(seconds_max):
        raise click.ClickException("a process of the benchmark does not answer")
    said: float = pipe.recv()
    return said


# -- the processes


def _produce(kind: str, way: Way, target: str, endpoint: str, pipe: Connection) -> None:
    telemetry = SdkTelemetry()
    if kind == "instrumented":
        from telemetry.metrics import Metrics

        telemetry = SdkTelemetry.begin("bench", metrics=Metrics(), settings=TelemetrySettings(otlp_endpoint=endpoint))
    with tempfile.TemporaryDirectory() as scratch:
        spool = Path(scratch) / "spool" if way.spool else None
        publisher = None if way.grpc else Nobody()
        client = Client(target, "bench", source="/bench", spool=spool, publisher=publisher, telemetry=telemetry)
        spent = time.process_time()
        while True:
            events = int(pipe.recv())
            for number in range(events):
                client.send(page(number), subject=f"user-{number % 1000}")
            client.flush(_SLICE_SECONDS_MAX)
            before, spent = spent, time.process_time()
            pipe.send((spent - before) / events)
