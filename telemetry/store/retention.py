"""What goes when: by age, and by size with the oldest first. Space that is free beyond what is soon used again goes to the disk.

Rules. Work is done in small transactions and within a time, so that what comes in never waits long; a store that is far over its
limit gets there in several rounds. Age is counted from arrival. The write-ahead log is cut when it has grown because somebody was
always reading, or when all together is too much: a file shrinks only when its log has gone into it.
"""

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from telemetry.store.database import JOURNAL_BYTES_MAX
from telemetry.store.rows import Signal

CHUNK_ROWS = 1000
ROUND_SECONDS_MAX = 0.5
# Free pages that the file keeps for the next rows, rather than to shrink and grow all the time.
FREE_BYTES_MAX = 8 << 20
# The log is cut when it is so many times what a checkpoint leaves of it, or a fourth of all that there may be; a reader that
# holds it is waited for so long.
JOURNAL_FACTOR_MAX = 4
JOURNAL_WAIT_MILLISECONDS = 100
_BUSY_MILLISECONDS = 5000
_PAGES_A_STEP = 512
_TABLES: Mapping[Signal, str] = MappingProxyType({"spans": "spans", "logs": "lines"})


@dataclass(frozen=True, slots=True)
class Retention:
    seconds: float
    bytes_max: int

    @property
    def free_bytes_max(self) -> int:
        return min(FREE_BYTES_MAX, self.bytes_max // 8)

    @property
    def live_bytes_max(self) -> int:
        """What rows may take: free pages and the write-ahead log lie beside them."""
        return self.bytes_max - self.free_bytes_max - self.journal_bytes_max

    @property
    def journal_bytes_max(self) -> int:
        return min(JOURNAL_FACTOR_MAX * JOURNAL_BYTES_MAX, self.bytes_max // 4)

    def keep(self, connection: sqlite3.Connection, now: float, *, disk_bytes: int, journal_bytes: int) -> dict[Signal, int]:
        """Delete what is too old or too much, give back what is free. Returns how many rows of each signal went.

        `disk_bytes` is the file with its log, `journal_bytes` the log alone.
        """
        gone: dict[Signal, int] = {}
        too_old_s = int(now - self.seconds)
        until = time.monotonic() + ROUND_SECONDS_MAX
        while time.monotonic() < until:
            oldest = _oldest(connection)
            if oldest is None:
                break
            arrived_s, signal = oldest
            too_much = _live_bytes(connection) > self.live_bytes_max
            if not too_much and arrived_s >= too_old_s:
                break
            gone[signal] = gone.get(signal, 0) + _delete(connection, signal, None if too_much else too_old_s)
        if gone:
            _forget_origins(connection)
        while _free_bytes(connection) > self.free_bytes_max and time.monotonic() < until + ROUND_SECONDS_MAX:
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})").fetchall()
        if journal_bytes > self.journal_bytes_max or (journal_bytes and disk_bytes > self.bytes_max):
            _cut_journal(connection)
        return gone


def _oldest(connection: sqlite3.Connection) -> tuple[int, Signal] | None:
    found: list[tuple[int, Signal]] = []
    for signal, table in _TABLES.items():
        row = connection.execute(f"SELECT arrived_s FROM {table} ORDER BY id LIMIT 1").fetchone()
        if row is not None:
            found.append((row[0], signal))
    return min(found) if found else None


def _delete(connection: sqlite3.Connection, signal: Signal, before_s: int | None) -> int:
    """The oldest rows of a signal, at most `CHUNK_ROWS`; only those that arrived before then, if it says when."""
    table = _TABLES[signal]
    young = "" if before_s is None else f" AND arrived_s < {before_s}"
    return connection.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT {CHUNK_ROWS}){young}"
    ).rowcount


def _forget_origins(connection: sqlite3.Connection) -> None:
    """Those that no span can have any more. One is noted as seen once a minute at most."""
    connection.execute(
        "DELETE FROM origins WHERE seen_s < coalesce((SELECT arrived_s FROM spans ORDER BY id LIMIT 1), 1 << 62) - 120"
    )


def _cut_journal(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {JOURNAL_WAIT_MILLISECONDS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")


def _live_bytes(connection: sqlite3.Connection) -> int:
    return _pages(connection, "page_count") * _pages(connection, "page_size") - _free_bytes(connection)


def _free_bytes(connection: sqlite3.Connection) -> int:
    return _pages(connection, "freelist_count") * _pages(connection, "page_size")


def _pages(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
