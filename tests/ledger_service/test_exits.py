"""What exits hold of a stretch of accept times: a lake in a folder, RDS in a real PostgreSQL."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest

from canary.ledger.books import Holdings, Window
from canary.ledger.exits import Exit, LakeExit, RdsExit, Rows, Wanted, grouped, of_stretches
from pipeline import frame
from pipeline.errors import Unavailable
from pipeline.etl import lake_care, rds
from pipeline.etl.columns import Columns
from pipeline.etl.decode import Decoded, decode
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.report import StagedFile
from pipeline.etl.stage import stage, struct_name
from pipeline.event import stored_batch
from pipeline.ledger.identity import name_of, of_encoded, of_names
from pipeline.stack.launch import Stack
from tests.etl.events import JAN_2013, REGISTRY, arrived, raw_record

COLUMNS = Columns(REGISTRY.types.values())
STRUCTS = {struct_name(name): COLUMNS.struct_type(name) for name in REGISTRY.types}
LONG_SOURCE = "/a/source/that/is/longer/than/what/a/digest/can/keep/of/a/name"
T = int(time.time()) // 10 * 10 - 600


def events(*ids: str, at: float, tenant: str = "acme", door: str = "grpc", source: str = "/test") -> Decoded:
    """Events that a door accepted at a time; they happened long before."""
    batch = stored_batch(
        [arrived(id, at=JAN_2013, source=source) for id in ids],
        tenant=tenant, accepted_at_unix_micros=int(at * 1e6), door=door, worker="w", slice=0, slices=16,
    )  # fmt: skip
    return decode([raw_record(frame.encode(batch.SerializeToString()))], REGISTRY.find)


class LakeWriter:
    def __init__(self, folder: Path) -> None:
        self.lake = Lake(f"file://{folder}/events", "us-east-1")
        self.lake.ensure(STRUCTS)
        self.batches = 0

    def put(self, decoded: Decoded) -> list[StagedFile]:
        files, _ = stage(decoded, COLUMNS, self.lake.objects.put)
        self.lake.commit("q", self.batches, files, on_conflicts=lambda _: None)
        self.batches += 1
        return files


class RdsWriter:
    def __init__(self, url: str) -> None:
        self.link = rds.connect(url)
        self.fence = rds.take_fence(self.link)

    def put(self, decoded: Decoded) -> None:
        rds.load(self.link, decoded, self.fence)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack.start(tmp_path_factory.mktemp("rds"), free_ports=True, parts=("postgres",)) as stack:
        yield stack.env()["SPILLWAY_RDS_URL"]


@pytest.fixture
def rds_url(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as link:
        link.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    link = rds.connect(database)
    rds.create_schema(link)
    link.close()
    return database


@pytest.fixture(params=["lake", pytest.param("rds", marks=pytest.mark.stack)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Exit]]:
    """Who writes to an exit, and who reads it."""
    if request.param == "lake":
        writer = LakeWriter(tmp_path)
        yield writer, LakeExit(Lake(writer.lake.uri, "us-east-1"))
        return
    url = request.getfixturevalue("rds_url")
    to_rds, exit = RdsWriter(url), RdsExit(url)
    yield to_rds, exit
    to_rds.link.close()
    exit.close()


def named(holdings: Holdings) -> list[str | None]:
    return sorted(str(name_of(words).id) for words in holdings.elements.names)


def wanted(*ids: str, source: str = "/test") -> list[Wanted]:
    elements = of_names((source, id) for id in ids)
    return [Wanted(key, name_of(words)) for key, words in zip(elements.keys.tolist(), elements.names, strict=True)]


def test_rows_are_found_by_their_accept_time_tenant_and_door(place: tuple[Any, Exit]) -> None:
    writer, exit = place
    writer.put(events("a", "b", at=T))
    writer.put(events("c", at=T + 9.999999))
    writer.put(events("d", at=T, door="http"))
    writer.put(events("e", at=T, tenant="globex"))
    writer.put(events("next", at=T + 10))
    writer.put(events("before", at=T - 0.000001))
    found = exit.read(T, T + 10)
    assert {
        Window("acme", "grpc", T): ["a", "b", "c"], Window("acme", "http", T): ["d"], Window("globex", "grpc", T): ["e"],
    } == {window: named(held) for window, held in found.items()}  # fmt: skip
    assert {T: ["a", "b", "c"], T + 10: ["next"]} == {
        window.start: named(held) for window, held in exit.read(T, T + 20).items() if window[:2] == ("acme", "grpc")
    }


def test_what_comes_later_is_seen_the_next_time(place: tuple[Any, Exit]) -> None:
    writer, exit = place
    assert {} == exit.read(T, T + 10)
    writer.put(events("a", at=T))
    assert ["a"] == named(exit.read(T, T + 10)[Window("acme", "grpc", T)])


def test_keys_are_those_that_doors_and_workers_make(place: tuple[Any, Exit]) -> None:
    writer, exit = place
    writer.put(events("a", "ü" * 60, at=T, source=LONG_SOURCE))
    held = exit.read(T, T + 10)[Window("acme", "grpc", T)]
    seen = of_encoded([arrived(id, at=JAN_2013, source=LONG_SOURCE).SerializeToString() for id in ("a", "ü" * 60)])
    assert sorted(seen.keys.tolist()) == sorted(held.elements.keys.tolist())


def test_single_events_are_found_whatever_their_accept_time(place: tuple[Any, Exit]) -> None:
    writer, exit = place
    writer.put(events("a", "b", at=T - 5_000))
    writer.put(events("c", at=T - 5_000, source=LONG_SOURCE))
    writer.put(events("a", at=T - 5_000, tenant="globex"))
    asked = [*wanted("a", "absent"), *wanted("c", source=LONG_SOURCE)]
    found = exit.find("acme", asked, {})
    assert ["a", "c"] == sorted(str(name_of(words).id) for words in found.elements.names)
    assert 0 == len(exit.find("nobody", asked, {}).elements)


@pytest.mark.stack
def test_rds_says_where_in_the_lake_an_event_would_lie(rds_url: str, tmp_path: Path) -> None:
    writer, lake = RdsWriter(rds_url), LakeWriter(tmp_path)
    writer.put(events("a", "b", at=T - 90_000))
    lake.put(events("a", at=T - 90_000))
    exit = RdsExit(rds_url)
    asked = wanted("a", "b")
    hints = exit.find("acme", asked, {}).located
    assert {each.key for each in asked} == set(hints)
    in_lake = LakeExit(Lake(lake.lake.uri, "us-east-1")).find("acme", asked, hints)
    assert ["a"] == [name_of(words).id for words in in_lake.elements.names]
    writer.link.close()
    exit.close()


def test_an_exit_that_nobody_made_holds_nothing(tmp_path: Path) -> None:
    assert {} == LakeExit(Lake(f"file://{tmp_path}/nothing", "us-east-1")).read(T, T + 10)


@pytest.mark.stack
def test_a_database_without_our_tables_holds_nothing_and_one_that_is_away_is_not_known(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as link:
        link.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    exit = RdsExit(database)
    assert {} == exit.read(T, T + 10)
    exit.close()
    with pytest.raises(Unavailable):
        RdsExit("postgresql://nobody@127.0.0.1:1/nothing").read(T, T + 10)


@pytest.mark.stack
def test_a_connection_that_was_cut_is_made_anew(rds_url: str) -> None:
    exit = RdsExit(rds_url)
    assert {} == exit.read(T, T + 10)
    with psycopg.connect(rds_url, autocommit=True) as link:
        link.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    with pytest.raises(Unavailable):
        exit.read(T, T + 10)
    assert {} == exit.read(T, T + 10)
    exit.close()


@pytest.mark.stack
def test_a_stretch_is_read_by_its_index(rds_url: str) -> None:
    """A whole history must not be read for ten seconds of it."""
    with psycopg.connect(rds_url) as link:
        link.execute(
            "INSERT INTO event_history SELECT decode(md5(i::text), 'hex'), 't', 's', i::text, 'x', '', '', now(), "
            "to_timestamp(%s + i / 100.0), 'grpc', '{}', '', now() FROM generate_series(1, 60000) i",
            (T,),
        )
        link.execute("ANALYZE event_history")
        plan = link.execute(
            "EXPLAIN SELECT 1 FROM event_history WHERE accepted_at >= to_timestamp(%s) AND accepted_at < to_timestamp(%s)",
            (T, T + 10),
        ).fetchall()
        assert "event_history_accepted" in str(plan)
        link.rollback()


def test_a_file_of_the_lake_is_read_once_and_again_when_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LakeWriter(tmp_path)
    for number in range(3):
        writer.put(events(*(f"{number}-{each}" for each in range(10)), at=T))
    read: list[str] = []
    table = pq.read_table
    monkeypatch.setattr("canary.ledger.exits.pq.read_table", lambda path, **more: (read.append(path), table(path, **more))[1])
    roomy, narrow = LakeExit(writer.lake), LakeExit(writer.lake, rows_max=20)
    for exit, expected in ((roomy, 3), (narrow, 5)):
        read.clear()
        for _ in range(2):
            assert 30 == len(exit.read(T, T + 10)[Window("acme", "grpc", T)].elements)
        assert expected <= len(read) <= expected + (exit is narrow)


def test_files_that_were_written_before_the_stretch_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LakeWriter(tmp_path)
    writer.put(events("a", at=T))
    exit = LakeExit(writer.lake)
    monkeypatch.setattr(exit, "_rows", lambda path: pytest.fail(f"{path} was read"))
    later = int(time.time()) // 10 * 10 + 300
    assert {} == exit.read(later, later + 10)


def test_a_compacted_lake_holds_the_same(tmp_path: Path) -> None:
    writer = LakeWriter(tmp_path)
    for number in range(4):
        writer.put(events(f"e{number}", at=T))
    exit = LakeExit(Lake(writer.lake.uri, "us-east-1"))
    before = named(exit.read(T, T + 10)[Window("acme", "grpc", T)])
    (partition,) = {(file.tenant, file.type, file.date) for file in data_files(writer.lake.table())}
    assert lake_care.compact(writer.lake, partition)
    assert (["e0", "e1", "e2", "e3"], before) == (before, named(exit.read(T, T + 10)[Window("acme", "grpc", T)]))


def test_an_event_that_lies_in_two_windows_is_doubled_in_both() -> None:
    elements = of_names([("/s", "a"), ("/s", "b"), ("/s", "a"), ("/s", "c")])
    rows = Rows(np.array([T, T, T + 10, T + 20]), np.array(["grpc"] * 4), elements)
    found = grouped("acme", rows, T, T + 20)
    assert {T: ["a", "a", "b"], T + 10: ["a", "a"]} == {window.start: named(held) for window, held in found.items()}


def test_beginnings_that_touch_are_one_stretch() -> None:
    assert [(10, 40), (60, 70)] == of_stretches([20, 10, 30, 60, 10])
    assert [] == of_stretches([])
