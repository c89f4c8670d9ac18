"""The JSON 1.1 protocol without a network: a target and a body in, a status and a body out.

Rules
- `X-Amz-Target` names service and operation; both services share one door.
- Base64 becomes bytes here and only here; so does the model's bytes become base64.
- A request must carry an Authorization header, as on AWS; its signature is not verified.
- Every AwsError becomes `{"__type", "message"}` with its status; anything else is a bug and is raised.
Source: AWS JSON 1.1 protocol (Smithy documentation).
"""

from __future__ import annotations

import binascii
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass
from typing import Any

import orjson

from .errors import AwsError, BadRequest
from .fanout import Subscription
from .faults import Faults
from .firehose import Firehose
from .model import Kinesis, unknown
from .state import Json

KINESIS_TARGET = "Kinesis_20131202"
FIREHOSE_TARGET = "Firehose_20150804"
BODY_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `subscription` is what goes on streaming behind it; `lost` means: break the connection instead."""

    status: int
    body: bytes
    delay_ms: int = 0
    lost: bool = False
    subscription: Subscription | None = None


def dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=_blob)


def _blob(value: Any) -> str:
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode()
    raise TypeError(f"{type(value)} is no part of an answer")


def failure(error: AwsError) -> Reply:
    return Reply(error.status, orjson.dumps({"__type": error.code, "message": error.message}))


class Door:
    """Both services behind one target header."""

    def __init__(self, kinesis: Kinesis, firehose: Firehose, faults: Faults) -> None:
        self.kinesis = kinesis
        self.firehose = firehose
        self.faults = faults

    def answer(self, target: str, body: bytes, *, signed: bool = True) -> Reply:
        try:
            if not signed:
                raise BadRequest("MissingAuthenticationTokenException", "Missing Authentication Token")
            service, _, operation = target.partition(".")
            request = _parse(body)
            stream = _stream_name(request)
            self.faults.before(operation, stream)
            reply = self._dispatch(service, operation, request, stream)
        except AwsError as error:
            return failure(error)
        if self.faults.any:
            lost, delay_ms = self.faults.reply_lost(operation, stream), self.faults.latency_ms(operation, stream)
            return Reply(reply.status, reply.body, delay_ms, lost, reply.subscription)
        return reply

    def _dispatch(self, service: str, operation: str, request: Json, stream: str | None) -> Reply:
        if service == KINESIS_TARGET:
            if operation == "SubscribeToShard":
                return Reply(200, b"", subscription=self.kinesis.subscribe(request))
            if operation == "PutRecords":
                return Reply(200, dumps(self._put_records(request, stream)))
            return Reply(200, dumps(self.kinesis.call(operation, request)))
        if service == FIREHOSE_TARGET:
            return Reply(200, dumps(self.firehose.call(operation, request)))
        raise unknown("kinesis", f"{service}.{operation}")

    def _put_records(self, request: Json, stream: str | None) -> Json:
        """PutRecords with the records that a fault has chosen taken out, and put back as failed."""
        records = request.get("Records")
        if not isinstance(records, list) or not self.faults.any:
            return self.kinesis.call("PutRecords", request)
        struck = {at: failed for at in range(len(records)) if (failed := self.faults.record(stream))}
        if not struck:
            return self.kinesis.call("PutRecords", request)
        spared = [record for at, record in enumerate(records) if at not in struck]
        answer: Json = {"FailedRecordCount": 0, "Records": []}
        if spared:
            answer = self.kinesis.call("PutRecords", {**request, "Records": spared})
        written = iter(answer["Records"])
        answer["Records"] = [struck[at] if at in struck else next(written) for at in range(len(records))]
        answer["FailedRecordCount"] += len(struck)
        return answer


def _parse(body: bytes) -> Json:
    try:
        request = orjson.loads(body or b"{}")
        if not isinstance(request, dict):
            raise BadRequest("SerializationException", "The request must be a JSON object.")
        holders = request.get("Records")
        if isinstance(holders, list):
            for holder in holders:
                holder["Data"] = a2b_base64(holder["Data"], strict_mode=True)
        elif isinstance(request.get("Record"), dict):
            request["Record"]["Data"] = a2b_base64(request["Record"]["Data"], strict_mode=True)
        elif "Data" in request:
            request["Data"] = a2b_base64(request["Data"], strict_mode=True)
    except (orjson.JSONDecodeError, binascii.Error, TypeError, KeyError, ValueError) as exc:
        raise BadRequest("SerializationException", f"The request cannot be read: {exc!r}"[:300]) from exc
    return request


def _stream_name(request: Json) -> str | None:
    named = request.get("StreamName") or request.get("DeliveryStreamName")
    if named:
        return str(named)
    arn = request.get("StreamARN") or request.get("ConsumerARN") or ""
    return str(arn).partition(":stream/")[2].partition("/")[0] or None
