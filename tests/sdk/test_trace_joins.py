"""The SDK at the real gRPC door, with one memory for the spans of both: they are one tree."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan

from pipeline.doors.accept import Acceptance
from pipeline.doors.collect import Collector, InFlight
from pipeline.doors.grpc_door import GrpcDoor
from pipeline.doors.keys import KeyStore, add_key
from pipeline.doors.run import wall_micros
from pipeline.doors.settings import GrpcSettings
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.schema.registry import Registry
from pipeline.sdk.client import Client
from pipeline.streams.batching import Lanes
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.retry import RetryBudget
from pipeline.streams.sink import MemorySink
from telemetry.metrics import Metrics
from telemetry.settings import TelemetrySettings
from telemetry.tracing import Tracer, trace_of
from tests.sdk.simulated import event
from tests.sdk.watched import Watched, identity, said

PAGE = PageViewed(page_url="https://example.com/")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SHARES = TelemetrySettings(trace_share=0.02)


@dataclass
class Door:
    target: str
    key: str
    spans: list[ReadableSpan]

    def of(self, hop: str) -> dict[str, ReadableSpan]:
        """By event id; the spans of batches have none."""
        found = [span for span in self.spans if said(span)["spillway.hop"] == hop]
        return {str(said(span)["cloudevents.event_id"]): span for span in found if "cloudevents.event_id" in said(span)}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    spans: list[ReadableSpan] = []
    metrics, log, clock = Metrics(), structlog.get_logger(), time.monotonic
    key = add_key(tmp_path / "keys", "acme", "producer")
    lanes = Lanes(slices=16, worker="w", budget=RetryBudget(clock), random=Random(1))
    commit = GroupCommit(MemorySink(), lanes, clock=clock, clock_micros=wall_micros)
    collector = Collector(
        door="grpc",
        acceptance=Acceptance(Registry.load().types, 16, tracer=Tracer("grpc-door", "grpc-1", spans.append, SHARES)),
        keys=KeyStore(tmp_path / "keys", clock=clock, log=log, metrics=metrics, door="grpc"),
        commit=commit,
        in_flight=InFlight(10_000_000, 10_000_000),
        clock_micros=wall_micros,
        write_seconds=10.0,
        metrics=metrics,
    )
    server = GrpcDoor(collector, GrpcSettings(port=0))
    await server.start()
    yield Door(f"127.0.0.1:{server.port}", key, spans)
    await server.stop_accepting(1)
    await commit.drain(1)


async def _soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def _send(door: Door, watched: Watched, send: Callable[[Client], None]) -> None:
    with Client(door.target, door.key, source="/test", on_rejected=lambda *_: None, telemetry=watched.telemetry) as client:
        send(client)


async def test_spans_of_sender_and_door_are_parent_and_child_whoever_is_above_them(door: Door) -> None:
    watched = Watched(SHARES)

    def send(client: Client) -> None:
        client.send(PAGE, id="canary", canary="probe-1")
        client.send(PAGE, id="traced caller", traceparent=CALLER)
        client.send(PageViewed(), id="bad", canary="probe-1")

    await asyncio.to_thread(_send, door, watched, send)
    await _soon(lambda: len(door.of("grpc-door")) == 3)
    here, there = watched.by_id(), door.of("grpc-door")
    for id, caller in (("canary", ""), ("traced caller", CALLER), ("bad", "")):
        above = trace_of("/test", id, caller)
        assert (above.trace_id, above.span_id("sdk"), above.producer_span_id) == identity(here[id])
        assert (above.trace_id, above.span_id("grpc-door"), above.span_id("sdk")) == identity(there[id])
    assert ("accepted", "rejected") == tuple(said(here[id])["spillway.outcome"] for id in ("canary", "bad"))
    # The one lies within the other.
    for id, inner in there.items():
        assert (here[id].start_time or 0) <= (inner.start_time or 0)
        assert (inner.end_time or 0) <= (here[id].end_time or 0)


async def test_of_many_events_both_trace_the_same_ones(door: Door) -> None:
    watched = Watched(SHARES)

    def send(client: Client) -> None:
        for number in range(4_000):
            client.send(PAGE, subject=f"user-{number % 7}")

    await asyncio.to_thread(_send, door, watched, send)
    here = watched.by_id()
    await _soon(lambda: set(here) <= set(door.of("grpc-door")))
    there = door.of("grpc-door")
    assert set(here) == set(there)
    # Binomial: 80 expected, deviation 9; six of them.
    assert abs(len(here) - 80) < 54
    assert {id: identity(span)[1] for id, span in here.items()} == {id: identity(span)[2] for id, span in there.items()}


async def test_of_a_complete_event_both_spans_stand_below_its_producers(door: Door) -> None:
    watched = Watched(SHARES)
    whole = event("a", PAGE.SerializeToString())
    whole.attributes["time"].ce_timestamp.GetCurrentTime()
    whole.attributes["datacontenttype"].ce_string = "application/protobuf"
    whole.attributes["traceparent"].ce_string = CALLER
    await asyncio.to_thread(_send, door, watched, lambda client: client.send_event(whole).wait(10.0))
    await _soon(lambda: "a" in door.of("grpc-door"))
    above = trace_of("/test", "a", CALLER)
    found = [identity(spans["a"]) for spans in (watched.by_id(), door.of("grpc-door"))]
    assert [(above.trace_id, above.span_id(hop), above.producer_span_id) for hop in ("sdk", "grpc-door")] == found
