"""A simulated clock for asyncio: when nothing is ready, time jumps to the next timer, so an hour of leases takes milliseconds."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.consumer.lease import MemoryLeases
from pipeline.consumer.memory import MemoryStream
from pipeline.consumer.reader import Bounds, Happening
from pipeline.consumer.worker import Pace, Worker
from pipeline.event import StoredRecord

T = TypeVar("T")
SIMULATED_SECONDS_MAX = 20_000.0


class _Jumping(selectors.SelectSelector):
    """Never waits: what would have been waited for is added to the clock."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("the simulation waits for something that can't happen")
        if timeout > 0:
            self.seconds += timeout
            assert self.seconds < SIMULATED_SECONDS_MAX, "the simulation does not come to an end"
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.seconds


def simulate(story: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(story)


@dataclass
class Downstream:
    """A processor that keeps what it is given, and fails as told: `failing` maps a record's data to what it raises."""

    journal: list[str]
    failing: dict[bytes, Callable[[], BaseException]] = field(default_factory=dict)
    stored: list[StoredRecord] = field(default_factory=list)
    seconds: float = 0.0
    # Raised once each, before anything is stored: an outage.
    outages: list[BaseException] = field(default_factory=list)

    async def process(self, records: Sequence[StoredRecord]) -> None:
        await asyncio.sleep(self.seconds)
        if self.outages:
            raise self.outages.pop(0)
        for record in records:
            if record.data in self.failing:
                raise self.failing[record.data]()
        self.stored.extend(records)

    @property
    def data(self) -> list[bytes]:
        return [record.data for record in self.stored]


@dataclass
class Graves:
    buried: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    failure: Exception | None = None

    async def __call__(self, record: StoredRecord, reason: str, detail: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.buried[record.shard_id, record.sequence_number] = (record.data, reason)

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.buried.values()]


class Life:
    """Whether a worker is alive and awake."""

    def __init__(self) -> None:
        self.dead = False
        self.awake = asyncio.Event()
        self.awake.set()

    async def check(self) -> None:
        await self.awake.wait()
        if self.dead:
            raise asyncio.CancelledError


class _Mortal:
    """A port as a worker sees it: a dead worker's calls reach nobody, neither going nor coming."""

    def __init__(self, port: Any, life: Life) -> None:
        self._port, self._life = port, life

    def __getattr__(self, name: str) -> Any:
        return self._through(getattr(self._port, name))

    async def __call__(self, *given: Any, **named: Any) -> Any:
        return await self._through(self._port)(*given, **named)

    def _through(self, call: Any) -> Any:
        async def through(*given: Any, **named: Any) -> Any:
            await self._life.check()
            answer = await call(*given, **named)
            await self._life.check()
            return answer

        return through


@dataclass
class World:
    """One stream, one lease table, any number of workers, and one journal of all that happened."""

    pace: Pace = field(default_factory=Pace)
    bounds: Bounds = field(default_factory=Bounds)
    seed: int = 1
    happenings: list[tuple[float, str, Happening]] = field(default_factory=list)
    leases: MemoryLeases = field(default_factory=MemoryLeases)
    graves: Graves = field(default_factory=Graves)
    running: dict[str, tuple["asyncio.Task[None]", asyncio.Event]] = field(default_factory=dict)
    lives: dict[str, "Life"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.stream = MemoryStream(self.clock)
        self.downstream = Downstream([])
        self.random = random.Random(self.seed)

    def start(self, name: str = "a", **parts: Any) -> Worker:
        life = self.lives[name] = Life()

        def journal(happening: Happening) -> None:
            if not life.dead:
                self.happenings.append((self.clock(), name, happening))

        given: dict[str, Any] = {
            "stream": self.stream, "leases": self.leases, "processor": self.downstream, "bury": self.graves, "journal": journal,
            "clock": self.clock, "random": self.random.random, "bounds": self.bounds, "pace": self.pace,
        }  # fmt: skip
        given |= parts
        for port in ("leases", "processor", "bury"):
            given[port] = _Mortal(given[port], life)
        worker = Worker(name, **given)
        stopping = asyncio.Event()
        self.running[name] = (asyncio.create_task(worker.run(stopping)), stopping)
        return worker

    def crash(self, name: str) -> None:
        """SIGKILL: the world hears nothing of this worker any more, and it releases nothing."""
        self.lives[name].dead = True
        self.running.pop(name, None)

    def pause(self, name: str) -> None:
        """SIGSTOP: it does nothing until it is resumed, and then goes on as if no time had passed."""
        self.lives[name].awake.clear()

    def resume(self, name: str) -> None:
        self.lives[name].awake.set()

    async def stop(self, name: str = "a") -> None:
        task, stopping = self.running.pop(name)
        stopping.set()
        await task

    async def stop_all(self) -> None:
        for name in list(self.running):
            await self.stop(name)

    async def until(self, true: Callable[[], object], seconds_max: float = 600.0, step_seconds: float = 0.05) -> None:
        deadline = self.clock() + seconds_max
        while not true():
            assert self.clock() < deadline, f"not within {seconds_max} simulated seconds; the journal: {self.story()}"
            await asyncio.sleep(step_seconds)

    def story(self, *whats: str, of: str | None = None) -> list[str]:
        """The journal as words: "what shard position". `whats` picks some; `of` one worker."""
        return [
            " ".join(part for part in (happening.what, happening.shard_id[-1:], happening.position) if part)
            for _, name, happening in self.happenings
            if (not whats or happening.what in whats) and (of is None or name == of)
        ]
