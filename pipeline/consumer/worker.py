"""One worker: takes its share of a stream's shards, reads them, keeps their leases alive, and gives them back when told to stop.

Rules
- Every worker decides for itself from the lease table (plan.py); the conditional write decides between two that want the same.
- A shard that stops is released and left alone by this worker for a growing while; another worker may take it at once.
- A store that is away stops no process: the round is tried again (TRAPS 12). A fault of the consumer's own code does.
- A lease that could not be renewed for its whole time is no longer believed, whatever the table may say (TRAPS 16).
- Draining: deliveries in hand are finished and checkpointed within a budget, the rest is given up, every lease is released.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.consumer.lease import Lease, Leases
from pipeline.consumer.plan import Watch, forgotten, missing, readable, to_take, vanished
from pipeline.consumer.reader import Bounds, Happening, Journal, ShardReader, ShardStopped
from pipeline.consumer.stream import Bury, Processor, Shard, Stream
from pipeline.consumer.subscription import Subscribing
from pipeline.errors import LeaseLost, Retryable


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a worker looks, renews and gives up."""

    # A lease that its owner has not renewed for so long is free.
    lease_seconds: float = 10.0
    renew_seconds: float = 3.0
    round_seconds: float = 2.0
    # How long a list of shards is good for, unless a shard ends.
    shards_seconds: float = 10.0
    # After a failure a shard is left alone for 1, 2, 4 ... seconds, at most so many.
    avoid_seconds_max: float = 30.0
    # From the signal to the last release; shorter than the kill that follows it (ECS: 30 s, TRAPS 11).
    drain_seconds: float = 20.0


@dataclass
class _Held:
    reader: ShardReader
    renewed_at: float
    task: "asyncio.Task[None]" = field(init=False)
    lost: bool = False


@dataclass
class Worker:
    """`name` is unique among all incarnations of all workers of the application."""

    name: str
    stream: Stream
    leases: Leases
    processor: Processor
    bury: Bury
    journal: Journal
    clock: Callable[[], float]
    random: Callable[[], float]
    bounds: Bounds = field(default_factory=Bounds)
    pace: Pace = field(default_factory=Pace)
    subscribing: Subscribing | None = None
    _held: dict[str, _Held] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _avoid_until: dict[str, float] = field(default_factory=dict)
    _shards: list[Shard] = field(default_factory=list)
    _shards_until: float = float("-inf")
    _vanished: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._watch = Watch(self.pace.lease_seconds)
        self._wake = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set, then drain. Raises what a fault of the consumer's own code raised."""
        renewing = asyncio.create_task(self._renew_all())
        stopped = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                try:
                    self._reap(renewing)
                    await self._round()
                except Retryable as exc:
                    self.journal(Happening("blind", "", detail=f"{type(exc).__name__}: {exc}"))
                await self._pause(stopped)
            await self._drain()
        finally:
            for task in [renewing, stopped, *(held.task for held in self._held.values())]:
                task.cancel()

    async def _pause(self, stopped: "asyncio.Task[bool]") -> None:
        """Until the next round is due, a shard has ended, or it is time to stop."""
        self._wake.clear()
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait({woken, stopped}, timeout=self.pace.round_seconds, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()

    async def _round(self) -> None:
        shards = await self._listed()
        leases = await self.leases.all()
        unknown = missing(shards, leases)
        for shard_id in unknown:
            await self.leases.create(shard_id)
        for lease in forgotten(shards, leases):
            await self.leases.delete(lease)
        self._mourn(vanished(shards, leases))
        self._hand_over(leases)
        if unknown:
            leases = await self.leases.all()
        now = self.clock()
        # What the table calls ours and no reader of ours holds: a reply to a take, or to a release, was lost.
        stray = {lease.shard_id for lease in leases if lease.owner == self.name and lease.shard_id not in self._held}
        free = (self._watch.expired(leases, now) | stray) - set(self._held)
        avoid = {shard_id for shard_id, until in self._avoid_until.items() if now < until}
        for lease in to_take(readable(shards, leases), self.name, free, avoid):
            taken = await self.leases.take(lease, self.name)
            if taken is not None and lease.shard_id not in self._held:
                self._start(taken)

    async def _listed(self) -> list[Shard]:
        if self.clock() >= self._shards_until:
            self._shards = await self.stream.shards()
            self._shards_until = self.clock() + self.pace.shards_seconds
        return self._shards

    def _mourn(self, gone: list[Lease]) -> None:
        """Say once of each shard that retention took it before it was read."""
        for lease in gone:
            if lease.shard_id not in self._vanished:
                self._vanished.add(lease.shard_id)
                self.journal(Happening("vanished", lease.shard_id, lease.checkpoint))

    def _hand_over(self, leases: list[Lease]) -> None:
        """Forget the failures of shards that are another worker's matter now, or nobody's."""
        known = {lease.shard_id: lease for lease in leases}
        for shard_id in list(self._failures):
            lease = known.get(shard_id)
            if lease is None or lease.ended or lease.owner not in ("", self.name):
                del self._failures[shard_id]
                self.journal(Happening("handed_over", shard_id))

    def _start(self, lease: Lease) -> None:
        subscribing = self.subscribing or Subscribing(self.clock, self.random)
        reader = ShardReader(
            self.stream, self.leases, lease, self.processor, self.bury, self.journal, subscribing, self.bounds,
            believed=lambda: self.clock() - held.renewed_at < self.pace.lease_seconds,
        )  # fmt: skip
        held = _Held(reader, self.clock())
        self.journal(Happening("taken", lease.shard_id, lease.checkpoint))
        self._held[lease.shard_id] = held
        held.task = asyncio.create_task(self._read(held), name=lease.shard_id)

    async def _read(self, held: _Held) -> None:
        """Run one reader and tidy up after it, whatever ended it."""
        reader, shard_id, forgive = held.reader, held.reader.lease.shard_id, True
        try:
            await reader.run()
        except LeaseLost:
            held.lost = True
        except ShardStopped as exc:
            forgive = exc.forgive
            self._leave_alone(reader, exc.kind, str(exc))
        except Retryable as exc:
            self._leave_alone(reader, "unavailable", str(exc))
        except asyncio.CancelledError:
            pass  # by the drain or by a lost lease: in both cases only the release is left to do
        else:
            if not reader.draining:
                self._shards_until = float("-inf")  # there are children now
                self.journal(Happening("ended", shard_id))
        if held.lost:
            self.journal(Happening("lost", shard_id))
        else:
            await self._release(reader, forgive=forgive)
        self._held.pop(shard_id, None)
        self._wake.set()

    def _leave_alone(self, reader: ShardReader, kind: str, text: str) -> None:
        shard_id = reader.lease.shard_id
        failures = 1 if reader.progressed else self._failures.get(shard_id, 0) + 1
        self._failures[shard_id] = failures
        longest = min(self.pace.avoid_seconds_max, float(2 ** min(failures - 1, 10)))
        self._avoid_until[shard_id] = self.clock() + longest * (0.5 + self.random() / 2)
        self.journal(Happening("stopped", shard_id, kind, detail=text))

    async def _release(self, reader: ShardReader, *, forgive: bool) -> None:
        shard_id = reader.lease.shard_id
        try:
            await self.leases.release(reader.lease, forgive=forgive)
        except (LeaseLost, Retryable) as exc:  # then it expires by itself
            self.journal(Happening("lost", shard_id, detail=str(exc)))
        else:
            self.journal(Happening("released", shard_id))

    def _reap(self, renewing: "asyncio.Task[None]") -> None:
        """A task that died of its own code takes the process with it: nobody else would notice."""
        for task in [renewing, *(held.task for held in self._held.values())]:
            if task.done():
                task.result()

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(self.pace.renew_seconds)
            await asyncio.gather(*(self._renew(held) for held in list(self._held.values())))

    async def _renew(self, held: _Held) -> None:
        asked_at = self.clock()
        try:
            await self.leases.renew(held.reader.lease)
        except LeaseLost:
            held.lost = True
            held.task.cancel()
        except Retryable as exc:
            self.journal(Happening("blind", held.reader.lease.shard_id, detail=f"{type(exc).__name__}: {exc}"))
        else:
            held.renewed_at = asked_at

    async def _drain(self) -> None:
        tasks = [held.task for held in self._held.values()]
        for held in self._held.values():
            held.reader.draining = True
            if not held.reader.busy:
                held.task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.pace.drain_seconds)
            for task in late:
                task.cancel()
            for ending in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ending, Exception):
                    raise ending
