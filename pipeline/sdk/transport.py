"""The port to a collector, over gRPC, and its in-memory twin.

One call is one request and one response, or an error of our tree: `Throttled` and `Unavailable` may be tried again,
`Refused` (the key), `InvalidRequest` (the request as a whole) and other `Permanent` errors may not. What gRPC raises is
translated here and nowhere else. `Unavailable` leaves open whether the request took effect.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from pipeline.errors import Permanent, Refused, SpillwayError, Throttled, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse

Metadata = tuple[tuple[str, str], ...]

PUBLISH_METHOD = "/spillway.v1.Collector/Publish"


class InvalidRequest(Permanent):
    """The collector refused the request as a whole as malformed."""


class Transport(Protocol):
    def publish(self, batch: bytes, metadata: Metadata, timeout_seconds: float) -> PublishResponse:
        """Send one encoded CloudEventBatch.

        Raises:
            Throttled, Unavailable: it may be tried again.
            Refused, InvalidRequest, Permanent: it may not.
        """
        ...

    def close(self) -> None:
        """End the calls under way (they raise Unavailable) and let go of the connection."""
        ...


_OPTIONS: tuple[tuple[str, int], ...] = (
    # Retries are ours alone: theirs would know no budget, and would break "at most once".
    ("grpc.enable_retries", 0),
    # By default a channel waits up to 2 minutes before it connects again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection that died in silence is noticed within 30 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Two publishers of one process get two connections, hence two of the collector's workers.
    ("grpc.use_local_subchannel_pool", 1),
)

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


class GrpcTransport:
    """A sync channel; it connects at the first call, and again when the connection breaks."""

    def __init__(self, target: str, *, tls: bool = False) -> None:
        # A proxy of the environment can't reach this machine's own ports.
        options = (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if target.startswith(_LOOPBACK) else _OPTIONS
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
            if tls
            else grpc.insecure_channel(target, options=options)
        )
        self._call = self._channel.unary_unary(
            PUBLISH_METHOD, request_serializer=None, response_deserializer=PublishResponse.FromString
        )

    def publish(self, batch: bytes, metadata: Metadata, timeout_seconds: float) -> PublishResponse:
        try:
            return cast(PublishResponse, self._call(batch, timeout=timeout_seconds, metadata=metadata))
        except grpc.RpcError as exc:
            raise translate(exc) from exc
        except ValueError as exc:  # "Cannot invoke RPC on closed channel!"
            raise Unavailable(str(exc)) from exc

    def close(self) -> None:
        self._channel.close()


_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_INVALID = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
_PERMANENT = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)


def translate(error: grpc.RpcError) -> SpillwayError:
    """gRPC's status as one of our errors. A status that is not known here may be tried again."""
    code, details = error.code(), str(error.details() or "no details")
    text = f"the collector answered {code.name}: {details}"
    if code in _REFUSED:
        return Refused(text)
    if code in _INVALID:
        return InvalidRequest(text)
    if code in _PERMANENT:
        return Permanent(text)
    hint = retry_info_seconds(cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ()))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Throttled(text, retry_after_seconds=hint)
    return Unavailable(text, retry_after_seconds=hint)


def retry_info_seconds(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """The RetryInfo of a google.rpc.Status in the trailing metadata, in seconds."""
    for key, value in metadata:
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            details = Status.FromString(value).details
        except DecodeError:
            return None
        for detail in details:
            info = RetryInfo()
            if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
                return float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9
    return None


Script = Callable[[Sequence[CloudEvent]], PublishResponse]


def accept_all(events: Sequence[CloudEvent]) -> PublishResponse:
    return PublishResponse(statuses=[EventStatus.EVENT_STATUS_ACCEPTED] * len(events))


@dataclass
class MemoryTransport:
    """Keeps what it was sent. `answer` decides each response; it may raise the errors of the port."""

    answer: Script = accept_all
    # Every event of every request, as it came: retries show as repeats.
    attempts: list[tuple[CloudEvent, ...]] = field(default_factory=list)
    # By id, what was acknowledged, in order.
    acknowledged: dict[str, CloudEvent] = field(default_factory=dict)
    metadata: list[Metadata] = field(default_factory=list)
    timeouts_seconds: list[float] = field(default_factory=list)
    closed: bool = False

    def publish(self, batch: bytes, metadata: Metadata, timeout_seconds: float) -> PublishResponse:
        events = tuple(CloudEventBatch.FromString(batch).events)
        self.attempts.append(events)
        self.metadata.append(metadata)
        self.timeouts_seconds.append(timeout_seconds)
        response = self.answer(events)
        if len(response.statuses) == len(events):
            for event, status in zip(events, response.statuses, strict=True):
                if status in (EventStatus.EVENT_STATUS_ACCEPTED, EventStatus.EVENT_STATUS_QUEUED):
                    self.acknowledged.setdefault(event.id, event)
        return response

    def close(self) -> None:
        self.closed = True
