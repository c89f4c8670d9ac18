"""Getting spans and log lines out of the process, without ever making it wait.

    put ──► bounded queue ──► one thread, a batch a second ──► OTLP/HTTP

Rules. `put` never blocks and never raises: past the bound an item is dropped. Every item is counted once as shipped, dropped
(the queue was full) or failed (the backend did not take it in time); a batch that failed is not tried again beyond the
exporter's own deadline, because newer ones wait behind it. `close` ships what is there, within a bound.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from telemetry.metrics import TELEMETRY_ITEMS, TELEMETRY_QUEUE_ITEMS, Metrics

T = TypeVar("T")
BATCH_ITEMS_MAX = 512
# Of what may be made later: so many are made at once. Alone, each takes several times as long, its code being out of the cache.
MADE_AT_ONCE = 16


class Shipper(Generic[T]):
    """Ships items of one signal ("spans", "logs"). `send` returns whether the backend took the batch; it may raise."""

    def __init__(
        self,
        signal: str,
        send: Callable[[Sequence[T]], bool],
        metrics: Metrics,
        *,
        queue_items_max: int = 4096,
        ship_seconds: float = 1.0,
    ) -> None:
        self._send = send
        self._queue: deque[T] = deque()
        self._queue_items_max = queue_items_max
        self._ship_seconds = ship_seconds
        self._unmade: deque[Callable[[], None]] = deque()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._shipped = metrics.counter(TELEMETRY_ITEMS, signal=signal, outcome="shipped")
        self._dropped = metrics.counter(TELEMETRY_ITEMS, signal=signal, outcome="dropped")
        self._failed = metrics.counter(TELEMETRY_ITEMS, signal=signal, outcome="failed")
        metrics.gauge(TELEMETRY_QUEUE_ITEMS, signal=signal).set_function(lambda: len(self._queue))
        self._thread = threading.Thread(target=self._run, name=f"ship-{signal}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        if len(self._queue) >= self._queue_items_max:
            self._dropped.inc()
            return
        self._queue.append(item)
        if len(self._queue) >= BATCH_ITEMS_MAX:
            self._wake.set()

    def later(self, make: Callable[[], None]) -> None:
        """Call this soon, here or in the shipper's thread, before the next batch; it `put`s items. One that raises has failed."""
        self._unmade.append(make)
        if len(self._unmade) >= MADE_AT_ONCE:
            self._make()

    def _make(self) -> None:
        for _ in range(len(self._unmade)):
            try:
                make = self._unmade.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                make()
            except Exception:  # noqa: BLE001 - as with sending
                self._failed.inc()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until what is queued now has been sent or given up on; whether it was in time."""
        deadline = time.monotonic() + timeout_seconds
        self._wake.set()
        while (self._unmade or self._queue or self._sending) and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.01)
        return not self._unmade and not self._queue and not self._sending

    def close(self, timeout_seconds: float = 3.0) -> None:
        """Flush and end. Whom the backend keeps waiting past the bound is left behind: the thread ends with the process."""
        deadline = time.monotonic() + timeout_seconds
        self.flush(timeout_seconds)
        self._stopping.set()
        self._wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    _sending = False

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._ship_seconds)
            self._wake.clear()
            self._make()
            while self._queue:
                self._sending = True
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_ITEMS_MAX))]
                self._ship(batch)
                self._sending = False

    def _ship(self, batch: Sequence[T]) -> None:
        try:
            taken = self._send(batch)
        except Exception:  # noqa: BLE001 - whatever the backend does, the process goes on; the loss is counted
            taken = False
        (self._shipped if taken else self._failed).inc(len(batch))
