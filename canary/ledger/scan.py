"""The backup, read for the events of some windows: the exact way, when a digest can't say enough.

An object can hold a window's events if it was put after the window began and its oldest record came before the window was over.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from canary.ledger.books import Holdings, Window
from pipeline.backup.cursor import UPLOAD_MAX
from pipeline.backup.objects import Stored
from pipeline.backup.reader import Backup, Damaged, EventPlace, Range
from pipeline.ledger.identity import Elements, of_encoded
from pipeline.ledger.tally import WINDOW_SECONDS, window_of
from pipeline.raw import raw_events

# An event is in the stream so long after it was accepted, at most.
WRITE_SECONDS_MAX = 120.0


@dataclass(slots=True)
class Scanned:
    """What the backup holds of the windows that were asked for. `places` has those keys that were asked for."""

    holdings: dict[Window, Holdings] = field(default_factory=dict)
    places: dict[tuple[Window, int], EventPlace] = field(default_factory=dict)
    damaged: list[Damaged] = field(default_factory=list)
    objects: int = 0

    def of(self, window: Window) -> Holdings:
        return self.holdings.get(window) or Holdings(Elements.none())


def objects_of(backup: Backup, stream: str, start: int, end: int) -> list[Stored]:
    """Objects that can hold events accepted from `start` up to `end`. Raises: Unavailable."""
    last = datetime.fromtimestamp(end + WRITE_SECONDS_MAX, UTC)
    written_from = datetime.fromtimestamp(start, UTC) - UPLOAD_MAX
    within = Range(datetime.fromtimestamp(start, UTC), last)
    return [stored for stored in backup.objects(stream, within) if stored.modified_at >= written_from]


def scan(
    backup: Backup,
    streams: Mapping[str, str],
    starts: Collection[int],
    *,
    wanted: Collection[tuple[Window, int]] = (),
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Scanned:
    """Read what the backup holds of the windows that begin at `starts`; `streams` by door. `told` hears of progress, in objects.

    Raises: Unavailable.
    """
    done = Scanned()
    beginnings, sought = frozenset(starts), frozenset(wanted)
    if not beginnings:
        return done
    start, end = min(beginnings), max(beginnings) + WINDOW_SECONDS
    found: dict[Window, list[Elements]] = {}
    todo = [(door, stored) for door, stream in streams.items() for stored in objects_of(backup, stream, start, end)]
    for number, (door, stored) in enumerate(todo):
        for window, elements in _of_object(backup, stored.key, door, beginnings, sought, done):
            found.setdefault(window, []).append(elements)
        done.objects += 1
        told(number + 1, len(todo))
    done.holdings = {window: Holdings(Elements.joined(parts)) for window, parts in found.items()}
    return done


def _of_object(
    backup: Backup, key: str, door: str, starts: frozenset[int], sought: frozenset[tuple[Window, int]], done: Scanned
) -> Iterator[tuple[Window, Elements]]:
    for part in backup.read(key):
        if isinstance(part, Damaged):
            done.damaged.append(part)
            continue
        window = Window(part.batch.tenant, part.batch.door, window_of(part.batch.accepted_at_unix_micros))
        # What another door took in is in its own stream's backup, too.
        if window.door != door or window.start not in starts:
            continue
        elements = of_encoded(raw_events(part.payload))
        for index, each in enumerate(elements.keys.tolist() if sought else ()):
            if (window, each) in sought:
                done.places.setdefault((window, each), EventPlace(part.place, index))
        yield window, elements
