"""100,000 histories of the escalator: nobody is told too late, too early, twice or never. And bugs that must be convicted."""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from alerts.escalator.store import Sqlite
from tests.alerts.histories import World
from tests.alerts.history_seen import Seen
from tests.alerts.judge import judge
from tests.alerts.mutants import MUTANTS

FEW, ALL, CHUNK = 200, 100_000, 500
STORED, ZONED = 15, 15
MUTANT_SEEDS_MAX = 150
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


def convicted(seeds: range) -> list[tuple[int, list[str]]]:
    return [(seed, found) for seed in seeds if (found := judge(World(seed).run()))]


@pytest.fixture(scope="module")
def few() -> list[Seen]:
    return [World(seed).run() for seed in range(FEW)]


def test_no_history_is_convicted(few: list[Seen]) -> None:
    assert [] == [found for seen in few for found in judge(seen)]


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_none_of_100_000_histories_is_convicted() -> None:
    chunks = [range(at, at + CHUNK) for at in range(0, ALL, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = [each for some in pool.map(convicted, chunks) for each in some]
    assert [] == found


def test_histories_hold_what_they_promise_to_try(few: list[Seen]) -> None:
    """A judge that saw nothing would acquit everybody."""
    attempts = [each for one in few for each in one.attempts]
    lives = [life for one in few for life in one.lives.values()]
    assert {"trigger", "acknowledge", "resolve"} == {each.note.kind for each in attempts}
    assert {"ok", "retry", "refused", ""} == {each.result for each in attempts}
    assert {"MonitorBlind", "PagerRefusing"} <= {life.alert for life in lives}
    assert {1, 2, 3} == {each.note.level for each in attempts} == {each.note.round for each in attempts}
    assert any(each.plan.jumps and each.restarts for each in few)
    assert FEW // 2 < sum(one.restarts for one in few)
    assert FEW // 2 < sum(life.acknowledged_at is not None for life in lives)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_judge_convicts(name: str) -> None:
    assert any(judge(World(seed, MUTANTS[name]).run()) for seed in range(MUTANT_SEEDS_MAX)), f"{name} was acquitted"


def test_histories_on_sqlite_are_those_in_memory(tmp_path: Path, few: list[Seen]) -> None:
    for seed in range(STORED):
        store = Sqlite(tmp_path / str(seed), synchronous="OFF")
        world = World(seed, store=store)
        seen, kept = world.run(), store.load()
        store.close()
        assert few[seed].attempts == seen.attempts
        assert few[seed].lives == seen.lives
        assert kept is not None
        assert world.engine is not None
        assert world.engine.state == kept[0]


def test_no_time_zone_and_no_summer_time_changes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories begin in the minutes in which Europe and America change their clocks."""
    told = {}
    try:
        for zone in ZONES:
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            told[zone] = json.dumps([(each.at, each.note.id) for seed in range(ZONED) for each in World(seed).run().attempts])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert 1 == len(set(told.values()))
