"""The driver's side of the three exits: what happens to one micro-batch, from its records to its report.

Each exit is loaded by a query of its own with its own offsets (TRAPS 24). `load` is at least once: Spark repeats a batch that it
does not know to have ended, with the same records. That a repeat changes nothing is each exit's own affair: the lake by the
batch's number in the commit, RDS by identity, Redis by compare-and-set.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import InvalidSchema, Unavailable
from pipeline.etl import rds
from pipeline.etl.columns import Columns
from pipeline.etl.lake import Lake
from pipeline.etl.lake_care import compact_crowded
from pipeline.etl.report import REPORT_SCHEMA, Conflict, FailedEvent, PartReport, Seen, from_rows, mapper
from pipeline.etl.stage import struct_name
from pipeline.etl.work import BuryConflicts, FindKept, LoadRds, LoadRedis, Place, StageLake
from pipeline.event import StoredRecord
from telemetry.metrics import LAKE_REFUSALS, LAKE_SMALL_FILES, Metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# An exit that hangs holds at most this many of Spark's threads.
_PARTS_MAX = 2


@dataclass(frozen=True, slots=True)
class Commit:
    """The driver's commit to the lake; times in nanoseconds since 1970."""

    began_ns: int
    ended_ns: int
    # None: it changed nothing.
    version: int | None = None
    # Identities of traced events that the lake had before.
    known: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class BatchReport:
    records: int = 0
    loaded: int = 0
    duplicates: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    accepted: tuple[tuple[int, int], ...] = ()
    # By part.
    seen: tuple[Seen, ...] = ()
    # What the driver found to be dead.
    failed: tuple[FailedEvent, ...] = ()
    commit: Commit | None = None


class ExitLoader(Protocol):
    name: str

    def begin(self) -> None:
        """Called when the query starts, and again after each failure."""
        ...

    def load(self, frame: "DataFrame", batch: int, query_id: str) -> BatchReport: ...


def run(frame: "DataFrame", work: Callable[[list[StoredRecord]], PartReport]) -> list[PartReport]:
    """Run an executor's work on every part of a batch."""
    return from_rows(frame.mapInArrow(mapper(work), REPORT_SCHEMA).collect())


def total(reports: list[PartReport]) -> BatchReport:
    dead: Counter[str] = Counter()
    for report in reports:
        dead.update(report.dead)
    return BatchReport(
        sum(report.records for report in reports),
        sum(report.loaded for report in reports),
        sum(report.duplicates for report in reports),
        dict(dead),
        tuple(times for report in reports for times in report.accepted),
        tuple(report.seen for report in reports),
    )


class LakeExit:
    name = "lake"

    def __init__(self, place: Place, uri: str, compact_files: int, metrics: Metrics | None = None) -> None:
        self._place = place
        self._uri = uri
        self._compact_files = compact_files
        self._lake: Lake | None = None
        metrics = metrics or Metrics.off()
        self._not_registered = metrics.counter(LAKE_REFUSALS, kind="not_registered")
        self._schema_refused = metrics.counter(LAKE_REFUSALS, kind="schema")
        self._small_files = metrics.gauge(LAKE_SMALL_FILES)

    def begin(self) -> None:
        kinds = self._place.registry().types
        columns = Columns(kinds.values())
        self._lake = Lake(self._uri, self._place.region)
        names = {struct_name(name): name for name in kinds}
        if len(names) < len(kinds):
            raise InvalidSchema(f"two event types would share a column: {sorted(set(kinds) - set(names.values()))}")
        try:
            self._lake.ensure({column: columns.struct_type(name) for column, name in names.items()})
        except InvalidSchema:
            self._schema_refused.inc()
            raise

    def load(self, frame: "DataFrame", batch: int, query_id: str) -> BatchReport:
        assert self._lake is not None
        app_id = f"spillway-etl-{query_id}"
        if self._lake.has(app_id, batch):
            # Committed, but Spark died before it noted so, and before anybody was told.
            return self._found(frame) if self._place.keeping is not None else BatchReport()
        staged = run(frame, StageLake(self._place, self._uri))
        said = total(staged)
        dead = dict(said.dead)
        failed: list[FailedEvent] = []

        def bury(conflicts: frozenset[Conflict]) -> None:
            buried = total(run(frame, BuryConflicts(self._place, conflicts)))
            for reason, count in buried.dead.items():
                dead[reason] = dead.get(reason, 0) + count
            failed.extend(event for part in buried.seen for event in part.failed)

        files = [one for report in staged for one in report.files]
        watched = frozenset(event.key for part in said.seen for event in part.kept)
        began_ns = time.time_ns()
        try:
            done = self._lake.commit(app_id, batch, files, on_conflicts=bury, watched=watched)
        except Unavailable:
            self._not_registered.inc()
            raise
        commit = Commit(began_ns, time.time_ns(), done.version, done.known)
        crowd = compact_crowded(self._lake, {(one.tenant, one.type, one.date) for one in files}, self._compact_files)
        self._small_files.set(crowd)
        duplicates = said.duplicates + done.duplicates
        return BatchReport(said.records, done.rows, duplicates, dead, said.accepted, said.seen, tuple(failed), commit)

    def _found(self, frame: "DataFrame") -> BatchReport:
        return BatchReport(seen=total(run(frame, FindKept(self._place))).seen)


class RdsExit:
    name = "rds"

    def __init__(self, place: Place, url: str) -> None:
        self._place = place
        self._url = url
        self._fence = 0

    def begin(self) -> None:
        self._fence = rds.begin(self._url)

    def load(self, frame: "DataFrame", batch: int, query_id: str) -> BatchReport:
        return total(run(frame.coalesce(_PARTS_MAX), LoadRds(self._place, self._url, self._fence)))


class RedisExit:
    name = "redis"

    def __init__(self, place: Place, url: str) -> None:
        self._place = place
        self._url = url

    def begin(self) -> None:
        """Nothing to prepare: a Redis that is away fails the first batch, which is tried again."""

    def load(self, frame: "DataFrame", batch: int, query_id: str) -> BatchReport:
        return total(run(frame.coalesce(_PARTS_MAX), LoadRedis(self._place, self._url)))
