"""Every event gets its answer or is named as unanswered; nothing is sent again that was answered."""

import random
from collections.abc import Callable, Sequence

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Refused, Throttled, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.sdk.breaker import BreakerState
from pipeline.sdk.publisher import (
    Accepted,
    OnBehalf,
    Publisher,
    PublisherOptions,
    PublishIncomplete,
    Rejected,
    Unclear,
    encode_batch,
)
from pipeline.sdk.transport import InvalidRequest, MemoryTransport, accept_all
from tests.sdk.simulated import SimulatedClock, event

ACCEPTED, REJECTED, RETRY, QUEUED = (
    EventStatus.EVENT_STATUS_ACCEPTED,
    EventStatus.EVENT_STATUS_REJECTED,
    EventStatus.EVENT_STATUS_RETRY,
    EventStatus.EVENT_STATUS_QUEUED,
)
Script = Callable[[Sequence[CloudEvent]], PublishResponse]


def publisher(transport: MemoryTransport, clock: SimulatedClock | None = None, **options: object) -> Publisher:
    delivery = options.pop("delivery", "guaranteed")
    return Publisher(
        api_key="spw_k_s",
        transport=transport,
        clock=clock or SimulatedClock(),
        rng=random.Random(7),
        delivery=delivery,  # type: ignore[arg-type]
        options=PublisherOptions(**options),  # type: ignore[arg-type]
    )


def scripted(*steps: Script | Exception) -> Script:
    """One step per attempt; the last one repeats."""
    left = list(steps)

    def answer(events: Sequence[CloudEvent]) -> PublishResponse:
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, Exception):
            raise step
        return step(events)

    return answer


def statuses(*values: EventStatus.ValueType, rejections: Sequence[Rejection] = ()) -> Script:
    return lambda events: PublishResponse(statuses=values, rejections=rejections)


def attempted_ids(transport: MemoryTransport) -> list[list[str]]:
    return [[e.id for e in attempt] for attempt in transport.attempts]


def test_all_accepted_in_one_request() -> None:
    transport = MemoryTransport()
    assert [Accepted(), Accepted()] == publisher(transport).publish([event("a"), event("b")], deadline_seconds=1.0)
    assert [["a", "b"]] == attempted_ids(transport)


def test_no_events_is_no_request() -> None:
    transport = MemoryTransport()
    assert [] == publisher(transport).publish([], deadline_seconds=1.0)
    assert [] == transport.attempts


def test_only_events_to_be_retried_are_sent_again() -> None:
    """TRAPS 1."""
    no = Rejection(index=1, status=REJECTED, reason="rule", message="page_url: too short")
    transport = MemoryTransport(scripted(statuses(ACCEPTED, REJECTED, RETRY, rejections=[no]), accept_all))
    answers = publisher(transport).publish([event("a"), event("b"), event("c")], deadline_seconds=60.0)
    assert [Accepted(), Rejected("rule", "page_url: too short"), Accepted()] == answers
    assert [["a", "b", "c"], ["c"]] == attempted_ids(transport)


def test_a_retry_after_an_unclear_answer_carries_the_same_id_and_bytes() -> None:
    """TRAPS 3: a time-out after success writes twice; the same id lets every exit keep one."""
    transport = MemoryTransport(scripted(Unavailable("deadline exceeded"), accept_all))
    publisher(transport).publish([event("a", b"payload")], deadline_seconds=60.0)
    first, second = transport.attempts
    assert [e.SerializeToString() for e in first] == [e.SerializeToString() for e in second]
    assert "a" == second[0].id


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_statuses_acknowledges_nothing(count: int) -> None:
    """TRAPS 1, 5: the whole request is sent again."""
    transport = MemoryTransport(scripted(statuses(*[ACCEPTED] * count), accept_all))
    answers = publisher(transport).publish([event("a"), event("b")], deadline_seconds=60.0)
    assert [Accepted(), Accepted()] == answers
    assert [["a", "b"], ["a", "b"]] == attempted_ids(transport)


@pytest.mark.parametrize(
    "unclear",
    [
        statuses(QUEUED),
        statuses(EventStatus.EVENT_STATUS_UNSPECIFIED),
        lambda events: PublishResponse.FromString(b"\x0a\x01\x63"),  # status 99
        statuses(ACCEPTED, rejections=[Rejection(index=0, reason="contradiction")]),
    ],
)
def test_what_is_not_plainly_accepted_is_not_an_acknowledgement(unclear: Script) -> None:
    """TRAPS 5."""
    transport = MemoryTransport(scripted(unclear, accept_all))
    assert [Accepted()] == publisher(transport).publish([event("a")], deadline_seconds=60.0)
    assert [["a"], ["a"]] == attempted_ids(transport)


def test_failure_is_not_turned_into_success_by_a_retry() -> None:
    """TRAPS 6: the second attempt holds the events of the first, not an emptied buffer that succeeds."""
    transport = MemoryTransport(scripted(Unavailable("broken"), Unavailable("broken"), accept_all))
    publisher(transport).publish([event("a"), event("b")], deadline_seconds=60.0)
    assert [["a", "b"]] * 3 == attempted_ids(transport)


def test_the_deadline_names_what_is_answered_and_what_is_not() -> None:
    clock = SimulatedClock()
    transport = MemoryTransport(scripted(statuses(ACCEPTED, RETRY), Unavailable("down")))
    with pytest.raises(PublishIncomplete) as caught:
        publisher(transport, clock).publish([event("a"), event("b")], deadline_seconds=3.0)
    assert (Accepted(), None) == caught.value.answers
    assert clock.now <= 1003.0 + 1e-9


def test_an_answer_says_how_often_its_event_was_sent() -> None:
    """And the deadline does of what has no answer."""
    transport = MemoryTransport(scripted(Unavailable("down"), statuses(ACCEPTED, RETRY, RETRY), statuses(REJECTED, RETRY)))
    with pytest.raises(PublishIncomplete) as caught:
        publisher(transport).publish([event("a"), event("b"), event("c")], deadline_seconds=3.0)
    answers = caught.value.answers
    assert (2, 3, None) == tuple(None if answer is None else answer.attempts for answer in answers)
    assert (2, 3, sum("c" in attempt for attempt in attempted_ids(transport))) == caught.value.attempts


def test_what_was_never_sent_counts_no_attempt() -> None:
    transport = MemoryTransport()
    (answer,) = publisher(transport, request_bytes_max=100).publish([event("a", b"x" * 200)], deadline_seconds=1.0)
    assert ("too_large", 0) == (answer.reason, answer.attempts)  # type: ignore[union-attr]


def test_no_attempt_is_given_more_time_than_the_deadline_leaves() -> None:
    clock = SimulatedClock()
    transport = MemoryTransport(scripted(Unavailable("down")))
    with pytest.raises(PublishIncomplete):
        publisher(transport, clock, attempt_seconds_max=2.0).publish([event("a")], deadline_seconds=5.0)
    assert 2.0 == transport.timeouts_seconds[0]
    assert all(timeout <= 2.0 for timeout in transport.timeouts_seconds)


def test_the_collectors_hint_is_waited_for() -> None:
    clock = SimulatedClock()
    transport = MemoryTransport(scripted(Throttled("less", retry_after_seconds=7.0), accept_all))
    publisher(transport, clock).publish([event("a")], deadline_seconds=60.0)
    assert clock.now >= 1007.0


def test_the_hint_of_a_single_event_is_waited_for() -> None:
    clock = SimulatedClock()
    hint = Rejection(index=0, status=RETRY, reason="throttled", retry_after=Duration(seconds=4))
    transport = MemoryTransport(scripted(statuses(RETRY, rejections=[hint]), accept_all))
    publisher(transport, clock).publish([event("a")], deadline_seconds=60.0)
    assert clock.now >= 1004.0


def test_throttling_does_not_open_the_breaker_and_silence_does() -> None:
    """TRAPS 4: throttled is not down."""
    throttled = publisher(MemoryTransport(scripted(Throttled("less"))))
    with pytest.raises(PublishIncomplete):
        throttled.publish([event("a")], deadline_seconds=60.0)
    assert BreakerState.CLOSED == throttled.breaker.state
    silent = publisher(MemoryTransport(scripted(Unavailable("no answer"))))
    with pytest.raises(PublishIncomplete):
        silent.publish([event("a")], deadline_seconds=60.0)
    assert BreakerState.CLOSED != silent.breaker.state


def test_retries_of_all_calls_together_stay_within_the_budget() -> None:
    """TRAPS 4: 100 calls against a throttled collector for a simulated 100 s."""
    clock = SimulatedClock()
    transport = MemoryTransport(scripted(Throttled("less")))
    shared = publisher(transport, clock)
    for _ in range(10):
        with pytest.raises(PublishIncomplete):
            shared.publish([event("a")], deadline_seconds=10.0)
    budget = shared.options.budget
    assert len(transport.attempts) <= 10 + budget.tokens_max + budget.per_second * 100.0


def test_every_failed_attempt_advances_time() -> None:
    """TRAPS 7: the simulated clock refuses a wait of nothing."""
    clock = SimulatedClock()
    with pytest.raises(PublishIncomplete):
        publisher(MemoryTransport(scripted(statuses(RETRY))), clock).publish([event("a")], deadline_seconds=30.0)
    assert all(slept > 0.0 for slept in clock.slept)


def test_a_refused_key_is_not_retried() -> None:
    transport = MemoryTransport(scripted(Refused("unknown key")))
    with pytest.raises(Refused):
        publisher(transport).publish([event("a")], deadline_seconds=60.0)
    assert 1 == len(transport.attempts)


def test_the_one_event_that_makes_a_request_malformed_is_found_and_its_neighbours_go_through() -> None:
    """TRAPS 9."""

    def picky(events: Sequence[CloudEvent]) -> PublishResponse:
        if any(e.id == "bad" for e in events):
            raise InvalidRequest("malformed")
        return accept_all(events)

    events = [event(f"e{i}") for i in range(20)] + [event("bad")] + [event(f"f{i}") for i in range(20)]
    answers = publisher(MemoryTransport(picky)).publish(events, deadline_seconds=600.0)
    assert [Accepted()] * 20 + [Rejected("invalid_request", "malformed")] + [Accepted()] * 20 == answers


def test_an_event_larger_than_a_request_is_rejected_alone() -> None:
    """TRAPS 9."""
    transport = MemoryTransport()
    answers = publisher(transport, request_bytes_max=1000).publish([event("a"), event("b", b"x" * 2000)], deadline_seconds=1.0)
    assert Accepted() == answers[0]
    assert isinstance(answers[1], Rejected)
    assert "too_large" == answers[1].reason
    assert [["a"]] == attempted_ids(transport)


def test_fire_and_forget_sends_nothing_again_whose_fate_is_unclear() -> None:
    transport = MemoryTransport(scripted(Unavailable("time-out"), accept_all))
    answers = publisher(transport, delivery="fire-and-forget").publish([event("a")], deadline_seconds=60.0)
    assert [Unclear("time-out")] == answers
    assert 1 == len(transport.attempts)


def test_fire_and_forget_takes_queued_for_an_answer_and_throttling_for_a_clear_no() -> None:
    transport = MemoryTransport(scripted(Throttled("less"), statuses(QUEUED)))
    answers = publisher(transport, delivery="fire-and-forget").publish([event("a")], deadline_seconds=60.0)
    assert [Accepted(durable=False)] == answers


def test_metadata_names_key_delivery_and_on_whose_behalf() -> None:
    transport = MemoryTransport()
    publisher(transport).publish([event("a")], on_behalf=OnBehalf("acme", 1_700_000_000_000_000, "http"), deadline_seconds=1.0)
    assert [
        (
            ("authorization", "Bearer spw_k_s"),
            ("spillway-delivery", "guaranteed"),
            ("spillway-tenant", "acme"),
            ("spillway-accepted-at-micros", "1700000000000000"),
            ("spillway-door", "http"),
        )
    ] == transport.metadata


def test_a_closed_publisher_says_so() -> None:
    closed = publisher(MemoryTransport(scripted(Unavailable("down"))))
    closed.close()
    with pytest.raises(Unavailable, match="closed"):
        closed.publish([event("a")], deadline_seconds=60.0)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_batch_joined_from_bytes_is_the_batch(payloads: list[bytes]) -> None:
    events = [event(str(index), data) for index, data in enumerate(payloads)]
    assert CloudEventBatch(events=events) == CloudEventBatch.FromString(encode_batch([e.SerializeToString() for e in events]))


FATES = st.sampled_from(["accept", "retry", "reject", "unavailable", "throttled", "mismatch"])


@given(st.lists(FATES, max_size=12), st.integers(1, 12), st.integers(1, 5))
def test_whatever_happens_the_answers_are_what_the_collector_said(fates: list[str], count: int, request_events_max: int) -> None:
    """Accepted here was accepted there; every event gets an answer once the collector is well; none is sent after its answer."""
    left, decided = list(fates), set[str]()

    def collector(events: Sequence[CloudEvent]) -> PublishResponse:
        assert not decided & {e.id for e in events}, "sent again after its answer"
        fate = left.pop(0) if left else "accept"
        if fate == "unavailable":
            raise Unavailable("no answer")
        if fate == "throttled":
            raise Throttled("less")
        if fate == "mismatch":
            return PublishResponse(statuses=[ACCEPTED] * (len(events) + 1))
        first = {"accept": ACCEPTED, "retry": RETRY, "reject": REJECTED}[fate]
        response = PublishResponse(statuses=[first] + [ACCEPTED] * (len(events) - 1))
        decided.update(e.id for e, status in zip(events, response.statuses, strict=True) if status != RETRY)
        return response

    transport = MemoryTransport(collector)
    events = [event(str(index)) for index in range(count)]
    answers = publisher(transport, request_events_max=request_events_max).publish(events, deadline_seconds=10_000.0)
    accepted = {e.id for e, answer in zip(events, answers, strict=True) if isinstance(answer, Accepted)}
    assert set(transport.acknowledged) == accepted
    assert len(events) == len(answers)
