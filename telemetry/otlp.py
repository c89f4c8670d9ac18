"""Spans and log lines as OTLP over HTTP. The exporter for spans is OpenTelemetry's; log lines are encoded here, because the
API for logs is still marked private in the Python SDK.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

# Source: OpenTelemetry logs data model, "Field: SeverityNumber".
_SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line as it was written. `fields` are all but time, level, event and trace id."""

    time_unix_nano: int
    level: str
    event: str
    trace_id: str
    fields: Mapping[str, Any]


def span_sender(endpoint: str, timeout_seconds: float) -> Callable[[Sequence[ReadableSpan]], bool]:
    # It says every failure at length on its logger; ours is a counter and one line.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=timeout_seconds)
    return lambda spans: exporter.export(spans) is SpanExportResult.SUCCESS


def log_sender(endpoint: str, timeout_seconds: float, part: str, worker: str) -> Callable[[Sequence[LogLine]], bool]:
    resource = Resource(
        attributes=[_pair("service.name", "spillway"), _pair("service.instance.id", worker), _pair("spillway.part", part)]
    )
    session = requests.Session()
    session.trust_env = False  # no proxy, no netrc

    def send(lines: Sequence[LogLine]) -> bool:
        scope = ScopeLogs(log_records=[_record(line) for line in lines])
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource, scope_logs=[scope])])
        answer = session.post(
            f"{endpoint}/v1/logs",
            data=request.SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
            timeout=timeout_seconds,
        )
        return answer.status_code == 200

    return send


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
    match value:
        case bool():
            wrapped = AnyValue(bool_value=value)
        case int():
            wrapped = AnyValue(int_value=value) if abs(value) < 1 << 63 else AnyValue(string_value=str(value))
        case float():
            wrapped = AnyValue(double_value=value)
        case _:
            wrapped = AnyValue(string_value=str(value))
    return KeyValue(key=key, value=wrapped)
