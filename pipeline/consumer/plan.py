"""What a worker decides, as pure functions: values in, values out, no clock and no I/O.

- Readable: a shard is read once every parent that is still listed has been read to its end, both parents of a merge (TRAPS 14).
- Taking: a worker takes what nobody holds or what has expired until it has its share, rounded up; if it holds less and nothing
  is free, it takes one lease a round from the worker with the most, if that one would still have no fewer than itself.
- Subscribing again: at once when five minutes are over; not within five seconds of the last success (TRAPS 15); with full
  jitter after failures; and not at all after a bounded number of them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.consumer.lease import Lease
from pipeline.consumer.stream import Shard

# A second SubscribeToShard within this time of a successful one is refused. Source: SubscribeToShard, API Reference.
GUARD_SECONDS = 5.0


def missing(shards: Iterable[Shard], leases: Iterable[Lease]) -> list[str]:
    """Shards that have no lease yet."""
    known = {lease.shard_id for lease in leases}
    return [shard.shard_id for shard in shards if shard.shard_id not in known]


def forgotten(shards: Iterable[Shard], leases: Iterable[Lease]) -> list[Lease]:
    """Ended leases of shards that the stream lists no more."""
    listed = {shard.shard_id for shard in shards}
    return [lease for lease in leases if lease.ended and lease.shard_id not in listed]


def vanished(shards: Iterable[Shard], leases: Iterable[Lease]) -> list[Lease]:
    """Leases of shards that the stream lists no more and that were never read to their end: retention was faster."""
    listed = {shard.shard_id for shard in shards}
    return [lease for lease in leases if not lease.ended and lease.shard_id not in listed]


def readable(shards: Sequence[Shard], leases: Iterable[Lease]) -> list[Lease]:
    """Leases of listed shards that may be read now, in the order of the shards."""
    by_id = {lease.shard_id: lease for lease in leases}
    listed = {shard.shard_id for shard in shards}

    def drained(parent: str) -> bool:
        return parent not in listed or (parent in by_id and by_id[parent].ended)

    return [
        by_id[shard.shard_id]
        for shard in shards
        if shard.shard_id in by_id and not by_id[shard.shard_id].ended and all(map(drained, shard.parents))
    ]


def to_take(leases: Sequence[Lease], me: str, expired: Collection[str], avoid: Collection[str] = ()) -> list[Lease]:
    """What this worker should take now.

    `leases` are the readable ones; `expired` names shards whose owner is silent; `avoid` names shards that this worker has just
    given up because they failed.
    """
    free = [lease for lease in leases if not lease.owner or lease.shard_id in expired]
    held = Counter(lease.owner for lease in leases if lease.owner and lease.shard_id not in expired)
    mine = held.pop(me, 0)
    share = -(-len(leases) // (len(held) + 1))
    wanted = [lease for lease in free if lease.shard_id not in avoid][: max(0, share - mine)]
    if wanted or free or mine >= share or not held:
        return wanted
    richest = max(sorted(held), key=lambda owner: held[owner])
    if held[richest] - mine < 2:
        return []
    # Taking a lease in the middle of a trial would count as one more crash.
    return [lease for lease in leases if lease.owner == richest and lease.trial is None and lease.shard_id not in avoid][:1]


@dataclass
class Watch:
    """Which leases have stopped moving, by this worker's own clock."""

    lease_seconds: float
    seen: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)

    def expired(self, leases: Iterable[Lease], now_seconds: float) -> set[str]:
        """Shards whose owned lease has not changed for `lease_seconds`."""
        current: dict[str, tuple[tuple[int, int], float]] = {}
        for lease in leases:
            mark = (lease.counter, lease.heartbeat)
            before = self.seen.get(lease.shard_id)
            current[lease.shard_id] = before if before is not None and before[0] == mark else (mark, now_seconds)
        self.seen = current
        owned = {lease.shard_id for lease in leases if lease.owner}
        return {shard for shard, (_, since) in current.items() if shard in owned and now_seconds - since >= self.lease_seconds}


@dataclass(frozen=True, slots=True)
class Patience:
    """How a lost subscription is got back."""

    # Failures in a row, without a delivery between, after which the shard is given up for now.
    failures_max: int = 8
    base_seconds: float = 0.2
    wait_seconds_max: float = 5.0


def subscribe_after_seconds(
    patience: Patience, now_seconds: float, subscribed_at_seconds: float | None, failures: int, random: Callable[[], float]
) -> float | None:
    """How long to wait before subscribing again; None: give the shard up. `failures`: in a row, 0 after a normal end."""
    if failures > patience.failures_max:
        return None
    guard = 0.0 if subscribed_at_seconds is None else max(0.0, subscribed_at_seconds + GUARD_SECONDS - now_seconds)
    if failures == 0:
        return guard
    # Somebody else's subscription may be the one that guards the shard, so wait on beyond our own guard as well.
    return guard + random() * min(patience.wait_seconds_max, patience.base_seconds * float(2**failures))
