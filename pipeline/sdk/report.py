"""What one client says of its events: to its figures and its spans.

    send ──► held ──► (the collector) ──► finished ──► counts, latencies, spans
               └─ when it was sent; its trace, if it has one

Rules. Said outside the client's lock, a batch at a time, and never in the way: nothing here waits, and an event's fate does not
depend on it. Latency is counted of every event whose fate is final, from the call of `send` on (so with the wait for room), be
it accepted or not: a collector that is down must not look quick. Not of recovered ones, since nobody knows when they were sent.
Of traced events at most `KEPT_MAX` are remembered; those beyond have no span here, and are counted as dropped.
"""

import itertools
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import SpillwayError
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.sdk.answers import Accepted
from pipeline.sdk.fates import Counts
from pipeline.sdk.segment import Entry
from pipeline.sdk.send_times import NUMBER, SendTimes, Stretch

if TYPE_CHECKING:
    from pipeline.sdk.figures import Buffer, Figures
    from pipeline.sdk.spans import SdkSpans
    from telemetry.tracing import Trace

# About 400 bytes each.
KEPT_MAX = 16_384

Outcome = Accepted | SpillwayError


@dataclass(frozen=True, slots=True)
class Kept:
    """A traced event on its way: what its span will need. `began_ns`: nanoseconds since 1970."""

    trace: "Trace"
    began_ns: int
    type: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Events whose fate is final. A place is an index of `entries` and `outcomes`."""

    entries: Sequence[Entry]
    outcomes: Sequence[Outcome]
    # See `Report.finished`.
    attempts: Mapping[int, int] | None
    stretches: Sequence[Stretch]
    # The traced ones, by place.
    kept: Mapping[int, Kept]
    # Whether any was not accepted.
    failed: bool
    # The same moment, monotonic and since 1970; and when this client began.
    now: float
    now_ns: int
    began_ns: int

    def attempts_at(self, place: int) -> int | None:
        """How often the event was sent."""
        if self.attempts is None:
            return None
        outcome, sent = self.outcomes[place], self.attempts.get(self.entries[place].number, 0)
        return sent + outcome.attempts if isinstance(outcome, Accepted) else sent

    def sent_ns(self, stretch: Stretch) -> int:
        """Nanoseconds since 1970; for recovered events, when this client began."""
        return self.began_ns if stretch.sent_at is None else self.now_ns - int((self.now - stretch.sent_at) * 1e9)


class Report:
    """Thread-safe. Numbers are the outbox's."""

    def __init__(
        self,
        spans: "SdkSpans | None",
        figures: "Figures | None",
        *,
        kept_max: int = KEPT_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spans, self._figures = spans, figures
        self._kept_max, self._clock = kept_max, clock
        self._lock = threading.Lock()
        self._times = SendTimes()
        self._kept: dict[int, Kept] = {}
        self._began_ns = time.time_ns()
        self._buffer: Buffer | None = None

    def opened(self, buffer: "Buffer") -> None:
        if self._figures is not None:
            self._buffer = buffer
            self._figures.opened(buffer)

    def closed(self) -> None:
        if self._figures is not None and self._buffer is not None:
            self._figures.closed(self._buffer)
            self._buffer = None

    def held(self, number: int, sent_at: float, kept: Kept | None) -> tuple[float, float]:
        """An event is on its way; in the order of numbers. Returns from when to when an event, if it is not traced, may be sent
        without a call of this.
        """
        with self._lock:
            marked = self._times.mark(number, sent_at)
            dropped = kept is not None and len(self._kept) >= self._kept_max
            if kept is not None and not dropped:
                self._kept[number] = kept
        if dropped and self._figures is not None:
            self._figures.span_dropped()
        return marked

    def needed_from(self, number: int) -> None:
        """Events before this one are finished."""
        self._times.needed_from = number

    def not_taken(self, event: CloudEvent, kept: Kept | None, began_ns: int, error: SpillwayError) -> None:
        """`send` raised."""
        if self._figures is not None:
            self._figures.not_taken()
        if self.spans is not None:
            self.spans.not_taken(event, kept, began_ns, time.time_ns(), error)

    def finished(
        self, entries: Sequence[Entry], outcomes: Sequence[Outcome], attempts: Mapping[int, int] | None, counts: Counts
    ) -> None:
        """The fate of these, by ascending number, is final. `attempts`: of those not accepted, by number,
        how often they were sent, and of the others how often in vain before this answer's call; None: it is not known."""
        now = self._clock()
        with self._lock:
            stretches = self._times.stretches(entries)
            kept = self._take_kept(entries) if self._kept else {}
        if self._figures is not None:
            self._figures.finished(counts)
            self._figures.waited(*_waits(stretches, kept, now))
        failed = counts.accepted != len(entries)
        if self.spans is not None and (kept or failed or self.spans.concerned(stretches, now)):
            self.spans.finished(
                Finished(entries, outcomes, attempts, stretches, kept, failed, now, time.time_ns(), self._began_ns)
            )

    def _take_kept(self, entries: Sequence[Entry]) -> dict[int, Kept]:
        taken: dict[int, Kept] = {}
        last = entries[-1].number
        for number in list(itertools.takewhile(lambda number: number <= last, self._kept)):
            place = bisect_left(entries, number, key=NUMBER)
            if entries[place].number == number:
                taken[place] = self._kept.pop(number)
        return taken


def _waits(
    stretches: Sequence[Stretch], kept: Mapping[int, Kept], now: float
) -> tuple[list[tuple[float, int]], list[tuple[float, str]]]:
    """Seconds and how many events; and of the traced ones, which are not among those, seconds and trace id."""
    if not kept:
        return [(max(0.0, now - sent_at), end - start) for start, end, sent_at in stretches if sent_at is not None], []
    places = sorted(kept)
    ages, examples = [], []
    for start, end, sent_at in stretches:
        if sent_at is None:
            continue
        inside = places[bisect_left(places, start) : bisect_left(places, end)]
        seconds = max(0.0, now - sent_at)
        examples += [(seconds, kept[place].trace.hex_id) for place in inside]
        if end - start > len(inside):
            ages.append((seconds, end - start - len(inside)))
    return ages, examples
