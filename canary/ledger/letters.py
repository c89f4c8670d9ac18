"""Dead letters by stage and window: the events in them, each letter read once.

Rules
- Keys are listed by stage and reason, for the days of the horizon; reasons are found by jumping from one to the next.
- A letter that is gone from the bucket was redriven, and is none any more.
- One whose events can't be read is counted: what it holds is not known, and it clears nobody.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError

from canary.ledger.books import Holdings, Window
from canary.ledger.judge import STAGES
from pipeline.backup.objects import NoSuchObject, Objects
from pipeline.dead_letters.letters import PREFIX, decode, place_of
from pipeline.dead_letters.office import batch_of
from pipeline.errors import Corrupt, Unavailable
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger.identity import Elements, of_names
from pipeline.ledger.tally import window_of

LETTER_STAGES = tuple(sorted({stage for stages in STAGES.values() for stage in stages}))
# In one look; while more are unread, what is dead is not known.
READ_MAX = 2_000
KEPT_MAX = 200_000
GETS_AT_ONCE_MAX = 8
# Sorts behind every key of its folder.
_END = "~"


@dataclass(frozen=True, slots=True)
class Buried:
    """The events of one letter. `window` None: they can't be read."""

    stage: str
    window: Window | None
    elements: Elements


class LetterSource:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[str, Buried] = {}
        self._by_window: dict[Window, list[Buried]] = {}

    @property
    def unreadable(self) -> int:
        return sum(each.window is None for each in self._read.values())

    def look(self, oldest: float, now: float) -> None:
        """Read the letters of records that arrived since `oldest`. Raises: Unavailable: not all is known."""
        days = list(_days(oldest, now))
        keys = [key for stage in LETTER_STAGES for key in self._keys(stage, days)]
        there = set(keys)
        self._read = {key: letter for key, letter in self._read.items() if key in there}
        unread = [key for key in keys if key not in self._read]
        if len(keys) > KEPT_MAX:
            raise Unavailable(f"{len(keys)} dead letters are more than the ledger can hold")
        with ThreadPoolExecutor(GETS_AT_ONCE_MAX, "letters") as pool:
            for key, letter in zip(unread, pool.map(self._letter, unread[:READ_MAX]), strict=False):
                if letter is not None:
                    self._read[key] = letter
        self._by_window = {}
        for letter in self._read.values():
            if letter.window is not None:
                self._by_window.setdefault(letter.window, []).append(letter)
        if len(unread) > READ_MAX:
            raise Unavailable(f"{len(unread) - READ_MAX} dead letters are still to be read")

    def of(self, window: Window) -> dict[str, Holdings]:
        """Of each stage, what is dead of this window; a stage without any is there too."""
        parts: dict[str, list[Elements]] = {stage: [] for stage in LETTER_STAGES}
        for letter in self._by_window.get(window, ()):
            parts[letter.stage].append(letter.elements)
        return {stage: Holdings(Elements.joined(elements)) for stage, elements in parts.items()}

    def windows(self) -> frozenset[Window]:
        return frozenset(self._by_window)

    def _keys(self, stage: str, days: Iterable[str]) -> Iterator[str]:
        folder = f"{PREFIX}{stage}/"
        wanted, after = list(days), ""
        while (first := next(iter(self._objects.list(folder, after)), None)) is not None:
            reason = first.key.removeprefix(folder).partition("/")[0]
            for day in wanted:
                yield from (stored.key for stored in self._objects.list(f"{folder}{reason}/{day}/"))
            after = f"{folder}{reason}/{_END}"

    def _letter(self, key: str) -> Buried | None:
        place = place_of(key)
        stage = place.stage if place is not None else LETTER_STAGES[0]
        try:
            batch = batch_of(decode(self._objects.get(key)))
        except NoSuchObject:
            return None  # redriven meanwhile
        except (Corrupt, DecodeError):
            return Buried(stage, None, Elements.none())
        return buried(stage, batch)


def buried(stage: str, batch: StoredBatch) -> Buried:
    window = Window(batch.tenant, batch.door, window_of(batch.accepted_at_unix_micros))
    return Buried(stage, window, of_names((event.source, event.id) for event in batch.events))


def _days(oldest: float, now: float) -> Iterator[str]:
    day = datetime.fromtimestamp(oldest, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # A record may bear the stream's clock, which may be ahead.
    while day.timestamp() <= now + 60:
        yield f"{day:%Y/%m/%d}"
        day += timedelta(days=1)
