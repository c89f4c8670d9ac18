"""OTLP messages to rows: what is looked for gets a column, the rest stays as it came."""

import json
from collections.abc import Iterable
from typing import Any, Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

SpanRow = tuple[bytes, bytes, bytes, int, int, str, int, int, str | None, str | None, str | None, int, int, int, int, bytes]
LineRow = tuple[int, int, str, str, bytes | None, str | None, str, str, str, int]
Seen = tuple[bytes, str, str, str, bool, bool]

HOP, EVENT_ID, EVENT_SOURCE = "spillway.hop", "cloudevents.event_id", "cloudevents.event_source"
REBUILT, FINAL = "spillway.rebuilt", "spillway.final"
_COLUMNS = frozenset((HOP, EVENT_ID, EVENT_SOURCE, REBUILT, FINAL))
_NANOSECONDS_MAX = (1 << 63) - 1
_EVENT_CHARS_MAX = 4096

INSERT_SPAN = """
INSERT INTO spans (trace_id, span_id, parent_id, start_ns, duration_ns, name, kind, status, hop, event_id, event_source,
                   rebuilt, final, origin_id, arrived_s, body)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (trace_id, span_id) DO UPDATE SET
    parent_id = excluded.parent_id, start_ns = excluded.start_ns, duration_ns = excluded.duration_ns, name = excluded.name,
    kind = excluded.kind, status = excluded.status, hop = excluded.hop, event_id = excluded.event_id,
    event_source = excluded.event_source, rebuilt = 0, final = excluded.final, origin_id = excluded.origin_id,
    body = excluded.body
WHERE excluded.rebuilt = 0
"""
INSERT_LINE = """
INSERT INTO lines (time_ns, severity, level, event, trace_id, event_id, part, worker, fields, arrived_s)
VALUES (?,?,?,?,?,?,?,?,?,?)
"""


class Intern(Protocol):
    def __call__(self, resource: bytes, scope: bytes) -> int: ...


def span_count(request: ExportTraceServiceRequest) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def line_count(request: ExportLogsServiceRequest) -> int:
    return sum(len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs)


def span_rows(request: ExportTraceServiceRequest, intern: Intern, arrived_s: int) -> Iterable[SpanRow]:
    """Rows of the valid spans; one without a trace id of 16 and a span id of 8 bytes is left out."""
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource.SerializeToString()
        for scope_spans in resource_spans.scope_spans:
            origin_id = intern(resource, scope_spans.scope.SerializeToString())
            for span in scope_spans.spans:
                trace_id, span_id, start_ns = span.trace_id, span.span_id, span.start_time_unix_nano
                if len(trace_id) != 16 or len(span_id) != 8:
                    continue
                said: dict[str, AnyValue] = {}
                for pair in span.attributes:
                    key = pair.key
                    if key in _COLUMNS:
                        said[key] = pair.value
                duration_ns = max(0, span.end_time_unix_nano - start_ns)
                yield (
                    trace_id,
                    span_id,
                    span.parent_span_id,
                    min(start_ns, _NANOSECONDS_MAX),
                    min(duration_ns, _NANOSECONDS_MAX),
                    span.name,
                    span.kind,
                    span.status.code,
                    _text(said, HOP),
                    _text(said, EVENT_ID),
                    _text(said, EVENT_SOURCE),
                    1 if REBUILT in said and said[REBUILT].bool_value else 0,
                    1 if FINAL in said else 0,
                    origin_id,
                    arrived_s,
                    span.SerializeToString(),
                )


def seen(row: SpanRow) -> Seen | None:
    """What the judge wants to know of a span, if it is an event's: (trace id, source, event id, hop, rebuilt, final)."""
    hop, event_id, source = row[8], row[9], row[10]
    return (row[0], source or "", event_id, hop, bool(row[11]), bool(row[12])) if hop and event_id else None


def _text(said: dict[str, AnyValue], key: str) -> str | None:
    return said[key].string_value or None if key in said else None


def line_rows(request: ExportLogsServiceRequest, arrived_s: int) -> Iterable[LineRow]:
    for resource_logs in request.resource_logs:
        resource = plain(resource_logs.resource.attributes)
        part = str(resource.get("spillway.part") or resource.get("service.name") or "")
        worker = str(resource.get("service.instance.id") or part)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield _line_row(record, part, worker, arrived_s)


def _line_row(record: LogRecord, part: str, worker: str, arrived_s: int) -> LineRow:
    fields = plain(record.attributes)
    body = value_of(record.body)
    event_id = fields.get("event_id") or fields.get(EVENT_ID)
    return (
        min(record.time_unix_nano or record.observed_time_unix_nano or arrived_s * 1_000_000_000, _NANOSECONDS_MAX),
        record.severity_number,
        record.severity_text.lower() or _level(record.severity_number),
        (body if isinstance(body, str) else json.dumps(body))[:_EVENT_CHARS_MAX],
        record.trace_id if len(record.trace_id) == 16 else None,
        str(event_id) if event_id else None,
        part,
        worker,
        json.dumps(fields, ensure_ascii=False),
        arrived_s,
    )


# Source: OpenTelemetry logs data model, "Field: SeverityNumber": each level has four numbers.
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
SEVERITIES = {level: 1 + 4 * place for place, level in enumerate(_LEVELS)} | {"warn": 13, "fatal": 21}


def _level(severity: int) -> str:
    return _LEVELS[min((severity - 1) // 4, len(_LEVELS) - 1)] if severity > 0 else "info"


def plain(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    """The value as JSON has it; bytes as hexadecimal digits."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [value_of(one) for one in value.array_value.values]
        case "kvlist_value":
            return plain(value.kvlist_value.values)
        case "bytes_value":
            return value.bytes_value.hex()
        case kind:
            return getattr(value, kind)
