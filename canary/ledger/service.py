"""The ledger's rounds: read what was said and what is there, judge the windows that are due, write the verdicts down.

    segments, dead letters ─► windows past their deadline ─► exits read ─► judged ─► ledger/verdicts/ · metrics · log lines

Rules
- Who can't look does not judge: while segments or dead letters can't be read nothing is judged, and what became due meanwhile is
  judged afterwards. An exit that can't be read makes its windows UNKNOWN, and they are judged again.
- Nothing is lost before the ledger could look at everything for the whole patience: what came back with the store arrives first.
- A window that is OK is judged once more when the backup is due, and closed. One that is not is judged again: each round while
  patience lasts, then every minute until it leaves the horizon; so a loss that was made good is OK in the end.
- Where it is lies in the bucket, with the verdicts; a finding that was told before a restart is not told again.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from canary.ledger.books import Books, Holdings, Window
from canary.ledger.collect import Collected
from canary.ledger.exits import Exit, of_stretches
from canary.ledger.hearing import Case, Court, Heard
from canary.ledger.judge import Class
from canary.ledger.letters import LetterSource
from canary.ledger.settings import LedgerSettings
from canary.ledger.source import SegmentSource
from canary.ledger.status import Status, as_json, write_status
from canary.ledger.teller import Teller
from canary.ledger.verdicts import Judged, Verdicts
from pipeline.backup.objects import Objects
from pipeline.errors import SpillwayError
from pipeline.ledger.identity import Elements
from pipeline.ledger.tally import WINDOW_SECONDS

# In one round, windows that begin at so many different times are judged for the first time, and so many again: what is wrong for
# an hour must not keep a processor busy.
STARTS_MAX, AGAIN_MAX = 60, 12
# The older a window is, the more seldom it is judged again: once in this share of its age.
AGE_SHARE = 0.1
# A look that fails is no blindness, or one that fails now and then would put off every loss for ever.
BLIND_SECONDS_MIN = 30.0
STRETCH_SECONDS_MAX = 12 * WINDOW_SECONDS


@dataclass(slots=True)
class _Sight:
    """Since when something could be looked at without a break that mattered; None: it never could.

    A look counts when it has ended: one that hung while the store was away began long before it was back.
    """

    since: float | None = None
    last: float | None = None

    def saw(self, now: float) -> None:
        if self.last is None or now - self.last > BLIND_SECONDS_MIN:
            self.since = now
        self.last = now


@dataclass(slots=True)
class _Due:
    """Windows that begin at one time, and are not closed."""

    again_at: float
    judged: bool = False


class Service:
    """`now` is the wall clock, in seconds."""

    def __init__(
        self,
        objects: Objects,
        exits: Sequence[Exit],
        court: Court,
        teller: Teller,
        settings: LedgerSettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._objects, self._exits, self._court, self._teller = objects, exits, court, teller
        self._settings, self._now = settings, now
        self.collected = Collected(settings.deadline_seconds + settings.patience_seconds)
        self._segments = SegmentSource(objects, self.collected, settings.horizon_seconds, teller.log, now)
        self._letters = LetterSource(objects)
        self.verdicts = Verdicts(objects)
        self._due: dict[int, _Due] = {}
        self._loaded = self._began = False
        self._next_start: int | None = None
        # Of segments and letters, and of each exit.
        self._sight = _Sight()
        self._exit_sight = {exit.name: _Sight() for exit in exits}
        self.newest_judged_end = 0
        self._told = as_json(self.status(0.0), ())

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.round(stopping.is_set)
            stopping.wait(self._settings.round_seconds)

    def round(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Look once, and judge what is due. Between stretches `stop` is asked."""
        now = self._now()
        if not self._look(now):
            return
        self._schedule(now)
        for start, end in _cut(of_stretches(self._ready(self._chosen(now), now))):
            if stop():
                break
            self._judge(range(start, end, WINDOW_SECONDS), now)
        self._write(now)

    # Looking.

    def _look(self, now: float) -> bool:
        horizon = now - self._settings.horizon_seconds
        try:
            if not self._loaded:
                for complaint in self.verdicts.load(horizon, now):
                    self._teller.warn("verdicts of an hour can't be read", complaint)
                self._loaded = True
            self._segments.look()
            self._letters.look(horizon, now)
        except SpillwayError as exc:
            self._teller.blind(f"{type(exc).__name__}: {exc}")
            return False
        self._sight.saw(self._now())
        self._teller.seeing(self._letters.unreadable)
        self.collected.forget(_floor(horizon))
        self._reopen(now, at_start=not self._began)
        self._began = True
        return True

    def _reopen(self, now: float, *, at_start: bool) -> None:
        """Windows that were judged, and into which a door took more since."""
        changed = self.collected.take_changed()
        for window in changed:
            row = self.verdicts.rows.get(window)
            # At the start all of it is new to us, but not to who judged it.
            if at_start and row is not None and row.events == self._acknowledged(window):
                continue
            if self.verdicts.is_closed(window.start):
                self.verdicts.reopen(window.start)
                self._due[window.start] = _Due(now, judged=True)
            elif row is not None and window.start in self._due:
                self._due[window.start].again_at = now

    def _acknowledged(self, window: Window) -> int:
        return self.collected.events(window).get(f"{window.door}-door:acknowledged", 0)

    # What is due.

    def _schedule(self, now: float) -> None:
        horizon = _floor(now - self._settings.horizon_seconds)
        start = horizon if self._next_start is None else self._next_start
        while start + WINDOW_SECONDS + self._settings.deadline_seconds <= now:
            if not self.verdicts.is_closed(start):
                self._due.setdefault(start, _Due(start + WINDOW_SECONDS + self._settings.deadline_seconds))
            start += WINDOW_SECONDS
        self._next_start = start
        unjudged = [start for start, each in self._due.items() if start < horizon and not each.judged]
        if unjudged:
            self._teller.unjudged(min(unjudged), max(unjudged) + WINDOW_SECONDS)
        for start in [start for start in self._due if start < horizon]:
            del self._due[start]

    def _chosen(self, now: float) -> list[int]:
        """What is judged in this round: all that never was, and of what was judged before those that have waited for longest."""
        due = sorted((each.again_at, start) for start, each in self._due.items() if each.again_at <= now)
        fresh, again = ([start for _, start in due if self._due[start].judged is before] for before in (False, True))
        return fresh[:STARTS_MAX] + again[:AGAIN_MAX]

    def _ready(self, starts: Sequence[int], now: float) -> Iterator[int]:
        """Those of which everybody who lives has spoken, or should have long ago."""
        for start in starts:
            overdue = now >= start + WINDOW_SECONDS + self._settings.deadline_seconds + self._settings.patience_seconds
            if overdue or not self.collected.lagging(start):
                yield start

    # Judging.

    def _judge(self, starts: range, now: float) -> None:
        held, unread = self._read_exits(starts)
        windows = {window for start in starts for window in self.collected.windows(start)}
        for of_exit in held.values():
            windows |= set(of_exit)
        cases = [self._case(window, held, unread, now) for window in sorted(windows, key=lambda each: (each.start, each))]
        verdicts = self._court.hear(cases)
        for case, heard in zip(cases, verdicts, strict=True):
            self._keep(case.books.window, heard, now)
        for start in starts:
            kinds = [heard.verdict.kind for heard in verdicts if heard.verdict.window.start == start]
            self._judged(start, kinds, now, blind=bool(unread))

    def _read_exits(self, starts: range) -> tuple[dict[str, dict[Window, Holdings]], dict[str, str]]:
        held: dict[str, dict[Window, Holdings]] = {}
        unread: dict[str, str] = {}
        for exit in self._exits:
            try:
                held[exit.name] = exit.read(starts.start, starts.stop)
                self._exit_sight[exit.name].saw(self._now())
                self._teller.exit_read(exit.name)
            except SpillwayError as exc:
                unread[exit.name] = str(exc)
                self._teller.exit_unread(exit.name, str(exc))
        return held, unread

    def _case(self, window: Window, held: dict[str, dict[Window, Holdings]], unread: dict[str, str], now: float) -> Case:
        nothing = Holdings(Elements.none())
        books = Books(
            window,
            self.collected.tables(window),
            {exit: windows.get(window, nothing) for exit, windows in held.items()},
            self._letters.of(window),
            {**self.collected.lagging(window.start), **self.collected.unaccounted(window), **unread},
        )
        # Who was patient once with what is lost is not so again, whatever happened since.
        before = self.verdicts.rows.get(window)
        patient = now < self._patient_until(window.start) and not (before is not None and before.kind is Class.LOST)
        return Case(books, patient, now >= self._backup_due_at(window.start))

    def _seen_from(self, start: int) -> float:
        """When this window's events were to be at the exits, or, if that is later, everything could be looked at again."""
        sights = (self._sight, *self._exit_sight.values())
        return max(start + WINDOW_SECONDS, *(each.since for each in sights if each.since is not None))

    def _patient_until(self, start: int) -> float:
        deadline = start + WINDOW_SECONDS + self._settings.deadline_seconds
        return max(deadline, self._seen_from(start)) + self._settings.patience_seconds

    def _backup_due_at(self, start: int) -> float:
        return self._seen_from(start) + self._settings.backup_due_seconds

    def _keep(self, window: Window, heard: Heard, now: float) -> None:
        row = Judged.of(heard.verdict, now, heard.how)
        before = self.verdicts.put(row)
        self._teller.tell(row, before)

    def _judged(self, start: int, kinds: Sequence[Class], now: float, *, blind: bool) -> None:
        due = self._due[start]
        due.judged = True
        self.newest_judged_end = max(self.newest_judged_end, start + WINDOW_SECONDS)
        # An exit that was not read may hold something of windows that nobody else knows.
        if not blind and all(kind is Class.OK for kind in kinds):
            if now >= self._backup_due_at(start) or not kinds:
                del self._due[start]
                self.verdicts.close(start)
            else:
                due.again_at = self._backup_due_at(start)
        else:
            seldom = now + max(self._settings.again_seconds, AGE_SHARE * (now - start))
            due.again_at = now if now < self._patient_until(start) else seldom

    # Telling.

    def _write(self, now: float) -> None:
        self._teller.sight()
        self._teller.standing(self.verdicts.rows.values(), now - self.newest_judged_end if self.newest_judged_end else 0.0)
        self.verdicts.forget(_floor(now - self._settings.horizon_seconds))
        status = self.status(now)
        self._told = as_json(status, self.verdicts.rows.values())
        try:
            self.verdicts.save()
            write_status(self._objects, status)
        except SpillwayError as exc:
            self._teller.warn("verdicts can't be written down", f"{type(exc).__name__}: {exc}")

    def told(self) -> bytes:
        """For the console, from another thread: as it was after the last round."""
        return self._told

    def status(self, now: float) -> Status:
        return Status.of(now, self.collected, self.verdicts, self.newest_judged_end)


def _floor(seconds: float) -> int:
    return int(seconds) // WINDOW_SECONDS * WINDOW_SECONDS


def _cut(stretches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Into parts that are read at once."""
    for start, end in stretches:
        while start < end:
            yield start, min(end, start + STRETCH_SECONDS_MAX)
            start += STRETCH_SECONDS_MAX
