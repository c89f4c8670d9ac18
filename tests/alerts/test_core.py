"""The escalator's mind, as stories: each compares all that is told, with its times."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from alerts.escalator.core import ABSENT_SECONDS, BY_ALERTMANAGER, step
from alerts.escalator.due import RETRY_SECONDS_MAX, next_at, retry_pause_seconds_max, sendable
from alerts.escalator.events import (
    Acknowledge,
    Event,
    Firing,
    Outcome,
    PathTestPosted,
    PathTestReturned,
    PostTest,
    Record,
    ResolveByHand,
    Resolved,
    Restarted,
    Stepped,
    Tick,
    Verified,
    WatchdogHeard,
)
from alerts.escalator.intake import ALERTS_MAX, policy_name, subject_of
from alerts.escalator.policy import Level, Policy, Target
from alerts.escalator.state import Kind, Page, Setup, State, begin

T = 1_795_664_000.0
NEVER = 1e9
ALL: frozenset[Kind] = frozenset(("trigger", "acknowledge", "resolve"))
TWO = Policy("default", (Level((Target("ann", "pagerduty"),), 300.0), Level((Target("bob", "email"),), 600.0)), repeat=1)
ONE = Policy("default", (Level((Target("ann", "pagerduty"),), 300.0),))
BURST = Firing("CanaryLost-1", "CanaryLost", {"severity": "page"}, {"summary": "lost"}, "default", T, ("a",))


class Story:
    """Feeds events at times after T; every message is taken at once, unless its channel is ill."""

    def __init__(self, policy: Policy = TWO, **changes: Any) -> None:
        tells: Mapping[str, frozenset[Kind]] = {"pagerduty": ALL | {"test"}, "email": ALL, "log": frozenset(("trigger",))}
        usual: dict[str, Any] = {"deadman_late_seconds": NEVER, "deadman_grace_seconds": NEVER, "test_every_seconds": 0.0}
        self.setup = Setup({"default": policy}, tells, "http://console", **(usual | changes))
        self.state: State = begin(T, self.setup)
        self.told: list[tuple[float, str]] = []
        self.records: list[Record] = []
        self.posted: list[tuple[float, int]] = []
        self.ill: set[str] = set()
        self.now = 0.0

    def at(self, seconds: float, *events: Event) -> "Story":
        """Live until then, wake by wake, and take these events."""
        while (wakes := next_at(self.state, self.setup) - T) < seconds:
            self._take(max(wakes, self.now), Tick())
        for event in events or (Tick(),):
            self._take(seconds, event)
        return self

    def _take(self, seconds: float, event: Event) -> None:
        self.now = seconds
        self.state, actions = step(self.state, event, T + seconds, self.setup)
        self.records += [each for each in actions if isinstance(each, Record)]
        self.posted += [(seconds, each.id) for each in actions if isinstance(each, PostTest)]
        while notes := sendable(self.state, T + seconds, ()):
            note = notes[0]
            ill = note.channel in self.ill
            if not ill or note.attempts == 0:
                self.told.append((seconds, f"{note.kind} {note.who} {note.channel}{' (fails)' if ill else ''}"))
            outcome = Outcome(note.id, note.channel, "retry" if ill else "ok", "503" if ill else "")
            self.state, actions = step(self.state, outcome, T + seconds, self.setup)
            self.records += [each for each in actions if isinstance(each, Record)]

    def page(self, alert: str = "CanaryLost") -> Page:
        return [page for page in self.state.pages.values() if page.alert == alert][-1]

    def alerts(self) -> list[str]:
        return [page.alert for page in self.state.pages.values()]


def told(story: Story) -> Sequence[tuple[float, str]]:
    return story.told


def test_nobody_acknowledges_and_every_level_is_told_twice_in_its_time_and_no_more() -> None:
    first, second = "trigger ann pagerduty", "trigger bob email"
    assert [(0, first), (300, second), (900, first), (1200, second)] == told(Story().at(0, BURST).at(86_400))


def test_acknowledged_it_ends_and_who_was_told_hears_of_it() -> None:
    story = Story().at(0, BURST)
    story.at(299, Acknowledge(story.page().key, "ann")).at(5000)
    assert [(0, "trigger ann pagerduty"), (299, "acknowledge ann pagerduty")] == told(story)


def test_resolved_everybody_who_was_told_hears_of_it_and_firing_again_is_a_new_page() -> None:
    story = Story().at(0, BURST)
    first = story.page().key
    story.at(310, Resolved(BURST.subject)).at(400, BURST)
    assert [
        (0, "trigger ann pagerduty"), (300, "trigger bob email"), (310, "resolve bob email"), (310, "resolve ann pagerduty"),
        (400, "trigger ann pagerduty"),
    ] == sorted(told(story), key=lambda each: each[0])  # fmt: skip
    assert first != story.page().key


def test_alertmanagers_repeats_tell_nobody_again() -> None:
    story = Story()
    for seconds in range(0, 290, 10):
        story.at(seconds, BURST)
    assert [(0, "trigger ann pagerduty")] == told(story)


def test_another_series_of_an_acknowledged_page_opens_a_new_one_and_a_known_one_does_not() -> None:
    story = Story().at(0, BURST)
    story.at(10, Acknowledge(story.page().key, "ann"))
    both = Firing(BURST.subject, "CanaryLost", {}, {}, "default", T, ("a", "b"))
    old = story.page().key
    story.at(20, both)
    new = story.page().key
    story.at(30, Acknowledge(new, "ann")).at(40, BURST).at(50, both)
    assert new == story.page().key != old
    assert [(20, "resolve ann pagerduty"), (20, "trigger ann pagerduty")] == [each for each in told(story) if each[0] == 20]
    assert "acknowledged" == story.page().state


def test_the_largest_message_that_is_repeated_holds_nothing_new() -> None:
    large = replace(BURST, members=tuple(f"{number:04}" for number in range(ALERTS_MAX)))
    story = Story().at(0, large)
    story.at(10, Acknowledge(story.page().key, "ann")).at(20, large)
    assert [(0, "trigger ann pagerduty"), (10, "acknowledge ann pagerduty")] == told(story)


def test_a_policy_that_wants_an_acknowledgement_goes_on_though_the_alert_is_over() -> None:
    policy = Policy("default", TWO.levels, repeat=0, stop_on_resolve=False)
    story = Story(policy).at(0, BURST).at(10, Resolved(BURST.subject)).at(1000)
    assert [(0, "trigger ann pagerduty"), (300, "trigger bob email")] == told(story)
    assert "open" == story.page().state
    story.at(1001, Acknowledge(story.page().key, "bob"))
    assert [] == story.alerts()


@pytest.mark.parametrize("by", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_a_clock_that_is_set_moves_nothing(by: float) -> None:
    state, setup = Story().at(0, BURST).state, Story().setup
    state, _ = step(state, Stepped(by), T + 100 + by, setup)
    assert T + 300 + by == next(iter(state.pages.values())).due_at


def test_after_an_absence_missed_levels_are_told_at_once_and_the_next_round_keeps_its_distance() -> None:
    story = Story().at(0, BURST)
    story._take(2000, Restarted(1990))
    story.at(86_400)
    first, second = "trigger ann pagerduty", "trigger bob email"
    assert [(0, first), (2000, second), (2600, first), (2900, second)] == told(story)


def test_a_channel_that_refuses_hands_its_pages_on_and_is_paged_itself() -> None:
    story = Story()
    story.ill = {"pagerduty"}
    story.at(0, BURST).at(100)
    began = [each for each in told(story) if not each[1].startswith("acknowledge")]
    refusing = next(at for at, what in began if what == "trigger on-call email")
    assert 15 <= refusing <= 40
    assert {(0, "trigger ann pagerduty (fails)"), (refusing, "trigger bob email"), (refusing, "trigger on-call email"),
            (refusing, "trigger on-call log")} == set(began)  # fmt: skip
    story.ill = set()
    story.at(200)
    assert ["CanaryLost"] == story.alerts()
    assert (False, 0) == (story.state.channels["pagerduty"].refusing, story.state.channels["pagerduty"].failures)


def test_a_channel_that_is_taken_away_keeps_nothing_waiting_and_nobody_alarmed() -> None:
    story = Story()
    story.ill = {"pagerduty"}
    story.at(0, BURST).at(100)
    assert ["CanaryLost", "PagerRefusing"] == story.alerts()
    tells = {name: kinds for name, kinds in story.setup.tells.items() if name != "pagerduty"}
    story.setup = replace(story.setup, policies={"default": Policy("default", TWO.levels[1:])}, tells=tells)
    story.at(110, Restarted(5))
    assert [("trigger", "its channel is no longer configured")] == [
        (each.note.kind, each.detail) for each in story.records if each.outcome == "dropped" and each.note.channel == "pagerduty"
    ]
    assert (["CanaryLost"], []) == (story.alerts(), list(story.state.outbox.values()))
    assert "pagerduty" not in story.state.channels


def test_a_permanent_refusal_is_not_tried_again() -> None:
    state, setup = begin(T, Story().setup), Story().setup
    state, _ = step(state, BURST, T, setup)
    (note,) = sendable(state, T, ())
    state, actions = step(state, Outcome(note.id, "pagerduty", "refused", "400 key"), T, setup)
    assert ("refused", "400 key") == next((each.outcome, each.detail) for each in actions if isinstance(each, Record))
    assert note.id not in state.outbox
    assert state.channels["pagerduty"].refusing


def test_pauses_grow_to_a_bound_and_a_hint_is_followed_up_to_it() -> None:
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [retry_pause_seconds_max(attempts) for attempts in range(1, 9)]
    setup = Story().setup
    state, _ = step(begin(T, setup), BURST, T, setup)
    (note,) = sendable(state, T, ())
    state, _ = step(state, Outcome(note.id, "pagerduty", "retry", "429", 7200.0, 0.0), T, setup)
    assert T + RETRY_SECONDS_MAX == state.outbox[note.id].next_at


def test_silence_pages_and_while_blind_resolved_is_not_believed() -> None:
    story = Story(ONE, deadman_late_seconds=100.0, deadman_grace_seconds=180.0)
    story.at(0, WatchdogHeard()).at(10, BURST).at(99).at(150, Resolved(BURST.subject)).at(200)
    assert [(10, "trigger ann pagerduty"), (100, "trigger ann pagerduty")] == told(story)
    assert ["CanaryLost", "MonitorBlind"] == story.alerts()
    story.at(210, WatchdogHeard()).at(309, WatchdogHeard()).at(405, WatchdogHeard()).at(490, WatchdogHeard()).at(509)
    assert ["CanaryLost"] == story.alerts()
    assert [] == story.at(511).alerts()


def test_watchdog_that_was_never_heard_pages_after_its_grace() -> None:
    story = Story(ONE, deadman_late_seconds=100.0, deadman_grace_seconds=180.0).at(179)
    assert [] == story.alerts()
    assert ["MonitorBlind"] == story.at(180).alerts()


def test_watchdog_that_alertmanager_repeats_and_prometheus_does_not_renew_pages() -> None:
    story = Story(ONE, deadman_late_seconds=100.0, deadman_grace_seconds=180.0)
    for seconds in range(0, 170, 10):
        story.at(seconds, WatchdogHeard(), Verified({}, "renewed at 30" if seconds >= 30 else "renewed at 0"))
    assert ["MonitorBlind"] == story.alerts()
    assert "Prometheus renewed Watchdog 130 s ago" in story.page("MonitorBlind").annotations["summary"]


def test_a_lost_resolve_is_found_by_asking_and_a_silence_counts_as_acknowledged() -> None:
    story = Story().at(0, BURST).at(10, Verified({"a": True})).at(20)
    assert ("acknowledged", BY_ALERTMANAGER) == (story.page().state, story.page().acknowledged_by)
    story.at(30, Verified({"a": False})).at(40, Verified({}))
    assert "open" == story.page().state
    story.at(39 + ABSENT_SECONDS, Verified({})).at(41 + ABSENT_SECONDS, Verified({}))
    assert [] == story.alerts()


def test_the_escalators_own_page_can_be_taken_and_not_wished_away() -> None:
    story = Story(ONE, deadman_late_seconds=100.0, deadman_grace_seconds=180.0).at(200)
    story.at(201, ResolveByHand(story.page("MonitorBlind").key, "ann"))
    assert "acknowledged" == story.page("MonitorBlind").state


def test_a_test_page_that_comes_back_is_shown_to_the_pager_and_one_that_does_not_pages() -> None:
    story = Story(ONE, test_every_seconds=3600.0).at(61)
    assert [(60, 1)] == story.posted
    story.at(67.5, PathTestReturned(1)).at(70)
    assert [(67.5, "test test pagerduty")] == told(story)
    assert ("ok", 7.5, 7.5) == (story.state.test.state, story.state.test.seconds, story.state.test.pager_seconds)
    story.at(3661, PathTestPosted(2, "refused")).at(3780)
    assert [(60, 1), (3660, 2), (3676, 2)] == story.posted
    assert ["TestPage"] == story.alerts()
    assert [] == story.at(3790, PathTestReturned(2)).alerts()


def test_subjects_are_of_name_and_group_and_tickets_do_not_escalate() -> None:
    assert subject_of("A", {"x": "1", "y": "2"}) == subject_of("A", {"y": "2", "x": "1"})
    assert 4 == len({subject_of("A", {"x": "1"}), subject_of("A", {"x": "2"}), subject_of("B", {"x": "1"}), subject_of("A", {})})
    assert ["default", "ticket", "mine", "default"] == [
        policy_name(labels)
        for labels in (
            {},
            {"severity": "ticket", "policy": "default"},
            {"severity": "ticket", "policy": "mine"},
            {"severity": "page"},
        )
    ]
