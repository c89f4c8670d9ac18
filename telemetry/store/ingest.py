"""Spans and lines on their way into the file: a bounded queue, and the one thread that writes.

    offer ──► waiting (bytes bounded) ──► one transaction for all that waits ──► answered

Rules.
- A sender is answered once its spans are in the file, not before. Past the bound it is refused at once, and told when to come
  again. Every item is counted once: stored or refused; and as expired when it goes.
- A sender that went away takes nothing back: what was taken in is written.
- The disk is full, or can't be written: what waits is refused, and for a moment everything is; then the next request is the
  trial, so it heals by itself.
- A damaged file is set aside, and what was being written goes into the new one.
- Between transactions the writer keeps house: verdicts that are due, what is too old, what is too much.
- Whatever happens to a transaction, its senders are answered, and the thread goes on.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from telemetry.log import Logger
from telemetry.metrics import STORE_BYTES, STORE_ITEMS, STORE_LIMIT_BYTES, STORE_WRITE_SECONDS, Metrics
from telemetry.store.database import Database, is_corrupt
from telemetry.store.judge import Judge, Seen
from telemetry.store.retention import Retention
from telemetry.store.room import Room
from telemetry.store.rows import INSERT_LINE, INSERT_SPAN, Export, Group, Signal

# Of one transaction: about a third of a second of work.
TRANSACTION_REQUESTS_MAX = 16
TRANSACTION_BYTES_MAX = 8 << 20
HOUSE_SECONDS = 1.0
# After a failed write nothing is tried for so long.
REFUSING_SECONDS = 1.0
RETRY_SECONDS = 2
CLOSE_SECONDS_MAX = 10.0
ORIGINS_MAX = 10_000
_SEEN_AGAIN_SECONDS = 60


class RefusedError(Exception):
    """The store does not take this now. `busy`: it has too much to do; else it can't write."""

    def __init__(self, busy: bool, why: str) -> None:
        super().__init__(why)
        self.busy = busy


@dataclass(frozen=True, slots=True)
class _Waiting:
    export: Export
    size_bytes: int
    # How many items were left out because they are not valid.
    done: "Future[int]" = field(default_factory=Future)


class Ingest:
    """`offer` and `refused` may be called by any thread; the rest happens on the writer's."""

    def __init__(
        self,
        database: Database,
        judge: Judge,
        retention: Retention,
        metrics: Metrics,
        log: Logger,
        *,
        waiting_bytes_max: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._judge, self._retention, self._log, self._clock = database, judge, retention, log, clock
        self._waiting: deque[_Waiting] = deque()
        self._room = Room(waiting_bytes_max)
        self._changed = threading.Condition()
        self._stopping = False
        self._refusing_until, self._house_at = 0.0, 0.0
        self._origins: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self._items = {
            (signal, outcome): metrics.counter(STORE_ITEMS, signal=signal, outcome=outcome)
            for signal in ("spans", "logs")
            for outcome in ("stored", "refused", "expired")
        }
        self._seconds = metrics.histogram(STORE_WRITE_SECONDS)
        self._bytes = metrics.gauge(STORE_BYTES)
        self._bytes.set(database.disk_bytes())
        metrics.gauge(STORE_LIMIT_BYTES).set(retention.bytes_max)
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)

    def start(self) -> None:
        """Open the file, so that whoever asks finds it; if that can't be done now, the first who writes tries again."""
        self._careful(self._open, "the store can't open its file")
        self._thread.start()

    def _open(self) -> None:
        self._database.writer()

    # -- any thread

    def offer(self, export: Export, size_bytes: int) -> "Future[int]":
        """Done when it is in the file, with the number of items that were left out as not valid; or fails with `RefusedError`.

        Raises:
            RefusedError: not now.
        """
        waiting = _Waiting(export, size_bytes)
        # Running from now on: a sender that goes away can't cancel it any more.
        waiting.done.set_running_or_notify_cancel()
        with self._changed:
            why = self._unable(size_bytes)
            if why is None:
                self._waiting.append(waiting)
                self._changed.notify()
        if why is not None:
            self.refused(export.signal, export.items)
            raise why
        return waiting.done

    def refused(self, signal: Signal, items: int) -> None:
        """Count what was refused."""
        self._items[(signal, "refused")].inc(items)

    def _unable(self, size_bytes: int) -> RefusedError | None:
        """Why this can't be taken; None if it can, and then its room is taken."""
        if self._stopping:
            return RefusedError(False, "the store is stopping: send it again once it is back")
        if time.monotonic() < self._refusing_until:
            return RefusedError(False, "the store can't write now: its log says why; send it again later")
        if not self._room.take(size_bytes):
            return RefusedError(True, f"{self._room.held_bytes} bytes wait to be written already: send more slowly")
        return None

    def close(self) -> None:
        """Write what waits, within `CLOSE_SECONDS_MAX`, then end. Nothing is taken any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS_MAX)

    # -- the writer's thread

    def _run(self) -> None:
        self._careful(self._restore, "the store can't read what was judged")
        while True:
            batch = self._take()
            if batch:
                self._write(batch)
            if time.monotonic() >= self._house_at:
                self._judge.judge(self._clock())
                self._careful(self._keep_house, "the store can't keep house")
                self._careful(self._measure, "the store can't measure its file")
                self._house_at = time.monotonic() + HOUSE_SECONDS
            if self._stopping and not self._waiting:
                return

    def _take(self) -> list[_Waiting]:
        """What goes into the next transaction; nothing after a while without anything."""
        with self._changed:
            if not self._waiting and not self._stopping:
                self._changed.wait(HOUSE_SECONDS)
            batch: list[_Waiting] = []
            size_bytes = 0
            while self._waiting and len(batch) < TRANSACTION_REQUESTS_MAX:
                size_bytes += self._waiting[0].size_bytes
                if batch and size_bytes > TRANSACTION_BYTES_MAX:
                    break
                batch.append(self._waiting.popleft())
            return batch

    def _write(self, batch: list[_Waiting]) -> None:
        began = time.monotonic()
        failed: Exception | None = None
        try:
            spans = self._transact_even_if_damaged(batch)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the senders have their answer and the next have their chance
            failed = exc
        # First: who is answered may send the next at once.
        self._room.give(sum(waiting.size_bytes for waiting in batch))
        if failed is not None:
            self._origins.clear()
            self._refuse(batch, failed)
            return
        self._seconds.observe(time.monotonic() - began)
        self._judge.see(spans, self._clock())
        for waiting in batch:
            export, invalid = waiting.export, waiting.export.items - waiting.export.valid
            self._items[(export.signal, "stored")].inc(export.valid)
            self.refused(export.signal, invalid)
            waiting.done.set_result(invalid)

    def _transact_even_if_damaged(self, batch: list[_Waiting]) -> list[Seen]:
        try:
            return self._transact(batch)
        except sqlite3.DatabaseError as exc:
            if not is_corrupt(exc):
                raise
            self._begin_anew(str(exc))
            return self._transact(batch)

    def _transact(self, batch: list[_Waiting]) -> list[Seen]:
        """All of it in one transaction. Returns what the judge is to know."""
        connection, now_s = self._database.writer(), int(self._clock())
        seen: list[Seen] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            for waiting in batch:
                for group in waiting.export.groups:
                    seen.extend(self._insert(connection, group, now_s))
                connection.executemany(INSERT_LINE, [(*line, now_s) for line in waiting.export.lines])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return seen

    def _insert(self, connection: sqlite3.Connection, group: Group, now_s: int) -> list[Seen]:
        if not group.rows:
            return []
        origin_id = self._intern(connection, group, now_s)
        connection.executemany(INSERT_SPAN, [(*row, origin_id, now_s) for row in group.rows])
        return [seen for row in group.rows if (seen := Seen.of(row)) is not None]

    def _intern(self, connection: sqlite3.Connection, group: Group, now_s: int) -> int:
        """The id of this pair of resource and scope; one row for each, however many spans have it."""
        key = (group.resource, group.scope)
        known = self._origins.get(key)
        if known is not None and now_s - known[1] < _SEEN_AGAIN_SECONDS:
            return known[0]
        row = connection.execute(
            "INSERT INTO origins (resource, scope, seen_s) VALUES (?, ?, ?)"
            " ON CONFLICT (resource, scope) DO UPDATE SET seen_s = excluded.seen_s RETURNING id",
            (*key, now_s),
        ).fetchone()
        if len(self._origins) >= ORIGINS_MAX:
            self._origins.clear()
        self._origins[key] = (row[0], now_s)
        return int(row[0])

    def _refuse(self, batch: list[_Waiting], exc: Exception) -> None:
        self._refusing_until = time.monotonic() + REFUSING_SECONDS
        self._log.error("the store can't write", why=_said(exc), code=getattr(exc, "sqlite_errorname", ""))
        for waiting in batch:
            self.refused(waiting.export.signal, waiting.export.items)
            waiting.done.set_exception(RefusedError(False, f"the store can't write: {_said(exc)}; send it again later"))

    def _begin_anew(self, why: str) -> None:
        self._origins.clear()
        self._database.begin_anew(why)

    def _careful(self, work: Callable[[], None], otherwise: str) -> None:
        """Work on the file that nobody waits for. Damage that it meets is seen to."""
        try:
            try:
                work()
            except sqlite3.DatabaseError as exc:
                if not is_corrupt(exc):
                    raise
                self._begin_anew(str(exc))
        except Exception as exc:  # noqa: BLE001 - without this thread nothing would be written any more
            self._log.error(otherwise, why=_said(exc), code=getattr(exc, "sqlite_errorname", ""))

    def _keep_house(self) -> None:
        if self._database.suspected:
            self._begin_anew("a reader met damage")
        database = self._database
        expired = self._retention.keep(
            database.writer(), self._clock(), disk_bytes=database.disk_bytes(), journal_bytes=database.journal_bytes()
        )
        for signal, count in expired.items():
            self._items[(signal, "expired")].inc(count)
        if expired:
            # Origins may have gone with their spans.
            self._origins.clear()

    def _measure(self) -> None:
        self._bytes.set(self._database.disk_bytes())

    def _restore(self) -> None:
        self._judge.restore(Seen.since(self._database.writer(), self._clock() - self._judge.memory_seconds), self._clock())


def _said(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
