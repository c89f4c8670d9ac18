"""The escalator's mind: from a state, an event and the time to the next state, and what to do. No clock, no disk, no network.

    state, actions = step(state, Firing(...), now, setup)

Rules.
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
  jitter.
- **A dead man's switch**: `Watchdog` must be heard, and Prometheus must have renewed it; else the page `MonitorBlind` is
  opened. While blind, "resolved" is not believed: Alertmanager also says so of alerts that Prometheus no longer sends.
- **A resolve that got lost**: `Verified` says what Alertmanager has; a page whose series it no longer has is over, after a
  while. One that is silenced there counts as acknowledged until the silence ends.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from alerts.escalator.policy import DEFAULT, TICKET, Level, Policy, Target, reaches_a_person

Kind = Literal["trigger", "acknowledge", "resolve", "test"]

RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 1.0, 60.0
# About four hours of retries; then the note is given up, and counted.
ATTEMPTS_MAX = 500
# So many failures in a row, over so long, and a channel counts as refusing: a hiccup wakes nobody else.
REFUSING_FAILURES, REFUSING_SECONDS = 3, 15.0
# A level that is later than this was missed, not due: the round after it keeps its distance.
LATE_SECONDS = 1.0
# Alertmanager may have been restarted and know nothing until Prometheus sends again, once a minute.
ABSENT_SECONDS = 180.0
# After blindness rules need so long to fire again, if there is reason.
SIGHT_SECONDS = 300.0
# Prometheus sends an alert again once a minute, seen with the next look at Alertmanager: so much later than being heard.
RENEWAL_SECONDS = 30.0
# A test page that could not be handed to Alertmanager is tried again.
TEST_RETRY_SECONDS = 15.0
# After one that did not come back the next follows sooner.
TEST_AGAIN_SECONDS = 300.0
# A time that does not come.
NEVER = 1e12
# Series that a page remembers; beyond, one that comes back counts as new.
KNOWN_MAX = 1000
BY_ALERTMANAGER = "Alertmanager (silenced or inhibited)"
BLIND, PAGER_REFUSING, TEST_PAGE, WATCHDOG = "MonitorBlind", "PagerRefusing", "TestPage", "Watchdog"


@dataclass(frozen=True, slots=True)
class Page:
    # Also PagerDuty's dedup_key.
    key: str
    # Alert name and group: what opens a new page when this one is resolved.
    subject: str
    alert: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    policy: str
    opened_at: float
    # When the alert began, by Alertmanager.
    starts_at: float
    state: Literal["open", "acknowledged", "resolved"] = "open"
    acknowledged_at: float | None = None
    acknowledged_by: str = ""
    resolved_at: float | None = None
    resolved_by: str = ""
    # From 1; grows with each time that all levels begin again.
    round: int = 1
    last_round: int = 1
    # The level that was told last, from 1; 0: none yet.
    level: int = 0
    # When the next level is told; None: nothing follows.
    due_at: float | None = None
    # Whether somebody got a message of this level.
    reached: bool = False
    # Fingerprints: of the series that fire now, and of all that ever did in this page. Empty: the escalator's own page.
    members: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    # When Alertmanager said that it is over, if that is not acted upon yet.
    cleared_at: float | None = None
    # Since when Alertmanager does not have it.
    absent_at: float | None = None
    # Who was told, so who must hear of the rest.
    told: tuple[Target, ...] = ()
    # The channel that this page is about, and so does not go to.
    avoid: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One message to one person by one channel."""

    # The idempotence key: equal over retries and restarts.
    id: str
    key: str
    kind: Kind
    round: int
    level: int
    who: str
    channel: str
    created_at: float
    next_at: float
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Channel:
    """How a channel fares."""

    failures: int = 0
    failing_since: float | None = None
    refusing: bool = False
    last_ok_at: float | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Deadman:
    # Since when it is expected.
    since: float
    # When `Watchdog` was last delivered here.
    heard_at: float | None = None
    # What Alertmanager says of when Prometheus sent it last, and when we saw that change.
    mark: str = ""
    mark_at: float | None = None
    late: bool = False
    # When it was last back.
    back_at: float | None = None


@dataclass(frozen=True, slots=True)
class PathTest:
    next_at: float
    id: int = 0
    state: Literal["never", "waiting", "ok", "late"] = "never"
    sent_at: float | None = None
    # When to hand it to Alertmanager once more; None: it has it.
    again_at: float | None = None
    returned_at: float | None = None
    # From sending it to its return, and until the pager had it.
    seconds: float | None = None
    pager_seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class State:
    deadman: Deadman
    test: PathTest
    # Pages that are not over, and those that somebody must still be told of.
    pages: Mapping[str, Page] = field(default_factory=dict)
    # The open page of a subject.
    subjects: Mapping[str, str] = field(default_factory=dict)
    outbox: Mapping[str, Note] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    # Pages that were ever opened: makes keys unique.
    opened: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """What does not change while the process runs."""

    policies: Mapping[str, Policy]
    # By channel, what it can be told.
    tells: Mapping[str, frozenset[Kind]]
    console: str = ""
    deadman_late_seconds: float = 100.0
    deadman_grace_seconds: float = 180.0
    # 0: no test pages.
    test_every_seconds: float = 3600.0
    test_late_seconds: float = 120.0
    test_first_seconds: float = 60.0

    def policy_of(self, page: Page) -> Policy:
        if page.avoid:
            return self._around(page.avoid)
        return self.policies.get(page.policy) or self.policies[DEFAULT]

    def _around(self, refusing: str) -> Policy:
        """Everybody by every other channel, as often as the default policy says."""
        default = self.policies[DEFAULT]
        targets = tuple(Target("on-call", name) for name in self.tells if name != refusing)
        return replace(default, levels=(Level(targets, default.levels[0].acknowledge_seconds),))


# -- events


@dataclass(frozen=True, slots=True)
class Firing:
    """A group's alerts of one name, as Alertmanager sends them, at first and again and again."""

    subject: str
    alert: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    policy: str
    starts_at: float
    members: tuple[str, ...] = ()
    # Not all series are in the message: those that are missing may still fire.
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    subject: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    key: str
    who: str


@dataclass(frozen=True, slots=True)
class ResolveByHand:
    key: str
    who: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a channel made of a note. `retry`: it may take it later. `refused`: never."""

    note: str
    channel: str
    result: Literal["ok", "retry", "refused"]
    detail: str = ""
    retry_after_seconds: float = 0.0
    # 0 to 1, by chance: how much of the longest pause to wait.
    jitter: float = 1.0


@dataclass(frozen=True, slots=True)
class WatchdogHeard:
    pass


@dataclass(frozen=True, slots=True)
class Verified:
    """What Alertmanager has: by fingerprint, whether it is silenced or inhibited; and when Prometheus renewed `Watchdog`."""

    active: Mapping[str, bool]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class PathTestPosted:
    id: int
    # Empty: Alertmanager took it.
    error: str = ""


@dataclass(frozen=True, slots=True)
class PathTestReturned:
    id: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """The wall clock was set, by so many seconds."""

    by_seconds: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """The process begins, after it was down for so long; meanwhile the wall clock was set by so much."""

    down_seconds: float
    stepped_seconds: float = 0.0


Event = (
    Firing | Resolved | Acknowledge | ResolveByHand | Tick | Outcome | WatchdogHeard | Verified | PathTestPosted
    | PathTestReturned | Stepped | Restarted
)  # fmt: skip


# -- actions


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a note: for the page's history."""

    note: Note
    at: float
    outcome: Literal["delivered", "retrying", "refused", "given up", "dropped"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Closed:
    """This page is over: for the history."""

    page: Page


@dataclass(frozen=True, slots=True)
class PostTest:
    """Hand this test page to Alertmanager."""

    id: int


@dataclass(frozen=True, slots=True)
class Said:
    """A log line."""

    event: str
    facts: Mapping[str, object]


Action = Record | Closed | PostTest | Said


def begin(now: float, setup: Setup) -> State:
    """The state of an escalator that never ran before."""
    first = now + setup.test_first_seconds if setup.test_every_seconds else NEVER
    return State(Deadman(now), PathTest(first))


def step(
    state: State, event: Event, now: float, setup: Setup, kind: "type[Turn] | None" = None
) -> tuple[State, tuple[Action, ...]]:
    """One event. What is due at `now` is done as well, whatever the event was. `kind`: a mutant, to try the simulator with."""
    turn = (kind or Turn)(state, now, setup)
    turn.take(event)
    turn.catch_up()
    after = turn.state()
    return (state if after == state else after), tuple(turn.actions)


def sendable(state: State, now: float, busy: Iterable[tuple[str, str]]) -> list[Note]:
    """Notes to send now.

    `busy`: pages and channels with a note under way; another of the same waits for its end, so that PagerDuty never hears
    "resolved" before "trigger".
    """
    taken = set(busy)
    found = []
    for note in sorted(state.outbox.values(), key=_turn):
        if note.next_at <= now and (note.key, note.channel) not in taken:
            taken.add((note.key, note.channel))
            found.append(note)
    return found


def next_at(state: State, setup: Setup, busy: Iterable[tuple[str, str]] = ()) -> float:
    """When something is due by itself, without the notes that wait for the end of one under way (`busy`, as for `sendable`)."""
    taken = set(busy)
    due = [page.due_at for page in state.pages.values() if page.due_at is not None]
    due += [note.next_at for note in state.outbox.values() if (note.key, note.channel) not in taken]
    due += [state.test.next_at]
    if state.test.again_at is not None:
        due.append(state.test.again_at)
    if state.test.state == "waiting" and state.test.sent_at is not None:
        due.append(state.test.sent_at + setup.test_late_seconds)
    if not state.deadman.late:
        due.append(deadman_due_at(state.deadman, setup))
    else:
        return min(due)
    due += [_believed_at(state, page, setup) for page in state.pages.values() if page.cleared_at is not None]
    return min(due)


def deadman_due_at(deadman: Deadman, setup: Setup) -> float:
    """When it counts as late."""
    if deadman.heard_at is None:
        return deadman.since + setup.deadman_grace_seconds
    signs = [deadman.heard_at] if deadman.mark_at is None else [deadman.heard_at, deadman.mark_at + RENEWAL_SECONDS]
    return min(signs) + setup.deadman_late_seconds


def subject_of(alert: str, group: Mapping[str, str]) -> str:
    """Alert name, and a digest of the group's labels."""
    text = "\0".join(f"{name}\0{group[name]}" for name in sorted(group))
    return f"{alert}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def retry_pause_seconds_max(attempts: int) -> float:
    return min(RETRY_SECONDS_MAX, RETRY_SECONDS_FIRST * 2.0 ** min(attempts - 1, 16))


def _turn(note: Note) -> tuple[int, float, str]:
    """What was never tried comes first: a further level must not wait behind the retries of the ones before."""
    return note.attempts, note.next_at, note.id


def _believed_at(state: State, page: Page, setup: Setup) -> float:
    """When "resolved" that was not acted upon is, if sight lasts. Infinite: a person must acknowledge first."""
    if page.cleared_at is None or page.state == "resolved" or must_be_acknowledged(page, setup):
        return math.inf
    return page.cleared_at if state.deadman.back_at is None else max(page.cleared_at, state.deadman.back_at) + SIGHT_SECONDS


def must_be_acknowledged(page: Page, setup: Setup) -> bool:
    return page.state == "open" and not setup.policy_of(page).stop_on_resolve


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
            elif page.cleared_at is not None and not self.deadman.late and self.now >= self.believed_at(page):
                self.close(page.key, "")

    def believed_at(self, page: Page) -> float:
        return _believed_at(State(self.deadman, self.test), page, self.setup)

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

    def move_deadman(self, by: float) -> None:
        deadman = self.deadman
        self.deadman = replace(
            deadman, since=deadman.since + by, heard_at=_moved(deadman.heard_at, by), mark_at=_moved(deadman.mark_at, by)
        )  # fmt: skip

    def say(self, event: str, **facts: object) -> None:
        self.actions.append(Said(event, facts))


def _moved(at: float | None, by: float) -> float | None:
    return None if at is None else at + by


def policy_name(labels: Mapping[str, str]) -> str:
    """Which policy an alert takes: tickets do not escalate, unless they name a policy of their own."""
    named = labels.get("policy", "")
    if labels.get("severity") == "ticket":
        return named if named and named != DEFAULT else TICKET
    return named or DEFAULT
