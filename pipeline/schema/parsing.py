"""Bytes to a message, and the decision on unknown fields.

The decision (TRAPS 18): a message with a field that this schema does not know is refused, at every depth. Its producer has a
newer schema; kept, the field could be neither checked nor redacted nor given a column; dropped, it would be lost in silence.
So the schema is deployed to the pipeline before it is deployed to producers.

The look for unknown fields is a walk, compiled per message type, that asks each message that is there (0.2 us each). Comparing
sizes after discarding them would be no faster, and wrong for encodings that are valid and not canonical. An unknown field inside
a map's entry is lost by the parser before anybody can see it; no generated code can write one.
"""

from collections.abc import Callable
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from pipeline.errors import InvalidEvent

# The path of the first unknown field, or None.
_Walk = Callable[[Any], str | None]
# A repeated or map field: its name, its parts each with its mark in a path, the walk of one part.
_Many = tuple[str, Callable[[Any, str], list[tuple[str, Any]]], _Walk]


def compile_parse(message_class: type[Message]) -> Callable[[bytes], Message]:
    """A function from bytes to a message. It raises InvalidEvent "undecodable" or "unknown_field"."""
    decode = message_class.FromString
    name = message_class.DESCRIPTOR.full_name
    unknown_at = _walk(cast(Descriptor, message_class.DESCRIPTOR), {})

    def parse(data: bytes) -> Message:
        try:
            message = decode(data)
        except DecodeError as exc:
            raise InvalidEvent("undecodable", f"the data is not a {name} in Protobuf's binary format") from exc
        at = unknown_at(message)
        if at is not None:
            raise InvalidEvent(
                "unknown_field", f"{name}: {at} is not in the deployed schema; deploy the newer schema here before its producers"
            )
        return message

    return parse


def _walk(descriptor: Descriptor, known: dict[str, _Walk]) -> _Walk:
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    single: list[tuple[str, _Walk]] = []
    many: list[_Many] = []

    def walk(message: Any) -> str | None:
        unknown = UnknownFieldSet(message)
        if len(unknown):
            return f"field number {unknown[0].field_number}"
        for name, look in single:
            if message.HasField(name):
                at = look(getattr(message, name))
                if at is not None:
                    return f"{name}: {at}"
        return _first_in(message, many) if many else None

    known[descriptor.full_name] = walk  # before its fields: a message may contain itself
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None:
            continue
        if not inner.GetOptions().map_entry:
            look = _walk(inner, known)
            if field.is_repeated:
                many.append((field.name, _items, look))
            else:
                single.append((field.name, look))
        elif inner.fields_by_name["value"].message_type is not None:
            many.append((field.name, _values, _walk(inner.fields_by_name["value"].message_type, known)))
    return walk


def _first_in(message: Any, many: list[_Many]) -> str | None:
    for name, parts, look in many:
        for mark, part in parts(message, name):
            at = look(part)
            if at is not None:
                return f"{name}{mark}: {at}"
    return None


def _items(message: Any, name: str) -> list[tuple[str, Any]]:
    return [(f"[{index}]", item) for index, item in enumerate(getattr(message, name))]


def _values(message: Any, name: str) -> list[tuple[str, Any]]:
    """Keys may be personal: none is told."""
    entries = getattr(message, name)
    return [("[*]", entries[key]) for key in entries]
