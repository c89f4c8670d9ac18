"""Sending probes: in at both doors, by what anybody else uses too.

gRPC goes through the SDK's publisher, which tries again within the deadline as it does for anybody; HTTP is a plain POST, once.
Each door is asked by a thread of its own; a request carries one round, and has a deadline. A probe without an answer by then is
one whose fate is not promised.
"""

import http.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from canary import probes
from canary.lanes import Door
from canary.probes import Probe
from pipeline.errors import SpillwayError
from pipeline.sdk.publisher import Accepted, Answer, Publisher, PublisherOptions, PublishIncomplete, Rejected

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

    def __init__(self, target: str, key: str, *, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._publisher = Publisher(target, key, options=PublisherOptions(attempt_seconds_max=deadline_seconds))

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        return self.send_events([probes.protobuf(probe) for probe in round])

    def send_events(self, events: Sequence[Any]) -> list[Sent]:
        try:
            return [_sent(answer) for answer in self._publisher.publish(events, deadline_seconds=self._deadline_seconds)]
        except PublishIncomplete as exc:
            return [_sent(answer, str(exc)) for answer in exc.answers]
        except SpillwayError as exc:
            return [Sent(UNANSWERED, f"{type(exc).__name__}: {exc}")] * len(events)

    def close(self) -> None:
        self._publisher.close()


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
