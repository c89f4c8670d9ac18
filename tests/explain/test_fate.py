"""What became of an event, told by its spans: every way to be delivered, to wait and to end."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.explain.fate import Became, Fate, fates, shares
from pipeline.explain.path import State, patience_seconds
from pipeline.explain.verdict import advice, seconds_text, sentence
from telemetry.hops import EXITS, HOPS
from telemetry.journey import Span
from tests.explain.trail import Trail, at_ns

PASSED, WAITS, LATER, NEVER, MISSING = State.PASSED, State.WAITS, State.LATER, State.NEVER, State.MISSING


def fate(trail: Trail, now: float = 100.0) -> Fate:
    found = fates(trail.spans, at_ns(now))
    assert 1 == len(found)
    return found[0]


def hops(of: Fate) -> dict[str, State]:
    return {step.hop: step.state for step in of.steps if not step.part}


def by_http(trail: Trail) -> Trail:
    trail.says("http-door", 0.0, 0.1, door__status="accepted").written("http-door", 0.01, 0.09, "web-events")
    trail.says("transcoder", 0.3, 0.6, "http-door", waited_seconds=0.2)
    trail.says("grpc-door", 0.4, 0.5, "transcoder", door__status="accepted")
    return trail.written("grpc-door", 0.42, 0.48, "events")


# -- delivered


def test_an_event_of_the_sdk_that_every_hop_told_of_is_delivered() -> None:
    told = fate(Trail().by_sdk().redacted().loaded().backed_up())
    assert (Became.DELIVERED, "", ["lake", "rds", "redis"]) == (told.became, told.at, told.exits)
    assert dict.fromkeys(["sdk", "grpc-door", "redactor", "backup", "lake", "rds", "redis"], PASSED) == hops(told)
    # From `send` to the last exit; the backup, a minute later, is not waited for.
    assert 2.0 == told.seconds
    assert "" == advice(told)


def test_the_slowest_hop_is_told_with_what_it_waited_and_took() -> None:
    """The lake: 1.0 s from the redactor's end to its begin, 0.6 s of work, of 2.0 s in all."""
    told = fate(Trail().by_sdk().redacted().loaded())
    assert told.slowest is not None
    assert ("lake", 0.8, 1.0, 0.6) == dataclasses.astuple(told.slowest)
    assert sentence(told).startswith("Delivered everywhere in 2.00 s; slowest hop lake (80%: waited 1.00 s, took 600 ms).")


def test_a_moment_belongs_to_the_last_hop_at_work_else_to_the_one_that_is_waited_for() -> None:
    """The door's 70 ms lie within the SDK's 100; 200 ms later the redactor takes 100."""
    trail = Trail().by_sdk().redacted()
    chain = [span for span in trail.spans if span.hop in ("sdk", "grpc-door", "redactor")]
    assert [("sdk", 0.0, 0.03), ("grpc-door", 0.0, 0.07), ("redactor", 0.2, 0.1)] == [
        (share.hop, share.waited_seconds, share.took_seconds) for share in shares(chain)
    ]


def test_an_event_by_http_passes_the_transcoder_and_no_sdk() -> None:
    told = fate(by_http(Trail()).says("redactor", 0.9, 1.0, "grpc-door").loaded())
    assert ["http-door", "transcoder", "grpc-door", "redactor", "backup", "lake", "rds", "redis"] == list(hops(told))
    assert Became.DELIVERED is told.became


def test_a_step_has_what_the_hop_waited_and_took() -> None:
    told = fate(Trail().by_sdk().redacted().loaded())
    timed = {step.hop: (step.waited_seconds, step.took_seconds) for step in told.steps if step.span}
    assert (0.21, 0.1) == timed["redactor"]
    assert (0.7, 0.5) == timed["rds"]
    assert (0.0, 0.07) == timed["grpc-door"]  # within the SDK's span


def test_rows_are_in_the_order_of_the_path_with_parts_below_their_hop() -> None:
    told = fate(by_http(Trail()).redacted().loaded().backed_up().says("backup/web-events", 0.05, 70.0, "http-door"))
    assert [
        "http-door", "http-door/write", "transcoder", "grpc-door", "grpc-door/write", "redactor", "redactor/write",
        "backup", "backup/web-events", "lake", "lake/commit", "rds", "redis",
    ] == [step.hop for step in told.steps]  # fmt: skip


def test_a_backup_that_firehose_has_not_written_yet_does_not_make_an_event_wait() -> None:
    told = fate(Trail().by_sdk().redacted().loaded())
    assert (Became.DELIVERED, WAITS) == (told.became, hops(told)["backup"])
    assert "The backup has not been seen yet" in sentence(told)


def test_a_backup_that_is_later_than_its_limits_is_said_to_be_overdue() -> None:
    told = fate(Trail().by_sdk().redacted().loaded(), now=patience_seconds("backup") + 1.0)
    assert (Became.DELIVERED, True) == (told.became, "The backup is overdue" in sentence(told))


def test_a_hop_whose_span_was_lost_is_missing_and_nobody_waits_for_it() -> None:
    told = fate(Trail().by_sdk().loaded().backed_up())
    assert (Became.DELIVERED, MISSING) == (told.became, hops(told)["redactor"])
    assert "No span of redactor" in sentence(told)


# -- waiting


def test_an_event_that_the_door_took_waits_for_the_redactor() -> None:
    told = fate(Trail().by_sdk(), now=12.1)
    assert (Became.WAITS, "redactor") == (told.became, told.at)
    assert {"redactor": WAITS, "backup": WAITS, "lake": LATER, "rds": LATER, "redis": LATER} == {
        hop: state for hop, state in hops(told).items() if state is not PASSED
    }
    # The SDK had its answer at 0.1 s.
    assert "Waits for redactor since 12.0 s; up to 32.0 s is within limits." == sentence(told)
    assert "`spillway explain e-1`" in advice(told)


def test_an_event_that_waits_longer_than_the_hops_limits_is_overdue() -> None:
    """The redactor may be 30 s behind and take 2 s."""
    assert [False, True] == [fate(Trail().by_sdk(), now=now).step("redactor").overdue for now in (32.0, 32.2)]  # type: ignore[union-attr]
    assert sentence(fate(Trail().by_sdk(), now=132.0)).endswith("and the limit is 32.0 s: overdue.")


def test_an_event_that_one_exit_does_not_have_waits_for_it_and_is_delivered_at_the_others() -> None:
    trail = Trail().by_sdk().redacted().backed_up()
    trail.says("rds", 1.1, 1.6, "redactor").says("redis", 1.1, 1.5, "redactor")
    told = fate(trail, now=10.4)
    assert (Became.WAITS, "lake", ["rds", "redis"]) == (told.became, told.at, told.exits)
    # The redactor had it at 0.4 s: the other exits' own time says nothing about the lake.
    assert "Waits for lake since 10.0 s; up to 60.0 s is within limits. Delivered at rds and redis." == sentence(told)


def test_exits_that_wait_side_by_side_are_named_together() -> None:
    told = fate(Trail().by_sdk().redacted().says("redis", 1.1, 1.5, "redactor"), now=10.4)
    assert "Waits for lake and rds since 10.0 s; up to 60.0 s is within limits. Delivered at redis." == sentence(told)


def test_a_reader_whose_clock_is_behind_sees_an_event_that_waits_since_now() -> None:
    assert 0.0 == fate(Trail().by_sdk(), now=-50.0).step("redactor").since_seconds  # type: ignore[union-attr]


def test_an_event_at_the_http_door_waits_for_the_transcoder() -> None:
    told = fate(Trail().says("http-door", 0.0, 0.1, door__status="accepted"), now=1.1)
    assert (Became.WAITS, "transcoder") == (told.became, told.at)
    # The backup of `events` comes after the gRPC door, though that of `web-events` has the event already.
    assert LATER is hops(told)["backup"]


# -- ended


def dead_in_transcoder() -> Trail:
    trail = Trail().says("http-door", 0.0, 0.1, door__status="accepted").written("http-door", 0.01, 0.09, "web-events")
    return trail.says(
        "transcoder", 0.3, 0.35, "http-door", error="invalid_data", final="dead_letter", reason="invalid_data",
        dead_letter__key="dead-letters/transcoder/invalid_data/2026/11/25/web-events-1-0",
    )  # fmt: skip


def test_an_event_that_the_transcoder_buried_died_there_and_reached_nothing_else() -> None:
    told = fate(dead_in_transcoder())
    assert (Became.DEAD_LETTER, "transcoder", "invalid_data") == (told.became, told.at, told.why)
    assert {"grpc-door", "redactor", "backup", "lake", "rds", "redis"} == {h for h, s in hops(told).items() if s is NEVER}
    assert "Died at transcoder: dead letter, invalid_data." == sentence(told)
    assert "spillway dlq redrive --key dead-letters/transcoder/invalid_data/2026/11/25/web-events-1-0" in advice(told)


def test_an_event_that_the_grpc_door_refused_to_the_transcoder_died_at_the_transcoder() -> None:
    trail = by_http(Trail())
    trail.says("grpc-door", 0.4, 0.5, "transcoder", error="unknown_type", final="rejected", reason="unknown_type")
    trail.says("transcoder", 0.3, 0.6, "http-door", error="unknown_type", final="dead_letter", reason="unknown_type")
    told = fate(trail)
    assert (Became.DEAD_LETTER, "transcoder") == (told.became, told.at)
    # Without the letter's key it is found by stage and reason.
    assert "spillway dlq list --stage transcoder --reason unknown_type" in advice(told)


def test_an_event_that_one_exit_buried_is_delivered_at_the_others() -> None:
    trail = Trail().by_sdk().redacted().loaded()
    trail.says("lake", 1.4, 2.0, "redactor", error="conflict", final="dead_letter", reason="conflict")
    told = fate(trail)
    assert (Became.DEAD_LETTER, "lake", ["rds", "redis"]) == (told.became, told.at, told.exits)
    assert "Died at lake: dead letter, conflict. Delivered at rds and redis." == sentence(told)
    assert "--stage etl-lake --reason conflict" in advice(told)


def test_an_event_that_a_door_rejected_was_never_acknowledged() -> None:
    told = fate(Trail().says("http-door", 0.0, 0.1, error="too_large", final="rejected", reason="too_large"))
    assert (Became.REJECTED, "http-door", "too_large") == (told.became, told.at, told.why)
    assert {NEVER} == set(hops(told).values()) - {State.ENDED}
    assert "Rejected at http-door: too_large. It was never acknowledged." == sentence(told)


def test_the_door_knows_better_than_the_sender_why_it_rejected() -> None:
    trail = Trail().says("sdk", 0.0, 0.1, error="too_large: no", final="rejected", reason="too_large", outcome="rejected")
    trail.says("grpc-door", 0.02, 0.09, "sdk", error="too_large", final="rejected", reason="too_large")
    assert (Became.REJECTED, "grpc-door") == (fate(trail).became, fate(trail).at)


def test_a_sender_that_gave_up_ends_the_event_unless_the_door_had_taken_it_after_all() -> None:
    gave_up = {"error": "Unavailable: away", "final": "given_up", "reason": "Unavailable", "outcome": "given_up"}
    alone = fate(Trail().says("sdk", 0.0, 60.0, **gave_up))
    assert (Became.GIVEN_UP, "sdk", "Unavailable") == (alone.became, alone.at, alone.why)
    refused = Trail().says("grpc-door", 0.1, 0.2, "sdk", error="draining", door__status="retry", reason="draining")
    assert (Became.GIVEN_UP, "sdk") == (fate(refused.says("sdk", 0.0, 60.0, **gave_up)).became, "sdk")
    heard = fate(Trail().by_sdk().redacted().loaded().says("sdk", 0.0, 60.0, **gave_up))
    assert (Became.DELIVERED, State.FAILED) == (heard.became, hops(heard)["sdk"])
    under_way = fate(Trail().by_sdk().says("sdk", 0.0, 60.0, **gave_up))
    assert (Became.WAITS, "redactor") == (under_way.became, under_way.at)


def test_an_event_that_was_asked_for_again_is_stopped_where_that_was() -> None:
    retry = {"error": "overloaded", "door__status": "retry", "reason": "overloaded"}
    told = fate(Trail().says("grpc-door", 0.0, 0.1, **retry))
    assert (Became.SEND_AGAIN, "grpc-door", "overloaded") == (told.became, told.at, told.why)
    assert "It is not acknowledged; its sender was asked to send it again." in sentence(told)
    by_web = Trail().says("http-door", 0.0, 0.1, door__status="accepted")
    told = fate(by_web.says("grpc-door", 0.4, 0.5, "transcoder", **retry))
    assert (Became.SEND_AGAIN, "grpc-door", MISSING) == (told.became, told.at, hops(told)["transcoder"])
    assert "It lies in web-events, and the transcoder sends it again." in sentence(told)


def test_an_event_that_was_asked_for_again_and_came_is_not_stopped() -> None:
    """The write took effect although its answer came too late."""
    trail = Trail().by_sdk().redacted().loaded()
    trail.says("grpc-door", 0.02, 0.09, "sdk", error="timeout", door__status="retry", reason="timeout")
    told = fate(trail)
    assert (Became.DELIVERED, State.FAILED) == (told.became, hops(told)["grpc-door"])


def test_an_event_sent_fire_and_forget_whose_write_failed_is_lost() -> None:
    trail = Trail().says("grpc-door", 0.0, 0.01, door__status="queued")
    trail.says("grpc-door/write", 0.01, 5.0, "grpc-door", error="throttled", attempts=4)
    told = fate(trail)
    assert (Became.LOST, "grpc-door", "throttled") == (told.became, told.at, told.why)


def test_an_event_that_failed_at_a_hop_without_a_last_word_failed_there() -> None:
    told = fate(Trail().by_sdk().says("redactor", 0.3, 0.4, "grpc-door", error="Unavailable: KMS is away"))
    assert (Became.FAILED, "redactor", "Unavailable: KMS is away") == (told.became, told.at, told.why)


# -- not promised


def test_of_an_event_that_was_told_of_only_because_it_was_slow_the_silence_of_others_says_nothing() -> None:
    told = fate(Trail().says("grpc-door", 0.0, 7.0, door__status="accepted", slow=True, unplanned=True))
    assert (Became.UNTOLD, {State.SILENT}) == (told.became, set(hops(told).values()) - {PASSED})
    assert "`spillway explain e-1` asks every place itself." == advice(told)


def test_rebuilt_hops_before_a_dead_letter_are_no_promise_either() -> None:
    trail = Trail().says("grpc-door", 0.0, 0.5, rebuilt=True)
    told = fate(trail.says("redactor", 0.6, 0.7, "grpc-door", error="poison", final="dead_letter", reason="poison"))
    assert (Became.DEAD_LETTER, "redactor") == (told.became, told.at)
    assert {"backup": State.SILENT, "lake": State.SILENT} == {hop: hops(told)[hop] for hop in ("backup", "lake")}


def test_a_duplicate_at_an_exit_is_marked_rebuilt_and_breaks_no_promise() -> None:
    told = fate(Trail().by_sdk().says("lake", 1.0, 1.1, "redactor", rebuilt=True, outcome="duplicate"))
    assert (Became.WAITS, "rds") == (told.became, told.at)


# -- sent again


def test_a_dead_letter_that_was_redriven_is_judged_by_what_came_after() -> None:
    trail = dead_in_transcoder()
    trail.says("grpc-door", 900.0, 900.1, "transcoder", door__status="accepted")
    told = fate(trail, now=901.1)
    assert (Became.WAITS, "redactor", "transcoder") == (told.became, told.at, told.redriven_at)
    assert "It had died at transcoder and was sent again." in sentence(told)
    trail.says("redactor", 901.0, 901.1, "grpc-door")
    for exit in EXITS:
        trail.says(exit, 902.0, 903.0, "redactor", outcome="loaded")
    assert Became.DELIVERED is fate(trail, now=950.0).became


def test_a_redriven_event_does_not_wait_again_where_it_had_been_delivered_before() -> None:
    """The redrive of a conflict at the lake: the other exits keep the spans of the first copy."""
    trail = Trail().says("grpc-door", 900.0, 900.1, door__status="accepted").loaded()
    trail.says("lake", 1.4, 2.0, "redactor", error="conflict", final="dead_letter", reason="conflict")
    told = fate(trail, now=900.5)
    assert (Became.WAITS, "lake", ["rds", "redis"]) == (told.became, told.at, told.exits)


def test_a_copy_that_was_sent_an_hour_later_makes_no_journey_of_an_hour() -> None:
    trail = Trail().redacted().loaded().says("grpc-door", 3600.0, 3600.1, door__status="accepted")
    told = fate(trail, now=4000.0)
    assert (Became.DELIVERED, True) == (told.became, told.sent_again)
    assert sentence(told).startswith("Delivered everywhere. It was sent again after that")


# -- clocks, events, laws


def test_clocks_that_differ_make_no_negative_wait_and_are_named() -> None:
    """The redactor's clock is 0.5 s behind the door's."""
    trail = Trail().says("grpc-door", 0.0, 0.1, door__status="accepted").says("redactor", -0.5, -0.4, "grpc-door")
    told = fate(trail)
    assert (0.0, 0.5) == (told.step("redactor").waited_seconds, told.step("redactor").skew_seconds)  # type: ignore[union-attr]
    assert ["grpc-door", "redactor"] == [step.hop for step in told.steps if step.span]


def test_the_backup_of_an_event_by_http_begins_at_the_other_door_and_that_is_no_difference_of_clocks() -> None:
    told = fate(by_http(Trail()).says("backup", 0.0, 60.0, "grpc-door"))
    assert 0.0 == told.step("backup").skew_seconds  # type: ignore[union-attr]


def test_events_of_one_trace_have_fates_of_their_own() -> None:
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    one, other = Trail("e-1", traceparent=context).by_sdk().redacted().loaded(), Trail("e-2", traceparent=context).by_sdk()
    same_id = Trail("e-1", "/elsewhere", traceparent=context).says("http-door", 5.0, 5.1, final="rejected", reason="no_key")
    found = fates([*other.spans, *same_id.spans, *one.spans], at_ns(100.0))
    assert [
        ("/shop", "e-2", Became.WAITS),
        ("/shop", "e-1", Became.DELIVERED),
        ("/elsewhere", "e-1", Became.REJECTED),
    ] == [(each.source, each.id, each.became) for each in found]
    assert {"4bf92f3577b34da6a3ce929d0e0e4736"} == {each.trace_id for each in found}


def test_what_is_said_twice_counts_once_and_what_was_rebuilt_gives_way() -> None:
    """A Tempo keeps both spans of a hop that did an event twice."""
    trail = Trail().by_sdk().redacted()
    again = Trail().says("redactor", 10.0, 10.2, "grpc-door").says("grpc-door", 0.0, 0.5, rebuilt=True)
    told = fates([*again.spans, *trail.spans], at_ns(100.0))[0]
    assert (0.2, False) == (told.step("redactor").took_seconds, told.step("grpc-door").span.rebuilt)  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_the_shares_of_the_hops_add_up_to_the_whole_however_spans_lie(times: list[tuple[int, int]]) -> None:
    trail = Trail()
    for hop, (began, took) in zip(HOPS, times, strict=False):
        trail.says(hop.name, began, began + took)
    found = shares(trail.spans)
    assert not found or 1.0 == pytest.approx(sum(share.share for share in found))
    whole = max(span.ended_ns for span in trail.spans) - min(span.began_ns for span in trail.spans)
    assert whole / 1e9 == pytest.approx(sum(share.waited_seconds + share.took_seconds for share in found))


@given(st.sets(st.sampled_from([hop.name for hop in HOPS]), min_size=1), st.sets(st.sampled_from([hop.name for hop in HOPS])))
def test_whatever_hops_speak_there_is_a_fate_a_sentence_and_one_row_a_hop(there: set[str], failed: set[str]) -> None:
    trail = Trail()
    for place, hop in enumerate(sorted(there, key=random.Random(7).random and [h.name for h in HOPS].index)):
        trail.says(hop, place, place + 0.5, error="no" if hop in failed else "")
    told = fate(trail)
    rows = [step.hop for step in told.steps]
    assert (len(set(rows)), True) == (len(rows), there <= set(rows))
    assert sentence(told).endswith(".")
    assert (told.became is Became.DELIVERED) == (set(EXITS) <= there - failed)
    # Who is waited for did not speak.
    assert told.became is not Became.WAITS or (told.at and told.at not in there)


def test_every_hop_that_can_be_waited_for_has_a_limit() -> None:
    assert {hop.name: True for hop in HOPS} == {hop.name: patience_seconds(hop.name) > 0.0 for hop in HOPS}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (0.00035, "0.35 ms"), (0.042, "42 ms"), (0.9994, "999 ms"), (3.416, "3.42 s"), (90.0, "90.0 s"),
     (1020.0, "17.0 min"), (7200.0, "2.0 h"), (172_800.0, "2.0 d")],
)  # fmt: skip
def test_a_time_is_written_as_people_read_it(seconds: float, text: str) -> None:
    assert text == seconds_text(seconds)


def test_commands_to_paste_quote_what_comes_from_an_event() -> None:
    told = fate(Trail("$(reboot); x").by_sdk())
    assert "`spillway explain '$(reboot); x'`" in advice(told)
    assert isinstance(told.steps[0].span, Span)
