"""OTLP messages to rows: what is looked for gets a column, the rest stays as it came. Pure: nothing here knows of the file."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Signal = Literal["spans", "logs"]
Request = ExportTraceServiceRequest | ExportLogsServiceRequest

HOP, EVENT_ID, EVENT_SOURCE = "spillway.hop", "cloudevents.event_id", "cloudevents.event_source"
REBUILT, UNPLANNED, FINAL = "spillway.rebuilt", "spillway.unplanned", "spillway.final"
_COLUMNS = frozenset((HOP, EVENT_ID, EVENT_SOURCE, REBUILT, UNPLANNED, FINAL))
_NANOSECONDS_MAX = (1 << 63) - 1
_EVENT_CHARS_MAX = 4096


class SpanRow(NamedTuple):
    """A span without its origin, which only the file can number. A text column is None if the attribute is not there as text."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start_ns: int
    duration_ns: int
    name: str
    kind: int
    status: int
    hop: str | None
    event_id: str | None
    event_source: str | None
    rebuilt: int
    unplanned: int
    final: int
    body: bytes


class LineRow(NamedTuple):
    time_ns: int
    severity: int
    level: str
    event: str
    trace_id: bytes | None
    event_id: str | None
    part: str
    worker: str
    fields: str


class Group(NamedTuple):
    """The spans of one resource and scope, both as encoded."""

    resource: bytes
    scope: bytes
    rows: list[SpanRow]


@dataclass(frozen=True, slots=True)
class Export:
    """One request, ready to be written: what came, and what of it is valid."""

    signal: Signal
    items: int
    groups: tuple[Group, ...] = ()
    lines: tuple[LineRow, ...] = ()

    @property
    def valid(self) -> int:
        return len(self.lines) + sum(len(group.rows) for group in self.groups)


# A span that was rebuilt never takes the place of one that was not; else the last word stands.
INSERT_SPAN = f"""
INSERT INTO spans ({", ".join(SpanRow._fields)}, origin_id, arrived_s) VALUES ({",".join("?" * (len(SpanRow._fields) + 2))})
ON CONFLICT (trace_id, span_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*SpanRow._fields[2:], "origin_id"))}
WHERE excluded.rebuilt = 0
"""
INSERT_LINE = f"""
INSERT INTO lines ({", ".join(LineRow._fields)}, arrived_s) VALUES ({",".join("?" * (len(LineRow._fields) + 1))})
"""


def export_of(request: Request, now_s: int) -> Export:
    """The rows of a request. A span without a trace id of 16 and a span id of 8 bytes is left out."""
    if isinstance(request, ExportLogsServiceRequest):
        lines = tuple(_line_rows(request, now_s))
        return Export("logs", len(lines), lines=lines)
    items, groups = 0, []
    for of_resource in request.resource_spans:
        resource = of_resource.resource.SerializeToString(deterministic=True)
        for of_scope in of_resource.scope_spans:
            items += len(of_scope.spans)
            rows = [_span_row(span) for span in of_scope.spans if len(span.trace_id) == 16 and len(span.span_id) == 8]
            groups.append(Group(resource, of_scope.scope.SerializeToString(deterministic=True), rows))
    return Export("spans", items, groups=tuple(groups))


def _span_row(span: Span) -> SpanRow:
    said: dict[str, AnyValue] = {}
    for pair in span.attributes:
        if pair.key in _COLUMNS:
            said.setdefault(pair.key, pair.value)
    start_ns = span.start_time_unix_nano
    return SpanRow(
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        min(start_ns, _NANOSECONDS_MAX),
        min(max(0, span.end_time_unix_nano - start_ns), _NANOSECONDS_MAX),
        span.name,
        span.kind,
        span.status.code,
        _text(said, HOP),
        _text(said, EVENT_ID),
        _text(said, EVENT_SOURCE),
        1 if REBUILT in said and said[REBUILT].bool_value else 0,
        1 if UNPLANNED in said and said[UNPLANNED].bool_value else 0,
        1 if FINAL in said else 0,
        span.SerializeToString(),
    )


def _text(said: dict[str, AnyValue], key: str) -> str | None:
    value = said.get(key)
    return value.string_value if value is not None and value.HasField("string_value") else None


def _line_rows(request: ExportLogsServiceRequest, now_s: int) -> Iterator[LineRow]:
    for of_resource in request.resource_logs:
        resource = plain(of_resource.resource.attributes)
        part = str(resource.get("spillway.part") or resource.get("service.name") or "")
        worker = str(resource.get("service.instance.id") or part)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield _line_row(record, part, worker, now_s)


def _line_row(record: LogRecord, part: str, worker: str, now_s: int) -> LineRow:
    fields = _finite(plain(record.attributes))
    body = _finite(value_of(record.body))
    event_id = fields.get("event_id") or fields.get(EVENT_ID)
    level = record.severity_text.lower() or _level(record.severity_number)
    return LineRow(
        min(record.time_unix_nano or record.observed_time_unix_nano or now_s * 1_000_000_000, _NANOSECONDS_MAX),
        record.severity_number or SEVERITIES.get(level, 0),
        level,
        (body if isinstance(body, str) else "" if body is None else json.dumps(body))[:_EVENT_CHARS_MAX],
        record.trace_id if len(record.trace_id) == 16 else None,
        str(event_id) if event_id else None,
        part,
        worker,
        json.dumps(fields, ensure_ascii=False),
    )


# Source: OpenTelemetry logs data model, "Field: SeverityNumber": each level has four numbers.
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
SEVERITIES = {level: 1 + 4 * place for place, level in enumerate(_LEVELS)} | {"warn": 13, "fatal": 21}


def _level(severity: int) -> str:
    return _LEVELS[min((severity - 1) // 4, len(_LEVELS) - 1)] if severity > 0 else "info"


def plain(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes by name. Of a name that comes twice the first counts, here as everywhere in the store."""
    said: dict[str, Any] = {}
    for pair in pairs:
        if pair.key not in said:
            said[pair.key] = value_of(pair.value)
    return said


def value_of(value: AnyValue) -> Any:
    """The value as Python has it; bytes as hexadecimal digits."""
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


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite; Protobuf's JSON says it as text, and so do we."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
    return value
