"""OTLP in, over gRPC.

Rules. A sender is answered when its spans are in the file. "Come again later" is RESOURCE_EXHAUSTED with RetryInfo, without
which an OTLP client would drop its spans; a store that can't write says UNAVAILABLE. Spans that are not valid are left out and
named in `partial_success`. Messages pass as bytes here: they are parsed where both doors parse.
Source: OTLP specification 1.x, "OTLP/gRPC".
"""

from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from telemetry.store.ingest import RETRY_SECONDS, RefusedError
from telemetry.store.intake import Intake, InvalidError, success
from telemetry.store.rows import Signal
from telemetry.store.settings import MESSAGE_BYTES_MAX

# Calls at one time. gRPC has their messages in memory before it asks us, so it has a bound of its own, without a hint.
CALLS_MAX = 64
_CALLS_MAX_OF_GRPC = 2 * CALLS_MAX
_SERVICES: tuple[tuple[str, Signal], ...] = (
    ("opentelemetry.proto.collector.trace.v1.TraceService", "spans"),
    ("opentelemetry.proto.collector.logs.v1.LogsService", "logs"),
)


def grpc_server(intake: Intake) -> grpc.aio.Server:
    # Two stores must not share a port, each with half of the spans.
    options = (("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.so_reuseport", 0))
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_CALLS_MAX_OF_GRPC)
    door = _Door(intake)
    for service, signal in _SERVICES:
        # Without a deserializer and a serializer both sides are bytes.
        handler = grpc.unary_unary_rpc_method_handler(door.method(signal))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    return server


class _Door:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._calls = 0

    def method(self, signal: Signal) -> Any:
        async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            try:
                return success(signal, await self._take(signal, body)).SerializeToString()
            except InvalidError as exc:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
            except RefusedError as exc:
                code = grpc.StatusCode.RESOURCE_EXHAUSTED if exc.busy else grpc.StatusCode.UNAVAILABLE
                details = _come_again(code, str(exc)).SerializeToString()
                await context.abort(code, str(exc), trailing_metadata=(("grpc-status-details-bin", details),))
            raise AssertionError("abort raises")

        return export

    async def _take(self, signal: Signal, body: bytes) -> int:
        self._calls += 1
        held_bytes = 0
        try:
            if self._calls > CALLS_MAX:
                raise self._intake.busy(signal, f"{CALLS_MAX} calls are being answered already: send more slowly")
            self._intake.hold(signal, len(body))
            held_bytes = len(body)
            return await self._intake.take(signal, body, "protobuf")
        finally:
            self._calls -= 1
            self._intake.let_go(held_bytes)


def _come_again(code: grpc.StatusCode, why: str) -> Status:
    status = Status(code=code.value[0], message=why)
    retry = RetryInfo()
    retry.retry_delay.seconds = RETRY_SECONDS
    status.details.add().Pack(retry)
    return status
