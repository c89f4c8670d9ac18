"""What a sender knows of its own events: when each was sent, and which were acknowledged.

Times are of one clock, in seconds since 1970. Writing is thread-safe, since every door is driven by a thread of its own.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Books:
    # Event id to when it was handed over for the first time.
    attempted: dict[str, float] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    # Event id to reason word: refused by name, not to be sent again.
    refused: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def attempt(self, ids: Iterable[str]) -> None:
        now = time.time()
        with self._lock:
            for id in ids:
                self.attempted.setdefault(id, now)

    def acknowledge(self, ids: Iterable[str]) -> None:
        with self._lock:
            self.acknowledged.update(ids)

    def refuse(self, id: str, reason: str) -> None:
        with self._lock:
            self.refused[id] = reason

    @property
    def answered(self) -> int:
        return len(self.acknowledged) + len(self.refused)
