"""Spans and lines on their way into the file: a bounded queue, and the one thread that writes.

    offer ──► waiting (bytes bounded) ──► one transaction for all that waits ──► answered

Rules.
- A sender is answered once its spans are in the file, not before. Past the bound it is refused at once, and told when to come
  again. Every item is counted once: stored or refused; and as expired when it goes.
- The disk is full, or can't be written: what waits is refused, and for a moment everything is; then the next request is the
  trial, so it heals by itself.
- A damaged file is set aside, and what was being written goes into the new one.
- Between transactions the writer keeps house: verdicts that are due, what is too old, what is too much.
"""

import errno
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from telemetry.log import Logger
from telemetry.metrics import STORE_BYTES, STORE_ITEMS, STORE_LIMIT_BYTES, STORE_WRITE_SECONDS, Metrics
from telemetry.store.database import Database, is_corrupt
from telemetry.store.judge import Judge
from telemetry.store.retention import Retention
from telemetry.store.rows import INSERT_LINE, INSERT_SPAN, Seen, line_count, line_rows, seen, span_count, span_rows

Request = ExportTraceServiceRequest | ExportLogsServiceRequest
Signal = Literal["spans", "logs"]
# So many requests in one transaction: at 512 spans each about a third of a second of work.
TRANSACTION_REQUESTS_MAX = 16
HOUSE_SECONDS = 1.0
# After a failed write nothing is tried for so long.
REFUSING_SECONDS = 1.0
RETRY_SECONDS = 2
ORIGINS_MAX = 10_000
_SEEN_AGAIN_SECONDS = 60


class RefusedError(Exception):
    """The store does not take this now. `busy`: it has too much to do; else it can't write."""

    def __init__(self, busy: bool, why: str) -> None:
        super().__init__(why)
        self.busy = busy


@dataclass(frozen=True, slots=True)
class _Waiting:
    signal: Signal
    request: Request
    items: int
    size_bytes: int
    # How many items were left out because they are not valid.
    done: "Future[int]" = field(default_factory=Future)


class Ingest:
    """`offer` may be called by any thread; the rest happens on the writer's."""

    def __init__(
        self,
        database: Database,
        judge: Judge,
        retention: Retention,
        metrics: Metrics,
        log: Logger,
        *,
        waiting_bytes_max: int,
        limit_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._judge, self._retention, self._log, self._clock = database, judge, retention, log, clock
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes, self._waiting_bytes_max = 0, waiting_bytes_max
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
        metrics.gauge(STORE_LIMIT_BYTES).set(limit_bytes)
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)

    def start(self) -> None:
        self._restore()
        self._thread.start()

    # -- any thread

    def offer(self, signal: Signal, request: Request, size_bytes: int) -> "Future[int]":
        """Done when it is in the file, with the number of items that were left out as not valid; or fails with `RefusedError`.

        Raises:
            RefusedError: not now.
        """
        items = span_count(request) if isinstance(request, ExportTraceServiceRequest) else line_count(request)
        waiting = _Waiting(signal, request, items, size_bytes)
        with self._changed:
            why = self._full(size_bytes)
            if why is None:
                self._waiting.append(waiting)
                self._waiting_bytes += size_bytes
                self._changed.notify()
        if why is not None:
            self._items[(signal, "refused")].inc(items)
            raise why
        return waiting.done

    def _full(self, size_bytes: int) -> RefusedError | None:
        if self._stopping:
            return RefusedError(False, "the store is stopping")
        if time.monotonic() < self._refusing_until:
            return RefusedError(False, "the store can't write now")
        # An empty queue takes anything: a bound smaller than one request must not refuse it for ever.
        if self._waiting and self._waiting_bytes + size_bytes > self._waiting_bytes_max:
            return RefusedError(True, f"{self._waiting_bytes} bytes wait to be written already")
        return None

    def close(self) -> None:
        """Write what waits, then end. Nothing is taken any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    # -- the writer's thread

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._write(batch)
            if time.monotonic() >= self._house_at:
                self._keep_house()
                self._house_at = time.monotonic() + HOUSE_SECONDS
            if self._stopping and not self._waiting:
                return

    def _take(self) -> list[_Waiting]:
        with self._changed:
            if not self._waiting and not self._stopping:
                self._changed.wait(HOUSE_SECONDS)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), TRANSACTION_REQUESTS_MAX))]
            self._waiting_bytes -= sum(waiting.size_bytes for waiting in batch)
            return batch

    def _write(self, batch: list[_Waiting]) -> None:
        began = time.monotonic()
        try:
            stored, spans = self._transact(batch)
        except sqlite3.DatabaseError as exc:
            self._origins.clear()
            if not is_corrupt(exc):
                self._refuse(batch, exc)
                return
            try:
                self._begin_anew(str(exc))
                stored, spans = self._transact(batch)
            except (sqlite3.DatabaseError, OSError) as again:
                self._refuse(batch, again)
                return
        self._seconds.observe(time.monotonic() - began)
        self._judge.see(spans, self._clock())
        for waiting, count in zip(batch, stored, strict=True):
            self._items[(waiting.signal, "stored")].inc(count)
            self._items[(waiting.signal, "refused")].inc(waiting.items - count)
            waiting.done.set_result(waiting.items - count)

    def _transact(self, batch: list[_Waiting]) -> tuple[list[int], list[Seen]]:
        """How many items of each were valid, and what the judge is to know."""
        connection, arrived_s = self._database.connection, int(self._clock())
        stored: list[int] = []
        spans: list[Seen] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            for waiting in batch:
                if isinstance(waiting.request, ExportTraceServiceRequest):
                    rows = list(span_rows(waiting.request, self._intern, arrived_s))
                    connection.executemany(INSERT_SPAN, rows)
                    spans.extend(known for row in rows if (known := seen(row)) is not None)
                    stored.append(len(rows))
                else:
                    lines = list(line_rows(waiting.request, arrived_s))
                    connection.executemany(INSERT_LINE, lines)
                    stored.append(len(lines))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return stored, spans

    def _intern(self, resource: bytes, scope: bytes) -> int:
        """The id of this pair of resource and scope; one row for each, however many spans have it."""
        now_s, key = int(self._clock()), (resource, scope)
        known = self._origins.get(key)
        if known is not None and now_s - known[1] < _SEEN_AGAIN_SECONDS:
            return known[0]
        row = self._database.connection.execute(
            "INSERT INTO origins (resource, scope, seen_s) VALUES (?, ?, ?)"
            " ON CONFLICT (resource, scope) DO UPDATE SET seen_s = excluded.seen_s RETURNING id",
            (resource, scope, now_s),
        ).fetchone()
        if len(self._origins) >= ORIGINS_MAX:
            self._origins.clear()
        self._origins[key] = (row[0], now_s)
        return int(row[0])

    def _refuse(self, batch: list[_Waiting], exc: Exception) -> None:
        self._refusing_until = time.monotonic() + REFUSING_SECONDS
        self._log.error("the store can't write", why=str(exc), code=getattr(exc, "sqlite_errorname", ""))
        for waiting in batch:
            self._items[(waiting.signal, "refused")].inc(waiting.items)
            waiting.done.set_exception(RefusedError(False, f"the store can't write: {exc}"))

    def _begin_anew(self, why: str) -> None:
        self._database.begin_anew(why)
        self._origins.clear()

    def _keep_house(self) -> None:
        self._judge.judge(self._clock())
        try:
            if self._database.damaged:
                self._begin_anew("a reader met damage")
            expired = self._retention.expire(self._database.connection, self._clock())
            for signal, count in expired.items():
                self._items[(signal, "expired")].inc(count)
            if expired:
                self._origins.clear()
        except sqlite3.DatabaseError as exc:
            self._database.damaged = self._database.damaged or is_corrupt(exc)
            self._log.error("the store can't keep house", why=str(exc))
        except OSError as exc:
            self._log.error("the store can't keep house", why=errno.errorcode.get(exc.errno or 0, str(exc)))
        self._bytes.set(self._database.disk_bytes())

    def _restore(self) -> None:
        now = self._clock()
        rows = self._database.connection.execute(
            "SELECT trace_id, event_source, event_id, hop, rebuilt, final, arrived_s FROM spans"
            " WHERE id > coalesce((SELECT id FROM spans WHERE arrived_s < ? ORDER BY id DESC LIMIT 1), 0)"
            " AND event_id IS NOT NULL AND hop IS NOT NULL ORDER BY id",
            (int(now - self._judge.memory_seconds),),
        )
        spans = (((row[0], row[1] or "", row[2], row[3], bool(row[4]), bool(row[5])), float(row[6])) for row in rows)
        self._judge.restore(spans, now)
