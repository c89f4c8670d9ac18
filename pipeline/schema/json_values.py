"""JSON values to field values: one function per kind of field. Each raises Bad for what does not fit.

The range of an integer is the field's business: setting it refuses what is outside.
"""

import base64
import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

Convert = Callable[[Any], Any]
_INTEGERS = frozenset(
    (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
)
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
# Beyond this a number does not round to a 32-bit float. (`json_format` draws the line lower and can't read its own largest one.)
_FLOAT_MAX = 3.4028235677973362e38
_EPOCH = datetime(1970, 1, 1)
_YEAR_1, _YEAR_9999_END = -62_135_596_800, 253_402_300_799


class Bad(Exception):
    """What is wrong, and where; the path grows on the way up."""

    def __init__(self, reason: str, said: str, path: str = "") -> None:
        super().__init__(said)
        self.reason = reason
        self.said = said
        self.path = path

    def within(self, part: str) -> "Bad":
        dot = "" if not self.path or self.path.startswith("[") else "."
        self.path = f"{part}{dot}{self.path}"
        return self


def scalar(field: FieldDescriptor) -> Convert:
    if field.cpp_type in _INTEGERS:
        return integer
    if field.type == FieldDescriptor.TYPE_STRING:
        return text_of
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _truth
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum(field)
    return _real(_FLOAT_MAX if field.type == FieldDescriptor.TYPE_FLOAT else math.inf)


def text_of(value: Any) -> str:
    if type(value) is not str:
        raise Bad("wrong_type", "must be a string")
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise Bad("wrong_type", "must be true or false")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not str or _BASE64.fullmatch(value) is None:
        raise Bad("wrong_type", "must be a string in base64")
    body = value.rstrip("=")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def integer(value: Any) -> int:
    """The range is the field's business: setting it refuses what does not fit."""
    if type(value) is int:
        return value
    if type(value) is str:
        if _INTEGER.fullmatch(value):
            return int(value)
        value = float(value) if _DECIMAL.fullmatch(value) else None
        if value is not None and abs(value) > 2**53:
            value = None
    if type(value) is float and value.is_integer():
        return int(value)
    raise Bad("wrong_type", "must be an integer")


def _real(largest: float) -> Convert:
    def convert(value: Any) -> float:
        if type(value) is str:
            if value in ("NaN", "Infinity", "-Infinity"):
                return float(value)
            value = float(value) if _DECIMAL.fullmatch(value) else None
        if type(value) not in (int, float) or not -largest <= value <= largest or math.isinf(value):
            raise Bad("wrong_type", 'must be a number in its range, or "NaN", "Infinity", "-Infinity"')
        return float(value)

    return convert


def _enum(field: FieldDescriptor) -> Convert:
    assert field.enum_type is not None
    numbers = {name: value.number for name, value in field.enum_type.values_by_name.items()}
    closed = frozenset(field.enum_type.values_by_number) if field.enum_type.is_closed else None
    of_null = field.enum_type.full_name == "google.protobuf.NullValue"

    def convert(value: Any) -> int:
        number: int | None = None
        if type(value) is str:
            number = numbers.get(value)
            if number is None and _INTEGER.fullmatch(value):
                number = int(value)
        elif type(value) is int:
            number = value
        elif value is None and of_null:
            number = 0
        if number is None or (closed is not None and number not in closed):
            raise Bad("wrong_type", "must be the name or the number of a value of its enum")
        return number

    return convert


def timestamp(message: Any, value: Any) -> None:
    match = _MOMENT.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Bad("wrong_type", "must be a time as in 2013-01-01T10:17:00Z")
    moment, fraction, sign, hours, minutes = match.groups()
    delta = datetime.fromisoformat(moment) - _EPOCH
    seconds = delta.days * 86_400 + delta.seconds
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    if not _YEAR_1 <= seconds <= _YEAR_9999_END:
        raise Bad("wrong_type", "must be a time in the years 1 to 9999")
    message.seconds = seconds
    if fraction is not None:
        message.nanos = int(fraction.ljust(9, "0"))


def by_text(message: Any, value: Any) -> None:
    if type(value) is not str:
        raise Bad("wrong_type", "must be a string")
    message.FromJsonString(value)


def by_json_format(message: Any, value: Any) -> None:
    try:
        json_format.ParseDict(value, message)
    except json_format.ParseError as exc:
        raise Bad("wrong_type", "does not fit its well-known type") from exc
