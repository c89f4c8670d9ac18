"""What executors run, per exit: a part's records in, a report out. Picklable by name; what is costly is made once a process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.etl import rds, redis_exit
from pipeline.etl.columns import Columns
from pipeline.etl.decode import Dead, Decoded, conflict, decode
from pipeline.etl.fold import fold
from pipeline.etl.letters import write_letters
from pipeline.etl.report import Conflict, PartReport, Seen
from pipeline.etl.seen import failed_events, seen
from pipeline.etl.stage import stage
from pipeline.etl.storage import Objects
from pipeline.event import StoredRecord
from pipeline.schema.registry import Registry
from telemetry.tracing import Keeping


@dataclass(frozen=True, slots=True)
class Place:
    """What every part needs to know."""

    # Where dead letters go: the bucket's root.
    letters_uri: str
    region: str
    proto_dir: str = ""
    # Which events are traced, as in every other process; None: none.
    keeping: Keeping | None = None

    def registry(self) -> Registry:
        return _registry(self.proto_dir)

    def decode(self, records: list[StoredRecord]) -> Decoded:
        return decode(records, self.registry().find, self.keeping)

    def bury(self, stage_name: str, records: list[StoredRecord], dead: Sequence[Dead]) -> dict[str, int]:
        return write_letters(stage_name, records, dead, _objects(self.letters_uri, self.region)) if dead else {}


@lru_cache(maxsize=4)
def _registry(proto_dir: str) -> Registry:
    return Registry.load(Path(proto_dir) if proto_dir else None)


@lru_cache(maxsize=4)
def _columns(proto_dir: str) -> Columns:
    return Columns(_registry(proto_dir).types.values())


@lru_cache(maxsize=8)
def _objects(uri: str, region: str) -> Objects:
    return Objects(uri, region)


def accepted(decoded: Decoded) -> tuple[tuple[int, int], ...]:
    counts: dict[int, int] = {}
    for event in decoded.events:
        counts[event.accepted_micros] = counts.get(event.accepted_micros, 0) + 1
    return tuple(counts.items())


@dataclass(frozen=True, slots=True)
class StageLake:
    """Decode, stage Parquet; the driver compares and commits."""

    place: Place
    lake_uri: str

    def __call__(self, records: list[StoredRecord]) -> PartReport:
        decoded = self.place.decode(records)
        decoded_ns = time.time_ns()
        times = accepted(decoded)
        files, refused = stage(decoded, _columns(self.place.proto_dir), _objects(self.lake_uri, self.place.region).put)
        dead = [*decoded.buried(), *refused]
        counts = self.place.bury("etl-lake", records, dead)
        rows = sum(one.rows for one in files)
        return PartReport(len(records), rows, decoded.duplicates, counts, times, tuple(files), seen(decoded, decoded_ns, dead))


@dataclass(frozen=True, slots=True)
class FindKept:
    """Only see which events are traced: of a batch that was committed before Spark died, and whose spans died with it."""

    place: Place

    def __call__(self, records: list[StoredRecord]) -> PartReport:
        decoded = self.place.decode(records)
        return PartReport(seen=seen(decoded, time.time_ns(), [], {event.key for _, event in decoded.kept}))


@dataclass(frozen=True, slots=True)
class BuryConflicts:
    """Write the letters of events that the driver found to conflict with what the lake holds."""

    place: Place
    conflicts: frozenset[Conflict]

    def __call__(self, records: list[StoredRecord]) -> PartReport:
        clashing = [
            conflict(event) for event in self.place.decode(records).events if Conflict(event.key, event.digest) in self.conflicts
        ]
        buried = self.place.bury("etl-lake", records, clashing)
        return PartReport(len(records), dead=buried, seen=Seen(failed=failed_events(records, clashing)))


@dataclass(frozen=True, slots=True)
class LoadRds:
    """Decode and load, one transaction. The letters come first: what the transaction passes over is stored by then."""

    place: Place
    url: str
    fence: int

    def __call__(self, records: list[StoredRecord]) -> PartReport:
        decoded = self.place.decode(records)
        decoded_ns = time.time_ns()
        counts = self.place.bury("etl-rds", records, decoded.buried())
        connection = rds.connect(self.url)
        try:
            done = rds.load(connection, decoded, self.fence)
        finally:
            connection.close()
        # Conflicts are also kept in a table of their own, in the same transaction; a letter that fails here fails the part, and
        # the part that is tried again finds the same conflicts.
        for reason, count in self.place.bury("etl-rds", records, done.dead).items():
            counts[reason] = counts.get(reason, 0) + count
        dead = [*decoded.buried(), *done.dead]
        duplicates = decoded.duplicates + done.duplicates
        told = seen(decoded, decoded_ns, dead, done.known)
        return PartReport(len(records), done.loaded, duplicates, counts, accepted(decoded), seen=told)


@dataclass(frozen=True, slots=True)
class LoadRedis:
    """Decode, fold, compare and set."""

    place: Place
    url: str

    def __call__(self, records: list[StoredRecord]) -> PartReport:
        decoded = self.place.decode(records)
        decoded_ns = time.time_ns()
        dead = decoded.buried()
        counts = self.place.bury("etl-redis", records, dead)
        client = redis_exit.connect(self.url)
        try:
            redis_exit.apply_state(client, fold(decoded.events))
        finally:
            client.close()
        told = seen(decoded, decoded_ns, dead)
        return PartReport(len(records), len(decoded.events), decoded.duplicates, counts, accepted(decoded), seen=told)
