"""One attempt to write records to Kinesis: PutRecords by aiohttp and SigV4, no retry in here.

Rules (TRAPS 1). A 200 may hold failures: results map to records by index, and a record is `Written` by its own sequence number
only. An error code that is not known is a failure like any other. An answer with another number of results than there were
records says nothing about any of them. AWS's errors become types once, in `_translate`.
boto3 would cost several times as much per record: its serialiser and parser work value by value.
"""

import asyncio
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson

from pipeline.errors import DeadlineExceeded, Retryable, Throttled, Unavailable
from pipeline.event import Record
from pipeline.streams.aws import AccessSource
from pipeline.streams.aws_failures import AwsFailures
from pipeline.streams.retry import Clock
from pipeline.streams.sink import NotWritten, Outcome, Written
from telemetry.metrics import (
    KINESIS_SHARD_RECORDS,
    KINESIS_WRITE_BYTES,
    KINESIS_WRITE_ENTRY_FAILURES,
    KINESIS_WRITE_RECORDS,
    KINESIS_WRITE_SECONDS,
    Metrics,
)

# PutRecords takes 500 records and 5 MiB with their partition keys (10 MiB where large records are enabled).
CALL_RECORDS_MAX = 500
CALL_BYTES_MAX = 5 * 1024 * 1024
# An error's text goes to a log line; a proxy's HTML page should not.
_ERROR_TEXT_MAX = 300
# Shards that are counted apart; those beyond are one, "other". Resharding makes new ones, but not so many in a process's life.
SHARD_LABELS_MAX = 1000
# Every stream's first shard is called so.
_FIRST_SHARD = "shardId-000000000000"

_TARGET = "Kinesis_20131202.PutRecords"
_THROTTLING = frozenset(
    (
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "KMSThrottlingException",
        "ThrottlingException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    )
)
_CREDENTIALS = frozenset(
    ("ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException")
)


class PutRecords:
    """A Sink of single attempts. Opens its connections at the first write, so nothing has to be up before."""

    def __init__(self, stream: str, access: AccessSource, metrics: Metrics, *, clock: Clock, connections_max: int = 32) -> None:
        self.stream = stream
        self._access = access
        self._clock = clock
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None

        def count(outcome: str) -> Any:
            return metrics.counter(KINESIS_WRITE_RECORDS, stream=stream, outcome=outcome)

        self._metrics = metrics
        # By shard: the counters of bytes and of records.
        self._shards: dict[str, tuple[Any, Any]] = {}
        self._shard(_FIRST_SHARD)  # a stream that nobody writes to has a rate too: zero
        self._written, self._throttled, self._failed = count("written"), count("throttled"), count("failed")
        self._entry_failures = metrics.counter(KINESIS_WRITE_ENTRY_FAILURES, stream=stream)
        self._seconds = metrics.histogram(KINESIS_WRITE_SECONDS, stream=stream)
        self._failures = AwsFailures(metrics, ("kinesis",))

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        ends = self._clock() + deadline_seconds
        outcomes: list[Outcome] = []
        for chunk in chunks(records):
            outcomes += await self._call_or_say_why(chunk, ends - self._clock())
        return outcomes

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call_or_say_why(self, chunk: Sequence[Record], left_seconds: float) -> list[Outcome]:
        began = self._clock()
        try:
            if left_seconds <= 0:
                raise DeadlineExceeded("no time left for this call")
            outcomes = await self._call(chunk, left_seconds)
            refused = sum(isinstance(outcome, NotWritten) for outcome in outcomes)
            if refused:
                self._entry_failures.inc(refused)
        except Retryable as exc:
            throttled = isinstance(exc, Throttled)
            fate = NotWritten(str(exc), throttled=throttled, retry_after_seconds=exc.retry_after_seconds or 1.0)
            outcomes = [fate] * len(chunk)
        trace_id = next((record.trace_id for record in chunk if record.trace_id), "")
        self._seconds.observe(self._clock() - began, {"trace_id": trace_id} if trace_id else None)
        self._count(chunk, outcomes)
        return outcomes

    async def _call(self, chunk: Sequence[Record], left_seconds: float) -> list[Outcome]:
        try:
            async with asyncio.timeout(left_seconds):
                access = await self._access.access()
                body = request_body(self.stream, chunk)
                headers = access.signer.headers(body, _TARGET, access.credentials, datetime.now(UTC))
                async with self._opened().post(access.url, data=body, headers=headers) as response:
                    status, answer = response.status, await response.read()
        except TimeoutError as exc:
            raise DeadlineExceeded(f"Kinesis did not answer within {left_seconds:.1f} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Unavailable(f"Kinesis can't be reached: {type(exc).__name__}") from exc
        if status != 200:
            raise self._translate(status, answer)
        return outcomes_of(answer, len(chunk))

    def _translate(self, status: int, answer: bytes) -> Retryable:
        try:
            said = orjson.loads(answer)
            code = str(said["__type"]).rsplit("#", 1)[-1]
            text = str(said.get("message") or said.get("Message") or "")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            code, text = f"HTTP {status}", ""
        if code in _CREDENTIALS:
            self._access.forget()
        self._failures.note("kinesis", code, status, text)
        message = f"{code}: {text}"[:_ERROR_TEXT_MAX]
        return Throttled(message) if code in _THROTTLING or status == 429 else Unavailable(message)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections_max, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=2))
        return self._session

    def _count(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        written: dict[str, list[int]] = {}
        throttled = failed = 0
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Written):
                # As Kinesis counts against a shard's limit: the data and the partition key.
                size = len(record.data) + len(record.partition_key)
                written.setdefault(outcome.shard_id, []).append(size)
            elif outcome.throttled:
                throttled += 1
            else:
                failed += 1
        for shard, sizes in written.items():
            written_bytes, written_records = self._shards.get(shard) or self._shard(shard)
            written_bytes.inc(sum(sizes))
            written_records.inc(len(sizes))
        for counter, count in (
            (self._written, len(records) - throttled - failed),
            (self._throttled, throttled),
            (self._failed, failed),
        ):
            if count:
                counter.inc(count)

    def _shard(self, shard: str) -> tuple[Any, Any]:
        label = shard if len(self._shards) < SHARD_LABELS_MAX else "other"
        counters = (
            self._metrics.counter(KINESIS_WRITE_BYTES, stream=self.stream, shard=label),
            self._metrics.counter(KINESIS_SHARD_RECORDS, stream=self.stream, shard=label),
        )
        if label == shard:
            self._shards[shard] = counters
        return counters


def request_body(stream: str, records: Sequence[Record]) -> bytes:
    return orjson.dumps(
        {
            "StreamName": stream,
            "Records": [
                {
                    "Data": b64encode(record.data).decode("ascii"),
                    "PartitionKey": record.partition_key,
                    "ExplicitHashKey": record.explicit_hash_key,
                }
                for record in records
            ],
        }
    )


def outcomes_of(answer: bytes, count: int) -> list[Outcome]:
    """What a 200 says of each of `count` records.

    Raises:
        Unavailable: it can't be mapped to the records: nothing is known of any of them.
    """
    try:
        results = orjson.loads(answer)["Records"]
        if len(results) != count:
            raise Unavailable(f"{len(results)} results for {count} records")
        return [_outcome(result) for result in results]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise Unavailable("an answer that is not one of PutRecords") from exc


def _outcome(result: dict[str, Any]) -> Outcome:
    code = result.get("ErrorCode")
    sequence_number = result.get("SequenceNumber")
    if not code and sequence_number:
        return Written(str(result.get("ShardId", "")), str(sequence_number))
    code = str(code or "no sequence number")
    return NotWritten(code[:_ERROR_TEXT_MAX], throttled=code in _THROTTLING)


def chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Runs of records that fit one call each, in order."""
    start, size = 0, 0
    for index, record in enumerate(records):
        record_bytes = len(record.data) + len(record.partition_key)
        if index > start and (index - start == CALL_RECORDS_MAX or size + record_bytes > CALL_BYTES_MAX):
            yield records[start:index]
            start, size = index, 0
        size += record_bytes
    if start < len(records):
        yield records[start:]
