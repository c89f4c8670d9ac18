"""One HTTP/1.1 connection, as lean as it goes: httptools parses, the server answers.

Rules
- Requests of a connection are answered in their order, one at a time; at most 16 wait, then reading stops.
- A body is at most 16 MiB; past it the answer is 413 and the connection ends.
- A subscription holds its connection with chunked encoding; when the client reads slowly, the pump waits (`drained`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httptools

from .door import BODY_BYTES_MAX

if TYPE_CHECKING:
    from .server import Server

WAITING_MAX = 16
WRITE_BUFFER_BYTES_MAX = 4 * 1024 * 1024
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    413: "Payload Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
JSON_TYPE = "application/x-amz-json-1.1"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. `signed` says that it carries an Authorization header."""

    method: str
    path: str
    target: str
    content_type: str
    signed: bool
    keep_alive: bool
    body: bytes


class Connection(asyncio.Protocol):
    """Bytes in, requests to the server, bytes out."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._reset()
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.drained = asyncio.Event()
        self.drained.set()
        self.used_s = server.monotonic()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self.drained.set()

    def data_received(self, data: bytes) -> None:
        self.used_s = self._server.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    # -- httptools

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= BODY_BYTES_MAX:
            self._body.append(body)

    def on_message_complete(self) -> None:
        headers = self._headers
        too_large = self._body_bytes > BODY_BYTES_MAX
        request = Request(
            self._parser.get_method().decode(),
            self._url.decode("latin-1"),
            headers.get(b"x-amz-target", b"").decode("latin-1"),
            headers.get(b"content-type", b"").decode("latin-1"),
            b"authorization" in headers,
            self._parser.should_keep_alive() and not too_large,
            b"".join(self._body),
        )
        self._reset()
        if too_large:
            self.reply(413, b'{"__type":"RequestEntityTooLargeException"}', keep_alive=False)
            return
        self._waiting.append(request)
        if len(self._waiting) >= WAITING_MAX:
            self.transport.pause_reading()
        if not self._busy:
            self._next()

    def _next(self) -> None:
        if self._waiting and not self.transport.is_closing():
            self._busy = True
            self._server.serve(self, self._waiting.popleft())

    # -- out

    def reply(self, status: int, body: bytes, *, keep_alive: bool, content_type: str = JSON_TYPE) -> None:
        """Answer the request at hand and go on to the next."""
        if self.transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nx-amzn-requestid: {self._server.request_id()}\r\n"
            f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
            f"{'' if keep_alive else 'connection: close' + chr(13) + chr(10)}\r\n"
        )
        self.transport.write(head.encode("latin-1") + body)
        self._done(keep_alive)

    def begin_stream(self) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nx-amzn-requestid: {self._server.request_id()}\r\n"
            "content-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.transport.write(head.encode("latin-1"))

    def stream(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.writelines((f"{len(data):x}\r\n".encode(), data, b"\r\n"))

    def end_stream(self, *, keep_alive: bool) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")
            self._done(keep_alive)

    def break_off(self) -> None:
        self.transport.abort()

    def _done(self, keep_alive: bool) -> None:
        self._busy = False
        self.used_s = self._server.monotonic()
        if not keep_alive:
            self.transport.close()
            return
        if len(self._waiting) < WAITING_MAX and not self.transport.is_reading():
            self.transport.resume_reading()
        self._next()

    @property
    def busy(self) -> bool:
        return self._busy
