"""Putting a canary together from settings: doors, exits, shards, checks, and what its port says. Used by process and command."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import boto3
from botocore.config import Config

from canary.blame import WEB_BACKUP, hops
from canary.checks import Checks
from canary.lanes import Shard
from canary.looks import BackupLooks, Exit, LakeLooks, RdsLooks, RedisLooks
from canary.places import RealPlaces
from canary.report import Report, Strips, report, strips
from canary.send import GrpcSender, HttpSender
from canary.settings import CanarySettings
from canary.state import State
from canary.watch import Canary
from canary.work import Threads, Workers
from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings, RedisSettings
from pipeline.etl.storage import delta_options
from pipeline.explain.settings import StoreAddress
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

PATH = "/canary"
CALLS = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
# delta-rs would try for minutes; a look that fails is tried again two seconds later.
_LAKE_PATIENCE = {"timeout": "5s", "connect_timeout": "2s", "max_retries": "1", "retry_timeout": "5s"}
STEP_SECONDS = 0.25
REPORT_SECONDS = 1.0
# A day of minutes is read for them.
STRIPS_SECONDS = 15.0


@dataclass
class Service:
    """A canary with its checks, and the last report; `run` drives it in one thread."""

    canary: Canary
    checks: Checks
    metrics: Metrics
    latest: Report | None = None
    _strips: Strips = field(default_factory=dict)
    _strips_at: float = float("-inf")
    _ends: list[Callable[[], None]] = field(default_factory=list)

    def run(self, stopping: threading.Event, seen: Callable[[Report], bool] = lambda _: False) -> None:
        """Until told to stop, or until `seen` has seen enough in a report. Then sending stops, answers under way are awaited
        for as long as a door may take, and where it is is on disk."""
        report_at, clock = float("-inf"), self.canary.clock
        while not stopping.is_set():
            self.canary.step()
            self.checks.step()
            if clock() >= report_at:
                report_at = clock() + REPORT_SECONDS
                self.latest = self.report()
                if seen(self.latest):
                    break
            stopping.wait(STEP_SECONDS)
        self._drain()

    def _drain(self) -> None:
        self.canary.rounds.stop()
        until = self.canary.clock() + self.canary.settings.door_seconds_max + 1.0
        quiet = threading.Event()
        while not self.canary.rounds.answered and self.canary.clock() < until:
            self.canary.step()
            quiet.wait(STEP_SECONDS)

    def report(self) -> Report:
        now = self.canary.clock()
        if now >= self._strips_at + STRIPS_SECONDS:
            self.canary.state.forget_before(int(now // 60 - self.canary.settings.strip_hours * 60))
            self._strips, self._strips_at = strips(self.canary, now), now
        made = report(self.canary, self.checks.results(), self._strips)
        blamed = {suspect.hop: each.failing for each in made.blames for suspect in each.suspects}
        for hop in hops():
            self.metrics.gauge(m.CANARY_BLAMED_EVENTS, hop=hop).set(blamed.get(hop, 0))
        return made

    def said(self) -> bytes:
        """What the port answers: the last report as JSON."""
        return json.dumps({} if self.latest is None else self.latest.json()).encode()

    def close(self) -> None:
        for end in self._ends:
            end()
        self.canary.state.close()


def service(
    shared: Settings, settings: CanarySettings, state: State, metrics: Metrics, log: Logger, clock: Callable[[], float],
    workers: Workers | None = None,
) -> Service:  # fmt: skip
    """Raises: InvalidConfiguration."""
    settings.check()
    workers = workers or Threads()
    grpc = GrpcSender(settings.grpc_target, settings.key, deadline_seconds=settings.door_seconds_max, metrics=metrics)
    http = HttpSender(settings.http_url, settings.key, deadline_seconds=settings.door_seconds_max)
    canary = Canary(
        settings, state, (grpc, http), _exits(shared, state.source), lambda: shards_of(shared), workers, metrics, log,
        clock=clock, slices=shared.slices,
    )  # fmt: skip
    checks = Checks(settings, state, _places(shared, settings, grpc, http), workers, metrics, log, clock, time.sleep)
    return Service(canary, checks, metrics, _ends=[grpc.close])


def _exits(shared: Settings, source: str) -> list[Exit]:
    return [
        LakeLooks(_lake(shared), source),
        RdsLooks(load(RdsSettings).url, source),
        RedisLooks(load(RedisSettings).url),
        BackupLooks(_objects(shared), shared.events_stream, source),
        BackupLooks(_objects(shared), shared.web_stream, source, name=WEB_BACKUP, as_sent=True),
    ]


def _lake(shared: Settings) -> Lake:
    uri = load(EtlSettings).lake(shared)
    return Lake(uri, shared.region, options={**delta_options(uri, shared.region), **_LAKE_PATIENCE})


def _objects(shared: Settings) -> S3Objects:
    return S3Objects(boto3.client("s3", region_name=shared.region, config=CALLS), shared.bucket)


def _places(shared: Settings, settings: CanarySettings, grpc: GrpcSender, http: HttpSender) -> RealPlaces:
    return RealPlaces(
        grpc=grpc,
        http=http,
        grpc_target=settings.grpc_target,
        http_url=settings.http_url,
        objects=_objects(shared),
        lake=lambda: _lake(shared),
        rds_url=load(RdsSettings).url,
        redis_url=load(RedisSettings).url,
        store_url=load(StoreAddress).url,
        prometheus_url=settings.prometheus_url,
    )


def shards_of(shared: Settings) -> Mapping[str, Sequence[Shard]]:
    """The open shards of each stream, by its name."""
    client = boto3.client("kinesis", region_name=shared.region, config=CALLS)
    found: dict[str, list[Shard]] = {}
    for stream in (shared.web_stream, shared.events_stream, shared.clean_stream):
        shards = [one for page in client.get_paginator("list_shards").paginate(StreamName=stream) for one in page["Shards"]]
        found[stream] = [
            Shard(one["ShardId"], int(one["HashKeyRange"]["StartingHashKey"]), int(one["HashKeyRange"]["EndingHashKey"]))
            for one in shards
            if "EndingSequenceNumber" not in one["SequenceNumberRange"]
        ]
    return found
