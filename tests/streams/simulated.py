"""A world without waiting: a clock that sleeps move, and a sink that follows a script."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.event import Record
from pipeline.streams.sink import NotWritten, Outcome, Written

Step = Callable[[Sequence[Record]], list[Outcome]]


@dataclass
class Time:
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class ScriptedSink:
    """Answers call by call as told, then as the last step says. Keeps what it was given."""

    steps: list[Step]
    time: Time
    call_seconds: float = 0.01
    calls: list[list[Record]] = field(default_factory=list)

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        self.calls.append(list(records))
        self.time.now += self.call_seconds
        step = self.steps[min(len(self.calls), len(self.steps)) - 1]
        return step(records)


def all_written(records: Sequence[Record]) -> list[Outcome]:
    return [Written("shardId-000000000000", record.data.decode("latin-1")) for record in records]


def all_failed(records: Sequence[Record]) -> list[Outcome]:
    return [NotWritten("InternalFailure") for _ in records]


def failing(*indexes: int) -> Step:
    def step(records: Sequence[Record]) -> list[Outcome]:
        good = all_written(records)
        return [NotWritten("NeverHeardOfIt") if index in indexes else good[index] for index in range(len(records))]

    return step


def record(name: str, size: int = 0) -> Record:
    return Record(name.encode().ljust(size, b"."), partition_key="t/0", explicit_hash_key="0")
