"""The messages of Tempo's HTTP API, as far as a trace store answers with them: what our answers are read with, strictly.

Names, numbers and types of fields are those of grafana/tempo `pkg/tempopb/tempo.proto` (commit ad33aa8fafc4, after 3.0.2).
`tempopb.trace.v1` and `tempopb.common.v1` are OTLP's messages under other names; OTLP's own stand for them here.
Grafana reads answers with the code that is generated from that file: of JSON it takes no field that is not there.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_KEY_VALUE, _RESOURCE_SPANS = ".opentelemetry.proto.common.v1.KeyValue", ".opentelemetry.proto.trace.v1.ResourceSpans"
# Field names, numbers and types; `.` begins a message, `*` means repeated.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Trace": (("resourceSpans", 1, f"*{_RESOURCE_SPANS}"),),
    "TraceByIDResponse": (
        ("trace", 1, ".tempopb.Trace"), ("metrics", 2, ".tempopb.TraceByIDMetrics"), ("status", 3, "enum .tempopb.PartialStatus"),
        ("message", 4, "string"),
    ),
    "TraceByIDMetrics": (("inspectedBytes", 1, "uint64"), ("backendReads", 2, "uint64"), ("backendBytes", 3, "uint64")),
    "SearchResponse": (("traces", 1, "*.tempopb.TraceSearchMetadata"), ("metrics", 2, ".tempopb.SearchMetrics")),
    "TraceSearchMetadata": (
        ("traceID", 1, "string"), ("rootServiceName", 2, "string"), ("rootTraceName", 3, "string"),
        ("startTimeUnixNano", 4, "uint64"), ("durationMs", 5, "uint32"), ("spanSet", 6, ".tempopb.SpanSet"),
        ("spanSets", 7, "*.tempopb.SpanSet"), ("serviceStats", 8, "map .tempopb.ServiceStats"),
    ),
    "ServiceStats": (("spanCount", 1, "uint32"), ("errorCount", 2, "uint32")),
    "SpanSet": (("spans", 1, "*.tempopb.Span"), ("matched", 2, "uint32"), ("attributes", 3, f"*{_KEY_VALUE}")),
    "Span": (
        ("spanID", 1, "string"), ("name", 2, "string"), ("startTimeUnixNano", 3, "uint64"), ("durationNanos", 4, "uint64"),
        ("attributes", 5, f"*{_KEY_VALUE}"),
    ),
    "SearchMetrics": (
        ("inspectedTraces", 1, "uint32"), ("inspectedBytes", 2, "uint64"), ("totalBlocks", 3, "uint32"),
        ("completedJobs", 4, "uint32"), ("totalJobs", 5, "uint32"), ("totalBlockBytes", 6, "uint64"),
        ("inspectedSpans", 7, "uint64"),
    ),
    "SearchTagsResponse": (("tagNames", 1, "*string"), ("metrics", 2, ".tempopb.MetadataMetrics")),
    "SearchTagsV2Response": (("scopes", 1, "*.tempopb.SearchTagsV2Scope"), ("metrics", 2, ".tempopb.MetadataMetrics")),
    "SearchTagsV2Scope": (("name", 1, "string"), ("tags", 2, "*string")),
    "SearchTagValuesResponse": (("tagValues", 1, "*string"), ("metrics", 2, ".tempopb.MetadataMetrics")),
    "TagValue": (("type", 1, "string"), ("value", 2, "string")),
    "SearchTagValuesV2Response": (("tagValues", 1, "*.tempopb.TagValue"), ("metrics", 2, ".tempopb.MetadataMetrics")),
    "MetadataMetrics": (
        ("inspectedBytes", 1, "uint64"), ("totalJobs", 2, "uint32"), ("completedJobs", 3, "uint32"), ("totalBlocks", 4, "uint32"),
        ("totalBlockBytes", 5, "uint64"),
    ),
}  # fmt: skip
_ENUMS = {"PartialStatus": (("COMPLETE", 0), ("PARTIAL", 1))}
_SCALARS = {"string": Field.TYPE_STRING, "uint32": Field.TYPE_UINT32, "uint64": Field.TYPE_UINT64}


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="tests/tempopb.proto", package="tempopb", syntax="proto3")
    file.dependency.extend((common_pb2.DESCRIPTOR.name, trace_pb2.DESCRIPTOR.name))
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add(message, *field)
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values:
            enum.value.add(name=value, number=number)
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, type: str) -> None:
    repeated, type = type.startswith("*"), type.removeprefix("*")
    # JSON has the very names of the file, some of which end in capitals.
    field = message.field.add(name=name, number=number, json_name=name)
    field.label = Field.LABEL_REPEATED if repeated or type.startswith("map ") else Field.LABEL_OPTIONAL
    if type.startswith("map "):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, type.removeprefix("map "))
        field.type, field.type_name = Field.TYPE_MESSAGE, f".tempopb.{message.name}.{entry.name}"
    elif type.startswith("enum "):
        field.type, field.type_name = Field.TYPE_ENUM, type.removeprefix("enum ")
    elif type.startswith("."):
        field.type, field.type_name = Field.TYPE_MESSAGE, type
    else:
        field.type = _SCALARS[type]


_POOL = descriptor_pool.Default()
_POOL.Add(_file())  # type: ignore[no-untyped-call]


def message(name: str) -> Any:
    """The class of a message of `tempopb`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tempopb.{name}"))
