"""The figure that 99.9 % is promised of: of the traces of events, how many are whole when they must be."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.hops import HOPS, expected_hops
from telemetry.metrics import TRACES_JUDGED, Metrics
from telemetry.store import judge as judging
from telemetry.store.judge import Event, Judge, Seen, missing_hop
from tests.telemetry.store.spans import hop_span, request, span
from tests.telemetry.store.world import Clock, World, wait_until

BY_SDK = expected_hops(http=False, sdk=True)
BY_HTTP = expected_hops(http=True, sdk=False)
SECONDS = 180.0
JUDGED_HOPS = [hop.name for hop in HOPS if hop.traced != "never"]


class Court:
    """A judge, its clock and its figures."""

    def __init__(self) -> None:
        self.metrics, self.now = Metrics(), 1_000.0
        self.judge = Judge(self.metrics, SECONDS)

    def see(self, *hops: str, event: str = "e", unplanned: bool = False, final: bool = False) -> None:
        seen = [Seen(Event(event.encode().ljust(16), "/s", event), hop, unplanned, final) for hop in hops]
        self.judge.see(seen, self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.judge.judge(self.now)

    @property
    def verdicts(self) -> dict[str, float]:
        """By the missing hop; "" is whole."""
        said = {"": self.metrics.value(TRACES_JUDGED, verdict="whole", missing="")}
        said |= {hop: self.metrics.value(TRACES_JUDGED, verdict="partial", missing=hop) for hop in JUDGED_HOPS}
        return {missing: count for missing, count in said.items() if count}


@pytest.fixture
def court() -> Court:
    return Court()


@pytest.mark.parametrize("hops", [BY_SDK, BY_HTTP, expected_hops(http=False, sdk=False)])
def test_a_trace_with_every_hop_of_its_way_is_whole(court: Court, hops: frozenset[str]) -> None:
    court.see(*hops)
    court.later(SECONDS)
    assert {"": 1.0} == court.verdicts


@pytest.mark.parametrize("way", [BY_SDK, BY_HTTP])
@pytest.mark.parametrize("lost", JUDGED_HOPS)
def test_a_trace_that_lacks_a_hop_is_partial_by_that_hop(court: Court, way: frozenset[str], lost: str) -> None:
    there = way - {lost}
    court.see(*there)
    court.later(SECONDS)
    # Without the SDK's span nothing says that there was an SDK; of HTTP one of two hops tells.
    assert {"" if lost not in way or lost == "sdk" else lost: 1.0} == court.verdicts


def test_of_several_missing_hops_the_first_of_the_path_is_named(court: Court) -> None:
    court.see("sdk", "lake")
    court.later(SECONDS)
    assert {"grpc-door": 1.0} == court.verdicts


def test_nothing_is_judged_before_its_time_and_each_once(court: Court) -> None:
    court.see("sdk")
    court.later(SECONDS - 1)
    assert {} == court.verdicts
    court.see(*BY_SDK)
    court.later(1)
    assert {"": 1.0} == court.verdicts
    court.later(SECONDS)
    assert {"": 1.0} == court.verdicts


def test_the_time_counts_from_the_first_span(court: Court) -> None:
    court.see("sdk")
    court.later(100)
    court.see("grpc-door")
    court.later(SECONDS - 100)
    assert {"redactor": 1.0} == court.verdicts


def test_a_span_that_is_late_changes_nothing_and_opens_no_second_case(court: Court) -> None:
    court.see(*BY_SDK - {"redis"})
    court.later(SECONDS)
    court.see("redis")
    court.later(SECONDS)
    assert {"redis": 1.0} == court.verdicts


def test_events_of_one_trace_are_judged_each_by_itself(tmp_path: Path) -> None:
    """A producer's trace may have many events."""
    with World(tmp_path, judge_seconds=SECONDS) as world:
        world.take(request(*(hop_span(1, hop, "e-1") for hop in BY_SDK), *(hop_span(1, hop, "e-2") for hop in BY_SDK - {"rds"})))
        # Another source's event of the same id is another event.
        world.take(request(*(hop_span(1, hop, "e-1", source="/other") for hop in BY_SDK)))
        world.clock.now += SECONDS
        wait_until(lambda: world.judged("whole") + world.judged("partial", "rds") == 3, "all three are judged")
        assert (2.0, 1.0) == (world.judged("whole"), world.judged("partial", "rds"))


@pytest.mark.parametrize("hop", JUDGED_HOPS)
def test_an_event_that_ended_early_is_whole_if_all_before_its_end_is_there(court: Court, hop: str) -> None:
    way = judging._way_to(hop)
    http = bool(way & {"http-door", "transcoder"}) and hop != "sdk"
    before = (way & expected_hops(http=http, sdk=not http)) - {hop}
    court.see(*before)
    court.see(hop, final=True)
    court.later(SECONDS)
    assert {"": 1.0} == court.verdicts


def test_an_event_that_ended_early_is_partial_if_a_hop_before_its_end_is_missing(court: Court) -> None:
    court.see("http-door", "grpc-door")
    court.see("redactor", final=True)
    court.later(SECONDS)
    assert {"transcoder": 1.0} == court.verdicts


def test_what_comes_after_its_end_is_not_waited_for_at_either_of_two_ends(court: Court) -> None:
    """The gRPC door rejects what the transcoder sends, and the transcoder writes the dead letter."""
    court.see("http-door")
    court.see("grpc-door", "transcoder", final=True)
    court.later(SECONDS)
    assert {"": 1.0} == court.verdicts


def test_an_end_at_a_hop_that_nobody_knows_asks_for_nothing(court: Court) -> None:
    assert "" == missing_hop({"sdk"}, {"elsewhere"})


def test_nobody_promised_that_an_unplanned_trace_is_whole(court: Court) -> None:
    court.see("grpc-door", unplanned=True)
    court.later(SECONDS)
    assert {} == court.verdicts
    court.see(*BY_SDK, event="whole", unplanned=True)
    court.later(SECONDS)
    assert {"": 1.0} == court.verdicts


@pytest.mark.parametrize(
    ("said", "unplanned"),
    [
        ({}, False),
        # A slow door, of an event that nobody traced.
        ({"spillway.unplanned": True}, True),
        # A later hop failed an event that nobody traced: it tells of the door what the event carries.
        ({"spillway.rebuilt": True}, True),
    ],
)
def test_a_door_tells_whether_the_trace_was_planned(tmp_path: Path, said: dict[str, bool], unplanned: bool) -> None:
    with World(tmp_path, judge_seconds=SECONDS) as world:
        world.take(request(hop_span(1, "grpc-door", "e", **said), hop_span(2, "grpc-door", "other")))
        world.clock.now += SECONDS
        # The other is judged last.
        expected = 1.0 if unplanned else 2.0
        wait_until(lambda: world.judged("partial", "redactor") >= expected, "both are judged")
        assert expected == world.judged("partial", "redactor")


def test_a_batch_that_an_exit_did_again_is_no_excuse_for_a_missing_hop(tmp_path: Path) -> None:
    """Its spans are marked as rebuilt, and the trace was planned all the same."""
    with World(tmp_path, judge_seconds=SECONDS) as world:
        again = hop_span(1, "lake", "e", **{"spillway.rebuilt": True})
        world.take(request(again, *(hop_span(1, hop, "e") for hop in BY_SDK - {"lake", "backup"})))
        world.clock.now += SECONDS
        wait_until(lambda: world.judged("partial", "backup"), "it is judged")


def test_traces_of_batches_and_of_others_are_not_judged(tmp_path: Path) -> None:
    with World(tmp_path, judge_seconds=SECONDS) as world:
        world.take(
            request(
                span(1, 1, attributes={"spillway.hop": "redactor"}),  # a batch
                span(2, 1, attributes={"cloudevents.event_id": "e"}),  # the producer's own span of its event
                span(3, 1, attributes={"spillway.hop": "", "cloudevents.event_id": ""}),
                span(4, 1),
                hop_span(5, "sdk", "e"),
            )
        )
        world.clock.now += SECONDS
        wait_until(lambda: world.judged("partial", "grpc-door"), "the one event is judged")
        total = world.judged("whole") + sum(world.judged("partial", hop) for hop in JUDGED_HOPS)
        assert 1.0 == total


def test_spans_that_come_twice_are_no_second_event(tmp_path: Path) -> None:
    with World(tmp_path, judge_seconds=SECONDS) as world:
        for _ in range(3):
            world.take(request(*(hop_span(1, hop, "e") for hop in BY_SDK)))
            world.clock.now += SECONDS
            wait_until(lambda: world.judged("whole"), "it is judged")
        assert 1.0 == world.judged("whole")


def test_after_a_restart_what_waits_is_judged_and_what_was_judged_is_not_again(tmp_path: Path) -> None:
    clock = Clock()
    with World(tmp_path, clock=clock, judge_seconds=SECONDS) as world:
        world.take(request(*(hop_span(1, hop, "judged") for hop in BY_SDK)))
        clock.now += SECONDS
        wait_until(lambda: world.judged("whole"), "the first is judged")
        clock.now += 100
        world.take(request(*(hop_span(2, hop, "waits") for hop in BY_SDK - {"redis"})))
    with World(tmp_path, clock=clock, judge_seconds=SECONDS) as world:
        # Late, and it is remembered that they were judged.
        world.take(request(hop_span(1, "sdk", "judged", again=1)))
        world.take(request(hop_span(2, "redis", "waits")))
        clock.now += SECONDS
        wait_until(lambda: world.judged("whole"), "the one that waited is judged, by the spans of both lives")
        assert 1.0 == world.judged("whole")
        assert 0.0 == sum(world.judged("partial", hop) for hop in JUDGED_HOPS)


def test_what_was_due_while_the_store_was_away_is_nobodys_fault(tmp_path: Path) -> None:
    clock = Clock()
    with World(tmp_path, clock=clock, judge_seconds=SECONDS) as world:
        world.take(request(hop_span(1, "sdk", "e")))
    clock.now += SECONDS
    with World(tmp_path, clock=clock, judge_seconds=SECONDS) as world:
        world.take(request(*(hop_span(2, hop, "new") for hop in BY_SDK)))
        clock.now += SECONDS
        wait_until(lambda: world.judged("whole"), "a new one is judged")
        assert 0.0 == sum(world.judged("partial", hop) for hop in JUDGED_HOPS)


def test_a_long_past_does_not_crowd_out_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """More events since the memory began than may wait at one time."""
    monkeypatch.setattr(judging, "WAITING_MAX", 5)
    court = Court()
    spans = [(Seen(Event(b"t", "/s", str(number)), "sdk", False, False), number * 50.0) for number in range(40)]
    court.judge.restore(spans, 2_000.0)
    court.now = 2_000.0
    court.later(SECONDS)
    # Those of the last 180 s: at 1850, 1900 and 1950.
    assert {"grpc-door": 3.0} == court.verdicts


def test_what_waits_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "WAITING_MAX", 10)
    monkeypatch.setattr(judging, "JUDGED_MAX", 4)
    court = Court()
    for number in range(30):
        court.see("sdk", event=str(number))
    court.later(SECONDS)
    assert {"grpc-door": 10.0} == court.verdicts
    assert 4 == len(court.judge._judged)


@given(st.sets(st.sampled_from(JUDGED_HOPS)), st.sets(st.sampled_from(JUDGED_HOPS), max_size=2))
def test_a_verdict_names_a_hop_that_is_missing_and_adding_it_helps(there: set[str], ended_at: set[str]) -> None:
    steps = 0
    there |= ended_at
    while missing := missing_hop(there, ended_at):
        assert missing in JUDGED_HOPS
        assert missing not in there
        there.add(missing)
        steps += 1
        assert steps <= len(JUDGED_HOPS)
