"""OTLP messages as the tests need them: short to write, complete on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

AT_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
RESOURCE = {"service.name": "spillway", "spillway.part": "redactor", "service.instance.id": "redactor-1"}


def value(said: Any) -> AnyValue:
    match said:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=said)
        case int():
            return AnyValue(int_value=said)
        case float():
            return AnyValue(double_value=said)
        case bytes():
            return AnyValue(bytes_value=said)
        case list():
            return AnyValue(array_value=ArrayValue(values=[value(one) for one in said]))
    return AnyValue(string_value=said)


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(said)) for key, said in attributes.items()]


def span(
    trace: int,
    id: int,
    *,
    name: str = "process events",
    parent: int = 0,
    start_ns: int = AT_NS,
    duration_ns: int = 5_000_000,
    kind: int = Span.SPAN_KIND_CONSUMER,
    error: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> Span:
    return Span(
        trace_id=trace_id(trace),
        span_id=id.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        kind=kind,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + duration_ns,
        attributes=pairs(attributes or {}),
        status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error else None,
    )


def trace_id(trace: int) -> bytes:
    return trace.to_bytes(16, "big")


def hop_span(trace: int, hop: str, event_id: str, *, source: str = "/s", **attributes: Any) -> Span:
    """An event's span at a hop, with an id that follows from trace, event and hop."""
    said = {"spillway.hop": hop, "cloudevents.event_id": event_id, "cloudevents.event_source": source, **attributes}
    return span(trace, 1 + hash_of(hop, event_id, source), name=hop, attributes=said)


def hash_of(*parts: str) -> int:
    """The same in every process, unlike `hash`."""
    return int.from_bytes("/".join(parts).encode(), "big") % ((1 << 63) - 25)


def request(*spans: Span, resource: Mapping[str, Any] | None = None, scope: str = "tests") -> ExportTraceServiceRequest:
    of_scope = ScopeSpans(scope=InstrumentationScope(name=scope), spans=spans)
    attributes = pairs(RESOURCE if resource is None else resource)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=Resource(attributes=attributes), scope_spans=[of_scope])]
    )


def line(event: str, *, at_ns: int = AT_NS, level: str = "INFO", severity: int = 9, trace: int = 0, **fields: Any) -> LogRecord:
    return LogRecord(
        time_unix_nano=at_ns,
        severity_number=severity,  # type: ignore[arg-type]
        severity_text=level,
        body=AnyValue(string_value=event),
        attributes=pairs(fields),
        trace_id=trace_id(trace) if trace else b"",
    )


def lines(records: Sequence[LogRecord], resource: Mapping[str, Any] | None = None) -> ExportLogsServiceRequest:
    out = ExportLogsServiceRequest()
    of_resource = out.resource_logs.add()
    of_resource.resource.attributes.extend(pairs(RESOURCE if resource is None else resource))
    of_resource.scope_logs.add().log_records.extend(records)
    return out
