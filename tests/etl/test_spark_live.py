"""The whole application, live: kill -9 of driver and Python workers, an exit down, a replay; then exact books at every exit."""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from pipeline import frame
from pipeline.etl import redis_exit
from pipeline.etl.fold import fold
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.lake_query import query
from pipeline.event import CloudEvent, event_time_micros, explicit_hash_key, slice_of, stored_batch, subject
from pipeline.stack.launch import Stack
from tests.etl.events import JAN_2013, arrived, cloud_event, read

PARTS = ("ministack", "emulator", "provision", "postgres", "redis", "etl")
WAIT_SECONDS_MAX = 90.0
PLANES = 40

pytestmark = [pytest.mark.spark, pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack.start(tmp_path_factory.mktemp("live"), parts=PARTS, env={"SPILLWAY_ETL_RESTART_SECONDS_MAX": "2"}) as made:
        previous = dict(os.environ)
        os.environ.update(made.env())
        yield made
        os.environ.clear()
        os.environ.update(previous)


def flights(first: int, count: int) -> list[CloudEvent]:
    rng = random.Random(first)
    return [
        arrived(f"e{n}", at=JAN_2013 + rng.randrange(3 * 86_400), plane=f"N{n % PLANES}", to=rng.choice(["ORD", "LAX", "SFO"]))
        for n in range(first, first + count)
    ]


def put(events: Sequence[CloudEvent]) -> None:
    kinesis = boto3.client("kinesis")
    by_slice: dict[int, list[CloudEvent]] = {}
    for event in events:
        by_slice.setdefault(slice_of(subject(event), 16), []).append(event)
    for slice, group in by_slice.items():
        batch = stored_batch(
            group,
            tenant="acme",
            accepted_at_unix_micros=int(time.time() * 1e6),
            door="grpc",
            worker="test",
            slice=slice,
            slices=16,
        )
        kinesis.put_record(
            StreamName="events-clean",
            Data=frame.encode(batch.SerializeToString()),
            PartitionKey="k",
            ExplicitHashKey=explicit_hash_key(slice, 16),
        )


def wait_until(true: Callable[[], bool], what: str) -> None:
    """For a live process: asks again until the deadline."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS_MAX} s: {what}"
        time.sleep(0.5)


def in_rds(stack: Stack, sql: str = "SELECT event_id FROM event_history") -> list[Any]:
    with psycopg.connect(stack.env()["SPILLWAY_RDS_URL"]) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def in_lake() -> list[Any]:
    lake = Lake("s3://spillway/lake/events", "us-east-1")
    return query(lake, "SELECT event_id FROM events").rows


def rows_in_lake() -> int:
    lake = Lake("s3://spillway/lake/events", "us-east-1")
    return sum(one.rows for one in data_files(lake.table())) if lake.exists() else 0


def in_redis(stack: Stack) -> dict[str, dict[str, str]]:
    client = redis_exit.connect(stack.env()["SPILLWAY_REDIS_URL"])
    return {plane: redis_exit.read_state(client, "acme", "plane", plane) for plane in (f"N{n}" for n in range(PLANES))}


def expected_state(events: Sequence[CloudEvent]) -> dict[str, dict[str, str]]:
    state: dict[str, dict[str, str]] = {}
    for at, said in fold(read(*events)).items():
        state.setdefault(at.subject, {})[at.attribute] = said.value
    return state


def python_workers(driver_pid: int) -> list[int]:
    """Spark's Python workers below a driver: children of the daemon that has our modules."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended meanwhile

    def below(pid: int) -> bool:
        while pid in parents and pid != driver_pid:
            pid = parents[pid]
        return pid == driver_pid

    ours = [pid for pid, line in lines.items() if "pipeline.etl.daemon pyspark.worker" in line and below(pid)]
    return [pid for pid in ours if parents[pid] in ours]


def hit(pid: int) -> bool:
    """Kill it; whether it was still there: Spark ends a worker now and then, between our look and the kill."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return False
    return True


def letters() -> dict[str, int]:
    found = boto3.client("s3").list_objects_v2(Bucket="spillway", Prefix="dead-letters/").get("Contents", [])
    counts: dict[str, int] = {}
    for one in found:
        place = "/".join(one["Key"].split("/")[1:3])
        counts[place] = counts.get(place, 0) + 1
    return counts


def test_exact_books_after_kills_an_outage_and_a_replay(stack: Stack):
    """TRAPS 13, 19, 20, 22, 23, 24, 25, live."""
    first = flights(0, 800)
    put(first)
    wait_until(lambda: len(in_rds(stack, "SELECT 1 FROM watermark")) > 0, "the RDS query has begun")
    stack.kill("etl")  # the driver, in or near its first batches
    second = flights(800, 800)
    put(second)
    poison = cloud_event("poison", "spillway.events.v1.FlightArrived", b"\xff\xff", at=JAN_2013, subject="N1")
    # At the same time as the first of its identity: the lake looks for a conflict nowhere else, whatever batch either is in.
    clash = arrived("e3", at=(event_time_micros(first[3]) or 0) // 1_000_000, plane="N3", to="NEW")
    put([poison, clash])
    stack.wait_until("etl", lambda one: one.restarts > 0 and one.state == "ready", WAIT_SECONDS_MAX, "up again")
    wait_until(lambda: any([hit(pid) for pid in python_workers(stack.pid("etl"))]), "a Python worker at work, and killed")
    put(flights(1600, 400))
    everything = [*first, *second, *flights(1600, 400)]
    wait_until(lambda: len(in_rds(stack)) == len(everything), "all of it in RDS")
    wait_until(lambda: rows_in_lake() == len(everything), "all of it in the lake")

    stack.hold("postgres")
    third = flights(2000, 200)
    put(third)
    everything += third
    wait_until(lambda: rows_in_lake() == len(everything), "the lake loads on while RDS is down")
    wait_until(lambda: in_redis(stack) == expected_state(everything), "and so does Redis")
    stack.release("postgres")

    put(everything)  # the whole of it again
    last = flights(2200, 50)
    put(last)
    everything += last
    wait_until(lambda: rows_in_lake() >= len(everything), "the lake behind the replay")
    stack.wait_ready("postgres", WAIT_SECONDS_MAX)
    wait_until(lambda: len(in_rds(stack)) >= len(everything), "RDS behind the replay")
    wait_until(lambda: in_redis(stack) == expected_state(everything), "Redis is the fold of all events")

    expected = sorted((event.id,) for event in everything)
    assert expected == sorted(in_rds(stack))
    assert expected == sorted(in_lake())
    rds_state = in_rds(stack, "SELECT subject, state FROM current_state")
    assert expected_state(everything) == {subject: state for subject, state in rds_state}
    assert [("NEW",)] == in_rds(stack, "SELECT data ->> 'destination' FROM conflict")
    # Redis keeps no history: it notices the conflict only if both events came in one part.
    found = {place: count for place, count in letters().items() if place != "etl-redis/conflict"}
    undecodable = {f"etl-{exit}/undecodable": 1 for exit in ("lake", "rds", "redis")}
    assert {**undecodable, "etl-lake/conflict": 1, "etl-rds/conflict": 1} == found
