"""The state folder: everything that this machine keeps of one stack, and nothing else of it is anywhere.

    stack.json    endpoints, ports and parts, chosen by `up`              (for programs)
    env           the same as shell variables: `. <folder>/env`           (holds keys: mode 0600)
    plan.json     the processes, as handed to the supervisor              (mode 0600)
    status.json   what each process is doing now, by the supervisor
    secrets.json  passwords and API keys, made once                       (mode 0600)
    keys.jsonl    the hashed API keys that the doors read
    lock          held by the supervisor for as long as it lives
    run/          a file for each live process: its pid and when it started
    hold/         a file named like a process keeps that process stopped until it is removed
    logs/         a file for each process, rotated by size
    targets/      whom Prometheus scrapes: ours in stack.json; a producer with a port of its own may put a file beside it
    data/         what the services store

Files are replaced whole (write beside, flush, rename), so that a reader never sees half of one.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.stack.errors import AlreadyUp

CACHE_WAIT_SECONDS_MAX = 600.0
CACHE_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path

    @classmethod
    def at(cls, path: Path) -> "Folder":
        return cls(path.expanduser().resolve())

    @property
    def stack(self) -> Path:
        return self.path / "stack.json"

    @property
    def env(self) -> Path:
        return self.path / "env"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def keys(self) -> Path:
        return self.path / "keys.jsonl"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def hold(self) -> Path:
        return self.path / "hold"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def targets(self) -> Path:
        return self.path / "targets"

    def data(self, name: str) -> Path:
        return self.path / "data" / name

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @property
    def mark(self) -> str:
        """Tells this folder's processes from all others; it rides in their environment, down to their grandchildren."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:24]

    def make(self) -> None:
        """Create what is missing. Others may pass through to PostgreSQL's folder (it may run as another user), not look in."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)
        (self.path / "data").mkdir(exist_ok=True, mode=0o711)
        for private in (self.run, self.hold, self.logs, self.targets):
            private.mkdir(exist_ok=True, mode=0o700)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none or it is torn, which only a crash of the machine can do."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def try_lock(path: Path) -> int | None:
    """Take a file's lock; its descriptor, or None if somebody has it. The kernel frees it when the last holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def starting(folder: Folder) -> Iterator[None]:
    """Only one `up` or `down` at a time works on a folder.

    Raises:
        AlreadyUp: another one is at work.
    """
    descriptor = try_lock(folder.path / "starting.lock")
    if descriptor is None:
        raise AlreadyUp(f"another `spillway up` or `spillway down` is at work on {folder.path}; wait for it to end")
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """For caches that several stacks share: the second waits until the first has filled it.

    Raises:
        AlreadyUp: the first still holds it after `CACHE_WAIT_SECONDS_MAX`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + CACHE_WAIT_SECONDS_MAX
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise AlreadyUp(
                f"another process has been filling {path.parent} for {CACHE_WAIT_SECONDS_MAX:.0f} s; end it, and repeat"
            )
        time.sleep(CACHE_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
