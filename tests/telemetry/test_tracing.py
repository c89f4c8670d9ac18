"""Traces join without a word between hops, and cost nothing where nobody asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from telemetry.hops import BY_NAME, HOPS, expected_hops
from telemetry.personal_data import mask
from telemetry.settings import TelemetrySettings
from telemetry.tracing import LINKS_MAX, Keeping, Trace, Tracer, parse_traceparent, trace_of

CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = CONTEXT[:-1] + "0"
MALFORMED = [
    "", "x", CONTEXT[:-1], CONTEXT + "0", "ff" + CONTEXT[2:], CONTEXT.replace("-", "_"), CONTEXT.replace("4bf9", "4bfg"),
    f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
]  # fmt: skip


def _tracer(spans: list[ReadableSpan], **settings: Any) -> Tracer:
    return Tracer("redactor", "redactor-1", spans.append, TelemetrySettings(**settings))


def test_a_context_is_read_as_w3c_writes_it() -> None:
    assert (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True) == parse_traceparent(CONTEXT)
    # A later version may have more fields.
    assert parse_traceparent(CONTEXT) == parse_traceparent("01" + CONTEXT[2:] + "-what-comes-next")


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_context_is_as_if_there_were_none(text: str) -> None:
    assert parse_traceparent(text) is None
    assert trace_of("/s", "1") == trace_of("/s", "1", text)
    assert Keeping(trace_share=1.0).trace("/s", "1", text) == Keeping(trace_share=1.0).trace("/s", "1")


@given(st.text(max_size=80))
def test_no_text_breaks_the_decision(text: str) -> None:
    assert isinstance(Keeping(1.0, 1.0).trace("/s", text, text), Trace)


def test_the_share_that_is_kept_is_the_share_that_was_asked_for() -> None:
    keeping = Keeping(trace_share=0.05)
    kept = sum(keeping.trace("/s", f"event-{number}") is not None for number in range(100_000))
    # Binomial: 5,000 expected, deviation 69; six of them.
    assert abs(kept - 5_000) < 420


def test_every_hop_decides_the_same_whatever_it_knows_besides() -> None:
    """The SDK stamps a context on what it keeps; the doors see that context, or none where there was no SDK."""
    keeping = Keeping(trace_share=0.05)
    for number in range(2_000):
        at_sender = keeping.trace("/s", str(number))
        carried = at_sender.traceparent("sdk") if at_sender else ""
        at_door = keeping.trace("/s", str(number), carried)
        assert (at_sender is None) == (at_door is None)
        if at_sender and at_door:
            assert (at_sender.trace_id, at_sender.span_id("sdk")) == (at_door.trace_id, at_door.producer_span_id)


@pytest.mark.parametrize(
    ("traceparent", "canary", "shares", "kept"),
    [
        (CONTEXT, False, (0.0, 1.0), True),
        (CONTEXT, False, (1.0, 0.0), False),
        (UNSAMPLED, False, (1.0, 0.0), True),
        (UNSAMPLED, False, (0.0, 1.0), False),
        (UNSAMPLED, True, (0.0, 0.0), True),
        ("", True, (0.0, 0.0), True),
        ("", False, (0.0, 1.0), False),
    ],
)
def test_the_flag_the_mark_and_the_shares_decide(traceparent: str, canary: bool, shares: tuple[float, float], kept: bool) -> None:
    assert kept == (Keeping(*shares).trace("/s", "1", traceparent, canary) is not None)


def test_a_tracer_that_is_off_keeps_nothing_and_emits_nothing() -> None:
    tracer = Tracer.off()
    assert tracer.trace("/s", "1", CONTEXT, canary=True) is None
    assert not tracer.may_emit_unplanned()
    assert tracer.batch("process events", "redactor", 1, 2) is None
    tracer.event(trace_of("/s", "1"), "redactor", 1, 2)


def test_two_processes_make_one_tree_and_the_same_work_twice_makes_the_same_spans() -> None:
    spans: list[ReadableSpan] = []
    tracer = _tracer(spans)
    trace = trace_of("/s", "1", CONTEXT)
    for _ in range(2):
        tracer.event(trace, "http-door", 10, 20)
        tracer.event(trace_of("/s", "1", CONTEXT), "transcoder", 30, 40, parent="http-door")
    ids = [(span.context.trace_id, span.context.span_id, span.parent.span_id if span.parent else 0) for span in spans]
    door, transcoder = trace.span_id("http-door"), trace.span_id("transcoder")
    tree = [(trace.trace_id, door, 0x00F067AA0BA902B7), (trace.trace_id, transcoder, door)]
    assert tree * 2 == ids


def test_two_events_of_one_trace_have_spans_of_their_own() -> None:
    one, other = trace_of("/s", "1", CONTEXT), trace_of("/s", "2", CONTEXT)
    assert one.trace_id == other.trace_id
    assert one.span_id("redactor") != other.span_id("redactor")
    # Nothing is glued together: ("/s", "12") is not ("/s1", "2").
    assert trace_of("/s", "12", CONTEXT).span_id("redactor") != trace_of("/s1", "2", CONTEXT).span_id("redactor")


def test_a_batch_and_its_events_link_to_each_other_up_to_the_bound() -> None:
    spans: list[ReadableSpan] = []
    tracer = _tracer(spans)
    members = [trace_of("/s", str(number)) for number in range(LINKS_MAX + 5)]
    at = tracer.batch("process events", "redactor", 10, 20, members=members)
    tracer.event(members[0], "redactor", 10, 20, parent="grpc-door", batch=at)
    batch, event = spans
    assert [one.span_id("redactor") for one in members[:LINKS_MAX]] == [link.context.span_id for link in batch.links]
    assert [(batch.context.trace_id, batch.context.span_id)] == [
        (link.context.trace_id, link.context.span_id) for link in event.links
    ]
    assert LINKS_MAX + 5 == (batch.attributes or {})["spillway.batch.traced_events"]


def test_an_error_is_told_and_no_personal_data_with_it() -> None:
    spans: list[ReadableSpan] = []
    tracer = Tracer("door", "door-1", spans.append, scrub=lambda text: text.replace("ann@example.com", "[email]"))
    trace = trace_of("/s", "ann@example.com")
    tracer.event(trace, "grpc-door", 1, 2, error="bad: ann@example.com", attributes={"note": "ann@example.com"})
    assert "ann@example.com" not in spans[0].to_json()
    assert "bad: [email]" == spans[0].status.description


@given(st.one_of(st.uuids().map(str), st.text(max_size=40), st.sampled_from(["ann@example.com", "+49 30 1234567"])))
def test_values_are_scrubbed_whenever_they_come(text: str) -> None:
    spans: list[ReadableSpan] = []
    tracer = Tracer("door", "door-1", spans.append, scrub=mask)
    for _ in range(2):
        tracer.event(trace_of("/s", "1"), "grpc-door", 1, 2, attributes={"note": text})
    assert [mask(text)] * 2 == [(span.attributes or {})["note"] for span in spans]


def test_a_flood_of_errors_is_traced_up_to_its_budget() -> None:
    now = [0.0]
    tracer = Tracer("door", "", lambda _: None, TelemetrySettings(unplanned_spans_per_second_max=50.0), clock=lambda: now[0])
    assert 50 == sum(tracer.may_emit_unplanned() for _ in range(10_000))
    now[0] += 0.5
    assert 25 == sum(tracer.may_emit_unplanned() for _ in range(10_000))


def test_hops_are_one_path_in_order() -> None:
    seen: set[str] = set()
    for hop in HOPS:
        assert set(hop.after) <= seen, f"{hop.name} comes before what it comes after"
        seen.add(hop.name)
    assert len(BY_NAME) == len(HOPS)
    assert expected_hops(http=False, sdk=True) - expected_hops(http=False, sdk=False) == {"sdk"}
    assert {"http-door", "transcoder"} == expected_hops(http=True, sdk=False) - expected_hops(http=False, sdk=False)
