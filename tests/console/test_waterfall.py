"""One trace as an engineer on call reads it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.console.waterfall import VALUE_CHARS_MAX, head, longest, missing, scale_of, waterfall
from telemetry.journey import Journey, Span, journey
from tests.console.parsed import Parsed

SECOND = 1_000_000_000
BEGAN = 1_795_640_758 * SECOND
TRACE = "ab" * 16
SOON, LATE = BEGAN / SECOND + 30, BEGAN / SECOND + 3600


def span(hop: str, began: float, seconds: float, parent: str = "", **attributes: str) -> Span:
    """Seconds since the trace began. The span's id is its hop's."""
    said = {
        "spillway.hop": hop,
        "cloudevents.event_id": "e1",
        **{key.replace("__", "."): value for key, value in attributes.items()},
    }
    return Span(
        TRACE, f"{hop}-{said['cloudevents.event_id']}", f"{parent}-{said['cloudevents.event_id']}" if parent else "", f"do {hop}",
        hop, BEGAN + int(began * SECOND), BEGAN + int((began + seconds) * SECOND), said, {"service.instance.id": f"{hop}-1"},
    )  # fmt: skip


def usual(**changed: Span) -> list[Span]:
    spans = {
        "sdk": span("sdk", 0, 0.03),
        "grpc-door": span("grpc-door", 0.005, 0.02, "sdk"),
        "redactor": span("redactor", 0.2, 0.02, "grpc-door", spillway__waited_seconds="0.15"),
        "backup": span("backup", 0.005, 60.0, "grpc-door"),
        "lake": span("lake", 1.2, 2.0, "redactor", spillway__waited_seconds="0.98"),
        "rds": span("rds", 1.2, 1.0, "redactor", spillway__waited_seconds="0.98"),
        "redis": span("redis", 1.2, 0.5, "redactor", spillway__waited_seconds="0.98"),
    }
    return list((spans | changed).values())


def told(spans: list[Span]) -> Journey:
    return journey(TRACE, spans)


def failed(one: Span, why: str) -> Span:
    return replace(one, failed=True, error=why, attributes={**one.attributes, "spillway.final": "dead_letter"})


def words(markup: str) -> str:
    return " ".join(Parsed(markup.replace("<", " <")).text.split())


# -- the scale


def test_the_backup_does_not_decide_the_scale() -> None:
    scale = scale_of(told(usual()))
    assert (True, pytest.approx(3.2 * 1.02)) == (scale.cut, scale.seconds)


def test_a_backup_that_is_quick_is_shown_whole() -> None:
    scale = scale_of(told(usual(backup=span("backup", 0, 4.0))))
    assert (False, 4.0) == (scale.cut, scale.seconds)


def test_a_trace_of_the_backup_alone_is_shown_whole() -> None:
    assert (False, 60.0) == (lambda scale: (scale.cut, scale.seconds))(scale_of(told([span("backup", 0, 60.0)])))


def test_a_bar_that_is_cut_says_its_length_and_points_onward() -> None:
    drawn = waterfall(told(usual()))
    assert "took 1 min" not in drawn
    assert "backup, took 60 s" in drawn
    assert 1 == drawn.count("M0 -9 L9 0 L0 9 Z")


@given(st.floats(1e-6, 1e6))
def test_ticks_are_few_and_their_words_differ(seconds: float) -> None:
    scale = replace(scale_of(told([span("lake", 0, 1.0)])), seconds=seconds)
    texts = [scale.words(tick) for tick in scale.ticks]
    assert 1 <= len(texts) <= 7
    assert len(texts) == len(set(texts))


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5)), min_size=1, max_size=8))
def test_no_bar_leaves_the_axis(times: list[tuple[float, float, float]]) -> None:
    hops = ("sdk", "grpc-door", "redactor", "backup", "lake", "rds", "redis", "transcoder")
    spans = [span(hop, *at[:2], spillway__waited_seconds=str(at[2])) for hop, at in zip(hops, times, strict=False)]
    drawn = waterfall(told(spans))
    shares = [(float(x), float(w)) for x, w in re.findall(r'<rect x="(-?[\d.]+)%" width="(-?[\d.]+)%"', drawn)]
    assert len(shares) >= len(spans)
    assert [] == [(x, wide) for x, wide in shares if not (0 <= x <= 100 and 0 <= wide and x + wide <= 100.002)]


# -- what is said


def test_the_longest_step_is_named_of_work_and_of_waiting() -> None:
    slow = longest(told(usual(lake=span("lake", 1.2, 95.0, "redactor"))))
    stuck = longest(told(usual(redactor=span("redactor", 9.2, 0.02, "grpc-door", spillway__waited_seconds="9.1"))))
    assert ("95 s at work in lake", "9.1 s waiting before redactor") == (slow and slow.words, stuck and stuck.words)
    assert 1 == waterfall(told(usual())).count(" longest</em>")


def test_a_trace_of_one_span_has_no_longest_step() -> None:
    assert longest(told([span("lake", 0, 1.0)])) is None


def test_a_whole_trace_lacks_nothing() -> None:
    assert {} == missing(told(usual()))


def test_hops_without_a_span_are_named_in_the_order_of_the_path() -> None:
    spans = [each for each in usual() if each.hop not in ("redis", "redactor")]
    assert {"e1": ["redactor", "redis"]} == missing(told(spans))
    assert "No span of Redactor, Redis. They may be on their way." in words(head(told(spans), SOON))
    assert "They were lost on the way to the store" in words(head(told(spans), LATE))


def test_after_an_early_end_nothing_is_missing() -> None:
    spans = [*usual()[:2], failed(span("redactor", 0.2, 0.02, "grpc-door"), "rule")]
    assert {} == missing(told(spans))
    assert "redactor failed: rule" in words(head(told(spans), LATE))
    assert "Ended as dead letter" in words(head(told(spans), LATE))


def test_an_event_whose_spans_are_not_all_shown_lacks_nothing() -> None:
    events = [[span(each.hop, 0, 1.0, cloudevents__event_id=f"e{index:03}") for each in usual()] for index in range(100)]
    found = told([each for event in events for each in event])
    assert (200, {}) == (found.left_out, missing(found))
    assert "500 and 200 not shown" in words(head(found, LATE))


def test_each_event_of_a_trace_is_asked_after_by_itself() -> None:
    second = [span(each.hop, 5, 1.0, cloudevents__event_id="e2") for each in usual() if each.hop != "lake"]
    found = told([*usual(), *second])
    assert {"e2": ["lake"]} == missing(found)
    assert "No span for 1 of 2 events, the first lacks Lake." in words(head(found, LATE))
    assert ["Event e1", "Event e2"] == re.findall(r"<h3[^>]*>([^<]+)", waterfall(found))


def test_a_line_says_hop_work_and_wait_to_those_who_cannot_see_it() -> None:
    drawn = waterfall(told(usual(lake=failed(span("lake", 1.2, 2.0, "redactor", spillway__waited_seconds="0.98"), "too wide"))))
    assert 'aria-label="lake, took 2 s, waited 980 ms, failed: too wide"' in drawn


def test_what_a_page_should_not_hold_is_cut_and_says_so() -> None:
    drawn = waterfall(told([span("lake", 0, 1.0, note="n" * 5000)]))
    assert "n" * VALUE_CHARS_MAX + "… and 4000 more" in drawn


HOSTILE = "</dd><script>alert(1)</script>\"' onmouseover='x"


def test_nothing_of_a_span_becomes_markup() -> None:
    one = span(
        "lake", 0, 1.0, note=HOSTILE, cloudevents__event_id=HOSTILE, spillway__tenant=HOSTILE, cloudevents__event_type=HOSTILE
    )
    hostile = replace(one, hop=HOSTILE, name=HOSTILE, span_id=HOSTILE, error=HOSTILE, failed=True, links=((HOSTILE, HOSTILE),),
                      attributes={**one.attributes, HOSTILE: HOSTILE, "spillway.final": HOSTILE, "spillway.reason": HOSTILE},
                      resource={"service.instance.id": HOSTILE})  # fmt: skip
    found = told([hostile, *usual()])
    drawn = Parsed(head(found, LATE) + waterfall(found))
    assert [] == drawn.dangers()
    assert drawn.text.count(HOSTILE) >= 10
