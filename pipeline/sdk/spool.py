"""A queue of events on disk: what `append` returned from survives a SIGKILL, until `settle` is told that it is delivered.

    folder/lock                  held by the one process that uses the folder
    folder/<number>-….events     segments: events, appended (pipeline/sdk/segment.py)
    folder/<number>-….settled    notes on which of them need not be sent any more
    folder/….damaged             segments that were damaged inside, kept for salvage when the rest of them is settled
    folder/rejected/             what the collector will never take, whole, with the reason (pipeline/sdk/rejected.py)

Rules. The frame is that of pipeline/frame.py: a torn tail is skipped, damage costs the frames that it hit, and both are
counted. An entry carries its own number, so damage can't make one entry's acknowledgement that of another. An entry is settled
only after its acknowledgement; losing a note of settlement sends an event twice with one id, never loses one (TRAPS 3, 21).
A segment is deleted when all of it is settled, and its notes after it. Opening never appends to an old segment, so a torn tail
stays the last thing in its file. A write that fails is cut off again: the spool stays as it was and the caller gets the error.

Bounds: `bytes_max` over all files. Not for network file systems (the lock). Thread-safe.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pipeline.errors import InvalidConfiguration, Retryable
from pipeline.sdk.outbox import BufferFull
from pipeline.sdk.retry import Clock, SystemClock
from pipeline.sdk.segment import ENTRY_OVERHEAD_BYTES, Entry, Segment

READ_BYTES = 256 * 1024
# Segments in a full spool: room comes back in these portions.
SEGMENTS_MIN = 8


class Fsync(Enum):
    """When written bytes are forced to the disk. Each survives the death of the process; they differ in a power cut."""

    # Before `append` returns: nothing is lost.
    ALWAYS = "always"
    # At most `fsync_interval_seconds` late: that much may be lost.
    INTERVAL = "interval"
    # When the operating system likes.
    NEVER = "never"


class SpoolFull(BufferFull):
    """The spool's bound is reached; nothing was written. Room comes as events are acknowledged."""


class SpoolFailed(Retryable):
    """The disk did not take the event (full, or broken). The spool is as it was before."""


class SpoolLocked(InvalidConfiguration):
    """Another process, or another client of this one, uses the folder."""


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    bytes_max: int = 1024 * 1024 * 1024
    segment_bytes_max: int = 16 * 1024 * 1024
    fsync: Fsync = Fsync.INTERVAL
    fsync_interval_seconds: float = 1.0


class Spool:
    """First in, first out: `append`, `take`, then `settle` what was taken."""

    def __init__(
        self,
        folder: Path,
        options: SpoolOptions | None = None,
        *,
        clock: Clock | None = None,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        """Raises: SpoolLocked: somebody else uses the folder."""
        self.folder = folder
        self.options = options or SpoolOptions()
        self._clock = clock or SystemClock()
        self._write = write
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._active: Segment | None = None
        self._synced_at = self._clock.monotonic()
        # Bytes of files that are no segments but count towards the bound: rejected events.
        self.other_bytes = 0
        # Segments that were found damaged, other than by a torn tail.
        self.damaged_segments = 0
        self._segments = self._recover()
        self._reading_number = self._segments[0].number if self._segments else 0
        self._reading_offset = 0
        self._next_number = max((segment.last_entry for segment in self._segments), default=0) + 1

    def _recover(self) -> list[Segment]:
        segments = []
        for path in self.folder.glob("*.events"):
            segment = Segment.open(path)
            self.damaged_segments += segment.damaged_inside
            if segment.pending_count:
                segments.append(segment)
            else:
                segment.delete()
        kept = {segment.notes_path for segment in segments}
        for path in self.folder.glob("*.settled"):
            if path not in kept:
                path.unlink()
        return sorted(segments, key=lambda segment: segment.number)

    @property
    def pending_count(self) -> int:
        """Entries that are not settled."""
        with self._mutex:
            return sum(segment.pending_count for segment in self._segments)

    @property
    def bytes_used(self) -> int:
        with self._mutex:
            return self._bytes_used()

    @property
    def bytes_max(self) -> int:
        return self.options.bytes_max

    def _bytes_used(self) -> int:
        return self.other_bytes + sum(segment.bytes_used for segment in self._segments)

    def append(self, event: bytes) -> int:
        """Write one event; returns its number. When this returns, the event outlives the process.

        Raises:
            SpoolFull: the bound is reached.
            SpoolFailed: the disk did not take it.
        """
        with self._mutex:
            number, size = self._next_number, len(event) + ENTRY_OVERHEAD_BYTES
            if self._bytes_used() + size > self.options.bytes_max:
                raise SpoolFull(f"{self.folder}: {self.options.bytes_max} bytes are spooled and not yet acknowledged")
            try:
                segment = self._segment_for(size)
                segment.write(segment.entry(number, event), self._write)
                self._sync(force=False)
            except OSError as exc:
                self._undo()
                raise SpoolFailed(f"{self.folder}: the event could not be written: {exc.strerror or exc}") from exc
            segment.commit(number, size)
            self._next_number += 1
            return number

    def _segment_bytes_max(self) -> int:
        return min(self.options.segment_bytes_max, self.options.bytes_max // SEGMENTS_MIN)

    def _segment_for(self, size: int) -> Segment:
        if self._active is not None and self._active.size and self._active.size + size > self._segment_bytes_max():
            self._roll()
        if self._active is None:
            self._active = Segment.create(self.folder, self._next_number)
            self._segments.append(self._active)
        return self._active

    def _roll(self) -> None:
        if self._active is not None:
            if self.options.fsync is not Fsync.NEVER:
                self._active.sync()
            self._active.finish()
            self._active = None

    def _undo(self) -> None:
        """Undo a failed append. Where even that fails the segment is finished, and the entry's number not given again."""
        if self._active is not None and not self._active.undo():
            self._active.finish()
            self._active = None
            self._next_number += 1

    def _sync(self, *, force: bool) -> None:
        policy, now = self.options.fsync, self._clock.monotonic()
        due = now - self._synced_at >= self.options.fsync_interval_seconds
        if self._active is not None and (force or policy is Fsync.ALWAYS or (policy is Fsync.INTERVAL and due)):
            self._active.sync()
            self._synced_at = now

    def sync_if_due(self) -> None:
        """Called now and then, so that the last events before a silence are forced to disk in time as well."""
        with self._mutex:
            self._sync(force=False)

    def take(self, events_max: int, bytes_max: int) -> list[Entry]:
        """The next entries, in order, each once per process; at least one if there is any. Settled ones are passed over."""
        taken: list[Entry] = []
        size = 0
        with self._mutex:
            for segment, entry in self._unread():
                if taken and (len(taken) >= events_max or size + len(entry.event) > bytes_max):
                    break
                self._reading_number, self._reading_offset = segment.number, entry.end
                if segment.is_pending(entry.number):
                    taken.append(entry)
                    size += len(entry.event)
        return taken

    def _unread(self) -> Iterator[tuple[Segment, Entry]]:
        """Entries from the reading position on."""
        for segment in self._segments:
            if segment.number >= self._reading_number:
                start = self._reading_offset if segment.number == self._reading_number else 0
                for entry in segment.entries(start, READ_BYTES):
                    yield segment, entry

    def settle(self, numbers: Sequence[int]) -> None:
        """These, which were taken, need not be sent any more.

        Raises:
            SpoolFailed: it could not be noted. They are settled for this process; after a crash they are sent once more.
        """
        complaint: OSError | None = None
        with self._mutex:
            for segment in list(self._segments):
                mine = [n for n in numbers if segment.number <= n <= segment.last_entry and segment.is_pending(n)]
                try:
                    if mine:
                        segment.settle(mine)
                    if not segment.pending_count and self._may_go(segment):
                        self._segments.remove(segment)
                        segment.delete()
                except OSError as exc:
                    complaint = exc
        if complaint is not None:
            raise SpoolFailed(f"{self.folder}: settled events could not be noted: {complaint}") from complaint

    def _may_go(self, segment: Segment) -> bool:
        """The active segment goes as well once it is worth the trouble; the next event makes a new one."""
        if segment is self._active:
            if segment.size < self._segment_bytes_max() // 4:
                return False
            self._active = None
        return True

    def close(self) -> None:
        """Force what is written to disk and let go of the folder. What is settled to the end is deleted."""
        with self._mutex:
            if self._lock < 0 or os.getpid() != self._pid:
                return
            try:
                self._sync(force=self.options.fsync is not Fsync.NEVER)
            finally:
                self._active = None
                for segment in self._segments:
                    segment.finish()
                    if not segment.pending_count:
                        segment.delete()
                self._segments = []
                _unlock(self._lock)
                self._lock = -1

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Descriptors of held locks. A forked child shares them and would keep the folder locked after its parent's death.
_held: set[int] = set()


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise SpoolLocked(f"{folder} is used by another client: give each process a spool folder of its own") from exc
    _held.add(descriptor)
    return descriptor


def _unlock(descriptor: int) -> None:
    _held.discard(descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _let_go_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)  # the parent's lock stays: it is let go when its last descriptor is closed
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
