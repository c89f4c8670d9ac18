"""The digests of one process: what it saw, by tier, tenant, door and accept-time window.

    note(...) ─► kept as it came ─► fold() ─► take() ─► a segment (segment.py)

Rules
- `note` costs one look-up a batch; the arithmetic is done for some thousand events at once, while they are still in the core's
  cache: what is kept longer costs more by being kept than by being counted.
- Few events are a list, which is exact; many are a table, which has one size, and the few that came since. All add up to a table.
- What is taken is gone from here: whoever took it brings it to the bucket.
- Counting never fails whoever brings events: an answer must not wait for a ledger, and the windows of what could not be counted
  are named.
- At most `SLOTS_MAX` digests are kept. Beyond that, while nothing can be taken away, the windows of what is dropped are named:
  what is not accounted for must not be read as fine.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger.identity import Elements, of_encoded
from pipeline.ledger.table import Table
from pipeline.raw import raw_events

WINDOW_SECONDS = 10
WINDOW_MICROS = WINDOW_SECONDS * 1_000_000
# Past it a list takes more room than a table.
LIST_EVENTS_MAX = 400
# Events that are kept as they came; whoever brings the next ones folds them, in about half a millisecond.
UNFOLDED_EVENTS_MAX = 2_000
SLOTS_MAX = 5_000


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


@dataclass(eq=False, slots=True)
class Digest:
    """A list of events while they are few, a table when they are many; or what came as either."""

    listed: list[Elements] = field(default_factory=list)
    tabled: Table | None = None

    @property
    def events(self) -> int:
        return sum(map(len, self.listed)) + (self.tabled.events if self.tabled is not None else 0)

    def add(self, elements: Elements) -> None:
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
    payload: bytes

    @staticmethod
    def of(batch: StoredBatch, payload: bytes) -> "Seen":
        return Seen(batch.tenant, batch.door, batch.accepted_at_unix_micros, payload)


class Tally:
    """Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Held while folding, so that nobody takes what is being folded.
        self._folding = threading.RLock()
        self._noted: dict[Slot, list[bytes]] = {}
        self._noted_events = 0
        self._digests: dict[Slot, Digest] = {}
        self._incomplete: set[int] = set()

    def note(self, tier: str, tenant: str, door: str, accepted_at_unix_micros: int, encoded: Sequence[bytes]) -> None:
        """These events were seen; they share tenant, door and accept time. `encoded` is kept until it is folded."""
        slot = Slot(tier, tenant, door, window_of(accepted_at_unix_micros))
        with self._lock:
            known = self._noted.get(slot)
            if known is None:
                self._noted[slot] = list(encoded)
            else:
                known += encoded
            self._noted_events += len(encoded)
            full = self._noted_events > UNFOLDED_EVENTS_MAX
        if full:
            self.fold()

    def note_seen(self, tier: str, batches: Iterable[Seen]) -> None:
        for seen in batches:
            self.note(tier, seen.tenant, seen.door, seen.accepted_at_unix_micros, raw_events(seen.payload))

    def fold(self) -> None:
        """Turn what was noted into digests."""
        with self._folding:
            with self._lock:
                noted, self._noted, self._noted_events = self._noted, {}, 0
            # All at once, whatever digest they go to: there may be hundreds of tenants.
            try:
                elements, start = of_encoded([one for encoded in noted.values() for one in encoded]), 0
            except Exception:  # noqa: BLE001 - whoever brings events must get on with them; what is not counted is named
                self._incomplete.update(slot.window for slot in noted)
                return
            for slot, encoded in noted.items():
                own = elements.take(slice(start, start + len(encoded)))
                start += len(encoded)
                digest = self._digest(slot)
                if digest is not None:
                    digest.add(own)

    def take(self) -> Taken:
        """All of it, folded."""
        with self._folding:
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


def sum_of(digests: Iterable[Digest]) -> Table:
    """What several processes saw, as one."""
    total = Table()
    for digest in digests:
        if digest.tabled is not None:
            total = total + digest.tabled
        total.add(Elements.joined(digest.listed))
    return total
