"""What a stream must do for its reader, on memory and on our Kinesis model over HTTP."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import pytest
from aiohttp import web

from pipeline.consumer.kinesis import KinesisStream
from pipeline.consumer.memory import MemoryStream
from pipeline.consumer.stream import TRIM_HORIZON, Delivery, Shard, ShardBusy, Stream, SubscriptionLost
from pipeline.errors import Unavailable
from pipeline.streams.aws import Access
from pipeline.streams.aws_failures import KINDS, AwsFailures
from pipeline.streams.sigv4 import Credentials, Signer
from telemetry.metrics import AWS_FAILURES, Metrics

from .conftest import client

SECONDS_MAX = 20.0


class Given(Protocol):
    """A stream of one shard, and what a test does to it from outside."""

    stream: Stream
    shard: str

    def put(self, data: bytes) -> str: ...
    def split(self) -> None: ...


@dataclass
class InMemory:
    stream: MemoryStream
    shard: str

    def put(self, data: bytes) -> str:
        return self.stream.put(self.shard, data).sequence_number

    def split(self) -> None:
        self.stream.split(self.shard)


@dataclass
class OnKinesis:
    stream: KinesisStream
    shard: str
    kinesis: Any

    def put(self, data: bytes) -> str:
        return str(self.kinesis.put_record(StreamName=self.stream.name, Data=data, PartitionKey="k")["SequenceNumber"])

    def split(self) -> None:
        middle = str(1 << 127)
        self.kinesis.split_shard(StreamName=self.stream.name, ShardToSplit=self.shard, NewStartingHashKey=middle)


@dataclass(frozen=True)
class FixedAccess:
    url: str

    async def access(self) -> Access:
        return Access(self.url, Signer("kinesis", "us-east-1", self.url.split("/")[2]), Credentials("local", "local"))

    def forget(self) -> None: ...


def failures(metrics: Metrics | None = None) -> AwsFailures:
    return AwsFailures(metrics or Metrics(), ("kinesis",))


@pytest.fixture(params=["memory", pytest.param("kinesis", marks=pytest.mark.stack)])
async def given(request: pytest.FixtureRequest) -> AsyncIterator[Given]:
    if request.param == "memory":
        stream = MemoryStream(asyncio.get_running_loop().time)
        yield InMemory(stream, stream.open())
        return
    kinesis, name = client(request.getfixturevalue("aws"), "kinesis"), f"s-{uuid.uuid4().hex[:8]}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    async with aiohttp.ClientSession() as session:
        access = FixedAccess(kinesis.meta.endpoint_url.rstrip("/") + "/")
        yield OnKinesis(KinesisStream(kinesis, session, access, name, "app", failures()), "shardId-000000000000", kinesis)


async def first_with_records(pushed: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(SECONDS_MAX):
        async for delivery in pushed:
            if delivery.records:
                return delivery
    raise AssertionError("the subscription ended without a record")


async def test_records_come_in_order_with_where_and_when_they_were_written(given: Given) -> None:
    sequence_numbers = [given.put(b"%d" % number) for number in range(3)]
    before = time.time()
    async with given.stream.subscribe(given.shard, TRIM_HORIZON) as pushed:
        delivery = await first_with_records(pushed)
    assert [b"0", b"1", b"2"] == [record.data for record in delivery.records]
    assert sequence_numbers == [record.sequence_number for record in delivery.records]
    assert {(given.stream.name, given.shard)} == {(record.stream, record.shard_id) for record in delivery.records}
    if isinstance(given, OnKinesis):
        assert [] == [r for r in delivery.records if abs(r.arrived_at_unix_micros / 1e6 - before) > 30]


async def test_reading_goes_on_behind_a_position(given: Given) -> None:
    second = [given.put(b"%d" % number) for number in range(4)][1]
    async with given.stream.subscribe(given.shard, second) as pushed:
        delivery = await first_with_records(pushed)
    assert [b"2", b"3"] == [record.data for record in delivery.records]


async def test_a_record_is_pushed_while_the_subscription_lives(given: Given) -> None:
    async with given.stream.subscribe(given.shard, TRIM_HORIZON) as pushed:
        waiting = asyncio.create_task(first_with_records(pushed))
        await asyncio.sleep(0)
        given.put(b"late")
        assert [b"late"] == [record.data for record in (await waiting).records]


async def test_a_closed_shard_is_delivered_to_its_end_and_its_children_name_it(given: Given) -> None:
    """TRAPS 14."""
    given.put(b"last")
    given.split()
    deliveries = []
    async with given.stream.subscribe(given.shard, TRIM_HORIZON) as pushed, asyncio.timeout(SECONDS_MAX):
        async for delivery in pushed:
            deliveries.append(delivery)
            if delivery.continuation is None:
                break
    assert [b"last"] == [record.data for delivery in deliveries for record in delivery.records]
    shards = await given.stream.shards()
    assert [Shard(given.shard), *(Shard(child.shard_id, (given.shard,)) for child in shards[1:])] == shards
    assert 3 == len(shards)


async def test_subscribing_twice_within_five_seconds_is_refused_as_busy(given: Given) -> None:
    """TRAPS 15."""
    async with given.stream.subscribe(given.shard, TRIM_HORIZON):
        pass
    with pytest.raises(ShardBusy):
        async with given.stream.subscribe(given.shard, TRIM_HORIZON):
            pass


async def test_an_idle_shard_sends_heartbeats_whose_continuation_leads_on(given: Given) -> None:
    """TRAPS 15."""
    async with given.stream.subscribe(given.shard, TRIM_HORIZON) as pushed, asyncio.timeout(SECONDS_MAX):
        heartbeat = await anext(pushed)
    assert () == heartbeat.records
    assert heartbeat.continuation is not None
    given.put(b"later")
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            try:
                async with given.stream.subscribe(given.shard, heartbeat.continuation) as pushed:
                    delivery = await first_with_records(pushed)
                    break
            except ShardBusy:
                await asyncio.sleep(0.2)
    assert [b"later"] == [record.data for record in delivery.records]


async def test_a_shard_that_does_not_exist_is_a_lost_subscription(given: Given) -> None:
    with pytest.raises(SubscriptionLost):
        async with given.stream.subscribe("shardId-000000000099", TRIM_HORIZON):
            pass


@pytest.mark.stack
async def test_a_stream_that_does_not_exist_is_unavailable(request: pytest.FixtureRequest) -> None:
    """TRAPS 12: the process waits for it."""
    kinesis = client(request.getfixturevalue("aws"), "kinesis")
    async with aiohttp.ClientSession() as session:
        stream = KinesisStream(kinesis, session, FixedAccess(kinesis.meta.endpoint_url + "/"), "nowhere", "app", failures())
        with pytest.raises(Unavailable):
            await stream.shards()
        with pytest.raises(SubscriptionLost):
            async with stream.subscribe("shardId-000000000000", TRIM_HORIZON):
                pass


class Registered:
    """A client that knows the consumer already."""

    def describe_stream_summary(self, **_: str) -> Any:
        return {"StreamDescriptionSummary": {"StreamARN": "stream"}}

    def describe_stream_consumer(self, **_: str) -> Any:
        return {"ConsumerDescription": {"ConsumerARN": "consumer", "ConsumerStatus": "ACTIVE"}}


@pytest.mark.parametrize(
    ("status", "said", "counted"),
    [
        (400, {"__type": "AccessDeniedException", "message": "not authorized"}, {"denied": 1}),
        (400, {"__type": "InvalidSignatureException", "message": "Signature expired: 20261126T000000Z"}, {"clock": 1}),
        (503, {}, {"unavailable": 1}),
        # Another reader has it.
        (400, {"__type": "ResourceInUseException"}, {}),
    ],
)
async def test_a_subscription_that_aws_refuses_counts_as_what_it_is(
    status: int, said: dict[str, str], counted: dict[str, int]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response(said, status=status)

    metrics = Metrics()
    registered: Any = Registered()
    app = web.Application()
    app.router.add_post("/", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            access = FixedAccess(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            stream = KinesisStream(registered, session, access, "events", "app", failures(metrics))
            with pytest.raises(SubscriptionLost):
                async with stream.subscribe("shardId-000000000000", TRIM_HORIZON):
                    pass
    finally:
        await runner.cleanup()
    found = {kind: metrics.value(AWS_FAILURES, service="kinesis", kind=kind) for kind in KINDS}
    assert counted == {kind: count for kind, count in found.items() if count}
