"""One shard, read to its end or until something stops it.

The path of a delivery, in `ShardReader.run`: subscribe, deliver, checkpoint; the checkpoint is the last line, and outside of
every `try` (TRAPS 13). What becomes of a failure is decided by its type alone:

    Retryable, OSError, MemoryError   an outage: tried again with back-off, a bounded number of times; then the shard stops
    LeaseLost                         somebody else reads it: stop at once, checkpoint nothing
    Permanent, but not InvalidEvent   a person must mend something (a key, a policy): the shard stops
    anything else                     the records' own fault: bisected, and the one at fault is buried (trials.py)

Never skipped: a record is behind the checkpoint only if it was processed or buried.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from pipeline.consumer.gather import gathered
from pipeline.consumer.lease import Lease, Leases
from pipeline.consumer.stream import SHARD_END, Bury, Delivery, Processor, Stream
from pipeline.consumer.subscription import Subscribing, deliveries
from pipeline.consumer.trials import Poison, next_step
from pipeline.errors import Corrupt, InvalidEvent, LeaseLost, Permanent, Retryable, SpillwayError
from pipeline.event import StoredRecord

What = Literal[
    "taken", "subscribed", "busy", "subscription_lost", "subscription_ended", "processed", "buried", "checkpointed",
    "failed", "stopped", "lost", "ended", "released", "vanished", "blind", "handed_over", "idle",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the journal. `position` is the sequence number it is about; `detail` an error's text."""

    what: What
    shard_id: str
    position: str = ""
    records: int = 0
    detail: str = ""
    behind_seconds: float = 0.0


Journal = Callable[[Happening], None]


class ShardStopped(SpillwayError):
    """This shard can't go on for now. `kind` is a metric's label; `forgive`: no record is to blame."""

    def __init__(self, kind: str, message: str, *, forgive: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.forgive = forgive


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often and how long a reader tries."""

    # An outage downstream is waited out this often before the shard is given up for now.
    retries_max: int = 5
    retry_base_seconds: float = 0.2
    retry_wait_seconds_max: float = 10.0
    # One call of the processor; longer counts as an outage.
    process_seconds_max: float = 120.0
    # Failures of one record alone before it is poison.
    tries_max: int = 3
    # Crashes of the process, without progress between them, before a shard is suspected of poison.
    takes_max: int = 3
    # So many poison records with no sound one between them are not the records' fault: stop and let a person look.
    poison_in_a_row_max: int = 10
    # How often the progress of an idle shard is written.
    idle_checkpoint_seconds: float = 60.0


@dataclass
class ShardReader:
    """Reads the shard of one held lease."""

    stream: Stream
    leases: Leases
    lease: Lease
    processor: Processor
    bury: Bury
    journal: Journal
    subscribing: Subscribing
    bounds: Bounds
    # Whether the lease was renewed recently enough to be believed.
    believed: Callable[[], bool] = lambda: True
    # True while records are in hand: a drain lets these be finished.
    busy: bool = False
    draining: bool = False
    progressed: bool = False
    _poison_in_a_row: int = 0
    _checkpointed_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._checkpointed_at = self.subscribing.clock()

    async def run(self) -> None:
        """Return at the shard's end, or, when draining, after the delivery in hand.

        Raises:
            LeaseLost, ShardStopped, Retryable.
        """
        shard_id, at = self.lease.shard_id, self.lease.checkpoint
        pushed = deliveries(self.stream, shard_id, at, self.subscribing, prove_mine=self._prove_mine, journal=self._said)
        async with aclosing(gathered(pushed)) as batches:
            async for delivery in batches:
                self.busy = True
                await self._deliver(delivery)
                await self._checkpoint(delivery)
                self.busy = False
                if self.draining:
                    return

    async def _deliver(self, delivery: Delivery) -> None:
        """Process all of it, or bury what can't be. Raises if neither is done."""
        remaining: Sequence[StoredRecord] = delivery.records
        failed = self.lease.trial
        suspected = failed is not None or self.lease.takes > self.bounds.takes_max
        while remaining:
            step = next_step(remaining, failed, self.bounds.tries_max)
            if isinstance(step, Poison):
                await self._bury(remaining[0], step)
                remaining, failed = remaining[1:], None
                continue
            if suspected:
                await self.leases.note(self.lease, step.trial)
            complaint = await self._attempt(remaining[: step.count])
            if complaint is not None:
                failed, suspected = step.trial, True
                self._say("failed", step.trial.first, step.count, complaint)
                await asyncio.sleep(self.subscribing.random() * self.bounds.retry_base_seconds)
                continue
            self._say("processed", step.trial.last, step.count)
            self._poison_in_a_row = 0
            remaining = remaining[step.count :]
            if suspected and remaining:
                await self._advance(step.trial.last)
        if delivery.records:
            self.lease = _calm(self.lease)

    async def _attempt(self, records: Sequence[StoredRecord]) -> str | None:
        """None if processed; what is wrong if the records themselves are at fault. Raises for everything else."""
        for attempt in range(self.bounds.retries_max + 1):
            if not self.believed():
                raise LeaseLost(f"{self.lease.shard_id}: the lease could not be renewed in time")
            try:
                async with asyncio.timeout(self.bounds.process_seconds_max):
                    await self.processor.process(records)
            except (Retryable, OSError, MemoryError) as exc:  # TimeoutError is an OSError
                if attempt == self.bounds.retries_max or self.draining:
                    raise ShardStopped("downstream", f"{attempt + 1} tries failed: {_text(exc)}", forgive=True) from exc
                self._say("failed", records[0].sequence_number, len(records), _text(exc))
                await asyncio.sleep(self._wait_seconds(attempt, getattr(exc, "retry_after_seconds", None)))
            except (InvalidEvent, Corrupt) as exc:
                return _text(exc)
            except LeaseLost:
                raise
            except (ShardStopped, Permanent) as exc:
                raise ShardStopped("permanent", _text(exc), forgive=True) from exc
            except Exception as exc:  # noqa: BLE001 - a processor that breaks on a record is what poison means; it is bisected, never skipped
                return _text(exc)
            else:
                return None
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait_seconds(self, attempt: int, hint_seconds: float | None) -> float:
        longest = min(self.bounds.retry_wait_seconds_max, self.bounds.retry_base_seconds * float(2**attempt))
        return min(hint_seconds or 0.0, self.bounds.retry_wait_seconds_max) + self.subscribing.random() * longest

    async def _bury(self, record: StoredRecord, poison: Poison) -> None:
        if self._poison_in_a_row >= self.bounds.poison_in_a_row_max:
            raise ShardStopped(
                "poison", f"{self._poison_in_a_row} poison records in a row: look for the fault here", forgive=True
            )
        await self.bury(record, "poison", f"the {self.bounds.tries_max} last tries of this record alone failed")
        self._poison_in_a_row += 1
        self._say("buried", record.sequence_number, 1)
        await self._advance(record.sequence_number)

    async def _checkpoint(self, delivery: Delivery) -> None:
        position = SHARD_END if delivery.continuation is None else delivery.continuation
        idle = not delivery.records and position != SHARD_END
        now_seconds = self.subscribing.clock()
        if idle and now_seconds - self._checkpointed_at < self.bounds.idle_checkpoint_seconds:
            self.journal(Happening("idle", self.lease.shard_id, position, behind_seconds=delivery.behind_seconds))
            return
        await self._advance(position, len(delivery.records), delivery.behind_seconds)

    async def _advance(self, position: str, records: int = 0, behind_seconds: float = 0.0) -> None:
        await self.leases.checkpoint(self.lease, position)
        self._checkpointed_at, self.progressed = self.subscribing.clock(), True
        self.journal(Happening("checkpointed", self.lease.shard_id, position, records, behind_seconds=behind_seconds))

    async def _prove_mine(self) -> None:
        await self.leases.renew(self.lease)

    def _said(self, what: str, position: str) -> None:
        self.journal(Happening(what, self.lease.shard_id, position))  # type: ignore[arg-type]  # the subscription's words are ours

    def _say(self, what: What, position: str, records: int = 0, detail: str = "") -> None:
        self.journal(Happening(what, self.lease.shard_id, position, records, detail))


def _calm(lease: Lease) -> Lease:
    """The lease as its holder sees it after a delivery: nothing is suspected any more. The fence is unchanged."""
    return Lease(lease.shard_id, lease.owner, lease.counter, lease.heartbeat, lease.checkpoint)


def _text(exc: BaseException) -> str:
    """An error for a log line: its type, and its words only if they are ours and so hold no payload."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, SpillwayError) else type(exc).__name__
