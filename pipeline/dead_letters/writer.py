"""Where the parts put their dead letters: a port, S3 behind it, and memory for tests.

A write that returns has stored every letter; one that raises has to be taken as not having stored any, and the shard stops: what
can't be kept is not skipped (TRAPS 17). Writing again is harmless, the keys are the same (letters.py).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.backup.objects import Objects
from pipeline.consumer.stream import Bury
from pipeline.dead_letters.letters import Letter, encode, key_of, metadata_of, word
from pipeline.event import StoredRecord
from telemetry.metrics import DEAD_LETTERS, Metrics

WRITES_AT_ONCE_MAX = 8


class DeadLetters(Protocol):
    async def write(self, letters: Sequence[Letter]) -> None:
        """Raises: Unavailable: not all of them are known to be stored."""
        ...


@dataclass
class MemoryDeadLetters:
    """Keeps letters by key, as the bucket would. `failure`, when set, is raised instead."""

    letters: dict[str, Letter] = field(default_factory=dict)
    failure: Exception | None = None

    async def write(self, letters: Sequence[Letter]) -> None:
        if self.failure is not None:
            raise self.failure
        self.letters.update({key_of(letter): letter for letter in letters})


class StoredDeadLetters:
    """Letters as objects, a bounded number at once. `now_micros` is the wall clock."""

    def __init__(self, objects: Objects, metrics: Metrics, now_micros: Callable[[], int]) -> None:
        self._objects = objects
        self._metrics = metrics
        self._now_micros = now_micros

    async def write(self, letters: Sequence[Letter]) -> None:
        if letters:
            await asyncio.to_thread(self.write_now, letters)

    def write_now(self, letters: Sequence[Letter]) -> None:
        """The same for callers without an event loop. Raises: Unavailable."""
        if len(letters) < 2:
            for letter in letters:
                self._put(letter)
            return
        with ThreadPoolExecutor(min(len(letters), WRITES_AT_ONCE_MAX), "dead-letters") as pool:
            for _ in pool.map(self._put, letters):
                pass  # takes each result, so that a failure is raised

    def _put(self, letter: Letter) -> None:
        self._objects.put(key_of(letter), encode(letter, self._now_micros()), metadata_of(letter))
        self._metrics.counter(DEAD_LETTERS, stage=word(letter.stage), reason=word(letter.reason)).inc()


def bury_at(stage: str, letters: DeadLetters) -> Bury:
    """What a consumer of this stage does with a record that it can't get past."""

    async def bury(record: StoredRecord, reason: str, detail: str) -> None:
        await letters.write([Letter(stage, reason, detail, record)])

    return bury
