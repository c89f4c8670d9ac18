"""The port through which a stream is read.

Rules. A delivery's `continuation` is where to go on after it; None says that the shard has ended: it was split or merged and all
of it has been delivered. Records of a delivery follow each other in the order of the shard. What goes wrong with a subscription
is a `SubscriptionLost`, and never an error of what the records were for.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import Unavailable
from pipeline.event import StoredRecord

TRIM_HORIZON = "TRIM_HORIZON"
SHARD_END = "SHARD_END"


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that the stream still lists. `parents` may name shards that it lists no more."""

    shard_id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one push of a subscription brought; empty ones are heartbeats."""

    records: tuple[StoredRecord, ...]
    continuation: str | None
    behind_seconds: float


class SubscriptionLost(Unavailable):
    """The subscription could not be had, or broke off."""


class ShardBusy(SubscriptionLost):
    """ResourceInUse: this consumer subscribed to this shard less than five seconds ago."""


class Stream(Protocol):
    name: str

    async def shards(self) -> list[Shard]:
        """Every shard with records left to read, closed ones too. Raises: Retryable."""
        ...

    def subscribe(self, shard_id: str, position: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Deliveries after `position` (a sequence number or TRIM_HORIZON), until the subscription ends.

        Raises:
            SubscriptionLost: on entering or on any step.
        """
        ...


class Processor(Protocol):
    async def process(self, records: Sequence[StoredRecord]) -> None:
        """Store downstream what these records hold; when it returns, all of it is stored (TRAPS 13).

        May see the same records again. Raises Retryable if the other side is at fault, any other `Permanent` if a person must
        mend something; whatever else it raises is taken for the records' own fault.
        """
        ...


class Bury(Protocol):
    def __call__(self, record: StoredRecord, reason: str, detail: str) -> Awaitable[None]:
        """Keep the whole record in the dead letters. Raises if it could not be kept: then the shard stops (TRAPS 17)."""
        ...
