"""Requests cut into their events without parsing the events.

So that one broken event does not make its neighbours unreadable (TRAPS 9), each event's size is known before anything is
parsed, and its bytes go on as they came. On the wire an embedded message is a `bytes` field, so the twins below, with `bytes`
where the public messages have CloudEvent, read the same requests.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from pipeline.doors.reasons import Reason
from pipeline.errors import InvalidEvent
from pipeline.raw import RawBatch

_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="spillway/doors/wire.proto", package="spillway.doors", syntax="proto3")
    stream = file.message_type.add(name="RawStreamRequest")
    stream.field.add(name="sequence", number=1, type=_Field.TYPE_UINT64, label=_Field.LABEL_OPTIONAL)
    stream.field.add(name="event", number=2, type=_Field.TYPE_BYTES, label=_Field.LABEL_OPTIONAL)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
_raw_stream_request = message_factory.GetMessageClass(_pool.FindMessageTypeByName("spillway.doors.RawStreamRequest"))


def split_batch(body: bytes, events_max: int) -> list[bytes]:
    """The encoded events of an encoded CloudEventBatch, in order.

    Raises:
        InvalidEvent: "malformed_request" (not a CloudEventBatch), "empty_batch" or "too_many_events", of the whole request.
    """
    try:
        batch = RawBatch.FromString(body)
    except DecodeError as exc:
        raise InvalidEvent(Reason.MALFORMED_REQUEST, "the request is not an io.cloudevents.v1.CloudEventBatch") from exc
    if len(UnknownFieldSet(batch)):
        raise InvalidEvent(Reason.MALFORMED_REQUEST, "the request has fields that io.cloudevents.v1.CloudEventBatch has not")
    check_count(len(batch.events), events_max)  # type: ignore[attr-defined]
    return list(batch.events)  # type: ignore[attr-defined]


def split_stream_request(body: bytes) -> tuple[int, bytes]:
    """The sequence and the encoded event of an encoded PublishStreamRequest.

    Raises:
        InvalidEvent: "malformed_request", of the whole call.
    """
    try:
        request = _raw_stream_request.FromString(body)
    except DecodeError as exc:
        raise InvalidEvent(Reason.MALFORMED_REQUEST, "this is not a spillway.v1.PublishStreamRequest") from exc
    return request.sequence, request.event  # type: ignore[attr-defined]


def check_count(events: int, events_max: int) -> None:
    if not events:
        raise InvalidEvent(Reason.EMPTY_BATCH, "the request holds no event")
    if events > events_max:
        raise InvalidEvent(Reason.TOO_MANY_EVENTS, f"{events} events in one request, at most {events_max}: send more requests")
