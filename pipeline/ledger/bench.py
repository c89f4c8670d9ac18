"""`python -m pipeline.ledger.bench`: what the ledger costs where events pass, how large its digests are, and what they can name.

- Price: the collector's process (the gRPC door with its network, writing to a stream in another process), and, without any
  network, the same door's inside (accept, queue, confirm) and the redactor's worker; each with a tally and without, and without
  once more, in turn; CPU seconds, median of the ratios of the rounds and the middle half of them. The third shows the noise. With
  a tally, all that it saw in a round is also made a segment in that round, which is more often than in the stack.
- Size: one segment with one window of one tenant's events at one tier, as it lies in the bucket.
- Naming: tables of so many events are decoded; how often not all come out, and how often something wrong does.
"""

import asyncio
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random
from uuid import UUID

import boto3
import click
import numpy as np
import structlog

from pipeline import frame
from pipeline.dead_letters.writer import MemoryDeadLetters
from pipeline.doors.accept import Acceptance
from pipeline.doors.bench import batch_body, grpc_client, serve_door
from pipeline.doors.collect import Caller, Collector, InFlight
from pipeline.doors.keys import KeyStore
from pipeline.doors.wire import split_batch
from pipeline.emulator.process import Served
from pipeline.event import Record, StoredRecord
from pipeline.ledger.identity import NAME_WORDS, Elements, mix, of_encoded
from pipeline.ledger.segment import Segment, encode
from pipeline.ledger.table import CAPACITY, TABLE_BYTES, Table
from pipeline.ledger.tally import WINDOW_SECONDS, Digest, Slot, Tally
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redactor
from pipeline.redactor.worker import RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.streams.batching import Lanes, Origin, batch_tail
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.retry import RetryBudget
from pipeline.streams.sink import MemorySink, Outcome, Written
from telemetry.metrics import Metrics

GOAL_RATIO_MAX = 1.02
GOAL_EVENTS = 100
SIZES = (100, 500)
EVENTS = 20_000
KINDS = ("without", "with", "without again")
RATES = (10, 100, 1_000, 10_000)
NAMED = (50, 100, 150, CAPACITY, 240, 270, 300)
_AT_MICROS = 1_795_000_003_000_000
_CONNECTIONS = 8
_START_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Price:
    where: str
    # In a request.
    events: int
    # CPU for one event without the ledger, and what it takes more with it.
    bare_micros: float
    more_micros: float
    # With the ledger, of without: the median of the rounds, and between what the middle half of them is.
    ratio: float
    ratio_low: float
    ratio_high: float
    noise_ratio: float

    @property
    def verdict(self) -> str:
        """Not of the median alone: on a busy machine that may be anything."""
        if self.ratio_low <= GOAL_RATIO_MAX < self.ratio_high:
            return "too noisy to tell"
        return "met" if self.ratio_high <= GOAL_RATIO_MAX else "MISSED"


def collector_prices(rounds: int) -> Iterator[Price]:
    """Of whole processes: three doors, loaded in turn over their network, and one stream that they write to."""
    context = multiprocessing.get_context("spawn")  # gRPC objects do not survive a fork
    processes: list[SpawnProcess] = []
    with tempfile.TemporaryDirectory() as folder:
        stream = Served(Path(folder), "--limits", "off")
        stream.start()
        try:
            os.environ |= {"AWS_ENDPOINT_URL_KINESIS": stream.url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
            boto3.client("kinesis", region_name="us-east-1").create_stream(StreamName="events", ShardCount=4)
            servers = {}
            for kind in KINDS:
                ours, theirs = context.Pipe()
                processes.append(context.Process(target=_serve, args=(kind, theirs), daemon=True))
                processes[-1].start()
                if not ours.poll(_START_SECONDS_MAX):
                    raise click.ClickException("a door of the benchmark did not start")
                servers[kind] = (ours, *ours.recv())
            for size in SIZES:
                yield asyncio.run(_collector_price(size, rounds, servers))
        finally:
            for process in processes:
                process.terminate()
                process.join(10)
            stream.stop()


async def _collector_price(size: int, rounds: int, servers: Mapping[str, tuple[Connection, int, str]]) -> Price:
    ids = [str(UUID(int=Random(number).getrandbits(128))) for number in range(EVENTS)]
    bodies = itertools.cycle([batch_body("grpc", ids[start : start + size]) for start in range(0, EVENTS, size)])
    clients = {kind: await grpc_client(port, key, bodies, size) for kind, (_, port, key) in servers.items()}

    async def load(kind: str) -> float:
        pipe, left = servers[kind][0], EVENTS // size

        async def loop() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await clients[kind][0]()

        pipe.send(None)
        spent = float(pipe.recv())
        await asyncio.gather(*(loop() for _ in range(_CONNECTIONS)))
        pipe.send(None)
        return float(pipe.recv()) - spent

    price = await _priced("collector", size, rounds, {kind: partial(load, kind) for kind in KINDS})
    for _, close in clients.values():
        await close()
    return price


def _serve(kind: str, pipe: Connection) -> None:
    import uvloop

    uvloop.run(_serving(kind, pipe))


async def _serving(kind: str, pipe: Connection) -> None:
    tally = Tally() if kind == "with" else None
    with tempfile.TemporaryDirectory() as folder:
        pipe.send(await serve_door("grpc", Path(folder), Metrics(), tally=tally, kinesis=True))
        while True:
            await asyncio.to_thread(pipe.poll, None)
            try:
                pipe.recv()
            except EOFError:
                break
            if tally is not None:
                await asyncio.to_thread(_segment, tally)
            pipe.send(time.process_time())
    os._exit(0)  # grpc.aio's server complains, at length, when it outlives its loop


def _segment(tally: Tally) -> bytes:
    return encode(Segment("grpc", "bench", "boot", 0, 0.0, 1.0, False, tally.take().digests))


class _Forgetful(MemorySink):
    def _write(self, record: Record) -> Outcome:
        return Written("shardId-000000000000", "1")


def prices(rounds: int) -> Iterator[Price]:
    """Of what happens inside, in this process."""
    registry = Registry.load()
    for size in SIZES:
        ids = [str(UUID(int=Random(number).getrandbits(128))) for number in range(EVENTS)]
        bodies = [batch_body("grpc", ids[start : start + size]) for start in range(0, EVENTS, size)]
        tally = Tally()
        doors = dict(zip(KINDS, (_door(registry, each) for each in (None, tally, None)), strict=True))
        yield _price("door inside", size, rounds, tally, {kind: _through_door(door, bodies) for kind, door in doors.items()})
    for size in SIZES:
        bodies = [batch_body("grpc", ids[start : start + size]) for start in range(0, EVENTS, size)]
        records = [_record(number, body) for number, body in enumerate(bodies)]
        tally = Tally()
        with ThreadPoolExecutor(1) as pool:
            workers = dict(zip(KINDS, (_redactor(registry, pool, each) for each in (None, tally, None)), strict=True))
            loads = {kind: _through_redactor(worker, records) for kind, worker in workers.items()}
            yield _price("redactor inside", size, rounds, tally, loads)


def _price(where: str, size: int, rounds: int, tally: Tally, loads: dict[str, Callable[[], Awaitable[None]]]) -> Price:
    async def load(kind: str) -> float:
        began = time.process_time()
        await loads[kind]()
        if kind == "with":
            _segment(tally)
        return time.process_time() - began

    return asyncio.run(_priced(where, size, rounds, {kind: partial(load, kind) for kind in KINDS}))


async def _priced(where: str, size: int, rounds: int, loads: Mapping[str, Callable[[], Awaitable[float]]]) -> Price:
    """`loads` say what CPU seconds a round of each kind took."""
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(-1, rounds):
        turn = number % len(KINDS)
        for kind in (*KINDS[turn:], *KINDS[:turn]):
            cost = await loads[kind]()
            if number >= 0:  # the first round warms
                costs[kind].append(cost)
    bare = costs["without"]

    def ratios(kind: str) -> list[float]:
        return [cost / of for cost, of in zip(costs[kind], bare, strict=True)]

    low, ratio, high = statistics.quantiles(ratios("with"), n=4)
    more = [(cost - of) / EVENTS * 1e6 for cost, of in zip(costs["with"], bare, strict=True)]
    noise = statistics.median(ratios("without again"))
    return Price(where, size, statistics.median(bare) / EVENTS * 1e6, statistics.median(more), ratio, low, high, noise)


def _door(registry: Registry, tally: Tally | None) -> Collector:
    metrics = Metrics()
    lanes = Lanes(slices=16, worker="bench", budget=RetryBudget(time.monotonic), random=Random(1))
    with tempfile.NamedTemporaryFile() as nobodys:
        keys = KeyStore(Path(nobodys.name), clock=time.monotonic, log=structlog.get_logger(), metrics=metrics, door="grpc")
    return Collector(
        door="grpc",
        acceptance=Acceptance(registry.types, 16),
        keys=keys,
        commit=GroupCommit(_Forgetful(), lanes, clock=time.monotonic, clock_micros=lambda: _AT_MICROS),
        in_flight=InFlight(1 << 30, 1 << 30),
        clock_micros=lambda: _AT_MICROS,
        write_seconds=10,
        metrics=metrics,
        tally=tally,
    )


def _through_door(door: Collector, bodies: Sequence[bytes]) -> Callable[[], Awaitable[None]]:
    caller = Caller(Origin("bench", "grpc"), True)

    async def run() -> None:
        for body in bodies:
            decisions = [door.acceptance.decide(encoded, _AT_MICROS) for encoded in split_batch(body, max(SIZES))]
            answer = await door.publish(caller, decisions, door.admit(caller, len(body)), None)
            if answer.problems:
                raise click.ClickException("the bench's own events were not accepted: these figures are void")

    return run


def _redactor(registry: Registry, pool: ThreadPoolExecutor, tally: Tally | None) -> RedactorWorker:
    redactor = Redactor(registry, MemoryKeys())
    return RedactorWorker(redactor, _Forgetful(), MemoryDeadLetters(), Metrics(), pool, tally=tally)


def _through_redactor(worker: RedactorWorker, records: Sequence[StoredRecord]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        for start in range(0, len(records), 10):
            await worker.process(records[start : start + 10])

    return run


def _record(number: int, body: bytes) -> StoredRecord:
    """A request's events as the door stores them: both batches have their events in field 1."""
    payload = body + batch_tail(Origin("bench", "grpc"), _AT_MICROS, "bench", number % 16, 16)
    return StoredRecord("events", "shardId-000000000000", str(number), frame.encode(payload), 0)


def sizes() -> Iterator[tuple[int, int, float]]:
    """(events a second, bytes of one window's digest, bytes an event)."""
    for rate in RATES:
        events = rate * WINDOW_SECONDS
        digest = Digest()
        for start in range(0, events, 10_000):
            ids = [str(UUID(int=Random(number).getrandbits(128))) for number in range(start, min(events, start + 10_000))]
            digest.add(of_encoded(split_batch(batch_body("grpc", ids), len(ids))))
        slot = Slot("grpc-door:acknowledged", "bench", "grpc", 0)
        size = len(encode(Segment("grpc", "bench", "boot", 0, 0.0, 1.0, False, {slot: digest})))
        yield rate, size, size / events


def naming(tables: int) -> Iterator[tuple[int, float, int]]:
    """(events that differ, share of tables of which not all came out, events that came out and were never in)."""
    for events in NAMED:
        failed = wrong = 0
        for number in range(tables):
            keys = mix(np.random.default_rng((events, number)).integers(0, 1 << 63, events, dtype=np.uint64))
            names = np.repeat(keys[:, None], NAME_WORDS, axis=1)
            found = Table.of(Elements(keys, keys, names)).decode()
            known = set(keys.tolist())
            failed += not found.complete
            wrong += sum(entry.key not in known for entry in found.entries)
        yield events, failed / tables, wrong


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=5))
@click.option("--tables", default=400, show_default=True, help="Tables to decode for each number of events.")
def command(rounds: int, tables: int) -> None:
    """What the ledger costs, how large its digests are, and what they can name."""
    click.echo(f"CPU an event\n{'where':<16}{'events':>7}{'without us':>12}{'more us':>9}{'with/without':>22}{'again':>8}  goal")
    seen: dict[tuple[str, int], Price] = {}
    for price in itertools.chain(collector_prices(rounds), prices(rounds)):
        seen[price.where, price.events] = price
        goal = f"<= {GOAL_RATIO_MAX} {price.verdict}" if price.events == GOAL_EVENTS else ""
        spread = f"{price.ratio:.3f} ({price.ratio_low:.3f}-{price.ratio_high:.3f})"
        click.echo(
            f"{price.where:<16}{price.events:>7}{price.bare_micros:>12.2f}{price.more_micros:>9.2f}{spread:>22}"
            f"{price.noise_ratio:>8.3f}  {goal}"
        )
    for size in SIZES:
        share = seen["door inside", size].more_micros / seen["collector", size].bare_micros
        click.echo(f"what the door's inside takes more, of the collector's process at {size}: {share:.3f}")
    click.echo(f"\none table: {TABLE_BYTES:,} bytes\n{'events/s':>9}{'bytes a window':>16}{'bytes an event':>16}")
    for rate, size, each in sizes():
        click.echo(f"{rate:>9,}{size:>16,}{each:>16.2f}")
    click.echo(f"\n{'differ':>7}{'not all named':>15}{'wrong':>7}   of {tables:,} tables each")
    for events, failed, wrong in naming(tables):
        click.echo(f"{events:>7}{failed:>15.4f}{wrong:>7}")


if __name__ == "__main__":
    command()
