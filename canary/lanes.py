"""Through which door, and onto which shard: the lanes that probes go by. Pure.

Rules. A lane is a door and a slice of the hash space. Of the slices the fewest are taken that together lie on every open shard of
every stream, so lanes differ by one thing each, and the pattern of failures says which. A subject is chosen for its hash: it
keeps its events on the slice. Each probe has a subject of its own until it is settled, so that its word in the current state
stands until it has been read there; the subjects of a lane are a ring, so state does not grow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pipeline.event import explicit_hash_key, slice_of

Door = Literal["grpc", "http"]
DOORS: tuple[Door, ...] = ("grpc", "http")
# No vowels, so no words; no digits, so no number that redaction could take for a card's or a telephone's.
_LETTERS = "bcdfghjklmnpqrst"


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard: the hash keys from `first` to `last` are its own."""

    id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A slice, and the shard that it lies on in each stream."""

    slice: int
    shards: tuple[tuple[str, str], ...] = ()

    def shard(self, stream: str) -> str:
        return dict(self.shards).get(stream, "")


def cover(streams: Mapping[str, Sequence[Shard]], slices: int) -> tuple[Slot, ...]:
    """The fewest slices that lie on every open shard of every stream, as a greedy choice finds them."""
    slots = [_slot(streams, slice, slices) for slice in range(slices)]
    chosen: list[Slot] = []
    left = {pair for slot in slots for pair in slot.shards}
    while left:
        best = max(slots, key=lambda slot: (len(left.intersection(slot.shards)), -slot.slice))
        chosen.append(best)
        left.difference_update(best.shards)
    return tuple(sorted(chosen, key=lambda slot: slot.slice))


def _slot(streams: Mapping[str, Sequence[Shard]], slice: int, slices: int) -> Slot:
    key = int(explicit_hash_key(slice, slices))
    found = ((stream, shard.id) for stream, shards in streams.items() for shard in shards if shard.first <= key <= shard.last)
    return Slot(slice, tuple(found))


def letters(value: int) -> str:
    """A number as letters that mean nothing."""
    text = ""
    while True:
        value, rest = divmod(value, len(_LETTERS))
        text = _LETTERS[rest] + text
        if not value:
            return text


def number(text: str) -> int | None:
    """The way back from `letters`; None: these are not its letters."""
    value = 0
    for letter in text:
        place = _LETTERS.find(letter)
        if place < 0:
            return None
        value = value * len(_LETTERS) + place
    return value if text and letters(value) == text else None


@lru_cache(maxsize=256)
def subjects(slice: int, slices: int, count: int, ring: str = "probe") -> tuple[str, ...]:
    """The ring of this name on a slice: so many subjects whose events lie on it."""
    found: list[str] = []
    tried = 0
    while len(found) < count:
        text = f"{ring}-{letters(slice)}-{letters(tried)}"
        if slice_of(text, slices) == slice:
            found.append(text)
        tried += 1
    return tuple(found)
