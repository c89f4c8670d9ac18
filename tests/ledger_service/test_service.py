"""The ledger's rounds: each window is judged once it can be, and never before; what can't be seen is never fine."""

from dataclasses import replace
from typing import Any

import pytest

from canary.ledger.books import Window
from pipeline.errors import Unavailable
from pipeline.ledger import tiers
from pipeline.ledger.tally import WINDOW_SECONDS
from telemetry import metrics as m
from tests.ledger_service.world import GRPC_PATH, NOON, SETTINGS, World

PATIENCE_OVER = WINDOW_SECONDS + SETTINGS.deadline_seconds + SETTINGS.patience_seconds
SETTLED = WINDOW_SECONDS + max(SETTINGS.backup_due_seconds, PATIENCE_OVER) + 30.0


@pytest.fixture
def world() -> World:
    world = World()
    world.run(10)
    return world


def ids(count: int, prefix: str = "e") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_what_came_everywhere_is_ok_after_the_deadline_and_not_before(world: World) -> None:
    window = world.all_is_well("a", "b")
    world.run(SETTINGS.deadline_seconds)
    assert "" == world.verdict(window)
    world.run(WINDOW_SECONDS + 5)
    assert ("OK", 2) == (world.verdict(window), world.verdicts.rows[window].events)
    assert (1.0, 2.0) == (world.metrics.value(m.LEDGER_WINDOWS, verdict="OK"), world.metrics.value(m.LEDGER_ACCOUNTED))


@pytest.mark.parametrize("exit", ["lake", "rds"])
def test_what_an_exit_lacks_is_late_then_lost_there_and_told_once(world: World, exit: str) -> None:
    window = world.all_is_well(*ids(100))
    getattr(world, exit).rows[window].remove("e7")
    world.run(WINDOW_SECONDS + SETTINGS.deadline_seconds + 5)
    assert "LATE" == world.verdict(window)
    assert 0.0 == world.metrics.value(m.LEDGER_FINDINGS, verdict="LOST", hop=exit)
    world.run(SETTLED)
    assert [("LOST", exit, "e7")] == world.told(window)
    assert 1.0 == world.metrics.value(m.LEDGER_FINDINGS, verdict="LOST", hop=exit)
    (line,) = world.lines("ledger finding")
    assert ("e7", exit, "LOST", "acme") == (line["event_id"], line["hop"], line["verdict"], line["tenant"])


def test_what_comes_after_it_was_lost_makes_the_window_ok(world: World) -> None:
    window = world.all_is_well("a", "b")
    world.rds.rows[window].remove("b")
    world.run(SETTLED)
    assert "LOST" == world.verdict(window)
    world.rds.rows[window].append("b")
    world.run(SETTINGS.again_seconds + 5)
    assert "OK" == world.verdict(window)
    assert (0.0, 1.0) == (
        world.metrics.value(m.LEDGER_STANDING, verdict="LOST"),
        world.metrics.value(m.LEDGER_STANDING, verdict="OK"),
    )


def test_a_dead_letter_is_where_its_event_went_until_it_is_redriven(world: World) -> None:
    window = world.all_is_well("a")
    world.see("bad", at=(tiers.GRPC_ACKNOWLEDGED, tiers.REDACTOR_READ, tiers.BACKUP_EVENTS), window=window)
    key = world.bury("bad", window)
    world.run(WINDOW_SECONDS + SETTINGS.deadline_seconds + 5)
    assert "OK" == world.verdict(window)
    world.objects.delete(key)
    # Whoever redrives it acknowledges it again, with its old accept time: the window is looked at again.
    world.see("bad", window=window)
    world.run(10)
    assert "LATE" == world.verdict(window)
    world.deliver("bad", window=window)
    world.run(5)
    assert "OK" == world.verdict(window)


def test_a_closed_window_into_which_a_door_took_more_is_judged_again(world: World) -> None:
    window = world.all_is_well("a")
    world.run(SETTLED)
    assert world.verdicts.is_closed(window.start)
    world.see("late", window=window)
    world.run(SETTLED)
    assert ("LOST", [("LOST", "events-clean", "late")]) == (world.verdict(window), world.told(window))


def test_what_was_sent_again_lies_where_it_came_first(world: World) -> None:
    first = world.all_is_well("a", "b")
    world.run(20)
    second = world.window()
    world.see("a", "c", window=second)
    world.deliver("c", window=second)
    world.run(SETTLED)
    assert ("OK", "OK") == (world.verdict(first), world.verdict(second))


def test_an_event_that_no_door_took_is_a_phantom_even_in_a_window_of_its_own(world: World) -> None:
    window = world.window()
    world.deliver("ghost", window=window, to=["lake"])
    world.run(SETTLED)
    assert [("PHANTOM", "lake", "ghost")] == world.told(window)


def test_what_the_backup_lacks_is_found_when_it_is_due(world: World) -> None:
    window = world.all_is_well("a")
    world.see("b", at=GRPC_PATH[:3], window=window)
    world.deliver("b", window=window)
    world.run(WINDOW_SECONDS + SETTINGS.deadline_seconds + 5)
    assert ("OK", False) == (world.verdict(window), world.verdicts.is_closed(window.start))
    world.run(SETTINGS.backup_due_seconds)
    assert [("LOST", "backup", "b")] == world.told(window)


def test_an_exit_that_cannot_be_read_is_unknown_and_then_judged_again_without_a_false_loss(world: World) -> None:
    window = world.all_is_well("a")
    world.rds.rows[window].remove("a")
    world.rds.failure = Unavailable("RDS: away")
    world.run(SETTLED)
    assert "UNKNOWN" == world.verdict(window)
    assert ["what rds holds is not known: RDS: away"] == [each.detail for each in world.verdicts.rows[window].findings]
    assert 0.0 == world.metrics.value(m.LEDGER_SIGHT)
    world.rds.failure = None
    world.run(SETTINGS.again_seconds + 5)
    # Long past its deadline, but what came back with the store has its patience.
    assert ("LATE", 1.0) == (world.verdict(window), world.metrics.value(m.LEDGER_SIGHT))
    world.rds.rows[window].append("a")
    world.run(5)
    assert "OK" == world.verdict(window)


def test_a_bucket_that_is_away_for_two_minutes_convicts_nobody_and_all_is_caught_up(world: World) -> None:
    windows: list[Window] = []
    for number in range(60):
        if number == 12:
            world.away()
        if number == 36:
            world.back()
        window = world.window()
        world.see(f"e{number}", window=window)
        # Nothing comes to the lake without the bucket; it comes within a minute after it is back.
        if not 12 <= number < 36:
            world.deliver(f"e{number}", window=window)
        if number == 42:
            for late in range(12, 36):
                world.deliver(f"e{late}", window=world.window(at=NOON + 10 + late * 5))
        windows.append(window)
        world.run(5)
        if 12 <= number < 36:
            assert 0.0 == world.metrics.value(m.LEDGER_SIGHT)
    world.run(SETTLED)
    assert {"OK"} == {world.verdict(window) for window in windows}
    assert [] == world.lines("ledger finding")
    assert 0.0 == world.metrics.value(m.LEDGER_WINDOWS, verdict="LOST")
    assert [1, 1] == [len(world.lines("the ledger can't look")), len(world.lines("the ledger can look again"))]


@pytest.mark.parametrize("hangs", ["bucket", "lake"])
def test_patience_begins_when_a_look_that_hung_has_ended(world: World, hangs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store comes back while it is asked; what comes with it is not late because the question was asked before."""
    window = world.all_is_well("a")
    world.see("b", window=window)
    world.away()
    world.lake.failure = Unavailable("away")
    world.run(120)
    world.back()
    world.lake.failure = None
    asked, name = (world.objects, "list") if hangs == "bucket" else (world.lake, "read")
    whole = getattr(asked, name)

    def hanging(*args: Any) -> Any:
        monkeypatch.undo()
        world.now += 25
        return whole(*args)

    monkeypatch.setattr(asked, name, hanging)
    world.run(5)
    world.run(SETTINGS.patience_seconds - 20)
    assert "LATE" == world.verdict(window)
    world.deliver("b", window=window)
    world.run(5)
    assert "OK" == world.verdict(window)


def test_a_look_that_fails_now_and_then_puts_no_loss_off(world: World) -> None:
    window = world.all_is_well("a", "b")
    world.lake.rows[window].remove("b")
    for number in range(30):
        if number % 3 == 0:
            world.away()
            world.now += 1
            world.service.round()
            world.back()
        world.run(5)
    assert "LOST" == world.verdict(window)


def test_what_only_an_exit_knows_is_found_when_it_can_be_read_again(world: World) -> None:
    window = world.window()
    world.deliver("ghost", window=window, to=["rds"])
    world.rds.failure = Unavailable("RDS: away")
    world.run(SETTLED)
    world.rds.failure = None
    world.run(SETTLED)
    assert [("PHANTOM", "rds", "ghost")] == world.told(window)


def test_a_restart_forgets_nothing_and_tells_nothing_twice(world: World) -> None:
    lost, fine = world.all_is_well(*ids(20)), world.all_is_well("x", window=world.window(tenant="globex"))
    world.lake.rows[lost].remove("e3")
    world.run(30)
    world.start()
    world.run(SETTLED)
    assert ("LOST", "OK") == (world.verdict(lost), world.verdict(fine))
    told = len(world.lines("ledger finding"))
    world.start()
    world.run(SETTLED)
    assert ("LOST", "OK") == (world.verdict(lost), world.verdict(fine))
    assert (1, 1) == (told, len(world.lines("ledger finding")))
    assert 0.0 == world.metrics.value(m.LEDGER_FINDINGS, verdict="LOST", hop="lake")


def test_what_a_door_took_into_a_closed_window_while_the_ledger_was_down_is_accounted_for(world: World) -> None:
    window = world.all_is_well("a")
    world.run(SETTLED)
    assert world.verdicts.is_closed(window.start)
    world.see("late", window=window)
    world.now += 5
    for recorder in world.recorders.values():
        recorder.write()
    world.start()
    world.run(SETTLED)
    assert [("LOST", "events-clean", "late")] == world.told(window)


def test_closed_windows_are_not_read_again_after_a_restart(world: World) -> None:
    for _ in range(12):
        world.all_is_well("a")
        world.run(10)
    world.run(SETTLED)
    world.start()
    before = world.rds.reads
    world.run(5)
    # What is not closed yet is one stretch.
    assert world.rds.reads - before <= 2


def test_it_starts_without_anything(world: World) -> None:
    """TRAPS 12."""
    world.away()
    world.lake.failure = world.rds.failure = Unavailable("away")
    world.start()
    world.run(60)
    assert 0.0 == world.metrics.value(m.LEDGER_SIGHT)
    world.back()
    world.lake.failure = world.rds.failure = None
    window = world.all_is_well("a")
    world.run(SETTLED)
    assert ("OK", 1.0) == (world.verdict(window), world.metrics.value(m.LEDGER_SIGHT))


def test_without_any_segment_nothing_is_fine(world: World) -> None:
    """TRAPS 30: a ledger tier that stops reporting."""
    world.recorders.clear()
    world.run(SETTINGS.deadline_seconds)
    window = world.window()
    world.deliver("a", window=window)
    world.run(SETTLED)
    assert "UNKNOWN" == world.verdict(window)


def test_a_door_that_was_killed_leaves_unknown_windows_around_its_death_and_none_after(world: World) -> None:
    before = world.all_is_well("a")
    world.run(100)
    at_death = world.all_is_well("b")
    world.run(4)
    world.kill("grpc")
    world.now += 3
    world.boot("grpc")
    world.run(20)
    after = world.all_is_well("c")
    world.run(SETTLED)
    assert ("OK", "UNKNOWN", "OK") == (world.verdict(before), world.verdict(at_death), world.verdict(after))
    assert [
        "not all of what the door acknowledged is known: grpc-1 (" in each.detail
        for each in world.verdicts.rows[at_death].findings
    ] == [True]


def test_a_redactor_that_was_killed_makes_no_window_unknown(world: World) -> None:
    window = world.all_is_well("a", "b")
    world.kill("redactor")
    world.now += 3
    world.boot("redactor")
    world.run(SETTLED)
    assert "OK" == world.verdict(window)


def test_an_auditor_that_was_killed_is_made_good_by_reading_the_backup(world: World) -> None:
    window = world.window()
    world.see("a", at=GRPC_PATH[:3], window=window)
    world.deliver("a", window=window)
    world.back_up("a", window=window)
    world.run(4)
    world.kill("auditor")
    world.now += 3
    world.boot("auditor")
    world.run(SETTLED)
    assert ("OK", "compared event by event with the backup") == (world.verdict(window), world.service.verdicts.rows[window].how)


def test_a_live_process_that_lags_is_waited_for_and_then_not_known(world: World) -> None:
    window = world.all_is_well("a")
    lagging = world.recorders.pop("redactor")
    world.run(WINDOW_SECONDS + SETTINGS.deadline_seconds - 15)
    # Heard just now, with what it saw long ago.
    lagging._now = lambda: float(NOON + 5)
    lagging.write()
    world.run(15)
    assert "" == world.verdict(window)
    lagging._now = lambda: world.now
    lagging.write()
    world.run(5)
    assert "OK" == world.verdict(window)


def test_more_than_a_digest_can_name_is_compared_event_by_event(world: World) -> None:
    window = world.window()
    all_ids = ids(3_000)
    world.see(*all_ids, window=window)
    world.deliver(*all_ids, window=window, to=["rds"])
    world.deliver(*all_ids[:1_000], window=window, to=["lake"])
    world.back_up(*all_ids, window=window)
    world.run(WINDOW_SECONDS + SETTINGS.deadline_seconds + 5)
    assert "LATE" == world.verdict(window)
    world.run(SETTLED)
    row = world.verdicts.rows[window]
    assert ("LOST", 1_000, 1_000) == (row.kind.value, len(row.findings), row.beyond)
    assert set(all_ids[1_000:]) >= {each.name.id for each in row.findings}
    assert {("LOST", "lake", ("lake",))} == {(each.kind.value, each.hop, each.places) for each in row.findings}
    assert "compared event by event with the backup" == row.how


def test_what_was_never_judged_is_said_when_it_leaves_the_horizon() -> None:
    world = World(settings=replace(SETTINGS, horizon_minutes=5.0))
    world.run(10)
    world.all_is_well("a")
    world.away()
    world.run(600)
    world.back()
    world.run(10)
    (line,) = world.lines("windows were never judged")
    assert line["start"] <= NOON + 10 < line["end"]
    assert world.metrics.value(m.LEDGER_WINDOWS, verdict="UNKNOWN") >= 20


def test_a_long_time_without_an_exit_costs_a_bounded_number_of_hearings() -> None:
    world = World(settings=replace(SETTINGS, horizon_minutes=5.0, again_seconds=10.0))
    world.rds.failure = Unavailable("RDS: away")
    for _ in range(32):
        world.all_is_well("a")
        world.run(10, step=10)
    heard: list[int] = []
    hear = world.service._court.hear
    world.service._court.hear = lambda cases: (heard.append(len(cases)), hear(cases))[1]  # type: ignore[method-assign]
    for _ in range(6):
        world.all_is_well("a")
        world.run(10, step=10)
    assert 6 <= sum(heard) <= 6 * 14
    assert 1 == len(world.lines("an exit can't be read"))
    world.rds.failure = None
    world.run(200)
    assert {"OK"} == {world.verdict(world.window(at=at)) for at in range(int(world.now) - 400, int(world.now) - 250, 10)}


def test_verdicts_are_small(world: World) -> None:
    for _ in range(30):
        world.all_is_well(*ids(5))
        world.run(10)
    world.run(SETTLED)
    body = world.objects.bodies["ledger/verdicts/2026/11/25/12.json"]
    assert 30 <= len(world.verdicts.rows)
    assert len(body) < 70 * len(world.verdicts.rows)


def test_horizon_bounds_what_is_kept() -> None:
    world = World(settings=replace(SETTINGS, horizon_minutes=5.0))
    for _ in range(45):
        world.all_is_well("a")
        world.run(10)
    assert len(world.service._due) <= 12
    assert sum(len(world.service.collected.windows(start)) for start in range(NOON, int(world.now), 10)) <= 31
