"""Making an exit anew from history. Both rebuilds are idempotent and may run beside the stream.

rds    history -> state            RDS from the lake
redis  state of all subjects       Redis from RDS
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.errors import InvalidSchema, Unavailable
from pipeline.etl import rds, redis_exit
from pipeline.etl.columns import Columns
from pipeline.etl.decode import Event
from pipeline.etl.fold import Order, Said
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.lake_query import dataset
from pipeline.etl.redis_exit import Subject
from pipeline.etl.stage import COMMON_SCHEMA, struct_name
from pipeline.schema.registry import EventType, Registry

_FETCH_ROWS = 5_000
_SUBJECTS_AT_ONCE = 2_000

_STATE_SQL = """
SELECT tenant, entity, subject, attribute, value,
       (extract(epoch FROM event_time) * 1000000)::bigint, event_id, event_key
FROM subject_attribute ORDER BY tenant, entity, subject, attribute
"""


def rebuild_redis(rds_url: str, redis_url: str) -> tuple[int, int]:
    """Bring every subject's state from RDS to Redis; how many subjects, and how many attributes changed.

    Raises:
        Unavailable: one of the two does not answer; run it again.
    """
    connection = rds.connect(rds_url)
    client = redis_exit.connect(redis_url)
    subjects, changed = 0, 0
    try:
        some: list[Subject] = []
        for subject in _subjects(connection):
            some.append(subject)
            subjects += 1
            if len(some) == _SUBJECTS_AT_ONCE:
                changed += redis_exit.apply_subjects(client, some)
                some = []
        return subjects, changed + redis_exit.apply_subjects(client, some)
    except psycopg.Error as exc:
        raise Unavailable(f"RDS: {type(exc).__name__} {exc.sqlstate or ''}") from None
    finally:
        client.close()
        connection.close()


def rebuild_rds(lake: Lake, registry: Registry, rds_url: str) -> tuple[int, int]:
    """Bring every event of the lake to RDS: history, and with it the state; how many there are, and how many were missing.

    Raises:
        Unavailable: one of the two does not answer; run it again.
        InvalidSchema: the lake holds a type or field that is not deployed any more.
    """
    connection = rds.connect(rds_url)
    seen, added = 0, 0
    try:
        rds.create_schema(connection)
        for events in _events(lake, registry):
            with connection.transaction():
                added += rds.load_events(connection, events).loaded
            seen += len(events)
        return seen, added
    except psycopg.Error as exc:
        raise Unavailable(f"RDS: {type(exc).__name__} {exc.sqlstate or ''}") from None
    finally:
        connection.close()


def _events(lake: Lake, registry: Registry) -> Iterator[list[Event]]:
    """The lake's events, a bounded number at a time, type by type: a type's file has no other type's columns."""
    files = dataset(lake)
    columns = Columns(registry.types.values())
    for name in sorted({one.type for one in data_files(lake.table())}):
        if name not in registry.types:
            raise InvalidSchema(f"the lake holds {name}, which is no event type that is deployed here")
        wanted = [field.name for field in COMMON_SCHEMA if field.name != "date"]
        of_type = files.scanner(columns=[*wanted, struct_name(name)], filter=ds.field("type") == name, batch_size=_FETCH_ROWS)
        for batch in of_type.to_batches():
            if batch.num_rows:
                yield _read_back(batch, registry.types[name], columns)


def _read_back(batch: pa.RecordBatch, kind: EventType, columns: Columns) -> list[Event]:
    messages = columns.messages(kind.name, batch.column(struct_name(kind.name)))
    times = {name: batch.column(name).cast(pa.int64()).to_pylist() for name in ("event_time", "accepted_at")}
    text = ("event_key", "tenant", "source", "event_id", "subject", "door", "traceparent", "payload_digest")
    values = zip(*(batch.column(name).to_pylist() for name in text), strict=True)
    return [
        Event(key, tenant, source, id, kind, subject, time, accepted, door, traceparent, digest, message, b"", 0, 0)
        for (key, tenant, source, id, subject, door, traceparent, digest), time, accepted, message in zip(
            values, times["event_time"], times["accepted_at"], messages, strict=True
        )
    ]


def _subjects(connection: "psycopg.Connection[Any]") -> Iterator[Subject]:
    with connection.transaction(), connection.cursor(name="state") as cursor:
        cursor.itersize = _FETCH_ROWS
        rows = cursor.execute(_STATE_SQL)
        for at, of_subject in groupby(rows, key=lambda row: (row[0], row[1], row[2])):
            yield at, _said(list(of_subject))


def _said(rows: Sequence[Any]) -> list[tuple[str, Said]]:
    return [(row[3], Said(Order(int(row[5]), row[6].encode(), bytes(row[7])), row[4])) for row in rows]
