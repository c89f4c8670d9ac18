"""One file of spooled events, and the file of notes beside it on what is settled.

    <first entry number>-<salt>.events    frames around: salt, entry number, event
    <first entry number>-<salt>.settled   frames around: runs of settled entry numbers (first, last)

Rules. An entry begins with its segment's salt: an event may itself hold frames (a dead letter does), and after damage or a torn
write a reader that looks for the next frame must not take one from inside an event for an entry. Only committed bytes are read
back. `pending` counts entries that are really in the file, so that notes on a damaged entry can't settle another.
Not thread-safe: the spool holds the lock.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import frame

SALT_BYTES = 8
_NUMBER = struct.Struct("<Q")
_RUN = struct.Struct("<QQ")
ENTRY_OVERHEAD_BYTES = SALT_BYTES + _NUMBER.size + frame.OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Entry:
    """One spooled event. `number` is what `Spool.settle` wants; `end` is where in its segment it ends."""

    number: int
    event: bytes
    end: int = 0


@dataclass
class Runs:
    """A set of numbers as sorted, disjoint, inclusive runs: events are settled nearly in order, so there are few."""

    firsts: list[int] = field(default_factory=list)
    lasts: list[int] = field(default_factory=list)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.firsts, number) - 1
        return at >= 0 and number <= self.lasts[at]

    def add(self, first: int, last: int) -> None:
        """Join first..last with every run that it meets or touches."""
        low = bisect_right(self.lasts, first - 2) if first >= 2 else 0
        high = bisect_right(self.firsts, last + 1)
        if low < high:
            first, last = min(first, self.firsts[low]), max(last, self.lasts[high - 1])
        self.firsts[low:high], self.lasts[low:high] = [first], [last]


@dataclass
class Segment:
    path: Path
    # Committed bytes of the events file.
    size: int = 0
    notes_bytes: int = 0
    last_entry: int = 0
    pending_count: int = 0
    damaged_inside: bool = False
    torn_tail: bool = False
    settled: Runs = field(default_factory=Runs)
    # Open for appending; -1 once the segment is finished.
    _descriptor: int = -1

    @property
    def number(self) -> int:
        """The number of its first entry."""
        return int(self.path.stem.partition("-")[0])

    @property
    def notes_path(self) -> Path:
        return self.path.with_suffix(".settled")

    @property
    def bytes_used(self) -> int:
        return self.size + self.notes_bytes

    @property
    def _salt(self) -> bytes:
        return bytes.fromhex(self.path.stem.partition("-")[2])

    @classmethod
    def create(cls, folder: Path, first_entry: int) -> "Segment":
        """A new, empty segment whose name is on disk before anything is written to it."""
        path = folder / f"{first_entry:020d}-{os.urandom(SALT_BYTES).hex()}.events"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        segment = cls(path, last_entry=first_entry - 1, _descriptor=descriptor)
        try:
            sync_folder(folder)
        except OSError:
            segment.delete()
            raise
        return segment

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """An old segment, read through: what is pending in it, and how much of it is damaged."""
        segment = cls(path, size=path.stat().st_size)
        if segment.notes_path.exists():
            notes = segment.notes_path.read_bytes()
            segment.notes_bytes = len(notes)
            for part in frame.split(notes):
                if isinstance(part, frame.Payload) and len(part.data) % _RUN.size == 0:
                    for first, last in _RUN.iter_unpack(part.data):
                        segment.settled.add(first, last)
        segment.last_entry = segment.number - 1
        end = 0
        for entry in segment.entries(0, segment.size or 1):
            segment.damaged_inside |= entry.end - len(entry.event) - ENTRY_OVERHEAD_BYTES > end
            end = entry.end
            segment.last_entry = max(segment.last_entry, entry.number)
            segment.pending_count += segment.is_pending(entry.number)
        segment.torn_tail = end < segment.size
        return segment

    def is_pending(self, number: int) -> bool:
        return number not in self.settled

    def entry(self, number: int, event: bytes) -> bytes:
        """The bytes of an entry of this segment."""
        return frame.encode(self._salt + _NUMBER.pack(number) + event)

    def write(self, framed: bytes, write: Callable[[int, bytes], int]) -> None:
        """Put bytes behind the committed ones. Raises: OSError: perhaps some were written; `undo` takes them away."""
        written = 0
        while written < len(framed):
            count = write(self._descriptor, framed[written:] if written else framed)
            if count <= 0:
                raise OSError(0, "the disk took nothing")
            written += count

    def commit(self, number: int, size: int) -> None:
        self.size += size
        self.last_entry = number
        self.pending_count += 1

    def undo(self) -> bool:
        """Cut off what is not committed; False if the disk refuses even that."""
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def finish(self) -> None:
        """Nothing more will be appended."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def settle(self, numbers: Sequence[int]) -> None:
        """Note that these, all pending here, need not be sent any more."""
        payload = bytearray()
        for first, last in _runs(sorted(numbers)):
            self.settled.add(first, last)
            payload += _RUN.pack(first, last)
        self.pending_count -= len(numbers)
        framed = frame.encode(bytes(payload))
        descriptor = os.open(self.notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, framed)
        finally:
            os.close(descriptor)
        self.notes_bytes += len(framed)

    def delete(self) -> None:
        """The events first: notes without events are rubbish, events without notes would be sent again."""
        self.finish()
        if self.damaged_inside:
            self.path.rename(self.path.with_suffix(".damaged"))
        else:
            self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)

    def entries(self, start: int, read_bytes: int) -> Iterator[Entry]:
        """Committed entries from byte `start` on, damage passed over; reads about `read_bytes` at a time."""
        position, want, salt = start, read_bytes, self._salt
        with self.path.open("rb") as file:
            while position < self.size:
                data = os.pread(file.fileno(), min(want, self.size - position), position)
                whole = position + len(data) >= self.size or not data
                read_to = 0
                for part in frame.split(data):
                    # What is no entry may be damage or an entry that our read cut in two: see below.
                    if isinstance(part, frame.Payload) and part.data.startswith(salt):
                        read_to = part.offset + frame.OVERHEAD_BYTES + len(part.data)
                        number = _NUMBER.unpack_from(part.data, SALT_BYTES)[0]
                        yield Entry(number, part.data[SALT_BYTES + _NUMBER.size :], position + read_to)
                if whole:
                    return
                # Read on from the last whole entry; if there was none, from the same place to the end of the segment.
                want = read_bytes if read_to else self.size - position
                position += read_to


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
