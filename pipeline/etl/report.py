"""What one part of a micro-batch tells the driver: counts, for the lake the files it staged, and what traces are made of.

Executors' Python workers have no port and ship nothing: what they see of single events goes home in the report, bounded, and the
driver makes spans, log lines and metrics of it.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.errors import Corrupt
from pipeline.event import StoredRecord
from telemetry.tracing import Trace

REPORT_SCHEMA = "kind string, body binary"
# Of one part; what is beyond is counted.
KEPT_EVENTS_MAX = 2_000
FAILED_EVENTS_MAX = 200
_ARROW_SCHEMA = pa.schema([("kind", pa.string()), ("body", pa.binary())])


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A Parquet file of one partition of the table, written but not committed. Its name is made of its content."""

    path: str
    size_bytes: int
    tenant: str
    type: str
    # The day of the event time in UTC, yyyy-MM-dd.
    date: str
    rows: int
    time_micros_min: int
    time_micros_max: int
    # 16 and 8 bytes a row, in the order of the rows.
    keys: bytes
    digests: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row whose identity is taken by another payload."""

    key: bytes
    digest: bytes


class Spot(NamedTuple):
    """Where an event stands in the stream; place None: the whole record."""

    shard_id: str
    sequence_number: str
    place: int | None


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event that is traced."""

    trace: Trace
    key: bytes
    tenant: str
    type: str
    spot: Spot
    accepted_micros: int
    # In the stream.
    arrived_micros: int
    # What the exit made of it: loaded or duplicate.
    outcome: str = "loaded"


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A dead letter: all that its last span and its log line say. Without id: a record that could not be opened."""

    reason: str
    spot: Spot
    arrived_micros: int
    tenant: str = ""
    source: str = ""
    id: str = ""
    type: str = ""
    traceparent: str = ""
    canary: bool = False
    door: str = ""
    # The door's process.
    accepted_by: str = ""
    accepted_micros: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a part saw of single events, and its own times in nanoseconds since 1970."""

    # Host and process of the Python worker.
    worker: str = ""
    began_ns: int = 0
    decoded_ns: int = 0
    # Staged, or loaded.
    ended_ns: int = 0
    kept: tuple[KeptEvent, ...] = ()
    kept_beyond: int = 0
    failed: tuple[FailedEvent, ...] = ()
    failed_beyond: int = 0


@dataclass(frozen=True, slots=True)
class PartReport:
    records: int = 0
    loaded: int = 0
    duplicates: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    # Accept time in microseconds and number of events, per stored record: what freshness is computed from.
    accepted: tuple[tuple[int, int], ...] = ()
    files: tuple[StagedFile, ...] = ()
    seen: Seen = Seen()


def as_arrow(report: PartReport) -> pa.RecordBatch:
    import pickle

    return pa.RecordBatch.from_arrays([pa.array(["report"]), pa.array([pickle.dumps(report)], pa.binary())], schema=_ARROW_SCHEMA)


def from_rows(rows: Iterable[Any]) -> list[PartReport]:
    """Raises: Corrupt: a row is no report."""
    import pickle

    reports = []
    for row in rows:
        report = pickle.loads(bytes(row[1]))
        if not isinstance(report, PartReport):
            raise Corrupt("a part of the micro-batch answered with something that is no report")
        reports.append(report)
    return reports


def records_of(batches: Iterable[pa.RecordBatch]) -> list[StoredRecord]:
    """The source's rows as records."""
    return [
        StoredRecord(stream, shard_id, sequence_number, data, arrived_millis * 1_000)
        for batch in batches
        for stream, shard_id, sequence_number, arrived_millis, data in zip(
            *(batch.column(number).to_pylist() for number in range(5)), strict=True
        )
    ]


def mapper(
    work: Callable[[list[StoredRecord]], PartReport],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What `mapInArrow` runs: all of a part's records in, one report out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        began_ns = time.time_ns()
        records = records_of(batches)
        if records:
            report = work(records)
            times = replace(report.seen, worker=_worker(), began_ns=began_ns, ended_ns=time.time_ns())
            yield as_arrow(replace(report, seen=times))

    return run


def _worker() -> str:
    """This executor's Python worker, as spans name it."""
    return f"{socket.gethostname()}:{os.getpid()}"
