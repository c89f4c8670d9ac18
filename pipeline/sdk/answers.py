"""What the collector's answer says of each event.

Rules. An event is acknowledged by its own status at its own index and by nothing else. Another number of statuses than events
acknowledges none (TRAPS 1). A status that is unknown, unspecified, or contradicted by a rejection is "send it again"; so is
QUEUED where `guaranteed` was asked for: it is not an acknowledgement (TRAPS 5). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection


@dataclass(frozen=True, slots=True)
class Accepted:
    """Acknowledged. `durable`: the stream has it; otherwise (fire-and-forget) the collector has it in memory."""

    durable: bool = True
    # Requests that carried the event, this answer's own included.
    attempts: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not stored, and will not be however often it is sent. `reason` is a word, `message` a sentence."""

    reason: str
    message: str
    attempts: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Unclear:
    """Only with fire-and-forget: the answer did not come or was no answer, and it is not sent again."""

    message: str
    attempts: int = field(default=1, compare=False)


Answer = Accepted | Rejected | Unclear


@dataclass(frozen=True, slots=True)
class Retry:
    """Not known to be stored: send it again, with the same id."""

    message: str
    retry_after_seconds: float | None = None


def read_answers(response: PublishResponse, count: int, *, guaranteed: bool) -> Sequence[Accepted | Rejected | Retry]:
    """One answer per event, in the order of the request of `count` events."""
    statuses = response.statuses
    if len(statuses) != count:
        return [Retry(f"{len(statuses)} statuses for {count} events: none is acknowledged")] * count
    if not response.rejections and all(status == EventStatus.EVENT_STATUS_ACCEPTED for status in statuses):
        return [_DURABLE] * count
    rejections = {rejection.index: rejection for rejection in response.rejections}
    return [_read(int(status), rejections.get(index), guaranteed) for index, status in enumerate(statuses)]


_DURABLE = Accepted()
_QUEUED = Accepted(durable=False)


def _read(status: int, rejection: Rejection | None, guaranteed: bool) -> Accepted | Rejected | Retry:
    if status == EventStatus.EVENT_STATUS_REJECTED:
        if rejection is None:
            return Rejected("unknown", "the collector rejected the event and gave no reason")
        return Rejected(rejection.reason or "unknown", rejection.message)
    if rejection is not None:
        hint = _seconds(rejection.retry_after) if rejection.HasField("retry_after") else None
        return Retry(rejection.message or rejection.reason or "the collector asks to send it again", hint)
    if status == EventStatus.EVENT_STATUS_ACCEPTED:
        return _DURABLE
    if status == EventStatus.EVENT_STATUS_QUEUED:
        return Retry("queued, where a guaranteed delivery was asked for") if guaranteed else _QUEUED
    return Retry(f"status {status} is no acknowledgement")


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
