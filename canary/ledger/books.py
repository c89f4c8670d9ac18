"""What is known of one window: of the events of one tenant that one door accepted in ten seconds.

Tiers are digests, sums over all processes that report them. Exits and dead letters are read themselves, and so are exact: nothing
that the pipeline says of its own exits is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.ledger.identity import Elements, Words
from pipeline.ledger.table import Table

EXITS = ("lake", "rds")


class Window(NamedTuple):
    tenant: str
    door: str
    # Seconds since 1970.
    start: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """Events that are really somewhere, with repetitions."""

    elements: Elements

    def times(self) -> dict[int, int]:
        """How often each is there, by key."""
        keys, counts = np.unique(self.elements.keys, return_counts=True)
        return dict(zip(keys.tolist(), counts.tolist(), strict=True))

    def once(self) -> Elements:
        """Each once."""
        _, rows = np.unique(self.elements.keys, return_index=True)
        return self.elements.take(rows)

    def name(self, key: int) -> Words | None:
        rows = np.flatnonzero(self.elements.keys == np.uint64(key))
        return self.elements.names[rows[0]] if len(rows) else None


@dataclass(frozen=True, slots=True)
class Books:
    """A tier that is not here saw nothing. An exit or a stage that is not here was not read: that is not the same."""

    window: Window
    tiers: Mapping[str, Table] = field(default_factory=dict)
    exits: Mapping[str, Holdings] = field(default_factory=dict)
    # Dead letters by stage.
    dead: Mapping[str, Holdings] = field(default_factory=dict)
    # Tiers of which a part is not known, and exits that could not be read, with the reason in words.
    unaccounted: Mapping[str, str] = field(default_factory=dict)
