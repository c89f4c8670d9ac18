"""The supervisor: starts the processes of a plan, restarts what dies, and ends all of it, whatever ends the supervisor.

Each process is in one state:

    waiting ──needs are ready──► starting ──probe──► ready ◄──► unready
       ▲                            │  │               │
       └──── again_after ─── done ◄─┘  └──► backoff ◄──┘ (exit, or not ready in time)
                                              │   └──► failed      after RESTARTS_IN_A_ROW_MAX
                                              └──► starting        after a delay that doubles, with jitter
    any ──a file hold/<name>──► held ──the file is removed──► starting

One thread, one loop. It is woken by signals and by the next thing due. A child dies with its supervisor (`PR_SET_PDEATHSIG`);
what a child leaves behind is adopted (`PR_SET_CHILD_SUBREAPER`) and swept before the child is started again.
"""

import json
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pipeline.stack import logs
from pipeline.stack.folder import Folder, write_whole
from pipeline.stack.process import Plan, Process
from pipeline.stack.processes import (
    PROCESS_VARIABLE,
    STACK_VARIABLE,
    Identity,
    adopt_orphans,
    descendants,
    die_with_parent,
    family,
    sweep,
)
from pipeline.stack.ready import is_ready

RESTARTS_IN_A_ROW_MAX = 10
BACKOFF_FIRST_SECONDS, BACKOFF_SECONDS_MAX = 0.2, 15.0
# Ready for so long, and the next death is the first in a row again.
SETTLED_SECONDS = 20.0
PROBE_STARTING_SECONDS, PROBE_READY_SECONDS = 0.05, 2.0
UNREADY_AFTER_PROBES = 3
TICK_SECONDS_MAX = 0.25
# Between two SIGKILLs, and how many before a drain goes on without that process.
KILL_SECONDS, KILLS_MAX = 2.0, 3
LOG_CHECK_SECONDS = 5.0
# An orphan that no leader accounts for may still end by itself, as PostgreSQL's backends do.
ORPHAN_GRACE_SECONDS = 5.0
# Tells a process how often it has ended badly so far: what it can't know, and what its metrics then say.
CRASHES_VARIABLE = "SPILLWAY_TELEMETRY_CRASHES"

State = Literal["waiting", "starting", "ready", "unready", "backoff", "failed", "held", "done", "stopped"]
UP: tuple[State, ...] = ("ready", "unready", "done")


def after_failure(failures_in_a_row: int, rng: random.Random) -> tuple[State, float]:
    """What becomes of a process that failed, and after how many seconds.

    The delay doubles up to `BACKOFF_SECONDS_MAX`, with jitter over its upper half; `RESTARTS_IN_A_ROW_MAX` ends it.
    """
    if failures_in_a_row > RESTARTS_IN_A_ROW_MAX:
        return "failed", 0.0
    longest = min(BACKOFF_SECONDS_MAX, BACKOFF_FIRST_SECONDS * 2.0 ** (failures_in_a_row - 1))
    return "backoff", longest * rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class Child:
    """What the supervisor knows of one process. Times are of the supervisor's clock."""

    process: Process
    state: State = "waiting"
    running: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    ready_at: float = 0.0
    probe_at: float = 0.0
    start_at: float = 0.0
    # While it is being ended: when SIGKILL follows.
    kill_at: float | None = None
    kills: int = 0
    probes_failed: int = 0
    starts: int = 0
    failures_in_a_row: int = 0
    # Ends with another exit code than 0, and those of a process that was not ready in time.
    crashes: int = 0
    last_exit: str = ""


@dataclass(slots=True)
class Supervisor:
    plan: Plan
    folder: Folder
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    tied_to: Identity | None = None
    children: dict[str, Child] = field(init=False)
    _stop_signals: int = 0
    _orphans: dict[Identity, float] = field(default_factory=dict)
    _status: str = ""
    _logs_at: float = 0.0
    # Its other end gets a byte for every signal.
    _wake: int = -1

    def __post_init__(self) -> None:
        self.children = {process.name: Child(process) for process in self.plan.processes}

    def run(self) -> None:
        """Supervise until told to stop, then drain. A second stop signal while draining ends all at once."""
        adopt_orphans()
        self._listen()
        try:
            while not self._stop_signals and (self.tied_to is None or self.tied_to.alive()):
                self._step()
            self._drain()
        finally:
            self._kill_everything()
        self._write_status("down")

    # -- one turn of the loop

    def _listen(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._wake = wake_read
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop_asked)

    def _stop_asked(self, *_: object) -> None:
        self._stop_signals += 1

    def _step(self) -> None:
        self._reap()
        now = self.clock()
        for child in self.children.values():
            self._advance(child, now)
        self._sweep_orphans(now)
        if now >= self._logs_at:
            self._logs_at = now + LOG_CHECK_SECONDS
            for name in self.children:
                logs.rotate(self.folder.log(name))
        self._write_status("up")
        self._pause()

    def _pause(self) -> None:
        """Until a signal comes, or something may be due."""
        busy = any(child.state == "starting" or child.kill_at is not None for child in self.children.values())
        if self._stop_signals == 0 or busy:
            select.select([self._wake], [], [], PROBE_STARTING_SECONDS if busy else TICK_SECONDS_MAX)
        while select.select([self._wake], [], [], 0)[0]:
            os.read(self._wake, 512)

    def _advance(self, child: Child, now: float) -> None:
        held = (self.folder.hold / child.process.name).exists()
        if child.running is not None:
            if child.kill_at is not None:
                if now >= child.kill_at:
                    self._kill(child, now)
            elif held:
                self._end(child, now)
            else:
                self._watch(child, now)
        elif held:
            child.state = "held"
        elif self._is_due(child, now):
            self._start(child, now)

    def _is_due(self, child: Child, now: float) -> bool:
        match child.state:
            case "waiting":
                return all(self.children[name].state in UP for name in child.process.needs)
            case "backoff":
                return now >= child.start_at
            case "held":
                child.failures_in_a_row = 0
                return True
            case _:
                return False

    # -- a child's life

    def _start(self, child: Child, now: float) -> None:
        name = child.process.name
        ours = {STACK_VARIABLE: self.folder.mark, PROCESS_VARIABLE: name, CRASHES_VARIABLE: str(child.crashes)}
        environment = os.environ | child.process.env | ours
        supervisor = os.getpid()

        def in_child() -> None:
            die_with_parent(signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)

        child.started_at, child.probe_at, child.kill_at, child.kills, child.probes_failed = now, now, None, 0, 0
        child.starts += 1
        with open(self.folder.log(name), "ab") as log:
            try:
                child.running = subprocess.Popen(
                    child.process.argv,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=in_child,
                )
            except OSError as exc:
                log.write(f"spillway: can't start {child.process.argv[0]}: {exc}\n".encode())
                self._failed(child, f"can't start: {exc}", now)
                return
        child.state = "starting"
        identity = Identity.of(child.running.pid)
        if identity is not None:
            write_whole(self.folder.run / f"{name}.pid", identity.text(), 0o600)
        if child.starts > 1:
            self._repeat_tasks(name)

    def _repeat_tasks(self, restarted: str) -> None:
        for other in self.children.values():
            if restarted in other.process.again_after and other.state in ("done", "failed"):
                other.state, other.failures_in_a_row = "waiting", 0

    def _watch(self, child: Child, now: float) -> None:
        process = child.process
        if process.task:
            ready = False
        elif now < child.probe_at:
            return
        else:
            ready = is_ready(process.ready)
        if child.state == "starting":
            child.probe_at = now + PROBE_STARTING_SECONDS
            if ready:
                child.state, child.ready_at = "ready", now
            elif now - child.started_at > process.start_seconds_max:
                child.last_exit = f"not ready after {process.start_seconds_max:.0f} s"
                self._end(child, now)
            return
        child.probe_at = now + PROBE_READY_SECONDS
        child.probes_failed = 0 if ready else child.probes_failed + 1
        child.state = "unready" if child.probes_failed >= UNREADY_AFTER_PROBES else "ready"
        if now - child.ready_at > SETTLED_SECONDS:
            child.failures_in_a_row = 0

    def _end(self, child: Child, now: float) -> None:
        """Ask the leader alone: a signal to its whole group would kill, say, Spark's JVM under the driver that drains it."""
        if child.running is not None and child.kill_at is None:
            child.kill_at = now + child.process.stop_grace_seconds
            self._signal(child, child.process.stop_signal_number)

    def _kill(self, child: Child, now: float) -> None:
        """Repeated while it does not go, which only a process that hangs inside the kernel manages."""
        child.kills, child.kill_at = child.kills + 1, now + KILL_SECONDS
        self._signal(child, signal.SIGKILL)

    def _signal(self, child: Child, number: int) -> None:
        """Our own child that we have not reaped: its pid is its own."""
        if child.running is not None:
            os.kill(child.running.pid, number)

    def _reap(self) -> None:
        """Take every exit, our children's and adopted orphans'."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self.children.values():
                if child.running is not None and child.running.pid == pid:
                    self._exited(child, os.waitstatus_to_exitcode(status))

    def _exited(self, child: Child, code: int) -> None:
        assert child.running is not None
        name, pid, asked = child.process.name, child.running.pid, child.kill_at is not None
        child.running.returncode = code
        child.running, child.kill_at = None, None
        try:
            sweep(lambda: family(pid, self.folder.mark, name), self._reap)
        except TimeoutError as exc:
            # Started beside what its former self left running, it could do harm: better that somebody looks.
            child.state, child.last_exit = "failed", f"children of its former self are {exc}"
            return
        (self.folder.run / f"{name}.pid").unlink(missing_ok=True)
        text = f"exit {code}" if code >= 0 else signal.Signals(-code).name
        if child.process.task and code == 0:
            child.state, child.last_exit = "done", text
        elif asked and self._stop_signals:
            child.state, child.last_exit = "stopped", text
        elif asked and (self.folder.hold / name).exists():
            child.state, child.last_exit = "held", text
        else:
            child.crashes += asked or code != 0
            self._failed(child, child.last_exit if asked else text, self.clock())

    def _failed(self, child: Child, why: str, now: float) -> None:
        child.last_exit = why
        child.failures_in_a_row += 1
        child.state, delay_seconds = after_failure(child.failures_in_a_row, self.rng)
        child.start_at = now + delay_seconds

    def _sweep_orphans(self, now: float) -> None:
        """Adopted children that no live leader started, after `ORPHAN_GRACE_SECONDS`."""
        leaders = {child.running.pid for child in self.children.values() if child.running is not None}
        children = _children_of(os.getpid()) - leaders
        seen = {identity for pid in children if (identity := Identity.of(pid)) is not None}
        self._orphans = {identity: self._orphans.get(identity, now) for identity in seen}
        for identity, since in self._orphans.items():
            if now - since > ORPHAN_GRACE_SECONDS:
                identity.send(signal.SIGKILL)

    # -- the end

    def _drain(self) -> None:
        """End rank by rank, each within its own grace."""
        asked_before = self._stop_signals
        for rank in sorted({child.process.stop_rank for child in self.children.values()}):
            ending = [child for child in self.children.values() if child.process.stop_rank == rank]
            for child in ending:
                self._end(child, self.clock())
            while any(child.running is not None and child.kills <= KILLS_MAX for child in ending):
                if self._stop_signals > max(1, asked_before):
                    return
                for child in ending:
                    if child.kill_at is not None and self.clock() >= child.kill_at:
                        self._kill(child, self.clock())
                self._pause()
                self._reap()
                self._write_status("stopping")
            for child in ending:
                child.state = "done" if child.state == "done" else "stopped"

    def _kill_everything(self) -> None:
        sweep(lambda: descendants(os.getpid()), self._reap_all)
        for child in self.children.values():
            (self.folder.run / f"{child.process.name}.pid").unlink(missing_ok=True)

    def _reap_all(self) -> None:
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return

    # -- what the world sees

    def _write_status(self, stack: str) -> None:
        processes = [_row(child) for child in self.children.values()]
        identity = Identity.of(os.getpid())
        text = json.dumps(
            {"stack": stack, "supervisor": None if identity is None else json.loads(identity.text()), "processes": processes},
            indent=1,
        )
        if text != self._status:
            self._status = text
            write_whole(self.folder.status, text)


def _row(child: Child) -> dict[str, object]:
    return {
        "name": child.process.name,
        "state": "stopping" if child.kill_at is not None else child.state,
        "pid": child.running.pid if child.running is not None else None,
        "restarts": max(0, child.starts - 1),
        "last_exit": child.last_exit,
        "address": child.process.address,
        "about": child.process.about,
    }


def _children_of(pid: int) -> set[int]:
    """Source: proc_pid_task(5), `children`; the kernel may leave some out while processes come and go, and we look again."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return {int(each) for each in file.read().split()}
    except FileNotFoundError:
        return {each.pid for each in descendants(pid)}
