"""What a door accepts: one event in, one decision out. Pure, and the same for both doors.

    encoded event ─► envelope ─► type ─► data ─► Accepted (its slice, its bytes as stored) | Rejected (reason, message)

Rules. Every event gets exactly one decision, and none concerns its neighbours (TRAPS 9). No input makes it raise. The envelope
is CloudEvents 1.0 with a type that is deployed here, an event time with a zone, and bounded names; `data` at the gRPC door is
that type's Protobuf and keeps its rules. What is stored is `binary_data` with datacontenttype application/protobuf, or from the
HTTP door the JSON as it came; its deep validation is the transcoder's. A message to the sender never quotes the event.

The walk over the attributes that checks them also finds what decides whether the event is traced. A trace context of the whole
request goes into those of its events that carry none, so that it rides with them: in Protobuf, an encoded entry appended to an
encoded message is an entry of the message.
"""

import contextlib
import functools
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import DecodeError

from pipeline.doors.reasons import Reason, reason_of
from pipeline.errors import InvalidEvent
from pipeline.event import JSON_CONTENT_TYPE, PROTOBUF_CONTENT_TYPE, micros, slice_of
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.tracing import kept
from telemetry.tracing import CANARY_ATTRIBUTE, TRACEPARENT_ATTRIBUTE, Trace, Tracer


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


class Accepted(NamedTuple):
    """An event as it will be stored: a CloudEvent in Protobuf, and the slice of the hash space that it belongs to."""

    # One is made for every event: a tuple costs a third of a frozen dataclass.
    slice: int
    encoded: bytes
    type: str
    # If it is to be traced.
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that will not be stored, why in a word, and what to do in a sentence."""

    reason: Reason
    message: str
    # What could be read of it, for its last span and log line.
    event: CloudEvent | None = field(default=None, compare=False, repr=False)
    # If it was to be traced in any case.
    trace: Trace | None = field(default=None, compare=False)


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
    tracer: Tracer = field(default_factory=Tracer.off)
    # An id whose checksum is not below this is not traced by chance: one comparison for nearly all events.
    _by_chance_below: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        below = math.ceil(self.tracer.keeping.trace_share * (1 << 32)) if self.tracer.on else 0
        object.__setattr__(self, "_by_chance_below", below)

    def decide(self, encoded: bytes, now_micros: int, context: str = "") -> Decision:
        """On one CloudEvent in Protobuf whose data is Protobuf: the gRPC door's question.

        `context` is the sampled `traceparent` of the request; empty if it has none.
        """
        event: CloudEvent | None = None
        try:
            self._size(len(encoded))
            event = _decoded(encoded)
            return self._protobuf(event, encoded, now_micros, context)
        except InvalidEvent as exc:
            return self.rejected(exc, event)

    def decide_json(self, event: CloudEvent, now_micros: int, context: str = "") -> Decision:
        """On one CloudEvent with a JSON object in `text_data`: the HTTP door's question."""
        try:
            if context and self._has_room_for_context(event):
                event.attributes[TRACEPARENT_ATTRIBUTE].ce_string = context
            type, id, source, _, key, _, traceparent, canary = self._envelope(event, now_micros)
            encoded = event.SerializeToString()
            self._size(len(encoded))
            return Accepted(slice_of(key, self.slices), encoded, type, self._trace(source, id, traceparent, canary))
        except InvalidEvent as exc:
            return self.rejected(exc, event)

    def rejected(self, exc: InvalidEvent, event: CloudEvent | None) -> Rejected:
        """`event`: what could be read of it. An event that goes by no proper name can't be traced."""
        if event is not None and not self._is_named(event):
            event = None
        return Rejected(reason_of(exc.reason), str(exc), event, kept(self.tracer, event) if event is not None else None)

    def _is_named(self, event: CloudEvent) -> bool:
        try:
            _text("id", event.id, self.limits.id_characters)
            _text("source", event.source, self.limits.source_characters)
            _text("type", event.type, self.limits.type_characters, empty=True)
        except InvalidEvent:
            return False
        return True

    def _trace(self, source: str, id: str, traceparent: str | None, canary: bool) -> Trace | None:
        if traceparent or canary or zlib.crc32(id.encode()) < self._by_chance_below:
            return self.tracer.trace(source, id, traceparent or "", canary)
        return None

    def _has_room_for_context(self, event: CloudEvent) -> bool:
        """It is not worth a rejection further on; and a context that the event has is the event's."""
        attributes = event.attributes
        return TRACEPARENT_ATTRIBUTE not in attributes and len(attributes) < self.limits.attributes

    def _protobuf(self, event: CloudEvent, encoded: bytes, now_micros: int, context: str) -> Accepted:
        type, id, source, kind, key, content_type, traceparent, canary = self._envelope(event, now_micros)
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
        if context and traceparent is None and self._has_room_for_context(event):
            entry = _context_entry(context)
            if len(encoded) + len(entry) <= self.limits.event_bytes:
                encoded, traceparent = encoded + entry, context
        return Accepted(slice_of(key, self.slices), encoded, type, self._trace(source, id, traceparent, canary))

    def _size(self, event_bytes: int) -> None:
        if event_bytes > self.limits.event_bytes:
            raise InvalidEvent(
                Reason.EVENT_TOO_LARGE,
                f"the event has {event_bytes} bytes, at most {self.limits.event_bytes} are taken: store the large part "
                "elsewhere and send a reference",
            )

    def _envelope(self, event: CloudEvent, now_micros: int) -> tuple[str, str, str, EventType, str, str, str | None, bool]:
        """Check the envelope and return what the rest needs of it: type, id, source, the type's rules, partition key, content
        type, trace context (None: it has no such attribute) and whether it is a canary.
        """
        limits = self.limits
        if event.spec_version != "1.0":
            raise InvalidEvent(Reason.SPEC_VERSION, '`specversion` must be "1.0"')
        id = event.id
        _text("id", id, limits.id_characters)
        source = event.source
        _text("source", source, limits.source_characters)
        type = event.type
        kind = self.types.get(type)
        if kind is None:
            _text("type", type, limits.type_characters)
            raise InvalidEvent(Reason.UNKNOWN_TYPE, "`type` must be the full name of an event type that is deployed here")
        if len(event.attributes) > limits.attributes:
            raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"an event has at most {limits.attributes} attributes")
        subject = key = content_type = ""
        timed = canary = False
        traceparent: str | None = None
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
                text = _extension(name, form, value, limits.attribute_characters)
                if name == TRACEPARENT_ATTRIBUTE:
                    traceparent = text
                elif name == CANARY_ATTRIBUTE:
                    canary = True
        if not timed:
            raise InvalidEvent(
                Reason.MISSING_ATTRIBUTE, "`time` is missing: it is when the event happened, as RFC 3339 with a zone"
            )
        return type, id, source, kind, key or subject or id, content_type, traceparent, canary

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


def _decoded(encoded: bytes) -> CloudEvent:
    try:
        return CloudEvent.FromString(encoded)
    except DecodeError as exc:
        raise InvalidEvent(Reason.UNDECODABLE, "this is not an io.cloudevents.v1.CloudEvent in Protobuf's format") from exc


@functools.lru_cache(maxsize=256)
def _context_entry(context: str) -> bytes:
    """A CloudEvent's encoded attribute `traceparent`, to be appended to an encoded event. One request's events share it."""
    event = CloudEvent()
    event.attributes[TRACEPARENT_ATTRIBUTE].ce_string = context
    return event.SerializeToString()


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


def _extension(name: str, form: str | None, value: CloudEvent.CloudEventAttributeValue, characters_max: int) -> str:
    """The text of an extension; empty if it is a number or a truth value."""
    if name in _RESERVED or not _ATTRIBUTE_NAME.fullmatch(name):
        raise InvalidEvent(
            Reason.BAD_ATTRIBUTE, "names of attributes are lower-case letters and digits, at most 64, and not reserved"
        )
    if form is None:
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` has no value")
    if name in _STRINGS:  # a string would not have come here
        raise InvalidEvent(Reason.BAD_ATTRIBUTE, f"`{name}` must be a string")
    if form not in _TEXT_FORMS:
        return ""
    text = str(getattr(value, form))
    _text(name, text, characters_max, empty=True)
    return text
