"""The contract is not Python's alone: a Node client keeps the same rules against a real gRPC server."""

import uuid
from collections.abc import Iterator, Sequence

import grpc
import pytest

from pipeline.event import event_time_micros, subject
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.sdk.transport import accept_all
from tests.clients.node_client import require_node, send
from tests.sdk.collector import API_KEY, SmallCollector, serving

PAGE = {
    "type": "spillway.events.v1.PageViewed",
    "subject": "user-1",
    "data": {"page_url": "https://example.com/", "dwell_millis": 7},
}


@pytest.fixture(autouse=True)
def _node() -> None:
    require_node()


@pytest.fixture
def collector() -> Iterator[SmallCollector]:
    with serving(SmallCollector()) as collector:
        yield collector


def test_an_event_arrives_as_it_was_meant(collector: SmallCollector) -> None:
    code, answers, complaint = send(collector.target, API_KEY, [{**PAGE, "time": "2013-01-01T05:15:00Z"}])
    (event,) = collector.events
    assert (0, [[event.id, "accepted"]], "") == (code, answers, complaint)
    assert ("spillway.events.v1.PageViewed", "user-1", "1.0") == (event.type, subject(event), event.spec_version)
    assert PageViewed(page_url="https://example.com/", dwell_millis=7) == PageViewed.FromString(event.binary_data)
    assert 1_357_017_300_000_000 == event_time_micros(event)
    assert 7 == uuid.UUID(event.id).version


def test_each_event_has_its_own_answer_and_only_the_unanswered_are_sent_again(collector: SmallCollector) -> None:
    """TRAPS 1, 3."""
    attempts: list[list[str]] = []

    def answer(events: Sequence[CloudEvent]) -> PublishResponse:
        attempts.append([event.id for event in events])
        if len(attempts) > 1:
            return accept_all(events)
        no = Rejection(index=1, status=EventStatus.EVENT_STATUS_REJECTED, reason="rule", message="page_url breaks min_len")
        statuses = (EventStatus.EVENT_STATUS_ACCEPTED, EventStatus.EVENT_STATUS_REJECTED, EventStatus.EVENT_STATUS_RETRY)
        return PublishResponse(statuses=statuses, rejections=[no])

    collector.answer = answer
    code, answers, _ = send(collector.target, API_KEY, [{**PAGE, "id": id} for id in ("a", "b", "c")])
    assert [["a", "accepted"], ["b", "rejected", "rule", "page_url breaks min_len"], ["c", "accepted"]] == answers
    assert [["a", "b", "c"], ["c"]] == attempts
    assert 1 == code


def test_another_number_of_statuses_acknowledges_nothing(collector: SmallCollector) -> None:
    """TRAPS 1, 5."""
    counts = iter((0, 3))
    collector.answer = lambda events: PublishResponse(statuses=[EventStatus.EVENT_STATUS_ACCEPTED] * next(counts, len(events)))
    code, answers, _ = send(collector.target, API_KEY, [{**PAGE, "id": "a"}, {**PAGE, "id": "b"}])
    assert (0, [["a", "accepted"], ["b", "accepted"]]) == (code, answers)
    assert ["a", "b"] * 3 == collector.ids


def test_a_collector_that_comes_back_gets_the_same_ids(collector: SmallCollector) -> None:
    """TRAPS 3, 4."""
    left = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]

    def abort(context: grpc.ServicerContext) -> None:
        if left:
            context.abort(left.pop(0), "not now")

    collector.abort = abort
    code, answers, _ = send(collector.target, API_KEY, [{**PAGE, "id": "a"}])
    assert (0, [["a", "accepted"]], ["a"]) == (code, answers, collector.ids)


def test_without_an_answer_by_the_deadline_the_event_is_named_unanswered(collector: SmallCollector) -> None:
    collector.answer = lambda events: PublishResponse()
    code, answers, _ = send(collector.target, API_KEY, [{**PAGE, "id": "a"}], deadline_millis=300)
    assert (1, ["a", "unanswered"]) == (code, answers[0][:2])


def test_a_wrong_key_is_said_plainly(collector: SmallCollector) -> None:
    code, answers, complaint = send(collector.target, "wrong", [PAGE])
    assert (1, []) == (code, answers)
    assert "UNAUTHENTICATED" in complaint


def test_broken_lines_are_named_and_the_others_sent(collector: SmallCollector) -> None:
    lines = ["{not json", {**PAGE, "type": "no.such.Type"}, {**PAGE, "data": {"nonsense": 1}}, {**PAGE, "id": "good"}]
    code, answers, _ = send(collector.target, API_KEY, lines)
    assert [["line 1", "not sent"], ["line 2", "not sent"], ["line 3", "not sent"], ["good", "accepted"]] == [
        a[:2] for a in answers
    ]
    assert (1, ["good"]) == (code, collector.ids)
