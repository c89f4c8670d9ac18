"""Processes by identity: a pid alone is not one, since the kernel gives it out again.

A process is (boot, pid, start time). Signals go through a pidfd that is opened first and checked second, so that a pid that was
given out again in between is never hit. What a dead leader left behind is found by three marks, never by name: its session, its
process group, and two variables in its environment that children inherit (`SPILLWAY_STACK_ID`, `SPILLWAY_STACK_PROCESS`). All
three are wanted: Spark's workers change their group, PostgreSQL's change their session and write over their environment.
"""

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

STACK_VARIABLE, PROCESS_VARIABLE = "SPILLWAY_STACK_ID", "SPILLWAY_STACK_PROCESS"
SWEEP_SECONDS_MAX = 10.0
SWEEP_POLL_SECONDS = 0.02

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of the process table."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int


def look(pid: int) -> Seen | None:
    """Source: proc_pid_stat(5); the command's name may hold spaces and brackets, so fields count from the last bracket."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Seen(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def table() -> dict[int, Seen]:
    seen = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {each.pid: each for each in seen if each is not None}


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for all time."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        seen = look(pid)
        return None if seen is None else cls(pid, seen.start_ticks, boot_id())

    @classmethod
    def read(cls, text: str) -> "Identity | None":
        """From a pid file; None if it is torn."""
        try:
            value = json.loads(text)
            return cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot"]))
        except (ValueError, KeyError, TypeError):
            return None

    def text(self) -> str:
        return json.dumps(asdict(self))

    def alive(self) -> bool:
        """Whether this very process runs; a zombie does not."""
        seen = look(self.pid)
        return seen is not None and seen.start_ticks == self.start_ticks and seen.state not in "ZX" and self.boot == boot_id()

    def send(self, signal_number: int) -> bool:
        """Signal this very process; False if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, signal_number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """In a child: be signalled when the thread that made us ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none gets out of sight."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def environment_of(pid: int) -> frozenset[bytes]:
    try:
        return frozenset(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return frozenset()


def family(leader: int, stack: str, name: str) -> list[Identity]:
    """Everything that belongs to one process of a stack besides its leader: by session, by group, by inherited marks."""
    marks = {f"{STACK_VARIABLE}={stack}".encode(), f"{PROCESS_VARIABLE}={name}".encode()}
    return [
        Identity(seen.pid, seen.start_ticks, boot_id())
        for seen in table().values()
        if seen.pid != leader
        and seen.state not in "ZX"
        and (leader in (seen.session, seen.group) or marks <= environment_of(seen.pid))
    ]


def descendants(ancestor: int) -> list[Identity]:
    """Children, their children, and so on, as long as the chain of parents holds."""
    seen = table()
    found: list[Identity] = []
    frontier = [ancestor]
    while frontier:
        parent = frontier.pop()
        for each in seen.values():
            if each.parent == parent and each.state not in "ZX":
                found.append(Identity(each.pid, each.start_ticks, boot_id()))
                frontier.append(each.pid)
    return found


def marked(stack: str) -> list[Identity]:
    """Everything that any supervisor of this stack ever started and that still runs; never the caller or those above it."""
    mark = f"{STACK_VARIABLE}={stack}".encode()
    seen = table()
    spared, above = {os.getpid()}, os.getpid()
    while above in seen and seen[above].parent and seen[above].parent not in spared:
        above = seen[above].parent
        spared.add(above)
    return [
        Identity(each.pid, each.start_ticks, boot_id())
        for each in seen.values()
        if each.pid not in spared and each.state not in "ZX" and mark in environment_of(each.pid)
    ]


def sweep(find: Callable[[], Iterable[Identity]], reap: Callable[[], object] = lambda: None) -> int:
    """SIGKILL what `find` finds until it finds nothing, since what dies may just have started another. How many were hit.

    Raises:
        TimeoutError: something still runs after `SWEEP_SECONDS_MAX`.
    """
    deadline = time.monotonic() + SWEEP_SECONDS_MAX
    hit: set[Identity] = set()
    while left := list(find()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still running after SIGKILL: pid {', '.join(str(each.pid) for each in left)}")
        hit.update(each for each in left if each.send(signal.SIGKILL))
        reap()
        time.sleep(SWEEP_POLL_SECONDS)
    return len(hit)
