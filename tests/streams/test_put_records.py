"""One attempt, against answers that AWS gives and answers that it should not."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Unavailable
from pipeline.event import Record
from pipeline.streams.aws import Access
from pipeline.streams.put_records import CALL_BYTES_MAX, CALL_RECORDS_MAX, PutRecords, chunks, outcomes_of
from pipeline.streams.sigv4 import Credentials, Signer
from pipeline.streams.sink import NotWritten, Written
from telemetry.metrics import AWS_FAILURES, KINESIS_WRITE_ENTRY_FAILURES, KINESIS_WRITE_RECORDS, Metrics

from .simulated import record

GOOD = {"SequenceNumber": "49", "ShardId": "shardId-000000000001"}
Handler = Callable[[web.Request], Awaitable[web.Response]]


def answer(*results: object) -> bytes:
    return orjson.dumps({"FailedRecordCount": 0, "Records": results})


def test_a_200_maps_results_to_records_by_index() -> None:
    """TRAPS 1."""
    failed = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"}
    internal = {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}
    assert [
        Written("shardId-000000000001", "49"),
        NotWritten("ProvisionedThroughputExceededException", throttled=True),
        Written("shardId-000000000001", "50"),
        NotWritten("InternalFailure"),
    ] == outcomes_of(answer(GOOD, failed, {**GOOD, "SequenceNumber": "50"}, internal), 4)


def test_an_unknown_error_code_is_a_failure() -> None:
    """TRAPS 1."""
    assert [NotWritten("NeverHeardOfIt")] == outcomes_of(answer({"ErrorCode": "NeverHeardOfIt"}), 1)


def test_a_record_without_its_own_sequence_number_is_not_written() -> None:
    """TRAPS 1: also where FailedRecordCount says that nothing failed."""
    assert [NotWritten("no sequence number")] * 2 == outcomes_of(answer({"ShardId": "s"}, {"SequenceNumber": ""}), 2)


def test_a_sequence_number_beside_an_error_code_is_not_an_acknowledgement() -> None:
    """TRAPS 1."""
    assert [NotWritten("InternalFailure")] == outcomes_of(answer({**GOOD, "ErrorCode": "InternalFailure"}), 1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"Records":null}', b'{"Records":[3]}', answer(), answer(GOOD, GOOD)]
)
def test_an_answer_that_does_not_fit_confirms_nothing(body: bytes) -> None:
    """TRAPS 1: a count mismatch fails all."""
    with pytest.raises(Unavailable):
        outcomes_of(body, 1)


@given(st.lists(st.tuples(st.integers(0, 1_100_000), st.integers(1, 256)), max_size=1200))
def test_chunks_keep_the_order_and_fit_a_call(sizes: list[tuple[int, int]]) -> None:
    blank = bytes(1_100_000)
    records = [
        Record(memoryview(blank)[:size].tobytes() if size < 64 else blank[:size], "k" * key, "0") for size, key in sizes[:40]
    ]
    records += [Record(b"", "k", str(index)) for index in range(len(sizes))]
    cut = [list(chunk) for chunk in chunks(records)]
    assert records == [one for chunk in cut for one in chunk]
    assert all(0 < len(chunk) <= CALL_RECORDS_MAX for chunk in cut)
    assert all(sum(len(one.data) + len(one.partition_key) for one in chunk) <= CALL_BYTES_MAX for chunk in cut)


@dataclass
class Scripted:
    """A Kinesis that answers as told."""

    url: str = ""
    handler: Handler | None = None
    bodies: list[dict[str, object]] = field(default_factory=list)
    forgotten: int = 0

    async def access(self) -> Access:
        return Access(self.url, Signer("kinesis", "us-east-1", "127.0.0.1"), Credentials("a", "b"))

    def forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
async def kinesis() -> AsyncIterator[Scripted]:
    scripted = Scripted()

    async def handle(request: web.Request) -> web.Response:
        scripted.bodies.append(orjson.loads(await request.read()))
        assert scripted.handler is not None
        return await scripted.handler(request)

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def put(kinesis: Scripted) -> AsyncIterator[PutRecords]:
    metrics = Metrics()
    sink = PutRecords("events", kinesis, metrics, clock=time.monotonic)
    sink_metrics[id(sink)] = metrics
    yield sink
    await sink.close()


sink_metrics: dict[int, Metrics] = {}


def says(status: int, body: object) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body if isinstance(body, bytes) else orjson.dumps(body))

    return handle


async def test_the_request_is_that_of_put_records(kinesis: Scripted, put: PutRecords) -> None:
    kinesis.handler = says(200, {"Records": [GOOD]})
    assert [Written("shardId-000000000001", "49")] == await put.write([record("hi")], deadline_seconds=5)
    assert [
        {"StreamName": "events", "Records": [{"Data": "aGk=", "PartitionKey": "t/0", "ExplicitHashKey": "0"}]}
    ] == kinesis.bodies
    assert sink_metrics[id(put)].value(KINESIS_WRITE_RECORDS, stream="events", outcome="written") == 1


@pytest.mark.parametrize(
    ("status", "body", "throttled"),
    [
        (400, {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded"}, True),
        (400, {"__type": "com.amazonaws.kinesis#LimitExceededException"}, True),
        (400, {"__type": "KMSThrottlingException"}, True),
        (429, b"slow down", True),
        (400, {"__type": "ResourceNotFoundException", "message": "Stream events not found"}, False),
        (400, {"__type": "NeverHeardOfIt"}, False),
        (500, {"__type": "InternalFailure"}, False),
        (503, b"<html>a proxy", False),
    ],
)
async def test_a_failed_call_confirms_nothing(
    kinesis: Scripted, put: PutRecords, status: int, body: object, throttled: bool
) -> None:
    """TRAPS 1, 4: every error is retryable; throttling is told apart from being down."""
    kinesis.handler = says(status, body)
    outcomes = await put.write([record("a"), record("b")], deadline_seconds=5)
    assert [(True, throttled)] * 2 == [(isinstance(of, NotWritten), getattr(of, "throttled", None)) for of in outcomes]


async def test_records_that_fail_alone_are_counted_apart_from_calls_that_fail(kinesis: Scripted, put: PutRecords) -> None:
    metrics, refused = sink_metrics[id(put)], {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}
    seen = []
    for handler in (
        says(200, {"Records": [GOOD, GOOD]}),
        says(200, {"Records": [GOOD, refused]}),
        says(503, {"__type": "InternalFailure"}),
    ):
        kinesis.handler = handler
        await put.write([record("a"), record("b")], deadline_seconds=5)
        seen.append(metrics.value(KINESIS_WRITE_ENTRY_FAILURES, stream="events"))
    assert [0, 1, 1] == seen
    assert 1 == metrics.value(AWS_FAILURES, service="kinesis", kind="unavailable")


async def test_a_denied_call_is_counted_as_such(kinesis: Scripted, put: PutRecords) -> None:
    kinesis.handler = says(400, {"__type": "AccessDeniedException", "message": "not authorized"})
    await put.write([record("a")], deadline_seconds=5)
    assert 1 == sink_metrics[id(put)].value(AWS_FAILURES, service="kinesis", kind="denied")


async def test_expired_credentials_are_resolved_anew(kinesis: Scripted, put: PutRecords) -> None:
    kinesis.handler = says(400, {"__type": "ExpiredTokenException"})
    await put.write([record("a")], deadline_seconds=5)
    assert 1 == kinesis.forgotten


async def test_a_call_without_answer_ends_by_its_deadline(kinesis: Scripted, put: PutRecords) -> None:
    """TRAPS 4: deadlines on a monotonic clock; the bound holds against a server that says nothing."""
    never = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    kinesis.handler = silent
    began = time.monotonic()
    outcomes = await put.write([record("a")], deadline_seconds=0.2)
    never.set()
    assert isinstance(outcomes[0], NotWritten)
    assert time.monotonic() - began < 2


async def test_nobody_listening_is_an_outcome_not_an_exception() -> None:
    """TRAPS 12."""
    sink = PutRecords("events", Scripted(url="http://127.0.0.1:1/"), Metrics(), clock=time.monotonic)
    outcomes = await sink.write([record("a")], deadline_seconds=2)
    await sink.close()
    assert [True] == [isinstance(outcome, NotWritten) for outcome in outcomes]
