"""What the escalator knows: its pages, the notes that wait to be sent, how channels and watchers fare; and its `Setup`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from alerts.escalator.policy import DEFAULT, Level, Policy, Target

Kind = Literal["trigger", "acknowledge", "resolve", "test"]

# The alerts about the watchers themselves.
BLIND, PAGER_REFUSING, TEST_PAGE, WATCHDOG = "MonitorBlind", "PagerRefusing", "TestPage", "Watchdog"
# A time that does not come.
NEVER = 1e12


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


def begin(now: float, setup: Setup) -> State:
    """The state of an escalator that never ran before."""
    first = now + setup.test_first_seconds if setup.test_every_seconds else NEVER
    return State(Deadman(now), PathTest(first))
