"""The append-only log under the model: in memory for tests, in segment files for the server.

Rules
- One log holds everything, in one total order: a replay gives the very state that was acknowledged.
- An entry is CRC32C(kind, payload), length, kind, payload. A place in the log is its byte offset over all segments.
- A segment begins with a checkpoint, the whole control state; so old segments may go once no record in them is
  wanted, and nothing else is lost with them.
- Write, then answer: `flush` hands everything to the kernel, which a SIGKILL cannot take back; `sync` is for power cuts.
- A torn tail (the last entry cut short or zeroed, with nothing sound behind it) was never acknowledged: it is cut off.
  Damage anywhere else is not repaired in silence: `LogDamaged` names the file and the offset.
"""

from __future__ import annotations

import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import google_crc32c

HEADER = struct.Struct("<IIB")
SEGMENT_BYTES_MAX = 64 * 1024 * 1024
ENTRY_BYTES_MAX = 64 * 1024 * 1024

CONTROL, CHUNK, CHECKPOINT = 1, 2, 3


class LogDamaged(Exception):
    """Bytes that were acknowledged cannot be read back. The remedy: restore the file, or delete the state folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as replayed; `offset` and `size_bytes` are what `Log.read` wants to read it again."""

    kind: int
    offset: int
    size_bytes: int
    payload: bytes


class Log(Protocol):
    """What the model needs of a log."""

    def append(self, kind: int, payload: bytes) -> tuple[int, int]:
        """Add an entry; its place is (offset, size in bytes). It is durable after the next `flush`."""

    def read(self, offset: int, size_bytes: int) -> bytes:
        """The payload of the entry at that place. Raises: LogDamaged."""

    def full(self) -> bool:
        """Whether the segment is so large that the next checkpoint should begin another."""

    def roll(self, checkpoint: bytes) -> None:
        """Begin a segment with this checkpoint."""

    def drop_before(self, offset: int) -> int:
        """Delete the segments that end at or before this offset, never the newest; how many bytes went."""

    def replay(self) -> Iterator[Entry]:
        """Every entry, oldest first. Called once, before the first append."""

    def flush(self) -> None:
        """Hand all entries to the kernel. Raises: OSError, after which the log must not be used again."""


def frame(kind: int, payload: bytes) -> bytes:
    tag = bytes((kind,))
    crc = google_crc32c.extend(google_crc32c.value(tag), payload)
    return HEADER.pack(crc, len(payload), kind) + payload


def unframe(entry: bytes) -> tuple[int, bytes] | None:
    """Kind and payload of a whole entry, or None where it is not sound."""
    if len(entry) < HEADER.size:
        return None
    crc, length, kind = HEADER.unpack_from(entry)
    payload = entry[HEADER.size :]
    if length != len(payload) or crc != google_crc32c.extend(google_crc32c.value(bytes((kind,))), payload):
        return None
    return kind, payload


class MemoryLog:
    """The log of a model that lives as long as its test."""

    def __init__(self) -> None:
        self._entries: dict[int, bytes] = {}
        self._end = 0

    def append(self, kind: int, payload: bytes) -> tuple[int, int]:
        offset, size = self._end, HEADER.size + len(payload)
        if kind == CHUNK:
            self._entries[offset] = payload
        self._end += size
        return offset, size

    def read(self, offset: int, size_bytes: int) -> bytes:
        return self._entries[offset]

    def full(self) -> bool:
        return False

    def roll(self, checkpoint: bytes) -> None:
        self.append(CHECKPOINT, checkpoint)

    def drop_before(self, offset: int) -> int:
        gone = [at for at in self._entries if at < offset]
        return sum(len(self._entries.pop(at)) for at in gone)

    def replay(self) -> Iterator[Entry]:
        return iter(())

    def flush(self) -> None:
        return None


class FileLog:
    """Segments `<first offset>.log` in one folder, which one process holds at a time (flock on `lock`)."""

    def __init__(self, folder: Path, *, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes_max = segment_bytes_max
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._lock)
            raise RuntimeError(f"{folder} is in use by another emulator: stop it, or give another --state") from exc
        self._bases = sorted(int(path.stem) for path in folder.glob("*.log"))
        self._files = {base: os.open(self._path(base), os.O_RDWR) for base in self._bases}
        self._pending: list[bytes] = []
        self._end = 0
        self._written = 0
        if self._bases:
            last = self._bases[-1]
            self._end = self._written = last + os.fstat(self._files[last]).st_size

    def _path(self, base: int) -> Path:
        return self._folder / f"{base:020d}.log"

    def close(self) -> None:
        self.flush()
        for file in self._files.values():
            os.close(file)
        os.close(self._lock)

    def append(self, kind: int, payload: bytes) -> tuple[int, int]:
        entry = frame(kind, payload)
        offset = self._end
        self._pending.append(entry)
        self._end += len(entry)
        return offset, len(entry)

    def flush(self) -> None:
        if not self._pending:
            return
        data = memoryview(b"".join(self._pending))
        base = self._bases[-1]
        while data:
            count = os.pwrite(self._files[base], data, self._written - base)
            self._written += count
            data = data[count:]
        self._pending.clear()

    def sync(self) -> None:
        """Force the newest segment to the disk. Safe in a thread: an older segment was synced when it was left."""
        os.fdatasync(self._files[self._bases[-1]])

    def read(self, offset: int, size_bytes: int) -> bytes:
        if offset + size_bytes > self._written:
            self.flush()
        base = self._bases[bisect_right(self._bases, offset) - 1]
        found = unframe(os.pread(self._files[base], size_bytes, offset - base))
        if found is None:
            raise LogDamaged(f"{self._path(base)} is damaged at byte {offset - base}")
        return found[1]

    def full(self) -> bool:
        return not self._bases or self._end - self._bases[-1] >= self._segment_bytes_max

    def roll(self, checkpoint: bytes) -> None:
        self.flush()
        if self._bases:
            if self._end == self._bases[-1]:
                raise RuntimeError("an empty segment cannot be followed by another")
            self.sync()
        self._bases.append(self._end)
        self._files[self._end] = os.open(self._path(self._end), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.append(CHECKPOINT, checkpoint)
        self.flush()
        self.sync()
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def drop_before(self, offset: int) -> int:
        gone = 0
        while len(self._bases) > 1 and self._bases[1] <= offset:
            base = self._bases.pop(0)
            gone += self._bases[0] - base
            os.close(self._files.pop(base))
            self._path(base).unlink()
        return gone

    def replay(self) -> Iterator[Entry]:
        for number, base in enumerate(list(self._bases)):
            last = number == len(self._bases) - 1
            data = self._path(base).read_bytes()
            if not last and base + len(data) != self._bases[number + 1]:
                raise LogDamaged(f"{self._path(base)} ends at {base + len(data)}, not at {self._bases[number + 1]}")
            position = 0
            while position < len(data):
                found = self._entry_at(data, position)
                if found is None:
                    if not last or self._sound_after(data, position):
                        raise LogDamaged(f"{self._path(base)} is damaged at byte {position}")
                    os.ftruncate(self._files[base], position)
                    self._end = self._written = base + position
                    break
                kind, payload = found
                yield Entry(kind, base + position, HEADER.size + len(payload), payload)
                position += HEADER.size + len(payload)
        if self._bases and self._end == self._bases[-1]:
            # The server died between making a segment and writing its checkpoint: the segment before holds all.
            base = self._bases.pop()
            os.close(self._files.pop(base))
            self._path(base).unlink()

    @staticmethod
    def _entry_at(data: bytes, position: int) -> tuple[int, bytes] | None:
        if len(data) - position < HEADER.size:
            return None
        _, length, kind = HEADER.unpack_from(data, position)
        if kind not in (CONTROL, CHUNK, CHECKPOINT) or length > ENTRY_BYTES_MAX:
            return None
        return unframe(data[position : position + HEADER.size + length])

    def _sound_after(self, data: bytes, position: int) -> bool:
        """Whether a sound entry follows the unsound one at `position`: then it is damage, not a torn tail."""
        if len(data) - position < HEADER.size:
            return False
        _, length, _ = HEADER.unpack_from(data, position)
        behind = position + HEADER.size + length
        return behind < len(data) and self._entry_at(data, behind) is not None
