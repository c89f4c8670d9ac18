"""The gRPC door: spillway.v1.Collector on grpcio's asyncio server.

Rules. No generated deserialiser on the hot path: a request comes as bytes and is cut into events. Errors become status here,
once. Health (grpc.health.v1) and reflection are served beside it. A message past the size limit is refused by us with
INVALID_ARGUMENT up to twice the limit; beyond that by grpc itself with RESOURCE_EXHAUSTED and without RetryInfo.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pipeline.doors.collect import Answer, Collector, NotTaken
from pipeline.doors.grpc_status import DETAILS_KEY, code_of, details_of, rejection
from pipeline.doors.grpc_stream import Stream
from pipeline.doors.reasons import Reason, reason_of
from pipeline.doors.settings import GrpcSettings
from pipeline.doors.wire import split_batch
from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.gen.spillway.v1 import collector_pb2

SERVICE = "spillway.v1.Collector"
# The answer has to reach the client before its own deadline.
_MARGIN_SECONDS = 0.05


class GrpcDoor:
    """One process's gRPC server. `port` is the bound one when 0 was asked for."""

    def __init__(self, collector: Collector, settings: GrpcSettings) -> None:
        self._collector, self._settings = collector, settings
        self._limits = collector.acceptance.limits
        self._stopping = asyncio.Event()
        self._server = aio.server(options=_options(settings, self._limits.request_bytes))
        methods = {
            "Publish": grpc.unary_unary_rpc_method_handler(self._publish),
            "PublishStream": grpc.stream_stream_rpc_method_handler(self._publish_stream),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            self.port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")
        except RuntimeError as exc:
            raise InvalidConfiguration(f"SPILLWAY_GRPC_PORT={settings.port}: can't listen on {settings.host}: {exc}") from exc

    async def start(self) -> None:
        await self._server.start()
        for service in ("", SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def fail_readiness(self) -> None:
        await self._health.enter_graceful_shutdown()

    async def stop_accepting(self, budget_seconds: float) -> None:
        """GOAWAY, end open streams when their events are answered, and wait for what is in flight."""
        self._collector.draining = True
        self._stopping.set()
        await self._server.stop(budget_seconds)

    async def _publish(self, body: bytes, context: Any) -> bytes:
        began = time.perf_counter()
        collector = self._collector
        try:
            caller = collector.identify(metadata_of(context))
            if len(body) > self._limits.request_bytes:
                raise NotTaken(Reason.REQUEST_TOO_LARGE, f"a request holds at most {self._limits.request_bytes} bytes")
            hold = collector.admit(caller, len(body))
            try:
                encoded = split_batch(body, self._limits.request_events)
                now = collector.clock_micros()
                decide = collector.acceptance.decide
                decisions = [decide(event, now, caller.context) for event in encoded]
                left = context.time_remaining()
                wait_seconds = None if left is None else left - _MARGIN_SECONDS
                answer = await collector.publish(caller, decisions, hold, wait_seconds, began)
            finally:
                if not hold.handed_over:
                    hold.release()
        except NotTaken as problem:
            await self._abort(context, problem)
        except InvalidEvent as exc:
            await self._abort(context, NotTaken(reason_of(exc.reason), str(exc)))
        return encode_answer(answer)

    async def _publish_stream(self, _: Any, context: Any) -> None:
        stream = Stream(self._collector, self._settings, context, lambda: metadata_of(context), self._stopping)
        ended = await stream.run()
        if ended is not None:
            await self._abort(context, ended)

    async def _abort(self, context: Any, problem: NotTaken) -> NoReturn:
        self._collector.refused(problem)
        await abort(context, problem)


def encode_answer(answer: Answer) -> bytes:
    response = collector_pb2.PublishResponse(
        statuses=answer.statuses,  # type: ignore[arg-type]
        rejections=[rejection(problem) for problem in answer.problems],
    )
    return response.SerializeToString()


def metadata_of(context: Any) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


async def abort(context: Any, problem: NotTaken) -> NoReturn:
    stop: Callable[..., Awaitable[NoReturn]] = context.abort
    await stop(code_of(problem.reason), str(problem), ((DETAILS_KEY, details_of(problem)),))
    raise AssertionError("abort does not return")


def _options(settings: GrpcSettings, request_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", 2 * request_bytes),
        ("grpc.max_connection_age_ms", int(settings.connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_concurrent_streams", 1000),
    ]
