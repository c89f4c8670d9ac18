"""Segments as they come to the bucket: listed by hour, each read once.

Rules
- Most looks ask each known worker for what is behind its last key; every so often the last two hours are listed in full, for
  workers that are new, and the first look lists all hours of the horizon.
- The newest hour is listed first: a segment is written after the one before it, so that whoever sees one will see the other.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from canary.ledger.collect import Collected
from pipeline.backup.objects import NoSuchObject, Objects, Stored
from pipeline.errors import Corrupt, SpillwayError
from pipeline.ledger.segment import PREFIX, Segment, decode, hour_of, place_of
from telemetry.log import Logger

FULL_LOOK_SECONDS = 30.0
# So long after the hour its last segments may still come.
HOUR_SLACK_SECONDS = 120.0
GETS_AT_ONCE_MAX = 8


class SegmentSource:
    """`horizon_seconds`: how far back the first look goes."""

    def __init__(
        self,
        objects: Objects,
        collected: Collected,
        horizon_seconds: float,
        log: Logger | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._objects, self._collected, self._log, self._now = objects, collected, log, now
        self._horizon_seconds = horizon_seconds
        # Keys that were read, by hour; and the newest of each worker's.
        self._read: dict[str, set[str]] = {}
        self._newest: dict[tuple[str, str], str] = {}
        self._full_at = float("-inf")
        self._first = True

    def look(self) -> int:
        """Read what is new, and say how many segments that were. Raises: Unavailable: what was read before that is kept."""
        now = self._now()
        try:
            fresh = list(self._listed(now))
            with ThreadPoolExecutor(GETS_AT_ONCE_MAX, "segments") as pool:
                for stored, segment in zip(fresh, pool.map(self._get, fresh), strict=True):
                    self._take(stored, segment)
        except SpillwayError:
            self._collected.blinded()
            raise
        self._first = False
        self._collected.looked(
            now, datetime.fromtimestamp(now - self._horizon_seconds, UTC).replace(minute=0, second=0).timestamp()
        )
        self._forget(now)
        return len(fresh)

    def _listed(self, now: float) -> Iterator[Stored]:
        """Objects that were not read yet, the oldest first within an hour."""
        full = self._first or now - self._full_at >= FULL_LOOK_SECONDS
        back_seconds = self._horizon_seconds if self._first else 3600.0 if full else HOUR_SLACK_SECONDS
        found: list[Stored] = []
        for hour in _hours(now - back_seconds, now):
            known = self._read.setdefault(hour, set())
            found += [stored for stored in self._of_hour(hour, full) if stored.key not in known]
        if full:
            self._full_at = now
        yield from sorted(found, key=lambda stored: stored.key)

    def _of_hour(self, hour: str, full: bool) -> Iterator[Stored]:
        prefix = f"{PREFIX}{hour}/"
        if full:
            yield from self._objects.list(prefix)
            return
        for worker in {worker for _, worker in self._newest}:
            yield from self._objects.list(f"{prefix}{worker}/", self._newest.get((hour, worker), ""))

    def _get(self, stored: Stored) -> Segment | str:
        try:
            return decode(self._objects.get(stored.key))
        except (Corrupt, NoSuchObject) as exc:
            return f"{type(exc).__name__}: {exc}"

    def _take(self, stored: Stored, segment: Segment | str) -> None:
        heard_at = stored.modified_at.timestamp()
        place = place_of(stored.key)
        hour = stored.key.removeprefix(PREFIX)[:13]
        self._read.setdefault(hour, set()).add(stored.key)
        if place is None:
            return
        newest = (hour, place.worker)
        self._newest[newest] = max(self._newest.get(newest, ""), stored.key)
        if isinstance(segment, Segment):
            self._collected.add(segment, heard_at)
            return
        self._collected.add_unreadable(place, heard_at)
        if self._log is not None:
            self._log.error("a ledger segment can't be read", key=stored.key, detail=segment)

    def _forget(self, now: float) -> None:
        oldest = hour_of(now - self._horizon_seconds)
        self._read = {hour: keys for hour, keys in self._read.items() if hour >= oldest}
        self._newest = {at: key for at, key in self._newest.items() if at[0] >= oldest}


def _hours(start: float, end: float) -> list[str]:
    """The newest first."""
    at, hours = datetime.fromtimestamp(end, UTC).replace(minute=0, second=0, microsecond=0), []
    while at.timestamp() > start - 3600.0:
        hours.append(hour_of(at.timestamp()))
        at -= timedelta(hours=1)
    return hours
