"""What one part of a micro-batch tells the driver: counts, and for the lake the files it staged."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.errors import Corrupt
from pipeline.event import StoredRecord

REPORT_SCHEMA = "kind string, body binary"
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


@dataclass(frozen=True, slots=True)
class PartReport:
    records: int = 0
    loaded: int = 0
    duplicates: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    # Accept time in microseconds and number of events, per stored record: what freshness is computed from.
    accepted: tuple[tuple[int, int], ...] = ()
    files: tuple[StagedFile, ...] = ()


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
        records = records_of(batches)
        if records:
            yield as_arrow(work(records))

    return run
