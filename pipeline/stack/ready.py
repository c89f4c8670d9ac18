"""Is a process ready? Each probe is one short exchange in the server's own protocol; an open port alone proves nothing.

PostgreSQL listens before it has recovered and Redis before it has loaded, and both say so when asked.
"""

import http.client
import socket
import struct

from pipeline.stack.ports import HOST
from pipeline.stack.process import Ready

PROBE_SECONDS_MAX = 0.5
_ANSWER_BYTES_MAX = 512


def is_ready(ready: Ready) -> bool:
    """One try, at most about `PROBE_SECONDS_MAX`."""
    try:
        match ready.probe:
            case "started":
                return True
            case "tcp":
                return _tcp(ready)
            case "http":
                return _http(ready)
            case "postgres":
                return _postgres(ready)
            case "redis":
                return _redis(ready)
    except (OSError, http.client.HTTPException):
        return False


def _tcp(ready: Ready) -> bool:
    with socket.create_connection((HOST, ready.port), PROBE_SECONDS_MAX):
        return True


def _http(ready: Ready) -> bool:
    connection = http.client.HTTPConnection(HOST, ready.port, timeout=PROBE_SECONDS_MAX)
    try:
        connection.request("GET", ready.path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _postgres(ready: Ready) -> bool:
    """A server that asks who we are takes connections; one that starts up answers an error.

    Source: PostgreSQL 15, "Message Formats": StartupMessage, AuthenticationRequest ('R'), ErrorResponse ('E').
    """
    body = struct.pack("!I", 196_608) + b"user\0spillway\0database\0spillway\0\0"
    with socket.create_connection((HOST, ready.port), PROBE_SECONDS_MAX) as link:
        link.sendall(struct.pack("!I", len(body) + 4) + body)
        return link.recv(1) == b"R"


def _redis(ready: Ready) -> bool:
    asked = (f"AUTH {ready.password}\r\n" if ready.password else "") + "PING\r\n"
    with socket.create_connection((HOST, ready.port), PROBE_SECONDS_MAX) as link:
        link.sendall(asked.encode())
        answer = b""
        while not answer.endswith(b"\r\n") or answer.count(b"\r\n") < asked.count("\r\n"):
            part = link.recv(_ANSWER_BYTES_MAX)
            if not part or len(answer) > _ANSWER_BYTES_MAX:
                return False
            answer += part
        return answer.endswith(b"+PONG\r\n")
