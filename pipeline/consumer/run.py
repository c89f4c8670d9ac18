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
from pipeline.consumer.hop import HopTelemetry
from pipeline.consumer.journal import LoggedJournal
from pipeline.consumer.kinesis import KinesisStream
from pipeline.consumer.reader import Bounds, Happening, Journal
from pipeline.consumer.stream import Processor
from pipeline.consumer.worker import Pace, Worker
from pipeline.dead_letters.letters import CORRUPT, POISON
from pipeline.dead_letters.writer import StoredDeadLetters, bury_at
from pipeline.errors import Permanent, Retryable
from pipeline.garbage import spare_what_stays
from pipeline.ledger import recorder
from pipeline.ledger.recorder import Recorder
from pipeline.ledger.tally import Tally
from pipeline.streams.aws import BotocoreAccess
from pipeline.streams.aws_failures import AwsFailures
from telemetry.log import Logger, configure
from telemetry.metrics import DEAD_LETTERS, Metrics
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings
from telemetry.tracing import Tracer

# botocore's own retries stay within what a lease survives.
CALLS = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
TABLE_WAIT_SECONDS = 2.0
# What is left to be shipped at the end has so long; with the drain it stays within what a kill leaves.
SHIP_SECONDS_MAX = 1.5


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
    tracer: Tracer
    tally: Tally
    aws: AwsFailures


Build = Callable[[Tools], AbstractAsyncContextManager[Processor]]


def run(part: str, stream_of: Callable[[Settings], str], build: Build) -> int:
    """Be a worker of `part` until told to stop; return the exit code.

    0 after a drain; 78 if a person must mend the configuration, the policy or the schema first.
    """
    log, telemetry = configure(part, scrub=mask), None
    try:
        settings, consuming, telling = load(Settings), load(ConsumerSettings), load(TelemetrySettings)
        worker = settings.worker or f"{part}-{os.getpid()}"
        telemetry = Telemetry.begin(part, worker, telling, health_port=settings.health_port, scrub=mask)
        log = telemetry.log
        asyncio.run(_serve(telemetry, stream_of(settings), settings, consuming, build))
    except Permanent as exc:
        log.error("refused to run", kind=type(exc).__name__, detail=str(exc))
        print(f"{part}: {exc}", file=sys.stderr)
        return EXIT_CONFIGURATION
    finally:
        if telemetry is not None:
            telemetry.end(SHIP_SECONDS_MAX)
    return 0


async def _serve(telemetry: Telemetry, stream_name: str, settings: Settings, consuming: ConsumerSettings, build: Build) -> None:
    part, metrics, log, tracer = telemetry.part, telemetry.metrics, telemetry.log, telemetry.tracer
    region = settings.region
    aws = AwsFailures(metrics, ("s3", "dynamodb", "kinesis", "kms"))
    bucket = S3Objects(aws.watched(boto3.client("s3", region_name=region, config=CALLS)), settings.bucket)
    letters = StoredDeadLetters(bucket, metrics, lambda: time.time_ns() // 1_000, log)
    for reason in (CORRUPT, POISON):  # shown from the start, as zero
        metrics.counter(DEAD_LETTERS, stage=part, reason=reason)
    table = aws.watched(boto3.client("dynamodb", region_name=region, config=CALLS))
    leases = DynamoLeases(table, part, stream_name, consuming.table)
    stopping = _on_signals()
    ledger_bucket = S3Objects(aws.watched(boto3.client("s3", region_name=region, config=recorder.CALLS)), settings.bucket)
    ledger = Recorder.begin(part, telemetry.worker, ledger_bucket, metrics, log)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, ledger.end)
        processor = await stack.enter_async_context(build(Tools(settings, metrics, log, letters, tracer, ledger.tally, aws)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        access = BotocoreAccess("kinesis", region)
        kinesis = aws.watched(boto3.client("kinesis", region_name=region, config=CALLS))
        stream = KinesisStream(kinesis, session, access, stream_name, part, aws)
        journal = LoggedJournal(part, metrics, log, stream=stream_name)
        stopping.on_set(lambda: telemetry.set_ready(False))
        spare_what_stays()
        telemetry.set_ready(True)
        log.info("started", stream=stream_name, health_port=telemetry.health.port if telemetry.health else None)
        await _table(leases, stopping.event, journal)
        consumer = Worker(
            name=f"{telemetry.worker}/{secrets.token_hex(4)}",
            stream=stream,
            leases=leases,
            processor=processor,
            bury=bury_at(part, letters, HopTelemetry(part, metrics, tracer).buried),
            journal=journal,
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


async def _table(leases: DynamoLeases, stopping: asyncio.Event, journal: Journal) -> None:
    """Have a lease table, however long the store takes to come up."""
    while not stopping.is_set():
        try:
            return await leases.ensure_table()
        except Retryable as exc:
            journal(Happening("blind", "", detail=f"the lease table can't be reached: {exc}"))
        try:
            async with asyncio.timeout(TABLE_WAIT_SECONDS):
                await stopping.wait()
        except TimeoutError:
            continue
