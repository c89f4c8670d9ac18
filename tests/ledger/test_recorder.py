"""What a process saw, on its way to the bucket, and what is known when it does not come there."""

import random
import threading
from collections import Counter
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from canary.ledger.books import Window
from canary.ledger.collect import Collected
from pipeline.backup.objects import MemoryObjects
from pipeline.errors import Corrupt, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger import recorder as recorders
from pipeline.ledger import tally as tallies
from pipeline.ledger.identity import Elements, new_column, of_encoded
from pipeline.ledger.recorder import SURPRISES_MAX, Recorder
from pipeline.ledger.segment import Segment, decode, encode, place_of
from pipeline.ledger.table import Table
from pipeline.ledger.tally import LIST_EVENTS_MAX, Digest, Slot, Taken, Tally
from telemetry.metrics import Metrics

pytestmark = pytest.mark.usefixtures("arithmetic")

AT = 1_700_000_003_000_000
SLOT = Slot("grpc-door:acknowledged", "acme", "grpc", 1_700_000_000)


def events(*ids: str) -> list[bytes]:
    return [CloudEvent(id=id, source="/shop").SerializeToString() for id in ids]


def many(count: int, name: str = "event") -> list[bytes]:
    return events(*(f"{name}-{number}" for number in range(count)))


def recorder(objects: MemoryObjects, now: list[float]) -> Recorder:
    return Recorder("grpc", "grpc-1", objects, Metrics(), now=lambda: now[0], boot="boot")


def written(objects: MemoryObjects) -> list[Segment]:
    return [decode(objects.bodies[key]) for key in sorted(objects.bodies)]


@pytest.mark.parametrize("count", [1, LIST_EVENTS_MAX, LIST_EVENTS_MAX + 1, 3000])
def test_a_digest_comes_back_from_its_bytes_as_it_was(count: int) -> None:
    digest = Digest()
    digest.add(of_encoded(many(count)))
    assert (count > LIST_EVENTS_MAX) == (digest.tabled is not None)
    segment = Segment("grpc", "grpc-1", "boot", 3, 1.0, 2.5, True, {SLOT: digest}, (1_700_000_010,))
    again = decode(encode(segment))
    assert (segment.part, segment.boot, 3, 1.0, 2.5, True, (1_700_000_010,)) == (
        again.part, again.boot, again.number, again.began_at, again.reaches_to, again.last, again.incomplete,
    )  # fmt: skip
    assert Table.of(of_encoded(many(count))).cells.tolist() == again.digests[SLOT].table().cells.tolist()


def test_a_damaged_segment_is_no_segment() -> None:
    digest = Digest()
    digest.add(of_encoded(many(10)))
    body = encode(Segment("grpc", "grpc-1", "boot", 0, 0.0, 1.0, False, {SLOT: digest}))
    for at in random.Random(1).sample(range(len(body)), 40):
        damaged = body[:at] + bytes((body[at] ^ 0x40,)) + body[at + 1 :]
        with pytest.raises(Corrupt):
            decode(damaged)
    with pytest.raises(Corrupt):
        decode(body[:-30])


def test_what_came_in_pieces_and_in_any_order_is_the_same_digest() -> None:
    ids = many(2000)
    whole, pieces, shuffled = Tally(), Tally(), list(ids)
    random.Random(2).shuffle(shuffled)
    whole.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, ids)
    for start in range(0, 2000, 100):
        pieces.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, shuffled[start : start + 100])
        if start % 300 == 0:
            pieces.fold()
    left, right = whole.take().digests, pieces.take().digests
    assert [SLOT] == list(left) == list(right)
    assert left[SLOT].table().cells.tolist() == right[SLOT].table().cells.tolist()
    assert {} == whole.take().digests


def test_events_are_in_the_window_of_their_accept_time() -> None:
    tally = Tally()
    for at in (AT, 1_700_000_009_999_999, 1_700_000_010_000_000):
        tally.note(SLOT.tier, SLOT.tenant, SLOT.door, at, events(str(at)))
    assert {1_700_000_000: 2, 1_700_000_010: 1} == {slot.window: digest.events for slot, digest in tally.take().digests.items()}


def test_digests_that_find_no_room_are_named_and_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "SLOTS_MAX", 2)
    tally = Tally()
    for number in range(4):
        tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT + number * 10_000_000, events("a"))
    taken = tally.take()
    assert 2 == len(taken.digests)
    assert {1_700_000_000, 1_700_000_010, 1_700_000_020, 1_700_000_030} == taken.incomplete | {s.window for s in taken.digests}
    assert frozenset() == tally.take().incomplete


def test_what_can_not_be_counted_is_named_and_fails_nobody(arithmetic: str) -> None:
    kind = type(new_column())

    class NoneToPut(kind):
        def put(self, encoded: Sequence[bytes]) -> None:
            raise MemoryError

    class NoneToTake(kind):
        def take(self) -> Elements:
            super().take()
            raise ZeroDivisionError

    for broken in (NoneToPut, NoneToTake):
        tally = Tally(broken(10))
        tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events("a", "b"))
        assert Taken({}, frozenset((1_700_000_000,))) == tally.take()
    tally = Tally()
    tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, [b"no event", *events("a")])
    tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT + 10_000_000, events("b"))
    taken = tally.take()
    # Numpy counts all that is in a column at once, and finds it there; C when it is brought.
    beside = {1_700_000_010} if arithmetic == "numpy" else set()
    assert {1_700_000_000, *beside} == taken.incomplete
    assert {1_700_000_010} - beside == {slot.window for slot in taken.digests}
    tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT + 20_000_000, events("c"))
    taken = tally.take()
    assert frozenset() == taken.incomplete
    assert {1_700_000_020: 1} == {slot.window: digest.events for slot, digest in taken.digests.items()}


def test_a_column_that_is_full_is_folded_and_forgets_nobody() -> None:
    """Requests of all sizes, one larger than the column, of two tenants in turn; the column is written over many times."""
    small, whole = Tally(new_column(700)), Tally()
    ids = many(9_000)
    for number, start in enumerate(range(0, 9_000, 90)):
        small.note("read", f"tenant-{number % 2}", "grpc", AT, ids[start : start + 90])
    small.note("read", "tenant-2", "grpc", AT, ids)
    small.note("read", "tenant-3", "grpc", AT, [])
    for tenant in range(2):
        of = [id for number in range(tenant, 100, 2) for id in ids[number * 90 : number * 90 + 90]]
        whole.note("read", f"tenant-{tenant}", "grpc", AT, of)
    whole.note("read", "tenant-2", "grpc", AT, ids)
    left, right = small.take().digests, whole.take().digests
    assert {slot.tenant: digest.events for slot, digest in left.items()} == {"tenant-0": 4500, "tenant-1": 4500, "tenant-2": 9000}
    assert {slot: digest.table().cells.tolist() for slot, digest in left.items()} == {
        slot: digest.table().cells.tolist() for slot, digest in right.items()
    }


def test_few_events_that_stay_a_list_are_not_written_over_by_the_next() -> None:
    tally, ids = Tally(), many(6)
    for id in ids:
        tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, [id])
        tally.fold()
    assert Table.of(of_encoded(ids)).cells.tolist() == tally.take().digests[SLOT].table().cells.tolist()


def test_segments_are_numbered_without_holes_and_the_last_says_so() -> None:
    objects, now = MemoryObjects(), [1_700_000_000.0]
    of = recorder(objects, now)
    for number in range(3):
        of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events(f"e{number}"))
        now[0] += 5
        assert of.write()
    now[0] += 5
    assert of.end()
    said = written(objects)
    assert [(0, False), (1, False), (2, False), (3, True)] == [(segment.number, segment.last) for segment in said]
    assert [1_700_000_005.0, 1_700_000_010.0, 1_700_000_015.0, 1_700_000_020.0] == [segment.reaches_to for segment in said]
    whole = Digest()
    for segment in said:
        whole.merge(segment.digests.get(SLOT, Digest()))
    assert Table.of(of_encoded(events("e0", "e1", "e2"))).cells.tolist() == whole.table().cells.tolist()
    assert [("grpc-1", "boot", number) for number in range(4)] == [
        (place.worker, place.boot, place.number) for place in map(place_of, sorted(objects.bodies)) if place is not None
    ]


def test_a_bucket_that_is_away_costs_nothing_but_time() -> None:
    objects, now = MemoryObjects(failure=Unavailable("away")), [1_700_000_000.0]
    of = recorder(objects, now)
    for number in range(3):
        of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events(f"e{number}"))
        now[0] += 5
        assert not of.write()
    objects.failure = None
    assert of.end()
    said = written(objects)
    assert [0, 1] == [segment.number for segment in said]
    assert [1, 2] == [segment.digests[SLOT].events for segment in said]


def test_an_answer_that_was_lost_writes_the_same_segment_again_and_nothing_is_counted_twice() -> None:
    class Forgetful(MemoryObjects):
        def put(self, key: str, body: bytes, metadata: object) -> None:
            super().put(key, body, {})
            puts[key] += 1
            if sum(puts.values()) == 1:
                raise Unavailable("stored, but the answer was lost")

    puts: Counter[str] = Counter()
    objects, now = Forgetful(), [1_700_000_000.0]
    of = recorder(objects, now)
    of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events("a"))
    assert not of.write()
    of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events("b"))
    now[0] += 5
    assert of.write()
    assert of.write()
    assert [2, 1] == [puts[key] for key in sorted(puts)]
    assert [1, 1] == [segment.digests[SLOT].events for segment in written(objects)]


def test_an_idle_process_says_that_it_is_idle() -> None:
    objects, now = MemoryObjects(), [1_700_000_000.0]
    of = recorder(objects, now)
    of.write()
    now[0] += 5
    of.write()
    assert [({}, 1_700_000_000.0), ({}, 1_700_000_005.0)] == [
        (segment.digests, segment.reaches_to) for segment in written(objects)
    ]


def test_a_live_recorder_writes_by_itself_and_ends_in_peace() -> None:
    objects = MemoryObjects()
    of = Recorder.begin("grpc", "grpc-1", objects, Metrics())
    of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events("a"))
    assert of.end()
    said = written(objects)
    assert said[-1].last
    assert 1 == sum(digest.events for segment in said for digest in segment.digests.values())


def test_a_live_recorder_goes_on_after_a_failure_that_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Surprising(MemoryObjects):
        def put(self, key: str, body: bytes, metadata: object) -> None:
            tried.append(key)
            if len(tried) == 1:
                raise KeyError("nobody foresaw it")
            super().put(key, body, {})
            came.set()

    monkeypatch.setattr(recorders, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(recorders, "SEGMENT_SECONDS", 0.01)
    tried: list[str] = []
    came, objects, metrics = threading.Event(), Surprising(), Metrics()
    of = Recorder.begin("grpc", "grpc-1", objects, metrics)
    of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, AT, events("a"))
    assert came.wait(10.0), "its thread ended"
    assert of.end()
    said = written(objects)
    assert (tried[0], tried[0], 1, list(range(len(said))), True) == (
        tried[1],
        min(objects.bodies),
        sum(digest.events for segment in said for digest in segment.digests.values()),
        [segment.number for segment in said],
        said[-1].last,
    )
    assert 1 == metrics.registry.get_sample_value("spillway_ledger_segments_total", {"outcome": "failed"})


def unaccounted(segments: Sequence[Segment], *windows: int) -> list[bool]:
    """Of which of these windows the ledger says that the door's part is not known."""
    collected = Collected(back_seconds=0.0)
    for segment in segments:
        collected.add(segment, segment.reaches_to)
    collected.looked(segments[-1].reaches_to, segments[0].began_at)
    tier = "grpc-door:acknowledged"
    return [tier in collected.unaccounted(Window(SLOT.tenant, SLOT.door, window)) for window in windows]


def test_a_segment_that_fails_again_and_again_as_nobody_foresaw_is_let_go_and_only_its_time_is_not_accounted_for() -> None:
    class Poisoned(MemoryObjects):
        def put(self, key: str, body: bytes, metadata: object) -> None:
            if key.endswith("-00000001"):
                tried.append(key)
                raise KeyError("nobody foresaw it")
            super().put(key, body, {})

    tried: list[str] = []
    objects, now = Poisoned(), [1_700_000_000.0]
    of = recorder(objects, now)
    outcomes = []
    for number in range(10):
        now[0] = 1_700_000_100.0 + number * 100
        of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, int(now[0] * 1e6), events(f"e{number}"))
        outcomes.append(of.write())
    assert ([True] + [False] * SURPRISES_MAX + [True] * (9 - SURPRISES_MAX), SURPRISES_MAX) == (outcomes, len(tried))
    said = written(objects)
    assert [0, *range(2, 9 - SURPRISES_MAX + 2)] == [segment.number for segment in said]
    assert [False, True, False] == unaccounted(said, 1_700_000_000, 1_700_000_200, 1_700_000_900)


@pytest.mark.parametrize("broken", ["encode", "take"])
def test_what_was_lost_on_the_way_into_a_segment_leaves_a_hole_in_the_numbers(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, now = MemoryObjects(), [1_700_000_000.0]
    of = recorder(objects, now)
    take = of.tally.take

    def failing(*_: object) -> bytes:
        take()
        raise MemoryError

    outcomes = []
    for number in range(3):
        now[0] = 1_700_000_100.0 + number * 100
        of.tally.note(SLOT.tier, SLOT.tenant, SLOT.door, int(now[0] * 1e6), events(f"e{number}"))
        with monkeypatch.context() as patched:
            if number == 1:
                patched.setattr(*((recorders, "encode") if broken == "encode" else (of.tally, "take")), failing)
            outcomes.append(of.write())
    said = written(objects)
    assert ([True, False, True], [0, 2]) == (outcomes, [segment.number for segment in said])
    assert [False, True] == unaccounted(said, 1_700_000_000, 1_700_000_200)


def test_its_metrics_are_there_from_the_start() -> None:
    metrics = Metrics()
    Recorder("grpc", "grpc-1", MemoryObjects(), metrics)
    assert isinstance(metrics.registry, CollectorRegistry)
    assert 0 == metrics.registry.get_sample_value("spillway_ledger_segments_total", {"outcome": "failed"})
