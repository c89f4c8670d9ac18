"""Spans and log lines as OTLP over HTTP: the bytes that OpenTelemetry's exporter makes, at a quarter of its CPU.

The exporter takes 34 us to encode a span, this takes 8 (`python -m pipeline.doors.price`); where events are traced that is most
of what tracing costs. A test holds both to the same bytes. Log lines are encoded here because the Python SDK still marks its API
for logs as private.

What OpenTelemetry's environment says of headers, certificates and compression is honoured, for both signals.
"""

import gzip
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags
from opentelemetry.sdk import resources
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.util.re import parse_env_headers

# Source: OpenTelemetry logs data model, "Field: SeverityNumber".
_SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
# The first pause between attempts is up to this long, each further one up to twice as long.
PAUSE_SECONDS_FIRST = 0.5
# Source: OTLP specification, "OTLP/HTTP Response", retryable response codes.
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_FLAGS_HERE: int = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FLAGS_REMOTE: int = _FLAGS_HERE | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_KINDS = {
    SpanKind.INTERNAL: Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: Span.SPAN_KIND_CLIENT,
    SpanKind.PRODUCER: Span.SPAN_KIND_PRODUCER,
    SpanKind.CONSUMER: Span.SPAN_KIND_CONSUMER,
}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line as it was written. `fields` are all but time, level, event and trace id."""

    time_unix_nano: int
    level: str
    event: str
    trace_id: str
    fields: Mapping[str, Any]


def span_sender(endpoint: str, timeout_seconds: float) -> Callable[[Sequence[ReadableSpan]], bool]:
    backend = _Backend(endpoint, "traces", timeout_seconds)
    return lambda spans: backend.take(encode(spans).SerializeToString())


def log_sender(endpoint: str, timeout_seconds: float, part: str, worker: str) -> Callable[[Sequence[LogLine]], bool]:
    resource = Resource(
        attributes=[_pair("service.name", "spillway"), _pair("service.instance.id", worker), _pair("spillway.part", part)]
    )
    backend = _Backend(endpoint, "logs", timeout_seconds)

    def send(lines: Sequence[LogLine]) -> bool:
        scope = ScopeLogs(log_records=[_record(line) for line in lines])
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource, scope_logs=[scope])])
        return backend.take(request.SerializeToString())

    return send


class _Backend:
    """Where one signal goes. A batch has one deadline, over all attempts."""

    def __init__(self, endpoint: str, signal: Literal["traces", "logs"], timeout_seconds: float) -> None:
        self._url, self._timeout_seconds = f"{endpoint}/v1/{signal}", timeout_seconds

        def said(name: str) -> str:
            """Source: OpenTelemetry protocol exporter; a signal's own variable wins."""
            own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
            return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")

        self._headers = {"content-type": "application/x-protobuf", **parse_env_headers(said("HEADERS"), liberal=True)}
        self._zip = said("COMPRESSION").strip() == "gzip"
        if self._zip:
            self._headers["content-encoding"] = "gzip"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no netrc
        self._session.verify = said("CERTIFICATE") or True
        key, certificate = said("CLIENT_KEY"), said("CLIENT_CERTIFICATE")
        self._session.cert = (certificate, key) if certificate and key else certificate or None

    def take(self, body: bytes) -> bool:
        """Whether the backend took it in time. What may help is tried again, with full jitter."""
        data = gzip.compress(body) if self._zip else body
        deadline, pause_seconds_max = time.monotonic() + self._timeout_seconds, PAUSE_SECONDS_FIRST
        while (left := deadline - time.monotonic()) > 0:
            try:
                # Followed, a redirect may become a GET, whose 200 says nothing of what was sent.
                answer = self._session.post(self._url, data=data, headers=self._headers, timeout=left, allow_redirects=False)
            except requests.ConnectionError:
                pass
            except requests.RequestException:
                return False
            else:
                if answer.status_code not in _TRY_AGAIN:
                    return answer.status_code == 200
            pause_seconds = random.uniform(0, pause_seconds_max)
            if pause_seconds >= deadline - time.monotonic():
                return False
            time.sleep(pause_seconds)
            pause_seconds_max *= 2
        return False


def encode(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Spans by their resource. They have no events and no scope: nothing here makes such."""
    request = ExportTraceServiceRequest()
    by_resource: dict[resources.Resource, ScopeSpans] = {}
    resource, scope = None, ScopeSpans()
    for span in spans:
        # Nearly always that of the span before; its hash costs as much as the span.
        if span.resource is not resource:
            resource = span.resource
            if resource not in by_resource:
                by_resource[resource] = _scope_of(resource, request)
            scope = by_resource[resource]
        _encode_span(span, scope.spans.add())
    return request


def _scope_of(resource: resources.Resource, request: ExportTraceServiceRequest) -> ScopeSpans:
    group = request.resource_spans.add()
    _put(group.resource.attributes, resource.attributes)
    scope = group.scope_spans.add()
    scope.scope.SetInParent()
    return scope


def _encode_span(span: ReadableSpan, into: Span) -> None:
    context, parent = span.context, span.parent
    assert context is not None
    into.trace_id, into.span_id = context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")
    if parent is not None:
        into.parent_span_id = parent.span_id.to_bytes(8, "big")
    into.name, into.kind = span.name, _KINDS[span.kind]
    into.start_time_unix_nano, into.end_time_unix_nano = span.start_time or 0, span.end_time or 0
    into.flags = _flags(parent)
    _put(into.attributes, span.attributes or {})
    for link in span.links:
        linked = into.links.add()
        linked.trace_id, linked.span_id = link.context.trace_id.to_bytes(16, "big"), link.context.span_id.to_bytes(8, "big")
        linked.flags = _flags(link.context)
    into.status.SetInParent()
    if span.status.status_code.value:
        into.status.code = span.status.status_code.value  # type: ignore[assignment]
        into.status.message = span.status.description or ""


def _flags(context: SpanContext | None) -> int:
    """Whether the parent, or what is linked to, was in another process."""
    return _FLAGS_REMOTE if context is not None and context.is_remote else _FLAGS_HERE


def _put(into: Any, attributes: Mapping[str, Any]) -> None:
    add = into.add
    for key, value in attributes.items():
        pair = add()
        pair.key = key
        if type(value) is str:
            pair.value.string_value = value
        else:
            pair.value.CopyFrom(_value(value))


def _record(line: LogLine) -> LogRecord:
    return LogRecord(
        time_unix_nano=line.time_unix_nano,
        observed_time_unix_nano=line.time_unix_nano,
        severity_number=_SEVERITIES.get(line.level, 9),  # type: ignore[arg-type]
        severity_text=line.level.upper(),
        body=AnyValue(string_value=line.event),
        attributes=[_pair(key, value) for key, value in line.fields.items() if value not in ("", None)],
        trace_id=bytes.fromhex(line.trace_id) if len(line.trace_id) == 32 else b"",
    )


def _pair(key: str, value: Any) -> KeyValue:
    return KeyValue(key=key, value=_value(value))


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value) if abs(value) < 1 << 63 else AnyValue(string_value=str(value))
        case float():
            return AnyValue(double_value=value)
        case list() | tuple():
            return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
        case _:
            return AnyValue(string_value=str(value))
