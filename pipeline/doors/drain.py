"""How a door stops, in the order that loses nothing (TRAPS 11).

    not ready ─► wait for the balancer ─► stop accepting ─► finish what is in flight ─► flush ─► exit 0

The balancer's wait and the budget together stay below the kill (ECS: 30 s). Requests are still taken during the wait: a
balancer that has not noticed yet is answered, not refused.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.streams.retry import Clock
from telemetry.log import Logger

# Left for the flush even when requests have used up the budget.
FLUSH_SECONDS_MIN = 1.0


class Door(Protocol):
    async def fail_readiness(self) -> None: ...

    async def stop_accepting(self, budget_seconds: float) -> None:
        """Refuse new work, finish what is in flight, return within the budget."""
        ...


class Queue(Protocol):
    async def drain(self, budget_seconds: float) -> int:
        """Write what is queued; how many events had to be given up."""
        ...


async def drain(
    door: Door,
    queue: Queue,
    *,
    set_ready: Callable[[bool], None],
    wait_seconds: float,
    budget_seconds: float,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]],
    log: Logger,
) -> None:
    log.info("draining: not ready", wait_seconds=wait_seconds, budget_seconds=budget_seconds)
    set_ready(False)
    await door.fail_readiness()
    await sleep(wait_seconds)
    ends = clock() + budget_seconds
    log.info("draining: no new connections")
    await door.stop_accepting(budget_seconds - FLUSH_SECONDS_MIN)
    given_up = await queue.drain(max(FLUSH_SECONDS_MIN, ends - clock()))
    log.info("drained", events_given_up=given_up)
