"""A trace as a waterfall, whichever way its backend writes it."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.journey import SPANS_MAX, Span, journey, one_each, spans_of
from telemetry.tracing import Trace

TRACE = Trace(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0, "/shop", "e-1")
SECOND_NS = 1_000_000_000


def span(hop: str, began: float, ended: float, parent: str = "", *, id: str = "", event_id: str = "e-1", **said: str) -> Span:
    attributes = {f"spillway.{name}": value for name, value in said.items()}
    return Span(
        trace_id=TRACE.hex_id,
        span_id=id or f"{TRACE.span_id(hop):016x}",
        parent_id=f"{TRACE.span_id(parent):016x}" if parent else "",
        name=hop,
        hop=hop,
        began_ns=int(began * SECOND_NS),
        ended_ns=int(ended * SECOND_NS),
        attributes={"cloudevents.event_id": event_id, **attributes},
        resource={},
    )


def waits(*spans: Span) -> dict[str, float]:
    return {bar.span.hop: bar.waited_seconds for bar in journey(TRACE.hex_id, spans).bars}


def test_the_order_is_the_paths_and_not_the_clocks() -> None:
    """The redactor's clock is ten seconds behind; parts stand below their hop."""
    found = journey(
        TRACE.hex_id,
        [span("lake", 3, 4, "redactor"), span("redactor", -8, -7, "grpc-door"), span("grpc-door/write", 1, 2, "grpc-door"),
         span("sdk", 0, 3), span("grpc-door", 1, 2, "sdk")],
    )  # fmt: skip
    assert [("sdk", 0), ("grpc-door", 0), ("grpc-door/write", 1), ("redactor", 0), ("lake", 0)] == [
        (bar.span.hop, bar.depth) for bar in found.bars
    ]


def test_a_wait_is_from_the_parents_end_and_never_negative() -> None:
    assert {"grpc-door": 0.0, "redactor": 3.0, "lake": 0.0} == waits(
        span("grpc-door", 1, 2), span("redactor", 5, 6, "grpc-door"), span("lake", 4, 7, "redactor")
    )


def test_a_wait_that_the_hop_measured_itself_is_taken_for_true() -> None:
    assert 0.5 == waits(span("grpc-door", 1, 2), span("redactor", 5, 6, "grpc-door", waited_seconds="0.5"))["redactor"]


@pytest.mark.parametrize("said", ["inf", "-inf", "nan", "soon", "", "-3", "1e400"])
def test_a_wait_that_is_no_number_is_none(said: str) -> None:
    assert {"redactor": 0.0} == waits(span("redactor", 5, 6, waited_seconds=said))


def test_shares_are_of_the_whole_trace_with_the_first_wait() -> None:
    first, last = journey(TRACE.hex_id, [span("grpc-door", 2, 3, waited_seconds="2"), span("redactor", 6, 10, "grpc-door")]).bars
    assert (0.2, 0.3, 0.0) == (first.from_share, first.to_share, first.waited_from_share)
    assert (0.6, 1.0, 0.3) == (last.from_share, last.to_share, last.waited_from_share)


def test_of_spans_with_one_id_the_last_that_was_not_rebuilt_stands() -> None:
    rebuilt, first, again = span("redactor", 9, 9.5, rebuilt="true"), span("redactor", 1, 2), span("redactor", 3, 5)
    for order in ([rebuilt, first, again], [again, rebuilt, first], [first, again, rebuilt]):
        assert [again] == one_each(order)
    assert [rebuilt] == one_each([rebuilt])


def test_spans_beyond_the_bound_are_counted() -> None:
    many = [span("redactor", number, number + 1, id=f"{number:016x}") for number in range(SPANS_MAX + 7)]
    found = journey(TRACE.hex_id, many)
    assert (SPANS_MAX, 7) == (len(found.bars), found.left_out)


def test_a_trace_without_spans_is_empty() -> None:
    assert (0.0, ()) == (journey(TRACE.hex_id, []).seconds, journey(TRACE.hex_id, []).bars)


OTLP: dict[str, Any] = {
    "resourceSpans": [{
        "resource": {"attributes": [{"key": "service.instance.id", "value": {"stringValue": "redactor-1"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": TRACE.hex_id, "spanId": "00F067AA0BA902B7", "parentSpanId": "", "name": "process events", "kind": 5,
            "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1250000000",
            "attributes": [
                {"key": "spillway.hop", "value": {"stringValue": "redactor"}},
                {"key": "spillway.rebuilt", "value": {"boolValue": True}},
                {"key": "spillway.final", "value": {"stringValue": "dead_letter"}},
                {"key": "cloudevents.event_source", "value": {"stringValue": "/shop"}},
                {"key": "of.many", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}},
            ],
            "status": {"code": 2, "message": "poison"},
            "links": [{"traceId": "ab" * 16, "spanId": "cd" * 8}],
        }]}],
    }],
}  # fmt: skip


def test_otlp_json_is_read_with_ids_in_hexadecimal_and_enumerations_as_numbers() -> None:
    (found,) = spans_of(OTLP)
    assert (TRACE.hex_id, "00f067aa0ba902b7", "redactor", "redactor-1") == (
        found.trace_id, found.span_id, found.hop, found.worker,
    )  # fmt: skip
    assert (0.25, True, "poison", True, "dead_letter") == (
        found.seconds, found.failed, found.error, found.rebuilt, found.final,
    )  # fmt: skip
    assert ("1, b", (("ab" * 16, "cd" * 8),)) == (found.attributes["of.many"], found.links)


def test_tempos_json_is_read_alike_with_ids_in_base64_and_enumerations_as_names() -> None:
    raw = OTLP["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    tempo = {
        **raw,
        "traceId": base64.b64encode(bytes.fromhex(TRACE.hex_id)).decode(),
        "spanId": base64.b64encode(bytes.fromhex("00f067aa0ba902b7")).decode(),
        "links": [
            {"traceId": base64.b64encode(b"\xab" * 16).decode(), "spanId": base64.b64encode(b"\xcd" * 8).decode()}
        ],
        "status": {"code": "STATUS_CODE_ERROR", "message": "poison"},
        "kind": 5,
    }  # fmt: skip
    batch = {**OTLP["resourceSpans"][0], "scopeSpans": [{"spans": [tempo]}]}
    assert spans_of(OTLP) == spans_of({"batches": [batch]}) == spans_of({"trace": {"resourceSpans": [batch]}})


@given(st.lists(st.tuples(st.sampled_from(["sdk", "grpc-door", "redactor", "lake", "?", ""]), st.floats(-9, 9), st.floats(0, 9))))
def test_every_bar_lies_on_the_axis_however_the_clocks_go(times: list[tuple[str, float, float]]) -> None:
    spans = [
        span(hop, began, began + took, "grpc-door", id=f"{place:016x}", event_id=f"e-{place % 2}")
        for place, (hop, began, took) in enumerate(times)
    ]
    for bar in journey(TRACE.hex_id, spans).bars:
        assert 0.0 <= bar.waited_from_share <= bar.from_share <= bar.to_share <= 1.0
        assert bar.waited_seconds >= 0.0
