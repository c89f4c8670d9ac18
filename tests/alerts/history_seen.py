"""The journal of one history: what an outsider sees of an escalator, which is all that `judge.py` knows."""

from dataclasses import dataclass, field

from alerts.escalator.state import Note, Setup
from tests.alerts.history_plan import Plan


@dataclass(slots=True)
class Attempt:
    at: float
    note: Note
    ends_at: float
    taken: bool = False
    # What the engine was told, and committed; empty: it died before.
    result: str = ""


@dataclass(slots=True)
class Life:
    """A page as it was seen from outside: what each commit left."""

    key: str
    subject: str
    avoid: str
    alert: str
    opened_at: float
    acknowledged_at: float | None = None
    closed_at: float | None = None
    # (round, level): when it was told.
    told_at: dict[tuple[int, int], float] = field(default_factory=dict)
    at_step: tuple[int, int] = (1, 0)
    # The series that it was opened for, and that joined.
    members: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Seen:
    """The journal of one history."""

    plan: Plan
    setup: Setup
    attempts: list[Attempt] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    # When the process was up.
    up: list[list[float]] = field(default_factory=list)
    restarts: int = 0
    # When Watchdog was heard, and seen renewed.
    heard: list[float] = field(default_factory=list)
    renewed: list[float] = field(default_factory=list)
    # (channel, key): what the receiver has: every incident's state in order.
    incidents: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def complain(self, what: str) -> None:
        self.complaints.append(what)
