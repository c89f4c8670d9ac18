"""The digests of one process: what it saw, by tier, tenant, door and accept-time window.

    note(...) ─► a column of first bytes ─► fold() ─► take() ─► a segment (segment.py)

Rules
- `note` copies the first bytes of the events, which whoever brings them has just had in hand, and keeps nothing else. The
  arithmetic is done for some thousand of them at once.
- A hop that does much with its events counts them right when it has read and written them, before it is known whether they will
  be confirmed (`Ahead`): later they have left the core's cache.
- Few events are a list, which is exact; many are a table, which has one size, and the few that came since. All add up to a table.
- What is taken is gone from here: whoever took it brings it to the bucket.
- Counting never fails whoever brings events: an answer must not wait for a ledger, and the windows of what could not be counted
  are named.
- At most `SLOTS_MAX` digests are kept. Beyond that, while nothing can be taken away, the windows of what is dropped are named:
  what is not accounted for must not be read as fine.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger.identity import Column, Elements, NativeColumn, Words, elements_of, new_column
from pipeline.ledger.table import Table
from pipeline.raw import raw_events

WINDOW_SECONDS = 10
WINDOW_MICROS = WINDOW_SECONDS * 1_000_000
# Past it a list takes more room than a table.
LIST_EVENTS_MAX = 400
SLOTS_MAX = 5_000
# Rows of one delivery, of all its tiers; what goes beyond is not counted ahead.
AHEAD_ROWS_MAX = 4_000
# Past so many, rows go to their digests: a table's cells cost the same for few.
WAITING_ROWS_MAX = 3_000
# So few are copied, and their column is free again.
COPIED_ROWS_MAX = 100


class Slot(NamedTuple):
    """What one digest is of."""

    # As in tiers.py.
    tier: str
    tenant: str
    # Through which the events came in first.
    door: str
    # Seconds since 1970 at which the window of accept times begins.
    window: int


def window_of(accepted_at_unix_micros: int) -> int:
    return accepted_at_unix_micros // WINDOW_MICROS * WINDOW_SECONDS


def slot_of(tier: str, seen: "Seen") -> Slot:
    return Slot(tier, seen.tenant, seen.door, window_of(seen.accepted_at_unix_micros))


@dataclass(eq=False, slots=True)
class Digest:
    """A list of events while they are few, a table when they are many; or what came as either."""

    listed: list[Elements] = field(default_factory=list)
    tabled: Table | None = None

    @property
    def events(self) -> int:
        return sum(map(len, self.listed)) + (self.tabled.events if self.tabled is not None else 0)

    def add(self, elements: Elements) -> None:
        if len(elements) > LIST_EVENTS_MAX:
            self.tabled = self.tabled if self.tabled is not None else Table()
            self.tabled.add(elements)
            return
        self.listed.append(elements)
        if sum(map(len, self.listed)) > LIST_EVENTS_MAX:
            self.tabled = self.tabled if self.tabled is not None else Table()
            self.tabled.add(Elements.joined(self.listed))
            self.listed = []

    def merge(self, other: "Digest") -> None:
        if other.tabled is not None:
            self.tabled = self.tabled + other.tabled if self.tabled is not None else Table(other.tabled.cells.copy())
        for elements in other.listed:
            self.add(elements)

    def table(self) -> Table:
        """All of it as a table of its own."""
        table = Table(self.tabled.cells.copy()) if self.tabled is not None else Table()
        table.add(Elements.joined(self.listed))
        return table


@dataclass(frozen=True, slots=True)
class Taken:
    digests: Mapping[Slot, Digest]
    # Windows of which something was dropped.
    incomplete: frozenset[int]


class Seen(NamedTuple):
    """A batch that a hop saw, as `Tally.note_seen` takes it: whose it is, and its encoding."""

    tenant: str
    door: str
    accepted_at_unix_micros: int
    payload: bytes | memoryview

    @staticmethod
    def of(batch: StoredBatch, payload: bytes | memoryview) -> "Seen":
        return Seen(batch.tenant, batch.door, batch.accepted_at_unix_micros, payload)


class Ahead:
    """Batches that are counted while they are at hand, on a thread of the hop's own. `Tally.add` takes them once the hop has done
    with them; if it never does, they were not seen.

    One thread at a time. What there is no room for, or can't be counted so, is kept as it is and counted when it is added.
    """

    def __init__(self, new_column: Callable[[], NativeColumn] | None) -> None:
        self._new_column = new_column
        self.column: NativeColumn | None = None
        # Whose its rows are, each from this row on.
        self.runs: list[tuple[Slot, int]] = []
        self.rest: list[tuple[str, Seen]] = []

    def see(self, tier: str, seen: Seen) -> None:
        slot = slot_of(tier, seen)
        try:
            counted = self._new_column is not None and self._counted(slot, seen.payload, self._new_column)
        except Exception:  # noqa: BLE001 - whoever adds it says what can't be counted
            counted = False
        if not counted:
            self.rest.append((tier, seen))

    def _counted(self, slot: Slot, batch: bytes | memoryview, new_column: Callable[[], NativeColumn]) -> bool:
        if self.column is None:
            self.column = new_column()
        start = self.column.rows
        if not self.column.put_batch(batch):
            return False
        if not self.runs or self.runs[-1][0] != slot:
            self.runs.append((slot, start))
        return True


class Tally:
    """Any thread may use it."""

    def __init__(self, column: Column | None = None) -> None:
        # Whoever notes may have to wait for one who folds, for some two milliseconds.
        self._lock = threading.RLock()
        self._column = column or new_column()
        # Whose the rows of the column are, each from this row on.
        self._runs: list[tuple[Slot, int]] = []
        self._digests: dict[Slot, Digest] = {}
        self._incomplete: set[int] = set()
        # Of those who were added: whose their rows are, the rows, and the column that these lie in if they were not copied.
        self._waiting: list[tuple[Sequence[tuple[Slot, int]], Words, NativeColumn | None]] = []
        self._free: list[NativeColumn] = []
        self._waiting_rows = 0

    def note(self, tier: str, tenant: str, door: str, accepted_at_unix_micros: int, encoded: Sequence[bytes]) -> None:
        """These events were seen; they share tenant, door and accept time."""
        self._note(Slot(tier, tenant, door, window_of(accepted_at_unix_micros)), encoded)

    def _note(self, slot: Slot, encoded: Sequence[bytes]) -> None:
        if not encoded:
            return
        with self._lock:
            column = self._column
            while len(encoded) > column.room:
                room = column.room
                if room:
                    self._note(slot, encoded[:room])
                    encoded = encoded[room:]
                self.fold()
            try:
                if not self._runs or self._runs[-1][0] != slot:
                    self._runs.append((slot, column.rows))
                column.put(encoded)
            except Exception:  # noqa: BLE001 - whoever brings events must get on with them; what is not counted is named
                self._incomplete.add(slot.window)

    def note_seen(self, tier: str, batches: Iterable[Seen]) -> None:
        for seen in batches:
            self._note_batch(slot_of(tier, seen), seen.payload)

    def ahead(self) -> Ahead:
        """To count what a hop sees before it is known whether it will have done with it.

        Who asks is about to work on a thread that has mostly written the rows that wait: they are nearest there.
        """
        if not isinstance(self._column, NativeColumn):
            return Ahead(None)
        with self._lock:
            if self._waiting_rows >= WAITING_ROWS_MAX:
                self._fold_waiting()
        return Ahead(self._free_column)

    def _free_column(self) -> NativeColumn:
        with self._lock:
            return self._free.pop() if self._free else NativeColumn(AHEAD_ROWS_MAX)

    def add(self, ahead: Ahead) -> None:
        """All that it saw was seen. It is not to be used any more."""
        if ahead.column is not None:
            rows = ahead.column.taken_rows()
            with self._lock:
                if len(rows) < COPIED_ROWS_MAX:
                    self._waiting.append((ahead.runs, rows.copy(), None))
                    self._free.append(ahead.column)
                else:
                    self._waiting.append((ahead.runs, rows, ahead.column))
                self._waiting_rows += len(rows)
        for tier, seen in ahead.rest:
            self.note_seen(tier, [seen])

    def _fold_waiting(self) -> None:
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        self._add_rows((runs, rows) for runs, rows, _ in waiting)
        self._free += [column for _, _, column in waiting if column is not None]

    def _add_rows(self, brought: Iterable[tuple[Sequence[tuple[Slot, int]], Words]]) -> None:
        by_slot: dict[Slot, list[Words]] = {}
        for runs, rows in brought:
            try:
                for slot, places in _places(runs, len(rows)).items():
                    by_slot.setdefault(slot, []).extend(rows[place.start : place.stop] for place in places)
            except Exception:  # noqa: BLE001 - as above
                self._incomplete.update(slot.window for slot, _ in runs)
        for slot, parts in by_slot.items():
            try:
                digest = self._digest(slot)
                if digest is not None:
                    digest.add(elements_of(np.concatenate(parts)))
            except Exception:  # noqa: BLE001 - as above
                self._incomplete.add(slot.window)

    def _note_batch(self, slot: Slot, batch: bytes | memoryview) -> None:
        with self._lock:
            try:
                for _ in range(2):
                    start = self._column.rows
                    if self._column.put_batch(batch):
                        if not self._runs or self._runs[-1][0] != slot:
                            self._runs.append((slot, start))
                        return
                    self.fold()
                # More than there is room for at once.
                self._note(slot, raw_events(bytes(batch)))
            except Exception:  # noqa: BLE001 - as above
                self._incomplete.add(slot.window)

    def fold(self) -> None:
        """Turn what was noted into digests."""
        with self._lock:
            self._fold_waiting()
            (runs, self._runs), rows = (self._runs, []), self._column.rows
            if not rows:
                return
            # All at once, whatever digest they go to: there may be hundreds of tenants.
            try:
                for slot, own in _by_slot(runs, self._column.take(), rows):
                    digest = self._digest(slot)
                    if digest is not None:
                        # What becomes a list would else be written over.
                        digest.add(own if len(own) > LIST_EVENTS_MAX else own.copy())
            except Exception:  # noqa: BLE001 - as above
                self._incomplete.update(slot.window for slot, _ in runs)

    def take(self) -> Taken:
        """All of it, folded."""
        with self._lock:
            self.fold()
            taken = Taken(self._digests, frozenset(self._incomplete))
            self._digests, self._incomplete = {}, set()
            return taken

    def _digest(self, slot: Slot) -> Digest | None:
        known = self._digests.get(slot)
        if known is None:
            if len(self._digests) >= SLOTS_MAX:
                self._incomplete.add(slot.window)
                return None
            known = self._digests[slot] = Digest()
        return known


def _by_slot(runs: Sequence[tuple[Slot, int]], elements: Elements, rows: int) -> Iterator[tuple[Slot, Elements]]:
    for slot, own in _places(runs, rows).items():
        if len(own) == 1:
            yield slot, elements.take(slice(own[0].start, own[0].stop))
        else:
            yield slot, elements.take(np.fromiter(chain.from_iterable(own), np.intp))


def _places(runs: Sequence[tuple[Slot, int]], rows: int) -> dict[Slot, list[range]]:
    """Where each slot's rows are."""
    ends = [*(start for _, start in runs[1:]), rows]
    places: dict[Slot, list[range]] = {}
    for (slot, start), end in zip(runs, ends, strict=True):
        if end > start:
            places.setdefault(slot, []).append(range(start, end))
    return places
