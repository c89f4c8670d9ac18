"""`python -m pipeline.ledger.bench`: what the ledger costs where events pass, how large its digests are, and what they can name.

- Price: the collector's process (the gRPC door with its network, writing to a stream in another process) and the redactor's
  (reading a stream in another process and writing to one), with a tally, without, and without once more, compared as
  `pipeline.paired` says, in several generations of fresh processes. A figure is CPU of the whole process.
- The insides of both, without any network (accept, queue, confirm; open, redact, confirm): with and without by turns within one
  process, which takes most of the noise away, in several generations as well. All that the ledger does for an event happens
  there; so what an inside takes more, of what the whole process takes, is the price of the ledger, and sharper.
- Operations: what the counting of an event and the making of a segment take by themselves. Segments are no part of the price
  above: there is one every five seconds, whatever the load.
- Size: one segment with one window of one tenant's events at one tier, as it lies in the bucket.
- Naming: tables of so many events are decoded; how often not all come out, and how often something wrong does.
"""

import asyncio
import contextlib
import itertools
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import boto3
import click
import numpy as np
import structlog

from pipeline import frame
from pipeline.consumer.kinesis import KinesisStream
from pipeline.consumer.lease import MemoryLeases
from pipeline.consumer.worker import Worker
from pipeline.dead_letters.writer import MemoryDeadLetters, bury_at
from pipeline.doors.accept import Acceptance
from pipeline.doors.bench import batch_body, grpc_client, serve_door
from pipeline.doors.collect import Caller, Collector, InFlight
from pipeline.doors.keys import KeyStore
from pipeline.doors.wire import split_batch
from pipeline.emulator.process import Served
from pipeline.event import Record, StoredRecord
from pipeline.garbage import spare_what_stays
from pipeline.ledger import native
from pipeline.ledger.identity import NAME_WORDS, Column, Elements, NativeColumn, NumpyColumn, mix, of_encoded
from pipeline.ledger.segment import Segment, encode
from pipeline.ledger.table import CAPACITY, TABLE_BYTES, Table
from pipeline.ledger.tally import WINDOW_SECONDS, Digest, Seen, Slot, Tally
from pipeline.measured import Measured, UnderLoad, answer, processes, serve
from pipeline.paired import GENERATIONS_MIN, Costs, Ratio, ratio
from pipeline.paired import costs as paired_costs
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redactor
from pipeline.redactor.__main__ import POOL_THREADS
from pipeline.redactor.worker import RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.streams.aws import BotocoreAccess
from pipeline.streams.aws_failures import AwsFailures
from pipeline.streams.batching import Lanes, Origin, batch_tail
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.kinesis_writer import KinesisWriter
from pipeline.streams.retry import RetryBudget
from pipeline.streams.sink import MemorySink, Outcome, Sink, Written
from telemetry.metrics import Metrics

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import PutRecordsRequestEntryTypeDef

GOAL_RATIO_MAX = 1.02
GOAL_EVENTS = 100
# Events in a request.
SIZES = {"collector": (100, 500), "redactor": (100,), "door inside": (100,), "redactor inside": (100,)}
EVENTS_MAX = 500
EVENTS = 20_000
WITHOUT = ("without", "without again")
KINDS = (*WITHOUT, "with")
RATES = (10, 100, 1_000, 10_000)
NAMED = (50, 100, 150, CAPACITY, 240, 270, 300)
_REGION = "us-east-1"
_AT_MICROS = 1_795_000_003_000_000
_RECORDS_AT_ONCE = 10
# What a redactor's stream is given at once.
_RECORDS_FED = 50
_SHARDS = 4
_PROCESS_SECONDS_MAX = 60.0
# Of an inside: events of one turn, turns of a round, and of the turns' differences those that are left out at each end.
_TURN_EVENTS = 1_000
_ROUND_TURNS = 25
_CUT = 0.1
# More than what a core has for itself, of what any machine here has.
_CACHE_BYTES = 4 << 20
_REPEATS = 15


@dataclass(frozen=True, slots=True)
class Price:
    where: str
    # In a request.
    events: int
    # CPU for one event without the ledger.
    bare_micros: float
    # With the ledger, of without; and without, of without.
    ratio: Ratio
    noise: Ratio

    @property
    def more_micros(self) -> float:
        return self.bare_micros * (self.ratio.median - 1)

    def within(self, whole: "Price") -> Ratio:
        """Of an inside: what it takes more makes so much of the whole process."""
        part = self.bare_micros / whole.bare_micros
        return Ratio(*(1 + (ratio - 1) * part for ratio in (self.ratio.median, self.ratio.low, self.ratio.high)))

    @property
    def verdict(self) -> str:
        """Not of the median alone: on a busy machine that may be anything."""
        if self.ratio.low <= GOAL_RATIO_MAX < self.ratio.high:
            return "too noisy to tell"
        return "met" if self.ratio.high <= GOAL_RATIO_MAX else "MISSED"


def measure(generations: int, rounds: int, seconds: float, places: Sequence[str] = tuple(SIZES)) -> Iterator[Price]:
    """Of each place and size, once its last generation is over."""
    bodies = {size: _bodies(size) for size in SIZES["collector"]}
    found: dict[tuple[str, int], list[Costs]] = {}
    with _stream(), click.progressbar(length=generations * len(places), label="generations", file=sys.stderr) as bar:
        for number in range(generations):
            for where in places:
                with (
                    _streams_of(where, number),
                    processes(_targets(where, number)) as measured,
                ):
                    for size in SIZES[where]:
                        costs = asyncio.run(_costs(where, number, bodies[size], size, measured, rounds, seconds))
                        found.setdefault((where, size), []).append(costs)
                bar.update(1)
    for where, size in found:
        own = found[where, size]
        bare = statistics.median(costs["without"] for costs in own)
        yield Price(where, size, bare * 1e6, ratio(own, "with", *WITHOUT), ratio(own, "without again", "without"))


def _targets(where: str, generation: int) -> dict[str, Callable[[Connection], None]]:
    if where in _PROCESS:
        return {kind: partial(_PROCESS[where], kind, generation) for kind in KINDS}
    return {where: partial(_inside, where, generation)}


@contextlib.contextmanager
def _stream() -> Iterator[None]:
    """What collectors write to, for as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        stream = Served(Path(folder), "--limits", "off")
        stream.start()
        try:
            os.environ |= {"AWS_ENDPOINT_URL_KINESIS": stream.url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
            _kinesis().create_stream(StreamName="events", ShardCount=_SHARDS)
            yield
        finally:
            stream.stop()


def _kinesis() -> "KinesisClient":
    return boto3.client("kinesis", region_name=_REGION)


@contextlib.contextmanager
def _streams_of(where: str, generation: int) -> Iterator[None]:
    """Those of the redactors of one generation."""
    names = [name(kind, generation) for name in (_read, _written) for kind in KINDS] if where == "redactor" else []
    for name in names:
        _kinesis().create_stream(StreamName=name, ShardCount=_SHARDS)
    try:
        yield
    finally:
        for name in names:
            _kinesis().delete_stream(StreamName=name, EnforceConsumerDeletion=True)


def _read(kind: str, generation: int) -> str:
    return f"read-{KINDS.index(kind)}-{generation}"


def _written(kind: str, generation: int) -> str:
    return f"written-{KINDS.index(kind)}-{generation}"


async def _costs(
    where: str,
    generation: int,
    bodies: Sequence[bytes],
    size: int,
    measured: Mapping[str, Measured],
    rounds: int,
    seconds: float,
) -> Costs:
    """CPU seconds an event."""
    random = Random(generation)
    if where == "redactor":
        records = [_record(number, body) for number, body in enumerate(bodies[:_RECORDS_FED])]
        fed = {kind: _Fed(worker, _read(kind, generation), records) for kind, worker in measured.items()}
        return await paired_costs(fed, rounds, random)
    if where != "collector":
        measured[where].pipe.send(rounds * _ROUND_TURNS)
        found: Costs = measured[where].pipe.recv()
        return found
    clients = {kind: await grpc_client(door.said, itertools.cycle(bodies), size) for kind, door in measured.items()}
    doors = {kind: UnderLoad(measured[kind], send, seconds, size) for kind, (send, _) in clients.items()}
    costs = await paired_costs(doors, rounds, random)
    for _, close in clients.values():
        await close()
    return costs


@dataclass(frozen=True, slots=True)
class _Fed:
    """A redactor, by its stream."""

    measured: Measured
    stream: str
    records: Sequence[StoredRecord]

    async def load(self) -> int:
        entries: list[PutRecordsRequestEntryTypeDef] = [
            {"Data": record.data, "PartitionKey": record.sequence_number} for record in self.records
        ]
        done = _kinesis().put_records(StreamName=self.stream, Records=entries)
        if done["FailedRecordCount"]:
            raise click.ClickException("the bench's stream did not take all records: these figures are void")
        self.measured.pipe.send(len(entries) * GOAL_EVENTS)
        return int(self.measured.pipe.recv())

    async def cpu_seconds(self) -> float:
        return self.measured.cpu()


# -- the processes


def _serve(kind: str, _: int, pipe: Connection) -> None:
    serve(pipe, partial(_start, kind))


async def _start(kind: str, folder: Path) -> tuple[int, str]:
    return await serve_door("grpc", folder, Metrics(), tally=_tally(kind), kinesis=True)


def _tally(kind: str) -> Tally | None:
    return Tally() if kind == "with" else None


class _Redactor:
    """A whole one: it reads a stream, and writes to one."""

    def __init__(self, kind: str, generation: int) -> None:
        self._kind, self._generation = kind, generation
        self._changed = threading.Condition()
        self._processed = self._asked = 0

    async def run(self, pipe: Connection) -> None:
        metrics, stopping = Metrics(), asyncio.Event()
        writer = KinesisWriter.to(_written(self._kind, self._generation), _REGION, metrics)
        with ThreadPoolExecutor(POOL_THREADS, "redact") as pool:
            async with aiohttp.ClientSession() as session:
                self._worker = _redactor(Registry.load(), pool, _tally(self._kind), writer)
                failures = AwsFailures(metrics, ("kinesis",))
                read = _read(self._kind, self._generation)
                stream = KinesisStream(_kinesis(), session, BotocoreAccess("kinesis", _REGION), read, "bench", failures)
                consumer = Worker(
                    name="bench",
                    stream=stream,
                    leases=MemoryLeases(),
                    processor=self,
                    bury=bury_at("redactor", MemoryDeadLetters()),
                    journal=lambda happening: None,
                    clock=time.monotonic,
                    random=Random(1).random,
                )
                spare_what_stays()
                running = asyncio.create_task(consumer.run(stopping))
                pipe.send("ready")
                await asyncio.to_thread(answer, pipe, self._caught_up)
                stopping.set()
                await running
                await writer.close()

    async def process(self, records: Sequence[StoredRecord]) -> None:
        await self._worker.process(records)
        with self._changed:
            self._processed += len(records) * GOAL_EVENTS
            self._changed.notify()

    def _caught_up(self, events: int) -> int:
        with self._changed:
            self._asked += events
            if not self._changed.wait_for(lambda: self._processed >= self._asked, _PROCESS_SECONDS_MAX):
                raise click.ClickException("the bench's redactor does not get what its stream was given")
        return events


def _redact(kind: str, generation: int, pipe: Connection) -> None:
    asyncio.run(_Redactor(kind, generation).run(pipe))


_PROCESS = {"collector": _serve, "redactor": _redact}
_INSIDES = {"door inside": "collector", "redactor inside": "redactor"}


def _inside(where: str, generation: int, pipe: Connection) -> None:
    registry, (size,) = Registry.load(), SIZES[where]
    bodies = _bodies(size)
    with ThreadPoolExecutor(1) as pool, asyncio.Runner() as runner:
        if where == "door inside":
            loads = {kind: _through_door(_door(registry, _tally(kind)), bodies, size) for kind in KINDS}
        else:
            workers = {kind: _redactor(registry, pool, _tally(kind), _Forgetful()) for kind in KINDS}
            loads = {kind: _through_redactor(worker, bodies, size) for kind, worker in workers.items()}
        runner.run(_by_turns(loads, _ROUND_TURNS, Random(generation)))  # warms
        spare_what_stays()
        pipe.send("ready")
        answer(pipe, lambda turns: runner.run(_by_turns(loads, turns, Random(generation))))


async def _by_turns(loads: Mapping[str, Iterator[Awaitable[int]]], turns: int, random: Random) -> Costs:
    """CPU seconds an event. Of each turn its differences count, of which the largest and smallest are left out: what disturbs
    lasts longer than a turn, or hits one."""
    spent: dict[str, list[float]] = {kind: [] for kind in loads}
    order = list(loads)
    for _ in range(turns):
        random.shuffle(order)
        for kind in order:
            events, began = 0, time.process_time()
            while events < _TURN_EVENTS:
                events += await next(loads[kind])
            spent[kind].append((time.process_time() - began) / events)
    means = [statistics.fmean(turn) for turn in zip(*spent.values(), strict=True)]
    usual, cut = statistics.median(means), int(turns * _CUT)
    off = {kind: sorted(cost - mean for cost, mean in zip(costs, means, strict=True)) for kind, costs in spent.items()}
    return {kind: usual + statistics.fmean(each[cut : turns - cut]) for kind, each in off.items()}


def _bodies(size: int) -> list[bytes]:
    """Requests of this size."""
    ids = _ids(0, EVENTS)
    return [batch_body("grpc", ids[start : start + size]) for start in range(0, EVENTS, size)]


def _ids(start: int, end: int) -> list[str]:
    return [str(UUID(int=Random(number).getrandbits(128))) for number in range(start, end)]


class _Forgetful(MemorySink):
    def _write(self, record: Record) -> Outcome:
        return Written("shardId-000000000000", "1")


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


def _through_door(door: Collector, bodies: Sequence[bytes], size: int) -> Iterator[Awaitable[int]]:
    caller = Caller(Origin("bench", "grpc"), True)

    async def through(body: bytes) -> int:
        decisions = [door.acceptance.decide(encoded, _AT_MICROS) for encoded in split_batch(body, EVENTS_MAX)]
        answer = await door.publish(caller, decisions, door.admit(caller, len(body)), None)
        if answer.problems:
            raise click.ClickException("the bench's own events were not accepted: these figures are void")
        return size

    return map(through, itertools.cycle(bodies))


def _redactor(registry: Registry, pool: ThreadPoolExecutor, tally: Tally | None, sink: Sink) -> RedactorWorker:
    redactor = Redactor(registry, MemoryKeys())
    return RedactorWorker(redactor, sink, MemoryDeadLetters(), Metrics(), pool, tally=tally)


def _through_redactor(worker: RedactorWorker, bodies: Sequence[bytes], size: int) -> Iterator[Awaitable[int]]:
    records = [_record(number, body) for number, body in enumerate(bodies)]

    async def through(some: Sequence[StoredRecord]) -> int:
        await worker.process(some)
        return size * len(some)

    starts = range(0, len(records), _RECORDS_AT_ONCE)
    return map(through, itertools.cycle([records[start : start + _RECORDS_AT_ONCE] for start in starts]))


def _record(number: int, body: bytes) -> StoredRecord:
    """A request's events as the door stores them: both batches have their events in field 1."""
    payload = body + batch_tail(Origin("bench", "grpc"), _AT_MICROS, "bench", number % 16, 16)
    return StoredRecord("events", "shardId-000000000000", str(number), frame.encode(payload), 0)


# -- operations


def operations() -> Iterator[tuple[str, float]]:
    """(what, microseconds)."""
    bodies = _bodies(GOAL_EVENTS)
    requests = [tuple(split_batch(body, GOAL_EVENTS)) for body in bodies]
    noted = [partial(_note, encoded=encoded) for encoded in requests]
    seen = [partial(_see, body=body) for body in bodies]
    kinds: dict[str, Callable[[], Column]] = {"numpy": lambda: NumpyColumn(NumpyColumn.ROWS)}
    if native.code is not None:
        kinds = {"native": lambda: NativeColumn(NativeColumn.ROWS)} | kinds
    try:
        for name, column in kinds.items():
            native.code = native.code if name == "native" else None
            for what, brings in (("noted", noted), ("of a batch that was seen", seen)):
                yield f"an event {what}, {name}, in the cache", _micros(column, brings[:1] * len(brings), False)
                yield f"an event {what}, {name}, not in the cache", _micros(column, brings, True)
    finally:
        native.code, _ = native.loaded()
    yield "a segment with a table, taken and encoded", _segment_micros(requests)


def _note(tally: Tally, encoded: Sequence[bytes]) -> None:
    tally.note("grpc-door:acknowledged", "bench", "grpc", _AT_MICROS, encoded)


def _see(tally: Tally, body: bytes) -> None:
    tally.note_seen("redactor:read", [Seen("bench", "grpc", _AT_MICROS, body)])


def _micros(column: Callable[[], Column], brings: Sequence[Callable[[Tally], None]], cold: bool) -> float:
    """Of an event, in requests of a hundred and folded; cold: neither they nor what counts them is in a core's own cache when it
    begins."""
    elsewhere = np.ones(_CACHE_BYTES // 8)
    best = math.inf
    for _ in range(_REPEATS):
        tally, spent = Tally(column()), 0.0
        for bring in brings:
            if cold:
                elsewhere.sum()
            began = time.perf_counter()
            bring(tally)
            spent += time.perf_counter() - began
        began = time.perf_counter()
        tally.fold()
        best = min(best, spent + time.perf_counter() - began)
    return best / len(brings) / GOAL_EVENTS * 1e6


def _segment_micros(requests: Sequence[tuple[bytes, ...]]) -> float:
    best = math.inf
    for number in range(_REPEATS):
        tally = Tally()
        for encoded in requests:
            _note(tally, encoded)
        began = time.perf_counter()
        encode(Segment("grpc", "bench", "boot", number, 0.0, 1.0, False, tally.take().digests))
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def sizes() -> Iterator[tuple[int, int, float]]:
    """(events a second, bytes of one window's digest, bytes an event)."""
    for rate in RATES:
        events = rate * WINDOW_SECONDS
        digest = Digest()
        for start in range(0, events, 10_000):
            ids = _ids(start, min(events, start + 10_000))
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


def _tell_prices(prices: Iterator[Price]) -> None:
    found = list(prices)
    click.echo("\nCPU an event, with the ledger and without; in brackets, where the true ratio is with 95 %")
    click.echo(f"{'where':<16}{'events':>7}{'without us':>12}{'more us':>9}  {'with/without':<21}  {'without/without':<21}  goal")
    for price in found:
        goal = f"<= {GOAL_RATIO_MAX} {price.verdict}" if price.events == GOAL_EVENTS and price.where in _PROCESS else ""
        costs = f"{price.bare_micros:>12.2f}{price.more_micros:>9.2f}"
        click.echo(f"{price.where:<16}{price.events:>7}{costs}  {price.ratio}  {price.noise}  {goal}")
    seen = {price.where: price for price in found if price.events == GOAL_EVENTS}
    for inside, whole in _INSIDES.items():
        if inside in seen and whole in seen:
            of_whole = seen[inside].within(seen[whole])
            verdict = of_whole.verdict(GOAL_RATIO_MAX)
            click.echo(f"the {whole}'s whole process with what its inside takes more, of it without: {of_whole}  {verdict}")


@click.command()
@click.option("--generations", default=5, show_default=True, type=click.IntRange(min=GENERATIONS_MIN), help="Of fresh processes.")
@click.option(
    "--rounds", default=6, show_default=True, type=click.IntRange(min=5), help="In each generation; of an inside, 25 turns each."
)
@click.option("--seconds", default=0.15, show_default=True, help="Of load on each process in each round.")
@click.option("--where", "places", multiple=True, type=click.Choice(tuple(SIZES)), help="Only its price; may be repeated.")
@click.option("--tables", default=400, show_default=True, help="Tables to decode for each number of events.")
def command(generations: int, rounds: int, seconds: float, places: tuple[str, ...], tables: int) -> None:
    """What the ledger costs, how large its digests are, and what they can name."""
    if places:
        _tell_prices(measure(generations, rounds, seconds, places))
        return
    click.echo(f"the arithmetic: {native.runs}\n\n{'operation':<64}{'us':>8}")
    for name, micros in operations():
        click.echo(f"{name:<64}{micros:>8.3f}")
    _tell_prices(measure(generations, rounds, seconds))
    click.echo(f"\none table: {TABLE_BYTES:,} bytes\n{'events/s':>9}{'bytes a window':>16}{'bytes an event':>16}")
    for rate, size, each in sizes():
        click.echo(f"{rate:>9,}{size:>16,}{each:>16.2f}")
    click.echo(f"\n{'differ':>7}{'not all named':>15}{'wrong':>7}   of {tables:,} tables each")
    for events, failed, wrong in naming(tables):
        click.echo(f"{events:>7}{failed:>15.4f}{wrong:>7}")


if __name__ == "__main__":
    command()
