"""Up and down: choose ports, make what the parts need, start the supervisor, wait until all is ready; and the way back.

    with Stack.start(folder, free_ports=True, parts=("ministack", "emulator", "provision")) as stack:
        boto3.client("kinesis", endpoint_url=stack.endpoints["emulator"])

A stack that was started this way ends with the process that started it, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pipeline.stack import logs
from pipeline.stack.errors import StackError, StackFailed
from pipeline.stack.folder import Folder, is_locked, read_object
from pipeline.stack.guardian import GUARDIAN_PID_FILE
from pipeline.stack.plan import NAMES, StackSettings
from pipeline.stack.prepare import Say, prepare, quiet, secret_env, supervisor_env, sweep_strays
from pipeline.stack.processes import Identity
from pipeline.stack.secret import make_secrets

READY_SECONDS_MAX = 240.0
# Longer than all drains one after the other would be a hang.
DOWN_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05
TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the status."""

    name: str
    state: str
    pid: int | None
    restarts: int
    last_exit: str
    address: str
    about: str

    @property
    def up(self) -> bool:
        return self.state in ("ready", "unready", "done")


@dataclass(slots=True)
class Stack:
    folder: Folder
    endpoints: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    # If it was this process that started the stack.
    _guardian: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    # -- up

    @classmethod
    def start(
        cls,
        state_dir: Path,
        *,
        free_ports: bool = True,
        parts: tuple[str, ...] = NAMES,
        settings: StackSettings | None = None,
        env: Mapping[str, str] | None = None,
        deadline_seconds: float = READY_SECONDS_MAX,
        tied: bool = True,
        say: Say = quiet,
    ) -> "Stack":
        """Start a stack and wait until all of it is ready. `env` is added to what every part gets.

        Raises:
            MissingTool, PortTaken, AlreadyUp: nothing was started.
            StackFailed: a part did not become ready; what was started is down again.
        """
        made = prepare(state_dir, free_ports=free_ports, parts=parts, settings=settings, env=env, say=say)
        stack = cls(made.folder, made.endpoints, made.ports)
        stack.launch(tied=tied)
        try:
            stack.wait_all_ready(deadline_seconds, say)
        except BaseException:
            stack.stop()
            raise
        return stack

    @classmethod
    def at(cls, state_dir: Path) -> "Stack":
        """The stack of a state folder, running or not."""
        folder = Folder.at(state_dir)
        kept = read_object(folder.stack)
        return cls(folder, dict(kept.get("endpoints", {})), dict(kept.get("ports", {})))

    def launch(self, *, tied: bool = False) -> None:
        """Start the supervisor over the plan in the folder, cut loose from this terminal."""
        myself = Identity.of(os.getpid())
        words = ["--tied-to", myself.text()] if tied and myself is not None else []
        self.folder.status.unlink(missing_ok=True)
        with open(self.folder.log("supervisor"), "ab") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-m", "pipeline.stack.guardian", "--state", str(self.folder.path), *words],
                env=supervisor_env(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.folder.status.exists():
            if self._guardian.poll() is not None or time.monotonic() > deadline:
                raise StackFailed(f"the supervisor did not start: {_tail(self.folder, 'supervisor')}")
            time.sleep(POLL_SECONDS)

    def leave_running(self) -> None:
        """Nobody waits for the guardian here: the stack outlives this process."""
        if self._guardian is not None:
            self._guardian.returncode, self._guardian = 0, None

    # -- what it is doing

    def env(self) -> dict[str, str]:
        """What a client of this stack needs: AWS and other addresses, keys. The file `env` in the folder says the same."""
        return dict(read_object(self.folder.stack).get("env", {})) | secret_env(make_secrets(self.folder), self.ports)

    def running(self) -> bool:
        return is_locked(self.folder.lock)

    def processes(self) -> list[Process]:
        rows = read_object(self.folder.status).get("processes", [])
        found = [Process(**row) for row in rows]
        if self.running():
            return found
        return [Process(p.name, "stopped", None, p.restarts, p.last_exit, p.address, p.about) for p in found]

    def process(self, name: str) -> Process:
        for each in self.processes():
            if each.name == name:
                return each
        raise StackError(f"this stack has no process {name!r}; it has: {', '.join(each.name for each in self.processes())}")

    def pid(self, name: str) -> int:
        """Raises:
        StackError: it does not run now.
        """
        pid = self.process(name).pid
        if pid is None:
            raise StackError(f"{name} does not run now: it is {self.process(name).state}")
        return pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the leader of a process; the supervisor starts it again when that ends it."""
        file = self.folder.run / f"{name}.pid"
        identity = Identity.read(file.read_text()) if file.exists() else None
        if identity is None or not identity.send(number):
            raise StackError(f"{name} does not run now")

    def hold(self, name: str) -> None:
        """Keep a process stopped until `release`."""
        self.process(name)
        (self.folder.hold / name).touch()

    def release(self, name: str) -> None:
        (self.folder.hold / name).unlink(missing_ok=True)

    def logs(self, name: str, lines: int = 200) -> list[str]:
        return logs.tail(self.folder.log(name), lines)

    # -- waiting

    def wait_until(
        self, name: str, fits: Callable[[Process], bool], deadline_seconds: float, what: str = "as awaited"
    ) -> Process:
        """Raises:
        StackFailed: not within the deadline.
        """
        deadline = time.monotonic() + deadline_seconds
        while not fits(found := self.process(name)):
            if time.monotonic() > deadline:
                raise StackFailed(f"{name} was not {what} after {deadline_seconds} s: {found}{_tail(self.folder, name)}")
            time.sleep(POLL_SECONDS)
        return found

    def wait_ready(self, name: str, deadline_seconds: float) -> Process:
        return self.wait_until(name, lambda process: process.state in ("ready", "done"), deadline_seconds, "ready")

    def wait_all_ready(self, deadline_seconds: float, say: Say = quiet) -> None:
        """Raises:
        StackFailed: a process gave up, the supervisor ended, or the deadline passed; carries the end of the log.
        """
        deadline = time.monotonic() + deadline_seconds
        told: set[str] = set()
        while True:
            rows = self.processes()
            for row in rows:
                if row.up and row.name not in told:
                    told.add(row.name)
                    say(f"{row.name} is {row.state}" + (f" at {row.address}" if row.address else ""))
            late = [row for row in rows if not row.up and row.state != "held"]
            if rows and not late:
                return
            if not self.running():
                raise StackFailed(f"the supervisor ended: {_tail(self.folder, 'supervisor')}")
            failed = [row for row in late if row.state == "failed"] or (late if time.monotonic() > deadline else [])
            if failed:
                first = failed[0]
                why = f" ({first.last_exit})" if first.last_exit else ""
                raise StackFailed(f"{first.name} is not ready, it is {first.state}{why}{_tail(self.folder, first.name)}")
            time.sleep(POLL_SECONDS)

    # -- down

    def stop(self, say: Say = quiet) -> int:
        """Drain and end everything of this folder; how many strays had to be swept. Works without a supervisor.

        Raises:
            StackFailed: something still runs after `DOWN_SECONDS_MAX`.
        """
        if not self.folder.path.exists():
            return 0
        if self.signal(signal.SIGTERM):
            say("draining")
        deadline = time.monotonic() + DOWN_SECONDS_MAX
        while self.running():
            if time.monotonic() > deadline:
                raise StackFailed(f"still running after {DOWN_SECONDS_MAX:.0f} s; see {self.folder.log('supervisor')}")
            time.sleep(POLL_SECONDS)
        if self._guardian is not None:
            self._guardian.wait(DOWN_SECONDS_MAX)
        return sweep_strays(self.folder)

    def signal(self, number: signal.Signals) -> bool:
        """To the guardian, else to a supervisor that lost its guardian; whether there was one."""
        leaders = (self._identity(GUARDIAN_PID_FILE), self._supervisor())
        return any(leader.send(number) for leader in leaders if leader is not None)

    def _identity(self, name: str) -> Identity | None:
        file = self.folder.run / f"{name}.pid"
        return Identity.read(file.read_text()) if file.exists() else None

    def _supervisor(self) -> Identity | None:
        return Identity.read(json.dumps(read_object(self.folder.status).get("supervisor")))

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _tail(folder: Folder, name: str) -> str:
    lines = logs.tail(folder.log(name), TAIL_LINES)
    return f"\nthe end of {folder.log(name)}:\n  " + "\n  ".join(lines) if lines else f" (nothing in {folder.log(name)})"
