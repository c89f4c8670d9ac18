"""Whole stories of the consumer, told by its journal under a simulated clock."""

import asyncio

from pipeline.consumer.reader import Bounds
from pipeline.consumer.stream import SHARD_END
from pipeline.consumer.subscription import Subscribing
from pipeline.consumer.worker import Pace
from pipeline.errors import Refused, Unavailable

from .simulated import World, simulate


def test_a_delivery_is_processed_then_checkpointed_and_the_lease_is_given_back() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for data in (b"one", b"two"):
            world.stream.put(shard, data)
        world.start()
        await world.until(lambda: world.story("checkpointed"))
        await world.stop()
        assert [b"one", b"two"] == world.downstream.data
        expected = ["taken 0 TRIM_HORIZON", "subscribed 0 TRIM_HORIZON", "processed 0 2", "checkpointed 0 2", "released 0"]
        assert expected == world.story()
        assert "2" == world.leases.items[shard].checkpoint

    simulate(story())


def test_a_restarted_worker_goes_on_behind_the_checkpoint() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.stream.put(shard, b"one")
        world.start()
        await world.until(lambda: world.story("checkpointed"))
        await world.stop()
        world.stream.put(shard, b"two")
        world.start()
        await world.until(lambda: len(world.story("checkpointed")) == 2)
        await world.stop()
        assert [b"one", b"two"] == world.downstream.data

    simulate(story())


def test_a_parent_is_drained_before_its_children_and_both_parents_before_a_merged_child() -> None:
    """TRAPS 14."""

    async def story() -> None:
        world = World()
        first = world.stream.open()
        for number in range(25):
            world.stream.put(first, b"first %d" % number)
        left, right = world.stream.split(first)
        for number in range(12):
            world.stream.put(left, b"left %d" % number)
            world.stream.put(right, b"right %d" % number)
        merged = world.stream.merge(left, right)
        world.stream.put(merged, b"merged")
        world.start()
        await world.until(lambda: b"merged" in world.downstream.data)
        await world.stop()
        parents_first = ["first"] * 25 + ["half"] * 24 + ["merged"]
        kinds = {b"first": "first", b"left": "half", b"right": "half", b"merged": "merged"}
        assert parents_first == [kinds[data.split()[0]] for data in world.downstream.data]
        assert [b"left %d" % n for n in range(12)] == [data for data in world.downstream.data if data.startswith(b"left")]
        ends = [line for line in world.story("checkpointed", "taken") if SHARD_END in line or line.startswith("taken")]
        assert [f"taken {first[-1]} TRIM_HORIZON", f"checkpointed {first[-1]} {SHARD_END}"] == ends[:2]
        assert {f"checkpointed {left[-1]} {SHARD_END}", f"checkpointed {right[-1]} {SHARD_END}"} == set(ends[4:6])
        assert f"taken {merged[-1]} TRIM_HORIZON" == ends[6]

    simulate(story())


def test_a_shard_that_splits_while_it_is_read_is_followed_by_its_children() -> None:
    """TRAPS 14."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.start()
        world.stream.put(shard, b"before")
        await world.until(lambda: world.downstream.data)
        children = world.stream.split(shard)
        for child in children:
            world.stream.put(child, child.encode())
        await world.until(lambda: len(world.downstream.data) == 3, seconds_max=5)
        await world.stop()
        assert {b"before", *(child.encode() for child in children)} == set(world.downstream.data)

    simulate(story())


def test_the_lease_of_a_drained_shard_is_forgotten_once_the_stream_lists_it_no_more() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        left, right = world.stream.split(shard)
        world.start()
        await world.until(lambda: world.leases.items.get(shard) is not None and world.leases.items[shard].ended)
        world.stream.trim(shard)
        await world.until(lambda: shard not in world.leases.items)
        await world.stop()
        assert {left, right} == set(world.leases.items)
        assert [] == world.story("vanished")

    simulate(story())


def test_a_shard_that_retention_took_unread_is_said_and_does_not_hold_up_its_children() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.stream.put(shard, b"lost")
        world.downstream.failing[b"lost"] = lambda: Refused("not now")
        world.start()
        await world.until(lambda: world.story("stopped"))
        left, _ = world.stream.split(shard)
        world.stream.put(left, b"kept")
        world.stream.trim(shard)
        await world.until(lambda: b"kept" in world.downstream.data)
        await world.stop()
        assert ["vanished 0 TRIM_HORIZON"] == world.story("vanished")

    simulate(story())


def test_a_subscription_is_renewed_after_five_minutes_from_the_continuation() -> None:
    """TRAPS 15."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.start()
        for minute in range(12):
            world.stream.put(shard, b"minute %d" % minute)
            await asyncio.sleep(60)
        await world.stop()
        assert [b"minute %d" % minute for minute in range(12)] == world.downstream.data
        expected = [
            "subscribed 0 TRIM_HORIZON",
            "subscription_ended 0 5",
            "subscribed 0 5",
            "subscription_ended 0 10",
            "subscribed 0 10",
        ]
        assert expected == world.story("subscribed", "subscription_ended", "subscription_lost", "busy")

    simulate(story())


def test_a_half_open_subscription_is_noticed_by_its_silence_and_taken_up_again() -> None:
    """TRAPS 15: 35 s without an event, heartbeats included."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.start()
        world.stream.put(shard, b"one")
        await world.until(lambda: world.downstream.data)
        world.stream.mute(shard)
        world.stream.put(shard, b"two")
        muted_at = world.clock()
        await world.until(lambda: len(world.downstream.data) == 2)
        await world.stop()
        assert 35 <= world.clock() - muted_at <= 42
        assert ["subscribed 0 TRIM_HORIZON", "subscription_lost 0 1", "subscribed 0 1"] == world.story(
            "subscribed", "subscription_lost"
        )

    simulate(story())


def test_slow_processing_is_not_taken_for_silence() -> None:
    async def story() -> None:
        world = World(bounds=Bounds(process_seconds_max=1000))
        shard = world.stream.open()
        world.downstream.seconds = 100
        world.stream.put(shard, b"one")
        world.start()
        await world.until(lambda: world.story("checkpointed"))
        await world.stop()
        assert [] == world.story("subscription_lost", "failed", "lost")

    simulate(story())


def test_resource_in_use_is_waited_out_within_bounds() -> None:
    """TRAPS 15: subscribing again within five seconds is refused."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.stream.put(shard, b"one")
        async with world.stream.subscribe(shard, "TRIM_HORIZON"):  # somebody else's
            pass
        world.start()
        await world.until(lambda: world.downstream.data, seconds_max=20)
        await world.stop()
        assert "busy 0 TRIM_HORIZON" in world.story()
        assert [] == world.story("stopped")

    simulate(story())


def test_a_stream_that_refuses_every_subscription_stops_the_shard_after_a_bounded_number() -> None:
    async def story() -> None:
        world = World()
        world.stream.open()
        world.stream.refuse(1000)
        world.start()
        await world.until(lambda: world.story("stopped"))
        refusals = world.story("subscription_lost")
        await world.stop()
        failures_max = Subscribing(world.clock, lambda: 0.0).patience.failures_max
        assert failures_max + 1 == len(refusals)
        assert "released 0" in world.story()

    simulate(story())


def test_an_outage_downstream_is_waited_out_and_nothing_is_skipped() -> None:
    """TRAPS 13."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.downstream.outages = [Unavailable("away"), ConnectionResetError()]
        world.stream.put(shard, b"one")
        world.start()
        await world.until(lambda: world.story("checkpointed"))
        await world.stop()
        assert ["failed 0 1", "failed 0 1", "processed 0 1", "checkpointed 0 1"] == world.story(
            "failed", "processed", "checkpointed"
        )
        assert {} == world.graves.buried

    simulate(story())


def test_a_long_outage_stops_the_shard_which_is_retried_later_and_no_record_is_blamed() -> None:
    """TRAPS 13."""

    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.downstream.outages = [Unavailable("away") for _ in range(40)]
        world.stream.put(shard, b"one")
        world.start()
        await world.until(lambda: world.story("stopped"))
        assert "TRIM_HORIZON" == world.leases.items[shard].checkpoint
        assert 0 == world.leases.items[shard].takes
        await world.until(lambda: world.downstream.data, seconds_max=3600)
        await world.stop()
        assert [b"one"] == world.downstream.data
        assert {} == world.graves.buried

    simulate(story())


def test_what_a_person_must_mend_stops_the_shard_and_buries_nothing() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.downstream.failing[b"one"] = lambda: Refused("the key was revoked")
        world.stream.put(shard, b"one")
        world.start()
        await world.until(lambda: len(world.story("stopped")) == 3)
        await world.stop()
        assert ["stopped 0 permanent"] * 3 == world.story("stopped")
        assert {} == world.graves.buried
        assert "TRIM_HORIZON" == world.leases.items[shard].checkpoint

    simulate(story())


def test_draining_finishes_what_is_in_hand_and_takes_nothing_more() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        for number in range(10):
            world.stream.put(shard, b"%d" % number)
        world.downstream.seconds = 4.0
        world.start()
        await asyncio.sleep(1.0)
        world.stream.put(shard, b"too late")
        await world.stop()
        assert [b"%d" % number for number in range(10)] == world.downstream.data
        assert ["processed 0 10", "checkpointed 0 10", "released 0"] == world.story("processed", "checkpointed", "released")
        assert world.clock() < 5.0

    simulate(story())


def test_what_is_pushed_while_a_batch_is_in_hand_is_taken_together() -> None:
    async def story() -> None:
        world = World()
        shard = world.stream.open()
        world.downstream.seconds = 1.0
        world.start()
        world.stream.put(shard, b"first")
        await world.until(lambda: world.story("subscribed"))
        for number in range(35):
            await asyncio.sleep(0.02)
            world.stream.put(shard, b"%d" % number)
        await world.until(lambda: len(world.downstream.data) == 36)
        await world.stop()
        assert ["checkpointed 0 1", "checkpointed 0 36"] == world.story("checkpointed")

    simulate(story())


def test_draining_gives_up_after_its_budget_and_still_releases() -> None:
    async def story() -> None:
        world = World(pace=Pace(drain_seconds=7.0))
        shard = world.stream.open()
        world.stream.put(shard, b"one")
        world.downstream.seconds = 100.0
        world.start()
        await asyncio.sleep(1.0)
        await world.stop()
        assert [] == world.downstream.data
        assert "" == world.leases.items[shard].owner
        assert 8.0 == round(world.clock(), 1)

    simulate(story())
