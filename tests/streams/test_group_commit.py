"""The loop around the lanes: concurrency, cancellation, stopping."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from pipeline import frame
from pipeline.event import Record
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.streams.batching import Bounds, Lanes, Origin, Request
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.retry import Backoff, RetryBudget
from pipeline.streams.sink import MemorySink, NotWritten, Outcome, Sink, Written

from .test_batching import event

ACME = Origin("acme", "grpc")


@dataclass
class GatedSink:
    """Answers only when told; counts how many calls are open."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[list[Record]] = field(default_factory=list)
    open: int = 0
    open_max: int = 0

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        self.calls.append(list(records))
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            await self.gate.wait()
        finally:
            self.open -= 1
        return [Written("s", "1") for _ in records]


def commit_to(sink: Sink, *, calls_max: int = 4, slices: int = 8, bounds: Bounds | None = None) -> GroupCommit:
    lanes = Lanes(
        slices=slices,
        worker="w",
        budget=RetryBudget(time.monotonic),
        random=Random(1),
        bounds=bounds or Bounds(),
        backoff=Backoff(floor_seconds=0.001, base_seconds=0.002, cap_seconds=0.01),
    )
    return GroupCommit(sink, lanes, clock=time.monotonic, clock_micros=lambda: 1, calls_max=calls_max)


def submit(commit: GroupCommit, *names: str, slice: int = 0) -> asyncio.Future[list[Outcome]]:
    done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def settled(request: Request) -> None:
        if not done.done():
            done.set_result(request.outcomes)

    commit.submit(ACME, [slice] * len(names), [event(name) for name in names], deadline_seconds=5, on_settled=settled)
    return done


def stored(records: Sequence[Record]) -> list[str]:
    return [one.id for record in records for one in StoredBatch.FromString(frame.decode(record.data)).events]


async def test_requests_of_one_moment_are_written_together() -> None:
    sink = MemorySink()
    commit = commit_to(sink)
    outcomes = await asyncio.gather(*(submit(commit, f"{number}") for number in range(50)))
    assert [True] * 50 == [isinstance(outcome, Written) for [outcome] in outcomes]
    assert 1 == len(sink.records)
    assert [str(number) for number in range(50)] == stored(sink.records)


async def test_at_most_so_many_calls_are_in_flight_and_the_rest_coalesces() -> None:
    sink = GatedSink()
    commit = commit_to(sink, calls_max=2)
    waiting = []
    for slice in range(8):
        waiting.append(submit(commit, f"{slice}", slice=slice))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert 2 == sink.open
    sink.gate.set()
    await asyncio.gather(*waiting)
    assert 2 == sink.open_max
    assert [1, 1, 6] == [len(call) for call in sink.calls]


async def test_a_failed_slice_is_tried_again_until_it_is_stored() -> None:
    class Flaky:
        failures = 3

        async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
            self.failures -= 1
            return [Written("s", "1") if self.failures < 0 else NotWritten("InternalFailure") for _ in records]

    assert [Written("s", "1")] == await submit(commit_to(Flaky()), "a")


async def test_a_writer_that_raises_loses_nothing() -> None:
    """Our own fault is no outcome: the lanes come back and the event is written."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))

    class Broken:
        broken = True

        async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
            if self.broken:
                self.broken = False
                raise RuntimeError("a bug")
            return [Written("s", "1") for _ in records]

    assert [Written("s", "1")] == await submit(commit_to(Broken()), "a")
    assert ["a bug"] == [str(complaint) for complaint in complaints]


async def test_drain_writes_what_is_queued_and_gives_up_the_rest_within_its_budget() -> None:
    """TRAPS 11."""
    sink = GatedSink()
    commit = commit_to(sink)
    done = submit(commit, "a", "b")
    began = time.monotonic()
    assert 2 == await commit.drain(0.2)
    assert time.monotonic() - began < 2
    assert [True, True] == [isinstance(outcome, NotWritten) for outcome in await done]
    good = commit_to(MemorySink())
    done = submit(good, "a")
    assert 0 == await good.drain(1)
    assert [True] == [isinstance(outcome, Written) for outcome in await done]
