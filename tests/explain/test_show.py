"""What the terminal shows: every row of a block, and nothing that an event could smuggle in."""

import io
import json
import random

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from rich.console import Console

from pipeline.explain.as_json import trace_json
from pipeline.explain.fate import fates
from pipeline.explain.show import BAR_CHARS, EVENTS_MAX, Axis, bar, plain, show_trace
from pipeline.explain.told import Batch, LastSign, Linked, Told
from telemetry.store_client import Line
from tests.explain.trail import BEGAN_NS, SEQUENCE_NUMBER, Trail, at_ns, batch_of, spans_from

HOSTILE = "[red]e\x1b[2J\x1b]0;owned\x07[/]\u202e:smile:"
HOSTILE_SHOWN = "[red]e\\x1b[2J\\x1b]0;owned\\x07[/]\\u202e:smile:"


def shown(told: Told, width: int = 240, terminal: bool = False) -> str:
    out = io.StringIO()
    show_trace(Console(file=out, width=width, highlight=False, force_terminal=terminal, color_system=None), told)
    return out.getvalue()


def told_of(*trails: Trail, now: float = 100.0, lines: tuple[Line, ...] = (), signs: tuple[LastSign, ...] = ()) -> Told:
    spans = [span for trail in trails for span in trail.spans]
    return Told((trails[0].trace.hex_id,), tuple(fates(spans, at_ns(now))), lines=lines, last_signs=signs)


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a block's rows by their first one."""
    table = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {cells[0]: cells[1:] for cells in table if len(cells) > 1}


def test_a_block_has_a_row_for_each_hop_with_worker_times_bar_and_outcome() -> None:
    found = rows(shown(told_of(Trail().by_sdk().redacted().loaded())))
    assert ["worker", "waited", "took", "outcome"] == found["hop"]
    # Of 28 cells for 2 s: the redactor's are from 0.3 s (4.2) to 0.4 s (5.6), and it waited since 0.09 s (1.3).
    assert ["redactor-1", "210 ms", "100 ms", "···██", "passed"] == found["redactor"]
    # From 1.4 s (19.6) to the end, and waited since 0.4 s (5.6).
    assert ["lake-1", "1.00 s", "600 ms", "·" * 14 + "█" * 8, "loaded"] == found["lake"]
    assert ["waits for backup (the event's last sign was 99.9 s ago)"] == found["backup"]


def test_a_write_is_shown_with_its_shard_sequence_number_and_attempts() -> None:
    trail = Trail().by_sdk().written("grpc-door", 0.03, 0.085, "events", attempts=3)
    assert f"written events shardId-000000000001 {SEQUENCE_NUMBER}, 3 attempts" in shown(told_of(trail))


def test_a_narrow_terminal_shows_the_end_of_a_sequence_number() -> None:
    text = shown(told_of(Trail().by_sdk()), width=110)
    assert (True, False) == (f"…{SEQUENCE_NUMBER[-8:]}" in text, SEQUENCE_NUMBER[:20] in text)


def test_a_command_to_paste_is_never_broken_up() -> None:
    trail = Trail().says("redactor", 0.0, 0.1, final="dead_letter", reason="x", dead_letter__key="dead-letters/" + "k" * 200)
    assert f"`spillway dlq redrive --key dead-letters/{'k' * 200}`" in shown(told_of(trail), width=60, terminal=True)


def test_what_was_rebuilt_is_marked_in_its_bar_and_in_words() -> None:
    trail = Trail().says("grpc-door", 0.0, 1.0, rebuilt=True)
    trail.says("redactor", 1.0, 2.0, "grpc-door", error="poison", final="dead_letter", reason="poison")
    found = rows(shown(told_of(trail)))
    assert ["▒" * 14, "accepted, rebuilt"] == found["grpc-door"][-2:]
    assert ["█" * 14, "dead letter: poison"] == found["redactor"][-2:]
    assert ["says nothing: it was not to be traced"] == found["lake"]


def test_hops_that_an_ended_event_did_not_reach_have_a_row_too() -> None:
    trail = Trail().says("http-door", 0.0, 0.1, error="no_type", final="rejected", reason="no_type")
    found = rows(shown(told_of(trail)))
    assert ["never reached"] == found["transcoder"] == found["lake"]
    assert "rejected: no_type" == found["http-door"][-1]


def test_what_is_waited_for_is_followed_by_that_hops_own_last_sign() -> None:
    sign = LastSign("redactor", "The last span of any event at redactor is 3.00 s old.")
    text = shown(told_of(Trail().by_sdk(), now=2.0, signs=(sign,)))
    assert [
        "Waits for redactor since 1.90 s; up to 32.0 s is within limits.",
        "The last span of any event at redactor is 3.00 s old.",
        "`spillway status` says whether redactor is up; `spillway explain e-1` asks every place itself.",
    ] == [line.strip() for line in text.splitlines()][-5:-2]


def test_clocks_that_differ_are_said_in_the_row() -> None:
    trail = Trail().says("grpc-door", 0.0, 0.1, door__status="accepted").says("redactor", -0.5, -0.4, "grpc-door")
    assert "passed, began 500 ms before the hop before it: clocks differ, or it was sent twice" in shown(told_of(trail))


@pytest.mark.parametrize("terminal", [False, True])
def test_no_event_can_speak_to_the_terminal(terminal: bool) -> None:
    """Its id, source, reason, worker and log fields are plain text: no markup, no escape, no reversed writing."""
    trail = Trail(HOSTILE, HOSTILE).says(
        "http-door", 0.0, 0.1, error=HOSTILE, worker=HOSTILE, final="rejected", reason=HOSTILE, tenant=HOSTILE
    )
    line = Line(BEGAN_NS, "warning", HOSTILE, "http-door", HOSTILE, "", {HOSTILE: HOSTILE})
    batch = Batch(trail.spans[0], (Linked("ab" * 16, HOSTILE, HOSTILE, HOSTILE),))
    told = told_of(trail, lines=(line,), signs=(LastSign("http-door", HOSTILE),))
    told = Told(told.trace_ids, told.fates, (batch,), (trail.spans[0],), told.lines, "", told.last_signs)
    text = shown(told, 900, terminal)
    for char in ("\x07", "\u202e", "]0;owned\x07"):
        assert char not in text
    # What is left of escapes is rich's own, bold and the like: none that moves, clears or names.
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    for said in (
        f"Event {HOSTILE_SHOWN}, source {HOSTILE_SHOWN}",
        f"rejected: {HOSTILE_SHOWN}",
        f"{HOSTILE_SHOWN}={HOSTILE_SHOWN}",
    ):
        assert terminal or said in text
    assert HOSTILE in json.loads(json.dumps(trace_json(told)))["events"][0]["id"]


def test_a_text_from_outside_has_an_end() -> None:
    assert "x" * 5 + "…" == plain("x" * 1_000_000, 5)


def test_where_the_terminal_speaks_no_unicode_bars_do_not_either() -> None:
    fate = told_of(Trail().by_sdk().redacted().loaded()).fates[0]
    lake = fate.step("lake")
    assert lake is not None
    assert " " * 6 + "." * 14 + "#" * 8 == bar(lake, Axis.of(fate), "ascii")


def test_a_bar_beyond_the_axis_ends_in_an_arrow_and_an_instant_has_a_cell() -> None:
    trail = Trail().by_sdk().redacted().loaded().backed_up().says("rds", 2.0, 2.0, "redactor")
    fate = told_of(trail).fates[0]
    bars = {step.hop: bar(step, Axis.of(fate)) for step in fate.steps}
    # The backup is written a minute later; the axis ends with the last exit.
    assert (BAR_CHARS, "→") == (len(bars["backup"]), bars["backup"][-1])
    assert "█" == bars["rds"][-1]
    assert {True} == {len(each) <= BAR_CHARS for each in bars.values()}


def test_of_many_events_those_that_are_not_delivered_come_first_and_the_rest_is_counted() -> None:
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    good = [Trail(f"good-{number}", traceparent=context).by_sdk().redacted().loaded() for number in range(EVENTS_MAX + 4)]
    bad = Trail("bad", traceparent=context).by_sdk()
    mixed = [*good, bad]
    random.Random(1).shuffle(mixed)
    text = shown(told_of(*mixed))
    heads = [line.split(",")[0] for line in text.splitlines() if line.startswith("Event ")]
    assert ("Event bad", EVENTS_MAX) == (heads[0], len(heads))
    assert "25 events in all: 24 delivered, 1 waits. Those that are not shown are in --json." in text
    assert 25 == len(trace_json(told_of(*mixed))["events"])


def test_a_batch_is_shown_with_what_became_of_its_events() -> None:
    emitted: list[ReadableSpan] = []
    trail = Trail().by_sdk()
    batch_of(emitted, "redactor", 0.3, 0.4, [trail.trace], error="Unavailable: KMS is away", attributes={
        "messaging.batch.message_count": 500, "spillway.batch.records": 3, "spillway.waited_seconds": 0.25,
    })  # fmt: skip
    linked = Linked(trail.trace.hex_id, "e-1", "?", "waits for redactor")
    text = shown(Told(("cd" * 16,), batches=(Batch(spans_from(emitted)[0], (linked,)),)))
    assert [
        "Batch process redactor at redactor",
        "  began 2026-11-25 05:00:00.300 UTC, took 100 ms, redactor-1, waited 250 ms, 500 messages, 3 records",
        "  failed: Unavailable: KMS is away",
    ] == text.splitlines()[1:4]
    assert [trail.trace.hex_id, "?", "waits for redactor"] == rows(text)["e-1"]


def test_lines_are_shown_with_level_worker_and_fields() -> None:
    line = Line(BEGAN_NS + 250_000_000, "warning", "dead letter", "transcoder", "transcoder-1", "", {"reason": "x", "part": "t"})
    text = shown(told_of(Trail().by_sdk(), lines=(line,)))
    assert text.splitlines()[-1].split("  ")[:4] == [
        "2026-11-25 05:00:00.250", "warning", "transcoder-1", "dead letter reason=x",
    ]  # fmt: skip


def test_lines_that_are_not_known_are_not_called_none() -> None:
    told = Told(("ab" * 16,), lines_unknown="the trace store at http://x does not answer")
    assert "Log lines: the trace store at http://x does not answer" in shown(told)
    assert None is trace_json(told)["lines"]
