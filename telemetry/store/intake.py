"""What both doors do alike: from the bytes of one OTLP request to rows in the file.

    received (bytes bounded) ──► read, on threads of their own ──► offered to the writer ──► answered

Rules. Reading a request (unpacking, parsing, making rows) never happens on the thread that serves: a large one in JSON takes
seconds. A request that can't be held is refused unread; it counts as one item, since nobody knows what was in it.
Source: OTLP specification 1.x, "OTLP/HTTP", "JSON Protobuf Encoding".
"""

import asyncio
import base64
import json
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from telemetry.store.ingest import Ingest, RefusedError
from telemetry.store.room import Room
from telemetry.store.rows import Export, Request, Signal, export_of
from telemetry.store.settings import REQUEST_BYTES_MAX

Encoding = Literal["protobuf", "json"]
READ_THREADS = 2
INVALID = "a trace id is 16 bytes and a span id 8"
_IDS = ("traceId", "spanId", "parentSpanId")
_GZIP_BITS = 31


class InvalidError(Exception):
    """The request can't be read, and sent again it would be the same. `too_large`: it is past the bound."""

    def __init__(self, why: str, *, too_large: bool = False) -> None:
        super().__init__(why)
        self.too_large = too_large


class Intake:
    """Belongs to the event loop."""

    def __init__(self, ingest: Ingest, reading_bytes_max: int, clock: Callable[[], float] = time.time) -> None:
        self._ingest, self._clock = ingest, clock
        self._room = Room(reading_bytes_max)
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")

    def hold(self, signal: Signal, size_bytes: int) -> None:
        """Before so many bytes more are received; `let_go` in the end, whatever happens.

        Raises:
            RefusedError: there is no room for them.
        """
        if not self._room.take(size_bytes):
            raise self.busy(signal, f"{self._room.held_bytes} bytes are being read already: send more slowly")

    def busy(self, signal: Signal, why: str) -> RefusedError:
        """To be raised for a request that nobody has read; counts it."""
        self._ingest.refused(signal, 1)
        return RefusedError(True, why)

    def let_go(self, size_bytes: int) -> None:
        self._room.give(size_bytes)

    async def take(self, signal: Signal, body: bytes, encoding: Encoding, *, gzip: bool = False) -> int:
        """When it is in the file: how many of its items were left out because they are not valid.

        Raises:
            InvalidError: it can't be read.
            RefusedError: not now.
        """
        loop = asyncio.get_running_loop()
        export, size_bytes = await loop.run_in_executor(self._threads, self._read, signal, body, encoding, gzip)
        return await asyncio.wrap_future(self._ingest.offer(export, size_bytes))

    def _read(self, signal: Signal, body: bytes, encoding: Encoding, gzip: bool) -> tuple[Export, int]:
        if gzip:
            body = unpacked(body)
        return export_of(parsed(signal, body, encoding), int(self._clock())), len(body)

    def close(self) -> None:
        self._threads.shutdown()


def success(signal: Signal, rejected: int) -> Message:
    """The answer to a request that was taken; `rejected` items were left out as not valid."""
    if signal == "logs":
        return ExportLogsServiceResponse()
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = INVALID
    return answer


def unpacked(body: bytes) -> bytes:
    """Raises: InvalidError: it is no gzip, or a larger one than may be."""
    unpack = zlib.decompressobj(_GZIP_BITS)
    try:
        out = unpack.decompress(body, REQUEST_BYTES_MAX + 1)
    except zlib.error as exc:
        raise InvalidError("the body is no gzip") from exc
    if len(out) > REQUEST_BYTES_MAX:
        raise InvalidError(f"a request is at most {REQUEST_BYTES_MAX} bytes, unpacked: send fewer at once", too_large=True)
    if not unpack.eof:
        raise InvalidError("the gzip ends too early")
    if unpack.unused_data:
        raise InvalidError("the body goes on after the end of the gzip")
    return out


def parsed(signal: Signal, body: bytes, encoding: Encoding) -> Request:
    """Raises: InvalidError: it is not what it is said to be."""
    message: Request = ExportTraceServiceRequest() if signal == "spans" else ExportLogsServiceRequest()
    try:
        if encoding == "json":
            ParseDict(_with_base64_ids(json.loads(body)), message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, ParseError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        # OTLP/JSON that has a list where an object must be breaks in ways of its own.
        raise InvalidError(f"the body is no OTLP {message.DESCRIPTOR.name} in {encoding}: {str(exc)[:200]}") from exc
    return message


def _with_base64_ids(said: Any) -> Any:
    """OTLP's JSON has ids in hexadecimal digits, where Protobuf's JSON would have base64. Changes `said`.

    Attributes are not entered: what a sender calls `traceId` in there is its own.
    """
    for signal, scopes, items in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for of_resource in said.get(signal) or ():
            for of_scope in of_resource.get(scopes) or ():
                for item in of_scope.get(items) or ():
                    for holder in (item, *(item.get("links") or ())):
                        for name in _IDS:
                            if holder.get(name):
                                holder[name] = base64.b64encode(bytes.fromhex(holder[name])).decode()
    return said
