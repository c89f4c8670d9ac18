"""One batch of JSON events to Protobuf events. Pure.

Rules. Only `data` and `datacontenttype` change: id, source, type and every other attribute survive as they are. Unknown fields
are refused, not ignored (TRAPS 18). One event's fault is its own; it is named by its place in the batch (TRAPS 9). The encoding
is deterministic: transcoding again gives the same bytes, or a retry would look like a conflict (TRAPS 22).
"""

from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from pipeline.errors import InvalidEvent
from pipeline.event import JSON_CONTENT_TYPE, PROTOBUF_CONTENT_TYPE, data_bytes, text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch


class Type(Protocol):
    """The part of an event type that transcoding needs."""

    def check(self, message: Message) -> None: ...
    @property
    def from_json(self) -> "FromBytes": ...
    @property
    def parse(self) -> "FromBytes": ...


class FromBytes(Protocol):
    def __call__(self, data: bytes, /) -> Message: ...


class Types(Protocol):
    def find(self, name: str) -> Type: ...


@dataclass(frozen=True, slots=True)
class Transcoded:
    """`events` by their place in the batch, and so `refused`: together they are all of it."""

    events: tuple[tuple[int, CloudEvent], ...]
    refused: tuple[tuple[int, InvalidEvent], ...]


def transcode(types: Types, batch: StoredBatch) -> Transcoded:
    events: list[tuple[int, CloudEvent]] = []
    refused: list[tuple[int, InvalidEvent]] = []
    for index, event in enumerate(batch.events):
        try:
            events.append((index, transcode_event(types, event)))
        except InvalidEvent as exc:
            refused.append((index, exc))
        except MemoryError:
            raise  # the machine's fault, not the event's
        except Exception as exc:  # noqa: BLE001 - one event that breaks the code must not take its neighbours with it; it is kept whole
            refused.append((index, InvalidEvent("poison", f"transcoding it raised {type(exc).__name__}")))
    return Transcoded(tuple(events), tuple(refused))


def transcode_event(types: Types, event: CloudEvent) -> CloudEvent:
    """Raises: InvalidEvent."""
    kind = types.find(event.type)
    message = _read(kind, event)
    kind.check(message)
    out = CloudEvent()
    out.CopyFrom(event)
    out.binary_data = message.SerializeToString(deterministic=True)
    out.attributes["datacontenttype"].ce_string = PROTOBUF_CONTENT_TYPE
    return out


def _read(kind: Type, event: CloudEvent) -> Message:
    content_type = text_attribute(event, "datacontenttype").partition(";")[0].strip().lower()
    if content_type in ("", JSON_CONTENT_TYPE) or content_type.endswith("+json"):
        return kind.from_json(data_bytes(event))
    if content_type == PROTOBUF_CONTENT_TYPE:
        return kind.parse(data_bytes(event))
    raise InvalidEvent("content_type", "datacontenttype must be application/json or application/protobuf")
