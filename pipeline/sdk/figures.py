"""What a client counts: the metrics `SDK_*` of the catalogue.

Rules. Nothing is counted event by event. Fates and latencies are added up a batch at a time; what is pending and buffered is read
when somebody scrapes, so that it is right while the sender waits for a collector that does not answer. The clients of one
`Metrics` share its children: their counts, pending events, bytes and limits add up.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakKeyDictionary

from pipeline.sdk.fates import Counts, Fate
from telemetry.many import observe_all
from telemetry.metrics import (
    SDK_BUFFER_BYTES,
    SDK_BUFFER_LIMIT_BYTES,
    SDK_EVENTS,
    SDK_PENDING_EVENTS,
    SDK_SEND_SECONDS,
    TELEMETRY_ITEMS,
    Metrics,
)


class Buffer(Protocol):
    """What a client holds; `pipeline.sdk.outbox.Outbox` is one."""

    @property
    def pending_count(self) -> int: ...

    @property
    def bytes_used(self) -> int: ...

    @property
    def bytes_max(self) -> int: ...


class Figures:
    """Thread-safe. Get it by `figures_of`."""

    def __init__(self, metrics: Metrics) -> None:
        self._lock = threading.Lock()
        self._buffers: list[Buffer] = []
        # Of the client that closed last: with none left the buffers are empty, but not without a size.
        self._last_limit_bytes = 0
        # In the order of `Counts`.
        fates = (Fate.ACCEPTED, Fate.REJECTED, Fate.UNCLEAR, Fate.GIVEN_UP)
        self._finished = [metrics.counter(SDK_EVENTS, outcome=fate.value) for fate in fates]
        self._not_taken = metrics.counter(SDK_EVENTS, outcome=Fate.NOT_TAKEN.value)
        self._seconds = metrics.histogram(SDK_SEND_SECONDS)
        self._dropped = metrics.counter(TELEMETRY_ITEMS, signal="spans", outcome="dropped")
        metrics.gauge(SDK_PENDING_EVENTS).set_function(lambda: self._sum(lambda buffer: buffer.pending_count))
        metrics.gauge(SDK_BUFFER_BYTES).set_function(lambda: self._sum(lambda buffer: buffer.bytes_used))
        metrics.gauge(SDK_BUFFER_LIMIT_BYTES).set_function(
            lambda: self._sum(lambda buffer: buffer.bytes_max) or self._last_limit_bytes
        )

    def opened(self, buffer: Buffer) -> None:
        with self._lock:
            self._buffers.append(buffer)

    def closed(self, buffer: Buffer) -> None:
        with self._lock:
            self._buffers.remove(buffer)
            self._last_limit_bytes = buffer.bytes_max

    def _sum(self, of: Callable[[Buffer], int]) -> int:
        with self._lock:
            buffers = list(self._buffers)
        return sum(map(of, buffers))

    def finished(self, counts: Counts) -> None:
        """So many events met their fates."""
        for counter, count in zip(self._finished, counts, strict=True):
            if count:
                counter.inc(count)

    def not_taken(self) -> None:
        self._not_taken.inc()

    def span_dropped(self) -> None:
        """A traced event will have no span."""
        self._dropped.inc()

    def waited(self, ages: Iterable[tuple[float, int]], examples: Iterable[tuple[float, str]]) -> None:
        """From `send` to its end, of events that had one: seconds, and how many; of traced ones, which are not among those,
        seconds and the trace's id.
        """
        observe_all(self._seconds, SDK_SEND_SECONDS, ages, examples)


_known: WeakKeyDictionary[Metrics, Figures] = WeakKeyDictionary()
_known_lock = threading.Lock()


def figures_of(metrics: Metrics) -> Figures:
    """The figures in this `Metrics`, the same for all clients: its children can be made only once."""
    with _known_lock:
        figures = _known.get(metrics)
        if figures is None:
            figures = _known[metrics] = Figures(metrics)
        return figures
