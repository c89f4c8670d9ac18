"""The canary at work in a simulated pipeline: what holds, what is convicted and of what, what it remembers, its bounds."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from canary.blame import EXITS, Suspect
from canary.judge import Verdict
from canary.probes import Probe
from canary.report import Report
from canary.state import State
from canary.watch import Canary
from canary.work import Inline
from pipeline.errors import InvalidConfiguration
from telemetry import metrics as m
from tests.canary.world import Copy, Fault, World, canary_in, pass_time, said

T = TypeVar("T")
LONG_SECONDS = 400.0


def outcome(found: Report) -> str:
    return found.outcome


def convicted(found: Report) -> bool:
    return found.outcome == "convicted"


def verdicts(canary: Canary) -> set[tuple[str, str]]:
    """(exit, verdict) of every case by name."""
    return {(case.exit, case.verdict) for case in canary.state.cases(500)}


# -- healthy


def test_every_probe_is_delivered_at_every_exit_through_both_doors_and_onto_every_shard() -> None:
    world = World()
    canary = canary_in(world)
    pass_time(world, canary, 300.0)
    found = said(canary)
    assert ("held", (), ()) == (found.outcome, found.blames, found.cases)
    assert found.sentence.endswith("through 2 doors onto each of 2 shards.")
    assert {(exit, door) for exit in EXITS for door in ("grpc", "http")} - {("web-backup", "grpc")} == {
        (row.exit, row.door) for row in found.rows
    }
    assert {"delivered"} == {row.verdict for row in found.rows}
    assert {"events-0", "events-1"} == {slot.shard("events") for slot in canary.rounds.slots}
    lanes = Counter((probe.door, probe.slice) for probe in world.sent)
    assert (4, True) == (len(lanes), max(lanes.values()) - min(lanes.values()) <= 1)
    # Between them a tick of the look and of the clock.
    assert all(row.fresh_p50_seconds is not None and 3.0 <= row.fresh_p50_seconds <= 6.0 for row in found.rows)


def test_every_healthy_trouble_convicts_nobody() -> None:
    def retried(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
        """The backup holds a second copy, and probes come in another order, within their time."""
        later = [replace(copy, after_seconds=copy.after_seconds + (probe.number * 5 % 14)) for copy in copies]
        return later * 2 if exit in ("backup", "web-backup") else later

    world = World(faults=[retried])
    canary = canary_in(world)
    pass_time(world, canary, LONG_SECONDS)
    assert ("held", set()) == (said(canary).outcome, verdicts(canary))
    # Reordering is told apart, and told.
    counted = canary._metrics.value(m.CANARY_VERDICTS, exit="lake", door="grpc", verdict="reordered")
    assert counted > 0


# -- mutants


def drop(exits: tuple[str, ...], every: int = 1, door: str = "") -> Fault:
    def fault(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
        return [] if exit in exits and probe.number % every == 0 and door in ("", probe.door) else copies

    return fault


def change(exit_name: str, **fields: str) -> Fault:
    def fault(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
        return [replace(copy, fields=copy.fields | fields) for copy in copies] if exit == exit_name else copies

    return fault


def double(exit_name: str) -> Fault:
    return lambda probe, exit, copies: copies * 2 if exit == exit_name and probe.number % 10 == 0 else copies


def truncated(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
    cut = [
        replace(copy, fields=copy.fields | {"data.order_id": copy.fields["data.order_id"][:-1]})
        for copy in copies
        if exit == "rds"
    ]
    return cut if exit == "rds" else copies


def swapped_at_the_lake(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
    """Where the canary looks under its own tenant, another tenant's are not seen."""
    return [] if exit == "lake" and probe.number % 4 == 0 else copies


def late(seconds: float, exit_name: str = "redis") -> Fault:
    def fault(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
        return [replace(copy, after_seconds=seconds) for copy in copies] if exit == exit_name else copies

    return fault


MUTANTS: dict[str, tuple[Fault, set[tuple[str, str]], tuple[str, ...]]] = {
    "the lake takes nothing": (drop(("lake",)), {("lake", "late"), ("lake", "lost")}, ("lake",)),
    "RDS takes nothing": (drop(("rds",)), {("rds", "late"), ("rds", "lost")}, ("rds",)),
    "Redis takes nothing": (drop(("redis",)), {("redis", "late"), ("redis", "lost")}, ("redis",)),
    "Firehose gives up": (drop(("backup",)), {("backup", "late"), ("backup", "lost")}, ("backup",)),
    "Firehose gives up on web-events": (
        drop(("web-backup",)), {("web-backup", "late"), ("web-backup", "lost")}, ("web-backup",)
    ),
    "the redactor acknowledges before it writes": (
        drop(("lake", "rds", "redis")), {(exit, verdict) for exit in ("lake", "rds", "redis") for verdict in ("late", "lost")},
        ("redactor", "etl"),
    ),
    "the transcoder drops everything": (
        drop(("lake", "rds", "redis", "backup"), door="http"),
        {(exit, verdict) for exit in ("lake", "rds", "redis", "backup") for verdict in ("late", "lost")},
        ("transcoder",),
    ),
    "one in ten is lost at RDS": (drop(("rds",), every=10), {("rds", "late"), ("rds", "lost")}, ()),
    "one in ten is doubled in the lake": (double("lake"), {("lake", "duplicated")}, ()),
    "a field is cut": (truncated, {("rds", "corrupted")}, ("rds",)),
    "the tenant is swapped in RDS": (change("rds", tenant="acme"), {("rds", "corrupted")}, ("rds",)),
    "a shard's events go to another tenant": (swapped_at_the_lake, {("lake", "late"), ("lake", "lost")}, ()),
    "Redis is late": (late(40.0), {("redis", "late")}, ("redis",)),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_convicted_of_what_it_does_and_the_hop_is_named(name: str) -> None:
    fault, cases, hops = MUTANTS[name]
    world = World(faults=[fault])
    canary = canary_in(world)
    pass_time(world, canary, 100.0)
    found = said(canary)
    assert ("convicted", cases) == (found.outcome, verdicts(canary)), found.sentence
    if hops:
        assert [tuple(map(Suspect, hops))] == [each.suspects for each in found.blames]


def test_a_cut_field_is_named() -> None:
    world = World(faults=[truncated])
    canary = canary_in(world)
    pass_time(world, canary, 30.0)
    assert {"fields: data.order_id"} == {case.detail for case in canary.state.cases()}


def test_a_hop_that_is_blamed_is_blamed_at_every_moment() -> None:
    """Between a deadline and the look that follows it, nothing new is known: that is no reason to fall silent."""
    world = World(faults=[drop(("lake",))])
    canary = canary_in(world)
    pass_time(world, canary, 40.0)
    for _ in range(20):
        pass_time(world, canary, 1.0)
        assert [(Suspect("lake"),)] == [each.suspects for each in said(canary).blames]


@pytest.mark.parametrize("exit", EXITS)
def test_total_loss_at_an_exit_is_reported_within_30_seconds(exit: str) -> None:
    world = World()
    canary = canary_in(world)
    pass_time(world, canary, 120.0)
    assert "held" == said(canary).outcome
    began = world.now
    world.faults.append(lambda probe, at, copies: [] if at == exit and probe.sent_at >= began - 3.0 else copies)
    took = pass_time(world, canary, 60.0, until=convicted)
    assert took <= 30.0
    assert [(Suspect(exit),)] == [each.suspects for each in said(canary).blames]


def test_a_single_stuck_shard_is_reported_within_60_seconds_and_named() -> None:
    world = World()
    canary = canary_in(world)
    pass_time(world, canary, 60.0)
    stuck = canary.rounds.slots[1].slice
    began = world.now

    def fault(probe: Probe, exit: str, copies: list[Copy]) -> list[Copy]:
        return [] if probe.slice == stuck and exit in ("lake", "rds", "redis") and probe.sent_at >= began else copies

    world.faults.append(fault)
    assert pass_time(world, canary, 60.0, until=lambda found: bool(found.blames)) <= 60.0
    (blame,) = said(canary).blames
    assert (Suspect("redactor", "events-1"), Suspect("etl", "events-clean-1")) == blame.suspects


def test_a_canary_that_never_sends_is_unknown_and_not_green() -> None:
    world = World(deaf={"grpc", "http"})
    canary = canary_in(world)
    assert "unknown" == said(canary).outcome
    # Nor one whose doors are shut: nobody acknowledged anything, so nothing is lost; but the doors are named.
    pass_time(world, canary, 120.0)
    found = said(canary)
    assert ("convicted", set(), {Suspect("http-door"), Suspect("grpc-door")}) == (
        found.outcome, verdicts(canary), {suspect for each in found.blames for suspect in each.suspects}
    )  # fmt: skip
    assert {"unknown"} == {row.verdict for row in found.rows}


def test_an_exit_that_can_not_be_read_is_unknown_and_catches_up_without_a_false_loss() -> None:
    world = World()
    canary = canary_in(world)
    pass_time(world, canary, 60.0)
    world.blind.add("lake")
    pass_time(world, canary, 120.0)
    found = said(canary)
    assert ("unknown", "lake can't be looked at: ConnectionError: refused.") == (found.outcome, found.sentence)
    assert {"unknown"} == {row.verdict for row in found.rows if row.exit == "lake"}
    world.blind.clear()
    pass_time(world, canary, 60.0)
    assert ("held", set()) == (said(canary).outcome, verdicts(canary))


def test_an_exit_that_lies_about_everything_but_counts_is_convicted() -> None:
    """Another's event in the place of each: as many as before."""
    world = World(faults=[drop(("rds",))])
    canary = canary_in(world)
    pass_time(world, canary, 20.0)
    world.strangers["rds"] = {f"canary-somebody-{at}": {"door": "grpc"} for at in range(len(world.sent))}
    pass_time(world, canary, 60.0)
    assert {("rds", "late"), ("rds", "lost"), ("rds", "phantom")} == verdicts(canary)


def test_what_was_lost_stays_convicted_for_a_while_and_says_that_it_is_over() -> None:
    world = World(faults=[lambda probe, exit, copies: [] if exit == "rds" and probe.number == 8 else copies])
    canary = canary_in(world)
    pass_time(world, canary, 150.0)
    found = said(canary)
    assert ("convicted", ()) == (found.outcome, found.blames)
    assert found.sentence.startswith("Every exit delivers now; canary-")
    pass_time(world, canary, 450.0)
    assert "held" == said(canary).outcome


# -- memory


def test_a_restart_forgets_nothing_and_convicts_nobody(tmp_path: Path) -> None:
    """The first is not ended, only never stepped again: as after SIGKILL; its lock goes with its process."""
    world, path = World(), tmp_path / "canary.sqlite"
    first = canary_in(world, path)
    pass_time(world, first, 61.0)
    before = sorted(one.probe.id for one in first.open.values())
    source, number = first.state.source, first.state.next_number
    first.state.close()
    world.now += 30.0
    second = canary_in(world, path)
    assert (before, source, number) == (
        sorted(one.probe.id for one in second.open.values()), second.state.source, second.state.next_number
    )  # fmt: skip
    pass_time(world, second, 120.0)
    assert ("held", set()) == (said(second).outcome, verdicts(second))
    ids = [probe.id for probe in world.sent]
    assert len(ids) == len(set(ids))


def test_what_was_lost_before_a_restart_is_found_after_it(tmp_path: Path) -> None:
    world, path = World(faults=[drop(("rds",))]), tmp_path / "canary.sqlite"
    first = canary_in(world, path)
    pass_time(world, first, 6.0)
    first.state.close()
    world.faults.clear()
    world.faults.append(lambda probe, exit, copies: [] if exit == "rds" and probe.number < 4 else copies)
    second = canary_in(world, path)
    pass_time(world, second, 90.0)
    assert {("rds", "late"), ("rds", "lost")} == verdicts(second)


def test_a_probe_that_was_sent_in_the_moment_of_the_kill_is_no_phantom(tmp_path: Path) -> None:
    """Written down before it is sent: what dies in between knows of it."""

    class Killed(Exception):
        pass

    class DiesAtHttp(Inline):
        def submit(self, name: str, work: Callable[[], T]) -> "Future[T]":
            if name == "http":
                raise Killed
            return super().submit(name, work)

    world, path = World(), tmp_path / "canary.sqlite"
    first = canary_in(world, path, workers=DiesAtHttp())
    with pytest.raises(Killed):
        pass_time(world, first, 10.0)
    assert {"grpc"} == {probe.door for probe in world.sent}
    first.state.close()
    second = canary_in(world, path)
    assert {probe.id for probe in world.sent} < {one.probe.id for one in second.open.values()}
    pass_time(world, second, 90.0)
    assert set() == verdicts(second)


def test_two_can_not_have_one_state(tmp_path: Path) -> None:
    state = State(tmp_path / "canary.sqlite")
    with pytest.raises(InvalidConfiguration, match="another canary"):
        State(tmp_path / "canary.sqlite")
    state.close()
    State(tmp_path / "canary.sqlite").close()


# -- bounds


def test_what_is_under_way_is_bounded_even_when_everything_fails() -> None:
    world = World(blind=set(EXITS))
    canary = canary_in(world, outstanding_max=40)
    pass_time(world, canary, 200.0)
    found = said(canary)
    assert (True, "unknown") == (len(canary.open) <= 40, found.outcome)
    assert "No probe is sent since" in found.sentence
    sent = len(world.sent)
    # Given up as unknown, and on it goes.
    pass_time(world, canary, 200.0)
    assert len(world.sent) > sent
    assert set() == verdicts(canary)


def test_more_shards_than_a_round_may_have_events_take_turns() -> None:
    world = World()
    canary = canary_in(world, round_events_max=2)
    pass_time(world, canary, 60.0)
    assert {2} == set(Counter(probe.turn for probe in world.sent).values())
    assert 4 == len({(probe.door, probe.slice) for probe in world.sent})


def test_a_strip_has_a_letter_a_minute_and_tells_the_worst() -> None:
    world = World(now=1_795_000_020.0)
    canary = canary_in(world)
    pass_time(world, canary, 240.0)
    world.faults.append(change("rds", tenant="acme"))
    pass_time(world, canary, 30.0)
    row = next(row for row in said(canary).rows if (row.exit, row.door) == ("rds", "grpc"))
    assert (60, "c", "d", " ") == (len(row.fine), row.fine[-1], row.fine[-3], row.fine[0])
    assert Verdict.CORRUPTED.value == row.verdict
