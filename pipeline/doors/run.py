"""The composition root of a door process: settings in, everything wired, serving until SIGTERM.

Nothing here needs the stream, AWS, the keys file or the trace store to be there (TRAPS 12): what is missing shows in the answers,
or, of telemetry, in its loss counter.
"""

import asyncio
import contextlib
import os
import signal
import time
from random import Random

import boto3

from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.doors.accept import Acceptance, Limits
from pipeline.doors.collect import Collector, InFlight
from pipeline.doors.drain import drain
from pipeline.doors.grpc_door import GrpcDoor
from pipeline.doors.http_door import HttpDoor
from pipeline.doors.keys import KeyStore
from pipeline.doors.settings import DoorSettings, GrpcSettings, HttpSettings
from pipeline.garbage import spare_what_stays
from pipeline.ledger.recorder import CALLS, Recorder
from pipeline.schema.registry import Registry
from pipeline.streams.aws import BotocoreAccess
from pipeline.streams.aws_failures import AwsFailures
from pipeline.streams.batching import Bounds, Lanes
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.put_records import PutRecords
from pipeline.streams.retry import RetryBudget
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

# Set by the supervisor of several workers: a worker drains when that process is gone.
PARENT_VARIABLE = "SPILLWAY_DOOR_PARENT"
_PARENT_LOOK_SECONDS = 1.0


def wall_micros() -> int:
    return time.time_ns() // 1000


def limits_of(settings: DoorSettings) -> Limits:
    return Limits(event_bytes=settings.event_bytes, request_events=settings.request_events, request_bytes=settings.request_bytes)


async def serve(name: str) -> None:
    """Serve the door `grpc` or `http` until told to stop, then drain."""
    shared, settings = load(Settings), load(DoorSettings)
    worker = shared.worker or f"{name}-{os.getpid()}"
    telemetry = Telemetry.begin(f"{name}-door", worker, load(TelemetrySettings), health_port=shared.health_port, scrub=mask)
    log, metrics, health = telemetry.log, telemetry.metrics, telemetry.health
    stream = shared.events_stream if name == "grpc" else shared.web_stream
    once = PutRecords(stream, BotocoreAccess("kinesis", shared.region), metrics, clock=time.monotonic)
    lanes = Lanes(
        slices=shared.slices,
        worker=worker,
        budget=RetryBudget(time.monotonic),
        random=Random(),
        bounds=Bounds(record_payload_bytes=settings.record_bytes),
    )
    commit = GroupCommit(
        once,
        lanes,
        clock=time.monotonic,
        clock_micros=wall_micros,
        calls_max=settings.calls_max,
        attempt_seconds_max=settings.attempt_seconds,
    )
    aws = AwsFailures(metrics, ("s3",))
    bucket = S3Objects(aws.watched(boto3.client("s3", region_name=shared.region, config=CALLS)), shared.bucket)
    ledger = Recorder.begin(name, worker, bucket, metrics, log)
    collector = Collector(
        door=name,
        acceptance=Acceptance(Registry.load(shared.proto_dir).types, shared.slices, limits_of(settings), telemetry.tracer),
        keys=KeyStore(shared.keys_file, clock=time.monotonic, log=log, metrics=metrics, door=name),
        commit=commit,
        in_flight=InFlight(settings.in_flight_bytes, int(settings.in_flight_bytes * settings.tenant_share)),
        clock_micros=wall_micros,
        write_seconds=settings.write_seconds,
        metrics=metrics,
        log=log,
        stream=stream,
        tally=ledger.tally,
    )
    door = GrpcDoor(collector, load(GrpcSettings)) if name == "grpc" else HttpDoor(collector, load(HttpSettings))
    stop = _stop_signal()
    spare_what_stays()
    await door.start()
    log.info("serving", port=door.port, health_port=health.port if health else None, stream=stream)
    telemetry.set_ready(True)
    await stop.wait()
    await drain(
        door,
        commit,
        set_ready=telemetry.set_ready,
        wait_seconds=settings.drain_wait_seconds,
        budget_seconds=settings.drain_budget_seconds,
        clock=time.monotonic,
        sleep=asyncio.sleep,
        log=log,
    )
    await once.close()
    await asyncio.to_thread(ledger.end)
    await asyncio.to_thread(telemetry.end)  # the loop lives on: spans of the last answers are still made


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, or when the supervisor that started this worker is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.environ.get(PARENT_VARIABLE)

    def look() -> None:
        if str(os.getppid()) != parent:
            stop.set()
        else:
            loop.call_later(_PARENT_LOOK_SECONDS, look)

    if parent:
        look()
    return stop


def run(name: str) -> None:
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(name))
