"""What a dead letter is: its key and its bytes. Pure.

Rules
- The key is made of the place where the event was read, and of nothing else: writing the same letter again replaces it, and one
  event that fails twice is one letter. The day in it is the record's arrival, which does not change between tries either.
- The original is whole, never cut (TRAPS 17). A letter longer than a frame can hold continues in the next frame.
- The key and the metadata hold no word of the payload: stage and reason are bounded words, the rest is a place.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError

from pipeline import frame
from pipeline.errors import Corrupt
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import DeadLetter, StoredBatch

PREFIX = "dead-letters/"
# Reasons of the workers' own; the others are those of InvalidEvent and of the doors' rejections.
CORRUPT, POISON, CONFLICT = "corrupt", "poison", "conflict"
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Letter:
    """One event, or one whole record, that could not go on. `original` None: the bytes of `record` are the original."""

    stage: str
    # One word of a bounded set; what is no such word becomes "other".
    reason: str
    # A sentence for the person who mends it; never quotes the payload.
    detail: str
    record: StoredRecord
    # Place of the event in its record, from 0.
    index: int = 0
    original: StoredBatch | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a letter's key says."""

    stage: str
    reason: str
    day: str
    name: str


def event_letter(stage: str, reason: str, detail: str, record: StoredRecord, batch: StoredBatch, index: int) -> Letter:
    """The letter of one event of a batch, with the batch's tenant and accept time."""
    alone = StoredBatch(
        events=[batch.events[index]],
        tenant=batch.tenant,
        accepted_at_unix_micros=batch.accepted_at_unix_micros,
        door=batch.door,
        worker=batch.worker,
        slice=batch.slice,
        slices=batch.slices,
    )
    return Letter(stage, reason, detail, record, index, alone)


def original_of(letter: Letter) -> StoredBatch | None:
    """The events of a letter that is to be written; None if not even its record can be read."""
    if letter.original is not None:
        return letter.original if letter.original.events else None
    try:
        batch = StoredBatch.FromString(frame.decode(letter.record.data))
    except (Corrupt, DecodeError):
        return None
    return batch if batch.events else None


def word(reason: str) -> str:
    return reason if _WORD.match(reason) else "other"


def key_of(letter: Letter) -> str:
    record = letter.record
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.arrived_at_unix_micros)
    name = f"{record.stream}-{record.shard_id}-{record.sequence_number}-{letter.index}"
    return f"{PREFIX}{word(letter.stage)}/{word(letter.reason)}/{day:%Y/%m/%d}/{name}"


def place_of(key: str) -> Place | None:
    """The parts of a key, or None if it is no letter's."""
    parts = key.removeprefix(PREFIX).split("/")
    if not key.startswith(PREFIX) or len(parts) != 6:
        return None
    return Place(parts[0], parts[1], "-".join(parts[2:5]), parts[5])


def metadata_of(letter: Letter) -> dict[str, str]:
    record = letter.record
    return {
        "stage": word(letter.stage),
        "reason": word(letter.reason),
        "stream": record.stream,
        "shard": record.shard_id,
        "sequence": record.sequence_number,
        "index": str(letter.index),
    }


def encode(letter: Letter, dead_at_unix_micros: int) -> bytes:
    record = letter.record
    message = DeadLetter(
        stage=word(letter.stage),
        reason=word(letter.reason),
        detail=letter.detail,
        stream=record.stream,
        shard_id=record.shard_id,
        sequence_number=record.sequence_number,
        index=letter.index,
        dead_at_unix_micros=dead_at_unix_micros,
    )
    if letter.original is None:
        message.record = record.data
    else:
        message.event.CopyFrom(letter.original)
    return frame.join(_cut(message.SerializeToString()))


def _cut(payload: bytes) -> Iterator[bytes]:
    for start in range(0, len(payload), frame.PAYLOAD_BYTES_MAX):
        yield payload[start : start + frame.PAYLOAD_BYTES_MAX]


def decode(body: bytes) -> DeadLetter:
    """Raises: Corrupt."""
    parts: list[bytes] = []
    for part in frame.split(body):
        if isinstance(part, frame.Damage):
            raise Corrupt(f"the letter is damaged: {part.reason} at byte {part.start}")
        parts.append(part.data)
    if not parts:
        raise Corrupt("the letter is empty")
    try:
        return DeadLetter.FromString(b"".join(parts))
    except DecodeError as exc:
        raise Corrupt("the letter is whole but holds no dead letter") from exc


def events_of(letter: DeadLetter) -> list[CloudEvent]:
    """The events in a letter; none if not even its record can be read."""
    if letter.WhichOneof("original") == "event":
        return list(letter.event.events)
    try:
        return list(StoredBatch.FromString(frame.decode(letter.record)).events)
    except (Corrupt, DecodeError):
        return []
