"""The HTTP door over a real connection, the stream in memory; its OpenAPI document against its real answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from multidict import CIMultiDictProxy

from pipeline.doors.accept import Limits
from pipeline.doors.http_door import BATCHED, STRUCTURED, HttpDoor
from pipeline.doors.openapi import document
from pipeline.doors.settings import HttpSettings
from pipeline.event import slice_of
from pipeline.streams.sink import NotWritten

from .world import PAGE, SLICES, GatedSink, World, stored, stored_ids, until, world

DOCUMENT = document(Limits())


def json_event(id: str = "1", **changes: object) -> dict[str, object]:
    made = {
        "specversion": "1.0",
        "id": id,
        "source": "/test",
        "type": PAGE,
        "time": "2026-01-01T00:00:00Z",
        "data": {"pageUrl": "x"},
    }
    return {**made, **changes}


@dataclass
class Said:
    status: int
    headers: CIMultiDictProxy[str]
    body: Any


@dataclass
class Open:
    there: World
    sink: GatedSink
    door: HttpDoor
    session: aiohttp.ClientSession

    async def post(self, body: object, content_type: str = STRUCTURED, **headers: str) -> Said:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {**self.there.bearer, "content-type": content_type, **{n.replace("_", "-"): v for n, v in headers.items()}}
        async with self.session.post("/v1/events", data=raw, headers=sent) as response:
            said = Said(response.status, response.headers, await response.json(content_type=None))
        conforms(said)
        return said


def conforms(said: Said) -> None:
    """The answer is one that the OpenAPI document describes."""
    described = DOCUMENT["paths"]["/v1/events"]["post"]["responses"][str(said.status)]
    media = said.headers["content-type"]
    assert media in described["content"], f"{said.status} with {media}"
    fits(said.body, described["content"][media]["schema"], "$")
    for name in described.get("headers", {}):
        assert name in said.headers, f"{said.status} without {name}"


def fits(value: Any, schema: dict[str, Any], at: str) -> None:
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), f"{at} is no {schema['type']}"
    if "enum" in schema:
        assert value in schema["enum"], f"{at} = {value}"
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), f"{at} lacks a member"
        for name, item in value.items():
            assert name in schema["properties"], f"{at}.{name} is not described"
            fits(item, schema["properties"][name], f"{at}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            fits(item, schema["items"], f"{at}[{index}]")


Opener = Callable[..., "asyncio.Future[Open]"]


@pytest.fixture
async def open_door(tmp_path: Path) -> AsyncIterator[Opener]:
    opened: list[Open] = []

    async def start(*, gate: bool = True, in_flight_bytes: int = 10_000_000, refuse: str = "", **settings: Any) -> Open:
        refusal = NotWritten("ProvisionedThroughputExceededException", throttled=True)
        sink = GatedSink(refuse={f"acme/{slice_of(refuse, SLICES)}": refusal} if refuse else {})
        if gate:
            sink.gate.set()
        there = world(tmp_path, sink, door="http", in_flight_bytes=in_flight_bytes, write_seconds=0.2 if refuse else 5)
        door = HttpDoor(there.collector, HttpSettings(port=0, **settings))
        await door.start()
        opened.append(Open(there, sink, door, aiohttp.ClientSession(f"http://127.0.0.1:{door.port}")))
        return opened[-1]

    yield start  # type: ignore[misc]
    for one in opened:
        one.sink.gate.set()
        await one.session.close()
        await one.door.stop_accepting(2)
        await one.there.commit.drain(1)


async def test_structured_mode_is_stored_as_json_with_tenant_and_door(open_door: Opener) -> None:
    door = await open_door()
    said = await door.post(json_event("a", subject="u1"))
    assert (200, {"id": "a", "status": "accepted"}) == (said.status, said.body)
    [batch] = stored(door.sink.records)
    assert ("acme", "http", '{"pageUrl":"x"}') == (batch.tenant, batch.door, batch.events[0].text_data)
    assert "application/json" == batch.events[0].attributes["datacontenttype"].ce_string


async def test_binary_mode_takes_headers_and_body(open_door: Opener) -> None:
    door = await open_door()
    said = await door.post(
        b'{ "pageUrl": "x" }',
        "application/json; charset=utf-8",
        ce_id="b%20%C3%A9",
        ce_source="/s",
        ce_specversion="1.0",
        ce_type=PAGE,
        ce_time="2026-01-01T00:00:00Z",
        ce_traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert (200, "b é") == (said.status, said.body["id"])
    [made] = stored(door.sink.records)[0].events
    assert ('{ "pageUrl": "x" }', True) == (made.text_data, "traceparent" in made.attributes)


async def test_a_batch_is_answered_event_by_event(open_door: Opener) -> None:
    """TRAPS 9."""
    door = await open_door()
    large = json_event("large", data={"pageUrl": "x" * 2_000_000})
    said = await door.post([json_event("a"), json_event("odd", type="no.such.Type"), large, 5, json_event("b")], BATCHED)
    assert 207 == said.status
    assert [
        ("a", "accepted", None),
        ("odd", "rejected", "unknown_type"),
        ("large", "rejected", "event_too_large"),
        ("", "rejected", "malformed_request"),
        ("b", "accepted", None),
    ] == [(one["id"], one["status"], one.get("reason")) for one in said.body["events"]]
    assert {"accepted": 2, "queued": 0, "rejected": 3, "retry": 0} == {k: v for k, v in said.body.items() if k != "events"}
    assert ["a", "b"] == stored_ids(door.sink.records)


BAD: list[tuple[int, str, object, str, dict[str, str]]] = [
    (400, "bad_json", b"{broken", STRUCTURED, {}),
    (400, "bad_json", b"[{]", BATCHED, {}),
    (400, "malformed_request", b"{}", BATCHED, {}),
    (400, "empty_batch", b"[]", BATCHED, {}),
    (400, "too_many_events", [json_event()] * 501, BATCHED, {}),
    (400, "missing_attribute", json_event(""), STRUCTURED, {}),
    (400, "unknown_type", json_event(type="no.such.Type"), STRUCTURED, {}),
    (400, "spec_version", json_event(specversion="0.2"), STRUCTURED, {}),
    (400, "bad_time", json_event(time="2026-01-01T00:00:00"), STRUCTURED, {}),
    (400, "time_ahead", json_event(time="2126-01-01T00:00:00Z"), STRUCTURED, {}),
    (400, "bad_metadata", json_event(), STRUCTURED, {"spillway_delivery": "perhaps"}),
    (401, "unauthenticated", json_event(), STRUCTURED, {"authorization": "Bearer spw_a_b"}),
    (401, "unauthenticated", json_event(), STRUCTURED, {"authorization": ""}),
    (403, "forbidden", json_event(), STRUCTURED, {"spillway_tenant": "other"}),
    (413, "event_too_large", json_event(data={"pageUrl": "x" * 2_000_000}), STRUCTURED, {}),
    (413, "request_too_large", b"x" * 5_000_000, BATCHED, {}),
    (415, "content_type", json_event(), "application/json", {}),
    (415, "content_type", b"<a/>", "text/xml", {"ce_id": "1"}),
    (415, "content_type", json_event(), STRUCTURED, {"content_encoding": "gzip"}),
    (415, "data_content_type", json_event(datacontenttype="text/plain"), STRUCTURED, {}),
]


@pytest.mark.parametrize(
    ("status", "reason", "body", "media", "headers"), BAD, ids=[f"{b[0]}-{b[1]}-{i}" for i, b in enumerate(BAD)]
)
async def test_bad_input_has_its_status_and_reason(
    open_door: Opener, status: int, reason: str, body: object, media: str, headers: dict[str, str]
) -> None:
    door = await open_door()
    said = await door.post(body, media, **headers)
    assert (status, reason) == (said.status, said.body["reason"])
    assert [] == door.sink.records
    assert 0 == door.there.in_flight.bytes


async def test_a_method_or_path_that_is_not_there_says_what_is(open_door: Opener) -> None:
    door = await open_door()
    for method, path, status in (("GET", "/v1/events", 405), ("GET", "/nothing", 404), ("POST", "/openapi.json", 405)):
        async with door.session.request(method, path) as response:
            assert (status, status) == (response.status, (await response.json(content_type=None))["status"])


async def test_a_throttled_stream_is_429_with_retry_after_and_readiness_holds(open_door: Opener) -> None:
    """TRAPS 4."""
    door = await open_door(refuse="hot")
    said = await door.post(json_event(subject="hot"))
    assert (429, "throttled", "1") == (said.status, said.body["reason"], said.headers["retry-after"])
    said = await door.post([json_event(subject="hot")] * 2, BATCHED)
    assert (429, 2) == (said.status, said.body["retry"])
    said = await door.post([json_event("h", subject="hot"), json_event("c", subject="cold")], BATCHED)
    assert (207, "1", ["retry", "accepted"]) == (
        said.status,
        said.headers["retry-after"],
        [one["status"] for one in said.body["events"]],
    )
    async with door.session.get("/readyz") as response:
        assert 200 == response.status


async def test_past_the_bytes_in_flight_it_is_429(open_door: Opener) -> None:
    door = await open_door(gate=False, in_flight_bytes=250)
    first = asyncio.create_task(door.post(json_event("a")))
    await until(lambda: door.there.in_flight.bytes > 0)
    said = await door.post(json_event("b"))
    assert (429, "overloaded", "1") == (said.status, said.body["reason"], said.headers["retry-after"])
    door.sink.gate.set()
    assert 200 == (await first).status


async def test_fire_and_forget_is_202(open_door: Opener) -> None:
    door = await open_door()
    said = await door.post(json_event("a"), spillway_delivery="fire-and-forget")
    assert (202, "queued") == (said.status, said.body["status"])
    await door.there.commit.drain(2)
    assert ["a"] == stored_ids(door.sink.records)


async def test_a_body_that_does_not_arrive_is_408_and_gives_its_room_back(open_door: Opener) -> None:
    door = await open_door(body_seconds=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.door.port)
    head = f"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: {door.there.bearer['authorization']}\r\n"
    writer.write(f"{head}content-type: {STRUCTURED}\r\ncontent-length: 100\r\n\r\n{{".encode())
    line = await asyncio.wait_for(reader.readline(), 5)
    assert b"HTTP/1.1 408 Request Timeout\r\n" == line
    assert 0 == door.there.in_flight.bytes
    writer.close()


async def test_a_body_of_unknown_length_is_read_up_to_the_limit(open_door: Opener) -> None:
    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 100_000

    door = await open_door()
    headers = {**door.there.bearer, "content-type": STRUCTURED}
    async with door.session.post("/v1/events", data=parts(2), headers=headers) as response:
        assert 400 == response.status
    async with door.session.post("/v1/events", data=parts(50), headers=headers) as response:
        assert 413 == response.status
    assert 0 == door.there.in_flight.bytes


async def test_pages_of_named_origins_may_post(open_door: Opener) -> None:
    door = await open_door(cors_origins=("https://shop.example",))
    asked = {"origin": "https://shop.example", "access-control-request-headers": "authorization,content-type"}
    async with door.session.options("/v1/events", headers=asked) as response:
        assert (204, "https://shop.example", "authorization,content-type") == (
            response.status,
            response.headers["access-control-allow-origin"],
            response.headers["access-control-allow-headers"],
        )
    said = await door.post(json_event(), origin="https://shop.example")
    assert "https://shop.example" == said.headers["access-control-allow-origin"]
    said = await door.post(json_event(), origin="https://elsewhere.example")
    assert "access-control-allow-origin" not in said.headers


async def test_while_stopping_answers_say_connection_close(open_door: Opener) -> None:
    """TRAPS 11."""
    door = await open_door(gate=False)
    inside = asyncio.create_task(door.post(json_event("a")))
    await until(lambda: door.there.in_flight.bytes > 0)
    await door.door.fail_readiness()
    async with door.session.get("/readyz") as response:
        assert 503 == response.status
    stop = asyncio.create_task(door.door.stop_accepting(5))
    await asyncio.sleep(0.05)
    door.sink.gate.set()
    said = await inside
    assert (200, "close") == (said.status, said.headers["connection"])
    await asyncio.wait_for(stop, 5)
    assert ["a"] == stored_ids(door.sink.records)


async def test_the_document_is_served_and_its_references_hold(open_door: Opener) -> None:
    door = await open_door()
    async with door.session.get("/openapi.json") as response:
        assert DOCUMENT == await response.json()
    text = orjson.dumps(DOCUMENT).decode()
    for name in DOCUMENT["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text
