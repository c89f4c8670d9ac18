"""Sending probes: in at both doors, by what anybody else uses too.

gRPC goes through the SDK's publisher, which tries again within the deadline as it does for anybody; HTTP is a plain POST, once.
Each door is asked by a thread of its own; a request carries one round, and has a deadline. A probe without an answer by then is
one whose fate is not promised.
"""

import http.client
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from canary import probes
from canary.lanes import Door
from canary.probes import Probe
from pipeline.errors import SpillwayError
from pipeline.sdk.fates import Counts
from pipeline.sdk.figures import figures_of
from pipeline.sdk.publisher import REQUEST_BYTES_MAX, Accepted, Answer, Publisher, PublisherOptions, PublishIncomplete, Rejected
from telemetry.metrics import Metrics

ACCEPTED, REJECTED, UNANSWERED = "accepted", "rejected", "unanswered"
EVENTS_PATH = "/v1/events"
BATCHED = "application/cloudevents-batch+json"
ANSWER_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Sent:
    """What the door said of one probe. `why` is for people: a reason word and sentence."""

    outcome: str
    why: str = ""


class Sends(Protocol):
    door: Door

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        """One answer per probe, in order, within the deadline. Raises nothing that a door can be the reason of."""
        ...


class GrpcSender:
    door: Door = "grpc"

    def __init__(self, target: str, key: str, *, deadline_seconds: float, metrics: Metrics | None = None) -> None:
        """`metrics`: where the SDK's figures of the rounds go, so that its hop has some when nobody else sends."""
        self._deadline_seconds = deadline_seconds
        self._publisher = Publisher(target, key, options=PublisherOptions(attempt_seconds_max=deadline_seconds))
        self._told = None if metrics is None else _Told(metrics)

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        events = [probes.protobuf(probe) for probe in round]
        if self._told is None:
            return self.send_events(events)
        began = self._told.begins(events)
        sent = self.send_events(events)
        self._told.ended(began, sent)
        return sent

    def send_events(self, events: Sequence[Any]) -> list[Sent]:
        try:
            return [_sent(answer) for answer in self._publisher.publish(events, deadline_seconds=self._deadline_seconds)]
        except PublishIncomplete as exc:
            return [_sent(answer, str(exc)) for answer in exc.answers]
        except SpillwayError as exc:
            return [Sent(UNANSWERED, f"{type(exc).__name__}: {exc}")] * len(events)

    def close(self) -> None:
        self._publisher.close()
        if self._told is not None:
            self._told.close()


class _Told:
    """The SDK's figures of one round at a time, which is one request: that is all that is ever held."""

    def __init__(self, metrics: Metrics) -> None:
        self.pending_count = self.bytes_used = 0
        self.bytes_max = REQUEST_BYTES_MAX
        self._figures = figures_of(metrics)
        self._figures.opened(self)

    def begins(self, events: Sequence[Any]) -> float:
        self.pending_count, self.bytes_used = len(events), sum(event.ByteSize() for event in events)
        return time.monotonic()

    def ended(self, began: float, sent: Sequence[Sent]) -> None:
        outcomes = Counter(each.outcome for each in sent)
        self._figures.finished(Counts(accepted=outcomes[ACCEPTED], rejected=outcomes[REJECTED], given_up=outcomes[UNANSWERED]))
        self._figures.waited([(time.monotonic() - began, len(sent))], ())
        self.pending_count = self.bytes_used = 0

    def close(self) -> None:
        self._figures.closed(self)


def _sent(answer: Answer | None, otherwise: str = "") -> Sent:
    if isinstance(answer, Accepted) and answer.durable:
        return Sent(ACCEPTED)
    if isinstance(answer, Rejected):
        return Sent(REJECTED, f"{answer.reason}: {answer.message}")
    return Sent(UNANSWERED, otherwise or "no acknowledgement")


class HttpSender:
    door: Door = "http"

    def __init__(self, url: str, key: str, *, deadline_seconds: float) -> None:
        self._url, self._key, self._deadline_seconds = url, key, deadline_seconds

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        return self.send_events([probes.json_event(probe) for probe in round])

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]:
        try:
            status, body = post(self._url, self._key, orjson.dumps(list(events)), self._deadline_seconds)
        except OSError as exc:
            return [Sent(UNANSWERED, f"{type(exc).__name__}: {exc}")] * len(events)
        except http.client.HTTPException as exc:
            return [Sent(UNANSWERED, type(exc).__name__)] * len(events)
        return read_batch(status, body, len(events))

    def close(self) -> None:
        """Nothing is kept open."""


def post(url: str, key: str, body: bytes, deadline_seconds: float, **headers: str) -> tuple[int, Any]:
    """Status, and the body's JSON (None if it is none). A connection of its own: a balancer may choose another worker each
    time.
    """
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=deadline_seconds)
    try:
        said = {"authorization": f"Bearer {key}", "content-type": BATCHED, "connection": "close", **headers}
        connection.request("POST", EVENTS_PATH, body, said)
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
    try:
        return answer.status, orjson.loads(content)
    except ValueError:
        return answer.status, None


def read_batch(status: int, body: Any, count: int) -> list[Sent]:
    """An event is acknowledged by its own entry and by nothing else."""
    events = body.get("events") if isinstance(body, Mapping) else None
    if not isinstance(events, list) or len(events) != count:
        reason = body.get("reason", "") if isinstance(body, Mapping) else ""
        return [Sent(UNANSWERED, f"HTTP {status} {reason}".strip())] * count
    return [_entry(one) for one in events]


def _entry(one: Any) -> Sent:
    said = one if isinstance(one, Mapping) else {}
    why = f"{said.get('reason', '')}: {said.get('detail', '')}".strip(": ")
    outcome = {"accepted": ACCEPTED, "rejected": REJECTED}.get(str(said.get("status")), UNANSWERED)
    return Sent(outcome, why)
