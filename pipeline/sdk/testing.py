"""An in-memory collector that checks events as the door does, for tests of code that sends them. Nothing leaves the process."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from pipeline.errors import InvalidEvent
from pipeline.event import event_time_micros, subject
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.schema.registry import Registry
from pipeline.sdk.client import Client
from pipeline.sdk.publisher import Publisher
from pipeline.sdk.telemetry import SdkTelemetry
from pipeline.sdk.transport import MemoryTransport

FLUSH_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event that the collector took."""

    message: Message
    event: CloudEvent

    @property
    def type(self) -> str:
        return self.event.type

    @property
    def subject(self) -> str:
        return subject(self.event)


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """One event that the collector refused: `reason` is its word, `detail` a sentence."""

    reason: str
    detail: str
    event: CloudEvent


class SpillwayEvents:
    """What was sent through `client`, each identity once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sent: dict[tuple[str, str], SentEvent] = {}
        self._rejected: list[RejectedEvent] = []
        self._rejections_seen = False
        publisher = Publisher(transport=MemoryTransport(self._collect))
        self.client = Client(
            publisher=publisher, registry=lambda: registry, on_rejected=lambda event, error: None, telemetry=SdkTelemetry()
        )

    @property
    def all(self) -> list[SentEvent]:
        """Accepted events, in the order of sending."""
        self.client.flush(FLUSH_SECONDS_MAX)
        return list(self._sent.values())

    def of_type(self, kind: type[Message] | str) -> list[SentEvent]:
        name = kind if isinstance(kind, str) else kind.DESCRIPTOR.full_name
        return [sent for sent in self.all if sent.type == name]

    @property
    def rejected(self) -> list[RejectedEvent]:
        self.client.flush(FLUSH_SECONDS_MAX)
        self._rejections_seen = True
        return list(self._rejected)

    def complaint(self) -> str:
        """What the test overlooked: rejected events at which it did not look. Empty if there is none."""
        self.client.flush(FLUSH_SECONDS_MAX)
        if not self._rejected or self._rejections_seen:
            return ""
        said = "; ".join(f"{one.event.type}: {one.reason}: {one.detail}" for one in self._rejected[:5])
        return f"{len(self._rejected)} events were rejected and the test did not look at `rejected`: {said}"

    def close(self) -> None:
        self.client.close(0.0)

    def _collect(self, events: Sequence[CloudEvent]) -> PublishResponse:
        response = PublishResponse()
        for index, event in enumerate(events):
            try:
                sent = SentEvent(self._checked(event), event)
            except InvalidEvent as exc:
                status = EventStatus.EVENT_STATUS_REJECTED
                self._rejected.append(RejectedEvent(exc.reason, str(exc), event))
                response.rejections.append(Rejection(index=index, status=status, reason=exc.reason, message=str(exc)))
            else:
                status = EventStatus.EVENT_STATUS_ACCEPTED
                self._sent.setdefault((event.source, event.id), sent)
            response.statuses.append(status)
        return response

    def _checked(self, event: CloudEvent) -> Message:
        if event_time_micros(event) is None:
            raise InvalidEvent("bad_time", "an event needs a `time` with a time zone")
        kind = self._registry.find(event.type)
        message = kind.parse(event.binary_data)
        kind.check(message)
        return message
