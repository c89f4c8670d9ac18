"""Kinesis Data Streams as one object: `Kinesis(clock, random).call("PutRecords", {...})`.

Rules
- A call takes and returns the API's own dictionaries: blobs are bytes, timestamps are seconds since the epoch.
- What AWS does not know is UnknownOperationException; what AWS knows and this model does not is the same error with
  a message that says so. Nothing is answered with a made-up success.
- SubscribeToShard is no call: `subscribe` gives the live subscription.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from . import control, fanout, reading, reshard, shapes
from .core import Core
from .errors import BadRequest
from .fanout import Subscription, Subscriptions
from .state import Json

Operation = Callable[[Core, Json], Json]


class Kinesis(Core):
    """The model. Its constructor is Core's."""

    operations: dict[str, Operation] = {  # noqa: RUF012
        "PutRecords": Core.put_records,
        "PutRecord": Core.put_record,
        **control.OPERATIONS,
        **reshard.OPERATIONS,
        **reading.OPERATIONS,
        **fanout.OPERATIONS,
    }

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.subscriptions = Subscriptions(self)

    def call(self, operation: str, request: Json) -> Json:
        """Raises: AwsError."""
        work = self.operations.get(operation)
        if work is None:
            raise unknown("kinesis", operation)
        if operation != "PutRecords":
            request = seconds(request)
            shapes.check("kinesis", operation, request)
        if request.get("DryRun"):
            raise BadRequest("DryRunOperationException", "The request would have succeeded, but DryRun was set.")
        return work(self, request)

    def subscribe(self, request: Json) -> Subscription:
        """SubscribeToShard. Raises: AwsError."""
        request = seconds(request)
        shapes.check("kinesis", "SubscribeToShard", request)
        return self.subscriptions.subscribe(request)


def unknown(service: str, operation: str) -> BadRequest:
    """The error for an operation that is not here, honest about whose gap it is."""
    if shapes.known(service, operation):
        return BadRequest("UnknownOperationException", f"{operation} is an operation of AWS that is not modelled here.")
    return BadRequest("UnknownOperationException", f"{service} has no operation {operation!r}.")


def seconds(value: Any) -> Any:
    """The same request with datetimes, which in-process callers may use, as seconds since the epoch."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {key: seconds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [seconds(item) for item in value]
    return value
