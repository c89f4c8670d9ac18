"""An OTLP backend in this process: it keeps the spans that it takes, or hangs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Backend:
    url: str = ""
    spans: list[Span] = field(default_factory=list)
    # Cleared: requests are taken and not answered.
    answers: threading.Event = field(default_factory=threading.Event)

    def event_ids(self) -> set[str]:
        return {pair.value.string_value for span in self.spans for pair in span.attributes if pair.key == "cloudevents.event_id"}


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Backend]:
    backend = Backend()
    if not hangs:
        backend.answers.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            backend.answers.wait(60.0)
            backend.spans += [s for resource in request.resource_spans for scope in resource.scope_spans for s in scope.spans]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever hung up while the answer was kept back meant to."""

    server = Server(("127.0.0.1", 0), Handler)
    backend.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield backend
    finally:
        backend.answers.set()
        server.shutdown()
        server.server_close()
