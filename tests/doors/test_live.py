"""Real processes, a real emulator, real signals: nothing acknowledged is lost."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import grpc
import orjson
import pytest
from grpc import aio

from pipeline.doors.keys import revoke_key
from pipeline.doors.reasons import Status
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEventBatch
from pipeline.gen.spillway.v1.collector_pb2_grpc import CollectorStub

from .processes import Running, wait_for
from .test_http_door import json_event
from .world import event

pytestmark = pytest.mark.stack

Publish = Callable[[list[str]], Awaitable[dict[str, int]]]
Opener = Callable[..., Running]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Opener]:
    running: list[Running] = []

    def start(name: str, *, stream: bool = True, options: tuple[str, ...] = ("--limits", "off"), **settings: str) -> Running:
        running.append(Running(name, tmp_path, settings, options))
        if stream:
            running[-1].start_stream()
        running[-1].start_door()
        return running[-1]

    yield start
    for one in running:
        one.stop()


class Grpc:
    """A client that says of each id which status it got; nothing for ids whose answer never came."""

    def __init__(self, door: Running) -> None:
        self._channel = aio.insecure_channel(f"127.0.0.1:{door.port}")
        self._stub = CollectorStub(self._channel)
        self._metadata = tuple(door.headers.items())

    async def publish(self, ids: list[str]) -> dict[str, int]:
        now = int(time.time() * 1e6)
        events = [event(id, subject=id) for id in ids]
        for one in events:
            one.attributes["time"].ce_timestamp.FromMicroseconds(now)
        try:
            answer = await self._stub.Publish(CloudEventBatch(events=events), metadata=self._metadata, timeout=15)
        except aio.AioRpcError as exc:
            if exc.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAUTHENTICATED):
                raise
            return {}
        return dict(zip(ids, answer.statuses, strict=True))

    async def close(self) -> None:
        await self._channel.close(None)


class Http:
    def __init__(self, door: Running) -> None:
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{door.port}")
        self._headers = {**door.headers, "content-type": "application/cloudevents-batch+json"}

    async def publish(self, ids: list[str]) -> dict[str, int]:
        body = orjson.dumps([json_event(id, subject=id) for id in ids])
        try:
            async with self._session.post("/v1/events", data=body, headers=self._headers) as response:
                if response.status == 401:
                    return {}
                assert response.status in (207, 429, 503)
                answer = await response.json(content_type=None)
        except aiohttp.ClientError:
            return {}
        if "events" not in answer:
            return {}
        return {id: Status[one["status"].upper()] for id, one in zip(ids, answer["events"], strict=True)}

    async def close(self) -> None:
        await self._session.close()


CLIENTS: dict[str, type[Grpc] | type[Http]] = {"grpc": Grpc, "http": Http}


async def load(publish: Publish, seconds: float, acknowledged: set[str], *, clients: int = 8, batch: int = 20) -> None:
    """Closed loops that send new ids until the time is over; ids with ACCEPTED are noted as the answers come."""
    numbers = itertools.count()
    ends = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < ends:
            answers = await publish([str(next(numbers)) for _ in range(batch)])
            acknowledged.update(id for id, status in answers.items() if status == Status.ACCEPTED)
            if not answers:
                await asyncio.sleep(0.02)

    await asyncio.gather(*(one() for _ in range(clients)))


@pytest.mark.parametrize("name", ["grpc", "http"])
async def test_sigterm_with_requests_in_flight_loses_nothing_acknowledged_and_exits_0(run: Opener, name: str) -> None:
    """TRAPS 11."""
    door = run(name, SPILLWAY_DOOR_DRAIN_WAIT_SECONDS="1.5")
    door.fault(kind="latency", latency_ms=150, operation="PutRecords")
    client, acknowledged = CLIENTS[name](door), set[str]()
    loading = asyncio.create_task(load(client.publish, 3.0, acknowledged))
    await asyncio.sleep(1.0)
    before = len(acknowledged)
    ended = asyncio.create_task(asyncio.to_thread(door.signal, signal.SIGTERM))
    await asyncio.sleep(0.3)
    assert 503 == door.ready()  # first not ready, while new connections are still taken
    late = CLIENTS[name](door)
    assert {"late": Status.ACCEPTED} == await late.publish(["late"])
    await late.close()
    assert 0 == await ended
    await loading
    await client.close()
    assert before > 0
    assert set() == {"late", *acknowledged} - set(door.stored())
    assert '"drained"' in door.log.read_text()
    assert '"events_given_up": 0' in door.log.read_text()


@pytest.mark.parametrize("name", ["grpc", "http"])
async def test_sigkill_under_load_loses_nothing_acknowledged(run: Opener, name: str) -> None:
    """TRAPS 5."""
    door = run(name)
    client, acknowledged = CLIENTS[name](door), set[str]()
    loading = asyncio.create_task(load(client.publish, 1.5, acknowledged))
    await asyncio.sleep(0.8)
    await asyncio.to_thread(door.signal, signal.SIGKILL)
    await loading
    await client.close()
    assert len(acknowledged) > 0
    assert set() == acknowledged - set(door.stored())


@pytest.mark.parametrize("name", ["grpc", "http"])
@pytest.mark.slow
async def test_a_stream_that_fails_in_every_way_loses_nothing_acknowledged(run: Opener, name: str) -> None:
    """TRAPS 1, 3, 4: partial failures, throttling, HTTP 500, and answers that never come, all at once."""
    door = run(name, SPILLWAY_DOOR_ATTEMPT_SECONDS="1")
    for kind, ratio in (("partial", 0.2), ("throttle", 0.2), ("error", 0.1), ("reply_lost", 0.1)):
        door.fault(kind=kind, ratio=ratio, operation="PutRecords")
    client, acknowledged = CLIENTS[name](door), set[str]()
    await load(client.publish, 2.0, acknowledged)
    assert 200 == door.ready()  # trouble at the stream is not trouble of this process
    door.heal()
    await load(client.publish, 0.3, acknowledged)
    await client.close()
    stored = door.stored()
    assert len(acknowledged) > 0
    assert set() == acknowledged - set(stored)
    assert max(stored.values()) > 1, "reply_lost made no duplicate: the fault was not there"


@pytest.mark.parametrize("name", ["grpc", "http"])
async def test_it_starts_with_nothing_up_and_heals_when_the_stream_comes(run: Opener, name: str) -> None:
    """TRAPS 12."""
    door = run(name, stream=False, SPILLWAY_DOOR_WRITE_SECONDS="0.3")
    client = CLIENTS[name](door)
    assert Status.ACCEPTED not in (await client.publish(["early"])).values()
    assert 200 == door.ready()
    await asyncio.to_thread(door.start_stream)
    assert {"later": Status.ACCEPTED} == await client.publish(["later"])
    await client.close()
    assert "later" in door.stored()


async def test_a_key_is_revoked_without_a_restart(run: Opener) -> None:
    door = run("grpc")
    client = Grpc(door)
    assert {"a": Status.ACCEPTED} == await client.publish(["a"])
    revoke_key(door.keys_file, door.key.split("_")[1], datetime.now(UTC))
    await asyncio.sleep(1.1)
    assert {} == await client.publish(["b"])
    await client.close()
    assert ["a"] == list(door.stored())


@pytest.mark.slow
async def test_aws_limits_throttle_a_flood_and_what_is_acknowledged_is_stored(run: Opener) -> None:
    """TRAPS 4: one shard takes 1 MB/s; readiness holds."""
    door = run("grpc", options=(), SPILLWAY_DOOR_WRITE_SECONDS="2")
    client, acknowledged = Grpc(door), set[str]()
    await load(client.publish, 2.5, acknowledged, clients=6, batch=500)
    await client.close()
    assert 200 == door.ready()
    assert len(acknowledged) > 0
    assert set() == acknowledged - set(door.stored())


@pytest.mark.slow
async def test_workers_share_the_port_a_dead_one_is_replaced_and_sigterm_ends_all(run: Opener) -> None:
    door = run("http", SPILLWAY_HTTP_WORKERS="2")
    client = Http(door)
    assert {"a": Status.ACCEPTED} == await client.publish(["a"])
    await client.close()
    wait_for(lambda: door.log.read_text().count('"serving"') == 2, "there are not two workers")
    children = door.workers()
    assert 2 == len(children)
    os.kill(children[0], signal.SIGKILL)
    wait_for(lambda: door.log.read_text().count('"serving"') == 3, "the dead worker was not replaced")
    client = Http(door)
    assert {"b": Status.ACCEPTED} == await client.publish(["b"])
    await client.close()
    assert 0 == await asyncio.to_thread(door.signal, signal.SIGTERM)
    assert 2 == door.log.read_text().count('"drained"')
