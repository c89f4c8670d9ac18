"""Deliveries of one shard without an end: what a subscription's five minutes, silence and refusals look like is hidden here.

Rules (TRAPS 15)
- A subscription that ends is taken up again after its last continuation; nothing is skipped and nothing is asked for twice.
- 35 s without any delivery, heartbeats included, means that the other side is gone without a word: subscribe again. Time spent
  on processing does not count as silence.
- Before each subscription the caller proves that the shard is still its own: a subscription by a zombie would end the new
  owner's.
- The number of failures in a row is bounded; then `SubscriptionLost` is the caller's.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from pipeline.consumer.plan import Patience, subscribe_after_seconds
from pipeline.consumer.stream import Delivery, ShardBusy, Stream, SubscriptionLost


@dataclass(frozen=True, slots=True)
class Subscribing:
    """How a reader subscribes. Silence: idle shards send a heartbeat every five seconds, so 35 s is seven of them missed."""

    clock: Callable[[], float]
    random: Callable[[], float]
    silence_seconds_max: float = 35.0
    patience: Patience = field(default_factory=Patience)


async def deliveries(
    stream: Stream,
    shard_id: str,
    position: str,
    how: Subscribing,
    *,
    prove_mine: Callable[[], Awaitable[None]],
    journal: Callable[[str, str], None],
) -> AsyncGenerator[Delivery, None]:
    """Every delivery after `position` up to the shard's end.

    Raises:
        SubscriptionLost: too many failures in a row.
        LeaseLost: from `prove_mine`.
    """
    failures = 0
    subscribed_at: float | None = None
    lost = SubscriptionLost(f"{shard_id}: no subscription")
    while True:
        wait_seconds = subscribe_after_seconds(how.patience, how.clock(), subscribed_at, failures, how.random)
        if wait_seconds is None:
            raise lost
        await asyncio.sleep(wait_seconds)
        await prove_mine()
        # A subscription that brings nothing, not even a heartbeat, is one more failure, however politely it ends.
        lost, failures = SubscriptionLost(f"{shard_id}: subscriptions end without a delivery"), failures + 1
        try:
            async with stream.subscribe(shard_id, position) as pushed:
                subscribed_at = how.clock()
                journal("subscribed", position)
                while (delivery := await _next(pushed, how.silence_seconds_max)) is not None:
                    failures = 0
                    yield delivery
                    if delivery.continuation is None:
                        return
                    position = delivery.continuation
        except ShardBusy as exc:
            lost = exc
            failures = max(failures, 1)
            journal("busy", position)
        except SubscriptionLost as exc:
            lost = exc
            failures = max(failures, 1)
            journal("subscription_lost", position)
        else:
            journal("subscription_ended", position)


async def _next(pushed: AsyncIterator[Delivery], silence_seconds_max: float) -> Delivery | None:
    try:
        async with asyncio.timeout(silence_seconds_max):
            return await anext(pushed, None)
    except TimeoutError as exc:
        raise SubscriptionLost(f"no event for {silence_seconds_max:.0f} s, not even a heartbeat") from exc
