"""A stream on Kinesis: enhanced fan-out over one HTTP connection per subscribed shard, everything else by boto3.

boto3 can only read a subscription by a thread that blocks in it; here `aiohttp` carries it and botocore takes its event stream
apart, so that it can be left at any moment. What goes wrong is translated here, once: `SubscriptionLost` for whatever concerns a
subscription, `Unavailable` for the rest.
Source: SubscribeToShard and its event stream, Kinesis Data Streams API Reference.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import orjson
from botocore.eventstream import EventStreamBuffer, ParserError
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.consumer.stream import TRIM_HORIZON, Delivery, Shard, ShardBusy, SubscriptionLost
from pipeline.errors import Unavailable
from pipeline.event import StoredRecord, micros
from pipeline.streams.aws import AccessSource
from pipeline.streams.aws_failures import AwsFailures

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

TARGET = "Kinesis_20131202.SubscribeToShard"
CONNECT_SECONDS_MAX = 5.0
# From the request to the answer's head; the events behind it have the reader's own deadline.
ANSWER_SECONDS_MAX = 10.0
READ_BYTES_MAX = 1 << 16
ACTIVE_POLL_SECONDS = 0.5
ACTIVE_POLLS_MAX = 60


class KinesisStream:
    """Reads stream `name` as consumer `consumer`, which is registered when it is first needed."""

    def __init__(
        self,
        client: "KinesisClient",
        session: aiohttp.ClientSession,
        access: AccessSource,
        name: str,
        consumer: str,
        failures: AwsFailures,
    ) -> None:
        self.name = name
        self._failures = failures
        self._client = client
        self._session = session
        self._access = access
        self._consumer = consumer
        self._consumer_arn: str | None = None
        self._registering = asyncio.Lock()

    async def shards(self) -> list[Shard]:
        return await asyncio.to_thread(self._shards)

    def _shards(self) -> list[Shard]:
        found: list[Shard] = []
        try:
            page = self._client.list_shards(StreamName=self.name)
            while True:
                for shard in page["Shards"]:
                    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                    found.append(Shard(shard["ShardId"], tuple(parent for parent in parents if parent)))
                if not page.get("NextToken"):
                    return found
                page = self._client.list_shards(NextToken=page["NextToken"])
        except (ClientError, BotoCoreError) as exc:
            raise Unavailable(f"{self.name}: the shards can't be listed: {_words(exc)}") from exc

    @asynccontextmanager
    async def subscribe(self, shard_id: str, position: str) -> AsyncIterator[AsyncIterator[Delivery]]:
        start: dict[str, Any] = {"Type": "TRIM_HORIZON"}
        if position != TRIM_HORIZON:
            start = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position}
        try:
            consumer_arn = await self._registered()
            body = orjson.dumps({"ConsumerARN": consumer_arn, "ShardId": shard_id, "StartingPosition": start})
            access = await self._access.access()
            headers = access.signer.headers(body, TARGET, access.credentials, datetime.now(UTC))
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = await self._session.post(
                    access.url, data=body, headers=headers, timeout=timeout, read_bufsize=READ_BYTES_MAX
                )
            async with answer:
                if answer.status != 200:
                    raise self._refusal(answer.status, await answer.read())
                yield self._pushed(answer, shard_id)
        except SubscriptionLost:
            raise
        except (aiohttp.ClientError, OSError, Unavailable) as exc:
            raise SubscriptionLost(f"{shard_id}: {type(exc).__name__}") from exc

    async def _pushed(self, answer: aiohttp.ClientResponse, shard_id: str) -> AsyncIterator[Delivery]:
        buffer = EventStreamBuffer()
        try:
            async for chunk in answer.content.iter_any():
                buffer.add_data(chunk)
                for message in buffer:
                    headers: dict[str, object] = cast(Any, message).headers
                    if headers.get(":message-type") != "event":
                        kind = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
                        raise _lost(str(kind), f"{shard_id}: {kind} in the subscription")
                    if headers.get(":event-type") == "SubscribeToShardEvent":
                        yield self._delivery(orjson.loads(message.payload), shard_id)
        except (aiohttp.ClientError, OSError, ParserError, orjson.JSONDecodeError) as exc:
            raise SubscriptionLost(f"{shard_id}: {type(exc).__name__}") from exc

    def _delivery(self, event: dict[str, Any], shard_id: str) -> Delivery:
        records = tuple(
            StoredRecord(
                self.name, shard_id, record["SequenceNumber"], base64.b64decode(record["Data"]),
                _arrival_micros(record["ApproximateArrivalTimestamp"]),
            )
            for record in event["Records"]
        )  # fmt: skip
        return Delivery(records, event.get("ContinuationSequenceNumber"), event["MillisBehindLatest"] / 1000)

    def _refusal(self, status: int, body: bytes) -> SubscriptionLost:
        try:
            said = orjson.loads(body)
            kind, text = str(said.get("__type", status)).rsplit("#", 1)[-1], str(said.get("message", ""))
        except orjson.JSONDecodeError:
            kind, text = str(status), ""
        self._failures.note("kinesis", kind, status, text)
        if kind == "ResourceNotFoundException":
            self._consumer_arn = None  # the consumer may have been deregistered: register again next time
        return _lost(kind, f"{self.name}: SubscribeToShard answered {kind}")

    async def _registered(self) -> str:
        async with self._registering:
            if self._consumer_arn is None:
                self._consumer_arn = await self._register()
            return self._consumer_arn

    async def _register(self) -> str:
        """The consumer's ARN, once it is active. Raises: SubscriptionLost."""
        for _ in range(ACTIVE_POLLS_MAX):
            arn, status = await asyncio.to_thread(self._describe)
            if status == "ACTIVE":
                return arn
            await asyncio.sleep(ACTIVE_POLL_SECONDS)
        raise SubscriptionLost(f"{self.name}: consumer {self._consumer} did not become active")

    def _describe(self) -> tuple[str, str]:
        try:
            stream_arn = self._client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamARN"]
            try:
                found = self._client.describe_stream_consumer(StreamARN=stream_arn, ConsumerName=self._consumer)
                consumer = found["ConsumerDescription"]
                return consumer["ConsumerARN"], consumer["ConsumerStatus"]
            except self._client.exceptions.ResourceNotFoundException:
                try:
                    made = self._client.register_stream_consumer(StreamARN=stream_arn, ConsumerName=self._consumer)["Consumer"]
                except self._client.exceptions.ResourceInUseException:  # another worker was faster
                    return "", "CREATING"
                return made["ConsumerARN"], made["ConsumerStatus"]
        except (ClientError, BotoCoreError) as exc:
            raise SubscriptionLost(f"{self.name}: consumer {self._consumer} can't be registered: {_words(exc)}") from exc


def _lost(kind: str, message: str) -> SubscriptionLost:
    return ShardBusy(message) if kind == "ResourceInUseException" else SubscriptionLost(message)


def _arrival_micros(value: float | str) -> int:
    """The service sends seconds since 1970 as a number."""
    return micros(datetime.fromisoformat(value)) if isinstance(value, str) else round(value * 1_000_000)


def _words(exc: BotoCoreError | ClientError) -> str:
    """The error's code, or its type: never the text, which may quote the request."""
    return str(exc.response["Error"]["Code"]) if isinstance(exc, ClientError) else type(exc).__name__
