"""What survives the process: pages, the outbox and the history of notes, in one SQLite file.

Rules.
- One writer. What a step changed is written in one transaction, state and outbox together, with `synchronous=FULL`: when `commit`
  has returned, a kill or a power cut loses nothing of it, and before that nothing of it is there.
- A note is marked as done after the channel took it. A kill in between sends it again, with the same id.
- Rows are read back as the same objects; what a page looks like is written as JSON, so that a field may be added.
- Closed pages and their notes go after `KEEP_SECONDS`.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from alerts.escalator.clock import Reading
from alerts.escalator.events import Closed, Record
from alerts.escalator.policy import Target
from alerts.escalator.state import Channel, Deadman, Note, Page, PathTest, State

LAYOUT = 1
KEEP_SECONDS = 90 * 86_400.0
PAGES_MAX = 10_000
_TABLES = f"""
CREATE TABLE pages (
    key TEXT PRIMARY KEY, subject TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL, live INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX pages_opened ON pages (opened_at);
CREATE INDEX pages_live ON pages (live) WHERE live;
CREATE TABLE notes (
    id TEXT PRIMARY KEY, page TEXT NOT NULL, pending INTEGER NOT NULL, at REAL NOT NULL, outcome TEXT NOT NULL,
    detail TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX notes_page ON notes (page);
CREATE INDEX notes_pending ON notes (pending) WHERE pending;
CREATE TABLE meta (name TEXT PRIMARY KEY, body BLOB NOT NULL);
PRAGMA user_version = {LAYOUT};
"""
T = TypeVar("T")


class FolderInUse(Exception):
    """Another escalator writes in this folder."""


class WrongLayout(Exception):
    """The file is of another version."""


@dataclass(frozen=True, slots=True)
class Told:
    """A note and what became of it, as history shows it."""

    note: Note
    at: float
    outcome: str
    detail: str


class Store(Protocol):
    """Where the state is kept. One implementation is SQLite, one in memory for simulations; one suite of tests holds both."""

    def load(self) -> tuple[State, Reading] | None:
        """What was committed last; None: nothing ever."""

    def commit(self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading) -> None:
        """All of it or nothing."""


class Memory:
    """As durable as SQLite for whoever only kills the process: a commit is kept whole, what was not committed is gone."""

    def __init__(self) -> None:
        self._kept: tuple[State, Reading] | None = None
        self.closed: dict[str, Page] = {}

    def load(self) -> tuple[State, Reading] | None:
        return self._kept

    def commit(self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading) -> None:
        self._kept = after, reading
        self.closed |= {each.page.key: each.page for each in history if isinstance(each, Closed)}


class Sqlite:
    def __init__(self, folder: Path, *, synchronous: str = "FULL") -> None:
        """Raises: FolderInUse, WrongLayout, OSError, sqlite3.Error."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._lock)
            raise FolderInUse(f"another escalator writes in {folder}: stop it, or choose another --data") from exc
        self.path = folder / "escalator.sqlite"
        self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        layout = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if layout == 0:
            self._connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
        elif layout != LAYOUT:
            self.close()
            raise WrongLayout(
                f"{self.path} has layout {layout}, this version wants {LAYOUT}: move it away, or run the other version"
            )

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    def load(self) -> tuple[State, Reading] | None:
        ask = self._connection.execute
        meta = {name: orjson.loads(body) for name, body in ask("SELECT name, body FROM meta")}
        if "reading" not in meta:
            return None
        pages = {page.key: page for page in (_page(body) for (body,) in ask("SELECT body FROM pages WHERE live"))}
        notes = [_read(Note, orjson.loads(body)) for (body,) in ask("SELECT body FROM notes WHERE pending")]
        subjects = {page.subject: page.key for page in pages.values() if page.state != "resolved"}
        channels = {name: _read(Channel, table) for name, table in meta["channels"].items()}
        state = State(
            _read(Deadman, meta["deadman"]), _read(PathTest, meta["test"]), pages, subjects, {note.id: note for note in notes},
            channels, meta["opened"],
        )  # fmt: skip
        return state, _read(Reading, meta["reading"])

    def commit(self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            old_pages = before.pages if before else {}
            for page in after.pages.values():
                if old_pages.get(page.key) is not page:
                    self._put_page(page, live=True)
            for key in old_pages.keys() - after.pages.keys():
                run("UPDATE pages SET live = 0 WHERE key = ?", (key,))
            for page in [each.page for each in history if isinstance(each, Closed) and each.page.key not in after.pages]:
                self._put_page(page, live=False)
            old_notes = before.outbox if before else {}
            for note in after.outbox.values():
                if old_notes.get(note.id) is not note:
                    self._put_note(Told(note, note.created_at, "pending", ""), pending=True)
            for record in [each for each in history if isinstance(each, Record)]:
                pending = record.note.id in after.outbox
                self._put_note(
                    Told(after.outbox.get(record.note.id, record.note), record.at, record.outcome, record.detail), pending
                )
            self._put_meta(before, after, reading)
            run("COMMIT")
        except BaseException:
            self._undo()
            raise

    def _put_page(self, page: Page, *, live: bool) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)",
            (page.key, page.subject, page.state, page.opened_at, live, orjson.dumps(page)),
        )

    def _put_note(self, told: Told, pending: bool) -> None:
        note = told.note
        self._connection.execute(
            "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (note.id, note.key, pending, told.at, told.outcome, told.detail, orjson.dumps(note)),
        )

    def _put_meta(self, before: State | None, after: State, reading: Reading) -> None:
        values: list[tuple[str, Any]] = [("reading", reading)]
        for name in ("deadman", "test", "channels", "opened"):
            value = getattr(after, name)
            if before is None or getattr(before, name) != value:
                values.append((name, value))
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, orjson.dumps(value)) for name, value in values]
        )

    # -- history

    def pages(self, states: Iterable[str], limit: int) -> list[Page]:
        """The newest first."""
        wanted = list(states)
        marks = ",".join("?" * len(wanted))
        rows = self._connection.execute(
            f"SELECT body FROM pages WHERE state IN ({marks}) ORDER BY opened_at DESC, rowid DESC LIMIT ?", (*wanted, limit)
        )
        return [_page(body) for (body,) in rows.fetchall()]

    def page(self, key: str) -> Page | None:
        row = self._connection.execute("SELECT body FROM pages WHERE key = ?", (key,)).fetchone()
        return _page(row[0]) if row else None

    def told(self, key: str) -> list[Told]:
        rows = self._connection.execute(
            "SELECT body, at, outcome, detail FROM notes WHERE page = ? ORDER BY rowid", (key,)
        ).fetchall()
        found = [Told(_read(Note, orjson.loads(body)), at, outcome, detail) for body, at, outcome, detail in rows]
        return sorted(found, key=lambda told: (told.note.created_at, told.note.id))

    def forget(self, now: float) -> None:
        """Drop closed pages that are old, or too many."""
        run = self._connection.execute
        old = (
            "SELECT key FROM pages WHERE NOT live AND (opened_at < ? OR key NOT IN "
            "(SELECT key FROM pages ORDER BY opened_at DESC LIMIT ?))"
        )
        since = now - KEEP_SECONDS
        run("BEGIN IMMEDIATE")
        try:
            run(f"DELETE FROM notes WHERE NOT pending AND (page IN ({old}) OR at < ?)", (since, PAGES_MAX, since))
            run(f"DELETE FROM pages WHERE key IN ({old})", (since, PAGES_MAX))
            run("COMMIT")
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _page(body: bytes) -> Page:
    table = orjson.loads(body)
    table["told"] = tuple(Target(**target) for target in table.get("told", ()))
    for name in ("members", "known"):
        table[name] = tuple(table.get(name, ()))
    return _read(Page, table)


def _read(kind: type[T], table: dict[str, Any]) -> T:
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in table.items() if name in names})
