"""The pattern of failures names the hop: every hop broken alone, as a whole and at one shard, and what can't be told apart."""

import itertools
from collections.abc import Callable

import pytest

from canary.blame import EXITS, WEB_BACKUP, Cell, State, Suspect, blame, exits_of, way
from canary.lanes import DOORS, Slot

STREAMS = ("web-events", "events", "events-clean")
SLOTS = tuple(Slot(at * 8, tuple((stream, f"{stream}-{at}") for stream in STREAMS)) for at in range(2))


def cells(fails: Callable[[str, Slot, str], bool], blind: tuple[str, ...] = ()) -> list[Cell]:
    """Every door, shard and exit; "" is the door's own answer."""
    return [
        Cell(door, slot, exit, State.UNKNOWN if exit in blind else State.FAILS if fails(door, slot, exit) else State.WORKS)
        for door, slot in itertools.product(DOORS, SLOTS)
        for exit in ("", *exits_of(door))
    ]


def broken(hop: str, at: int | None = None) -> list[Cell]:
    """The pattern that this hop makes when it lets nothing through, everywhere or at one shard."""

    def fails(door: str, slot: Slot, exit: str) -> bool:
        # Asynchronous hops fail behind the acknowledgement.
        passed = way(door, exit)  # type: ignore[arg-type]
        answers = exit == "" and hop != f"{door}-door"
        return hop in passed and not answers and (at is None or slot == SLOTS[at])

    return cells(fails)


def named(found: list[Cell]) -> list[tuple[Suspect, ...]]:
    return [each.suspects for each in blame(found)]


@pytest.mark.parametrize(
    ("hop", "suspects"),
    [
        ("http-door", ["http-door"]),
        ("transcoder", ["transcoder"]),
        ("grpc-door", ["grpc-door"]),
        # Behind events-clean everything fails alike: from outside the two are one.
        ("redactor", ["redactor", "etl"]),
        ("etl", ["redactor", "etl"]),
        ("lake", ["lake"]),
        ("rds", ["rds"]),
        ("redis", ["redis"]),
        ("backup", ["backup"]),
        (WEB_BACKUP, [WEB_BACKUP]),
    ],
)
def test_a_hop_that_lets_nothing_through_is_named(hop: str, suspects: list[str]) -> None:
    assert [tuple(map(Suspect, suspects))] == named(broken(hop))


@pytest.mark.parametrize(
    ("hop", "suspects"),
    [
        ("transcoder", [Suspect("transcoder", "web-events-1")]),
        ("redactor", [Suspect("redactor", "events-1"), Suspect("etl", "events-clean-1")]),
        ("backup", [Suspect("backup", "events-1")]),
    ],
)
def test_a_single_stuck_shard_is_named_with_its_stream(hop: str, suspects: list[Suspect]) -> None:
    (found,) = blame(broken(hop, at=1))
    assert tuple(suspects) == found.suspects
    assert suspects[0].shard in found.sentence


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            broken("redis"),
            "Redis (redis): redis misses what came through both doors on events-0 and events-1; "
            "lake, rds, backup and web-backup have all of it.",
        ),
        (
            broken("transcoder"),
            "Transcoder (transcoder): lake, rds, redis and backup miss what came through the http door on events-0 and events-1; "
            "what came through the grpc door is there; web-backup has all of it.",
        ),
        (
            broken("redactor", at=1),
            "Redactor (redactor) at events-1 of events or ETL (etl) at events-clean-1 of events-clean: lake, rds and redis miss "
            "what came through both doors on events-1; what goes by events-0 is there; backup and web-backup have all of it.",
        ),
    ],
)
def test_the_sentence_says_what_fails_and_what_does_not(found: list[Cell], sentence: str) -> None:
    assert [sentence] == [each.sentence for each in blame(found)]


def test_nobody_is_blamed_while_all_comes_through() -> None:
    assert () == blame(cells(lambda *_: False))


def test_an_exit_that_nobody_can_look_at_is_not_blamed_and_does_not_clear_a_hop() -> None:
    found = broken("redactor")
    found = [Cell(one.door, one.slot, one.exit, State.UNKNOWN) if one.exit == "redis" else one for one in found]
    (only,) = blame(found)
    assert ((Suspect("redactor"), Suspect("etl")), True) == (only.suspects, "of redis nothing is known" in only.sentence)
    assert () == blame(cells(lambda *_: False, blind=("lake",)))


def test_two_faults_are_two_blames() -> None:
    both = {(one.door, one.slot, one.exit) for hop in ("redis", "backup") for one in broken(hop) if one.state is State.FAILS}
    assert {(Suspect("redis"),), (Suspect("backup"),)} == set(named(cells(lambda *at: at in both)))


def test_what_fails_now_and_then_everywhere_is_told_and_no_hop_is_made_up() -> None:
    """Half of the probes come through the same ways."""
    found = [*cells(lambda *_: False), *broken("lake")]
    (only,) = blame(found)
    assert ((), True) == (only.suspects, "no single hop explains it" in only.sentence)


def test_every_exit_has_a_way_through_both_doors_but_the_backup_of_web_events() -> None:
    assert {"grpc": EXITS[:-1], "http": EXITS} == {door: exits_of(door) for door in DOORS}
