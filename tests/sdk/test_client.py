"""Sending in three lines; and whatever becomes of an event, its sender is told."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DeadlineExceeded, InvalidConfiguration, InvalidEvent, Refused, SpillwayError, Throttled, Unavailable
from pipeline.event import event_time_micros, subject, text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.sdk.answers import Accepted
from pipeline.sdk.breaker import BreakerLimits
from pipeline.sdk.client import BufferFull, Client, ClientOptions, Semantics
from pipeline.sdk.publisher import ForkedProcess, Publisher, PublisherOptions
from pipeline.sdk.rejected import RejectedFolder
from pipeline.sdk.retry import Backoff, BudgetSize
from pipeline.sdk.sender import ClientClosed, SenderOptions
from pipeline.sdk.transport import MemoryTransport, accept_all
from tests.sdk.collector import API_KEY, SmallCollector, serving

REJECTED = EventStatus.EVENT_STATUS_REJECTED
QUICK = PublisherOptions(
    backoff=Backoff(ceiling_seconds_first=0.001, ceiling_seconds_max=0.005, floor_seconds=0.0005),
    budget=BudgetSize(tokens_max=1000.0, per_second=1000.0),
    breaker=BreakerLimits(pause_seconds_first=0.005, pause_seconds_max=0.01),
)
PAGE = PageViewed(page_url="https://example.com/")


def client(transport: MemoryTransport, **settings: object) -> Client:
    semantics = settings.get("semantics", Semantics.EFFECTIVELY_ONCE)
    mode = "fire-and-forget" if semantics is Semantics.AT_MOST_ONCE else "guaranteed"
    publisher = Publisher(transport=transport, options=QUICK, delivery=mode, rng=random.Random(1))  # type: ignore[arg-type]
    return Client(publisher=publisher, **settings)  # type: ignore[arg-type]


def down(events: Sequence[CloudEvent]) -> PublishResponse:
    raise Unavailable("nobody is there")


def reject_all(events: Sequence[CloudEvent]) -> PublishResponse:
    no = [Rejection(index=i, status=REJECTED, reason="rule", message="page_url breaks min_len") for i in range(len(events))]
    return PublishResponse(statuses=[REJECTED] * len(events), rejections=no)


def test_three_lines_send_an_event() -> None:
    before = time.time_ns() // 1000
    with serving(SmallCollector()) as collector:
        client = Client(collector.target, api_key=API_KEY)
        client.send(PageViewed(page_url="https://example.com/"), subject="user-1")
        client.close()
    (event,) = collector.events
    assert ("spillway.events.v1.PageViewed", "user-1", "1.0") == (event.type, subject(event), event.spec_version)
    assert PAGE == PageViewed.FromString(event.binary_data)
    assert before <= (event_time_micros(event) or 0) <= time.time_ns() // 1000
    assert 36 == len(event.id)
    assert "guaranteed" == collector.metadata[0]["spillway-delivery"]


def test_a_type_name_and_fields_will_do() -> None:
    transport = MemoryTransport()
    with client(transport) as sending:
        delivery = sending.send("spillway.events.v1.PageViewed", {"pageUrl": "https://example.com/"}, id="mine")
        assert Accepted() == delivery.result(5.0)
    assert PAGE == PageViewed.FromString(transport.acknowledged["mine"].binary_data)


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (lambda c: c.send("no.such.Type", {}), "unknown_type"),
        (lambda c: c.send("spillway.events.v1.PageViewed", {"nonsense": 1}), "unknown_field"),
        (lambda c: c.send(PAGE, time=datetime(2026, 1, 1)), "bad_time"),
        (lambda c: c.send(PAGE, extensions={"Not-One": "x"}), "bad_extension"),
        (lambda c: c.send(PAGE, extensions={"canary": "x"}), "bad_extension"),
        (lambda c: c.send(PageViewed(page_url="x" * 5_000_000)), "too_large"),
    ],
)
def test_what_can_never_be_sent_is_an_error_at_once(send: Callable[[Client], object], reason: str) -> None:
    with client(MemoryTransport()) as sending, pytest.raises(InvalidEvent) as caught:
        send(sending)
    assert reason == caught.value.reason


def test_time_partition_key_trace_and_extensions_ride_in_the_event() -> None:
    """TRAPS 31."""
    transport = MemoryTransport()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with client(transport) as sending:
        moment = datetime(2013, 1, 1, 5, 15, tzinfo=UTC)
        sending.send(PAGE, id="a", time=moment, partition_key="p", traceparent=trace, extensions={"campaign": "spring"})
    event = transport.acknowledged["a"]
    assert 1_357_017_300_000_000 == event_time_micros(event)
    assert ["p", trace, "spring"] == [text_attribute(event, name) for name in ("partitionkey", "traceparent", "campaign")]


def test_the_current_span_of_opentelemetry_is_taken_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(is_valid=True, trace_id=0xABC, span_id=0xDEF, trace_flags=1)
    module = ModuleType("opentelemetry.trace")
    module.get_current_span = lambda: SimpleNamespace(get_span_context=lambda: context)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry", ModuleType("opentelemetry"))
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)
    transport = MemoryTransport()
    with client(transport) as sending:
        sending.send(PAGE, id="a")
    assert f"00-{0xABC:032x}-{0xDEF:016x}-01" == text_attribute(transport.acknowledged["a"], "traceparent")


def test_a_rejected_event_is_told_to_its_sender_and_to_the_callback() -> None:
    told: list[tuple[str, SpillwayError]] = []
    with client(MemoryTransport(reject_all), on_rejected=lambda event, error: told.append((event.id, error))) as sending:
        delivery = sending.send(PAGE, id="a")
        with pytest.raises(InvalidEvent, match="page_url breaks min_len") as caught:
            delivery.result(5.0)
    assert "rule" == caught.value.reason
    assert [("a", caught.value)] == told
    assert 1 == sending.stats.rejected


def test_with_a_spool_a_rejected_event_is_kept_whole(tmp_path: Path) -> None:
    with client(MemoryTransport(reject_all), spool=tmp_path) as sending:
        sending.send(PAGE, id="a")
    ((_, letter),) = RejectedFolder(tmp_path / "rejected").read()
    assert ("sdk", "rule", "a") == (letter.stage, letter.reason, letter.event.events[0].id)
    assert PAGE == PageViewed.FromString(letter.event.events[0].binary_data)
    with client(MemoryTransport(down), spool=tmp_path) as again:
        assert 0 == again.stats.recovered


def test_a_callback_that_raises_does_not_stop_the_events_of_others() -> None:
    def broken(event: CloudEvent, error: SpillwayError) -> None:
        raise RuntimeError("the callback's own fault")

    with client(MemoryTransport(reject_all), on_rejected=broken) as sending:
        for _ in range(3):
            with pytest.raises(InvalidEvent):
                sending.send(PAGE).result(5.0)


def test_a_full_buffer_is_an_error_at_once_if_that_is_wanted() -> None:
    options = ClientOptions(buffer_bytes_max=500, on_full="raise")
    sending = client(MemoryTransport(down), options=options)
    with pytest.raises(BufferFull):
        [sending.send(PAGE) for _ in range(100)]
    assert 0 < sending.stats.sent < 10
    with pytest.raises(DeadlineExceeded):
        sending.close(0.0)


def test_a_full_buffer_makes_the_sender_wait_until_there_is_room() -> None:
    gate = threading.Event()

    def slow(events: Sequence[CloudEvent]) -> PublishResponse:
        assert gate.wait(10.0)
        return accept_all(events)

    transport = MemoryTransport(slow)
    with client(transport, options=ClientOptions(buffer_bytes_max=500)) as sending:
        sender = threading.Thread(target=lambda: [sending.send(PAGE) for _ in range(50)])
        sender.start()
        assert_soon(lambda: sending.stats.pending > 0)
        assert sending.stats.sent < 10
        gate.set()
        sender.join(10.0)
    assert 50 == len(transport.acknowledged)


def test_the_collectors_hint_is_honoured_and_nothing_is_lost() -> None:
    calls: list[float] = []

    def throttling(events: Sequence[CloudEvent]) -> PublishResponse:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise Throttled("less", retry_after_seconds=0.3)
        return accept_all(events)

    with client(MemoryTransport(throttling)) as sending:
        sending.send(PAGE).result(5.0)
    assert calls[1] - calls[0] >= 0.3


def test_at_most_once_is_fire_and_forget_and_never_sends_again() -> None:
    transport = MemoryTransport(down)
    told: list[str] = []
    sending = client(transport, semantics=Semantics.AT_MOST_ONCE, on_rejected=lambda event, error: told.append(event.id))
    with sending, pytest.raises(Unavailable):
        sending.send(PAGE, id="a").result(5.0)
    assert 1 == len(transport.attempts)
    assert ("spillway-delivery", "fire-and-forget") in transport.metadata[0]
    assert ["a"] == told
    assert 1 == sending.stats.unclear


def test_at_most_once_with_a_spool_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="spool"):
        Client(semantics=Semantics.AT_MOST_ONCE, spool=tmp_path)


@pytest.mark.parametrize("semantics", [Semantics.AT_LEAST_ONCE, Semantics.EFFECTIVELY_ONCE])
def test_a_time_out_after_success_is_sent_again_with_the_same_id(semantics: Semantics) -> None:
    """TRAPS 3."""
    fates = iter([Unavailable("time-out")])

    def stored_but_not_said(events: Sequence[CloudEvent]) -> PublishResponse:
        for fate in fates:
            raise fate
        return accept_all(events)

    transport = MemoryTransport(stored_but_not_said)
    with client(transport, semantics=semantics) as sending:
        delivery = sending.send(PAGE)
        delivery.result(5.0)
    assert [[delivery.id], [delivery.id]] == [[event.id for event in attempt] for attempt in transport.attempts]


def test_nothing_is_acknowledged_before_the_collector_said_so() -> None:
    """TRAPS 5."""
    gate = threading.Event()

    def slow(events: Sequence[CloudEvent]) -> PublishResponse:
        assert gate.wait(10.0)
        return accept_all(events)

    with client(MemoryTransport(slow)) as sending:
        delivery = sending.send(PAGE)
        assert not delivery.wait(0.05)
        with pytest.raises(DeadlineExceeded):
            delivery.result(0.01)
        gate.set()
        assert Accepted() == delivery.result(5.0)


def test_without_a_spool_what_is_left_at_close_is_told_one_by_one() -> None:
    told: list[str] = []
    sending = client(MemoryTransport(down), on_rejected=lambda event, error: told.append(event.id))
    deliveries = [sending.send(PAGE, id=str(index)) for index in range(3)]
    with pytest.raises(DeadlineExceeded, match="3 events"):
        sending.close(0.05)
    assert ["0", "1", "2"] == told
    assert all(isinstance(delivery.error, ClientClosed) for delivery in deliveries)
    with pytest.raises(ClientClosed):
        sending.send(PAGE)


def test_without_a_spool_an_event_is_given_up_on_after_its_time_and_that_is_told() -> None:
    options = ClientOptions(sender=SenderOptions(delivery_seconds_max=0.1))
    told: list[str] = []
    with client(MemoryTransport(down), options=options, on_rejected=lambda event, error: told.append(event.id)) as sending:
        with pytest.raises(DeadlineExceeded):
            sending.send(PAGE, id="a").result(10.0)
        assert 1 == sending.stats.undelivered
    assert ["a"] == told


def test_with_a_spool_an_event_is_never_given_up_on(tmp_path: Path) -> None:
    """TRAPS 6: many calls to the publisher end without an answer; the event is still held, and goes with the one that gets it."""
    up = threading.Event()
    transport = MemoryTransport(lambda events: accept_all(events) if up.is_set() else down(events))
    options = ClientOptions(sender=SenderOptions(publish_seconds_max=0.02))
    with client(transport, spool=tmp_path, options=options) as sending:
        delivery = sending.send(PAGE)
        assert_soon(lambda: len(transport.attempts) > 10)
        assert not delivery.done()
        assert 1 == sending.stats.pending
        up.set()
        assert Accepted() == delivery.result(10.0)


def test_a_rejected_event_that_cannot_be_kept_stays_in_the_spool_and_holds_up_no_other(tmp_path: Path) -> None:
    """TRAPS 6: it is not let go of before it is somewhere else."""
    (tmp_path / "rejected").write_text("a file, where the folder should be")

    def first_rejected(events: Sequence[CloudEvent]) -> PublishResponse:
        accepted = EventStatus.EVENT_STATUS_ACCEPTED
        return PublishResponse(statuses=[REJECTED if event.id == "bad" else accepted for event in events])

    sending = client(MemoryTransport(first_rejected), spool=tmp_path)
    bad, good = sending.send(PAGE, id="bad"), sending.send(PAGE, id="good")
    assert Accepted() == good.result(10.0)
    assert not bad.done()
    sending.close(0.0)
    (tmp_path / "rejected").unlink()
    with client(MemoryTransport(first_rejected), spool=tmp_path) as again:
        again.flush(10.0)
    assert ["bad"] == [letter.event.events[0].id for _, letter in RejectedFolder(tmp_path / "rejected").read()]


def test_what_a_client_leaves_in_its_spool_is_sent_by_the_next_with_the_same_ids(tmp_path: Path) -> None:
    first = client(MemoryTransport(down), spool=tmp_path)
    ids = [first.send(PAGE).id for _ in range(5)]
    first.close(0.05)
    transport = MemoryTransport()
    with client(transport, spool=tmp_path) as second:
        ids.append(second.send(PAGE).id)
        second.flush(5.0)
        assert 5 == second.stats.recovered
    assert ids == list(transport.acknowledged)
    with client(transport, spool=tmp_path) as third:
        assert 0 == third.stats.recovered


def test_a_refused_key_is_told_and_a_spool_keeps_the_events_for_a_better_one(tmp_path: Path) -> None:
    with serving(SmallCollector()) as collector:
        with Client(collector.target, api_key="wrong") as sending, pytest.raises(Refused, match="unknown API key"):
            sending.send(PAGE).result(5.0)
        spooled = Client(collector.target, api_key="wrong", spool=tmp_path)
        kept = spooled.send(PAGE)
        with pytest.raises(Refused):
            kept.result(5.0)
        spooled.close(0.0)
        with Client(collector.target, api_key=API_KEY, spool=tmp_path) as better:
            better.flush(5.0)
    assert [kept.id] == collector.ids


def test_events_of_one_client_are_sent_in_order() -> None:
    """TRAPS 2: as long as nothing has to be retried."""
    transport = MemoryTransport()
    with client(transport) as sending:
        ids = [sending.send(PAGE).id for _ in range(2000)]
    assert ids == [event.id for attempt in transport.attempts for event in attempt]
    assert len(transport.attempts) < 200
    assert all(len(attempt) <= 500 for attempt in transport.attempts)


def test_a_forked_child_is_told_to_make_a_client_of_its_own() -> None:
    with client(MemoryTransport()) as sending:
        sending.send(PAGE).result(5.0)
        child = os.fork()
        if child == 0:
            try:
                sending.send(PAGE)
                os._exit(1)
            except ForkedProcess:
                sending.close()
                os._exit(0)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sending.send(PAGE).result(5.0)


FATE = st.sampled_from(["accept", "reject", "unavailable", "retry", "mismatch"])


@settings(max_examples=25, deadline=None)
@given(st.lists(FATE, max_size=8), st.integers(1, 30), st.sampled_from(list(Semantics)))
def test_every_event_has_exactly_one_fate(fates: list[str], count: int, semantics: Semantics) -> None:
    """accepted + rejected + unclear + undelivered = sent; accepted here was acknowledged there; nobody is left without word."""
    left = list(fates)

    def collector(events: Sequence[CloudEvent]) -> PublishResponse:
        match left.pop(0) if left else "accept":
            case "unavailable":
                raise Unavailable("no answer")
            case "mismatch":
                return PublishResponse()
            case "reject":
                return PublishResponse(statuses=[REJECTED] + [EventStatus.EVENT_STATUS_ACCEPTED] * (len(events) - 1))
            case "retry":
                return PublishResponse(statuses=[EventStatus.EVENT_STATUS_RETRY] * len(events))
        return accept_all(events)

    transport = MemoryTransport(collector)
    told: list[str] = []
    options = ClientOptions(sender=SenderOptions(batch_events_max=7, linger_seconds=0.0))
    with client(transport, semantics=semantics, options=options, on_rejected=lambda e, _: told.append(e.id)) as sending:
        deliveries = [sending.send(PAGE) for _ in range(count)]
    stats = sending.stats
    assert count == stats.accepted + stats.rejected + stats.unclear + stats.undelivered
    assert {d.id for d in deliveries if d.error is None} == set(transport.acknowledged)
    assert sorted(d.id for d in deliveries if d.error is not None) == sorted(told)
    assert all(delivery.done() for delivery in deliveries)


def assert_soon(condition: Callable[[], bool], deadline_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
