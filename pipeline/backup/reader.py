"""What is in the backup: objects by stream and time, the batches in them, and every byte that is not one.

Rules
- An object lies under the hour of its oldest record's arrival (UTC). Source: Amazon Data Firehose Developer Guide, "Custom
  prefixes for Amazon S3 objects". A Firehose that catches up after an outage joins records of many hours, and it gives up after
  24 h (TRAPS 27); so a record that arrived at T lies under an hour from T - 24 h to T.
- A backup read is a backup judged: everything in an object is either a `Found` or a `Damaged`, none is passed over (TRAPS 10).
- Records appear more than once (Firehose repeats on retry, TRAPS 27): who reads it deduplicates by identity.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError

from pipeline import frame
from pipeline.backup.gzip import plain
from pipeline.backup.objects import Objects, Stored
from pipeline.event import event_key
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch

PREFIX = "backup/"
OBJECT_SPAN_MAX = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch lies: the object, and where in its uncompressed bytes the frame begins."""

    key: str
    offset: int


@dataclass(frozen=True, slots=True)
class Found:
    """One whole batch. `payload` is its encoding as it was read."""

    place: Place
    payload: bytes
    batch: StoredBatch


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes from `start` up to `end` that hold no whole batch; of the object itself if `compressed`, else of its content."""

    key: str
    start: int
    end: int
    reason: str
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Arrival times from `start` up to `end`; None is open."""

    start: datetime | None = None
    end: datetime | None = None


EVERYTHING = Range()


@dataclass(frozen=True, slots=True)
class EventPlace:
    """One copy of an event in the backup; `index` is its place in the batch."""

    place: Place
    index: int


class Backup:
    """The backup in one bucket."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def objects(self, stream: str, within: Range = EVERYTHING) -> Iterator[Stored]:
        """Objects that can hold records of `within`, in the order of their hours."""
        prefix = f"{PREFIX}{stream}/"
        for part in _prefixes(prefix, within):
            for stored in self._objects.list(part):
                if _may_hold(stored.key.removeprefix(prefix), within):
                    yield stored

    def read(self, key: str) -> Iterator[Found | Damaged]:
        """All of one object. Raises: NoSuchObject, Unavailable."""
        content = plain(self._objects.get(key))
        yield from _parts(key, content.data)
        for damage in content.damage:
            yield Damaged(key, damage.start, damage.end, damage.reason, compressed=True)

    def batches(self, stream: str, within: Range = EVERYTHING) -> Iterator[Found | Damaged]:
        for stored in self.objects(stream, within):
            yield from self.read(stored.key)

    def find(self, wanted: bytes, streams: Iterable[str], within: Range = EVERYTHING) -> Iterator[EventPlace]:
        """Every copy of the event with this `event_key`. Reads all objects within the range: name one if you can."""
        for stream in streams:
            for part in self.batches(stream, within):
                if isinstance(part, Found):
                    yield from _places(part, wanted)


def _places(found: Found, wanted: bytes) -> Iterator[EventPlace]:
    for index, event in enumerate(found.batch.events):
        if event_key(found.batch.tenant, event.source, event.id) == wanted:
            yield EventPlace(found.place, index)


def _parts(key: str, content: bytes) -> Iterator[Found | Damaged]:
    for part in frame.split(content):
        if isinstance(part, frame.Damage):
            yield Damaged(key, part.start, part.end, part.reason)
            continue
        try:
            batch = StoredBatch.FromString(part.data)
        except DecodeError:
            end = part.offset + len(part.data) + frame.OVERHEAD_BYTES
            yield Damaged(key, part.offset, end, "the frame is whole but holds no batch")
        else:
            yield Found(Place(key, part.offset), part.data, batch)


def _prefixes(prefix: str, within: Range) -> Iterator[str]:
    """The fewest listings that cover the range: by day if both ends are known, else all."""
    if within.start is None or within.end is None:
        yield prefix
        return
    day = (within.start.astimezone(UTC) - OBJECT_SPAN_MAX).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < within.end:
        yield f"{prefix}{day:%Y/%m/%d}/"
        day += timedelta(days=1)


def _may_hold(rest: str, within: Range) -> bool:
    """Whether an object `yyyy/MM/dd/HH/name` can hold records of the range; one whose hour can't be read, can."""
    try:
        hour = datetime.strptime("/".join(rest.split("/")[:4]), "%Y/%m/%d/%H").replace(tzinfo=UTC)
    except ValueError:
        return True
    after_start = within.start is None or hour + timedelta(hours=1) + OBJECT_SPAN_MAX > within.start
    return after_start and (within.end is None or hour < within.end)
