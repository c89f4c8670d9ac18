"""PublishStream: events as they come, cumulative acknowledgements.

    read ─► decide ─► queue ─► window (in order) ─► answered through N

Rules. Sequences count up by one from 1. `answered_through` covers an event only when all before it have their final answer too.
The window is bounded in events and bytes; when it is full the door stops reading, and HTTP/2 holds the client back. The key is
looked at again for each event, so a revoked one ends the stream. Before its connection grows old, or when the process stops,
the stream ends by itself: all that was read is answered first, then UNAVAILABLE.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from grpc import aio

from pipeline.doors.accept import Decision
from pipeline.doors.collect import Answer, Caller, Collector, NotTaken, retry_problem
from pipeline.doors.grpc_status import rejection
from pipeline.doors.reasons import Reason, Status, reason_of
from pipeline.doors.settings import GrpcSettings
from pipeline.doors.wire import split_stream_request
from pipeline.errors import InvalidEvent
from pipeline.gen.spillway.v1 import collector_pb2
from pipeline.streams.batching import Request


@dataclass(slots=True)
class _Slot:
    """One event of the window: answered once `answer` is there."""

    sequence: int
    size: int
    # By `time.perf_counter`.
    began: float
    answer: Answer | None = None


class Stream:
    """One PublishStream call."""

    def __init__(
        self,
        collector: Collector,
        settings: GrpcSettings,
        context: Any,
        metadata: Callable[[], Mapping[str, str]],
        stopping: asyncio.Event,
    ) -> None:
        self._collector, self._settings, self._context = collector, settings, context
        self._metadata, self._stopping = metadata, stopping
        self._window: deque[_Slot] = deque()
        self._window_bytes = 0
        self._sequence = 0
        self._moved = asyncio.Event()  # a slot was answered, or reading ended
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> NotTaken | None:
        """Serve the call; what ended it, or None if the client was done and everything is answered."""
        reader = asyncio.create_task(self._read())
        stopper = asyncio.create_task(self._stopping.wait())
        age = asyncio.get_running_loop().call_later(self._settings.stream_seconds_max, reader.cancel)
        stopper.add_done_callback(lambda task: None if task.cancelled() else reader.cancel())
        reader.add_done_callback(lambda _: self._moved.set())
        try:
            while not (reader.done() and not self._window):
                await self._moved.wait()
                self._moved.clear()
                await self._answer()
        finally:
            age.cancel()
            stopper.cancel()
            reader.cancel()
        if reader.cancelled():
            return NotTaken(Reason.DRAINING, "this stream has ended: open another one", retry_after_seconds=0.1)
        return reader.result()

    async def _read(self) -> NotTaken | None:
        try:
            self._collector.identify(self._metadata())
            while True:
                await self._room.wait()
                body = await self._context.read()
                if body is aio.EOF:  # type: ignore[attr-defined]
                    return None
                self._take(body, self._collector.identify(self._metadata()))
        except NotTaken as problem:
            return problem
        except InvalidEvent as exc:
            return NotTaken(reason_of(exc.reason), str(exc))

    def _take(self, body: bytes, caller: Caller) -> None:
        sequence, encoded = split_stream_request(body)
        if sequence != self._sequence + 1:
            raise NotTaken(Reason.MALFORMED_REQUEST, f"`sequence` counts up by one from 1: {self._sequence + 1} was expected")
        self._sequence = sequence
        collector, began = self._collector, time.perf_counter()
        slot = _Slot(sequence, len(body), began)
        self._window.append(slot)
        self._window_bytes += slot.size
        self._set_room()

        decisions: list[Decision] = []
        request: Request | None = None

        def answered(answer: Answer) -> None:
            slot.answer = answer
            self._moved.set()
            collector.told(caller, decisions, answer, began, request)

        try:
            hold = collector.admit(caller, len(body))
        except NotTaken as problem:
            collector.refused(problem)
            late = retry_problem(0, problem.reason, problem.retry_after_seconds or 1.0)
            slot.answer = Answer([Status.RETRY], [late])
            self._moved.set()
            return
        decisions.append(collector.acceptance.decide(encoded, collector.clock_micros(), caller.context))
        request = collector.submit(caller, decisions, hold, answered)

    async def _answer(self) -> None:
        """Send what is newly answered at the head of the window."""
        through, began = 0, 0.0
        rejections: list[collector_pb2.StreamRejection] = []
        while self._window and (answer := self._window[0].answer) is not None:
            slot = self._window.popleft()
            self._window_bytes -= slot.size
            through, began = slot.sequence, began or slot.began
            for problem in answer.problems:
                rejections.append(collector_pb2.StreamRejection(sequence=slot.sequence, rejection=rejection(problem)))
        self._set_room()
        if through:
            response = collector_pb2.PublishStreamResponse(answered_through=through, rejections=rejections)
            await self._context.write(response.SerializeToString())
            # The longest wait among those that this answers: one observation for all of them.
            self._collector.request_seconds.observe(time.perf_counter() - began)

    def _set_room(self) -> None:
        settings = self._settings
        if len(self._window) < settings.stream_window_events and self._window_bytes < settings.stream_window_bytes:
            self._room.set()
        else:
            self._room.clear()
