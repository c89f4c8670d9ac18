"""What AWS refuses is counted by kind, and its clock is compared with ours: a real boto3 client, only its sending is replaced."""

import json
from email.utils import formatdate
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from pipeline.streams.aws_failures import KINDS, AwsFailures, kind_of
from telemetry.metrics import AWS_CLOCK_SKEW_SECONDS, AWS_FAILURES, Metrics

NOON = 1_764_072_000.0


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [self._body]


class World:
    """A DynamoDB that answers as told, and our clock. `answer` None: the connection breaks; its date None: it has none."""

    def __init__(self) -> None:
        self.metrics, self.now = Metrics(), NOON
        self.answer: tuple[int, dict[str, Any], float | None] | None = (200, {}, NOON)
        failures = AwsFailures(self.metrics, ("dynamodb",), lambda: self.now)
        client: Any = boto3.client(
            "dynamodb",
            region_name="us-east-1",
            endpoint_url="http://nowhere",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("before-send.dynamodb", self._send)
        self.client = failures.watched(client)

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        if self.answer is None:
            raise ConnectionClosedError(endpoint_url=request.url)
        status, body, date = self.answer
        headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.0"})
        if date is not None:
            headers["Date"] = formatdate(date, usegmt=True)
        return AWSResponse(request.url, status, headers, _Raw(json.dumps(body).encode()))

    def ask(self) -> None:
        try:
            self.client.describe_table(TableName="t")
        except (ClientError, BotoCoreError):
            return

    def counts(self) -> dict[str, float]:
        found = {kind: self.metrics.value(AWS_FAILURES, service="dynamodb", kind=kind) for kind in KINDS}
        return {kind: count for kind, count in found.items() if count}


def said(code: str, message: str = "") -> dict[str, Any]:
    return {"__type": f"com.amazonaws#{code}", "message": message}


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ((200, {"Table": {}}, NOON), {}),
        ((400, said("AccessDeniedException"), NOON), {"denied": 1}),
        ((400, said("ExpiredTokenException"), NOON), {"denied": 1}),
        ((400, said("ProvisionedThroughputExceededException"), NOON), {"throttled": 1}),
        ((500, said("InternalServerError"), NOON), {"unavailable": 1}),
        ((400, said("InvalidSignatureException", "Signature expired: 20261126T000000Z is now earlier"), NOON), {"clock": 1}),
        (None, {"unavailable": 1}),
        # What the adapters live with: no such table, a condition that did not hold.
        ((400, said("ResourceNotFoundException"), NOON), {}),
        ((400, said("ConditionalCheckFailedException"), NOON), {}),
    ],
)
def test_an_answer_counts_as_what_it_is(answer: tuple[int, dict[str, Any], float] | None, counted: dict[str, float]) -> None:
    world = World()
    world.answer = answer
    world.ask()
    assert counted == world.counts()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("AccessDenied", 403, "denied"), ("", 403, "denied"), ("DisabledException", 400, "denied"), ("SlowDown", 503, "throttled"),
     ("RequestTimeTooSkewed", 403, "clock"), ("NoSuchKey", 404, None), ("PreconditionFailed", 412, None)],
)  # fmt: skip
def test_the_words_of_s3_and_kms_are_known(code: str, status: int, kind: str | None) -> None:
    assert kind == kind_of(code, status)


def test_everything_is_there_from_the_start_as_zero() -> None:
    shown = World().metrics.exposition().decode()
    assert [] == [kind for kind in KINDS if f'{AWS_FAILURES.name}{{kind="{kind}",service="dynamodb"}} 0.0' not in shown]


def test_our_clock_is_compared_with_each_answers_date() -> None:
    world = World()
    world.ask()
    fast = []
    for ahead in (300.0, -300.0):
        world.now = NOON + ahead
        world.ask()
        fast.append(world.metrics.value(AWS_CLOCK_SKEW_SECONDS))
    assert [299.5, -300.5] == fast


@pytest.mark.parametrize("answer", [(400, said("AccessDeniedException"), None), None], ids=["without a date", "none at all"])
def test_an_answer_without_a_date_counts_and_says_nothing_of_the_clock(answer: tuple[int, dict[str, Any], None] | None) -> None:
    world = World()
    world.now = NOON + 300
    world.answer = answer
    world.ask()
    assert (0.0, 1) == (world.metrics.value(AWS_CLOCK_SKEW_SECONDS), sum(world.counts().values()))


def test_a_client_of_another_service_is_refused_at_once() -> None:
    with pytest.raises(KeyError, match="dynamodb"):
        AwsFailures(Metrics(), ("s3",)).watched(World().client)
