"""`python -m pipeline.etl.bench`: CPU seconds per million events, by step, beside plain pyarrow and DuckDB on the same events.

The rows compare within one run. pyarrow and DuckDB read the same events as JSON lines (envelope and payload) and write Parquet:
no identity, no deduplication, no dead letters, no commit. The Spark row is the lake's work through Spark's own machinery, its
start-up apart.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb
import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from pipeline import frame
from pipeline.etl import session as spark_session
from pipeline.etl.columns import Columns
from pipeline.etl.decode import Decoded, decode
from pipeline.etl.exits import run, total
from pipeline.etl.fold import fold
from pipeline.etl.lake import Lake
from pipeline.etl.plain import as_json, plain
from pipeline.etl.source import ARROW_SCHEMA
from pipeline.etl.stage import stage, struct_name
from pipeline.etl.work import Place, StageLake
from pipeline.event import StoredRecord, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.flight_pb2 import FlightArrived
from pipeline.schema.registry import Registry

EVENTS_PER_RECORD = 100
_JAN_2013 = 1_356_998_400


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    events: int
    wall_seconds: float
    cpu_seconds: float

    def text(self, base: float) -> str:
        if not self.events:
            return f"{self.name:<58}{'':>12}{self.cpu_seconds:>14.1f} s"
        per_million = self.cpu_seconds / self.events * 1e6
        rate = self.events / self.wall_seconds
        return f"{self.name:<58}{rate:>12,.0f}{per_million:>16.1f}{per_million / base:>9.2f}"


def records(count: int) -> list[StoredRecord]:
    """A month of flights, 100 events a record."""
    out = []
    for first in range(0, count, EVENTS_PER_RECORD):
        events = [_event(n, _JAN_2013 + n * 2_600_000 // count) for n in range(first, first + EVENTS_PER_RECORD)]
        batch = stored_batch(
            events, tenant="acme", accepted_at_unix_micros=1, door="grpc", worker="bench", slice=0, slices=16
        ).SerializeToString()
        out.append(
            StoredRecord("events-clean", "shardId-000000000000", str(first + 1), frame.encode(batch), _JAN_2013 * 1_000_000)
        )
    return out


def _event(n: int, at: int) -> CloudEvent:
    message = FlightArrived(
        carrier="UA", flight=n % 9_999, tail_number=f"N{n % 4_000}", origin="EWR", destination="ORD", air_time_minutes=n % 400
    )
    message.arrived_at.seconds = at
    name = FlightArrived.DESCRIPTOR.full_name
    event = CloudEvent(id=f"flight-{n}", source="/bench", spec_version="1.0", type=name, binary_data=message.SerializeToString())
    event.attributes["time"].ce_timestamp.seconds = at
    event.attributes["subject"].ce_string = message.tail_number
    return event


def tree_cpu_seconds() -> float:
    """CPU time of this process and all below it that live; JVM and Python workers among them."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(entry.name)] = int(words[1])
            ticks[int(entry.name)] = sum(map(int, words[11:15]))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(ticks.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def measured(name: str, events: int, work: Callable[[], object]) -> Row:
    wall, cpu = time.perf_counter(), tree_cpu_seconds()
    work()
    return Row(name, events, time.perf_counter() - wall, tree_cpu_seconds() - cpu)


def core_rows(read: list[StoredRecord], scratch: Path) -> list[Row]:
    """Our steps, one after the other, in this process."""
    registry = Registry.load()
    columns = Columns(registry.types.values())
    count = len(read) * EVENTS_PER_RECORD
    lake = Lake(f"file://{scratch}/events", "us-east-1")
    lake.ensure({struct_name(name): columns.struct_type(name) for name in registry.types})
    held: list[Decoded] = []

    def commit(batch: int) -> None:
        files, _ = stage(decode(read, registry.find), columns, lake.objects.put)
        lake.commit("bench", batch, files, on_conflicts=lambda _: None)

    events = decode(read[:10], registry.find).events  # everything compiled
    fold(events)
    return [
        measured(
            "decode: frame, identity, digest, parse, unknown fields", count, lambda: held.append(decode(read, registry.find))
        ),
        measured("fold to current state", count, lambda: fold(held[0].events)),
        measured(
            "rows for RDS: payload to jsonb text", count, lambda: [as_json(plain(event.message)) for event in held[0].events]
        ),
        measured("lake: decode, columns, Parquet, anti-join, commit", count, lambda: commit(0)),
        measured("lake, the same again: every event a duplicate", count, lambda: commit(1)),
    ]


def plain_rows(read: list[StoredRecord], scratch: Path) -> list[Row]:
    """The same events as JSON lines, by tools that do nothing else."""
    count = len(read) * EVENTS_PER_RECORD
    lines = scratch / "events.jsonl"
    with lines.open("wb") as sink:
        for event in decode(read, Registry.load().find).events:
            envelope = {"id": event.id, "source": event.source, "type": event.kind.name, "subject": event.subject}
            sink.write(orjson.dumps({**envelope, "time": event.time_micros, "data": plain(event.message)}) + b"\n")
    target = scratch / "plain.parquet"

    def by_pyarrow() -> None:
        pq.write_table(pa.json.read_json(lines), target, compression="zstd", compression_level=1)

    def by_duckdb() -> None:
        con = duckdb.connect(config={"threads": 2, "autoinstall_known_extensions": False})
        con.execute(f"COPY (FROM read_json('{lines}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        con.close()

    return [
        measured("plain pyarrow: JSON lines to one Parquet file", count, by_pyarrow),
        measured("plain DuckDB: JSON lines to one Parquet file", count, by_duckdb),
    ]


def spark_rows(read: list[StoredRecord], scratch: Path) -> list[Row]:
    """The lake's executor work through Spark, two parts; the second time its workers are warm."""
    columns = zip(
        *((r.stream, r.shard_id, r.sequence_number, r.arrived_at_unix_micros // 1_000, r.data) for r in read), strict=True
    )
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, ARROW_SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=ARROW_SCHEMA)
    for part in range(2):
        pq.write_table(table.slice(part * len(read) // 2, len(read) // 2), scratch / f"records-{part}.parquet")
    started: list[object] = []
    begun = measured("Spark start-up, once", 0, lambda: started.append(_session(scratch)))
    session = started[0]
    work = StageLake(Place(f"file://{scratch}/letters", "us-east-1"), f"file://{scratch}/staged")
    frame_of = session.read.parquet(str(scratch / "records-*.parquet"))  # type: ignore[attr-defined]
    count = len(read) * EVENTS_PER_RECORD
    rows = [
        measured(f"Spark mapInArrow, {heat}", count, lambda: total(run(frame_of, work)))
        for heat in ("cold workers", "warm workers")
    ]
    session.stop()  # type: ignore[attr-defined]
    return [begun, *rows]


def _session(scratch: Path) -> object:
    return spark_session.start("local[2,4]", scratch / "spark")


@click.command()
@click.option("--events", default=100_000, show_default=True)
@click.option("--spark/--no-spark", default=True, show_default=True)
def main(events: int, spark: bool) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="spillway-etl-bench-"))
    try:
        read = records(events)
        rows = [*core_rows(read, scratch), *plain_rows(read, scratch), *(spark_rows(read, scratch) if spark else [])]
        duck = next(row for row in rows if "DuckDB" in row.name)
        base = duck.cpu_seconds / duck.events * 1e6
        click.echo(f"{'':<58}{'events/s':>12}{'CPU s/M events':>16}{'x DuckDB':>9}")
        for row in rows:
            click.echo(row.text(base))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
