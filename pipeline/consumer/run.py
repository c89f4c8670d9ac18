"""What every worker process does around its work: settings once, clients, log, health, signals, draining.

A process starts without any store being up (TRAPS 12): it says that it is ready when it works its rounds, and a round that fails
is tried again. SIGTERM and SIGINT: readiness goes first, deliveries in hand are finished within the drain budget, leases are
released, exit code 0 (TRAPS 11).
"""

import asyncio
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import ClassVar

import aiohttp
import boto3
from botocore.config import Config

from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.consumer.dynamodb import TABLE, DynamoLeases
from pipeline.consumer.journal import LoggedJournal
from pipeline.consumer.kinesis import KinesisStream
from pipeline.consumer.reader import Bounds
from pipeline.consumer.stream import Processor
from pipeline.consumer.worker import Pace, Worker
from pipeline.dead_letters.writer import StoredDeadLetters, bury_at
from pipeline.errors import Permanent, Retryable
from pipeline.streams.aws import BotocoreAccess
from telemetry.health import Health
from telemetry.log import Logger, configure
from telemetry.metrics import Metrics
from telemetry.personal_data import mask

# botocore's own retries stay within what a lease survives.
CALLS = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
TABLE_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    SECTION: ClassVar[str] = "consumer"

    table: str = TABLE
    lease_seconds: float = 10.0
    renew_seconds: float = 3.0
    round_seconds: float = 2.0
    shards_seconds: float = 10.0
    drain_seconds: float = 20.0
    retries_max: int = 5
    tries_max: int = 3
    takes_max: int = 3


@dataclass(frozen=True, slots=True)
class Tools:
    """What a part's processor is built from."""

    settings: Settings
    metrics: Metrics
    log: Logger
    letters: StoredDeadLetters


Build = Callable[[Tools], AbstractAsyncContextManager[Processor]]


def run(part: str, stream_of: Callable[[Settings], str], build: Build) -> int:
    """Be a worker of `part` until told to stop; return the exit code.

    0 after a drain; 78 if a person must mend the configuration, the policy or the schema first.
    """
    log = configure(part, scrub=mask)
    try:
        settings, consuming = load(Settings), load(ConsumerSettings)
        worker = settings.worker or f"{part}-{os.getpid()}"
        log = configure(part, worker, scrub=mask)
        asyncio.run(_serve(part, worker, stream_of(settings), settings, consuming, build, log))
    except Permanent as exc:
        log.error("refused to run", kind=type(exc).__name__, detail=str(exc))
        print(f"{part}: {exc}", file=sys.stderr)
        return EXIT_CONFIGURATION
    return 0


async def _serve(
    part: str, worker: str, stream_name: str, settings: Settings, consuming: ConsumerSettings, build: Build, log: Logger
) -> None:
    metrics = Metrics()
    region = settings.region
    bucket = S3Objects(boto3.client("s3", region_name=region, config=CALLS), settings.bucket)
    letters = StoredDeadLetters(bucket, metrics, lambda: time.time_ns() // 1_000)
    leases = DynamoLeases(boto3.client("dynamodb", region_name=region, config=CALLS), part, stream_name, consuming.table)
    stopping = _on_signals()
    async with AsyncExitStack() as stack:
        processor = await stack.enter_async_context(build(Tools(settings, metrics, log, letters)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        access = BotocoreAccess("kinesis", region)
        stream = KinesisStream(boto3.client("kinesis", region_name=region, config=CALLS), session, access, stream_name, part)
        health = Health(metrics, settings.health_port) if settings.health_port is not None else None
        if health is not None:
            stack.callback(health.close)
            stopping.on_set(lambda: health.set_ready(False))
            health.set_ready(True)
        log.info("started", stream=stream_name, health_port=health.port if health else None)
        await _table(leases, stopping.event, log)
        consumer = Worker(
            name=f"{worker}/{secrets.token_hex(4)}",
            stream=stream,
            leases=leases,
            processor=processor,
            bury=bury_at(part, letters),
            journal=LoggedJournal(part, metrics, log),
            clock=time.monotonic,
            random=random.random,
            bounds=Bounds(retries_max=consuming.retries_max, tries_max=consuming.tries_max, takes_max=consuming.takes_max),
            pace=Pace(
                lease_seconds=consuming.lease_seconds,
                renew_seconds=consuming.renew_seconds,
                round_seconds=consuming.round_seconds,
                shards_seconds=consuming.shards_seconds,
                drain_seconds=consuming.drain_seconds,
            ),
        )
        await consumer.run(stopping.event)
        log.info("stopped", drained=True)


class _Stopping:
    """The stop signal: an event to wait for, and what to do at once when it comes."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._first: list[Callable[[], None]] = []

    def on_set(self, act: Callable[[], None]) -> None:
        self._first.append(act)

    def set(self) -> None:
        for act in self._first:
            act()
        self.event.set()


def _on_signals() -> _Stopping:
    stopping = _Stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _table(leases: DynamoLeases, stopping: asyncio.Event, log: Logger) -> None:
    """Have a lease table, however long the store takes to come up."""
    while not stopping.is_set():
        try:
            return await leases.ensure_table()
        except Retryable as exc:
            log.warning("the lease table can't be reached", detail=str(exc))
        try:
            async with asyncio.timeout(TABLE_WAIT_SECONDS):
                await stopping.wait()
        except TimeoutError:
            continue
