"""Where the parts put their dead letters: a port, S3 behind it, and memory for tests.

A write that returns has stored every letter; one that raises has to be taken as not having stored any, and the shard stops: what
can't be kept is not skipped (TRAPS 17). Writing again is harmless, the keys are the same (letters.py).

Each letter that is written is one line in the log, with its key and the ids by which its event's trace is found; it never holds
the payload.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.backup.objects import Objects
from pipeline.consumer.stream import Bury
from pipeline.dead_letters.letters import Letter, encode, key_of, metadata_of, original_of, word
from pipeline.event import StoredRecord, text_attribute
from telemetry.log import Logger
from telemetry.metrics import DEAD_LETTERS, Metrics
from telemetry.tracing import TRACEPARENT_ATTRIBUTE, trace_of

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
    """Letters as objects, a bounded number at once. `now_micros` is the wall clock; without `log` no lines are written."""

    def __init__(self, objects: Objects, metrics: Metrics, now_micros: Callable[[], int], log: Logger | None = None) -> None:
        self._log = log
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
        if self._log is not None:
            self._log.warning("dead letter", **line_of(letter))


def line_of(letter: Letter) -> dict[str, str | int]:
    """What a log line says of a letter. A record's letter goes by the record's first event, and says how many there are."""
    record = letter.record
    line: dict[str, str | int] = {
        "stage": word(letter.stage),
        "reason": word(letter.reason),
        "detail": letter.detail,
        "key": key_of(letter),
        "stream": record.stream,
        "shard": record.shard_id,
        "sequence_number": record.sequence_number,
        "index": letter.index,
    }
    batch = original_of(letter)
    if batch is None:
        return line
    event = batch.events[0]
    trace = trace_of(event.source, event.id, text_attribute(event, TRACEPARENT_ATTRIBUTE))
    return line | {
        "event_id": event.id,
        "event_source": event.source,
        "event_type": event.type,
        "trace_id": trace.hex_id,
        "tenant": batch.tenant,
        "events": len(batch.events),
    }


def bury_at(stage: str, letters: DeadLetters, buried: Callable[[StoredRecord, str, str], None] | None = None) -> Bury:
    """What a consumer of this stage does with a record that it can't get past.

    `buried` is told of it afterwards: the record, the reason, the letter's key.
    """

    async def bury(record: StoredRecord, reason: str, detail: str) -> None:
        letter = Letter(stage, reason, detail, record)
        await letters.write([letter])
        if buried is not None:
            buried(record, word(reason), key_of(letter))

    return bury
