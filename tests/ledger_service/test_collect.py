"""What processes said, summed; and where nothing is known, by tier and window, with the reason."""

from collections.abc import Mapping

import pytest

from canary.ledger.books import Window
from canary.ledger.collect import LIMBO_SECONDS, REQUEST_SECONDS_MAX, SILENT_SECONDS, Collected
from pipeline.ledger import tiers
from pipeline.ledger.segment import Place, Segment
from pipeline.ledger.tally import Digest, Slot
from tests.ledger_service.world import elements

BACK = 100.0
GRPC = (tiers.GRPC_ACKNOWLEDGED, tiers.GRPC_UNCERTAIN)
REDACTOR = (tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN)
T = 1_000_000


def window(start: int, door: str = "grpc") -> Window:
    return Window("acme", door, start)


def digest(*ids: str) -> Digest:
    one = Digest()
    one.add(elements(*ids))
    return one


class Said:
    """Segments of a whole stack, every 5 s, as they come to a collector."""

    def __init__(self, parts: tuple[str, ...] = tuple(tiers.OF_PART)) -> None:
        self.collected = Collected(BACK)
        self.parts = parts
        self.now = float(T)
        self.numbers = dict.fromkeys(parts, 0)
        self.boots = dict.fromkeys(parts, "b0")
        self.began_at = dict.fromkeys(parts, self.now)

    def say(self, part: str, digests: Mapping[Slot, Digest] = {}, **fields: object) -> Segment:
        number = self.numbers[part]
        self.numbers[part] += 1
        segment = Segment(part, f"{part}-1", self.boots[part], number, self.began_at[part], self.now, digests=digests, **fields)  # type: ignore[arg-type]
        self.collected.add(segment, self.now)
        return segment

    def boot(self, part: str) -> None:
        self.boots[part], self.numbers[part], self.began_at[part] = self.boots[part] + "x", 0, self.now

    def run(self, seconds: float, *, silent: tuple[str, ...] = (), blind: bool = False) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 5
            if blind:
                self.collected.blinded()
                continue
            for part in self.parts:
                if part not in silent:
                    self.say(part)
            self.collected.looked(self.now, T - 3600)

    def unaccounted(self, start: float, door: str = "grpc") -> dict[str, str]:
        return self.collected.unaccounted(window(int(start) // 10 * 10, door))


@pytest.fixture
def said() -> Said:
    said = Said()
    said.run(30)
    return said


def test_digests_of_instances_and_segments_add_up(said: Said) -> None:
    slot = Slot(tiers.GRPC_ACKNOWLEDGED, "acme", "grpc", T)
    said.say("grpc", {slot: digest("a", "b")})
    said.say("grpc", {slot: digest("c")})
    other = Segment("grpc", "grpc-2", "b", 0, T, said.now, digests={slot: digest("d", "a")})
    said.collected.add(other, said.now)
    assert {tiers.GRPC_ACKNOWLEDGED: 5} == said.collected.events(window(T))
    table = said.collected.tables(window(T))[tiers.GRPC_ACKNOWLEDGED]
    difference = (table - digest("a", "b", "c", "d").table()).decode()
    assert (True, [1]) == (difference.complete, [entry.times for entry in difference.entries])
    assert frozenset({window(T)}) == said.collected.windows(T)


def test_a_whole_stack_that_reports_leaves_nothing_unaccounted(said: Said) -> None:
    assert ({}, {}) == (said.unaccounted(T), said.collected.lagging(T))


def test_only_what_a_door_took_makes_a_window_new(said: Said) -> None:
    said.say("redactor", {Slot(tiers.REDACTOR_READ, "acme", "grpc", T): digest("a")})
    said.say("grpc", {Slot(tiers.GRPC_ACKNOWLEDGED, "acme", "http", T): digest("a")})
    assert frozenset() == said.collected.take_changed()
    said.say("http", {Slot(tiers.HTTP_ACKNOWLEDGED, "acme", "http", T): digest("a")})
    assert (frozenset({window(T, "http")}), frozenset()) == (said.collected.take_changed(), said.collected.take_changed())


def test_a_hole_in_the_numbers_is_not_known_around_it(said: Said) -> None:
    missed_from = said.now
    said.numbers["redactor"] += 2
    said.run(15)
    wanted = dict.fromkeys(REDACTOR, "segments 6 to 7 of redactor-1 (b0) are not there")
    assert wanted == said.unaccounted(missed_from)
    # A reader may have been behind, but not as far as this; and what came later is known.
    assert ({}, wanted) == (said.unaccounted(missed_from - BACK - 20), said.unaccounted(missed_from - BACK))
    said.run(60)
    assert {} == said.unaccounted(said.now - 30)


def test_a_hole_that_is_filled_later_is_none(said: Said) -> None:
    late = Segment("redactor", "redactor-1", "b0", said.numbers["redactor"], T, said.now + 5)
    said.numbers["redactor"] += 1
    at = said.now
    said.run(20)
    assert REDACTOR == tuple(said.unaccounted(at))
    said.collected.add(late, said.now)
    assert {} == said.unaccounted(at)


def test_the_first_segments_of_a_boot_must_be_there(said: Said) -> None:
    said.say("grpc", last=True)
    said.boot("grpc")
    said.numbers["grpc"] = 2
    said.run(10)
    assert dict.fromkeys(GRPC, "the first 2 segments of grpc-1 (b0x) are not there") == said.unaccounted(said.now - 10)


def test_segments_from_before_the_horizon_are_not_missing() -> None:
    said = Said()
    said.numbers["grpc"], said.began_at["grpc"] = 5_000, T - 50_000.0
    said.run(30)
    assert {} == said.unaccounted(T)


def test_a_silent_door_is_taken_to_be_dead_and_what_it_saw_since_is_not_known(said: Said) -> None:
    last_heard = said.now
    said.run(SILENT_SECONDS - 5, silent=("grpc",))
    assert GRPC == tuple(said.collected.lagging(int(last_heard)))
    said.run(5, silent=("grpc",))
    assert {} == said.collected.lagging(int(last_heard))
    reason = dict.fromkeys(GRPC, "grpc-1 (b0) fell silent")
    assert (reason, reason) == (said.unaccounted(last_heard), said.unaccounted(said.now - 15))
    # Windows whose requests were answered before are known.
    assert {} == said.unaccounted(last_heard - REQUEST_SECONDS_MAX - 20)
    # Of the other door's windows this tier is a later one: it may have been behind.
    assert GRPC == tuple(said.unaccounted(last_heard - REQUEST_SECONDS_MAX - 20, "http"))


def test_one_that_began_anew_bounds_what_its_last_boot_took_along(said: Said) -> None:
    died_at = said.now
    said.run(10, silent=("grpc",))
    said.boot("grpc")
    said.run(SILENT_SECONDS)
    assert (GRPC, GRPC) == (tuple(said.unaccounted(died_at)), tuple(said.unaccounted(died_at + 5)))
    assert {} == said.unaccounted(died_at + 20)


def test_one_that_was_cut_off_and_speaks_again_missed_nothing(said: Said) -> None:
    cut_at = said.now
    said.run(100, silent=("grpc",))
    assert GRPC == tuple(said.unaccounted(cut_at))
    said.run(10)
    assert {} == said.unaccounted(cut_at)


def test_a_worker_that_never_comes_back_is_dead_at_last(said: Said) -> None:
    said.run(SILENT_SECONDS + LIMBO_SECONDS + 60, silent=("redactor",))
    second = Segment("redactor", "redactor-2", "b", 0, said.now - 20, said.now)
    said.collected.add(second, said.now)
    assert {} == said.unaccounted(said.now - 20)


def test_one_that_ended_in_peace_leaves_nothing_behind(said: Said) -> None:
    ended_at = said.now
    said.say("grpc", last=True)
    said.boot("grpc")
    said.run(60)
    assert {} == said.unaccounted(ended_at)


def test_a_door_that_ended_has_said_all_and_a_reader_that_ended_has_not_read_what_came_later(said: Said) -> None:
    said.say("grpc", last=True)
    said.say("redactor", last=True)
    ended_at = said.now
    said.run(60, silent=("grpc", "redactor"))
    assert dict.fromkeys(REDACTOR, "no redactor reported") == said.unaccounted(ended_at)
    assert {} == said.unaccounted(ended_at - 20)
    assert {**dict.fromkeys(GRPC, "no grpc reported"), **dict.fromkeys(REDACTOR, "no redactor reported")} == said.unaccounted(
        ended_at + 20
    )


def test_a_part_that_nobody_ran_is_not_accounted_for() -> None:
    said = Said(tuple(part for part in tiers.OF_PART if part != "http"))
    said.run(30)
    assert dict.fromkeys(tiers.OF_PART["http"], "no http reported") == said.unaccounted(T)


def test_who_could_not_look_calls_nobody_silent(said: Said) -> None:
    blind_from = said.now
    said.run(120, blind=True)
    # The processes had no way to the bucket either: each comes with its next segment.
    said.now += 5
    said.collected.looked(said.now, T - 3600)
    assert tuple(tiers.OF_PART) == tuple(
        part for part, own in tiers.OF_PART.items() if own[0] in said.collected.lagging(int(blind_from))
    )
    assert {} == said.unaccounted(blind_from - 10)
    said.run(10)
    assert ({}, {}) == (said.unaccounted(blind_from), said.collected.lagging(int(blind_from)))


def test_a_segment_that_cannot_be_read_is_a_hole_until_the_next_and_after(said: Said) -> None:
    at = said.now
    said.collected.add_unreadable(Place("auditor-1", "b0", said.numbers["auditor"]), said.now)
    said.numbers["auditor"] += 1
    auditor = tiers.OF_PART["auditor"]
    assert dict.fromkeys(auditor, "the newest segment of auditor-1 (b0) can't be read") == said.unaccounted(at - 10)
    said.run(10)
    assert dict.fromkeys(auditor, "segments 6 to 6 of auditor-1 (b0) can't be read") == said.unaccounted(at)
    said.run(30)
    assert {} == said.unaccounted(said.now - 20)


def test_a_strangers_segment_that_cannot_be_read_may_have_been_of_any_part(said: Said) -> None:
    said.collected.add_unreadable(Place("new-1", "b9", 0), said.now)
    at = said.now
    assert {tier for of_part in tiers.OF_PART.values() for tier in of_part} == set(said.unaccounted(at))
    # As soon as it says who it is, it is that part's hole alone.
    said.collected.add(Segment("transcoder", "new-1", "b9", 1, at - 5, at + 5), at + 5)
    said.run(10)
    assert {tiers.TRANSCODER_READ: "the first 1 segments of new-1 (b9) are not there"} == said.unaccounted(at)


def test_a_window_of_which_something_was_dropped_is_named(said: Said) -> None:
    said.say("redactor", incomplete=(T,))
    assert dict.fromkeys(REDACTOR, "redactor saw more than it could keep") == said.unaccounted(T)
    assert {} == said.unaccounted(T + 10)


def test_what_is_out_of_the_horizon_is_forgotten_and_makes_no_hole(said: Said) -> None:
    said.say("grpc", {Slot(tiers.GRPC_ACKNOWLEDGED, "acme", "grpc", T): digest("a")})
    for _ in range(60):
        said.run(100)
        said.collected.forget(int(said.now) - 600)
    assert frozenset() == said.collected.windows(T)
    assert ({}, {}) == (said.unaccounted(said.now - 60), said.unaccounted(said.now - 590))
    assert all(len(each.reached) < 200 for each in said.collected.instances)


def test_a_collector_that_begins_anew_knows_the_same(said: Said) -> None:
    segments: list[tuple[Segment, float]] = []
    add = said.collected.add
    said.collected.add = lambda segment, at: (segments.append((segment, at)), add(segment, at))[1]  # type: ignore[method-assign]
    said.boot("grpc")
    said.boot("redactor")
    said.run(20)
    said.numbers["http"] += 1
    said.run(20)
    said.run(10, silent=("grpc",))
    said.boot("grpc")
    said.run(90, silent=("transcoder",))
    anew = Said()
    for segment, at in reversed(segments):
        anew.collected.add(segment, at)
    anew.collected.looked(said.now, T - 3600)
    starts = range(T + 40, int(said.now), 10)
    assert [said.unaccounted(start) for start in starts] == [anew.unaccounted(start) for start in starts]
    assert any(said.unaccounted(start) for start in starts)
