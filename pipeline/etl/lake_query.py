"""SQL on the lake by DuckDB, in this process, without a server: what Redshift Spectrum and Athena would answer.

`events` is the table without the canary's events, `all_events` is all of it. Each event type also has a view by its short name
(`flight_arrived`): the common columns and the type's own fields side by side. Files are pruned by tenant, type, date and event
time.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.errors import Permanent
from pipeline.etl.lake import DataFile, Lake, data_files
from pipeline.etl.stage import COMMON_SCHEMA, struct_name
from pipeline.event import BUSINESS_SQL

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class InvalidQuery(Permanent):
    """DuckDB refuses the SQL; the message is its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def connection(lake: Lake, type_names: Sequence[str] = ()) -> duckdb.DuckDBPyConnection:
    """A DuckDB with `events`, `all_events` and a view per event type, on the lake as it is now."""
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute("SET TimeZone = 'UTC'")
    table = lake.table()
    con.register("all_events", dataset(lake))
    con.execute(f"CREATE VIEW events AS SELECT * FROM all_events WHERE {BUSINESS_SQL}")
    columns = set(pa.schema(table.schema().to_arrow()).names)
    common = ", ".join(f'"{name}"' for name in COMMON_SCHEMA.names)
    for name, view in view_names(type_names).items():
        column = struct_name(name)
        if column in columns:
            quoted = name.replace("'", "''")
            con.execute(f'CREATE VIEW "{view}" AS SELECT {common}, unnest("{column}") FROM events WHERE type = \'{quoted}\'')
    return con


def dataset(lake: Lake) -> ds.Dataset:
    """The table's files with what is known of each: its partition and its event times.

    delta-rs's own `to_pyarrow_dataset` claims `subject >= null` of a file whose statistics leave `subject` out, and a filter on
    such a column then skips every file: an empty answer instead of the rows.
    """
    table = lake.table()
    filesystem, format = lake.filesystem(), ds.ParquetFileFormat()
    fragments = [format.make_fragment(file.path, filesystem, partition_expression=_known(file)) for file in data_files(table)]
    return ds.FileSystemDataset(fragments, pa.schema(table.schema().to_arrow()), format, filesystem)


def _known(file: DataFile) -> pc.Expression:
    day = pa.scalar(date.fromisoformat(file.date), pa.date32())
    known = (pc.field("tenant") == file.tenant) & (pc.field("type") == file.type) & (pc.field("date") == day)
    if file.time_min is None or file.time_max is None:
        return known
    start, end = (pa.scalar(moment, pa.timestamp("us", "UTC")) for moment in (file.time_min, file.time_max))
    return known & (pc.field("event_time") >= start) & (pc.field("event_time") <= end)


def view_names(type_names: Sequence[str]) -> dict[str, str]:
    """View by event type: the short name, or where two types share it, the full one."""
    short = {name: _WORDS.sub("_", name.rpartition(".")[2]).lower() for name in type_names}
    often = Counter(short.values())
    return {name: view if often[view] == 1 else struct_name(name) for name, view in short.items()}


def query(lake: Lake, sql: str, type_names: Sequence[str] = ()) -> Answer:
    """Raises: InvalidQuery; Unavailable if the lake can't be read."""
    con = connection(lake, type_names)
    try:
        found = con.execute(sql)
        columns = tuple(column[0] for column in found.description or ())
        return Answer(columns, found.fetchall() if columns else [])
    except duckdb.Error as exc:
        raise InvalidQuery(str(exc)) from exc
    finally:
        con.close()
