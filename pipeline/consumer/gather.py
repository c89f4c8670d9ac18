"""What was pushed while a batch was in hand is taken together: the next batch.

A subscription pushes small deliveries as records come in, and each batch costs a round of downstream writes and a checkpoint. So
batches grow with the load by themselves, and an idle shard waits for nothing. The bytes held are bounded; past that nothing is
read from the subscription, and the other side waits. Order is kept, and a failure is told after what came before it.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from pipeline.consumer.stream import Delivery

HELD_BYTES_MAX = 4 * 1024 * 1024


async def gathered(
    pushed: AsyncGenerator[Delivery, None], held_bytes_max: int = HELD_BYTES_MAX
) -> AsyncGenerator[Delivery, None]:
    """The same records and the same end, in fewer deliveries. Closes `pushed` behind it."""
    waiting: list[Delivery] = []
    held_bytes = 0
    changed, room = asyncio.Event(), asyncio.Event()

    async def pump() -> None:
        nonlocal held_bytes
        async for delivery in pushed:
            waiting.append(delivery)
            held_bytes += sum(len(record.data) for record in delivery.records)
            changed.set()
            while held_bytes >= held_bytes_max:
                room.clear()
                await room.wait()

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(lambda _: changed.set())
    try:
        while True:
            await changed.wait()
            changed.clear()
            if waiting:
                batch = _joined(waiting)
                waiting.clear()
                held_bytes = 0
                room.set()
                yield batch
            if pumping.done() and not waiting:
                pumping.result()
                return
            if waiting or pumping.done():
                changed.set()
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
        await pushed.aclose()


def _joined(deliveries: Sequence[Delivery]) -> Delivery:
    records = tuple(record for delivery in deliveries for record in delivery.records)
    return Delivery(records, deliveries[-1].continuation, deliveries[-1].behind_seconds)
