"""The span of an event at its sender: who gets one, whose child it is, and what it says of the event's fate."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, StatusCode

from pipeline.doors.accept import Limits
from pipeline.errors import SpillwayError, Unavailable
from pipeline.event import text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.sdk import spans as sdk_spans
from pipeline.sdk.answers import Accepted
from pipeline.sdk.client import Client, ClientOptions, Semantics
from pipeline.sdk.envelope import CANARY
from pipeline.sdk.fates import Counts
from pipeline.sdk.figures import figures_of
from pipeline.sdk.report import Kept, Report
from pipeline.sdk.segment import Entry
from pipeline.sdk.sender import SenderOptions
from pipeline.sdk.transport import MemoryTransport, accept_all
from pipeline.tracing import kept
from telemetry.hops import BY_NAME
from telemetry.metrics import TELEMETRY_ITEMS
from telemetry.settings import TelemetrySettings
from telemetry.tracing import CANARY_ATTRIBUTE, trace_of
from tests.sdk.simulated import event
from tests.sdk.watched import Watched, identity, said

PAGE = PageViewed(page_url="https://example.com/")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CALLER_TRACE, CALLER_SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
REJECTED = EventStatus.EVENT_STATUS_REJECTED


def down(events: Sequence[CloudEvent]) -> PublishResponse:
    raise Unavailable("nobody is there")


def reject_all(events: Sequence[CloudEvent]) -> PublishResponse:
    no = [Rejection(index=i, status=REJECTED, reason="rule", message="page_url breaks min_len") for i in range(len(events))]
    return PublishResponse(statuses=[REJECTED] * len(events), rejections=no)


def test_words_are_those_of_the_rest_of_the_pipeline() -> None:
    assert CANARY_ATTRIBUTE == CANARY
    assert "sdk" == BY_NAME[sdk_spans.HOP].name
    assert (Limits().event_bytes, Limits().attributes) == (sdk_spans.EVENT_BYTES_MAX, sdk_spans.ATTRIBUTES_MAX)


# -- who gets a span, and whose child it is


def test_an_event_that_nobody_traces_has_no_span_and_goes_out_without_a_context() -> None:
    watched, transport = Watched(), MemoryTransport()
    with watched.client(transport) as client:
        client.send(PAGE, id="a")
    assert [] == watched.spans
    assert "" == text_attribute(transport.acknowledged["a"], "traceparent")


def test_a_canary_is_the_root_of_a_trace_of_its_own_and_the_door_is_told() -> None:
    watched, transport = Watched(), MemoryTransport()
    with watched.client(transport) as client:
        client.send(PAGE, id="a", canary="probe-1")
    (span,) = watched.spans
    trace = trace_of("/test", "a")
    assert (trace.trace_id, trace.span_id("sdk"), 0) == identity(span)
    carried = transport.acknowledged["a"]
    assert ("probe-1", trace.traceparent("sdk")) == (text_attribute(carried, "canary"), text_attribute(carried, "traceparent"))


def test_a_traced_caller_is_the_parent_and_the_next_hop_is_this_ones_child() -> None:
    watched, transport = Watched(), MemoryTransport()
    with watched.client(transport) as client:
        client.send(PAGE, id="a", traceparent=CALLER)
    (span,) = watched.spans
    here = trace_of("/test", "a", CALLER).span_id("sdk")
    assert (CALLER_TRACE, here, CALLER_SPAN) == identity(span)
    at_door = kept(watched.tracer, transport.acknowledged["a"])
    assert at_door is not None
    assert (CALLER_TRACE, here) == (at_door.trace_id, at_door.producer_span_id)


def test_what_is_no_context_is_as_if_there_were_none() -> None:
    watched, transport = Watched(), MemoryTransport()
    with watched.client(transport) as client:
        client.send(PAGE, id="a", traceparent="nonsense", canary="probe-1")
        client.send(PAGE, id="b", traceparent="nonsense")
    assert [trace_of("/test", "a").trace_id] == [identity(span)[0] for span in watched.spans]
    assert "nonsense" == text_attribute(transport.acknowledged["b"], "traceparent")


def test_a_complete_event_goes_out_as_it_is_and_its_span_is_the_callers_child() -> None:
    watched, sent = Watched(), []
    transport = MemoryTransport(lambda events: (sent.extend(events), accept_all(events))[1])
    complete = event("a")
    complete.attributes["traceparent"].ce_string = CALLER
    marked = event("b")
    marked.attributes["canary"].ce_boolean = True
    before = [complete.SerializeToString(deterministic=True), marked.SerializeToString(deterministic=True)]
    with watched.client(transport) as client:
        client.send_event(complete)
        client.send_event(marked)
        client.send_event(event("c"))
    assert before == [one.SerializeToString(deterministic=True) for one in sent[:2]]
    assert [(CALLER_TRACE, CALLER_SPAN), (trace_of("/test", "b").trace_id, 0)] == [
        (identity(span)[0], identity(span)[2]) for span in watched.spans
    ]


def test_an_event_that_was_stamped_before_is_not_its_own_parent() -> None:
    """A program that hands on what another one's SDK has made."""
    watched = Watched()
    trace = trace_of("/test", "a")
    stamped = event("a")
    stamped.attributes["traceparent"].ce_string = trace.traceparent("sdk")
    with watched.client(MemoryTransport()) as client:
        client.send_event(stamped)
    assert [(trace.trace_id, trace.span_id("sdk"), 0)] == [identity(span) for span in watched.spans]


def test_sent_again_by_the_application_an_event_has_the_same_bytes_and_the_same_span() -> None:
    """TRAPS 3."""
    watched, transport = Watched(), MemoryTransport()
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    with watched.client(transport) as client:
        for _ in range(2):
            client.send(PAGE, id="a", time=moment, traceparent=CALLER, canary="probe-1").result(5.0)
    first, second = (one.SerializeToString(deterministic=True) for attempt in transport.attempts for one in attempt)
    assert first == second
    assert identity(watched.spans[0]) == identity(watched.spans[1])


@pytest.mark.parametrize(
    "made_full",
    [
        lambda client: client.send(PAGE, id="a", canary="p", subject="s", extensions={f"x{n}": "y" for n in range(60)}),
        lambda client: client.send(PageViewed(page_url="x" * 261_980), id="a", canary="p"),
    ],
    ids=["attributes", "bytes"],
)
def test_an_event_at_the_doors_limit_is_not_pushed_over_it(made_full: Callable[[Client], object]) -> None:
    watched, transport = Watched(), MemoryTransport()
    with watched.client(transport) as client:
        made_full(client)
    sent = transport.acknowledged["a"]
    assert len(sent.attributes) <= Limits().attributes
    assert sent.ByteSize() <= Limits().event_bytes
    assert len(sent.attributes) == Limits().attributes or sent.ByteSize() > Limits().event_bytes - sdk_spans.STAMP_BYTES
    assert ("", 1) == (text_attribute(sent, "traceparent"), len(watched.spans))


SHARES = st.sampled_from([0.0, 0.3, 1.0])
CONTEXTS = st.one_of(
    st.just(""),
    st.text(max_size=60),
    st.builds(
        lambda trace, span, flags: f"00-{trace:032x}-{span:016x}-{flags:02x}",
        st.one_of(st.integers(0, 2**128 - 1), st.integers(0, 2**32 - 1)),
        st.integers(0, 2**64 - 1),
        st.integers(0, 255),
    ),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, CONTEXTS, st.sampled_from(["", "probe"]), SHARES, SHARES, st.booleans())
def test_the_sender_traces_exactly_what_the_door_traces_of_the_bytes_that_were_sent(
    source: str, id: str, traceparent: str, canary: str, trace_share: float, flagged_share: float, complete: bool
) -> None:
    """Whatever the shares are, in one trace; and where the event could be stamped, this span is the door's parent."""
    watched = Watched(TelemetrySettings(trace_share=trace_share, flagged_share=flagged_share))
    transport = MemoryTransport()
    with watched.client(transport) as client:
        if complete:
            whole = CloudEvent(id=id, source=source, spec_version="1.0", type="t", binary_data=b"x")
            for name, value in (("traceparent", traceparent), ("canary", canary)):
                if value:
                    whole.attributes[name].ce_string = value
            client.send_event(whole)
        else:
            client.send(PAGE, id=id, source=source, traceparent=traceparent, canary=canary)
    at_door = kept(watched.tracer, CloudEvent.FromString(transport.acknowledged[id].SerializeToString()))
    assert (at_door is not None) == bool(watched.spans)
    if at_door is not None:
        trace_id, span_id, parent_id = identity(watched.spans[0])
        assert (trace_id, span_id) == (at_door.trace_id, at_door.span_id("sdk"))
        assert parent_id != span_id
        if not complete and flagged_share == 1.0:
            assert span_id == at_door.producer_span_id


def test_of_the_events_with_ids_of_ours_the_wanted_share_is_traced() -> None:
    watched, transport = Watched(TelemetrySettings(trace_share=0.1)), MemoryTransport()
    with watched.client(transport) as client:
        for _ in range(5_000):
            client.send(PAGE)
    at_door = sum(kept(watched.tracer, one) is not None for one in transport.acknowledged.values())
    assert at_door == len(watched.spans)
    # Binomial: 500 expected, deviation 21; six of them.
    assert abs(at_door - 500) < 128


# -- what it says


def test_an_accepted_event_says_how_often_it_was_sent_and_how_long_it_took() -> None:
    fates = iter([Unavailable("time-out"), Unavailable("time-out")])

    def third_time(events: Sequence[CloudEvent]) -> PublishResponse:
        for fate in fates:
            raise fate
        return accept_all(events)

    watched = Watched()
    with watched.client(MemoryTransport(third_time)) as client:
        client.send(PAGE, id="a", canary="probe-1")
    (span,) = watched.spans
    assert {
        "spillway.hop": "sdk",
        "cloudevents.event_id": "a",
        "cloudevents.event_source": "/test",
        "cloudevents.event_type": "spillway.events.v1.PageViewed",
        "messaging.system": "aws_kinesis",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.message.id": "a",
        "spillway.outcome": "accepted",
        "spillway.attempts": 3,
    } == dict(said(span))
    assert (SpanKind.PRODUCER, StatusCode.UNSET) == (span.kind, span.status.status_code)
    assert 0 < (span.start_time or 0) < (span.end_time or 0)


def test_attempts_add_up_over_the_calls_of_a_client_with_a_spool(tmp_path: Path) -> None:
    up = threading.Event()
    transport = MemoryTransport(lambda events: accept_all(events) if up.is_set() else down(events))
    watched = Watched()
    options = ClientOptions(sender=SenderOptions(publish_seconds_max=0.02))
    with watched.client(transport, spool=tmp_path, options=options) as client:
        delivery = client.send(PAGE, id="a", canary="probe-1")
        while len(transport.attempts) < 12:
            assert not delivery.wait(0.01)
        up.set()
        delivery.result(10.0)
    assert [len(transport.attempts)] == [said(span)["spillway.attempts"] for span in watched.spans]


def test_a_rejected_event_has_its_last_span_here_with_the_reason() -> None:
    watched = Watched()
    with watched.client(MemoryTransport(reject_all)) as client:
        client.send(PAGE, id="asked for", canary="probe-1")
        client.send(PAGE, id="not asked for")
    for id, unplanned in (("asked for", None), ("not asked for", True)):
        span = watched.by_id()[id]
        assert ("rejected", "rejected", "rule", "rule", unplanned, None) == tuple(
            said(span).get(name)
            for name in (
                "spillway.outcome", "spillway.final", "spillway.reason", "error.type", "spillway.unplanned", "spillway.rebuilt",
            )
        )  # fmt: skip
        assert (StatusCode.ERROR, "rule: page_url breaks min_len") == (span.status.status_code, span.status.description)


def test_an_event_that_is_given_up_on_says_why() -> None:
    watched = Watched()
    options = ClientOptions(sender=SenderOptions(delivery_seconds_max=0.05))
    with watched.client(MemoryTransport(down), options=options) as client:
        client.send(PAGE, id="a").wait(10.0)
    (span,) = watched.spans
    assert ("given_up", "given_up", "PublishIncomplete", True) == tuple(
        said(span)[name] for name in ("spillway.outcome", "spillway.final", "spillway.reason", "spillway.unplanned")
    )
    assert said(span)["spillway.attempts"] > 1


def test_what_is_left_at_close_says_that_the_client_was_closed() -> None:
    watched = Watched()
    client = watched.client(MemoryTransport(down))
    client.send(PAGE, id="a", canary="probe-1")
    with pytest.raises(SpillwayError):
        client.close(0.05)
    (span,) = watched.spans
    assert ("given_up", "ClientClosed", None) == tuple(
        said(span).get(name) for name in ("spillway.outcome", "spillway.reason", "spillway.attempts")
    )


def test_at_most_once_an_event_whose_fate_is_not_known_is_no_last_word() -> None:
    watched = Watched()
    with watched.client(MemoryTransport(down), semantics=Semantics.AT_MOST_ONCE) as client:
        client.send(PAGE, id="a")
    (span,) = watched.spans
    assert ("unclear", None, True) == tuple(
        said(span).get(name) for name in ("spillway.outcome", "spillway.final", "spillway.rebuilt")
    )


def test_an_event_for_which_there_is_no_room_has_a_span_that_says_so() -> None:
    watched = Watched()
    options = ClientOptions(buffer_bytes_max=1, on_full="raise")
    client = watched.client(MemoryTransport(), options=options)
    for id, canary in (("asked for", "probe-1"), ("not asked for", "")):
        with pytest.raises(SpillwayError):
            client.send(PAGE, id=id, canary=canary)
    client.close()
    assert {"asked for": None, "not asked for": True} == {
        id: said(span).get("spillway.unplanned") for id, span in watched.by_id().items()
    }
    assert [("not_taken", "not_taken", "BufferFull", 0)] * 2 == [
        tuple(said(s)[n] for n in ("spillway.outcome", "spillway.final", "spillway.reason", "spillway.attempts"))
        for s in watched.spans
    ]


def test_a_slow_event_has_a_span_though_nobody_asked_within_the_bounds() -> None:
    watched = Watched(TelemetrySettings(trace_share=0.0, slow_seconds=0.02, unplanned_spans_per_second_max=1000.0))
    gate = threading.Event()

    def slow(events: Sequence[CloudEvent]) -> PublishResponse:
        assert gate.wait(10.0)
        return accept_all(events)

    with watched.client(MemoryTransport(slow)) as client:
        first = client.send(PAGE, id="a")
        assert not first.wait(0.1)
        gate.set()
        first.result(10.0)
    (span,) = watched.spans
    assert ("accepted", True, True, True) == tuple(
        said(span)[name] for name in ("spillway.outcome", "spillway.slow", "spillway.unplanned", "spillway.rebuilt")
    )
    assert (span.end_time or 0) - (span.start_time or 0) > 0.02 * 1e9
    assert identity(span)[0] == trace_of("/test", "a").trace_id


def test_a_flood_of_rejections_is_traced_up_to_its_bound() -> None:
    watched = Watched(TelemetrySettings(trace_share=0.0, unplanned_spans_per_second_max=5.0))
    began = time.monotonic()
    with watched.client(MemoryTransport(reject_all)) as client:
        for number in range(500):
            client.send(PAGE, id=str(number))
    assert 5 <= len(watched.spans) <= 5 + 5 * (time.monotonic() - began) < 500


def test_personal_data_in_an_id_does_not_reach_a_span() -> None:
    watched = Watched()
    with watched.client(MemoryTransport()) as client:
        client.send(PAGE, id="ann@example.com", canary="probe-1")
    assert "ann@example.com" not in watched.spans[0].to_json()


# -- a spool, and what an earlier process left in it


def test_an_earlier_processs_traced_events_have_their_span_from_the_process_that_got_the_answer(tmp_path: Path) -> None:
    """TRAPS 3: and their bytes are the same."""
    first, second = Watched(), Watched()
    before = MemoryTransport(down)
    client = first.client(before, spool=tmp_path)
    client.send(PAGE, id="a", traceparent=CALLER)
    client.send(PAGE, id="b")
    client.close(0.05)
    assert [] == first.spans
    transport = MemoryTransport()
    with second.client(transport, spool=tmp_path) as again:
        again.send(PAGE, id="c", canary="probe-1")
    assert ["a", "b", "c"] == list(transport.acknowledged)
    assert {"a": True, "c": None} == {id: said(span).get("spillway.recovered") for id, span in second.by_id().items()}
    here = trace_of("/test", "a", CALLER).span_id("sdk")
    # Above it nothing is known: the event carries this hop as the door's parent.
    assert (CALLER_TRACE, here, 0) == identity(second.by_id()["a"])
    carried = [text_attribute(one[0], "traceparent") for one in (before.attempts[0], transport.attempts[0])]
    assert [f"00-{CALLER_TRACE:032x}-{here:016x}-01"] * 2 == carried


# -- never in the way


def test_of_too_many_traced_events_on_their_way_the_newest_have_no_span_and_are_counted() -> None:
    watched = Watched()
    report = Report(sdk_spans.SdkSpans(watched.tracer), figures_of(watched.metrics), kept_max=3)
    entries = [Entry(number, event(str(number)).SerializeToString()) for number in range(1, 6)]
    for entry in entries:
        report.held(entry.number, time.monotonic(), Kept(trace_of("/test", str(entry.number)), 1, "t"))
    report.finished(entries, [Accepted()] * 5, {}, Counts(accepted=5))
    assert ["1", "2", "3"] == list(watched.by_id())
    assert 2 == watched.metrics.value(TELEMETRY_ITEMS, signal="spans", outcome="dropped")


def test_a_fault_of_telemetry_stops_no_event() -> None:
    def broken(span: object) -> None:
        raise RuntimeError("telemetry's own fault")

    watched, transport = Watched(), MemoryTransport()
    watched.tracer._ship = broken
    with watched.client(transport) as client:
        for number in range(3):
            client.send(PAGE, id=str(number), canary="probe-1").result(5.0)
    assert ["0", "1", "2"] == list(transport.acknowledged)


def test_without_a_tracer_nothing_is_stamped() -> None:
    watched, transport = Watched(), MemoryTransport()
    watched.telemetry = replace(watched.telemetry, tracer=None)
    with watched.client(transport) as client:
        client.send(PAGE, id="a", canary="probe-1")
    assert ("probe-1", "") == tuple(text_attribute(transport.acknowledged["a"], name) for name in ("canary", "traceparent"))
