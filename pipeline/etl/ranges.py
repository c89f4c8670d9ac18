"""Where a query stands in the stream, and how far its next batch goes: closed ranges of sequence numbers, per shard.

Rules.
- An offset names, per shard, the last record that belongs to the batches before it. The end of a batch is found before anything
  of it is read, is a record that was seen, and is logged by Spark: a batch that is read again holds the same records (TRAPS 19).
- The start is the oldest record. LATEST is never resolved: Spark asks for the start again after a restart before the first
  commit, and what came in between would be lost.
- A shard is read only when all its parents are read to their end (TRAPS 14).
- What is gone from the stream before it was read is a `Gap`, an error that stops the query; never silent. A range knows its
  first record, and a position the moment up to which nothing is unread, so trimming shows at either end.
- Probing is cheap in bytes: a few records at the front, then one record at a time further on; only the tail is read twice.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import Permanent, Throttled
from pipeline.etl.kinesis import RECORDS_PER_READ_MAX, At, ExpiredIterator, Kinesis, Page, Read, Shard

PROBE_RECORDS = 16
_TAIL_MILLIS = 1_000
_TAIL_PAGES_MAX = 20
_EMPTY_PAGES_MAX = 50
_ITERATOR_AGE_SECONDS_MAX = 240.0
_SHARDS_AGE_SECONDS_MAX = 10.0
# An idle shard's position is moved on this often, in a batch without records, so that it never looks trimmed.
_HEARTBEAT_MILLIS = 3_600_000
# The shortest retention that Kinesis has is 24 h; positions younger than half of it need no look at the real one.
_TRIM_IMPOSSIBLE_MILLIS = 12 * 3_600_000


class Gap(Permanent):
    """Records were trimmed from the stream before this query had read them. Restore them from the backup."""


@dataclass(frozen=True, slots=True)
class Position:
    # The last record that is in; empty: none yet.
    after: str = ""
    # The first record of the range that ends here; empty if the range is empty.
    first: str = ""
    # Nothing that arrived before this moment is unread; 0: not known, nothing is read yet.
    safe_millis: int = 0
    # The shard is closed and `after` is its last record.
    done: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Records of one shard: those after `after`, from `first` up to and including `last`."""

    shard_id: str
    after: str
    first: str
    last: str


Offset = Mapping[str, Position]


def to_json(offset: Offset) -> dict[str, Any]:
    """Sorted, so that equal offsets are equal texts: Spark compares texts."""
    return {
        shard: {"after": at.after, "first": at.first, "safe_millis": at.safe_millis, "done": at.done}
        for shard, at in sorted(offset.items())
    }


def from_json(value: Mapping[str, Any]) -> dict[str, Position]:
    return {shard: Position(**fields) for shard, fields in value.items()}


def ranges(start: Offset, end: Offset) -> list[Range]:
    """The ranges between two offsets; shards without new records have none."""
    found = []
    for shard, to in sorted(end.items()):
        after = start.get(shard, Position()).after
        if to.after != after:
            found.append(Range(shard, after, to.first, to.after))
    return found


class Prober:
    """Finds the end of the next batch. Keeps iterators and the shard list between calls; loses nothing if it is made anew."""

    def __init__(self, kinesis: Kinesis, stream: str, *, clock: Callable[[], float] = time.time) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._clock = clock
        self._iterators: dict[str, tuple[str, str, float]] = {}
        self._shards: list[Shard] = []
        self._shards_at = -_SHARDS_AGE_SECONDS_MAX
        self._retention_seconds: float | None = None

    def advance(self, start: Offset, span_seconds: float) -> dict[str, Position]:
        """The offset that the next batch ends at; equal to `start` when nothing is new.

        Raises:
            Gap: records are gone that were never read.
        """
        shards = self._list(start)
        end = self._admitted(start, shards)
        for shard in shards:
            here = end[shard.id]
            if not here.done and all(start.get(parent, _DONE).done for parent in shard.parents):
                self._refuse_trimmed(shard.id, here)
                end[shard.id] = self._probe(shard.id, here, span_seconds)
        return end

    def _list(self, start: Offset) -> list[Shard]:
        age = self._clock() - self._shards_at
        continued = {parent for shard in self._shards for parent in shard.parents}
        waiting = any(at.done and shard not in continued for shard, at in start.items())  # for the children of a closed shard
        if age >= _SHARDS_AGE_SECONDS_MAX or waiting:
            self._shards = self._kinesis.shards(self._stream)
            self._shards_at = self._clock()
        return self._shards

    def _admitted(self, start: Offset, shards: Sequence[Shard]) -> dict[str, Position]:
        listed = {shard.id for shard in shards}
        for id, at in start.items():
            if id not in listed and not at.done:
                raise Gap(f"{self._stream} {id} is gone from the stream, but was read only up to {at.after or 'its start'}")
        end = {}
        for shard in shards:
            if shard.id in start:
                end[shard.id] = start[shard.id]
                continue
            unknown = [parent for parent in shard.parents if parent not in start and parent not in listed]
            if start and unknown:
                raise Gap(f"{self._stream} {unknown[0]}, parent of {shard.id}, is gone from the stream and was never read")
            end[shard.id] = Position()
        return end

    def _refuse_trimmed(self, shard_id: str, here: Position) -> None:
        now_millis = self._clock() * 1000
        if not here.safe_millis or now_millis - here.safe_millis < _TRIM_IMPOSSIBLE_MILLIS:
            return
        if self._retention_seconds is None:
            self._retention_seconds = self._kinesis.retention_seconds(self._stream)
        behind_seconds = (now_millis - here.safe_millis) / 1000
        if behind_seconds > self._retention_seconds:
            raise Gap(
                f"{self._stream} {shard_id} was last read {behind_seconds / 3600:.1f} h ago, and the stream keeps "
                f"{self._retention_seconds / 3600:.0f} h: what came between may be trimmed; restore it from the backup"
            )

    def _probe(self, shard_id: str, here: Position, span_seconds: float) -> Position:
        try:
            page = self._front(shard_id, here)
            if not page.records:
                return self._idle(shard_id, here, page)
            return self._end(shard_id, here, page, span_seconds)
        except Throttled:
            return here  # the next trigger asks again

    def _front(self, shard_id: str, here: Position) -> Page:
        after, iterator, made_at = self._iterators.pop(shard_id, ("", "", 0.0))
        if not iterator or after != here.after or self._clock() - made_at > _ITERATOR_AGE_SECONDS_MAX:
            iterator = self._kinesis.iterator(self._stream, shard_id, At(after=here.after))
        try:
            return self._through_empty(self._kinesis.read(iterator, PROBE_RECORDS), PROBE_RECORDS)
        except ExpiredIterator:
            iterator = self._kinesis.iterator(self._stream, shard_id, At(after=here.after))
            return self._through_empty(self._kinesis.read(iterator, PROBE_RECORDS), PROBE_RECORDS)

    def _through_empty(self, page: Page, limit: int) -> Page:
        """Kinesis may answer with nothing although there is more: go on, within a bound."""
        for _ in range(_EMPTY_PAGES_MAX):
            if page.records or page.next_iterator is None or page.behind_millis == 0:
                break
            page = self._kinesis.read(page.next_iterator, limit)
        return page

    def _idle(self, shard_id: str, here: Position, page: Page) -> Position:
        now_millis = int(self._clock() * 1000)
        if page.next_iterator is None:
            return Position(here.after, "", now_millis, done=True)
        self._iterators[shard_id] = (here.after, page.next_iterator, self._clock())
        if page.behind_millis == 0 and here.safe_millis and now_millis - here.safe_millis > _HEARTBEAT_MILLIS:
            return Position(here.after, "", now_millis)
        return here

    def _end(self, shard_id: str, here: Position, page: Page, span_seconds: float) -> Position:
        first, last = page.records[0], page.records[-1]
        beyond_millis = first.arrived_millis + span_seconds * 1000
        target_millis = int(min(beyond_millis, self._clock() * 1000 - _TAIL_MILLIS))
        if page.next_iterator is not None and page.behind_millis > 0 and target_millis > last.arrived_millis:
            jumped = self._jump(shard_id, target_millis)
            if jumped is not None and int(jumped.sequence_number) > int(last.sequence_number):
                return Position(jumped.sequence_number, first.sequence_number, jumped.arrived_millis)
        for _ in range(_TAIL_PAGES_MAX):
            if page.next_iterator is None or page.behind_millis == 0 or last.arrived_millis >= beyond_millis:
                break
            page = self._kinesis.read(page.next_iterator, 1_000)
            last = page.records[-1] if page.records else last
        if page.next_iterator is not None:
            self._iterators[shard_id] = (last.sequence_number, page.next_iterator, self._clock())
        return Position(last.sequence_number, first.sequence_number, last.arrived_millis, done=page.next_iterator is None)

    def _jump(self, shard_id: str, at_millis: int) -> Read | None:
        """The first record that arrived at this time or later."""
        iterator = self._kinesis.iterator(self._stream, shard_id, At(at_millis=at_millis))
        page = self._through_empty(self._kinesis.read(iterator, 1), 1)
        return page.records[0] if page.records else None


_DONE = Position(done=True)


def read_range(kinesis: Kinesis, stream: str, part: Range) -> Iterator[Sequence[Read]]:
    """Exactly the records of a range, page by page.

    Raises:
        Gap: the range's first or last record is not there any more.
    """
    iterator = kinesis.iterator(stream, part.shard_id, At(after=part.after))
    where = f"{stream} {part.shard_id} ({part.after or 'start'}, {part.last}]"
    last, previous, empty_pages = int(part.last), part.after, 0
    while empty_pages <= _EMPTY_PAGES_MAX:
        try:
            page = kinesis.read(iterator, RECORDS_PER_READ_MAX)
        except ExpiredIterator:
            iterator = kinesis.iterator(stream, part.shard_id, At(after=previous))
            continue
        inside = [record for record in page.records if int(record.sequence_number) <= last]
        if inside and previous == part.after and part.first and inside[0].sequence_number != part.first:
            raise Gap(f"{where}: begins at {inside[0].sequence_number}, not at {part.first}: its start was trimmed")
        if inside:
            previous = inside[-1].sequence_number
            yield inside
        if previous == part.last:
            return
        if len(inside) < len(page.records) or page.next_iterator is None:
            break
        empty_pages = 0 if page.records else empty_pages + 1
        iterator = page.next_iterator
    raise Gap(f"{where}: its last record is not in the stream any more")
