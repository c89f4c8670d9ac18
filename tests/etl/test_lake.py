"""The lake: one commit per batch, and nothing twice, whoever else commits and wherever it dies."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import InvalidSchema, Unavailable
from pipeline.etl import lake_care
from pipeline.etl.columns import Columns
from pipeline.etl.lake import Committed, Conflict, Lake
from pipeline.etl.lake_ddl import ddl
from pipeline.etl.lake_query import InvalidQuery, dataset, query
from pipeline.etl.report import StagedFile
from pipeline.etl.stage import stage, struct_name
from pipeline.event import CloudEvent
from tests.etl.events import DAY_SECONDS, JAN_2013, REGISTRY, arrived, decoded, moved

COLUMNS = Columns(REGISTRY.types.values())
STRUCTS = {struct_name(name): COLUMNS.struct_type(name) for name in REGISTRY.types}
ARRIVED = "spillway_events_v1_flight_arrived"


class Killed(BaseException):
    """kill -9, as far as one process can see it."""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    made = Lake(f"file://{tmp_path}/events", "us-east-1")
    made.ensure(STRUCTS)
    return made.uri


def staged(lake: Lake, *events: CloudEvent, tenant: str = "acme") -> list[StagedFile]:
    files, refused = stage(decoded(*events, tenant=tenant), COLUMNS, lake.objects.put)
    assert [] == refused
    return files


def commit(
    lake: Lake, batch: int, files: Sequence[StagedFile], before: Callable[[], None] = lambda: None, app: str = "q"
) -> tuple[Committed, set[Conflict]]:
    reported: set[Conflict] = set()
    return lake.commit(app, batch, files, on_conflicts=reported.update, before_commit=before), reported


def ids(uri: str) -> list[str]:
    return [row[0] for row in query(Lake(uri, "us-east-1"), "SELECT event_id FROM events ORDER BY event_id").rows]


def test_a_batch_is_one_commit_with_typed_columns(uri: str):
    lake = Lake(uri, "us-east-1")
    before = lake.table().version()
    done, _ = commit(lake, 0, staged(lake, arrived("a", to="LAX"), moved("b", at=JAN_2013 + DAY_SECONDS, city="Toronto")))
    assert (before + 1, 2) == (done.version, done.rows)
    rows = query(lake, f'SELECT tenant, type, "date"::text, {ARRIVED}.destination FROM events ORDER BY event_id').rows
    assert [
        ("acme", "spillway.events.v1.FlightArrived", "2013-01-01", "LAX"),
        ("acme", "spillway.events.v1.ProfileChanged", "2013-01-02", None),
    ] == rows


def test_a_batch_that_is_there_is_not_committed_again(uri: str):
    """TRAPS 20: killed after the commit, before Spark noted it."""
    lake = Lake(uri, "us-east-1")
    commit(lake, 7, staged(lake, arrived("a")))
    again, _ = commit(Lake(uri, "us-east-1"), 7, staged(lake, arrived("a"), arrived("b")))
    assert (True, ["a"]) == (again.repeated, ids(uri))


def test_killed_between_staging_and_commit_leaves_nothing_and_the_next_try_all(uri: str):
    """TRAPS 21: the keys that later batches are compared with are the rows themselves, so they can't be kept before them."""
    lake = Lake(uri, "us-east-1")

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        commit(lake, 0, staged(lake, arrived("a"), arrived("b")), before=die)
    assert [] == ids(uri)
    second = Lake(uri, "us-east-1")
    commit(second, 0, staged(second, arrived("a"), arrived("b")))
    assert ["a", "b"] == ids(uri)


def test_staging_again_writes_the_same_files(uri: str):
    lake = Lake(uri, "us-east-1")
    assert staged(lake, arrived("a"), arrived("b")) == staged(lake, arrived("a"), arrived("b"))


def test_two_writers_with_the_same_batch_commit_it_once(uri: str):
    """A zombie and its successor, the one overtaking the other right before its commit: compare and swap."""
    zombie, successor = Lake(uri, "us-east-1"), Lake(uri, "us-east-1")
    files = staged(zombie, arrived("a"))
    done, _ = commit(zombie, 3, files, before=lambda: commit(successor, 3, files) and None)
    assert (True, ["a"]) == (done.repeated, ids(uri))


def test_another_commit_in_between_is_judged_anew(uri: str):
    """TRAPS 25: the rival brings one of our events; ours must notice although it had looked before."""
    ours, rival = Lake(uri, "us-east-1"), Lake(uri, "us-east-1")
    moves: Iterator[Sequence[StagedFile]] = iter([staged(rival, arrived("b"))])

    def overtake() -> None:
        for files in moves:
            commit(rival, 0, files, app="rival")

    done, _ = commit(ours, 0, staged(ours, arrived("a"), arrived("b"), arrived("c")), before=overtake)
    assert (2, 1, ["a", "b", "c"]) == (done.rows, done.duplicates, ids(uri))


def test_a_late_duplicate_in_an_old_partition_is_dropped(uri: str):
    """TRAPS 25: last month's events again, by a process that has seen none of them."""
    lake = Lake(uri, "us-east-1")
    month = [arrived(f"{day:02}", at=JAN_2013 + day * DAY_SECONDS) for day in range(28)]
    commit(lake, 0, staged(lake, *month))
    lake_care.compact(lake, ("acme", "spillway.events.v1.FlightArrived", "2013-01-03"))
    fresh = Lake(uri, "us-east-1")
    done, _ = commit(fresh, 0, staged(fresh, *month, arrived("new", at=JAN_2013 + DAY_SECONDS)), app="another checkpoint")
    assert (1, 28, 29) == (done.rows, done.duplicates, len(ids(uri)))


def test_same_id_other_payload_is_reported_before_the_commit_and_the_first_stays(uri: str):
    """TRAPS 22."""
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a", to="ORD")))
    other = decoded(arrived("a", to="LAX")).events[0]
    done, reported = commit(lake, 1, staged(lake, arrived("a", to="LAX"), arrived("b")))
    assert {Conflict(other.key, other.digest)} == reported == done.conflicts
    rows = query(lake, f"SELECT event_id, {ARRIVED}.destination FROM events ORDER BY event_id").rows
    assert [("a", "ORD"), ("b", "ORD")] == rows


def test_parts_of_one_batch_that_share_an_event_keep_one(uri: str):
    """Two shards, one event: after a reshard, or by another partition key."""
    lake = Lake(uri, "us-east-1")
    done, reported = commit(lake, 0, [*staged(lake, arrived("a"), arrived("b")), *staged(lake, arrived("b"), arrived("c"))])
    assert (3, 1, ["a", "b", "c"], set()) == (done.rows, done.duplicates, ids(uri), reported)


def test_a_batch_of_duplicates_only_commits_nothing(uri: str):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a")))
    version = lake.table().version()
    done, _ = commit(lake, 1, staged(lake, arrived("a")))
    assert (None, 1, version) == (done.version, done.duplicates, lake.table().version())


def test_tenants_with_strange_names_do_not_meet(uri: str):
    lake = Lake(uri, "us-east-1")
    for batch, tenant in enumerate(("a/b", "a_b", "ä b=%2F", "a/b")):
        commit(lake, batch, staged(Lake(uri, "us-east-1"), arrived("1"), tenant=tenant))
        lake = Lake(uri, "us-east-1")
    for size in lake_care.partitions(lake):
        lake_care.compact(lake, (size.tenant, size.type, size.date))
    again, _ = commit(Lake(uri, "us-east-1"), 9, staged(lake, arrived("1"), arrived("2"), tenant="ä b=%2F"))
    assert (1, [("a/b", 1), ("a_b", 1), ("ä b=%2F", 2)]) == (
        again.duplicates,
        query(lake, "SELECT tenant, count(*) FROM events GROUP BY 1 ORDER BY 1").rows,
    )


def test_a_new_type_and_a_new_field_add_columns(tmp_path: Path):
    lake = Lake(f"file://{tmp_path}/events", "us-east-1")
    old = pa.struct([field for field in STRUCTS[ARRIVED] if field.name != "destination"])
    lake.ensure({ARRIVED: old})
    trimmed = staged(lake, arrived("a"))
    commit(lake, 0, trimmed)
    for _ in range(2):
        lake.ensure(STRUCTS)
    commit(lake, 1, staged(lake, arrived("b", to="LAX"), moved("c", at=JAN_2013)))
    assert set(STRUCTS) <= set(pa.schema(lake.table().schema().to_arrow()).names)
    assert ["a", "b", "c"] == ids(lake.uri)


def test_a_field_that_changes_its_type_stops_the_query(uri: str):
    changed = pa.struct([pa.field("carrier", pa.int64())])
    with pytest.raises(InvalidSchema, match=r"flight_arrived\.carrier holds string"):
        Lake(uri, "us-east-1").ensure({ARRIVED: changed})


def test_compaction_pays_the_small_file_debt_and_changes_no_row(uri: str):
    """TRAPS 26."""
    lake = Lake(uri, "us-east-1")
    for batch in range(6):
        commit(lake, batch, staged(lake, arrived(str(batch))))
    at = ("acme", "spillway.events.v1.FlightArrived", "2013-01-01")
    assert 5 == sum(size.debt for size in lake_care.partitions(lake))
    assert (6, 5) == (lake_care.compact_crowded(lake, {at}, 7), sum(size.debt for size in lake_care.partitions(lake)))
    assert (6, 1) == (lake_care.compact_crowded(lake, {at}, 6), lake_care.compact_crowded(lake, {at}, 6))
    assert (0, list("012345")) == (sum(size.debt for size in lake_care.partitions(lake)), ids(uri))


def test_a_reader_of_an_old_snapshot_survives_compaction_and_vacuum_within_the_retention(uri: str):
    lake = Lake(uri, "us-east-1")
    for batch in range(3):
        commit(lake, batch, staged(lake, arrived(str(batch))))
    reader = dataset(Lake(uri, "us-east-1"))
    lake_care.compact(lake, ("acme", "spillway.events.v1.FlightArrived", "2013-01-01"))
    lake_care.vacuum(lake, 168)
    assert 3 == reader.count_rows()
    assert 3 == len(lake_care.vacuum(lake, 0))
    assert ["0", "1", "2"] == ids(uri)


def test_a_vacuum_without_retention_spares_the_files_of_a_batch_under_way(uri: str):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a")))
    under_way = staged(lake, arrived("b"))
    lake_care.vacuum(lake, 0)
    commit(lake, 1, under_way)
    assert ["a", "b"] == ids(uri)


def test_deleted_rows_are_gone_and_after_a_vacuum_their_bytes(uri: str, tmp_path: Path):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a", plane="N1"), arrived("b", plane="N2-forget-me")))
    assert 1 == lake_care.delete_rows(lake, "tenant = 'acme' AND subject = 'N2-forget-me'")
    lake_care.vacuum(lake, 0)
    assert ["a"] == ids(uri)
    assert not [path for path in tmp_path.rglob("*.parquet") if b"forget-me" in path.read_bytes()]


def test_a_delete_in_between_does_not_undo_or_lose_a_batch(uri: str):
    lake, other = Lake(uri, "us-east-1"), Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a"), arrived("b")))
    moves = iter([lambda: lake_care.delete_rows(other, "event_id = 'a'")])
    commit(lake, 1, staged(lake, arrived("c")), before=lambda: [move() for move in moves] and None)
    assert ["b", "c"] == ids(uri)


@pytest.mark.parametrize("column", ["subject", "event_id", "source", "door", "shard_id", "tenant", "type", "date", "event_time"])
def test_duckdb_finds_a_row_by_any_column_also_one_without_statistics(uri: str, column: str):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a")))
    [(value,)] = query(lake, f"SELECT {column}::text FROM events").rows
    assert [("a",)] == query(lake, f"SELECT event_id FROM events WHERE {column} = '{value}'").rows


def test_duckdb_has_a_view_per_type_and_refuses_nonsense_with_a_reason(uri: str):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a", to="LAX")))
    found = query(lake, "SELECT event_id, destination FROM flight_arrived", list(REGISTRY.types))
    assert (("event_id", "destination"), [("a", "LAX")]) == (found.columns, found.rows)
    with pytest.raises(InvalidQuery, match="nowhere"):
        query(lake, "SELECT * FROM nowhere")


def test_ddl_and_manifests_name_every_partition(uri: str, tmp_path: Path):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, staged(lake, arrived("a"), arrived("b", at=JAN_2013 + DAY_SECONDS)))
    lake_care.manifests(lake)
    text = ddl(lake)
    folders = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("manifest")}
    assert 2 == len(folders) == text.count("ADD IF NOT EXISTS PARTITION")
    assert all(f"/{folder}/'" in text for folder in folders)
    assert f'"{ARRIVED}" struct<carrier: varchar' in text


def test_the_canary_is_left_out_of_what_business_reads_and_is_there_for_who_asks(uri: str):
    lake = Lake(uri, "us-east-1")
    commit(lake, 0, [*staged(lake, arrived("a")), *staged(lake, arrived("probe"), tenant="canary")])
    assert ["a"] == ids(uri)
    assert [("a",), ("probe",)] == query(lake, "SELECT event_id FROM all_events ORDER BY 1").rows
    assert [("a",)] == query(lake, "SELECT event_id FROM flight_arrived", list(REGISTRY.types)).rows
    assert ("tenant=acme" in ddl(lake), "tenant=canary" in ddl(lake)) == (True, False)


def test_a_table_that_asks_for_what_we_do_not_speak_says_so(uri: str):
    """Upgraded by another writer: nothing is committed, and the reason is no race."""
    lake = Lake(uri, "us-east-1")
    files, log = staged(lake, arrived("a")), Path(uri.removeprefix("file://")) / "_delta_log"
    newest = max(int(entry.stem) for entry in log.glob("*.json"))
    asked = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 99}}
    (log / f"{newest + 1:020}.json").write_text(json.dumps(asked))
    with pytest.raises(Unavailable, match=r"not taken.*[Ff]eatures"):
        commit(Lake(uri, "us-east-1"), 0, files)
