"""Writing records to Kinesis until each is confirmed or the deadline is there.

    records ─► one attempt ─► confirmed: done
                   ▲       └► not: jitter, budget, deadline ─► only those again

Rules. Only the failed records are tried again (TRAPS 1); the records stay the caller's until it has the outcomes, nothing is
moved out first (TRAPS 6); every failed attempt advances time (TRAPS 7); the deadline is on a monotonic clock and bounds the last
attempt too (TRAPS 4). A timeout after success writes twice: events carry their ids for that (TRAPS 3). Order between records is
not kept (TRAPS 2): who needs it keeps one record per slice in flight, as `group_commit` does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from pipeline.event import Record
from pipeline.streams.aws import BotocoreAccess
from pipeline.streams.put_records import PutRecords
from pipeline.streams.retry import Backoff, Clock, RetryBudget
from pipeline.streams.sink import NotWritten, Outcome, Sink, Written, attempt
from telemetry.metrics import Metrics

ATTEMPT_SECONDS_MAX = 3.0


class KinesisWriter:
    """A Sink that retries over a Sink of single attempts."""

    def __init__(
        self,
        once: Sink,
        *,
        budget: RetryBudget,
        random: Random,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff = Backoff(),  # noqa: B008
        attempt_seconds_max: float = ATTEMPT_SECONDS_MAX,
    ) -> None:
        self._once = once
        self._budget, self._backoff, self._random = budget, backoff, random
        self._clock, self._sleep = clock, sleep
        self._attempt_seconds_max = attempt_seconds_max

    @classmethod
    def to(cls, stream: str, region: str, metrics: Metrics) -> "KinesisWriter":
        """A writer to a stream of the AWS that the environment names. Connects at the first write."""
        clock = time.monotonic
        once = PutRecords(stream, BotocoreAccess("kinesis", region), metrics, clock=clock)
        return cls(once, budget=RetryBudget(clock), random=Random(), clock=clock)

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        ends = self._clock() + deadline_seconds
        outcomes: list[Outcome] = [NotWritten("deadline")] * len(records)
        missing, failures = list(range(len(records))), 0
        while missing and (left := ends - self._clock()) > 0:
            answers = await attempt(self._once, [records[index] for index in missing], min(left, self._attempt_seconds_max))
            for index, answer in zip(missing, answers, strict=True):
                outcomes[index] = answer
            written = sum(isinstance(answer, Written) for answer in answers)
            self._budget.succeeded(written)
            missing = [index for index in missing if not isinstance(outcomes[index], Written)]
            failures = 1 if written else failures + 1
            delay = self._backoff.delay_seconds(failures, self._random)
            if not missing or self._clock() + delay >= ends or not self._budget.spend():
                break
            await self._sleep(delay)
        return outcomes

    async def close(self) -> None:
        close = getattr(self._once, "close", None)
        if close is not None:
            await close()
