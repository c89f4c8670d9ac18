"""A batch without its personal data: the pure core of the redactor.

Rules. What comes out is built anew from what was judged; nothing is copied and then cleaned, so what nobody thought of stays out.
An event is refused, whole, to the dead letters, if its data is not a message of a deployed type, if anything in it or in its
envelope is unknown to this schema, or if its identity (id, source) holds personal data: an identity can't change on the way.
Subject and partition key that hold personal data become pseudonyms, the same for the same value, so that histories stay together;
they stay in the slice that they came in. All other attributes are scanned as free text.
It fails closed: a policy with a hole stops the start (InvalidSchema), a key that can't be had stops the batch (Retryable), and
nothing else is caught.
"""

import ipaddress
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from google.protobuf.unknown_fields import UnknownFieldSet

from pipeline.errors import InvalidEvent
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.redaction.actions import subject_pseudonym
from pipeline.redaction.keys import PseudonymKeys
from pipeline.redaction.policy import verify
from pipeline.schema.registry import Registry
from telemetry.personal_data import Kind, find, mask

_PSEUDONYMISED = ("subject", "partitionkey")
_TEXTS = ("ce_string", "ce_uri", "ce_uri_ref")
# Attributes whose shape leaves no room for a person; with any other shape they are scanned.
_SHAPES = {
    "time": re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)?"),
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "datacontenttype": re.compile(r"application/(?:json|protobuf)"),
}
# What `Redacted.changed` counts; "attribute" is a text of the envelope.
ACTIONS = ("drop", "mask", "pseudonymise", "generalise", "scan", "attribute")
_PROTO_DATA_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class Redacted:
    """`clean` holds the events that passed, in their order; `refused` the places (in the batch, from 0) and reasons of the
    others; `changed` counts changed fields by what was done: one of `ACTIONS`."""

    clean: StoredBatch
    refused: tuple[tuple[int, InvalidEvent], ...]
    changed: Mapping[str, int]


class Redactor:
    """Raises: InvalidSchema: the policy of an event type is not complete."""

    def __init__(self, registry: Registry, keys: PseudonymKeys) -> None:
        self._registry = registry
        self._keys = keys
        self._plans = verify(registry)

    def redact(self, batch: StoredBatch) -> Redacted:
        """Raises: Retryable: the tenant's key can't be had; nothing of the batch may pass."""
        key = self._keys.key(batch.tenant)
        clean = StoredBatch(
            tenant=batch.tenant,
            accepted_at_unix_micros=batch.accepted_at_unix_micros,
            door=batch.door,
            worker=batch.worker,
            slice=batch.slice,
            slices=batch.slices,
        )
        refused: list[tuple[int, InvalidEvent]] = []
        changed: dict[str, int] = {}
        for index, event in enumerate(batch.events):
            try:
                passed = self._event(event, key, changed)
            except InvalidEvent as exc:
                refused.append((index, exc))
            else:
                clean.events.append(passed)
        return Redacted(clean, tuple(refused), MappingProxyType(changed))

    def _event(self, event: CloudEvent, key: bytes, changed: MutableMapping[str, int]) -> CloudEvent:
        check_identity(event)
        if len(UnknownFieldSet(event)):
            raise InvalidEvent("unknown_field", "the envelope has a field that CloudEvents 1.0 does not have")
        kind = self._registry.find(event.type)
        message = kind.parse(_protobuf_data(event))
        self._plans[kind.name](message, key, changed)
        clean = CloudEvent(
            id=event.id,
            source=event.source,
            spec_version=event.spec_version,
            type=event.type,
            binary_data=message.SerializeToString(deterministic=True),
        )
        _attributes(event, clean, key, changed)
        return clean


def check_identity(event: CloudEvent) -> None:
    """For the doors as well, so that a producer learns it at once.

    Bare digits are not taken for a phone number here: they are more often a counter. A private address in `source` is a
    machine's.

    Raises:
        InvalidEvent: "personal_data_in_identity".
    """
    for span in find(event.id):
        if not (span.kind == Kind.PHONE and event.id[span.start : span.end].isdigit()):
            raise InvalidEvent(
                "personal_data_in_identity", f"the id holds what looks like personal data ({span.kind}); use a UUID"
            )
    _check_source(event.source)


@lru_cache(maxsize=4096)
def _check_source(source: str) -> None:
    """Producers have few sources and many events."""
    for span in find(source):
        said = source[span.start : span.end]
        if not (span.kind == Kind.PHONE and said.isdigit()) and not (span.kind == Kind.IP and _is_private(said)):
            raise InvalidEvent("personal_data_in_identity", f"the source holds what looks like personal data ({span.kind})")


def _is_private(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


def _protobuf_data(event: CloudEvent) -> bytes:
    match event.WhichOneof("data"):
        case "binary_data":
            return event.binary_data
        case "proto_data" if event.proto_data.type_url == _PROTO_DATA_PREFIX + event.type:
            return event.proto_data.value
        case None:
            return b""
        case _:
            raise InvalidEvent("undecodable", "the data must be Protobuf bytes of the event's type")


def _attributes(event: CloudEvent, clean: CloudEvent, key: bytes, changed: MutableMapping[str, int]) -> None:
    for name, value in event.attributes.items():
        which = value.WhichOneof("attr")
        if which is None or find(name):
            raise InvalidEvent("bad_attribute", "an attribute has no value that is known here, or a name that is personal")
        if which in _TEXTS:
            text = getattr(value, which)
            redacted = _attribute_text(name, text, key)
            if redacted != text:
                changed["attribute"] = changed.get("attribute", 0) + 1
            setattr(clean.attributes[name], which, redacted)
        elif which == "ce_bytes":
            try:
                clean.attributes[name].ce_bytes = mask(value.ce_bytes.decode()).encode()
            except UnicodeDecodeError as exc:
                raise InvalidEvent("bad_attribute", "an attribute of bytes that are no text can't be judged") from exc
        elif which == "ce_timestamp":
            clean.attributes[name].ce_timestamp.CopyFrom(value.ce_timestamp)
        else:
            setattr(clean.attributes[name], which, getattr(value, which))


def _attribute_text(name: str, text: str, key: bytes) -> str:
    shape = _SHAPES.get(name)
    if shape is not None and shape.fullmatch(text):
        return text
    if name in _PSEUDONYMISED:
        return subject_pseudonym(key, text) if find(text) else text
    return mask(text)
