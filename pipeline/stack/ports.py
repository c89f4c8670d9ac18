"""Ports on 127.0.0.1: is one free, who holds it, and which to take when any will do.

Free ports come from below the kernel's range for outgoing connections, so that none of those can take one between our look and
the server's bind.
"""

import contextlib
import os
import random
import socket
from pathlib import Path

from pipeline.stack.errors import PortTaken

HOST = "127.0.0.1"
FREE_PORT_MIN, FREE_PORT_MAX = 18_000, 31_999
FREE_PORT_TRIES_MAX = 2_000
COMMAND_CHARACTERS_MAX = 100
_LISTEN = "0A"


def is_free(port: int) -> bool:
    """Whether a server could bind it: connections that a former server left behind do not count, listeners do."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int, taken: frozenset[int] = frozenset(), rng: random.Random | None = None) -> list[int]:
    """Different ports that are free now.

    Raises:
        PortTaken: not enough found in `FREE_PORT_TRIES_MAX` tries.
    """
    rng = rng or random.SystemRandom()
    found: list[int] = []
    for _ in range(FREE_PORT_TRIES_MAX):
        if len(found) == count:
            return found
        port = rng.randint(FREE_PORT_MIN, FREE_PORT_MAX)
        if port not in taken and port not in found and is_free(port):
            found.append(port)
    raise PortTaken(f"found only {len(found)} of {count} free ports between {FREE_PORT_MIN} and {FREE_PORT_MAX}")


def holder(port: int) -> str:
    """Who listens on a port, as far as we may see: `pid 4711 (redis-server *:8080)`.

    Source: proc_net_tcp(5): local address, state and inode; the inode leads to a descriptor of a process.
    """
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for fields in (line.split() for line in Path(table).read_text().splitlines()[1:])
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        if sockets & _open_files(pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"pid {pid} ({words[:COMMAND_CHARACTERS_MAX]})"
    return "a process that this user may not see"


def _open_files(pid: str) -> set[str]:
    """What a process has open, as far as it stays open while we look and we may look."""
    found: set[str] = set()
    with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def require_free(ports: dict[str, int]) -> None:
    """Raises:
    PortTaken: names each taken port, who holds it, and what to do.
    """
    taken = [f"port {port} for {name} is held by {holder(port)}" for name, port in ports.items() if not is_free(port)]
    if taken:
        remedy = "stop it, set another port (`spillway up --help`), or let `spillway up --free-ports` choose"
        raise PortTaken("; ".join(taken) + f": {remedy}")
