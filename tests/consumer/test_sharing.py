"""Several workers on one stream: balance, takeover, and zombies."""

import asyncio
from collections import Counter

from pipeline.consumer.lease import MemoryLeases
from pipeline.consumer.worker import Pace
from pipeline.errors import Unavailable

from .simulated import World, simulate


def owners(world: World) -> Counter[str]:
    return Counter(lease.owner for lease in world.leases.items.values())


def test_a_second_worker_takes_its_share_and_every_record_is_processed() -> None:
    async def story() -> None:
        world = World()
        shards = [world.stream.open() for _ in range(4)]
        world.start("a")
        await world.until(lambda: owners(world) == {"a": 4})
        world.start("b")
        await world.until(lambda: owners(world) == {"a": 2, "b": 2})
        for shard in shards:
            world.stream.put(shard, shard.encode())
        await world.until(lambda: len(world.downstream.stored) >= 4)
        await asyncio.sleep(60)
        assert {"a": 2, "b": 2} == owners(world)
        await world.stop_all()
        assert {shard.encode() for shard in shards} == set(world.downstream.data)

    simulate(story())


def test_the_shards_of_a_crashed_worker_are_taken_over_within_the_lease_and_two_rounds() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.start("a")
        world.stream.put(shard, b"one")
        await world.until(lambda: world.downstream.data)
        world.start("b")
        await asyncio.sleep(20)
        world.crash("a")
        crashed_at = world.clock()
        world.stream.put(shard, b"two")
        await world.until(lambda: b"two" in world.downstream.data)
        await world.stop_all()
        assert world.clock() - crashed_at <= Pace().lease_seconds + Pace().renew_seconds + 2 * Pace().round_seconds + 5
        assert [b"one", b"two"] == world.downstream.data
        assert ["taken 0 1"] == world.story("taken", of="b")

    simulate(story())


def test_a_zombie_neither_checkpoints_nor_reads_on() -> None:
    """TRAPS 16: it slept through its lease in the middle of a batch, and wakes up as if no time had passed."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.stream.put(shard, b"one")
        world.downstream.seconds = 1.0
        world.start("a")
        await world.until(lambda: world.story("subscribed"))
        world.pause("a")
        world.start("b")
        await world.until(lambda: world.story("checkpointed", of="b"))
        world.stream.put(shard, b"two")
        await world.until(lambda: world.leases.items[shard].checkpoint == "2")
        world.resume("a")
        await asyncio.sleep(30)
        assert "b" == world.leases.items[shard].owner
        assert "2" == world.leases.items[shard].checkpoint
        await world.stop_all()
        assert [] == world.story("checkpointed", of="a")
        assert ["lost 0"] == world.story("lost", of="a")
        assert 1 == len(world.story("subscribed", of="a"))

    simulate(story())


def test_a_worker_that_cannot_renew_stops_before_its_lease_can_be_taken() -> None:
    """TRAPS 16: the lease table is away for it alone, and it must not trust a lease that others see expire."""

    class Deaf(MemoryLeases):
        async def renew(self, held: object) -> None:
            if deaf:
                raise Unavailable("the table is away")

    deaf = False

    async def story() -> None:
        nonlocal deaf
        world = World()
        world.leases = Deaf()
        shard = world.stream.open()
        world.start("a")
        await world.until(lambda: world.story("subscribed"))
        deaf = True
        await asyncio.sleep(Pace().lease_seconds + 0.1)
        world.stream.put(shard, b"one")
        await world.until(lambda: world.story("lost"), seconds_max=10)
        deaf = False
        assert [] == world.downstream.data
        await world.until(lambda: world.downstream.data)
        await world.stop_all()

    simulate(story())


def test_a_lease_table_that_is_away_stops_no_process() -> None:
    """TRAPS 12."""

    class Away(MemoryLeases):
        async def all(self) -> list:  # type: ignore[type-arg]
            if away:
                raise Unavailable("the table is away")
            return await super().all()

    away = True

    async def story() -> None:
        nonlocal away
        world = World()
        world.leases = Away()
        shard = world.stream.open()
        world.stream.put(shard, b"one")
        world.start()
        await asyncio.sleep(60)
        assert [] == world.downstream.data
        away = False
        await world.until(lambda: world.downstream.data)
        await world.stop()

    simulate(story())


def test_a_fault_of_the_consumers_own_code_ends_the_process() -> None:
    class Broken(MemoryLeases):
        async def checkpoint(self, held: object, position: str) -> None:
            raise ZeroDivisionError

    async def story() -> None:
        world = World()
        world.leases = Broken()
        world.stream.put(world.stream.open(), b"one")
        world.start()
        task, _ = world.running.pop("a")
        done, _ = await asyncio.wait({task}, timeout=60)
        assert {task} == done
        assert isinstance(task.exception(), ZeroDivisionError)

    simulate(story())
