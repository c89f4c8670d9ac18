"""Batches cut into their events without parsing the events.

On the wire an embedded message is a `bytes` field, so a twin with `bytes` where the public messages have CloudEvent reads the
same bytes. `io.cloudevents.v1.CloudEventBatch` and `spillway.v1.StoredBatch` both hold their events in field 1.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.errors import Corrupt

_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="spillway/raw.proto", package="spillway.raw", syntax="proto3")
    batch = file.message_type.add(name="RawBatch")
    batch.field.add(name="events", number=1, type=_Field.TYPE_BYTES, label=_Field.LABEL_REPEATED)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
RawBatch = message_factory.GetMessageClass(_pool.FindMessageTypeByName("spillway.raw.RawBatch"))


def raw_events(payload: bytes) -> list[bytes]:
    """The encoded events of an encoded batch, in order. Raises: Corrupt: it is none."""
    try:
        return list(RawBatch.FromString(payload).events)  # type: ignore[attr-defined]
    except DecodeError as exc:
        raise Corrupt("the frame is whole but holds no batch") from exc
