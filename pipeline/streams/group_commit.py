"""The loop that writes what concurrent requests have queued, together.

    submit ─► lanes ─► at most `calls_max` calls in flight ─► each request's account ─► its waiter

Rules. Nothing lingers: a call starts as soon as one may and takes all that is ready, so batches grow with load and latency
does not without it. Who waits for a request may leave; the write goes on and the account is settled all the same (TRAPS 8).
Whatever becomes of a call, its lanes come back. The waits are bounded by the requests' deadlines and the calls' own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pipeline.streams.batching import Batch, Lanes, Origin, Request
from pipeline.streams.retry import Clock
from pipeline.streams.sink import NotWritten, Outcome, Sink, attempt
from telemetry.tracing import Trace

_DIED = NotWritten("the writer failed")


class GroupCommit:
    """Takes requests of one event loop; `sink` makes one attempt a call (`PutRecords`), the lanes retry."""

    def __init__(
        self,
        sink: Sink,
        lanes: Lanes,
        *,
        clock: Clock,
        clock_micros: Callable[[], int],
        calls_max: int = 4,
        attempt_seconds_max: float = 3.0,
    ) -> None:
        self._sink, self._lanes = sink, lanes
        self._clock, self._clock_micros = clock, clock_micros
        self._calls_max, self._attempt_seconds_max = calls_max, attempt_seconds_max
        self._calls: set[asyncio.Task[None]] = set()
        self._pump_is_due = False
        self._alarm: asyncio.TimerHandle | None = None

    def submit(
        self,
        origin: Origin,
        slices: Sequence[int],
        encoded: Sequence[bytes],
        *,
        deadline_seconds: float,
        on_settled: Callable[[Request], None],
        traces: Mapping[int, Trace] | None = None,
    ) -> Request:
        """Queue the events of one request. `on_settled` gets its outcomes, by position, once all are known.

        `traces` are those of its events that are traced, by position.
        """
        request = Request(origin, len(encoded), self._clock() + deadline_seconds, on_settled, traces)
        if not encoded:
            on_settled(request)
            return request
        self._lanes.put(request, slices, encoded)
        self._pump_soon()
        return request

    async def drain(self, budget_seconds: float) -> int:
        """Write what is queued within the budget, then give up the rest; how many events were given up."""
        ends = self._clock() + budget_seconds
        while not self._lanes.empty and (left := ends - self._clock()) > 0:
            self._pump()
            if self._calls:
                await asyncio.wait(self._calls, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                wake_at = self._lanes.wake_at() or self._clock()
                await asyncio.sleep(min(left, max(0.001, wake_at - self._clock())))
        lost = self._lanes.give_up()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        lost += self._lanes.give_up()
        if self._alarm is not None:
            self._alarm.cancel()
        return lost

    def _pump_soon(self) -> None:
        """Once per turn of the loop, so that all requests of this turn go together."""
        if not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_due = False
        while len(self._calls) < self._calls_max:
            batches = self._lanes.take(self._clock(), self._clock_micros())
            if not batches:
                break
            call = asyncio.get_running_loop().create_task(self._write(batches))
            self._calls.add(call)
            call.add_done_callback(self._ended)
        self._set_alarm()

    async def _write(self, batches: Sequence[Batch]) -> None:
        outcomes: Sequence[Outcome] = [_DIED] * len(batches)
        try:
            outcomes = await attempt(self._sink, [batch.record for batch in batches], self._attempt_seconds_max)
        finally:
            now = self._clock()
            for batch, outcome in zip(batches, outcomes, strict=True):
                self._lanes.settle(batch, outcome, now)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            # A sink does not raise for a record's fate, so this is a fault of ours: the lanes retry, the loop's handler logs.
            asyncio.get_running_loop().call_exception_handler({"message": "a write failed", "exception": error})
        self._pump_soon()

    def _set_alarm(self) -> None:
        """Wake up for the lanes that rest after a failure."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wake_at = self._lanes.wake_at()
        if wake_at is not None and len(self._calls) < self._calls_max:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, wake_at - self._clock()), self._pump)
