"""Which identities a partition of the lake already holds: the anti-join that drops duplicates, however late (TRAPS 25).

Keys are compared by their first 8 bytes in bulk and by all 16 where those meet. Files never change, so what was read of one
is kept, within a bound of bytes; the files that this process committed need not be read at all.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.event import EVENT_KEY_BYTES, PAYLOAD_DIGEST_BYTES

CACHE_BYTES_MAX = 128 * 1024 * 1024


class Keys:
    """The identities in one file and their payload digests, row by row."""

    def __init__(self, keys: bytes, digests: bytes) -> None:
        self.keys = keys
        self.digests = digests

    def __len__(self) -> int:
        return len(self.keys) // EVENT_KEY_BYTES

    @property
    def size_bytes(self) -> int:
        return len(self.keys) + len(self.digests)

    @cached_property
    def prefixes(self) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self.keys, "<u8")[::2]

    @cached_property
    def by_key(self) -> dict[bytes, bytes]:
        """Made only for a file that holds a duplicate. The first row of a key counts."""
        found: dict[bytes, bytes] = {}
        for row in range(len(self)):
            found.setdefault(self.key(row), self.digest(row))
        return found

    def key(self, row: int) -> bytes:
        return self.keys[row * EVENT_KEY_BYTES : (row + 1) * EVENT_KEY_BYTES]

    def digest(self, row: int) -> bytes:
        return self.digests[row * PAYLOAD_DIGEST_BYTES : (row + 1) * PAYLOAD_DIGEST_BYTES]

    def without(self, rows: Iterable[int]) -> "Keys":
        gone = set(rows)
        kept = [row for row in range(len(self)) if row not in gone]
        return Keys(b"".join(map(self.key, kept)), b"".join(map(self.digest, kept)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """Rows of one staged file that must not be committed."""

    duplicates: frozenset[int]
    conflicts: frozenset[int]

    @property
    def rows(self) -> frozenset[int]:
        return self.duplicates | self.conflicts


def judge(new: Keys, known: Iterable[Keys]) -> Judgement:
    """Compare a staged file with what is there."""
    duplicates: set[int] = set()
    conflicts: set[int] = set()
    for old in known:
        for row in np.flatnonzero(np.isin(new.prefixes, old.prefixes)):
            digest = old.by_key.get(new.key(int(row)))
            if digest is not None:
                (duplicates if digest == new.digest(int(row)) else conflicts).add(int(row))
    return Judgement(frozenset(duplicates), frozenset(conflicts - duplicates))


def repeated_within(files: Sequence[Keys]) -> bool:
    """Whether files of one batch may share an identity: parts of a batch don't see each other."""
    if len(files) < 2:
        return False
    prefixes = np.concatenate([keys.prefixes for keys in files])
    return len(np.unique(prefixes)) < len(prefixes)


class KeyCache:
    """Keys by file, the longest unused forgotten first."""

    def __init__(self, read: Callable[[str], Keys], bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._read = read
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, Keys] = OrderedDict()
        self._bytes = 0

    def get(self, path: str) -> Keys:
        known = self._kept.get(path)
        if known is None:
            known = self._read(path)
            self.put(path, known)
        else:
            self._kept.move_to_end(path)
        return known

    def put(self, path: str, keys: Keys) -> None:
        if path in self._kept:
            return
        self._kept[path] = keys
        self._bytes += keys.size_bytes
        while self._bytes > self._bytes_max and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self._bytes -= forgotten.size_bytes
