"""The lake's part of the work in an executor: records to Parquet files, staged under names made of their content.

A staged file belongs to one partition of the table (tenant, type, date of the event time in UTC) and is not part of it before
the driver commits. Its name holds a digest of its bytes: a batch that is staged again writes the same files over
themselves, and a late attempt that decided otherwise can't change a file that is already committed.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.etl.columns import Columns
from pipeline.etl.decode import Dead, Decoded, Event, by_type
from pipeline.etl.report import StagedFile

PARTITION_COLUMNS = ("tenant", "type", "date")
COMMON_SCHEMA = pa.schema(
    [
        ("event_key", pa.binary()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("accepted_at", pa.timestamp("us", "UTC")),
        ("payload_digest", pa.binary()),
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("subject", pa.string()),
        ("door", pa.string()),
        ("traceparent", pa.string()),
        ("shard_id", pa.string()),
        ("sequence_number", pa.string()),
        ("tenant", pa.string()),
        ("type", pa.string()),
        ("date", pa.date32()),
    ]
)
_IN_FILE = pa.schema([field for field in COMMON_SCHEMA if field.name not in PARTITION_COLUMNS])
_DAY_MICROS = 86_400_000_000
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_EPOCH = date(1970, 1, 1)


def struct_name(type_name: str) -> str:
    """The column of an event type: its full name, in the lower case that Redshift and Glue want."""
    return _WORDS.sub("_", type_name).replace(".", "_").lower()


def stage(decoded: Decoded, columns: Columns, put: Callable[[str, bytes], None]) -> tuple[list[StagedFile], list[Dead]]:
    """Write the events' files and say which; and which events no column could hold."""
    files: list[StagedFile] = []
    refused: list[Dead] = []
    for name, events in sorted(by_type(decoded.events).items()):
        events.sort(key=_partition_order)
        structs, places = columns.convert(name, [event.message for event in events], [event.data for event in events])
        for place in reversed(places):
            bad = events.pop(place)
            refused.append(Dead("unconvertible", "no column of the lake can hold its data", bad.record, bad.place))
        table = _table(events, name, structs, decoded)
        for first, last in _partitions(events):
            files.append(_write(events[first:last], table.slice(first, last - first), put))
    return files, refused


def _partition_order(event: Event) -> tuple[str, int, bytes]:
    return (event.tenant, event.time_micros, event.key)


def _partitions(events: Sequence[Event]) -> Iterator[tuple[int, int]]:
    position = 0
    for _, group in groupby(events, key=lambda event: (event.tenant, event.time_micros // _DAY_MICROS)):
        size = sum(1 for _ in group)
        yield position, position + size
        position += size


def _table(events: Sequence[Event], name: str, structs: pa.StructArray, decoded: Decoded) -> pa.Table:
    records = decoded.records
    values = [
        [event.key for event in events],
        [event.time_micros for event in events],
        [event.accepted_micros for event in events],
        [event.digest for event in events],
        [event.source for event in events],
        [event.id for event in events],
        [event.subject for event in events],
        [event.door for event in events],
        [event.traceparent for event in events],
        [records[event.record].shard_id for event in events],
        [records[event.record].sequence_number for event in events],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(values, _IN_FILE, strict=True)]
    return pa.Table.from_arrays([*arrays, structs], schema=_IN_FILE.append(pa.field(struct_name(name), structs.type)))


def _write(events: Sequence[Event], table: pa.Table, put: Callable[[str, bytes], None]) -> StagedFile:
    day = _EPOCH + timedelta(days=events[0].time_micros // _DAY_MICROS)
    return write_file(
        table,
        put,
        tenant=events[0].tenant,
        type=events[0].kind.name,
        date=day.isoformat(),
        times=(events[0].time_micros, events[-1].time_micros),
        keys=b"".join(event.key for event in events),
        digests=b"".join(event.digest for event in events),
    )


def write_file(
    table: pa.Table,
    put: Callable[[str, bytes], None],
    *,
    tenant: str,
    type: str,
    date: str,
    times: tuple[int, int],
    keys: bytes,
    digests: bytes,
) -> StagedFile:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    body = sink.getvalue()
    name = hashlib.blake2b(tenant.encode() + b"\0" + body, digest_size=16).hexdigest()
    path = "/".join(
        f"{column}={_UNSAFE.sub('_', value)}" for column, value in zip(PARTITION_COLUMNS, (tenant, type, date), strict=True)
    )
    path = f"{path}/part-{name}.parquet"
    put(path, body)
    return StagedFile(path, len(body), tenant, type, date, table.num_rows, times[0], times[1], keys, digests)


def moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
