"""When each event that is on its way was sent: what latencies are made of, in bounded memory.

Rules. A mark says "from this number on, sent at this moment". Events get marks, not each a time of its own: a new one is set when
the clock has moved on by the resolution, or backwards (who waited for room was sent before those who did not). A time read
here is never later than the true one, so no latency is understated. Of too many marks (an outage of hours, with a spool) every
second one goes, and new ones come half as often; once few are left they come as often as before.

Not thread-safe, but for `needed_from`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from pipeline.sdk.segment import Entry

NUMBER = attrgetter("number")
# As long as the first event of a batch waits for company: nothing finer matters.
RESOLUTION_SECONDS = 0.005
MARKS_MAX = 4096
_FORGET_AT_ONCE = 64


class Stretch(NamedTuple):
    """Events, by their places start to end - 1 in what was asked for, that were sent at one moment; None: not known."""

    start: int
    end: int
    sent_at: float | None


class SendTimes:
    """Moments are monotonic seconds, numbers those of the outbox."""

    def __init__(self, resolution_seconds: float = RESOLUTION_SECONDS, marks_max: int = MARKS_MAX) -> None:
        self._crowd = min(_FORGET_AT_ONCE, marks_max)
        self._finest_seconds, self._resolution_seconds, self._marks_max = resolution_seconds, resolution_seconds, marks_max
        # Nobody will ask for events before this one; marks on them go when there are many.
        self.needed_from = 0
        self._firsts: list[int] = []
        self._moments: list[float] = []

    def mark(self, number: int, sent_at: float) -> tuple[float, float]:
        """Event `number`, and those after it up to the next mark, were sent at this moment or later. Returns from when to when a
        moment needs no mark of its own.
        """
        if len(self._firsts) >= self._crowd:
            self._make_room()
        self._firsts.append(number)
        self._moments.append(sent_at)
        return sent_at, sent_at + self._resolution_seconds

    def _make_room(self) -> None:
        passed = bisect_right(self._firsts, self.needed_from) - 1
        if passed > 0:
            del self._firsts[:passed], self._moments[:passed]
        if len(self._firsts) >= self._marks_max:
            self._thin_out()
        elif len(self._firsts) <= self._marks_max // 4:
            self._resolution_seconds = self._finest_seconds
        self._crowd = min(len(self._firsts) + _FORGET_AT_ONCE, self._marks_max)

    def _thin_out(self) -> None:
        moments = self._moments
        self._moments = [min(moments[at : at + 2]) for at in range(0, len(moments), 2)]
        self._firsts = self._firsts[::2]
        self._resolution_seconds *= 2

    def stretches(self, entries: Sequence[Entry]) -> list[Stretch]:
        """Of one or more entries by ascending number. Not known: those from before the first mark, which another process sent."""
        found: list[Stretch] = []
        firsts, start, last = self._firsts, 0, entries[-1].number
        # As nearly always: then nothing need be searched.
        without_gaps = last - entries[0].number == len(entries) - 1
        mark = bisect_right(firsts, entries[0].number) - 1
        while start < len(entries):
            if mark + 1 == len(firsts) or firsts[mark + 1] > last:
                end = len(entries)
            elif without_gaps:
                end = firsts[mark + 1] - entries[0].number
            else:
                end = bisect_left(entries, firsts[mark + 1], start, key=NUMBER)
            if end > start:
                found.append(Stretch(start, end, self._moments[mark] if mark >= 0 else None))
            start, mark = end, mark + 1
        return found
