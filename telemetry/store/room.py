"""A bound on bytes that are held at one time."""

import threading


class Room:
    """Gives room for bytes until it is full. Thread-safe.

    An empty room takes anything: a bound that is smaller than one request must not refuse it for ever.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held

    def take(self, size_bytes: int) -> bool:
        with self._lock:
            if self._held and self._held + size_bytes > self._bytes_max:
                return False
            self._held += size_bytes
            return True

    def give(self, size_bytes: int) -> None:
        with self._lock:
            self._held -= size_bytes
