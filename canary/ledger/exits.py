"""What the exits really hold of a stretch of accept times: files of the lake, rows of RDS. Nothing that the ETL says is used.

Rules
- A stretch is read from `start` up to `end`, both beginnings of windows, in seconds since 1970.
- What can't be read raises; an exit that nobody made yet holds nothing.
- An event that is at an exit twice is doubled, whatever its accept times are: each of its windows gets all copies.
- `find` asks for single events at any accept time: what was sent again is acknowledged again, and lies where it came first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import deltalake
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from canary.ledger.books import Holdings, Window
from pipeline.errors import Unavailable
from pipeline.etl import rds
from pipeline.etl.lake import Lake
from pipeline.event import event_key
from pipeline.ledger.identity import Elements, Name, of_names
from pipeline.ledger.tally import WINDOW_MICROS, WINDOW_SECONDS

# Rows of lake files that are kept, at about 90 bytes each; beyond them the files that were not used for longest are read again.
CACHED_ROWS_MAX = 1_000_000
# The lake's clock and the doors' may differ by so much.
CLOCK_SLACK_SECONDS = 60.0
# Files that are read for one event of which nothing is known but its tenant; the newest.
FIND_FILES_MAX = 200
STATEMENT_MILLIS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event to be found: its key, and as much of its name as is known."""

    key: int
    name: Name


@dataclass(frozen=True, slots=True)
class Located:
    """Where an event lies in the lake, if it is there."""

    type: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """Copies of wanted events, and by key where in the lake one would lie."""

    elements: Elements
    located: Mapping[int, Located] = field(default_factory=dict)


class Exit(Protocol):
    name: str

    def read(self, start: int, end: int) -> dict[Window, Holdings]:
        """Raises: Unavailable."""
        ...

    def find(self, tenant: str, wanted: Sequence[Wanted], hints: Mapping[int, Located]) -> "Found":
        """Those that are there, whatever their accept time is. Raises: Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of one tenant, in columns."""

    starts: npt.NDArray[np.int64]
    doors: npt.NDArray[np.str_]
    elements: Elements

    def __len__(self) -> int:
        return len(self.starts)


def grouped(tenant: str, rows: Rows, start: int, end: int) -> dict[Window, Holdings]:
    """The rows of a stretch by window; a row that is there more than once is in each of its windows as often."""
    wanted = np.flatnonzero((rows.starts >= start) & (rows.starts < end))
    if not len(wanted):
        return {}
    elsewhere = _copies_elsewhere(rows)
    windows: dict[Window, Holdings] = {}
    doors, door_of = np.unique(rows.doors[wanted], return_inverse=True)
    codes = (rows.starts[wanted] - start) // WINDOW_SECONDS * len(doors) + door_of
    order = np.argsort(codes, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        members = wanted[group]
        window = Window(tenant, str(rows.doors[members[0]]), int(rows.starts[members[0]]))
        windows[window] = Holdings(rows.elements.take(_with_copies(rows, members, elsewhere)))
    return windows


def _copies_elsewhere(rows: Rows) -> npt.NDArray[np.uint64]:
    keys, counts = np.unique(rows.elements.keys, return_counts=True)
    return keys[counts > 1]


def _with_copies(rows: Rows, members: npt.NDArray[np.intp], doubled: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    mine = np.intersect1d(rows.elements.keys[members], doubled)
    if not len(mine):
        return members
    return np.union1d(members, np.flatnonzero(np.isin(rows.elements.keys, mine)))


class LakeExit:
    """Rows in the data files of the table's current version. Files never change: what was read of one is kept, within a bound."""

    name = "lake"

    def __init__(self, lake: Lake, rows_max: int = CACHED_ROWS_MAX) -> None:
        self._lake, self._rows_max = lake, rows_max
        self._cache: OrderedDict[str, Rows] = OrderedDict()
        self._cached_rows = 0

    def read(self, start: int, end: int) -> dict[Window, Holdings]:
        # A row that was accepted then can only be in a file that was written later.
        by_tenant: dict[str, list[str]] = {}
        for file in self._files(int((start - CLOCK_SLACK_SECONDS) * 1000)):
            by_tenant.setdefault(file["partition.tenant"], []).append(file["path"])
        windows: dict[Window, Holdings] = {}
        for tenant, paths in by_tenant.items():
            windows |= grouped(tenant, _joined([self._rows(path) for path in paths]), start, end)
        return windows

    def find(self, tenant: str, wanted: Sequence[Wanted], hints: Mapping[int, Located]) -> Found:
        files = [file for file in self._files() if file["partition.tenant"] == tenant]
        files.sort(key=lambda file: file["modification_time"], reverse=True)
        located = [each.key for each in wanted if each.key in hints]
        asked: dict[str, set[int]] = {file["path"]: set() for file in files}
        for number, file in enumerate(files):
            asked[file["path"]].update(key for key in located if _may_hold(file, hints[key]))
            if number < FIND_FILES_MAX:
                asked[file["path"]].update(each.key for each in wanted if each.key not in hints)
        parts = [_of_keys(self._rows(path).elements, keys) for path, keys in asked.items() if keys]
        return Found(Elements.joined(parts))

    def _files(self, modified_from_millis: int = 0) -> list[dict[str, Any]]:
        """The files of the table that were written since then, with when that was."""
        try:
            if not self._lake.exists():
                return []
            actions = pa.table(self._lake.table().get_add_actions(flatten=True))
            names = ["path", "modification_time", "partition.tenant", "partition.type", "min.event_time", "max.event_time"]
            actions = actions.select([name for name in names if name in actions.column_names])
            recent = pc.greater_equal(actions["modification_time"], pa.scalar(modified_from_millis))
            files: list[dict[str, Any]] = actions.filter(recent).to_pylist()
        except (deltalake.exceptions.DeltaError, OSError) as exc:
            raise Unavailable(f"the lake can't be read: {type(exc).__name__}") from exc
        return files

    def _rows(self, path: str) -> Rows:
        known = self._cache.get(path)
        if known is not None:
            self._cache.move_to_end(path)
            return known
        try:
            columns = ["source", "event_id", "accepted_at", "door"]
            table = pq.read_table(path, filesystem=self._lake.filesystem(), columns=columns, partitioning=None)
        except (ArrowException, deltalake.exceptions.DeltaError, OSError) as exc:
            raise Unavailable(f"a file of the lake can't be read: {type(exc).__name__}") from exc
        micros = pc.cast(pc.cast(table["accepted_at"], pa.timestamp("us", "UTC")), pa.int64()).to_numpy()
        pairs = zip(table["source"].to_pylist(), table["event_id"].to_pylist(), strict=True)
        rows = Rows(micros // WINDOW_MICROS * WINDOW_SECONDS, np.array(table["door"].to_pylist(), np.str_), of_names(pairs))
        self._cache[path], self._cached_rows = rows, self._cached_rows + len(rows)
        while self._cached_rows > self._rows_max and len(self._cache) > 1:
            self._cached_rows -= len(self._cache.popitem(last=False)[1])
        return rows


def _of_keys(elements: Elements, keys: set[int]) -> Elements:
    return elements.take(np.flatnonzero(np.isin(elements.keys, np.fromiter(keys, np.uint64, len(keys)))))


def _may_hold(file: Mapping[str, Any], located: Located) -> bool:
    low, high = file.get("min.event_time"), file.get("max.event_time")
    return file["partition.type"] == located.type and (low is None or high is None or low <= located.time <= high)


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.doors for part in parts]),
        Elements.joined([part.elements for part in parts]),
    )


_STRETCH = """
SELECT tenant, door, (floor(extract(epoch FROM accepted_at) / %(size)s) * %(size)s)::bigint, source, event_id
FROM event_history WHERE accepted_at >= to_timestamp(%(start)s) AND accepted_at < to_timestamp(%(end)s)
"""
_BY_KEY = "SELECT source, event_id, type, event_time FROM event_history WHERE event_key = ANY(%s)"
# Reads the whole history: for ids of which not all is known.
_BY_BEGINNING = "SELECT source, event_id, type, event_time FROM event_history WHERE tenant = %s AND event_id ^@ ANY(%s)"


class RdsExit:
    """Rows of `event_history`."""

    name = "rds"

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: psycopg.Connection[Any] | None = None

    def read(self, start: int, end: int) -> dict[Window, Holdings]:
        rows = self._ask(_STRETCH, {"size": WINDOW_SECONDS, "start": start, "end": end})
        by_tenant: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            by_tenant.setdefault(row[0], []).append(row)
        windows: dict[Window, Holdings] = {}
        for tenant, own in by_tenant.items():
            starts, doors = np.array([row[2] for row in own], np.int64), np.array([row[1] for row in own], np.str_)
            windows |= grouped(tenant, Rows(starts, doors, of_names((row[3], row[4]) for row in own)), start, end)
        return windows

    def find(self, tenant: str, wanted: Sequence[Wanted], hints: Mapping[int, Located]) -> Found:
        whole = [each.name for each in wanted if each.name.id is not None and each.name.source_is_whole]
        parts = [each.name.id for each in wanted if each.name.id and not each.name.source_is_whole]
        rows: list[tuple[Any, ...]] = []
        if whole:
            rows += self._ask(_BY_KEY, ([event_key(tenant, name.source or "", name.id or "") for name in whole],))
        if parts:
            rows += self._ask(_BY_BEGINNING, (tenant, parts))
        elements = of_names((row[0], row[1]) for row in rows)
        located = {key: Located(row[2], row[3]) for key, row in zip(elements.keys.tolist(), rows, strict=True)}
        return Found(_of_keys(elements, {each.key for each in wanted}), located)

    def _ask(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        try:
            if self._link is None or self._link.closed:
                self._link = rds.connect(self._url)
                self._link.autocommit = True
                self._link.execute(f"SET statement_timeout = {STATEMENT_MILLIS_MAX}")
            return self._link.execute(query.encode(), values).fetchall()
        except psycopg.errors.UndefinedTable:
            return []
        except psycopg.Error as exc:
            self.close()
            raise Unavailable(f"RDS: {type(exc).__name__} {exc.sqlstate or ''}") from None

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def of_stretches(windows: Iterable[int]) -> list[tuple[int, int]]:
    """Window beginnings as stretches from `start` up to `end`, those that touch joined."""
    stretches: list[tuple[int, int]] = []
    for start in sorted(set(windows)):
        if stretches and stretches[-1][1] == start:
            stretches[-1] = (stretches[-1][0], start + WINDOW_SECONDS)
        else:
            stretches.append((start, start + WINDOW_SECONDS))
    return stretches
