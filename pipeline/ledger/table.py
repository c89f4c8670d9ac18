"""An invertible Bloom look-up table: a digest of a multiset of events, of one size whatever their number.

    table(a) + table(b) = table(a and b);   table(a) - table(b) decodes to the events that a has more often than b, or less often

Rules
- Each event is added to one cell of each of four parts, chosen by its key. A cell holds sums (modulo 2^64) of: how many, keys,
  checks, contents, names. Sums, not exclusive or: an event that is there twice stays visible.
- A cell whose sums are those of one event c times is pure: its check is c times the check of its key, and its key belongs there.
  Decoding takes a pure cell's event out of all its cells, which makes others pure, until all are empty, or none is pure.
- What is left when no cell is pure can't be named: `complete` is False, and whoever asked has to look at the events themselves.
- Contents do not choose a cell. Two tables of the same events with other contents differ in contents alone: `altered`.

Sources: Goodrich, Mitzenmacher, "Invertible Bloom Lookup Tables", 2011; Eppstein, Goodrich, Uyeda, Varghese, "What's the
Difference? Efficient Set Reconciliation without Prior Context", 2011. Four parts decode up to 0.772 events a cell in the limit
(three 0.818), and two events share all their cells, and so can't be told apart, once in 96^4 pairs (three of 128: in 128^3).
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.ledger import native
from pipeline.ledger.identity import NAME_WORDS, Elements, Words, mix

PARTS = 4
PART_CELLS = 96
CELLS = PARTS * PART_CELLS
# So many events that differ are named with the probability that `python -m pipeline.ledger.bench` prints.
CAPACITY = 200
_COUNT, _KEY, _CHECK, _CONTENT, _NAME = range(5)
WORDS = _NAME + NAME_WORDS
TABLE_BYTES = CELLS * WORDS * 8
_BITS, _MASK = 16, 0xFFFF
_CHECK_SALT = np.uint64(0x9E3779B97F4A7C15)
# An even multiple of a key hides its upper bits: so many of them are tried.
_HIDDEN_BITS_MAX = 6
_WORD = 1 << 64
# Rows that are added together: what stays in a core's cache.
_AT_ONCE = 4096
_CORRECTIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that two tables hold differently often."""

    key: int
    # How often the first has it more than the second.
    times: int
    # A row of `Elements.names`; None if it can't be recovered.
    name: Words | None
    content: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What decoding found. Not `complete`: there are more."""

    entries: tuple[Entry, ...]
    complete: bool
    # What is left of contents, by cell: an event in it is in both, but not with the same content.
    altered: Mapping[int, int] = field(default_factory=dict)

    @property
    def missing(self) -> dict[int, Entry]:
        """What the second has less often, by key."""
        return {entry.key: entry for entry in self.entries if entry.times > 0}

    @property
    def surplus(self) -> dict[int, Entry]:
        return {entry.key: entry for entry in self.entries if entry.times < 0}

    def altered_among(self, keys: Iterable[int]) -> list[int]:
        """Which of these events are altered: those whose cells have the same left, all but one perhaps.

        By chance one of 96^2 has, while few are altered. If none has, then the only one of which half the cells have: it shares
        the others with an event that differs. Empty: it can't be told.
        """
        like = {key: self._alike(key) for key in keys}
        most = [key for key, alike in like.items() if alike >= PARTS - 1]
        half = [key for key, alike in like.items() if alike == PARTS // 2]
        return most or (half if len(half) == 1 else [])

    def _alike(self, key: int) -> int:
        left = Counter(self.altered[place] for place in _places(key) if place in self.altered)
        return left.most_common(1)[0][1] if left else 0


class _Room(threading.local):
    """Each thread's own place to work: new memory for it would cost a third of the work."""

    def __init__(self) -> None:
        self.rows = np.empty((_AT_ONCE, WORDS), np.uint64)
        self.sorted_rows = np.empty((_AT_ONCE, WORDS), np.uint64)


_room = _Room()


def _empty() -> Words:
    return np.zeros((CELLS, WORDS), np.uint64)


@dataclass(eq=False, slots=True)
class Table:
    cells: Words = field(default_factory=_empty)

    @property
    def events(self) -> int:
        """How many were added, less those that were subtracted."""
        return int(self.cells[:PART_CELLS, _COUNT].sum(dtype=np.uint64).astype(np.int64))

    @staticmethod
    def of(elements: Elements) -> "Table":
        table = Table()
        table.add(elements)
        return table

    def add(self, elements: Elements) -> None:
        if native.code is not None:
            native.code.add(self.cells, elements.keys, elements.contents, elements.names)
            return
        for start in range(0, len(elements), _AT_ONCE):
            self._add(elements.take(slice(start, start + _AT_ONCE)))

    def _add(self, elements: Elements) -> None:
        rows, sorted_rows = _room.rows[: len(elements)], _room.sorted_rows[: len(elements)]
        rows[:, _COUNT] = 1
        rows[:, _KEY] = elements.keys
        rows[:, _CHECK] = check(elements.keys)
        rows[:, _CONTENT] = elements.contents
        rows[:, _NAME:] = elements.names
        for part, cells in enumerate(cells_of(elements.keys)):
            order = np.argsort(cells, kind="stable")
            ordered = cells[order]
            starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
            rows.take(order, axis=0, out=sorted_rows, mode="clip")
            own = self.cells[part * PART_CELLS : (part + 1) * PART_CELLS]
            own[ordered[starts]] += np.add.reduceat(sorted_rows, starts, axis=0)

    def __add__(self, other: "Table") -> "Table":
        return Table(self.cells + other.cells)

    def __sub__(self, other: "Table") -> "Table":
        return Table(self.cells - other.cells)

    def decode(self) -> Difference:
        """The events in a difference of tables."""
        left = self.cells.copy()
        found: dict[int, Entry] = {}
        # Each round empties at least one cell for good, but for cells that a false hit fills again: bounded all the same.
        for _ in range(CELLS * 2):
            entries = {entry.key: entry for entry in _pure(left)}
            if not entries:
                break
            for entry in entries.values():
                _take_out(left, entry)
                before = found.pop(entry.key, None)
                times = entry.times + (before.times if before is not None else 0)
                if times:
                    found[entry.key] = Entry(entry.key, times, entry.name, entry.content)
        complete = not left[:, (_COUNT, _KEY, _CHECK)].any()
        return Difference(tuple(found.values()), complete, _altered(left, found.values()) if complete else {})


def check(keys: Words) -> Words:
    return mix(keys ^ _CHECK_SALT)


def cells_of(keys: Words) -> Iterator[npt.NDArray[np.uint8]]:
    """The cell of each key in each part."""
    for part in range(PARTS):
        yield (((keys >> np.uint64(part * _BITS)) & np.uint64(_MASK)) * np.uint64(PART_CELLS) >> np.uint64(_BITS)).astype(
            np.uint8
        )


def _check_of(key: int) -> int:
    return int(check(np.array([key], np.uint64))[0])


def _places(key: int) -> list[int]:
    return [part * PART_CELLS + ((key >> part * _BITS & _MASK) * PART_CELLS >> _BITS) for part in range(PARTS)]


def _pure(cells: Words) -> Iterator[Entry]:
    counts = cells[:, _COUNT].astype(np.int64)
    signs = np.where(counts < 0, np.uint64(_WORD - 1), np.uint64(1))
    single = np.flatnonzero(np.abs(counts) == 1)
    rows = cells[single] * signs[single, None]
    for place, row, belongs in zip(single.tolist(), rows, rows[:, _CHECK] == check(rows[:, _KEY]), strict=True):
        if belongs and place in _places(int(row[_KEY])):
            yield Entry(int(row[_KEY]), int(counts[place]), row[_NAME:], int(row[_CONTENT]))
    for cell in np.flatnonzero(np.abs(counts) > 1):
        entry = _pure_of_several(cells[cell], int(counts[cell]), int(cell))
        if entry is not None:
            yield entry


def _altered(left: Words, entries: Iterable[Entry]) -> dict[int, int]:
    """What is left of contents, by cell, that no event which differs can account for.

    An altered event spoils the contents of the cells it is in, and with them the content of whatever was taken out there. Most
    cells of an event are not spoilt: each event's content is put right by what most of its cells ask for, until nothing changes.
    """
    contents = [int(word) for word in left[:, _CONTENT]]
    if not any(contents):
        return {}
    places = [_places(entry.key) for entry in entries]
    for _ in range(_CORRECTIONS_MAX):
        settled = True
        for own in places:
            votes = Counter(contents[place] for place in own)
            asked, most = votes.most_common(1)[0]
            if asked and most > max(1, votes[0]):
                settled = False
                for place in own:
                    contents[place] = (contents[place] - asked) % _WORD
        if settled:
            break
    return {place: content for place, content in enumerate(contents) if content}


def _pure_of_several(cell: Words, times: int, place: int) -> Entry | None:
    """The one event that this cell holds `times` times, if it does."""
    hidden = (times & -times).bit_length() - 1
    if hidden > _HIDDEN_BITS_MAX:
        return None
    inverse = pow(times >> hidden, -1, _WORD)
    low = (int(cell[_KEY]) * inverse % _WORD) >> hidden
    for high in range(1 << hidden):
        key = low | high << (64 - hidden)
        if place in _places(key) and _check_of(key) * times % _WORD == int(cell[_CHECK]):
            content = (int(cell[_CONTENT]) * inverse % _WORD) >> hidden
            return Entry(key, times, _name(cell[_NAME:], inverse, hidden), content)
    return None


def _name(words: Words, inverse: int, hidden: int) -> Words | None:
    """Divided again; hidden bits are taken for 0, which the uppermost bit of a letter is."""
    if hidden > 1:
        return None
    return np.array([(int(word) * inverse % _WORD) >> hidden for word in words], np.uint64)


def _take_out(cells: Words, entry: Entry) -> None:
    row = np.zeros(WORDS, np.uint64)
    row[:_NAME] = [each * entry.times % _WORD for each in (1, entry.key, _check_of(entry.key), entry.content)]
    if entry.name is not None:
        row[_NAME:] = entry.name * np.uint64(entry.times % _WORD)
    for place in _places(entry.key):
        cells[place] -= row
