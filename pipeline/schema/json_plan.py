"""JSON to a message, by a plan compiled per message type.

Rules. The meaning is that of Protobuf's JSON mapping; `json_format` is the oracle in the tests, at five times the time. Names are
taken in lower camel case and as written in the schema. An unknown field is an error that names its path (TRAPS 18), at every
depth. Where `json_format` alters data in silence, this refuses it ("wrong_type"): the same field under both its names, two map
keys that become one, base64 with characters that are none of its own, a fraction or a bool for an enum, a list for a message, an
integer written as text with a fraction beyond 2^53, a number as only Python writes it (" 1", "1_000").
A refusal names the field, never the value; a name that is no identifier may be a value in disguise and is not told.
"""

import json
import re
from collections.abc import Callable
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pipeline.errors import InvalidEvent
from pipeline.schema.json_values import Bad, Convert, by_json_format, by_text, integer, scalar, text_of, timestamp

# Levels of objects in objects; beyond it a message could not be parsed from its bytes again.
DEPTH_MAX = 100

_Fill = Callable[[Any, Any], None]
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_BY_TEXT = frozenset(f"google.protobuf.{name}" for name in ("Duration", "FieldMask"))
_BY_JSON_FORMAT = frozenset(f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue", "Any"))
_WRAPPED = re.compile(r"google\.protobuf\.(?:Double|Float|U?Int64|U?Int32|Bool|String|Bytes)Value")


def compile_from_json(message_class: type[Message]) -> Callable[[bytes | str], Message]:
    """A function from JSON text to a message. It raises InvalidEvent "bad_json", "unknown_field" or "wrong_type"."""
    name = message_class.DESCRIPTOR.full_name
    fill = _object(cast(Descriptor, message_class.DESCRIPTOR), {})

    def from_json(data: bytes | str) -> Message:
        value = _loaded(data, name)
        message = message_class()
        try:
            fill(message, value)
        except Bad as bad:
            raise InvalidEvent(bad.reason, f"{name}: {bad.path or 'the data'} {bad.said}") from None
        except RecursionError:
            raise InvalidEvent("bad_json", f"{name}: the data is nested too deep") from None
        return message

    return from_json


def _loaded(data: bytes | str, name: str) -> Any:
    try:
        text = data if isinstance(data, str) else data.decode()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as exc:
        said = f" ({exc.msg} at character {exc.pos})" if isinstance(exc, json.JSONDecodeError) else ""
        raise InvalidEvent("bad_json", f"{name}: the data is not JSON in UTF-8{said}") from None
    if text.count("{") > DEPTH_MAX and _depth(value) > DEPTH_MAX:
        raise InvalidEvent("bad_json", f"{name}: objects are nested more than {DEPTH_MAX} deep")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has two members of one name")
    return made


# Made once: json.loads makes one a call when it is given a hook.
_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict):
            deepest = max(deepest, depth + 1)
            waiting.extend((inner, depth + 1) for inner in one.values())
        elif isinstance(one, list):
            waiting.extend((inner, depth) for inner in one)
    return deepest


def _object(descriptor: Descriptor, known: dict[str, _Fill]) -> _Fill:
    """The plan of one message: for each name of each field, how to fill it, and what must not come twice."""
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    plan: dict[str, tuple[int, _Fill, bool]] = {}

    def fill_object(message: Any, value: Any) -> None:
        if type(value) is not dict:
            raise Bad("wrong_type", "must be an object")
        seen = 0
        for name, inner in value.items():
            entry = plan.get(name)
            if entry is None:
                raise _unknown(name)
            bits, fill, takes_null = entry
            if inner is None and not takes_null:
                continue
            if seen & bits:
                raise Bad("wrong_type", "is given twice, or beside another field of its oneof", name)
            seen |= bits
            try:
                fill(message, inner)
            except Bad as bad:
                raise bad.within(name) from None
            except (ValueError, TypeError) as exc:
                raise Bad("wrong_type", "has a value that does not fit its type", name) from exc

    known[descriptor.full_name] = fill_object  # before its fields: a message may contain itself
    for field in descriptor.fields:
        bits = 1 << field.index
        if field.containing_oneof is not None:
            bits |= 1 << (len(descriptor.fields) + field.containing_oneof.index)
        plan[field.name] = (bits, _field(field, known), _takes_null(field))
    # Where one field's JSON name is another one's name, the JSON name wins.
    plan.update({field.json_name: plan[field.name] for field in descriptor.fields})
    return fill_object


def _unknown(name: str) -> Bad:
    if _IDENTIFIER.fullmatch(name):
        return Bad("unknown_field", "is not in the deployed schema; deploy the newer schema here before its producers", name)
    return Bad("unknown_field", "is not in the deployed schema", "a field whose name is no identifier")


def _takes_null(field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return False
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in ("google.protobuf.Value", "google.protobuf.NullValue")


def _field(field: FieldDescriptor, known: dict[str, _Fill]) -> _Fill:
    name = field.name
    if field.message_type is None:
        convert = scalar(field)
        return _repeated_scalar(name, convert) if field.is_repeated else _single_scalar(name, convert)
    if field.message_type.GetOptions().map_entry:
        return _map(field, known)
    inner = _message(field.message_type, known)
    return _repeated_message(field, inner) if field.is_repeated else _single_message(name, inner)


def _single_scalar(name: str, convert: Convert) -> _Fill:
    if convert is text_of:

        def fill_text(message: Any, value: Any) -> None:
            if type(value) is not str:
                raise Bad("wrong_type", "must be a string")
            setattr(message, name, value)

        return fill_text

    def fill(message: Any, value: Any) -> None:
        setattr(message, name, convert(value))

    return fill


def _single_message(name: str, inner: _Fill) -> _Fill:
    def fill(message: Any, value: Any) -> None:
        part = getattr(message, name)
        part.SetInParent()
        inner(part, value)

    return fill


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Bad("wrong_type", "must be a list")
    return value


def _repeated_scalar(name: str, convert: Convert) -> _Fill:
    def fill(message: Any, value: Any) -> None:
        items = getattr(message, name)
        for index, item in enumerate(_list(value)):
            try:
                items.append(convert(item))
            except Bad as bad:
                raise bad.within(f"[{index}]") from None

    return fill


def _repeated_message(field: FieldDescriptor, inner: _Fill) -> _Fill:
    name = field.name
    null_is_a_value = field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"

    def fill(message: Any, value: Any) -> None:
        items = getattr(message, name)
        for index, item in enumerate(_list(value)):
            try:
                if item is None and not null_is_a_value:
                    raise Bad("wrong_type", "must not be null")
                inner(items.add(), item)
            except Bad as bad:
                raise bad.within(f"[{index}]") from None

    return fill


def _map(field: FieldDescriptor, known: dict[str, _Fill]) -> _Fill:
    assert field.message_type is not None
    name, entry = field.name, field.message_type.fields_by_name
    to_key = _map_key(entry["key"])
    value_type = entry["value"].message_type
    to_value = scalar(entry["value"]) if value_type is None else None
    inner = None if value_type is None else _message(value_type, known)

    def fill(message: Any, value: Any) -> None:
        if type(value) is not dict:
            raise Bad("wrong_type", "must be an object")
        entries = getattr(message, name)
        for text, item in value.items():
            try:
                key = to_key(text)
                if inner is not None:
                    inner(entries[key], item)
                elif to_value is not None:
                    entries[key] = to_value(item)
            except Bad as bad:
                raise bad.within("[*]") from None
        if len(entries) != len(value):
            raise Bad("wrong_type", "has two keys that mean the same")

    return fill


def _map_key(field: FieldDescriptor) -> Convert:
    if field.type == FieldDescriptor.TYPE_STRING:
        return text_of
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _truth_key
    return integer


def _truth_key(value: str) -> bool:
    if value not in ("true", "false"):
        raise Bad("wrong_type", 'must be "true" or "false"')
    return value == "true"


def _message(descriptor: Descriptor, known: dict[str, _Fill]) -> _Fill:
    name = descriptor.full_name
    if name == "google.protobuf.Timestamp":
        return timestamp
    if name in _BY_TEXT:
        return by_text
    if name in _BY_JSON_FORMAT:
        return by_json_format
    if _WRAPPED.fullmatch(name):
        return _single_scalar("value", scalar(descriptor.fields_by_name["value"]))
    return _object(descriptor, known)
