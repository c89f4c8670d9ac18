"""The model under a real boto3 client, without a network: what unit tests of other parts stand on.

Rules
- The client is boto3's own, with its serializers and parsers; only the sending is replaced (`before-send`), so a test
  sees what the service's users see. Nothing is retried by the client: a test sees each answer.
- SubscribeToShard gives what is there now and then ends, as if its five minutes were over: there is no waiting in a
  world whose clock is a variable.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from . import eventstream
from .core import Clock
from .door import Door, Reply, dumps
from .faults import Faults
from .firehose import Firehose
from .limits import Limits
from .log import Log
from .model import Kinesis


class _Raw:
    """The body of an answer, shaped as urllib3's response."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return self._parts

    def read(self, *_: Any, **__: Any) -> bytes:
        return b"".join(self._parts)

    def close(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class World:
    """One account: both services and the faults on them, over one log."""

    kinesis: Kinesis
    firehose: Firehose
    faults: Faults
    door: Door

    @classmethod
    def of(
        cls,
        clock: Clock,
        random: random_module.Random,
        *,
        log: Log | None = None,
        rates: Limits | None = None,
        settle_ms: int = 0,
    ) -> World:
        kinesis = Kinesis(clock, random, log=log, rates=rates, settle_ms=settle_ms)
        firehose, faults = Firehose(kinesis), Faults(clock, random)
        return cls(kinesis, firehose, faults, Door(kinesis, firehose, faults))

    def client(self, service: str) -> Any:
        """A boto3 client of "kinesis" or "firehose" that speaks to this world."""
        make: Any = boto3.client
        made = make(
            service,
            region_name=self.kinesis.region,
            endpoint_url="http://in-process",
            aws_access_key_id="in",
            aws_secret_access_key="process",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made.meta.events.register(f"before-send.{service}", self._send)
        return made

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        target = request.headers["X-Amz-Target"]
        body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        reply = self.door.answer(target if isinstance(target, str) else target.decode(), body)
        self.kinesis.log.flush()
        if reply.lost:
            raise ConnectionClosedError(endpoint_url=request.url)
        kind = "application/vnd.amazon.eventstream" if reply.subscription else "application/x-amz-json-1.1"
        headers = HTTPHeaders.from_dict({"content-type": kind, "x-amzn-requestid": "in-process"})
        return AWSResponse(request.url, reply.status, headers, _Raw(_parts(reply)))


def _parts(reply: Reply) -> Iterator[bytes]:
    if reply.subscription is None:
        yield reply.body
        return
    yield eventstream.message("event", "initial-response", b"{}")
    while (event := reply.subscription.poll()) is not None:
        yield eventstream.message("event", "SubscribeToShardEvent", dumps(event))
    reply.subscription.over = True
