"""A door's inside without a network: real acceptance, real lanes, a sink in memory."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import structlog

from pipeline import frame
from pipeline.doors.accept import Acceptance, Limits
from pipeline.doors.collect import Collector, InFlight
from pipeline.doors.keys import KeyStore, add_key
from pipeline.event import Record
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.schema.registry import Registry
from pipeline.streams.batching import Lanes
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.retry import Backoff, RetryBudget
from pipeline.streams.sink import MemorySink, Outcome, Sink
from telemetry.metrics import Metrics

NOW_MICROS = 1_795_000_000_000_000
REGISTRY = Registry.load()
PAGE = "spillway.events.v1.PageViewed"
DATA = PageViewed(page_url="https://shop.example/").SerializeToString()
SLICES = 16


@dataclass
class GatedSink(MemorySink):
    """Keeps its answers back until the gate opens."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        await self.gate.wait()
        return await super().write(records, deadline_seconds=deadline_seconds)


@dataclass
class World:
    collector: Collector
    commit: GroupCommit
    metrics: Metrics
    in_flight: InFlight
    key: str
    service_key: str
    keys_file: Path

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


def world(
    folder: Path,
    sink: Sink,
    *,
    door: str = "grpc",
    limits: Limits | None = None,
    in_flight_bytes: int = 10_000_000,
    write_seconds: float = 5.0,
) -> World:
    keys_file = folder / "keys.jsonl"
    key, service_key = add_key(keys_file, "acme", "producer"), add_key(keys_file, "transcoder", "service")
    metrics = Metrics()
    lanes = Lanes(
        slices=SLICES,
        worker="w",
        budget=RetryBudget(time.monotonic),
        random=Random(1),
        backoff=Backoff(floor_seconds=0.001, base_seconds=0.01, cap_seconds=0.1),
    )
    commit = GroupCommit(sink, lanes, clock=time.monotonic, clock_micros=lambda: NOW_MICROS)
    in_flight = InFlight(in_flight_bytes, in_flight_bytes)
    collector = Collector(
        door=door,
        acceptance=Acceptance(REGISTRY.types, SLICES, limits or Limits()),
        keys=KeyStore(keys_file, clock=time.monotonic, log=structlog.get_logger(), metrics=metrics, door=door),
        commit=commit,
        in_flight=in_flight,
        clock_micros=lambda: NOW_MICROS,
        write_seconds=write_seconds,
        metrics=metrics,
    )
    return World(collector, commit, metrics, in_flight, key, service_key, keys_file)


def event(id: str = "1", *, subject: str = "", type: str = PAGE, data: bytes | None = DATA, **changes: str) -> CloudEvent:
    made = CloudEvent(id=id, source="/test", spec_version="1.0", type=type)
    if data is not None:
        made.binary_data = data
    made.attributes["time"].ce_timestamp.FromMicroseconds(NOW_MICROS - 1_000_000)
    made.attributes["datacontenttype"].ce_string = "application/protobuf"
    if subject:
        made.attributes["subject"].ce_string = subject
    for name, value in changes.items():
        if name in ("source", "spec_version"):
            setattr(made, name, value)
        else:
            made.attributes[name].ce_string = value
    return made


def stored(records: Sequence[Record]) -> list[StoredBatch]:
    return [StoredBatch.FromString(frame.decode(record.data)) for record in records]


def stored_ids(records: Sequence[Record]) -> list[str]:
    return sorted(one.id for batch in stored(records) for one in batch.events)


async def until(condition: Callable[[], bool], *, seconds_max: float = 10.0) -> None:
    """Wait for something outside this process's control, with a deadline."""
    ends = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)
