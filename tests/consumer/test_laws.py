"""Laws of what the consumer decides, with Hypothesis looking for liars."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.consumer.gather import gathered
from pipeline.consumer.lease import Lease, Trial
from pipeline.consumer.plan import Patience, Watch, missing, readable, subscribe_after_seconds, to_take
from pipeline.consumer.reader import Bounds
from pipeline.consumer.stream import SHARD_END, TRIM_HORIZON, Delivery, Shard, SubscriptionLost
from pipeline.consumer.trials import Poison, next_step
from pipeline.errors import Unavailable
from pipeline.event import StoredRecord

from .simulated import World, simulate

WORKERS = ("a", "b", "c", "d")


@st.composite
def families(draw: st.DrawFn) -> list[Shard]:
    """Shards as splits and merges leave them: parents come first, some are listed no more."""
    shards: list[Shard] = []
    for number in range(draw(st.integers(1, 12))):
        older = [f"s{parent}" for parent in range(number)]
        parents = draw(st.lists(st.sampled_from(older), max_size=2, unique=True)) if older else []
        shards.append(Shard(f"s{number}", tuple(parents)))
    gone = draw(st.sets(st.sampled_from([shard.shard_id for shard in shards])))
    return [shard for shard in shards if shard.shard_id not in gone]


@given(families(), st.data())
def test_a_shard_is_readable_exactly_when_each_listed_parent_is_drained(shards: list[Shard], data: st.DataObject) -> None:
    """TRAPS 14."""
    ended = data.draw(st.sets(st.sampled_from([shard.shard_id for shard in shards]))) if shards else set()
    leases = [Lease(shard.shard_id, checkpoint=SHARD_END if shard.shard_id in ended else TRIM_HORIZON) for shard in shards]
    listed = {shard.shard_id for shard in shards}
    expected = [
        shard.shard_id
        for shard in shards
        if shard.shard_id not in ended and not [parent for parent in shard.parents if parent in listed - ended]
    ]
    assert expected == [lease.shard_id for lease in readable(shards, leases)]


@given(families())
def test_reading_what_is_readable_reads_everything_and_parents_first(shards: list[Shard]) -> None:
    leases: list[Lease] = [Lease(shard_id) for shard_id in missing(shards, [])]
    order: list[str] = []
    while ready := readable(shards, leases):
        order.append(ready[-1].shard_id)
        leases = [replace(lease, checkpoint=SHARD_END) if lease.shard_id == order[-1] else lease for lease in leases]
    assert sorted(shard.shard_id for shard in shards) == sorted(order)
    for shard in shards:
        for parent in shard.parents:
            if parent in order:
                assert order.index(parent) < order.index(shard.shard_id)


@given(
    st.lists(st.sampled_from(["", *WORKERS]), min_size=1, max_size=16),
    st.sets(st.sampled_from(WORKERS), min_size=1),
    st.randoms(use_true_random=False),
)
def test_workers_that_take_by_the_plan_come_to_rest_in_balance(owners: list[str], living: set[str], chance: object) -> None:
    leases = {f"s{number}": Lease(f"s{number}", owner) for number, owner in enumerate(owners)}
    moves_max = 3 * len(leases) + 3
    for _ in range(moves_max):
        moved = False
        for me in sorted(living, key=lambda _: chance.random()):  # type: ignore[attr-defined]
            expired = {shard for shard, lease in leases.items() if lease.owner and lease.owner not in living}
            for lease in to_take(list(leases.values()), me, expired):
                leases[lease.shard_id] = replace(lease, owner=me)
                moved = True
        if not moved:
            break
    else:
        raise AssertionError("they never come to rest")
    held = Counter(lease.owner for lease in leases.values())
    assert set(held) <= living
    counts = [held[worker] for worker in living]
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=20))
def test_a_lease_expires_exactly_when_it_has_not_moved_for_the_lease_time(steps: list[tuple[float, bool]]) -> None:
    watch, lease, now, moved_at = Watch(10.0), Lease("s0", "a", 1), 0.0, 0.0
    assert set() == watch.expired([lease], now)
    for seconds, moves in steps:
        now += seconds
        if moves:
            lease, moved_at = replace(lease, heartbeat=lease.heartbeat + 1), now
        assert ({"s0"} if now - moved_at >= 10.0 else set()) == watch.expired([lease], now)


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.integers(0, 20), st.floats(0, 0.999))
def test_subscribing_again_is_bounded_and_never_within_five_seconds_of_the_last(
    now: float, subscribed_at: float | None, failures: int, chance: float
) -> None:
    """TRAPS 15."""
    patience = Patience()
    wait_seconds = subscribe_after_seconds(patience, now, subscribed_at, failures, lambda: chance)
    if failures > patience.failures_max:
        assert wait_seconds is None
        return
    assert wait_seconds is not None
    assert wait_seconds >= 0
    if subscribed_at is not None:
        assert now + wait_seconds >= subscribed_at + 5.0 - 1e-6
        assert wait_seconds <= max(0.0, subscribed_at + 5.0 - now) + patience.wait_seconds_max


def stored(count: int) -> list[StoredRecord]:
    return [StoredRecord("events", "s0", str(number + 1), b"", 0) for number in range(count)]


@given(st.integers(1, 64), st.data())
def test_every_sound_record_is_processed_and_every_poison_one_buried_within_the_bound(count: int, data: st.DataObject) -> None:
    """TRAPS 17, whether the failures are exceptions or crashes: only the last trial is remembered."""
    records, tries_max = stored(count), 3
    poison = data.draw(st.sets(st.sampled_from([record.sequence_number for record in records]), max_size=5))
    processed, buried, failures = [], [], 0
    failed: Trial | None = None
    while records:
        step = next_step(records, failed, tries_max)
        if isinstance(step, Poison):
            buried.append(records[0].sequence_number)
            records, failed = records[1:], None
            continue
        tried = [record.sequence_number for record in records[: step.count]]
        if poison & set(tried):
            failed, failures = step.trial, failures + 1
        else:
            processed += tried
            records = records[step.count :]
    assert poison == set(buried)
    assert sorted(processed + buried, key=int) == [record.sequence_number for record in stored(count)]
    assert failures <= len(poison) * (count.bit_length() + 1 + tries_max)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_the_checkpoint_is_never_ahead_of_what_was_processed_or_buried(seed: int, data: st.DataObject) -> None:
    """TRAPS 13, under outages, poison, dropped and mute subscriptions, crashes and takeovers."""
    numbers = st.integers(0, 39)
    poison = data.draw(st.sets(numbers, max_size=3))
    outages = data.draw(st.integers(0, 6))
    troubles = data.draw(st.lists(st.sampled_from(["drop", "mute", "crash", "start", "refuse", "split", "wait"]), max_size=12))

    async def story() -> None:
        world = World(seed=seed, bounds=Bounds(retries_max=2))
        world.downstream.failing = {b"%d" % number: lambda: ValueError() for number in poison}
        world.downstream.outages = [Unavailable("away") for _ in range(outages)]
        world.downstream.seconds = 0.2
        open_shards = [world.stream.open(), world.stream.open()]
        everything: list[StoredRecord] = []
        never_ahead(world, everything)
        lives = 1
        world.start("life 1")
        for number in range(40):
            shard = open_shards[number % len(open_shards)]
            everything.append(world.stream.put(shard, b"%d" % number))
            if number % 4 == 0 and troubles:
                lives = trouble(world, troubles.pop(), shard, open_shards, lives)
            await asyncio.sleep(world.random.random() * 3)
        world.start("last")
        await world.until(lambda: len(handled(world)) == len(everything), seconds_max=3600, step_seconds=1.0)
        await world.until(lambda: behind(world, everything) == [], seconds_max=3600, step_seconds=1.0)
        await world.stop_all()
        assert {b"%d" % number for number in poison} == set(world.graves.data)
        assert {record.data for record in everything} - set(world.graves.data) == set(world.downstream.data)

    simulate(story())


def trouble(world: World, kind: str, shard: str, open_shards: list[str], lives: int) -> int:
    if kind in ("drop", "mute") and shard in world.stream.live:
        getattr(world.stream, kind)(shard)
    elif kind == "crash":
        world.crash(f"life {lives}")
        world.start(f"life {lives + 1}")
        return lives + 1
    elif kind == "start":
        world.start(f"more {len(world.lives)}")
    elif kind == "refuse":
        world.stream.refuse(4)
    elif kind == "split" and len(open_shards) < 5:
        open_shards.remove(shard)
        open_shards.extend(world.stream.split(shard))
    return lives


def handled(world: World) -> set[tuple[str, str]]:
    return {(record.shard_id, record.sequence_number) for record in world.downstream.stored} | set(world.graves.buried)


def behind(world: World, everything: list[StoredRecord]) -> list[StoredRecord]:
    """Records that the checkpoints do not cover yet."""
    return [record for record in everything if not covers(world.leases.items.get(record.shard_id), record)]


def covers(lease: Lease | None, record: StoredRecord) -> bool:
    if lease is None or lease.checkpoint == TRIM_HORIZON:
        return False
    return lease.ended or int(lease.checkpoint) >= int(record.sequence_number)


def never_ahead(world: World, everything: list[StoredRecord]) -> None:
    """Judge every checkpoint at the moment when it is written, whoever writes it."""
    write = world.leases.checkpoint

    async def judged(held: Lease, position: str) -> None:
        await write(held, position)
        known = handled(world)
        covered = [
            record
            for record in everything
            if record.shard_id == held.shard_id and covers(replace(held, checkpoint=position), record)
        ]
        assert [] == [record.data for record in covered if (record.shard_id, record.sequence_number) not in known]

    world.leases.checkpoint = judged  # type: ignore[method-assign]


def test_the_judge_of_checkpoints_convicts_a_consumer_that_checkpoints_first() -> None:
    """The mutant: its processor says that it has stored what it has not."""

    async def story() -> str:
        world = World()
        everything: list[StoredRecord] = []
        never_ahead(world, everything)

        class Liar:
            async def process(self, records: object) -> None:
                return

        everything.append(world.stream.put(world.stream.open(), b"one"))
        world.start("a", processor=Liar())
        task, _ = world.running.pop("a")
        await asyncio.wait({task}, timeout=60)
        return type(task.exception()).__name__

    assert "AssertionError" == simulate(story())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=20), st.booleans(), st.integers(1, 40), st.integers(0, 1000))
def test_gathering_keeps_every_record_in_order_and_tells_a_failure_last(
    sizes: list[int], fails: bool, held_bytes: int, seed: int
) -> None:
    chance = random.Random(seed)
    numbers = iter(range(1, 1000))
    deliveries = [
        Delivery(tuple(StoredRecord("s", "0", str(next(numbers)), b"12345", 0) for _ in range(size)), "c", 0.0) for size in sizes
    ]
    held: list[int] = []

    async def pushed() -> AsyncGenerator[Delivery, None]:
        for delivery in deliveries:
            await asyncio.sleep(chance.random())
            yield delivery
        if fails:
            raise SubscriptionLost("over")

    async def story() -> tuple[list[StoredRecord], bool]:
        got: list[StoredRecord] = []
        try:
            async for batch in gathered(pushed(), held_bytes):
                held.append(len(batch.records) * 5)
                got += batch.records
                await asyncio.sleep(chance.random() * 4)
        except SubscriptionLost:
            return got, True
        return got, False

    expected = [record for delivery in deliveries for record in delivery.records]
    assert (expected, fails) == simulate(story())
    # At most what was held below the bound, and the delivery that went over it.
    assert [] == [size for size in held if size >= held_bytes + 5 * 5]
