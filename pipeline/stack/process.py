"""What a process of the stack is, as data: how to start it, when it is ready, how to end it. The supervisor knows nothing else.

A plan goes to the supervisor as a file, so that the one who makes it (and the tests, with processes of their own) may end.
"""

import json
import signal
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Probe = Literal["started", "tcp", "http", "postgres", "redis"]


@dataclass(frozen=True, slots=True)
class Ready:
    """When a process counts as ready: at once (`started`), or when its port answers as that kind of server does."""

    probe: Probe = "started"
    port: int = 0
    # For http: a GET answers 200.
    path: str = "/readyz"
    # For redis: it answers nobody without.
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Process:
    """One process, or one task that ends by itself (`task`) and is done when it exits 0."""

    name: str
    argv: tuple[str, ...]
    # Added to what the supervisor inherited.
    env: dict[str, str] = field(default_factory=dict, repr=False)
    ready: Ready = Ready()
    # Names of processes that are ready, or tasks that are done, before this one is started for the first time.
    needs: tuple[str, ...] = ()
    # A task is done again when one of these was started again: what it had made there may be gone.
    again_after: tuple[str, ...] = ()
    task: bool = False
    # Lower ends first; equal ends together.
    stop_rank: int = 0
    stop_signal: str = "SIGTERM"
    stop_grace_seconds: float = 30.0
    # Not ready after so long is a failure like an exit.
    start_seconds_max: float = 60.0
    # Where it answers, for people.
    address: str = ""
    about: str = ""

    @property
    def stop_signal_number(self) -> signal.Signals:
        return signal.Signals[self.stop_signal]


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes, in the order of the path of an event."""

    processes: tuple[Process, ...]

    def __post_init__(self) -> None:
        names = [process.name for process in self.processes]
        assert len(names) == len(set(names)), f"names repeat: {names}"
        for process in self.processes:
            unknown = sorted({*process.needs, *process.again_after} - set(names))
            assert not unknown, f"{process.name} needs {unknown}, which the plan does not have"

    def text(self) -> str:
        return json.dumps({"processes": [asdict(process) for process in self.processes]}, indent=1)

    @classmethod
    def read(cls, text: str) -> "Plan":
        return cls(tuple(_process(value) for value in json.loads(text)["processes"]))


def _process(value: dict[str, Any]) -> Process:
    lists = {name: tuple(value[name]) for name in ("argv", "needs", "again_after")}
    return Process(**{**value, **lists, "ready": Ready(**value["ready"])})
