"""Both doors as raw as a client can be, and good events from which bad ones are made."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1 import acquisition_pb2 as acquisition
from pipeline.gen.spillway.v1.collector_pb2 import PublishResponse
from tests.e2e.conftest import Pipeline

SOURCE = "/tests/bad-input"
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
PUBLISH = "/spillway.v1.Collector/Publish"
# No answer within this is a hung connection.
ANSWER_SECONDS_MAX = 20.0

# -- good events, from which bad ones are made


def _message(number: int) -> Message:
    rng = random.Random(number)
    match number % 4:
        case 0:
            return acquisition.LeadSubmitted(
                channel=acquisition.LEAD_CHANNEL_FORM,
                campaign=f"spring-{number}",
                interests=["loans", "cards"],
                message="call me",
            )
        case 1:
            return acquisition.ProfileChanged(city="Montréal", country="Canada", preferences={"colour": "blue", "mail": "weekly"})
        case 2:
            lines = [acquisition.OrderLine(sku=f"sku-{line}", quantity=line + 1, unit_price_minor=995) for line in range(3)]
            promised = Timestamp(seconds=1_795_000_000 + number)
            return acquisition.OrderPlaced(
                order_id=f"order-{number}", currency="EUR", total_minor=rng.getrandbits(40), lines=lines, promised_for=promised
            )
        case _:
            return acquisition.PageViewed(
                page_url=f"https://shop.example/page/{number}?tab=1", user_agent="x", dwell_millis=number
            )


def event_id(number: int) -> str:
    """Ids so far apart that no small damage turns one into another."""
    return f"bad-{random.Random(f'id {number}').getrandbits(64):016x}"


def json_event(number: int) -> dict[str, Any]:
    message = _message(number)
    return {
        "specversion": "1.0",
        "id": event_id(number),
        "source": SOURCE,
        "type": message.DESCRIPTOR.full_name,
        "time": "2026-03-04T05:06:07.123456Z",
        "subject": f"user-{number % 50}",
        "data": MessageToDict(message, preserving_proto_field_name=True),
    }


def protobuf_event(number: int) -> CloudEvent:
    message = _message(number)
    event = CloudEvent(
        id=event_id(number),
        source=SOURCE,
        spec_version="1.0",
        type=message.DESCRIPTOR.full_name,
        binary_data=message.SerializeToString(),
    )
    event.attributes["time"].ce_timestamp.FromDatetime(datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    event.attributes["subject"].ce_string = f"user-{number % 50}"
    event.attributes["datacontenttype"].ce_string = "application/protobuf"
    return event


# -- the two doors, as raw as a client can be


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.body["reason"])


async def post_in(
    session: aiohttp.ClientSession, url: str, key: str, content_type: str, body: bytes, **headers: str
) -> HttpAnswer:
    sent = {"authorization": f"Bearer {key}", "content-type": content_type, **headers}
    async with session.post(url, data=body, headers=sent) as response:
        return HttpAnswer(response.status, response.headers, await response.json(content_type=None))


def post(pipeline: Pipeline, content_type: str, body: bytes, key: str | None = None, **headers: str) -> HttpAnswer:
    async def once() -> HttpAnswer:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)) as session:
            chosen = pipeline.key if key is None else key
            return await post_in(session, f"{pipeline.doors.http}/v1/events", chosen, content_type, body, **headers)

    return asyncio.run(once())


class GrpcDoor:
    """`Publish` as bytes in, bytes out."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._channel = grpc.insecure_channel(pipeline.doors.grpc)
        self._call = self._channel.unary_unary(PUBLISH, None, None)
        self._key = pipeline.key

    def future(self, body: bytes, key: str | None = None) -> Any:
        metadata = (("authorization", f"Bearer {self._key if key is None else key}"),)
        return self._call.future(body, timeout=ANSWER_SECONDS_MAX, metadata=metadata, wait_for_ready=True)

    def publish(self, body: bytes, key: str | None = None) -> PublishResponse:
        return PublishResponse.FromString(self.future(body, key).result())

    def refusal(self, body: bytes, key: str | None = None) -> tuple[grpc.StatusCode, str, str]:
        """Code, reason and message of a request that must be refused as a whole."""
        with pytest.raises(grpc.RpcError) as caught:
            self.publish(body, key)
        return caught.value.code(), reason_of(caught.value), str(caught.value.details())

    def close(self) -> None:
        self._channel.close()


def reason_of(error: Any) -> str:
    """The reason word in the ErrorInfo of a refused call."""
    details = {name: value for name, value in error.trailing_metadata() or ()}["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason.lower())
    raise AssertionError("the refusal has no reason")


def framed(encoded: bytes) -> bytes:
    """As field 1 of a CloudEventBatch."""
    length, size = len(encoded), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return b"\x0a" + size + bytes([length]) + encoded
