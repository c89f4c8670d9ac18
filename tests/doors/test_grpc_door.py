"""The gRPC door over a real connection, the stream in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pipeline.doors.grpc_door import SERVICE, GrpcDoor
from pipeline.doors.keys import revoke_key
from pipeline.doors.reasons import Status
from pipeline.doors.settings import GrpcSettings
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.v1.collector_pb2 import PublishResponse, PublishStreamRequest, PublishStreamResponse
from pipeline.gen.spillway.v1.collector_pb2_grpc import CollectorStub

from .world import GatedSink, World, event, stored_ids, until, world


@dataclass
class Open:
    there: World
    sink: GatedSink
    door: GrpcDoor
    channel: Any
    stub: Any

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.there.bearer.items())

    async def publish(
        self, *events: CloudEvent, metadata: tuple[tuple[str, str], ...] | None = None, deadline_seconds: float = 5
    ) -> PublishResponse:
        batch = CloudEventBatch(events=events)
        metadata = self.metadata if metadata is None else metadata
        answer: PublishResponse = await self.stub.Publish(batch, metadata=metadata, timeout=deadline_seconds)
        return answer


@pytest.fixture
async def open_door(tmp_path: Path) -> AsyncIterator[Callable[..., "asyncio.Future[Open]"]]:
    opened: list[Open] = []

    async def start(settings: GrpcSettings | None = None, *, in_flight_bytes: int = 10_000_000, gate: bool = True) -> Open:
        sink = GatedSink()
        if gate:
            sink.gate.set()
        there = world(tmp_path, sink, in_flight_bytes=in_flight_bytes)
        door = GrpcDoor(there.collector, settings or GrpcSettings(port=0))
        await door.start()
        channel = aio.insecure_channel(f"127.0.0.1:{door.port}")
        opened.append(Open(there, sink, door, channel, CollectorStub(channel)))
        return opened[-1]

    yield start  # type: ignore[misc]
    for one in opened:
        one.sink.gate.set()
        await one.channel.close()
        await one.door.stop_accepting(1)
        await one.there.commit.drain(1)


def details(error: aio.AioRpcError) -> status_pb2.Status:
    metadata: Any = error.trailing_metadata()
    return status_pb2.Status.FromString(dict(metadata)["grpc-status-details-bin"])


def reason(error: aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    assert details(error).details[0].Unpack(info)
    return str(info.reason)


async def test_each_event_is_answered_and_what_is_accepted_is_written(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    """TRAPS 9: a 2 MB event, an unknown type and a missing id leave their neighbours alone."""
    door = await open_door()
    bad = [event("large", data=bytes(2_000_000)), event("odd", type="no.such.Type"), event("")]
    answer = await door.publish(event("a"), *bad, event("b"))
    assert [Status.ACCEPTED, *[Status.REJECTED] * 3, Status.ACCEPTED] == [*map(Status, answer.statuses)]
    assert [(1, "event_too_large"), (2, "unknown_type"), (3, "missing_attribute")] == [
        (r.index, r.reason) for r in answer.rejections
    ]
    assert ["a", "b"] == stored_ids(door.sink.records)


async def test_a_request_that_is_no_batch_has_its_status(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door()
    raw = door.channel.unary_unary(f"/{SERVICE}/Publish")
    for body, expected in (
        (b"", "EMPTY_BATCH"),
        (b"{broken json", "MALFORMED_REQUEST"),
        (b"\x0a\x00" * 501, "TOO_MANY_EVENTS"),
        (b"\x0a\x00" * 2_100_000, "REQUEST_TOO_LARGE"),
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await raw(body, metadata=door.metadata)
        assert (grpc.StatusCode.INVALID_ARGUMENT, expected) == (raised.value.code(), reason(raised.value))
    assert 0 == door.there.in_flight.bytes


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer spw_no_key"),), grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_without_a_key_there_is_no_way_in(
    open_door: Callable[..., asyncio.Future[Open]], metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode
) -> None:
    door = await open_door()
    with pytest.raises(aio.AioRpcError) as raised:
        await door.publish(event("a"), metadata=metadata)
    assert code == raised.value.code()
    with pytest.raises(aio.AioRpcError) as raised:
        await door.stub.PublishStream(iter(()), metadata=metadata).read()
    assert code == raised.value.code()
    assert [] == door.sink.records


async def test_a_foreign_tenant_is_permission_denied(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door()
    with pytest.raises(aio.AioRpcError) as raised:
        await door.publish(event("a"), metadata=(*door.metadata, ("spillway-tenant", "other")))
    assert grpc.StatusCode.PERMISSION_DENIED == raised.value.code()


async def test_past_the_bytes_in_flight_it_is_resource_exhausted_with_retry_info(
    open_door: Callable[..., asyncio.Future[Open]],
) -> None:
    door = await open_door(in_flight_bytes=250, gate=False)
    first = asyncio.ensure_future(door.publish(event("a")))
    await until(lambda: door.there.in_flight.bytes > 0)
    with pytest.raises(aio.AioRpcError) as raised:
        await door.publish(event("b"))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == raised.value.code()
    info = error_details_pb2.RetryInfo()
    assert details(raised.value).details[1].Unpack(info)
    assert 1.0 == info.retry_delay.ToTimedelta().total_seconds()
    door.sink.gate.set()
    assert [Status.ACCEPTED] == [*map(Status, (await first).statuses)]


async def test_a_client_deadline_is_answered_before_it_and_does_not_stop_the_write(
    open_door: Callable[..., asyncio.Future[Open]],
) -> None:
    """TRAPS 8."""
    door = await open_door(gate=False)
    answer = await door.publish(event("a"), deadline_seconds=0.4)
    assert [Status.RETRY] == [*map(Status, answer.statuses)]
    assert ["deadline"] == [one.reason for one in answer.rejections]
    left = asyncio.ensure_future(door.publish(event("b")))
    await until(lambda: door.there.in_flight.bytes > 200)
    left.cancel()
    door.sink.gate.set()
    assert 0 == await door.there.commit.drain(5)
    assert ["a", "b"] == stored_ids(door.sink.records)
    assert 0 == door.there.in_flight.bytes


def requests(*events: CloudEvent) -> Iterator[PublishStreamRequest]:
    for number, one in enumerate(events, 1):
        yield PublishStreamRequest(sequence=number, event=one)


async def test_a_stream_is_answered_through_its_last_event_with_rejections_by_sequence(
    open_door: Callable[..., asyncio.Future[Open]],
) -> None:
    door = await open_door()
    events = [event(str(number), subject=f"s{number % 5}") for number in range(300)]
    events[7] = event("7", type="no.such.Type")
    answers: list[PublishStreamResponse] = [
        answer async for answer in door.stub.PublishStream(requests(*events), metadata=door.metadata)
    ]
    through = [answer.answered_through for answer in answers]
    assert sorted(set(through)) == through
    assert 300 == through[-1]
    assert [(8, "unknown_type", Status.REJECTED)] == [
        (one.sequence, one.rejection.reason, Status(one.rejection.status)) for answer in answers for one in answer.rejections
    ]
    assert sorted(one.id for one in events if one.id != "7") == stored_ids(door.sink.records)


async def test_a_stream_acknowledges_nothing_before_it_is_written(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    """TRAPS 5."""
    door = await open_door(gate=False)
    call = door.stub.PublishStream(metadata=door.metadata)
    await call.write(PublishStreamRequest(sequence=1, event=event("a")))
    answer = asyncio.ensure_future(call.read())
    await until(lambda: door.there.in_flight.bytes > 0)
    await asyncio.wait({answer}, timeout=0.1)
    assert not answer.done()
    door.sink.gate.set()
    assert 1 == (await answer).answered_through
    await call.done_writing()
    assert grpc.StatusCode.OK == await call.code()


async def test_a_full_window_holds_the_client_back(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door(GrpcSettings(port=0, stream_window_events=5), gate=False)
    events = [event(str(number)) for number in range(50)]
    call = door.stub.PublishStream(requests(*events), metadata=door.metadata)
    await until(lambda: door.there.in_flight.bytes >= 5 * len(events[0].SerializeToString()))
    await asyncio.sleep(0.05)
    assert door.there.in_flight.bytes <= 5 * (len(events[-1].SerializeToString()) + 10)
    door.sink.gate.set()
    assert 50 == max([answer.answered_through async for answer in call])


async def test_a_wrong_sequence_ends_the_stream_after_what_was_right(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door()
    wrong = [PublishStreamRequest(sequence=1, event=event("a")), PublishStreamRequest(sequence=3, event=event("b"))]
    call = door.stub.PublishStream(iter(wrong), metadata=door.metadata)
    assert 1 == (await call.read()).answered_through
    assert grpc.StatusCode.INVALID_ARGUMENT == await call.code()


async def test_a_revoked_key_ends_an_open_stream(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door()
    call = door.stub.PublishStream(metadata=door.metadata)
    await call.write(PublishStreamRequest(sequence=1, event=event("a")))
    assert 1 == (await call.read()).answered_through
    revoke_key(door.there.keys_file, door.there.key.split("_")[1], datetime.now(UTC))
    await asyncio.sleep(1.05)
    await call.write(PublishStreamRequest(sequence=2, event=event("b")))
    assert grpc.StatusCode.UNAUTHENTICATED == await call.code()
    assert ["a"] == stored_ids(door.sink.records)


async def test_stopping_answers_open_streams_and_then_ends_them(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    """TRAPS 11."""
    door = await open_door(gate=False)
    call = door.stub.PublishStream(metadata=door.metadata)
    await call.write(PublishStreamRequest(sequence=1, event=event("a")))
    await until(lambda: door.there.in_flight.bytes > 0)
    stop = asyncio.create_task(door.door.stop_accepting(5))
    await asyncio.sleep(0.05)
    door.sink.gate.set()
    assert 1 == (await call.read()).answered_through
    assert grpc.StatusCode.UNAVAILABLE == await call.code()
    await asyncio.wait_for(stop, 5)


async def test_an_old_stream_ends_by_itself(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door(GrpcSettings(port=0, stream_seconds_max=0.2))
    call = door.stub.PublishStream(metadata=door.metadata)
    await call.write(PublishStreamRequest(sequence=1, event=event("a")))
    assert 1 == (await call.read()).answered_through
    assert grpc.StatusCode.UNAVAILABLE == await asyncio.wait_for(call.code(), 5)


async def test_health_follows_readiness_and_reflection_names_the_service(open_door: Callable[..., asyncio.Future[Open]]) -> None:
    door = await open_door()
    health = health_pb2_grpc.HealthStub(door.channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    assert health_pb2.HealthCheckResponse.SERVING == (await health.Check(request)).status
    reflection = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    async for answer in reflection.ServerReflectionInfo(iter(asked)):
        assert SERVICE in [service.name for service in answer.list_services_response.service]
    await door.door.fail_readiness()
    assert health_pb2.HealthCheckResponse.NOT_SERVING == (await health.Check(request)).status
    assert [Status.ACCEPTED] == [*map(Status, (await door.publish(event("a"))).statuses)]
