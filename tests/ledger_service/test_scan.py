"""The backup read for some windows: only what can hold them, only what their own door took, and nothing passed over."""

from datetime import UTC, datetime

from canary.ledger.books import Window
from canary.ledger.scan import Scanned, scan
from pipeline.backup.reader import Backup
from tests.ledger_service.world import NOON, World, elements

STREAMS = {"http": "web-events", "grpc": "events"}


def scanned(world: World, *windows: Window, wanted: tuple[str, ...] = ()) -> Scanned:
    asked = [(window, key) for window in windows for key in elements(*wanted).keys.tolist()] if wanted else []
    return scan(Backup(world.objects), STREAMS, {window.start for window in windows}, wanted=asked)


def test_events_are_those_of_the_stream_that_their_door_writes() -> None:
    world = World()
    by_http, by_grpc = Window("acme", "http", NOON), Window("acme", "grpc", NOON)
    world.now += 5
    web = world.back_up("a", "b", window=by_http, stream="web-events")
    # The transcoder's writing, with the door and accept time of the first one.
    world.back_up("a", "b", window=by_http, stream="events")
    world.back_up("c", window=by_grpc, stream="events")
    done = scanned(world, by_http, by_grpc, wanted=("b",))
    assert (sorted(elements("a", "b").keys.tolist()), elements("c").keys.tolist()) == (
        sorted(done.of(by_http).elements.keys.tolist()), done.of(by_grpc).elements.keys.tolist(),
    )  # fmt: skip
    assert [(web, 0, 1)] == [(each.place.key, each.place.offset, each.index) for each in done.places.values()]


def test_objects_that_were_put_before_the_window_or_began_after_it_are_not_read() -> None:
    world, window = World(), Window("acme", "grpc", NOON)
    other = Window("acme", "grpc", NOON - 3600)
    for at in (NOON - 1800, NOON + 5, NOON + 7200):
        world.now = at
        world.back_up(f"e{at}", window=other)
    # An object whose oldest record is of hours ago, put now: Firehose caught up.
    world.now = NOON + 20
    body = world.objects.bodies[world.back_up("late", window=window)]
    late = f"backup/events/{datetime.fromtimestamp(NOON - 4 * 3600, UTC):%Y/%m/%d/%H}/caught-up"
    world.objects.put(late, body, {})
    done = scanned(world, window)
    assert (3, elements("late", "late").keys.tolist()) == (done.objects, done.of(window).elements.keys.tolist())


def test_damage_is_told_and_hides_nothing_else() -> None:
    world, window = World(), Window("acme", "grpc", NOON)
    world.now += 5
    whole = world.objects.bodies[world.back_up("a", window=window)]
    world.objects.put("backup/events/2026/11/25/12/broken", whole[:-1], {})
    done = scanned(world, window)
    assert (1, elements("a").keys.tolist()) == (len(done.damaged), done.of(window).elements.keys.tolist())


def test_nothing_asked_reads_nothing() -> None:
    world = World()
    world.back_up("a", window=world.window())
    assert 0 == scanned(world).objects
