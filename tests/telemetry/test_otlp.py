"""Spans leave as OpenTelemetry's own exporter would send them, and a backend that is away for a moment loses nothing."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from telemetry.otlp import encode, span_sender
from telemetry.tracing import Tracer, Value, trace_of

NANOS = st.integers(0, 1 << 62)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-(1 << 62), 1 << 62),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=5)),
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=10), VALUES, max_size=6)
TRACEPARENTS = st.sampled_from(["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])


@given(st.data())
def test_spans_are_encoded_as_the_exporter_of_opentelemetry_encodes_them(data: st.DataObject) -> None:
    spans: list[ReadableSpan] = []
    tracer = Tracer("grpc", "grpc-1", spans.append)
    for number in range(data.draw(st.integers(1, 4))):
        trace = trace_of("/shop", f"id-{number}", data.draw(TRACEPARENTS))
        attributes, error = data.draw(ATTRIBUTES), data.draw(st.sampled_from(["", "Unavailable: gone"]))
        batch = None
        if data.draw(st.booleans()):
            batch = tracer.batch("publish", "grpc-door", 1, 2, members=[trace] * number, attributes=attributes, error=error)
        tracer.event(
            trace, "grpc-door", data.draw(NANOS), data.draw(NANOS), parent=data.draw(st.sampled_from(["", "sdk"])),
            kind=data.draw(st.sampled_from(list(SpanKind))), attributes=attributes, error=error, batch=batch,
            worker=data.draw(st.sampled_from(["", "other"])),
        )  # fmt: skip
    assert encode_spans(spans).SerializeToString(deterministic=True) == encode(spans).SerializeToString(deterministic=True)


@dataclass
class _Backend:
    """Answers with these status codes, one a request, and 200 from then on."""

    answers: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def backend(*answers: int) -> Iterator[_Backend]:
    state = _Backend(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self._answer(state.answers.pop(0) if state.answers else 200)

        def do_GET(self) -> None:
            self._answer(200)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            if status == 302:
                self.send_header("location", "/login")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def spans_of(id: str) -> list[ReadableSpan]:
    spans: list[ReadableSpan] = []
    Tracer("grpc", "grpc-1", spans.append).event(trace_of("/shop", id), "grpc-door", 1, 2)
    return spans


@pytest.mark.parametrize(
    ("answers", "taken", "asked"),
    [
        ((), True, 1),
        ((503,), True, 2),
        ((429, 502, 504), True, 4),
        ((400,), False, 1),
        ((500,), False, 1),
        ((401,), False, 1),
        ((302,), False, 1),
    ],
)
def test_what_may_help_is_tried_again_and_nothing_else(
    answers: tuple[int, ...], taken: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.otlp.PAUSE_SECONDS_FIRST", 0.001)
    with backend(*answers) as store:
        assert (taken, asked) == (span_sender(store.url, 10.0)(spans_of("a")), len(store.got))


def test_a_backend_that_is_gone_is_given_up_on() -> None:
    with backend() as store:
        url = store.url
    assert not span_sender(url, 0.2)(spans_of("a"))


def test_headers_and_compression_are_those_of_opentelemetrys_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2VjcmV0,x-scope=all")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
    spans = spans_of("a")
    with backend() as store:
        assert span_sender(store.url, 10.0)(spans)
        ((headers, body),) = store.got
    assert ("Basic c2VjcmV0", "all", "gzip") == (headers["authorization"], headers["x-scope"], headers["content-encoding"])
    assert encode(spans) == ExportTraceServiceRequest.FromString(gzip.decompress(body))
