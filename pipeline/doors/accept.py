"""What a door accepts: one event in, one decision out. Pure, and the same for both doors.

    encoded event ─► envelope ─► type ─► data ─► Accepted (its slice, its bytes as stored) | Rejected (reason, message)

Rules. Every event gets exactly one decision, and none concerns its neighbours (TRAPS 9). No input makes it raise. The envelope
is CloudEvents 1.0 with a type that is deployed here, an event time with a zone, and bounded names; `data` at the gRPC door is
that type's Protobuf and keeps its rules. What is stored is `binary_data` with datacontenttype application/protobuf, or from the
HTTP door the JSON as it came; its deep validation is the transcoder's. A message to the sender never quotes the event.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from pipeline.doors.reasons import Reason, reason_of
from pipeline.errors import InvalidEvent
from pipeline.event import JSON_CONTENT_TYPE, PROTOBUF_CONTENT_TYPE, micros, slice_of
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent


class EventType(Protocol):
    """What the door needs of an event type; `pipeline.schema.registry.EventType` is one."""

    @property
    def parse(self) -> Any: ...

    def check(self, message: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one event and of one request."""

    event_bytes: int = 256 * 1024
    id_characters: int = 256
    source_characters: int = 1024
    type_characters: int = 256
    subject_characters: int = 1024
    partition_key_characters: int = 256
    attribute_characters: int = 4096
    attributes: int = 64
    ahead_seconds: int = 24 * 3600
    request_events: int = 500
    request_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event as it will be stored: a CloudEvent in Protobuf, and the slice of the hash space that it belongs to."""

    slice: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that will not be stored, why in a word, and what to do in a sentence."""

    reason: Reason
    message: str


Decision = Accepted | Rejected

# CloudEvents: control characters, surrogates and non-characters are not allowed in a String.
FORBIDDEN_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,64}")
_STRINGS = frozenset(("subject", "partitionkey", "datacontenttype"))
_RESERVED = frozenset(("id", "source", "specversion", "type", "data"))
_TEXT_FORMS = frozenset(("ce_string", "ce_uri", "ce_uri_ref"))
_PROTOBUF_MEDIA = frozenset((PROTOBUF_CONTENT_TYPE, "application/x-protobuf", ""))
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The rules in force."""

    types: Mapping[str, EventType]
    slices: int
    limits: Limits = Limits()

    def decide(self, encoded: bytes, now_micros: int) -> Decision:
        """On one CloudEvent in Protobuf whose data is Protobuf: the gRPC door's question."""
        try:
            return self._protobuf(encoded, now_micros)
        except InvalidEvent as exc:
            return Rejected(reason_of(exc.reason), str(exc))

    def decide_json(self, event: CloudEvent, now_micros: int) -> Decision:
        """On one CloudEvent with a JSON object in `text_data`: the HTTP door's question."""
        try:
            _, key, _ = self._envelope(event, now_micros)
            encoded = event.SerializeToString()
            self._size(len(encoded))
            return Accepted(slice_of(key, self.slices), encoded)
        except InvalidEvent as exc:
            return Rejected(reason_of(exc.reason), str(exc))

    def _protobuf(self, encoded: bytes, now_micros: int) -> Accepted:
        self._size(len(encoded))
        try:
            event = CloudEvent.FromString(encoded)
        except DecodeError as exc:
            raise InvalidEvent(Reason.UNDECODABLE, "this is not an io.cloudevents.v1.CloudEvent in Protobuf's format") from exc
        kind, key, content_type = self._envelope(event, now_micros)
        form = event.WhichOneof("data")
        if form == "binary_data":
            data = event.binary_data
            if content_type != PROTOBUF_CONTENT_TYPE and media_type(content_type) not in _PROTOBUF_MEDIA:
                raise InvalidEvent(Reason.DATA_CONTENT_TYPE, _GRPC_TAKES_PROTOBUF)
        elif form == "proto_data":
            data = event.proto_data.value
            type_url = event.proto_data.type_url
            if "/" not in type_url or type_url.rsplit("/", 1)[-1] != event.type:
                raise InvalidEvent(Reason.TYPE_MISMATCH, "the type URL of `proto_data` must end in `/` and the event's `type`")
        elif form == "text_data":
            raise InvalidEvent(Reason.DATA_CONTENT_TYPE, _GRPC_TAKES_PROTOBUF)
        else:
            raise InvalidEvent(Reason.MISSING_DATA, "`data` is missing: an event without content has an empty message")
        kind.check(kind.parse(data))
        if form != "binary_data" or content_type != PROTOBUF_CONTENT_TYPE:
            encoded = _normalised(event, data)
        return Accepted(slice_of(key, self.slices), encoded)

    def _size(self, event_bytes: int) -> None:
        if event_bytes > self.limits.event_bytes:
            raise InvalidEvent(
                Reason.EVENT_TOO_LARGE,
                f"the event has {event_bytes} bytes, at most {self.limits.event_bytes} are taken: store the large part "
                "elsewhere and send a reference",
            )

    def _envelope(self, event: CloudEvent, now_micros: int) -> tuple[EventType, str, str]:
        """Check the envelope and return what the rest needs of it: the event's type, partition key and content type."""
        limits = self.limits
        if event.spec_version != "1.0":
            raise InvalidEvent(Reason.SPEC_VERSION, '`specversion` must be "1.0"')
        id = event.id
        _text("id", id, limits.id_characters)
        _text("source", event.source, limits.source_characters)
        kind = self.types.get(event.type)
        if kind is None:
            _text("type", event.type, limits.type_characters)
            raise InvalidEvent(Reason.UNKNOWN_TYPE, "`type` must be the full name of an event type that is deployed here")
        if len(event.attributes) > limits.attributes:
            raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"an event has at most {limits.attributes} attributes")
        subject = key = content_type = ""
        timed = False
        for name, value in event.attributes.items():  # a look-up by name costs more than the whole walk
            form = value.WhichOneof("attr")
            if name == "time":
                timed = True
                self._time(form, value, now_micros)
            elif name == "subject" and form == "ce_string":
                subject = value.ce_string
                _text(name, subject, limits.subject_characters)
            elif name == "datacontenttype" and form == "ce_string":
                content_type = value.ce_string
                _text(name, content_type, limits.attribute_characters)
            elif name == "partitionkey" and form == "ce_string":
                key = value.ce_string
                _text(name, key, limits.partition_key_characters)
            else:
                _extension(name, form)
                if form in _TEXT_FORMS:
                    _text(name, getattr(value, form), limits.attribute_characters, empty=True)
        if not timed:
            raise InvalidEvent(
                Reason.MISSING_ATTRIBUTE, "`time` is missing: it is when the event happened, as RFC 3339 with a zone"
            )
        return kind, key or subject or id, content_type

    def _time(self, form: str | None, value: CloudEvent.CloudEventAttributeValue, now_micros: int) -> None:
        at: int | None = None
        if form == "ce_timestamp":
            stamp = value.ce_timestamp
            nanos = stamp.nanos
            if 0 <= nanos < 1_000_000_000:
                at = stamp.seconds * 1_000_000 + nanos // 1000
        elif form == "ce_string" and _RFC3339.fullmatch(value.ce_string):
            with contextlib.suppress(ValueError):  # the 31st of February
                at = micros(datetime.fromisoformat(value.ce_string))
        if at is None:
            raise InvalidEvent(Reason.BAD_TIME, "`time` must be a timestamp, or RFC 3339 with a zone: 2013-01-31T23:59:00Z")
        if at < 0:
            raise InvalidEvent(Reason.BAD_TIME, "`time` is before 1970")
        if at > now_micros + self.limits.ahead_seconds * 1_000_000:
            raise InvalidEvent(
                Reason.TIME_AHEAD, f"`time` is more than {self.limits.ahead_seconds} s ahead of this door's clock: check your own"
            )


_GRPC_TAKES_PROTOBUF = (
    "this door takes Protobuf: `proto_data`, or `binary_data` with datacontenttype application/protobuf; "
    "send JSON to the HTTP door"
)


def media_type(content_type: str) -> str:
    """Without its parameters, in lower case."""
    return content_type.split(";", 1)[0].strip().lower()


def is_json(media: str) -> bool:
    return media == JSON_CONTENT_TYPE or media.endswith("+json")


def _normalised(event: CloudEvent, data: bytes) -> bytes:
    event.binary_data = data
    event.attributes["datacontenttype"].ce_string = PROTOBUF_CONTENT_TYPE
    return event.SerializeToString()


def _text(name: str, text: str, characters_max: int, *, empty: bool = False) -> None:
    if text.isprintable() and (text or empty) and len(text) <= characters_max:  # quick, and right for nearly all
        return
    if not text and not empty:
        raise InvalidEvent(Reason.MISSING_ATTRIBUTE, f"`{name}` is missing or empty")
    if len(text) > characters_max:
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` has {len(text)} characters, at most {characters_max} are taken")
    if FORBIDDEN_CHARACTERS.search(text):
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` holds a control character or a non-character")


def _extension(name: str, form: str | None) -> None:
    if name in _RESERVED or not _ATTRIBUTE_NAME.fullmatch(name):
        raise InvalidEvent(
            Reason.BAD_ATTRIBUTE, "names of attributes are lower-case letters and digits, at most 64, and not reserved"
        )
    if form is None:
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` has no value")
    if name in _STRINGS:  # a string would not have come here
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` must be a string")
