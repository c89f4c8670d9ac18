"""The store's SQLite file: its tables, how it is opened, and what happens when it is damaged.

Rules.
- One thread writes, over one connection, in transactions of many rows; readers have connections of their own (WAL), so neither
  waits for the other. `synchronous=NORMAL`: a killed process loses nothing that was answered, a power cut the last moments.
- A span's whole message is kept as it came (`body`, OTLP Protobuf); what is looked for often has a column beside it. There is no
  table of attributes: at ten attributes a span it would cost ten more index entries each, and a search by attribute is served as
  well by looking for the attribute's exact bytes in `body`, newest spans first.
- Rows are in order of arrival, so the oldest are the lowest row ids, which is what retention goes by: a sender's clock may lie.
- Telemetry is expendable: a damaged file, or one of another layout, is set aside (the last one is kept) and a new one begun.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from telemetry.log import Logger

LAYOUT = 1
CACHE_KIB = 64 * 1024
# The write-ahead log is cut to this after a checkpoint.
JOURNAL_BYTES_MAX = 8 << 20
SLOW_NS = 1_000_000_000
_CORRUPT_CODES = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_FILES = ("", "-wal", "-shm")

_TABLES = f"""
CREATE TABLE origins (
    id INTEGER PRIMARY KEY, resource BLOB NOT NULL, scope BLOB NOT NULL, seen_s INTEGER NOT NULL, UNIQUE (resource, scope)
);
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL, span_id BLOB NOT NULL, parent_id BLOB NOT NULL,
    start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, status INTEGER NOT NULL,
    hop TEXT, event_id TEXT, event_source TEXT, rebuilt INTEGER NOT NULL, final INTEGER NOT NULL,
    origin_id INTEGER NOT NULL, arrived_s INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX spans_identity ON spans (trace_id, span_id);
CREATE INDEX spans_start ON spans (start_ns);
CREATE INDEX spans_name ON spans (name, start_ns);
CREATE INDEX spans_event ON spans (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX spans_errors ON spans (start_ns) WHERE status = 2;
CREATE INDEX spans_slow ON spans (start_ns) WHERE duration_ns >= {SLOW_NS};
CREATE TABLE lines (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, severity INTEGER NOT NULL, level TEXT NOT NULL, event TEXT NOT NULL,
    trace_id BLOB, event_id TEXT, part TEXT NOT NULL, worker TEXT NOT NULL, fields TEXT NOT NULL, arrived_s INTEGER NOT NULL
);
CREATE INDEX lines_time ON lines (time_ns);
CREATE INDEX lines_trace ON lines (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX lines_event ON lines (event_id) WHERE event_id IS NOT NULL;
PRAGMA user_version = {LAYOUT};
"""


class FolderInUseError(Exception):
    """Another store writes in this folder."""


def is_corrupt(exc: sqlite3.Error) -> bool:
    """Whether the file is damaged; the primary code is the low byte."""
    return (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _CORRUPT_CODES


class Database:
    """The file. `generation` grows whenever a new file is begun, so that readers know to open it again."""

    def __init__(self, folder: Path, log: Logger, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "store.sqlite"
        self.generation = 0
        self.damaged = False
        self._log, self._clock = log, clock
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._lock)
            raise FolderInUseError(f"another store writes in {folder}") from exc
        self.connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as exc:
            if not is_corrupt(exc):
                raise
            self._set_aside(str(exc))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
            empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not empty and layout != LAYOUT:
                connection.close()
                self._set_aside(f"layout {layout}, not {LAYOUT}")
                return self._connect()
            if empty:
                # Only before the first table: it lets space be given back without a copy of the whole file.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}")
            if empty:
                connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, why: str) -> None:
        for old in self.path.parent.glob("store.sqlite.aside-*"):
            old.unlink()
        aside = f"store.sqlite.aside-{int(self._clock())}"
        for ending in _FILES:
            file = self.path.with_name(self.path.name + ending)
            if file.exists():
                file.rename(self.path.with_name(aside + ending))
        self._log.error("the store's file is damaged, it is set aside and a new one begun", aside=aside, why=why)

    def begin_anew(self, why: str) -> None:
        """Set the damaged file aside and begin a new one. The writer's thread only."""
        self.connection.close()
        self._set_aside(why)
        self.connection = self._connect()
        self.generation += 1
        self.damaged = False

    def reader(self) -> sqlite3.Connection:
        """A connection that can only read. It belongs to the thread that asked."""
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.execute("PRAGMA query_only = 1")
        return connection

    def disk_bytes(self) -> int:
        """The size of the file and its write-ahead log."""
        total = 0
        for ending in _FILES[:2]:
            try:
                total += self.path.with_name(self.path.name + ending).stat().st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        self.connection.close()
        os.close(self._lock)
