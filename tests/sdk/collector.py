"""A small collector in this process: a real gRPC server that remembers what it acknowledged."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.v1 import collector_pb2_grpc
from pipeline.gen.spillway.v1.collector_pb2 import PublishResponse, PublishStreamRequest, PublishStreamResponse
from pipeline.sdk.transport import accept_all

API_KEY = "spw_test_secret"


@dataclass
class SmallCollector(collector_pb2_grpc.CollectorServicer):
    """`answer` decides each response; `abort` may end a call with a status instead."""

    answer: Callable[[Sequence[CloudEvent]], PublishResponse] = accept_all
    abort: Callable[[grpc.ServicerContext], None] = lambda context: None
    events: list[CloudEvent] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    target: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Publish(self, request: CloudEventBatch, context: grpc.ServicerContext) -> PublishResponse:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {API_KEY}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown API key")
        with self._lock:
            self.metadata.append(metadata)
            self.abort(context)
            self.events.extend(request.events)
            return self.answer(request.events)

    def PublishStream(  # noqa: N802
        self, request_iterator: Iterator[PublishStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[PublishStreamResponse]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "this small collector takes batches only")
        raise AssertionError("abort raises")

    @property
    def ids(self) -> list[str]:
        with self._lock:
            return [event.id for event in self.events]


@contextmanager
def serving(collector: SmallCollector, port: int = 0) -> Iterator[SmallCollector]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    collector_pb2_grpc.add_CollectorServicer_to_server(collector, server)
    collector.target = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait(5)
