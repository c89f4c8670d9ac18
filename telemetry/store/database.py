"""The store's SQLite file: its tables, how it is opened, and what happens when it is damaged.

Rules.
- One thread writes, over one connection, in transactions of many rows; readers have connections of their own (WAL), so neither
  waits for the other. `synchronous=NORMAL`: a killed process loses nothing that was answered, a power cut the last moments.
- A span's whole message is kept as it came (`body`, OTLP Protobuf); what is looked for often has a column beside it. There is no
  table of attributes: at ten attributes a span it would cost ten more index entries each, and a search by attribute is served as
  well by looking for the attribute's exact bytes in `body`, newest spans first.
- Rows are in order of arrival, so the oldest are the lowest row ids, which is what retention goes by: a sender's clock may lie.
- Telemetry is expendable: a damaged file, or one of another layout, is set aside (the last one is kept) and a new one begun.
- A file that can't be opened, or not anew (the disk is full), is tried again by the next who writes: nothing here gives up.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from telemetry.log import Logger

LAYOUT = 2
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
    hop TEXT, event_id TEXT, event_source TEXT, rebuilt INTEGER NOT NULL, unplanned INTEGER NOT NULL, final INTEGER NOT NULL,
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


class _UnusableError(sqlite3.DatabaseError):
    """The file is damaged, or of another layout."""


def is_corrupt(exc: BaseException) -> bool:
    """Whether it says that the file is damaged; the primary code is the low byte."""
    return (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _CORRUPT_CODES


class Database:
    """The file. The writer's thread owns all but `reader`, `generation` and `suspect`.

    `generation` grows whenever a new file is begun, so that readers know to open it again.
    """

    def __init__(self, folder: Path, log: Logger, clock: Callable[[], float] = time.time) -> None:
        """Raises: FolderInUseError. OSError: the folder can't be made or locked."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "store.sqlite"
        self.generation = 0
        self._log, self._clock = log, clock
        self._connection: sqlite3.Connection | None = None
        self._suspected = -1
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._lock)
            raise FolderInUseError(f"another store writes in {folder}: stop it, or choose another --folder") from exc

    # -- the writer

    def writer(self) -> sqlite3.Connection:
        """The connection that writes, opened if it is not.

        Raises:
            sqlite3.Error: it can't be opened now.
        """
        if self._connection is None:
            try:
                self._connection = self._connect()
            except _UnusableError as exc:
                self.begin_anew(str(exc))
                return self.writer()
        return self._connection

    def begin_anew(self, why: str) -> None:
        """Set the file aside and begin a new one.

        Raises:
            OSError: it can't be moved.
            sqlite3.Error: no new one can be opened now.
        """
        self._close()
        self._set_aside(why)
        self.generation += 1
        self._connection = self._connect()

    @property
    def suspected(self) -> bool:
        """Whether a reader met damage in this very file."""
        return self._suspected == self.generation

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
            empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not empty and layout != LAYOUT:
                raise _UnusableError(f"its layout is {layout}, not {LAYOUT}")
            if empty:
                # Only before the first table: it lets space be given back without a copy of the whole file.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}")
            if empty:
                connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
        except BaseException as exc:
            connection.close()
            if is_corrupt(exc):
                raise _UnusableError(str(exc)) from exc
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
        self._log.error("the store's file can't be used: it is set aside and a new one begun", aside=aside, why=why)

    def disk_bytes(self) -> int:
        """The size of the file, its write-ahead log and the index of that."""
        return sum(map(self._size, _FILES))

    def journal_bytes(self) -> int:
        return self._size("-wal")

    def _size(self, ending: str) -> int:
        try:
            return self.path.with_name(self.path.name + ending).stat().st_size
        except FileNotFoundError:
            return 0

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self._close()
        os.close(self._lock)

    # -- readers, of any thread

    def reader(self) -> sqlite3.Connection:
        """A connection that can only read. It belongs to the thread that asked."""
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = 1")
            # Opens the write-ahead log now, by its name, while it is still this file's.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def suspect(self, generation: int) -> None:
        """A reader of this generation's file met damage; the writer will see to it."""
        self._suspected = generation
