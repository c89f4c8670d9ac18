"""What the escalator's mind hears, its events; and what it wants done, its actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alerts.escalator.state import Note, Page


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
