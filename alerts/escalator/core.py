"""The escalator's mind: from a state, an event and the time to the next state, and what to do. No clock, no disk, no network.

    state, actions = step(state, Firing(...), now, setup)

What it knows is in `state.py`, what it hears and wants done in `events.py`, when it must look again in `due.py`. Rules.
- **A page** is one opening of one alert name in one of Alertmanager's groups. While it is open, levels follow each other: level
  1 at once, the next when `acknowledge_seconds` of the one before have passed, then all again, `repeat` times. Acknowledged,
  nothing follows; resolved, everybody who was told is told that, too. What fires again after that is a new page with a new key.
- **Another series that joins an acknowledged page opens a new one in its place**: a person took what they knew, not what came
  later. A series that the page had before does not.
- **The key** of a page is PagerDuty's `dedup_key` over all levels, retries and restarts. A note (one message to one person by
  one channel) has an id made of the key, round, level and target; a note that is sent again carries the same id.
- **Times** are Unix seconds of the wall clock, as due times that survive a restart. The caller says when that clock was set
  (`Stepped`) and how long the process was down (`Restarted`); nothing here subtracts two readings that lie on both sides of a
  step. A level is due so long after the one before was *due*, so lateness does not add up. After an absence all levels that
  were missed are told at once, up to the end of the round; the next round keeps its distance.
- **A channel refuses** after a permanent refusal, or failures in a row. Then the next level is due at once for every page whose
  level reached nobody else, and a page `PagerRefusing` goes out by all other channels. Notes are retried meanwhile, with full
  jitter. A channel that a new process no longer has is told nothing more.
- **A dead man's switch**: `Watchdog` must be heard, and Prometheus must have renewed it; else the page `MonitorBlind` is
  opened. While blind, "resolved" is not believed: Alertmanager also says so of alerts that Prometheus no longer sends.
- **A resolve that got lost**: `Verified` says what Alertmanager has; a page whose series it no longer has is over, after a
  while. One that is silenced there counts as acknowledged until the silence ends.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from alerts.escalator.due import RETRY_SECONDS_MAX, believed_at, deadman_due_at, must_be_acknowledged, retry_pause_seconds_max
from alerts.escalator.events import (
    Acknowledge,
    Action,
    Closed,
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
    Said,
    Stepped,
    Tick,
    Verified,
    WatchdogHeard,
)
from alerts.escalator.policy import DEFAULT, Level, Target, reaches_a_person
from alerts.escalator.state import BLIND, NEVER, PAGER_REFUSING, TEST_PAGE, Channel, Kind, Note, Page, Setup, State

# About four hours of retries; then the note is given up, and counted.
ATTEMPTS_MAX = 500
# So many failures in a row, over so long, and a channel counts as refusing: a hiccup wakes nobody else.
REFUSING_FAILURES, REFUSING_SECONDS = 3, 15.0
# A level that is later than this was missed, not due: the round after it keeps its distance.
LATE_SECONDS = 1.0
# Alertmanager may have been restarted and know nothing until Prometheus sends again, once a minute.
ABSENT_SECONDS = 180.0
# A test page that could not be handed to Alertmanager is tried again.
TEST_RETRY_SECONDS = 15.0
# After one that did not come back the next follows sooner.
TEST_AGAIN_SECONDS = 300.0
# Series that a page remembers; beyond, one that comes back counts as new. Twice what a message may hold: what is repeated
# must not be new.
KNOWN_MAX = 10_000
BY_ALERTMANAGER = "Alertmanager (silenced or inhibited)"


def step(
    state: State, event: Event, now: float, setup: Setup, kind: "type[Turn] | None" = None
) -> tuple[State, tuple[Action, ...]]:
    """One event. What is due at `now` is done as well, whatever the event was. `kind`: a mutant, to try the simulator with."""
    turn = (kind or Turn)(state, now, setup)
    turn.take(event)
    turn.catch_up()
    after = turn.state()
    return (state if after == state else after), tuple(turn.actions)


class Turn:
    """One step: copies of the state's tables, changed in place."""

    def __init__(self, state: State, now: float, setup: Setup) -> None:
        self.now, self.setup = now, setup
        self.pages, self.subjects, self.outbox = dict(state.pages), dict(state.subjects), dict(state.outbox)
        self.channels = dict(state.channels)
        self.deadman, self.test, self.opened = state.deadman, state.test, state.opened
        self.actions: list[Action] = []

    def state(self) -> State:
        waiting = {note.key for note in self.outbox.values()}
        pages = {key: page for key, page in self.pages.items() if page.state != "resolved" or key in waiting}
        return State(self.deadman, self.test, pages, self.subjects, self.outbox, self.channels, self.opened)

    def take(self, event: Event) -> None:
        if isinstance(event, Tick):
            return
        if isinstance(event, Outcome):
            self.outcome(event)
        elif isinstance(event, Firing):
            self.firing(event)
        elif isinstance(event, Resolved):
            self.resolved(event.subject)
        elif isinstance(event, Acknowledge):
            self.acknowledge(event.key, event.who)
        elif isinstance(event, ResolveByHand):
            self.resolve_by_hand(event)
        elif isinstance(event, Verified):
            self.verified(event)
        else:
            self.of_the_watchers(event)

    def of_the_watchers(self, event: WatchdogHeard | PathTestPosted | PathTestReturned | Stepped | Restarted) -> None:
        if isinstance(event, WatchdogHeard):
            self.deadman = replace(self.deadman, heard_at=self.now)
        elif isinstance(event, PathTestPosted):
            self.test_posted(event)
        elif isinstance(event, PathTestReturned):
            self.test_returned(event.id)
        elif isinstance(event, Stepped):
            self.stepped(event.by_seconds)
        else:
            self.restarted(event)

    # -- pages

    def firing(self, event: Firing) -> None:
        page = self.pages.get(self.subjects.get(event.subject, ""))
        if page is None:
            self.open(event)
            return
        members = tuple({*page.members, *event.members}) if event.partial else event.members
        news = set(event.members) - set(page.known)
        known = (*page.known, *sorted(news))[-KNOWN_MAX:] if news else page.known
        page = replace(
            page, labels=event.labels, annotations=event.annotations, members=tuple(sorted(members)), known=known,
            cleared_at=None, absent_at=None,
        )  # fmt: skip
        self.pages[page.key] = page
        if news and page.state == "acknowledged":
            self.open_anew(page, "the escalator: another series joined, a new page follows")

    def open(self, event: Firing, avoid: str = "", known: tuple[str, ...] = ()) -> None:
        self.opened += 1
        key = f"{event.subject}-{self.opened}"
        members = tuple(sorted(event.members))
        page = Page(
            key, event.subject, event.alert, event.labels, event.annotations, event.policy, self.now, event.starts_at,
            due_at=self.now, members=members, known=(known or members)[-KNOWN_MAX:], avoid=avoid,
        )  # fmt: skip
        policy = self.setup.policy_of(page)
        self.pages[key] = replace(page, last_round=1 + policy.repeat)
        self.subjects[event.subject] = key
        self.say("page opened", key=key, policy=policy.name)

    def open_anew(self, page: Page, why: str) -> None:
        """A new page in its place: PagerDuty notifies nobody about an incident that is acknowledged, whatever comes."""
        self.close(page.key, why)
        self.open(
            Firing(page.subject, page.alert, page.labels, page.annotations, page.policy, page.starts_at, page.members),
            known=page.known,
        )  # fmt: skip

    def acknowledge(self, key: str, who: str) -> None:
        page = self.pages.get(key)
        if page is None or page.state != "open":
            return
        page = replace(page, state="acknowledged", acknowledged_at=self.now, acknowledged_by=who, due_at=None)
        self.pages[key] = page
        self.drop(key, ("trigger",), f"acknowledged by {who} meanwhile")
        self.tell_told(page, "acknowledge")
        self.say("page acknowledged", key=key, who=who)
        if page.cleared_at is not None and not self.deadman.late and not self.setup.policy_of(page).stop_on_resolve:
            self.close(key, "")

    def resolved(self, subject: str) -> None:
        page = self.pages.get(self.subjects.get(subject, ""))
        if page is None:
            return
        if self.deadman.late or must_be_acknowledged(page, self.setup):
            if page.cleared_at is None:
                self.pages[page.key] = replace(page, cleared_at=self.now, members=())
                self.say("page is said to be over, not acted upon yet", key=page.key, blind=self.deadman.late)
        else:
            self.close(page.key, "")

    def resolve_by_hand(self, event: ResolveByHand) -> None:
        """The escalator's own page is true as long as it is there: it can be taken, not wished away."""
        page = self.pages.get(event.key)
        if page is not None and not page.known:
            self.acknowledge(event.key, event.who)
        else:
            self.close(event.key, event.who)

    def close(self, key: str, who: str) -> None:
        page = self.pages.get(key)
        if page is None or page.state == "resolved":
            return
        page = replace(page, state="resolved", resolved_at=self.now, resolved_by=who, due_at=None)
        self.pages[key] = page
        self.subjects.pop(page.subject, None)
        self.drop(key, ("trigger", "acknowledge"), "resolved meanwhile")
        self.tell_told(page, "resolve")
        self.actions.append(Closed(page))
        self.say("page resolved", key=key, who=who)

    def verified(self, event: Verified) -> None:
        if event.mark and event.mark != self.deadman.mark:
            self.deadman = replace(self.deadman, mark=event.mark, mark_at=self.now)
        for page in list(self.pages.values()):
            if not page.known or page.state == "resolved" or page.cleared_at is not None:
                continue
            there = [event.active[one] for one in page.known if one in event.active]
            if not there:
                if page.absent_at is None:
                    self.pages[page.key] = replace(page, absent_at=self.now)
                elif self.now - page.absent_at >= ABSENT_SECONDS:
                    self.say("Alertmanager does not have it any more", key=page.key)
                    self.resolved(page.subject)
                continue
            if page.absent_at is not None:
                page = self.pages[page.key] = replace(page, absent_at=None)
            if all(there):
                self.acknowledge(page.key, BY_ALERTMANAGER)
            elif page.acknowledged_by == BY_ALERTMANAGER:
                self.open_anew(page, "the escalator: no longer silenced or inhibited, a new page follows")

    # -- what is due

    def catch_up(self) -> None:
        self.watch_deadman()
        self.watch_test()
        for page in list(self.pages.values()):
            if page.due_at is not None and page.due_at <= self.now:
                self.escalate(page)
            elif (
                page.cleared_at is not None and not self.deadman.late and self.now >= believed_at(self.deadman, page, self.setup)
            ):
                self.close(page.key, "")

    def escalate(self, page: Page) -> None:
        """Tell the level that is due, and what else is due by now."""
        policy = self.setup.policy_of(page)
        count = len(policy.levels)
        while page.due_at is not None and page.due_at <= self.now:
            due_at, at_end = page.due_at, page.level >= count
            page = replace(page, round=page.round + at_end, level=1 if at_end else page.level + 1, reached=False)
            level = policy.levels[page.level - 1]
            page = self.tell_level(page, level)
            page = replace(page, due_at=self.due_after(page, level, due_at, count))
            self.pages[page.key] = page
            self.say("level told", key=page.key, step=page.level, round=page.round)

    def due_after(self, page: Page, level: Level, due_at: float, count: int) -> float | None:
        at_end = page.level >= count
        if level.acknowledge_seconds is None or (at_end and page.round >= page.last_round):
            return None
        if not at_end and self.refuse(level):
            return min(self.now, due_at + level.acknowledge_seconds)
        was_late = self.now - due_at > LATE_SECONDS
        return (self.now if at_end and was_late else due_at) + level.acknowledge_seconds

    def tell_level(self, page: Page, level: Level) -> Page:
        for target in level.targets:
            self.put(page, "trigger", f"{page.round}.{page.level}/{target.who}", target)
        return replace(page, told=(*page.told, *(target for target in level.targets if target not in page.told)))

    def tell_told(self, page: Page, kind: Kind) -> None:
        seen = set()
        for target in page.told:
            if target.channel not in seen:
                seen.add(target.channel)
                self.put(page, kind, str(page.round), target)

    def put(self, page: Page, kind: Kind, which: str, target: Target) -> None:
        if kind in self.setup.tells.get(target.channel, ()):
            name = f"{page.key}/{kind}/{which}/{target.channel}"
            self.outbox[name] = Note(
                name, page.key, kind, page.round, page.level, target.who, target.channel, self.now, self.now
            )  # fmt: skip

    def drop(self, key: str, kinds: Sequence[Kind], why: str) -> None:
        for note in [note for note in self.outbox.values() if note.key == key and note.kind in kinds]:
            del self.outbox[note.id]
            self.actions.append(Record(note, self.now, "dropped", why))

    # -- channels

    def leave_out_channels_that_are_gone(self) -> None:
        """The new process has no such channel: what waits for it would wait for ever, and so would its refusal."""
        for note in [note for note in self.outbox.values() if note.channel not in self.setup.tells]:
            del self.outbox[note.id]
            self.actions.append(Record(note, self.now, "dropped", "its channel is no longer configured"))
        for name in sorted(self.channels.keys() - self.setup.tells.keys()):
            del self.channels[name]
            self.resolve_own(f"{PAGER_REFUSING}-{name}")

    def outcome(self, event: Outcome) -> None:
        note = self.outbox.get(event.note)
        if event.result == "ok":
            self.channel_took(event.channel)
            if note is not None:
                self.delivered(note, event.detail)
            return
        if note is not None:
            self.failed(note, event)
        self.channel_failed(event)

    def delivered(self, note: Note, detail: str) -> None:
        del self.outbox[note.id]
        self.actions.append(Record(replace(note, attempts=note.attempts + 1), self.now, "delivered", detail))
        page = self.pages.get(note.key)
        if page is not None and note.kind == "trigger" and (note.round, note.level) == (page.round, page.level):
            if reaches_a_person(note.channel) and not page.reached:
                self.pages[page.key] = replace(page, reached=True)
        elif note.key == f"{TEST_PAGE}-{self.test.id}" and self.test.sent_at is not None and self.test.pager_seconds is None:
            self.test = replace(self.test, pager_seconds=self.now - self.test.sent_at)

    def failed(self, note: Note, event: Outcome) -> None:
        note = replace(note, attempts=note.attempts + 1)
        if event.result == "refused" or note.attempts >= ATTEMPTS_MAX:
            del self.outbox[note.id]
            outcome: Literal["refused", "given up"] = "refused" if event.result == "refused" else "given up"
            self.actions.append(Record(note, self.now, outcome, event.detail))
            return
        pause = event.jitter * retry_pause_seconds_max(note.attempts)
        pause = max(pause, min(event.retry_after_seconds, RETRY_SECONDS_MAX))
        self.outbox[note.id] = replace(note, next_at=self.now + pause)
        self.actions.append(Record(note, self.now, "retrying", event.detail))

    def channel_took(self, name: str) -> None:
        before = self.channels.get(name, Channel())
        self.channels[name] = Channel(0, None, False, self.now, before.last_error)
        if before.refusing:
            self.say("channel takes pages again", channel=name)
            self.resolve_own(f"{PAGER_REFUSING}-{name}")

    def channel_failed(self, event: Outcome) -> None:
        before = self.channels.get(event.channel, Channel())
        failures = before.failures + 1
        since = self.now if before.failing_since is None else before.failing_since
        lasts = failures >= REFUSING_FAILURES and self.now - since >= REFUSING_SECONDS
        refusing = before.refusing or event.result == "refused" or lasts
        self.channels[event.channel] = Channel(failures, since, refusing, before.last_ok_at, event.detail)
        if refusing and not before.refusing:
            self.say("channel refuses", channel=event.channel, detail=event.detail)
            self.pager_refuses(event.channel, event.detail)
        if refusing:
            self.hurry()

    def hurry(self) -> None:
        """The next level is due now where this one can reach nobody."""
        for page in list(self.pages.values()):
            policy = self.setup.policy_of(page)
            if page.due_at is None or page.due_at <= self.now or page.reached or not 0 < page.level < len(policy.levels):
                continue
            if self.refuse(policy.levels[page.level - 1]):
                self.pages[page.key] = replace(page, due_at=self.now)
                self.say("next level at once: this one can't be reached", key=page.key, step=page.level)

    def refuse(self, level: Level) -> bool:
        """Whether every channel of this level that reaches a person refuses."""
        reaching = [target.channel for target in level.targets if reaches_a_person(target.channel)]
        return bool(reaching) and all(self.channels.get(name, Channel()).refusing for name in reaching)

    def pager_refuses(self, name: str, detail: str) -> None:
        waiting = sorted({note.key for note in self.outbox.values() if note.channel == name and note.kind == "trigger"})
        pages = f" Pages that wait for it: {', '.join(waiting[:5])}." if waiting else ""
        self.open_own(
            PAGER_REFUSING,
            f"{PAGER_REFUSING}-{name}",
            f"The channel {name} refuses pages: {detail}",
            f"Nobody is reached by {name}: its pages go to the next level, and over the other channels.{pages}",
            name,
        )

    # -- the watchers

    def watch_deadman(self) -> None:
        late = self.now >= deadman_due_at(self.deadman, self.setup)
        if late == self.deadman.late:
            return
        self.deadman = replace(self.deadman, late=late, back_at=self.deadman.back_at if late else self.now)
        if not late:
            self.resolve_own(BLIND)
            return
        heard_at, mark_at = self.deadman.heard_at, self.deadman.mark_at
        if heard_at is None:
            said = "Watchdog was never heard: Prometheus, Alertmanager or the way between them and the escalator is down."
        elif self.now - heard_at >= self.setup.deadman_late_seconds:
            said = (
                f"Watchdog was last heard {self.now - heard_at:.0f} s ago: Alertmanager is down, or does not reach the escalator."
            )
        else:
            ago = self.now - (mark_at or heard_at)
            said = f"Prometheus renewed Watchdog {ago:.0f} s ago: it is down, or does not reach Alertmanager."
        self.open_own(BLIND, BLIND, said, "Nothing that breaks now would be noticed. What the console shows as well may be old.")

    def watch_test(self) -> None:
        test = self.test
        if self.now >= test.next_at:
            every = self.setup.test_every_seconds
            self.test = replace(
                test, id=test.id + 1, state="waiting", sent_at=self.now, again_at=None, next_at=self.now + every, error="",
                pager_seconds=None, seconds=None,
            )  # fmt: skip
            self.actions.append(PostTest(test.id + 1))
        elif test.again_at is not None and self.now >= test.again_at:
            self.test = replace(test, again_at=None)
            self.actions.append(PostTest(test.id))
        elif test.state == "waiting" and test.sent_at is not None and self.now >= test.sent_at + self.setup.test_late_seconds:
            again = min(test.next_at, self.now + TEST_AGAIN_SECONDS)
            self.test = replace(test, state="late", again_at=None, next_at=again)
            why = test.error or "Alertmanager took it, but it did not come to the escalator"
            said = f"The test page did not come back within {self.setup.test_late_seconds:.0f} s: {why}."
            self.open_own(TEST_PAGE, TEST_PAGE, said, "A real page may not arrive either.")

    def test_posted(self, event: PathTestPosted) -> None:
        if event.id == self.test.id and self.test.state == "waiting" and event.error:
            self.test = replace(self.test, error=event.error, again_at=self.now + TEST_RETRY_SECONDS)

    def test_returned(self, number: int) -> None:
        test = self.test
        if number != test.id or test.state not in ("waiting", "late") or test.sent_at is None:
            return
        every = self.setup.test_every_seconds
        self.test = replace(
            test, state="ok", returned_at=self.now, seconds=self.now - test.sent_at, again_at=None, error="",
            next_at=test.sent_at + every,
        )  # fmt: skip
        self.resolve_own(TEST_PAGE)
        for name, kinds in self.setup.tells.items():
            if "test" in kinds:
                key = f"{TEST_PAGE}-{number}"
                self.outbox[f"{key}/test/{name}"] = Note(
                    f"{key}/test/{name}", key, "test", 1, 1, "test", name, self.now, self.now
                )

    def open_own(self, alert: str, subject: str, summary: str, feels: str, avoid: str = "") -> None:
        if subject in self.subjects:
            return
        console = self.setup.console
        labels = {
            "alertname": alert,
            "severity": "page",
            "kind": "watch",
            "owner": "pipeline",
            "policy": DEFAULT,
            "hop": "telemetry",
        }
        annotations = {"summary": summary, "feels": feels}
        if console:
            annotations |= {"dashboard": f"{console}/alerts", "runbook": f"{console}/runbooks/{alert}"}
        self.open(Firing(subject, alert, labels, annotations, DEFAULT, self.now), avoid)

    def resolve_own(self, subject: str) -> None:
        key = self.subjects.get(subject)
        if key is not None:
            self.close(key, "")

    # -- time

    def stepped(self, by: float) -> None:
        """The clock was set: what is due stays as far away as it was."""
        for page in list(self.pages.values()):
            self.pages[page.key] = replace(
                page, due_at=_moved(page.due_at, by), cleared_at=_moved(page.cleared_at, by), absent_at=_moved(page.absent_at, by)
            )  # fmt: skip
        for note in list(self.outbox.values()):
            self.outbox[note.id] = replace(note, next_at=note.next_at + by, created_at=note.created_at + by)
        for name, channel in list(self.channels.items()):
            self.channels[name] = replace(channel, failing_since=_moved(channel.failing_since, by))
        self.move_deadman(by)
        self.deadman = replace(self.deadman, back_at=_moved(self.deadman.back_at, by))
        test = self.test
        self.test = replace(
            test, next_at=test.next_at + by, sent_at=_moved(test.sent_at, by), again_at=_moved(test.again_at, by)
        )  # fmt: skip
        self.say("the clock was set; due times moved with it", by_seconds=by)

    def restarted(self, event: Restarted) -> None:
        """While it was down it could hear nothing: that is held against nobody."""
        if event.stepped_seconds:
            self.stepped(event.stepped_seconds)
        down_seconds = event.down_seconds
        self.move_deadman(down_seconds)
        test = self.test
        if not self.setup.test_every_seconds:
            self.test = replace(test, next_at=NEVER, again_at=None)
        elif test.state == "waiting":
            self.test = replace(test, sent_at=_moved(test.sent_at, down_seconds), again_at=self.now)
        elif test.next_at > self.now + self.setup.test_every_seconds:
            self.test = replace(test, next_at=self.now + self.setup.test_first_seconds)
        self.leave_out_channels_that_are_gone()

    def move_deadman(self, by: float) -> None:
        deadman = self.deadman
        self.deadman = replace(
            deadman, since=deadman.since + by, heard_at=_moved(deadman.heard_at, by), mark_at=_moved(deadman.mark_at, by)
        )  # fmt: skip

    def say(self, event: str, **facts: object) -> None:
        self.actions.append(Said(event, facts))


def _moved(at: float | None, by: float) -> float | None:
    return None if at is None else at + by
