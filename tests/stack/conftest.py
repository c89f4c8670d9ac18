"""Stacks of tiny processes: the supervisor is real, what it supervises is `python -c`."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.stack.folder import Folder, write_whole
from pipeline.stack.launch import Stack
from pipeline.stack.process import Plan, Process
from pipeline.stack.processes import Identity, marked

SLEEPS = "import time; time.sleep(600)"
WAIT_SECONDS_MAX = 20.0

StartFakes = Callable[..., Stack]


def fake(name: str, code: str = SLEEPS, **fields: Any) -> Process:
    """A process that runs some Python, without site packages so that it starts fast."""
    return Process(name=name, argv=(sys.executable, "-S", "-c", code), **fields)


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS_MAX} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    identity = Identity.of(pid)
    return identity is not None and identity.alive()


def written(path: Path) -> int:
    """The pid that a process wrote into a file."""
    wait_until(lambda: path.exists() and path.read_text().strip(), f"{path.name} written")
    return int(path.read_text())


def pid_of_file(stack: Stack, name: str) -> int:
    identity = Identity.read((stack.folder.run / f"{name}.pid").read_text())
    assert identity is not None
    return identity.pid


def with_grandchild(pid_file: Path) -> str:
    """Starts a grandchild that leaves the session and the group, as Spark's workers and PostgreSQL's backends do."""
    grandchild = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    start = f"subprocess.Popen([sys.executable, '-S', '-c', {grandchild!r}], start_new_session=True)"
    return f"import subprocess, sys, time; {start}; time.sleep(600)"


def on_sigterm(action: str, then: str) -> str:
    """Does something when asked to stop, and something else once it is prepared for that."""
    return (
        f"import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: ({action}))\n{then}\nwhile True: time.sleep(1)"
    )


@pytest.fixture
def start_fakes(tmp_path: Path) -> Iterator[StartFakes]:
    """Start processes under a supervisor in a folder; all of it ends with the test, and nothing may be left."""
    started: list[Stack] = []

    def start(*processes: Process, name: str = "state", ready: bool = True, tied: bool = True) -> Stack:
        folder = Folder.at(tmp_path / name)
        folder.make()
        write_whole(folder.plan, Plan(processes).text(), 0o600)
        stack = Stack(folder)
        started.append(stack)
        stack.launch(tied=tied)
        if ready:
            stack.wait_all_ready(WAIT_SECONDS_MAX)
        return stack

    yield start
    for stack in started:
        stack.stop()
        assert [] == marked(stack.folder.mark)
