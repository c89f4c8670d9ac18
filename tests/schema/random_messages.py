"""Hypothesis strategies for any message type: values that often break rules and often keep them."""

import re
import sys

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

_INTS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
_TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "A", "ab", "abc", "ABC", "ABC\n", "é", "日本", "2013-01", "2013-01\n", "2013-01-01", "b.c", "b.x", "\n", "USD",
         "ann@example.com", "a@b", "550e8400-e29b-41d4-a716-446655440000", "550e8400e29b41d4a716446655440000", "https://x.com/"]
    ),
    st.text(max_size=4),
    st.from_regex(re.compile(r"[A-Z]{2,4}"), fullmatch=True),
)  # fmt: skip


def messages(message_class: type[Message], depth: int = 3) -> st.SearchStrategy[Message]:
    """Any message of this type; at most `depth` messages deep."""
    return st.composite(lambda draw: _drawn(draw, message_class, depth))()


def _drawn(draw: st.DrawFn, message_class: type[Message], depth: int) -> Message:
    message = message_class()
    if message_class.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        return message_class(seconds=draw(st.integers(-62135596800, 253402300799) | st.integers(0, 3)), nanos=draw(_nanos()))
    if message_class.DESCRIPTOR.full_name == "google.protobuf.Duration":
        sign = draw(st.sampled_from((1, 1, -1)))
        return message_class(seconds=sign * draw(st.integers(0, 315576000000) | st.integers(0, 3)), nanos=sign * draw(_nanos()))
    for field in message_class.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _map(draw, message, field, depth)
        elif field.message_type is not None:
            if depth:
                for _ in range(draw(st.integers(0, 3)) if field.is_repeated else 1):
                    inner = draw(messages(_class(field.message_type), depth - 1))
                    target = getattr(message, field.name)
                    (target.add() if field.is_repeated else target).CopyFrom(inner)
                    if not field.is_repeated:
                        target.SetInParent()
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalar(field), max_size=4)))
        else:
            setattr(message, field.name, draw(scalar(field)))
    return message


def _nanos() -> st.SearchStrategy[int]:
    return st.sampled_from((0, 3, 5, 1000, 999_999_999)) | st.integers(0, 999_999_999)


def _class(descriptor: Descriptor) -> type[Message]:
    return message_factory.GetMessageClass(descriptor)


def _map(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    entries = getattr(message, field.name)
    for at in draw(st.lists(scalar(key), max_size=3)):
        if value.message_type is None:
            entries[at] = draw(scalar(value))
        elif depth:
            entries[at].CopyFrom(draw(messages(_class(value.message_type), depth - 1)))


def scalar(field: FieldDescriptor) -> st.SearchStrategy:
    if field.type in _INTS:
        low, high = _INTS[field.type]
        return st.integers(max(low, -3), 4) | st.integers(low, high) | st.sampled_from((low, high))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from((b"", b"a", b"ab", b"abcd")) | st.binary(max_size=4)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([*field.enum_type.values_by_number, 77, -1])
    width = 32 if field.type == FieldDescriptor.TYPE_FLOAT else 64
    return st.sampled_from((0.0, -0.0, 1.0, 2.5, -1.0, sys.float_info.min if width == 64 else 0.5)) | st.floats(width=width)
