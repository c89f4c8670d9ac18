"""The shapes of Tempo's answers: messages of `tempopb`, as Protobuf's JSON, and one on the wire.

Rules. Grafana reads search answers strictly: a field that `tempopb` has not is an error. 64-bit numbers are strings, as in
Protobuf's JSON. Source: grafana/tempo `pkg/tempopb/tempo.proto`; grafana/grafana-tempo-datasource `pkg/tempo/search.go`.
"""

from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from telemetry.store.query import FoundSpan, FoundTrace

NO_ROOT = "<root span not yet received>"
_PARTIAL = "the trace has more spans than are shown"
_UINT32_MAX = (1 << 32) - 1


def trace_v1(trace: TracesData) -> dict[str, Any]:
    """`Trace` as the first version of the API has it: `batches`, where OTLP has `resourceSpans`."""
    return {"batches": MessageToDict(trace).get("resourceSpans", [])}


def trace_v2(trace: TracesData, whole: bool) -> dict[str, Any]:
    """`TraceByIDResponse`."""
    return {"trace": MessageToDict(trace), **({} if whole else {"status": "PARTIAL", "message": _PARTIAL})}


def trace_v2_wire(trace: TracesData, whole: bool) -> bytes:
    """`TraceByIDResponse` on the wire: field 1 is the trace, as OTLP encodes it; 3 the status; 4 the message."""
    body = trace.SerializeToString()
    partial = b"" if whole else b"\x18\x01\x22" + _varint(len(_PARTIAL)) + _PARTIAL.encode()
    return b"\x0a" + _varint(len(body)) + body + partial


def search_answer(found: list[FoundTrace], spans_max: int) -> dict[str, Any]:
    """`SearchResponse`; of each trace at most so many of the spans that fit."""
    metrics = {"inspectedTraces": len(found), "completedJobs": 1, "totalJobs": 1}
    return {"traces": [_summary(trace, spans_max) for trace in found], "metrics": metrics}


def _summary(trace: FoundTrace, spans_max: int) -> dict[str, Any]:
    """`TraceSearchMetadata`."""
    root = trace.root
    began = min(span.start_ns for span in trace.spans)
    ended = max(span.start_ns + span.duration_ns for span in trace.spans)
    matched = [span for span in trace.spans if span.matched]
    spans = {"spans": [_span(span) for span in matched[:spans_max]], "matched": len(matched)}
    services: dict[str, dict[str, int]] = {}
    for span in trace.spans:
        counts = services.setdefault(span.service, {"spanCount": 0, "errorCount": 0})
        counts["spanCount"] += 1
        counts["errorCount"] += span.status == 2
    return {
        "traceID": trace.trace_id.hex(),
        "rootServiceName": root.service if root else trace.spans[0].service,
        "rootTraceName": root.name if root else NO_ROOT,
        "startTimeUnixNano": str(began),
        "durationMs": min((ended - began) // 1_000_000, _UINT32_MAX),
        "spanSet": spans,
        "spanSets": [spans],
        "serviceStats": services,
    }


def _span(span: FoundSpan) -> dict[str, Any]:
    return {
        "spanID": span.span_id.hex(),
        "name": span.name,
        "startTimeUnixNano": str(span.start_ns),
        "durationNanos": str(span.duration_ns),
        "attributes": [
            {"key": "service.name", "value": {"stringValue": span.service}},
            *([{"key": "spillway.hop", "value": {"stringValue": span.hop}}] if span.hop else []),
            *([{"key": "status", "value": {"stringValue": "error"}}] if span.status == 2 else []),
        ],
    }


def tag_value(value: object, *, keyword: bool) -> dict[str, str]:
    """`TagValue`."""
    return {"type": "keyword" if keyword else _type(value), "value": text_of(value)}


def text_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
    return "string"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
