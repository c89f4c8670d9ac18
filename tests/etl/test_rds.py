"""RDS under real PostgreSQL: history once, state last, both or neither."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.errors import LeaseLost, Unavailable
from pipeline.etl import rds
from pipeline.etl.columns import Columns
from pipeline.etl.decode import decode
from pipeline.etl.fold import fold
from pipeline.etl.lake import Lake
from pipeline.etl.rebuild import rebuild_rds
from pipeline.etl.stage import stage, struct_name
from tests.etl.events import DAY_SECONDS, JAN_2013, REGISTRY, arrived, cloud_event, decoded, moved, record


@pytest.fixture
def connection(rds_url: str) -> Iterator["psycopg.Connection[Any]"]:
    made = rds.connect(rds_url)
    yield made
    made.close()


def rows(connection: "psycopg.Connection[Any]", sql: str) -> list[tuple[Any, ...]]:
    with connection.transaction():
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def state(connection: "psycopg.Connection[Any]") -> list[tuple[Any, ...]]:
    return rows(connection, "SELECT tenant, entity, subject, state FROM current_state ORDER BY 1, 2, 3")


def everything(connection: "psycopg.Connection[Any]") -> list[Any]:
    tables = ("event_history", "subject_attribute", "conflict")
    return [rows(connection, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables]


def test_history_and_state_are_loaded_together(connection: "psycopg.Connection[Any]"):
    fence = rds.take_fence(connection)
    done = rds.load(connection, decoded(moved("1", at=1, city="Montreal", country="CA"), moved("2", at=2, city="Toronto")), fence)
    assert (2, 0, ()) == (done.loaded, done.duplicates, done.dead)
    assert [("acme", "customer", "10001", {"city": "Toronto", "country": "CA"})] == state(connection)
    assert [("1", {"city": "Montreal"}), ("2", {"city": "Toronto"})] == [
        (id, {"city": data["city"]}) for id, data in rows(connection, "SELECT event_id, data FROM event_history ORDER BY 1")
    ]


def test_a_replay_changes_nothing(connection: "psycopg.Connection[Any]"):
    """TRAPS 23: the same part again, and its events later in other company."""
    fence = rds.take_fence(connection)
    events = [moved(str(n), at=n, city=f"city {n}") for n in range(5)]
    rds.load(connection, decoded(*events), fence)
    before = everything(connection)
    assert 0 == rds.load(connection, decoded(*events), fence).loaded
    assert 0 == rds.load(connection, decoded(*reversed(events)), rds.take_fence(connection)).loaded
    assert before == everything(connection)


def test_late_events_do_not_move_the_state_back(connection: "psycopg.Connection[Any]"):
    fence = rds.take_fence(connection)
    for at in (30, 10, 20):
        rds.load(connection, decoded(moved(str(at), at=at, city=f"city {at}")), fence)
    assert {"city": "city 30"} == state(connection)[0][3]


def test_equal_times_are_decided_by_the_id_as_bytes(connection: "psycopg.Connection[Any]"):
    """In most locales "a" sorts before "B"; in bytes it does not."""
    fence = rds.take_fence(connection)
    for id in ("a", "B", "é", "z"):
        rds.load(connection, decoded(moved(id, at=1, city=f"by {id}")), fence)
    assert {"city": "by é"} == state(connection)[0][3]


def test_same_id_other_payload_is_kept_as_a_conflict_and_moves_no_state(connection: "psycopg.Connection[Any]"):
    """TRAPS 22, also when the other payload has another time: the identity is global here."""
    fence = rds.take_fence(connection)
    rds.load(connection, decoded(moved("1", at=1, city="Montreal")), fence)
    clash = decoded(moved("1", at=1 + 40 * DAY_SECONDS, city="Elsewhere"), moved("2", at=1, who="2", city="X"))
    for _ in range(2):
        done = rds.load(connection, clash, fence)
        assert [("conflict", 0)] == [(dead.reason, dead.index) for dead in done.dead]
    assert [("Elsewhere",)] == rows(connection, "SELECT data ->> 'city' FROM conflict")
    assert [{"city": "Montreal"}, {"city": "X"}] == [row[3] for row in state(connection)]


def test_a_conflict_within_one_part_is_kept_as_well(connection: "psycopg.Connection[Any]"):
    """TRAPS 22."""
    part = decoded(moved("1", at=1, city="Montreal"), moved("1", at=1, city="Elsewhere"))
    assert 1 == rds.load(connection, part, rds.take_fence(connection)).loaded
    assert [("Elsewhere",)] == rows(connection, "SELECT data ->> 'city' FROM conflict")


def test_killed_in_the_middle_of_a_part_leaves_nothing_of_it(connection: "psycopg.Connection[Any]", rds_url: str):
    """TRAPS 23: the backend dies after history and state are written, before the commit."""
    fence = rds.take_fence(connection)
    victim = rds.connect(rds_url)
    part = decoded(moved("1", at=1, city="Montreal"))
    pid = victim.info.backend_pid

    def die_before_the_commit() -> None:
        with victim.transaction():
            rds.load_events(victim, part.events)
            assert 1 == len(victim.execute("SELECT * FROM event_history").fetchall())
            rows(connection, f"SELECT pg_terminate_backend({pid})")
            victim.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        die_before_the_commit()
    assert [[], [], []] == everything(connection)
    assert 1 == rds.load(connection, part, fence).loaded


def test_an_earlier_start_of_the_query_can_not_write_any_more(connection: "psycopg.Connection[Any]"):
    """TRAPS 16."""
    zombie = rds.take_fence(connection)
    rds.take_fence(connection)
    with pytest.raises(LeaseLost):
        rds.load(connection, decoded(moved("1", at=1)), zombie)
    assert [[], [], []] == everything(connection)


def test_two_parts_at_once_with_the_same_subjects_do_not_lock_each_other_out(connection: "psycopg.Connection[Any]", rds_url: str):
    fence = rds.take_fence(connection)
    events = [moved(str(n), at=n, who=str(n % 40), city=f"city {n}") for n in range(400)]
    failures: list[BaseException] = []

    def load(part: Any) -> None:
        other = rds.connect(rds_url)
        try:
            rds.load(other, part, fence)
        except Unavailable as exc:
            failures.append(exc)
        finally:
            other.close()

    threads = [threading.Thread(target=load, args=[decoded(*part)]) for part in (events, events[::-1], events[::2], events[1::2])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    assert (400, 40) == (len(rows(connection, "SELECT 1 FROM event_history")), len(state(connection)))


def test_what_postgresql_can_not_hold_loses_nothing(connection: "psycopg.Connection[Any]"):
    """NUL in every text, numbers beyond 64 bits' floats, the ends of the calendar."""
    fence = rds.take_fence(connection)
    nul = moved("i\0d", at=1, who="a\0b", city="x\0y")
    nul.source = "/s\0"
    order = REGISTRY.find("spillway.events.v1.OrderPlaced").message_class(order_id="\\u0000", total_minor=2**63 - 1)
    done = rds.load(
        connection,
        decoded(
            nul,
            cloud_event("big", "spillway.events.v1.OrderPlaced", order.SerializeToString(), at=-62_135_596_800, subject="s"),
            arrived("last", at=253_402_300_799),
        ),
        fence,
    )
    assert (3, ()) == (done.loaded, done.dead)
    assert [("big", 9223372036854775807, "\\u0000"), ("i\u2400d", None, None), ("last", None, None)] == rows(
        connection, "SELECT event_id, (data->'total_minor')::numeric, data->>'order_id' FROM event_history ORDER BY 1"
    )


def test_a_row_that_is_refused_is_found_alone(connection: "psycopg.Connection[Any]"):
    """PostgreSQL itself refuses a value: its neighbours are loaded, it goes to the dead letters."""
    fence = rds.take_fence(connection)
    with connection.transaction():
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '22000'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON event_history FOR EACH ROW"
            " WHEN (NEW.event_id = 'bad') EXECUTE FUNCTION refuse()"
        )
    events = [moved("bad" if n == 3 else str(n), at=n, city=f"city {n}") for n in range(6)]
    done = rds.load(connection, decoded(*events), fence)
    assert (5, [("unstorable", 3)]) == (done.loaded, [(dead.reason, dead.index) for dead in done.dead])
    assert {"city": "city 5"} == state(connection)[0][3]


def test_the_watermark_says_how_far_each_shard_is_in(connection: "psycopg.Connection[Any]"):
    fence = rds.take_fence(connection)
    records = [record(arrived(str(n)), number=n, shard=f"shardId-00000000000{n % 2}") for n in range(1, 6)]
    rds.load(connection, decode(records, REGISTRY.find), fence)
    rds.load(connection, decode(records[:2], REGISTRY.find), fence)
    marks = rows(connection, "SELECT shard_id, sequence_number::int FROM watermark WHERE shard_id <> '*' ORDER BY 1")
    assert [("shardId-000000000000", 4), ("shardId-000000000001", 5)] == marks


def test_history_and_state_come_back_from_the_lake(connection: "psycopg.Connection[Any]", rds_url: str, tmp_path: Path):
    events = [arrived(str(n), at=JAN_2013 + n * 3_600, plane=f"N{n % 7}", to=("ORD", "LAX")[n % 2]) for n in range(60)]
    part = decoded(*events, moved("m", at=1, city="Montreal"))
    rds.load(connection, part, rds.take_fence(connection))
    columns = Columns(REGISTRY.types.values())
    lake = Lake(f"file://{tmp_path}/events", "us-east-1")
    lake.ensure({struct_name(name): columns.struct_type(name) for name in REGISTRY.types})
    lake.commit("q", 0, stage(part, columns, lake.objects.put)[0], on_conflicts=lambda _: None)
    columns_told = "event_key, event_id, subject, entity, event_time, accepted_at, data, payload_digest"
    history = f"SELECT {columns_told} FROM event_history ORDER BY 1"
    before = rows(connection, history), state(connection)
    with connection.transaction():
        connection.execute("TRUNCATE event_history, subject_attribute")
    assert (61, 61) == rebuild_rds(lake, REGISTRY, rds_url)
    assert before == (rows(connection, history), state(connection))
    assert (61, 0) == rebuild_rds(lake, REGISTRY, rds_url)


def test_the_schema_is_made_once_by_any_number_of_starts(rds_url: str):
    def make() -> None:
        made = rds.connect(rds_url)
        rds.create_schema(made)
        made.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_database_that_is_away_is_unavailable_and_its_password_is_not_told():
    with pytest.raises(Unavailable) as caught:
        rds.connect("postgresql://spillway:hunter2@127.0.0.1:1/spillway")
    assert "hunter2" not in str(caught.value)


def test_state_by_sql_is_state_by_fold(connection: "psycopg.Connection[Any]"):
    """The upsert is the fold: in any order of parts, PostgreSQL ends with what `fold` gives for all at once."""
    fence = rds.take_fence(connection)
    events = [
        arrived(str(n), at=JAN_2013 + (n * 7919 % 50), plane=f"N{n % 5}", to=("ORD", "LAX", "SFO")[n % 3]) for n in range(60)
    ]
    for part in range(0, 60, 7):
        rds.load(connection, decoded(*events[part : part + 7]), fence)
    expected = sorted((at.subject, at.attribute, said.value) for at, said in fold(decoded(*events).events).items())
    assert expected == rows(connection, "SELECT subject, attribute, value FROM subject_attribute ORDER BY 1, 2")


def test_the_canary_is_left_out_of_what_business_reads(connection: "psycopg.Connection[Any]"):
    fence = rds.take_fence(connection)
    rds.load(connection, decoded(moved("1", at=1, city="Montreal")), fence)
    rds.load(connection, decoded(moved("2", at=1, city="Toronto"), tenant="canary"), fence)
    assert [("acme", "customer", "10001", {"city": "Montreal"})] == state(connection)
    assert [("1",)] == rows(connection, "SELECT event_id FROM business_history")
    assert [("1",), ("2",)] == rows(connection, "SELECT event_id FROM event_history ORDER BY 1")
