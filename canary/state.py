"""What the canary remembers: on disk, before it acts, so that its own death forgets nothing.

Rules. A probe is written down before it is sent: else one that was sent in the moment of a SIGKILL would come back as a phantom.
An answer, a sighting, a settled verdict is written down when it is known. SQLite keeps it, in one file that one process at a time
may open. What is kept is bounded: probes that are open, a count per minute, exit, door and verdict for as long as strips go back,
and the last cases by name. Not thread-safe: one thread owns it.
"""

import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canary.judge import NOTHING, Sightings, Verdict
from canary.lanes import Slot, letters
from canary.probes import Probe
from pipeline.errors import InvalidConfiguration

CASES_MAX = 500
BUSY_SECONDS_MAX = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS probe (
    number INTEGER PRIMARY KEY, door TEXT NOT NULL, slice INTEGER NOT NULL, slices INTEGER NOT NULL, shards TEXT NOT NULL,
    sent_at REAL NOT NULL, turn INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT '', why TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS sighting (
    number INTEGER NOT NULL, exit TEXT NOT NULL, seen_at REAL, absent_at REAL, gone_at REAL, looked_at REAL,
    copies INTEGER NOT NULL, differs TEXT NOT NULL, overtaken INTEGER NOT NULL, PRIMARY KEY (number, exit)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS strip (
    minute INTEGER NOT NULL, exit TEXT NOT NULL, door TEXT NOT NULL, verdict TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (minute, exit, door, verdict)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cased (
    at REAL NOT NULL, event TEXT NOT NULL, door TEXT NOT NULL, exit TEXT NOT NULL, verdict TEXT NOT NULL, detail TEXT NOT NULL,
    UNIQUE (event, exit, verdict)
);
CREATE TABLE IF NOT EXISTS checked (name TEXT PRIMARY KEY, at REAL NOT NULL, verdict TEXT NOT NULL, sentence TEXT NOT NULL);
"""


@dataclass
class Open:
    """A probe that is not settled at every exit yet."""

    probe: Probe
    slot: Slot
    # "" until the door has answered, or for ever if the canary died meanwhile.
    outcome: str = ""
    why: str = ""
    seen: dict[str, Sightings] = field(default_factory=dict)

    @property
    def acknowledged(self) -> bool:
        return self.outcome == "accepted"

    def at(self, exit: str) -> Sightings:
        return self.seen.get(exit, NOTHING)


@dataclass(frozen=True, slots=True)
class Case:
    """One event that convicts, by name."""

    at: float
    event: str
    door: str
    exit: str
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The last result of a negative check: `verdict` is held, convicted or unknown."""

    name: str
    at: float
    verdict: str
    sentence: str


class State:
    """`path` None: in memory, for a canary of one command; its probes get a ring and a source of their own."""

    def __init__(self, path: Path | None, ring: str = "probe", first_turn: int = 0) -> None:
        """Raises: InvalidConfiguration: another process has it open."""
        self.ring = ring
        self._lock = None if path is None else _locked(path)
        self._db = sqlite3.connect(":memory:" if path is None else path, timeout=BUSY_SECONDS_MAX, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing of what was committed; a machine that loses its power may lose the last moments.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self.source = self._fact("source", lambda: f"/canary/{letters(secrets.randbits(28) | 1 << 27)}")
        self.next_number = int(self._fact("next number", lambda: "0"))
        self.next_turn = int(self._fact("next turn", lambda: str(first_turn)))

    def _fact(self, name: str, make: Callable[[], str]) -> str:
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return str(row[0])
        value = make()
        self.keep(name, value)
        return value

    def fact(self, name: str) -> str:
        """ "" if it was never kept."""
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def keep(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    # -- probes

    def begin(self, opened: Iterable[Open]) -> None:
        """Write probes down, in one transaction. After that they may be sent."""
        probes = [(one.probe, json.dumps(one.slot.shards)) for one in opened]
        rows = [(one.number, one.door, one.slice, one.slices, shards, one.sent_at, one.turn) for one, shards in probes]
        self.next_number = max([self.next_number, *(one.number + 1 for one, _ in probes)])
        self.next_turn += 1
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT INTO probe (number, door, slice, slices, shards, sent_at, turn) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )
            self.keep("next number", str(self.next_number))
            self.keep("next turn", str(self.next_turn))

    def answered(self, opened: Iterable[Open]) -> None:
        rows = [(one.outcome, one.why[:500], one.probe.number) for one in opened]
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("UPDATE probe SET outcome = ?, why = ? WHERE number = ?", rows)

    def sighted(self, exit: str, opened: Iterable[Open]) -> None:
        rows = [_row(one.probe.number, exit, one.at(exit)) for one in opened]
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def settle(self, opened: Open, verdicts: dict[str, Verdict]) -> None:
        """Nothing more is waited for: what remains is a count."""
        probe, minute = opened.probe, int(opened.probe.sent_at // 60)
        with self._db:
            self._db.execute("BEGIN")
            for exit, verdict in verdicts.items():
                self._db.execute(
                    "INSERT INTO strip VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                    (minute, exit, probe.door, verdict.value),
                )
            self._db.execute("DELETE FROM probe WHERE number = ?", (probe.number,))
            self._db.execute("DELETE FROM sighting WHERE number = ?", (probe.number,))

    def open(self) -> list[Open]:
        """What a former life has left, as it was."""
        seen: dict[int, dict[str, Sightings]] = {}
        for number, exit, *rest in self._db.execute("SELECT * FROM sighting"):
            seen.setdefault(number, {})[exit] = _sightings(rest)
        rows = self._db.execute(
            "SELECT number, door, slice, slices, shards, sent_at, turn, outcome, why FROM probe ORDER BY number"
        )
        return [self._opened(row, seen.get(row[0], {})) for row in rows]

    def _opened(self, row: Sequence[Any], seen: dict[str, Sightings]) -> Open:
        number, door, slice, slices, shards, sent_at, turn, outcome, why = row
        probe = Probe(self.source, number, door, slice, sent_at, turn, self.ring, slices)
        return Open(probe, Slot(slice, tuple((stream, shard) for stream, shard in json.loads(shards))), outcome, why, seen)

    # -- what is shown

    def strip(self, since_minute: int) -> Iterator[tuple[int, str, str, Verdict, int]]:
        for minute, exit, door, verdict, count in self._db.execute("SELECT * FROM strip WHERE minute >= ?", (since_minute,)):
            yield minute, exit, door, Verdict(verdict), count

    def forget_before(self, minute: int) -> None:
        self._db.execute("DELETE FROM strip WHERE minute < ?", (minute,))

    def case(self, case: Case) -> bool:
        """Whether this is new."""
        values = (case.at, case.event, case.door, case.exit, case.verdict, case.detail[:500])
        added = self._db.execute("INSERT OR IGNORE INTO cased VALUES (?, ?, ?, ?, ?, ?)", values).rowcount
        if added:
            self._db.execute(
                "DELETE FROM cased WHERE rowid <= (SELECT rowid FROM cased ORDER BY rowid DESC LIMIT 1 OFFSET ?)", (CASES_MAX,)
            )
        return bool(added)

    def cases(self, count: int = 20) -> list[Case]:
        """The newest first."""
        return [Case(*row) for row in self._db.execute("SELECT * FROM cased ORDER BY at DESC, rowid DESC LIMIT ?", (count,))]

    def check(self, checked: Checked) -> None:
        values = (checked.name, checked.at, checked.verdict, checked.sentence)
        self._db.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", values)

    def checks(self) -> list[Checked]:
        return [Checked(*row) for row in self._db.execute("SELECT * FROM checked ORDER BY name")]

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)


def _locked(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise InvalidConfiguration(f"another canary has {path} open: end it, or name another state folder") from exc
    return descriptor


def _row(number: int, exit: str, seen: Sightings) -> tuple[object, ...]:
    differs = json.dumps(seen.differs)
    return (number, exit, seen.seen_at, seen.absent_at, seen.gone_at, seen.looked_at, seen.copies, differs, int(seen.overtaken))


def _sightings(row: Sequence[Any]) -> Sightings:
    seen_at, absent_at, gone_at, looked_at, copies, differs, overtaken = row
    return Sightings(seen_at, absent_at, gone_at, looked_at, copies, tuple(json.loads(differs)), bool(overtaken))
