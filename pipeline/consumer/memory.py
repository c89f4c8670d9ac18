"""A stream in memory: the twin of `KinesisStream`, for stories told under a simulated clock.

It keeps the rules that a reader can trip over (TRAPS 14, 15): closed parents stay readable to their end, a subscription ends
after five minutes, a second one within five seconds is refused and a later one ends the first, idle shards send heartbeats.
A test breaks it by `drop` (subscriptions fail), `mute` (half-open: not a word more) and `refuse`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipeline.consumer.plan import GUARD_SECONDS
from pipeline.consumer.stream import TRIM_HORIZON, Delivery, Shard, ShardBusy, SubscriptionLost
from pipeline.event import StoredRecord

LIFE_SECONDS = 300.0
HEARTBEAT_SECONDS = 5.0


@dataclass
class _MemoryShard:
    shard: Shard
    records: list[StoredRecord] = field(default_factory=list)
    closed: bool = False


@dataclass
class _Live:
    started_at: float
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    mute: bool = False


@dataclass
class MemoryStream:
    clock: Callable[[], float]
    name: str = "events"
    delivery_records_max: int = 10
    refused: int = 0
    _shards: dict[str, _MemoryShard] = field(default_factory=dict)
    _live: dict[str, _Live] = field(default_factory=dict)
    _sequence: int = 0

    def open(self, *parents: str) -> str:
        shard_id = f"shardId-{len(self._shards):012d}"
        self._shards[shard_id] = _MemoryShard(Shard(shard_id, parents))
        return shard_id

    def put(self, shard_id: str, data: bytes) -> StoredRecord:
        if self._shards[shard_id].closed:
            raise ValueError(f"{shard_id} is closed")
        self._sequence += 1
        record = StoredRecord(self.name, shard_id, str(self._sequence), data, int(self.clock() * 1e6))
        self._shards[shard_id].records.append(record)
        self._changed(shard_id)
        return record

    def split(self, shard_id: str) -> tuple[str, str]:
        self._close(shard_id)
        return self.open(shard_id), self.open(shard_id)

    def merge(self, left: str, right: str) -> str:
        self._close(left)
        self._close(right)
        return self.open(left, right)

    def trim(self, shard_id: str) -> None:
        """Retention is over for this shard."""
        del self._shards[shard_id]

    def drop(self, shard_id: str) -> None:
        """The live subscription ends without a word."""
        self._live[shard_id].over = True
        self._changed(shard_id)

    def mute(self, shard_id: str) -> None:
        """The live subscription stays open and silent."""
        self._live[shard_id].mute = True

    def refuse(self, times: int) -> None:
        """The next `times` subscriptions fail."""
        self.refused = times

    @property
    def live(self) -> set[str]:
        """Shards that somebody is subscribed to."""
        return {shard_id for shard_id, live in self._live.items() if not live.over}

    async def shards(self) -> list[Shard]:
        return [kept.shard for kept in self._shards.values()]

    @asynccontextmanager
    async def subscribe(self, shard_id: str, position: str) -> AsyncIterator[AsyncIterator[Delivery]]:
        if self.refused:
            self.refused -= 1
            raise SubscriptionLost("refused on purpose")
        if shard_id not in self._shards:
            raise SubscriptionLost(f"there is no {shard_id}")
        before = self._live.get(shard_id)
        if before is not None:
            if self.clock() < before.started_at + GUARD_SECONDS:
                raise ShardBusy(f"{shard_id} was subscribed to less than {GUARD_SECONDS:.0f} s ago")
            before.over = True
            before.changed.set()
        live = self._live[shard_id] = _Live(self.clock())
        yield self._pushed(self._shards[shard_id], live, 0 if position == TRIM_HORIZON else int(position))

    async def _pushed(self, kept: _MemoryShard, live: _Live, after: int) -> AsyncIterator[Delivery]:
        ends_at = live.started_at + LIFE_SECONDS
        while not live.over and self.clock() < ends_at:
            live.changed.clear()
            waiting = [record for record in kept.records if int(record.sequence_number) > after]
            batch = tuple(waiting[: self.delivery_records_max])
            after = int(batch[-1].sequence_number) if batch else after
            at_end = kept.closed and len(batch) == len(waiting)
            if live.mute:
                await asyncio.Event().wait()
            yield Delivery(batch, None if at_end else str(after), 0.0)
            if at_end:
                return
            if len(batch) == len(waiting):
                await _either(live.changed, min(HEARTBEAT_SECONDS, ends_at - self.clock()))

    def _close(self, shard_id: str) -> None:
        self._shards[shard_id].closed = True
        self._changed(shard_id)

    def _changed(self, shard_id: str) -> None:
        if shard_id in self._live:
            self._live[shard_id].changed.set()


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
