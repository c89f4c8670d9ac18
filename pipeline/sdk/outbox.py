"""What buffers: the port that the sender takes events from, and its form in memory. On disk it is pipeline/sdk/spool.py.

Rules. First in, first out. Bytes count against the bound until the event is settled, not until it is taken: what is in flight
is still held (TRAPS 6).
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pipeline.errors import Throttled
from pipeline.sdk.segment import Entry


class BufferFull(Throttled):
    """The client's buffer is full: events come faster than the collector takes them. Nothing was taken; try later."""


class Outbox(Protocol):
    def append(self, event: bytes) -> int:
        """Hold one event; returns its number. Raises: BufferFull."""
        ...

    def take(self, events_max: int, bytes_max: int) -> list[Entry]:
        """The next events, each once; at least one if there is any."""
        ...

    def settle(self, numbers: Sequence[int]) -> None:
        """These, which were taken, need not be held any more."""
        ...

    @property
    def pending_count(self) -> int:
        """Events held, those in flight included."""
        ...

    @property
    def bytes_used(self) -> int:
        """What counts against the bound. Any thread may ask."""
        ...

    @property
    def bytes_max(self) -> int: ...

    def sync_if_due(self) -> None: ...

    def close(self) -> None: ...


class MemoryOutbox:
    """Dies with the process. Not thread-safe: the sender holds the lock."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._bytes = 0
        self._next_number = 1
        self._waiting: deque[Entry] = deque()
        self._taken: dict[int, int] = {}

    @property
    def bytes_used(self) -> int:
        return self._bytes

    @property
    def pending_count(self) -> int:
        return len(self._waiting) + len(self._taken)

    def append(self, event: bytes) -> int:
        if self._bytes + len(event) > self.bytes_max:
            raise BufferFull(f"{self.pending_count} events, {self._bytes} of {self.bytes_max} bytes, wait for the collector")
        number = self._next_number
        self._next_number += 1
        self._bytes += len(event)
        self._waiting.append(Entry(number, event))
        return number

    def take(self, events_max: int, bytes_max: int) -> list[Entry]:
        taken: list[Entry] = []
        size = 0
        while self._waiting and len(taken) < events_max:
            size += len(self._waiting[0].event)
            if taken and size > bytes_max:
                break
            entry = self._waiting.popleft()
            self._taken[entry.number] = len(entry.event)
            taken.append(entry)
        return taken

    def settle(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._bytes -= self._taken.pop(number)

    def sync_if_due(self) -> None:
        """Nothing is on disk."""

    def close(self) -> None:
        """Nothing to let go of."""
