"""What goes when: by age, and by size with the oldest first. Space that becomes free is given back to the disk.

Rules. Work is done in small transactions and within a time, so that what comes in never waits long; a store that is far over its
limit gets there in several rounds. Age is counted from arrival.
"""

import sqlite3
import time
from dataclasses import dataclass

from telemetry.store.database import JOURNAL_BYTES_MAX

CHUNK_ROWS = 1000
ROUND_SECONDS_MAX = 0.5
_PAGES_A_STEP = 2048
_TABLES = {"spans": "spans", "logs": "lines"}


@dataclass(frozen=True, slots=True)
class Retention:
    seconds: float
    bytes_max: int

    @property
    def live_bytes_max(self) -> int:
        """What rows may take: the write-ahead log lies beside them."""
        return max(self.bytes_max - 2 * JOURNAL_BYTES_MAX, self.bytes_max // 2)

    def expire(self, connection: sqlite3.Connection, now: float) -> dict[str, int]:
        """Delete what is too old or too much. Returns how many rows of each signal went."""
        gone: dict[str, int] = {}
        too_old_s = int(now - self.seconds)
        until = time.monotonic() + ROUND_SECONDS_MAX
        while time.monotonic() < until:
            oldest = self._oldest(connection)
            if oldest is None:
                break
            arrived_s, signal = oldest
            too_much = _live_bytes(connection) > self.live_bytes_max
            if not too_much and arrived_s >= too_old_s:
                break
            count = _delete(connection, signal, None if too_much else too_old_s)
            gone[signal] = gone.get(signal, 0) + count
        if gone:
            _forget_origins(connection)
        while _free_pages(connection) and time.monotonic() < until + ROUND_SECONDS_MAX:
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})").fetchall()
        return gone

    @staticmethod
    def _oldest(connection: sqlite3.Connection) -> tuple[int, str] | None:
        found = []
        for signal, table in _TABLES.items():
            row = connection.execute(f"SELECT arrived_s FROM {table} ORDER BY id LIMIT 1").fetchone()
            if row is not None:
                found.append((row[0], signal))
        return min(found) if found else None


def _delete(connection: sqlite3.Connection, signal: str, before_s: int | None) -> int:
    table = _TABLES[signal]
    chosen = f"SELECT id FROM {table} ORDER BY id LIMIT {CHUNK_ROWS}"
    young = "" if before_s is None else f" AND arrived_s < {before_s}"
    return connection.execute(f"DELETE FROM {table} WHERE id IN ({chosen}){young}").rowcount


def _forget_origins(connection: sqlite3.Connection) -> None:
    """Those that no span can have any more. One is noted as seen once a minute at most."""
    connection.execute(
        "DELETE FROM origins WHERE seen_s < coalesce((SELECT arrived_s FROM spans ORDER BY id LIMIT 1), 1 << 62) - 120"
    )


def _live_bytes(connection: sqlite3.Connection) -> int:
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
