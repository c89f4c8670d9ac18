"""What the processes of the path say they saw: segments, summed, and where nothing is known. Pure; source.py reads the bucket.

    segments ─► digests summed by slot ─► the tables of a window
             └► instances: who lives, who ended, who fell silent ─► what is not accounted for, with the reason

Rules
- All of it is derived from the segments that are in the bucket: a collector that starts anew and reads them again knows the same.
- An instance is one boot of one worker. It is heard, or has said that it ended, or it is silent; a silent one is taken to be
  dead, and what it saw after its last segment is not known. If it speaks again without a hole in its numbers, nothing was missed.
- A collector that could not look must not call anybody silent: silence counts from when it could look again.
- What a process saw after a moment can concern windows before it: of a door those whose requests may be under way, of a reader
  those that it may be behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from canary.ledger.books import Window
from pipeline.ledger import tiers
from pipeline.ledger.segment import Place, Segment
from pipeline.ledger.table import Table
from pipeline.ledger.tally import WINDOW_SECONDS, Digest

# Longer without a segment, and an instance that did not say that it ended is taken to be dead. It writes one every 5 s.
SILENT_SECONDS = 30.0
# A silent instance whose worker does not begin anew may live and be cut off from the bucket: so long, what it sees is not known.
LIMBO_SECONDS = 600.0
# A request that was accepted so long ago is answered.
REQUEST_SECONDS_MAX = 30.0
DOORS = ("http", "grpc")
EVERY_TIER = tuple(tier for of_part in tiers.OF_PART.values() for tier in of_part)


@dataclass(slots=True)
class Instance:
    """One boot of a worker. Times are seconds since 1970."""

    part: str
    worker: str
    boot: str
    began_at: float
    reaches_to: float
    # When its newest segment came to the bucket.
    heard_at: float
    last: bool = False
    # What each of its segments reaches to, by number. None: it can't be read.
    reached: dict[int, float | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.worker} ({self.boot})"


@dataclass(frozen=True, slots=True)
class Gap:
    """What this part saw between two times is not known in full."""

    part: str
    start: float
    end: float
    reason: str

    @property
    def tiers(self) -> tuple[str, ...]:
        return tiers.OF_PART.get(self.part, EVERY_TIER)

    def touches(self, window: Window, back_seconds: float) -> bool:
        back = REQUEST_SECONDS_MAX if self.part == window.door else back_seconds
        return window.start + WINDOW_SECONDS + back > self.start and window.start < self.end


class Collected:
    """`back_seconds`: so long after its end a window may still gain events at a reader."""

    def __init__(self, back_seconds: float, silent_seconds: float = SILENT_SECONDS) -> None:
        self._back_seconds, self._silent_seconds = back_seconds, silent_seconds
        self._instances: dict[tuple[str, str], Instance] = {}
        self._sums: dict[int, dict[Window, dict[str, Digest]]] = {}
        # Parts by window of which something was dropped.
        self._incomplete: dict[int, set[str]] = {}
        # Of boots of which nothing else is known, segments that can't be read: their numbers, and when they came.
        self._strange: dict[tuple[str, str], dict[int, float]] = {}
        self._looked_at, self._blind = float("-inf"), False
        # When looking became possible again.
        self._seeing_since = float("-inf")
        # Before it nobody looked.
        self._listed_from: float | None = None
        # Windows of which a door said something more since they were taken.
        self._changed: set[Window] = set()
        self._gaps: list[Gap] | None = None

    # What is read.

    def add(self, segment: Segment, heard_at: float) -> None:
        """A segment that came to the bucket at `heard_at`. One that was added before is not to be added again."""
        instance = self._instances.get((segment.worker, segment.boot))
        if instance is None:
            instance = Instance(segment.part, segment.worker, segment.boot, segment.began_at, segment.reaches_to, heard_at)
            instance.reached.update(dict.fromkeys(self._strange.pop((segment.worker, segment.boot), ())))
            self._instances[segment.worker, segment.boot] = instance
        instance.reached[segment.number] = segment.reaches_to
        instance.reaches_to = max(instance.reaches_to, segment.reaches_to)
        instance.heard_at = max(instance.heard_at, heard_at)
        instance.last = instance.last or segment.last
        for slot, digest in segment.digests.items():
            window = Window(slot.tenant, slot.door, slot.window)
            self._sums.setdefault(slot.window, {}).setdefault(window, {}).setdefault(slot.tier, Digest()).merge(digest)
            if slot.tier in (tiers.ACKNOWLEDGED.get(slot.door), tiers.UNCERTAIN.get(slot.door)):
                self._changed.add(window)
        for start in segment.incomplete:
            self._incomplete.setdefault(start, set()).add(segment.part)
        self._gaps = None

    def add_unreadable(self, place: Place, heard_at: float) -> None:
        instance = self._instances.get((place.worker, place.boot))
        if instance is None:
            self._strange.setdefault((place.worker, place.boot), {})[place.number] = heard_at
        else:
            instance.reached[place.number] = None
            instance.heard_at = max(instance.heard_at, heard_at)
        self._gaps = None

    def looked(self, now: float, listed_from: float) -> None:
        """All that is in the bucket, as far back as `listed_from`, was added."""
        if self._blind:
            self._seeing_since = now
        self._looked_at, self._blind = now, False
        self._listed_from = listed_from if self._listed_from is None else self._listed_from
        self._gaps = None

    def blinded(self) -> None:
        """The bucket could not be read."""
        self._blind = True

    # What is known.

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(self._instances.values())

    def windows(self, start: int) -> frozenset[Window]:
        """Those that begin then and of which any process saw something."""
        return frozenset(self._sums.get(start, ()))

    def tables(self, window: Window) -> dict[str, Table]:
        """What each tier saw, over all processes."""
        return {tier: digest.table() for tier, digest in self._sums.get(window.start, {}).get(window, {}).items()}

    def events(self, window: Window) -> dict[str, int]:
        """How many events each tier saw, with repetitions."""
        return {tier: digest.events for tier, digest in self._sums.get(window.start, {}).get(window, {}).items()}

    def take_changed(self) -> frozenset[Window]:
        """Windows into which a door took something more since this was asked last."""
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def lagging(self, start: int) -> dict[str, str]:
        """Tiers of those that live and did not say yet what they saw until the end of these windows; and who that is."""
        end = start + WINDOW_SECONDS
        found: dict[str, str] = {}
        for each in self._instances.values():
            if not each.last and each.began_at < end and each.reaches_to < end and self._died_by(each) is None:
                self._name(found, each.part, f"{each.name} did not say yet what it saw")
        return found

    def unaccounted(self, window: Window) -> dict[str, str]:
        """Tiers of which a part is not known for this window, with the reason."""
        found: dict[str, str] = {}
        for part in self._incomplete.get(window.start, ()):
            self._name(found, part, f"{part} saw more than it could keep")
        for gap in self._all_gaps():
            if gap.touches(window, self._back_seconds):
                for tier in gap.tiers:
                    found.setdefault(tier, gap.reason)
        for part in tiers.OF_PART:
            if not self._reported(part, window):
                self._name(found, part, f"no {part} reported")
        return found

    def forget(self, before: int) -> None:
        """Windows that begin before, and instances that ended before."""
        for start in [start for start in self._sums if start < before]:
            del self._sums[start]
        for start in [start for start in self._incomplete if start < before]:
            del self._incomplete[start]
        self._changed = {window for window in self._changed if window.start >= before}
        for key, each in list(self._instances.items()):
            died_at = self._died_by(each)
            ended_at = each.reaches_to if each.last else died_at
            if ended_at is not None and ended_at + self._back_seconds < before:
                del self._instances[key]
                continue
            # Of a boot that goes on, the numbers of long ago.
            old = [number for number, at in each.reached.items() if at is not None and at + self._back_seconds < before]
            for number in sorted(old)[:-1]:
                del each.reached[number]
        self._strange = {key: ats for key, ats in self._strange.items() if max(ats.values()) >= before}
        if self._listed_from is not None:
            self._listed_from = max(self._listed_from, before - self._back_seconds)
        self._gaps = None

    # Where nothing is known.

    def _reported(self, part: str, window: Window) -> bool:
        """A door that ended in peace saw nothing since; a reader has to come past the window."""
        needed = window.start if part in DOORS else window.start + WINDOW_SECONDS
        return any(each.part == part and each.reaches_to >= needed for each in self._instances.values())

    @staticmethod
    def _name(found: dict[str, str], part: str, reason: str) -> None:
        for tier in tiers.OF_PART.get(part, EVERY_TIER):
            found.setdefault(tier, reason)

    def _all_gaps(self) -> list[Gap]:
        if self._gaps is None:
            self._gaps = [gap for each in self._instances.values() for gap in self._gaps_of(each)]
            for (worker, boot), ats in self._strange.items():
                reason = f"segments of {worker} ({boot}) can't be read"
                came = ats.values()
                self._gaps.append(Gap("", min(came) - self._silent_seconds, max(came) + self._silent_seconds, reason))
        return self._gaps

    def _gaps_of(self, each: Instance) -> Iterator[Gap]:
        numbers = sorted(number for number, at in each.reached.items() if at is not None)
        first = numbers[0] if numbers else 0
        # Segments before what was listed are not missing.
        if first > 0 and self._listed_from is not None and each.began_at >= self._listed_from:
            yield Gap(
                each.part, each.began_at, self._reach(each, first), f"the first {first} segments of {each.name} are not there"
            )
        for before, after in pairwise(numbers):
            if after != before + 1:
                unreadable = all(number in each.reached for number in range(before + 1, after))
                what = f"segments {before + 1} to {after - 1} of {each.name} " + (
                    "can't be read" if unreadable else "are not there"
                )
                yield Gap(each.part, self._reach(each, before), self._reach(each, after), what)
        died_by = self._died_by(each)
        if died_by is not None:
            yield Gap(each.part, each.reaches_to, died_by, f"{each.name} fell silent")
        elif any(number > numbers[-1] for number in each.reached):
            yield Gap(each.part, each.reaches_to, float("inf"), f"the newest segment of {each.name} can't be read")

    @staticmethod
    def _reach(each: Instance, number: int) -> float:
        at = each.reached[number]
        assert at is not None
        return at

    def _died_by(self, each: Instance) -> float | None:
        """By when a silent instance was dead: when its worker began anew, or some time after its silence was noticed. None: it is
        not silent."""
        if each.last:
            return None
        next_began = min(
            (
                other.began_at
                for other in self._instances.values()
                if other.worker == each.worker and other.began_at >= each.reaches_to
            ),
            default=None,
        )
        if next_began is not None:
            return next_began
        noticed_at = max(each.heard_at, self._seeing_since) + self._silent_seconds
        return noticed_at + LIMBO_SECONDS if self._looked_at >= noticed_at else None
