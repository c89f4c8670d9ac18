"""What an exit could not take, written whole to the dead letters.

The letters are those of pipeline/dead_letters: their keys are made of the place in the stream and the day the record arrived, so
a batch that is read again overwrites its letters and never doubles them. If a letter can't be written the batch fails and
is tried again: a bad event is never dropped (TRAPS 17).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from pipeline import frame
from pipeline.dead_letters.letters import Letter, encode, event_letter, key_of
from pipeline.etl.decode import Dead
from pipeline.event import StoredRecord
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch


class LetterBox(Protocol):
    """Where letters go: `put` overwrites."""

    def put(self, key: str, body: bytes) -> None: ...


def letter(stage: str, records: Sequence[StoredRecord], dead: Dead) -> Letter:
    """The letter of one event, or of one record that could not even be opened."""
    record = records[dead.record]
    if dead.index is None:
        return Letter(stage, dead.reason, dead.detail, record)
    batch = StoredBatch.FromString(frame.decode(record.data))
    return event_letter(stage, dead.reason, dead.detail, record, batch, dead.index)


def write_letters(stage: str, records: Sequence[StoredRecord], dead: Iterable[Dead], box: LetterBox) -> dict[str, int]:
    """Write them all, and say how many there were of each reason."""
    counts: Counter[str] = Counter()
    for one in dead:
        made = letter(stage, records, one)
        # The record's own time: a letter that is written again is the same letter, byte for byte.
        box.put(key_of(made), encode(made, made.record.arrived_at_unix_micros))
        counts[one.reason] += 1
    return dict(counts)
