"""CloudEvents in JSON to CloudEvents in Protobuf, the data kept as the text it came in.

Rules. Nothing is lost on the way: `data` is stored byte for byte as sent, so an integer of 64 bits, a number of many digits or
an unusual escape reaches the transcoder as it was written. A name that stands twice in an object is refused, since one of the
two values would be lost in silence. What is wrong with one event of a batch is that event's rejection.

orjson judges the body first. If what it writes back equals the body, then nothing was lost or doubled, and its values are used as
they are; clients that write compact JSON take this way. Otherwise a scanner finds each event's own text.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from pipeline.doors.accept import is_json
from pipeline.doors.reasons import Reason
from pipeline.doors.wire import check_count
from pipeline.errors import InvalidEvent
from pipeline.event import JSON_CONTENT_TYPE, micros
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from telemetry.tracing import CANARY_ATTRIBUTE, TRACEPARENT_ATTRIBUTE

_CORE = frozenset(("id", "source", "specversion", "type", "data", "data_base64", "datacontenttype"))
_INT32 = range(-(1 << 31), 1 << 31)
_SPACE = re.compile(r"[ \t\n\r]*")
_STEP = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_FRACTION = re.compile(r"\d\d:\d\d:\d\d\.(\d{1,9})(?:[Zz]|[+-])")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One event as it stood in the body: its id for the answer, if it has one, and what became of it."""

    id: str
    event: "CloudEvent | Unreadable"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why an event could not be read, and what could be read of it: what it is called."""

    why: InvalidEvent
    named: CloudEvent


def structured(body: bytes) -> Parsed:
    """One event, `application/cloudevents+json`.

    Raises:
        InvalidEvent: "bad_json", of the whole request.
    """
    value, exact = _loads(body)
    if exact:
        return _parsed(value, None)
    text = body.decode()
    return _found(text, _skip(text, 0))[0]


def batched(body: bytes, events_max: int) -> list[Parsed]:
    """The events of an `application/cloudevents-batch+json`.

    Raises:
        InvalidEvent: "bad_json", "malformed_request", "empty_batch" or "too_many_events", of the whole request.
    """
    value, exact = _loads(body)
    if not isinstance(value, list):
        raise InvalidEvent(Reason.MALFORMED_REQUEST, "a batch is a JSON array of events")
    check_count(len(value), events_max)
    if exact:
        return [_parsed(item, None) for item in value]
    return list(_scan_array(body.decode(), len(value)))


def binary(attributes: Mapping[str, str], content_type: str, body: bytes) -> Parsed:
    """One event whose attributes came as headers and whose data is the body."""
    id = attributes.get("id", "")
    try:
        if "data" in attributes or "data_base64" in attributes or "datacontenttype" in attributes:
            raise InvalidEvent(Reason.BAD_ATTRIBUTE, "in binary mode the data is the body and Content-Type its type")
        value, exact = _loads(body)
        if not exact:
            _whole(body.decode())
        return Parsed(id, _cloud_event({**attributes, "datacontenttype": content_type, "data": value}, body.decode()))
    except InvalidEvent as exc:
        return Parsed(id, Unreadable(exc, _named(attributes)))


def _loads(body: bytes) -> tuple[Any, bool]:
    """The value, and whether writing it back gives the body: then nothing in it was lost or doubled."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidEvent(
            Reason.BAD_JSON, f"the body is not JSON in UTF-8: {exc.msg.split(':')[0]} at line {exc.lineno}, column {exc.colno}"
        ) from exc
    try:
        return value, orjson.dumps(value) == body
    except orjson.JSONEncodeError:  # orjson reads deeper nesting than it writes
        return value, False


def _parsed(value: Any, data_text: str | None) -> Parsed:
    id = value.get("id") if isinstance(value, dict) else None
    try:
        if not isinstance(value, dict):
            raise InvalidEvent(Reason.MALFORMED_REQUEST, "an event is a JSON object")
        return Parsed(id if isinstance(id, str) else "", _cloud_event(value, data_text))
    except InvalidEvent as exc:
        return Parsed(id if isinstance(id, str) else "", Unreadable(exc, _named(value)))


def _named(value: Any) -> CloudEvent:
    """An event without content that goes by the same name, as far as it is one."""
    event = CloudEvent()
    if isinstance(value, Mapping):
        for name in ("id", "source", "type"):
            if isinstance(value.get(name), str):
                setattr(event, name, value[name])
        for name in (TRACEPARENT_ATTRIBUTE, CANARY_ATTRIBUTE):
            if isinstance(value.get(name), str):
                event.attributes[name].ce_string = value[name]
    return event


def _cloud_event(value: Mapping[str, Any], data_text: str | None) -> CloudEvent:
    for name in ("id", "source", "specversion", "type"):
        if not isinstance(value.get(name, ""), str):
            raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` must be a string")
    media = value.get("datacontenttype") or JSON_CONTENT_TYPE
    if not isinstance(media, str) or not is_json(media.split(";", 1)[0].strip().lower()) or "data_base64" in value:
        raise InvalidEvent(Reason.DATA_CONTENT_TYPE, "this door takes `data` as a JSON object; send Protobuf to the gRPC door")
    data = value.get("data")
    if data is None:
        raise InvalidEvent(Reason.MISSING_DATA, "`data` is missing: an event without content has `{}`")
    if not isinstance(data, dict):
        raise InvalidEvent(Reason.BAD_JSON, "`data` must be a JSON object: the fields of the event's message")
    event = CloudEvent(
        id=value.get("id", ""),
        source=value.get("source", ""),
        spec_version=value.get("specversion", ""),
        type=value.get("type", ""),
        text_data=orjson.dumps(data).decode() if data_text is None else data_text,
    )
    event.attributes["datacontenttype"].ce_string = JSON_CONTENT_TYPE
    for name, attribute in value.items():
        if name not in _CORE and attribute is not None:
            _set_attribute(event, name, attribute)
    return event


def _set_attribute(event: CloudEvent, name: str, value: Any) -> None:
    if isinstance(value, str):
        if name != "time" or not _set_time(event, value):
            event.attributes[name].ce_string = value
    elif isinstance(value, bool):
        event.attributes[name].ce_boolean = value
    elif isinstance(value, int) and value in _INT32:
        event.attributes[name].ce_integer = value
    else:
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, "an attribute is a string, a boolean or an integer of 32 bits")


def _set_time(event: CloudEvent, text: str) -> bool:
    """Store RFC 3339 as the moment it names, to the nanosecond; False if it is not one (the envelope check will say so)."""
    try:
        at = micros(datetime.fromisoformat(text))
    except ValueError:
        return False
    if text[10:11] not in ("T", "t") or len(text) < 20:
        return False
    fraction = _FRACTION.search(text)
    stamp = event.attributes["time"].ce_timestamp
    stamp.seconds = at // 1_000_000
    stamp.nanos = int(fraction[1].ljust(9, "0")) if fraction else 0
    return True


def _no_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise InvalidEvent(Reason.DUPLICATE_KEY, "a name stands twice in one object: one of the two values would be lost")
    return value


# The C scanner: a value and where it ends. Public in effect (raw_decode is made of it), though not in the stubs.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(object_pairs_hook=_no_doubles).scan_once  # type: ignore[attr-defined]


def _scan_array(text: str, count: int) -> Iterator[Parsed]:
    position = _skip(text, _skip(text, 0) + 1)
    for _ in range(count):
        parsed, position = _found(text, position)
        yield parsed
        position = _skip(text, _skip(text, position) + 1)  # past the comma


def _found(text: str, start: int) -> tuple[Parsed, int]:
    """The event that starts here, and where it ends."""
    try:
        return _scan_event(text, start)
    except (InvalidEvent, ValueError, RecursionError) as exc:
        end = _end_of(text, start)
        value = orjson.loads(text[start:end])
        named = _named(value)
        return Parsed(named.id, Unreadable(_why(exc), named)), end


def _scan_event(text: str, start: int) -> tuple[Parsed, int]:
    if text[start] != "{":
        end = _end_of(text, start)
        return _parsed(orjson.loads(text[start:end]), None), end
    value: dict[str, Any] = {}
    data_text: str | None = None
    position = _skip(text, start + 1)
    while text[position] != "}":
        name, position = _scan(text, position)
        begins = _skip(text, _skip(text, position) + 1)  # past the colon
        item, position = _scan(text, begins)
        if name in value:
            _no_doubles([(name, None), (name, None)])
        value[name] = item
        if name == "data":
            data_text = text[begins:position]
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return _parsed(value, data_text), position + 1


def _whole(text: str) -> None:
    """Raises: InvalidEvent: a name stands twice, or the text is nested too deeply."""
    try:
        _scan(text, _skip(text, 0))
    except (ValueError, RecursionError) as exc:
        raise InvalidEvent(Reason.BAD_JSON, str(_why(exc))) from exc


def _why(exc: Exception) -> InvalidEvent:
    if isinstance(exc, InvalidEvent):
        return exc
    what = "objects are nested too deeply" if isinstance(exc, RecursionError) else "a number has too many digits"
    return InvalidEvent(Reason.BAD_JSON, f"the event can't be read: {what}")


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _end_of(text: str, start: int) -> int:
    """Where the value that starts here ends. The text is known to be JSON."""
    if text[start] not in '{["':
        found = re.compile(r"[^,\]} \t\n\r]*").match(text, start)
        return found.end() if found else len(text)
    depth = 0
    for step in _STEP.finditer(text, start):
        if step[0] in "{[":
            depth += 1
        elif step[0] in "}]":
            depth -= 1
        if depth == 0:
            return step.end()
    return len(text)
