"""Leases and checkpoints: who reads a shard, how far it is stored downstream, and what it crashed on.

Rules
- A lease's `counter` goes up each time somebody takes it, and is the fence: every later write names the counter it was taken
  with, so a worker that slept through its expiry can neither renew nor checkpoint (TRAPS 16).
- `heartbeat` goes up with every write of the owner. A lease whose (counter, heartbeat) has not changed for the lease time, on
  the watcher's own clock, has expired: no clocks are compared.
- `takes` counts how often the lease was taken since the checkpoint last moved. Taking comes before processing, so a crash of the
  whole process is counted without a write of its own. Only `forgive` on release takes it back: an outage is no one's poison.
- `trial` is the range of records about to be tried, written before they are, once the shard is suspected of poison.
- A checkpoint clears both, and so does a release that forgives.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

from pipeline.consumer.stream import SHARD_END, TRIM_HORIZON
from pipeline.errors import LeaseLost


@dataclass(frozen=True, slots=True)
class Trial:
    """Records `first` up to `last` (sequence numbers) have been tried `tries` times."""

    first: str
    last: str
    tries: int


@dataclass(frozen=True, slots=True)
class Lease:
    """One shard's lease as it was read or taken. `owner` is empty if nobody's."""

    shard_id: str
    owner: str = ""
    counter: int = 0
    heartbeat: int = 0
    checkpoint: str = TRIM_HORIZON
    takes: int = 0
    trial: Trial | None = None

    @property
    def ended(self) -> bool:
        return self.checkpoint == SHARD_END


class Leases(Protocol):
    """The leases of one application on one stream. Everything may raise Retryable."""

    async def all(self) -> list[Lease]: ...

    async def create(self, shard_id: str) -> None:
        """Make the shard known, unread. Nothing happens if it is."""
        ...

    async def take(self, seen: Lease, owner: str) -> Lease | None:
        """Take a lease if it still is as it was seen; None: somebody was faster."""
        ...

    async def renew(self, held: Lease) -> None:
        """Raises: LeaseLost."""
        ...

    async def checkpoint(self, held: Lease, position: str) -> None:
        """Everything up to `position` is stored downstream. Raises: LeaseLost."""
        ...

    async def note(self, held: Lease, trial: Trial) -> None:
        """These records are about to be tried. Raises: LeaseLost."""
        ...

    async def release(self, held: Lease, *, forgive: bool) -> None:
        """Give the lease up. Raises: LeaseLost."""
        ...

    async def delete(self, seen: Lease) -> None:
        """Forget an ended lease whose shard is gone. Nothing happens if it is not ended."""
        ...


@dataclass
class MemoryLeases:
    """Leases in this process: shared by the workers of a test."""

    items: dict[str, Lease] = field(default_factory=dict)

    async def all(self) -> list[Lease]:
        return list(self.items.values())

    async def create(self, shard_id: str) -> None:
        self.items.setdefault(shard_id, Lease(shard_id))

    async def take(self, seen: Lease, owner: str) -> Lease | None:
        now = self.items.get(seen.shard_id)
        if now is None or (now.counter, now.heartbeat) != (seen.counter, seen.heartbeat):
            return None
        taken = replace(now, owner=owner, counter=now.counter + 1, heartbeat=now.heartbeat + 1, takes=now.takes + 1)
        self.items[seen.shard_id] = taken
        return taken

    async def renew(self, held: Lease) -> None:
        self._keep(self._mine(held))

    async def checkpoint(self, held: Lease, position: str) -> None:
        self._keep(replace(self._mine(held), checkpoint=position, takes=0, trial=None))

    async def note(self, held: Lease, trial: Trial) -> None:
        self._keep(replace(self._mine(held), trial=trial))

    async def release(self, held: Lease, *, forgive: bool) -> None:
        mine = self._mine(held)
        self._keep(replace(mine, owner="", takes=0, trial=None) if forgive else replace(mine, owner=""))

    async def delete(self, seen: Lease) -> None:
        if seen.shard_id in self.items and self.items[seen.shard_id].ended:
            del self.items[seen.shard_id]

    def _mine(self, held: Lease) -> Lease:
        now = self.items.get(held.shard_id)
        if now is None or (now.owner, now.counter) != (held.owner, held.counter):
            raise LeaseLost(f"{held.shard_id} was taken from {held.owner}")
        return now

    def _keep(self, lease: Lease) -> None:
        self.items[lease.shard_id] = replace(lease, heartbeat=lease.heartbeat + 1)
