"""OTLP in, over gRPC and over HTTP (Protobuf or JSON, plain or gzip), as the specification has it.

Rules. A sender is answered when its spans are in the file. "Come again later" is RESOURCE_EXHAUSTED with RetryInfo, or 429 with
Retry-After; a store that can't write says UNAVAILABLE, or 503. Spans that are not valid are left out and named in
`partial_success`. Source: OTLP specification 1.x, "OTLP/gRPC" and "OTLP/HTTP".
"""

import asyncio
import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.store.ingest import RETRY_SECONDS, Ingest, RefusedError, Signal
from telemetry.store.settings import REQUEST_BYTES_MAX

_NOT_VALID = "a trace id is 16 bytes and a span id 8"
_ID_BYTES = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_GZIP_BITS = 31


def _trace_answer(rejected: int) -> ExportTraceServiceResponse:
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = _NOT_VALID
    return answer


# -- gRPC


async def _export(
    ingest: Ingest, signal: Signal, request: ExportTraceServiceRequest | ExportLogsServiceRequest, context: Any
) -> int:
    try:
        return await asyncio.wrap_future(ingest.offer(signal, request, request.ByteSize()))
    except RefusedError as exc:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if exc.busy else grpc.StatusCode.UNAVAILABLE
        status = Status(code=code.value[0], message=str(exc))
        retry = RetryInfo()
        retry.retry_delay.seconds = RETRY_SECONDS
        status.details.add().Pack(retry)
        await context.abort(code, str(exc), trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()),))
        raise AssertionError("abort raises") from exc


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        return _trace_answer(await _export(self._ingest, "spans", request, context))


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Export(self, request: ExportLogsServiceRequest, context: Any) -> ExportLogsServiceResponse:  # noqa: N802
        await _export(self._ingest, "logs", request, context)
        return ExportLogsServiceResponse()


def grpc_server(ingest: Ingest) -> grpc.aio.Server:
    # Two stores must not share a port, each with half of the spans.
    options = (("grpc.max_receive_message_length", REQUEST_BYTES_MAX), ("grpc.so_reuseport", 0))
    server = grpc.aio.server(options=options)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(ingest), server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(ingest), server)  # type: ignore[no-untyped-call]
    return server


# -- HTTP


class _NotTakenError(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class HttpDoor:
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def routes(self) -> list[Route]:
        return [
            Route("/v1/traces", self._traces, methods=["POST"]),
            Route("/v1/logs", self._logs, methods=["POST"]),
        ]

    async def _traces(self, request: Request) -> Response:
        return await self._take(request, "spans", ExportTraceServiceRequest())

    async def _logs(self, request: Request) -> Response:
        return await self._take(request, "logs", ExportLogsServiceRequest())

    async def _take(
        self, request: Request, signal: Signal, message: ExportTraceServiceRequest | ExportLogsServiceRequest
    ) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        try:
            if kind not in (_PROTOBUF, _JSON):
                raise _NotTakenError(415, f"content-type is {_PROTOBUF} or {_JSON}")
            body = await _body(request)
            _read(message, body, kind)
            rejected = await asyncio.wrap_future(self._ingest.offer(signal, message, len(body)))
        except _NotTakenError as exc:
            return _answer(Status(code=3, message=str(exc)), kind, exc.status)
        except RefusedError as exc:
            answer = _answer(Status(code=8 if exc.busy else 14, message=str(exc)), kind, 429 if exc.busy else 503)
            answer.headers["retry-after"] = str(RETRY_SECONDS)
            return answer
        return _answer(_trace_answer(rejected) if signal == "spans" else ExportLogsServiceResponse(), kind, 200)


def _answer(message: Message, kind: str, status: int) -> Response:
    if kind == _JSON:
        return Response(json.dumps(MessageToDict(message)), status, media_type=_JSON)
    return Response(message.SerializeToString(), status, media_type=_PROTOBUF)


async def _body(request: Request) -> bytes:
    """The whole body, unpacked; never more than the bound of it is kept."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise _NotTakenError(415, "content-encoding is gzip or none")
    unpack = zlib.decompressobj(_GZIP_BITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in request.stream():
        try:
            body += chunk if unpack is None else unpack.decompress(chunk, REQUEST_BYTES_MAX + 1 - len(body))
        except zlib.error as exc:
            raise _NotTakenError(400, "the body is no gzip") from exc
        if len(body) > REQUEST_BYTES_MAX or (unpack is not None and unpack.unconsumed_tail):
            raise _NotTakenError(413, f"a request is at most {REQUEST_BYTES_MAX} bytes, unpacked")
    if unpack is not None and not unpack.eof:
        raise _NotTakenError(400, "the gzip ends too early")
    return bytes(body)


def _read(message: ExportTraceServiceRequest | ExportLogsServiceRequest, body: bytes, kind: str) -> None:
    try:
        if kind == _JSON:
            said = json.loads(body)
            _ids_to_base64(said)
            ParseDict(said, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, ParseError, ValueError, RecursionError) as exc:
        raise _NotTakenError(400, f"the body is not what content-type says: {str(exc)[:200]}") from exc


def _ids_to_base64(said: Any) -> None:
    """OTLP's JSON has ids in hexadecimal digits, where Protobuf's JSON would have base64. Changes `said`.

    Attributes are not entered: what a sender calls `traceId` in there is its own.
    """
    if not isinstance(said, Mapping):
        raise ValueError("not a JSON object")
    for signal, scopes, items in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for of_resource in said.get(signal) or ():
            for of_scope in of_resource.get(scopes) or ():
                for item in of_scope.get(items) or ():
                    for holder in (item, *(item.get("links") or ())):
                        _id_to_base64(holder)


def _id_to_base64(holder: dict[str, Any]) -> None:
    for name in _ID_BYTES:
        if holder.get(name):
            holder[name] = base64.b64encode(bytes.fromhex(holder[name])).decode()
