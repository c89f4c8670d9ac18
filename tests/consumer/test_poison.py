"""Stories of poison: found, buried whole, and never laid on a record that is sound (TRAPS 17)."""

import asyncio

from pipeline.consumer.reader import Bounds
from pipeline.errors import InvalidEvent, Unavailable

from .simulated import World, simulate


def test_a_poison_record_is_found_among_its_neighbours_and_buried_whole() -> None:
    """TRAPS 17."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for number in range(10):
            world.stream.put(shard, b"%d" % number)
        world.downstream.failing[b"6"] = lambda: KeyError("a bug")
        world.start()
        await world.until(lambda: world.leases.items.get(shard) and world.leases.items[shard].checkpoint == "10")
        await world.stop()
        assert [b"%d" % number for number in range(10) if number != 6] == world.downstream.data
        assert {(shard, "7"): (b"6", "poison")} == world.graves.buried
        assert [] == world.story("stopped", "lost")

    simulate(story())


def test_a_record_that_kills_the_process_is_found_over_the_crashes_and_buried() -> None:
    """TRAPS 17: the tries are counted in the lease, before processing."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for number in range(10):
            world.stream.put(shard, b"%d" % number)
        crashes = 0

        def dies() -> BaseException:
            nonlocal crashes
            crashes += 1
            world.crash(f"life {crashes}")
            return asyncio.CancelledError()

        world.downstream.failing[b"6"] = dies
        while not world.graves.buried and crashes < 30:
            name = f"life {crashes + 1}"
            world.start(name)
            await world.until(lambda: world.graves.buried or world.lives[name].dead)  # noqa: B023
        await world.until(lambda: world.leases.items[shard].checkpoint == "10")
        await world.stop_all()
        assert {(shard, "7"): (b"6", "poison")} == world.graves.buried
        assert {b"%d" % number for number in range(10) if number != 6} == set(world.downstream.data)
        # Three calm takes and the first careful one at the whole, then 5, 2, 1 records (5..9, 5..6, 6 alone), three times alone.
        assert crashes <= world.bounds.takes_max + 1 + 4 + world.bounds.tries_max

    simulate(story())


def test_a_crash_for_another_reason_buries_nothing() -> None:
    """Killed from outside, however often: what is not the record's fault is not laid on it."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for number in range(4):
            world.stream.put(shard, b"%d" % number)
        world.downstream.seconds = 1.0
        for life in range(8):
            world.start(f"life {life}")
            await world.until(lambda: world.leases.items and world.leases.items[shard].owner == f"life {life}")  # noqa: B023
            world.crash(f"life {life}")
        world.start("last")
        await world.until(lambda: world.leases.items[shard].checkpoint == "4")
        await world.stop_all()
        assert {} == world.graves.buried
        assert {b"0", b"1", b"2", b"3"} == set(world.downstream.data)

    simulate(story())


def test_a_dead_letter_that_cannot_be_written_stops_the_shard() -> None:
    """TRAPS 17."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for data in (b"good", b"bad", b"next"):
            world.stream.put(shard, data)
        world.downstream.failing[b"bad"] = lambda: InvalidEvent("rule", "broken")
        world.graves.failure = Unavailable("the bucket is away")
        world.start()
        await world.until(lambda: world.story("stopped"))
        assert "1" == world.leases.items[shard].checkpoint
        assert [b"good"] == world.downstream.data
        world.graves.failure = None
        await world.until(lambda: world.leases.items[shard].checkpoint == "3")
        await world.stop()
        assert [b"good", b"next"] == world.downstream.data
        assert [b"bad"] == world.graves.data

    simulate(story())


def test_when_everything_looks_like_poison_the_fault_is_ours_and_the_shard_stops() -> None:
    async def story() -> None:
        world = World(bounds=Bounds(poison_in_a_row_max=3))
        shard = world.stream.open()
        for number in range(10):
            world.stream.put(shard, b"%d" % number)
            world.downstream.failing[b"%d" % number] = lambda: TypeError("a bad deploy")
        world.start()
        await world.until(lambda: world.story("stopped"))
        await world.stop()
        assert ["stopped 0 poison"] == world.story("stopped")
        assert [b"0", b"1", b"2"] == world.graves.data

    simulate(story())
