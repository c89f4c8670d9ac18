"""PostgreSQL and Redis in a folder and on a port of ours: made once, started by the plan.

PostgreSQL refuses to run as root. As root we give it another user's number inside a user namespace: outside it stays root, so
its folder may lie where no other user could get at. Where namespaces are forbidden (most containers) it becomes `nobody`
outright, and the folder has to be reachable.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.stack.debian import Tool
from pipeline.stack.errors import MissingTool, StackFailed
from pipeline.stack.folder import write_whole
from pipeline.stack.ports import HOST

INITDB_SECONDS_MAX = 120
DATABASE = "spillway"
_TRY_SECONDS_MAX = 5


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """Words before a command that make it run as no root. `owner` is who its files must belong to, if that is not us."""

    words: tuple[str, ...] = ()
    owner: int | None = None


@cache
def unprivileged() -> Unprivileged:
    """Nothing for a common user; for root a user namespace, else another user.

    Raises:
        MissingTool: root, and neither works here.
    """
    if os.geteuid() != 0:
        return Unprivileged()
    nobody = pwd.getpwnam("nobody")
    namespace = ("unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}", "--")
    if _works((*namespace, "true")):
        return Unprivileged(namespace)
    # setpriv changes credentials, at which the kernel forgets who to die with: say it again.
    other = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--pdeathsig", "KILL", "--")
    if _works((*other, "true")):
        return Unprivileged(other, nobody.pw_uid)
    raise MissingTool("PostgreSQL does not run as root, and neither unshare nor setpriv works here: run as a common user")


def _works(command: tuple[str, ...]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=_TRY_SECONDS_MAX, check=False).returncode == 0


def make_postgres(tool: Tool, data: Path, password: str) -> None:
    """A database cluster with one database, if there is none; made beside and renamed, so that half of one is never used.

    Raises:
        StackFailed: initdb failed; carries its words.
    """
    if (data / "PG_VERSION").exists():
        # The caller has made sure that nothing of this stack runs: a pid in here is nobody's, or somebody else's by now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return
    user = unprivileged()
    beside = data.with_name(data.name + ".new")
    secret = data.with_name(data.name + ".secret")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    write_whole(secret, password, 0o600)
    if user.owner is not None:
        if not _works((*user.words, "test", "-x", str(data.parent))):
            raise MissingTool(
                f"PostgreSQL does not run as root here, and the user it would run as can't get to {data.parent}: "
                "choose a state folder below one that everybody may pass (`--state /var/tmp/spillway`), or run as a common user"
            )
        os.chown(beside, user.owner, -1)
        os.chown(secret, user.owner, -1)
    words = ("--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", "--no-instructions", f"--username={DATABASE}")
    _run((*user.words, str(tool.programs / "initdb"), *words, f"--pwfile={secret}", f"--pgdata={beside}"), tool)
    single = (*user.words, str(tool.programs / "postgres"), "--single", "-D", str(beside), "-c", "jit=off", "postgres")
    _run(single, tool, f"CREATE DATABASE {DATABASE}\n")
    secret.unlink()
    beside.rename(data)


def postgres_command(tool: Tool, data: Path, port: int) -> tuple[str, ...]:
    """Durable as shipped (fsync stays on); small, on loopback only, without a socket file."""
    zone = "UTC" if Path("/usr/share/zoneinfo/UTC").exists() else "GMT"
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "max_connections": "60",
        "jit": "off",
        "timezone": zone,
        "log_timezone": zone,
        "log_line_prefix": "%m [%p] ",
        # Error texts would carry rows into the log.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
    }
    words = tuple(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
    return (*unprivileged().words, str(tool.programs / "postgres"), "-D", str(data), *words)


def redis_command(tool: Tool, data: Path, port: int, password: str) -> tuple[str, ...]:
    """Writes its configuration, which holds the password and so stays off the command line."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "bind": HOST,
        "port": str(port),
        "requirepass": password,
        "dir": f'"{data}"',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
    }
    write_whole(data / "redis.conf", "".join(f"{name} {value}\n" for name, value in settings.items()), 0o600)
    return (str(tool.programs / "redis-server"), str(data / "redis.conf"))


def _run(command: tuple[str, ...], tool: Tool, text: str = "") -> None:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, **tool.env(), "TZ": "UTC"},
            timeout=INITDB_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise StackFailed(f"`{' '.join(command)}` did not end within {INITDB_SECONDS_MAX} s") from exc
    if done.returncode != 0:
        raise StackFailed(f"`{' '.join(command)}` failed: {(done.stdout + done.stderr).strip()[-800:]}")
