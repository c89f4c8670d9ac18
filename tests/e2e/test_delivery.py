"""Every acknowledged event is at every exit once, whatever single process dies meanwhile; and sending again changes nothing."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from canary.books import Books
from canary.reconcile import Verdict
from loadtests.flights.dataset import Flight, month
from loadtests.flights.events import FlightEvent, by_door
from loadtests.flights.expected import current_state
from loadtests.flights.proof import compare_states, exits_of
from loadtests.flights.replay import replay
from pipeline.stack.launch import Stack
from tests.e2e.conftest import Pipeline, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

EVENTS_PER_SECOND = 400.0


def _flights(first: int, count: int) -> list[Flight]:
    return list(itertools.islice(month(), first, first + count))


def _check_everything(pipeline: Pipeline, flights: list[Flight], events: list[FlightEvent], books: Books) -> None:
    assert ({}, len(events)) == (books.refused, len(books.acknowledged))
    results = pipeline.results(events, books)
    assert {name: Verdict.OK for name in ("lake", "rds", "redis", "backup")} == {
        name: result.verdict for name, result in results.items()
    }
    states = compare_states(current_state(flights), pipeline.target)
    assert [("rds", True, ()), ("redis", True, ())] == [(state.name, state.holds, state.examples) for state in states]


def test_everything_that_both_doors_acknowledge_is_at_every_exit(pipeline: Pipeline) -> None:
    flights = _flights(0, 1_000)
    pairs = list(by_door(flights))
    books = replay(pairs, pipeline.doors)
    _check_everything(pipeline, flights, [event for _, event in pairs], books)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_acknowledged_event_is_lost_or_doubled_when_each_process_is_killed_under_load(pipeline: Pipeline, seed: int) -> None:
    """SIGKILL of every process of ours, one after the other, at times and in an order that the seed draws."""
    flights = _flights(1_000 * seed, 2_500)
    pairs = list(by_door(flights))
    rng = random.Random(seed)
    killed: list[str] = []
    killer = threading.Thread(target=_kill_each, args=(pipeline.stack, rng, killed), daemon=True)
    killer.start()
    books = replay(pairs, pipeline.doors, events_per_second=EVENTS_PER_SECOND)
    killer.join(timeout=120)
    assert sorted(_VICTIMS) == sorted(killed)
    _check_everything(pipeline, flights, [event for _, event in pairs], books)


def _kill_each(stack: Stack, rng: random.Random, killed: list[str]) -> None:
    pause = threading.Event()
    order = list(_VICTIMS)
    rng.shuffle(order)
    for victim in order:
        pause.wait(rng.uniform(0.5, 2.5))
        wait_until(lambda find=_VICTIMS[victim]: _hit(find(stack)), f"a {victim} to kill", 90.0)  # type: ignore[misc]
        killed.append(victim)


def _hit(pid: int) -> bool:
    """Whether it was still there: Spark ends a Python worker now and then, between our look and the kill; then another is due."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _leader(name: str) -> Callable[[Stack], int]:
    def find(stack: Stack) -> int:
        wait_until(lambda: stack.process(name).pid is not None, f"{name} runs", 60.0)
        return stack.pid(name)

    return find


def _etl_worker(stack: Stack) -> int:
    """A Python worker of Spark: a process below the daemon that Spark forks workers from."""
    found: list[int] = []

    def look() -> bool:
        leader = stack.process("etl").pid
        if leader is not None:
            daemons = [pid for pid in _below(leader) if "pyspark" in _words(pid) and "daemon" in _words(pid)]
            found[:] = [pid for pid in daemons if _parent(pid) in daemons]
        return bool(found)

    wait_until(look, "Spark has a Python worker", 90.0)
    return found[0]


_VICTIMS: dict[str, Callable[[Stack], int]] = {
    "grpc": _leader("grpc"),
    "http": _leader("http"),
    "transcoder": _leader("transcoder"),
    "redactor": _leader("redactor"),
    "etl": _leader("etl"),
    "etl worker": _etl_worker,
}


def _below(root: int) -> Iterator[int]:
    parents = {int(entry): _parent(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    for pid in parents:
        ancestor: int | None = parents[pid]
        while ancestor is not None and ancestor != root:
            ancestor = parents.get(ancestor)
        if ancestor == root:
            yield pid


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.slow
def test_sending_everything_again_and_replaying_the_backup_change_nothing(pipeline: Pipeline) -> None:
    """TRAPS 3, 20, 25: a same-id retry, and the whole backup a second time."""
    flights = _flights(6_000, 600)
    pairs = list(by_door(flights))
    events = [event for _, event in pairs]
    books = replay(pairs, pipeline.doors)
    _check_everything(pipeline, flights, events, books)
    before = _rows(pipeline, events)

    again = replay([("http" if door == "grpc" else "grpc", event) for door, event in pairs], pipeline.doors)
    assert books.acknowledged == again.acknowledged
    _replay_backup(pipeline)
    # What is sent after them is read after them, on every shard: when it is there, they have been seen by every exit.
    later = _flights(7_000, 300)
    after_them = list(by_door(later))
    marks = replay(after_them, pipeline.doors)
    everything = [*events, *(event for _, event in after_them)]
    marks.attempted |= books.attempted
    marks.acknowledge(books.acknowledged)
    _check_everything(pipeline, flights + later, everything, marks)
    assert before == {name: rows & before[name] for name, rows in _rows(pipeline, everything).items()}


def _rows(pipeline: Pipeline, events: list[FlightEvent]) -> dict[str, set[tuple[str, ...]]]:
    """What the exits hold, with when it was loaded: a row that was written again would differ."""
    with psycopg.connect(pipeline.env["SPILLWAY_RDS_URL"]) as connection:
        history = connection.execute(
            "SELECT event_id, accepted_at::text, loaded_at::text, data::text FROM event_history WHERE tenant = %s",
            (pipeline.tenant,),
        ).fetchall()
    lake = next(exit for exit in exits_of(pipeline.target, events) if exit.name == "lake")
    return {"rds": set(history), "lake": {(id,) for id in lake.observed()}}


def _replay_backup(pipeline: Pipeline) -> None:
    run = subprocess.run(
        [sys.executable, "spillway.py", "replay"],
        env=os.environ | pipeline.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == run.returncode, run.stdout + run.stderr
