"""Tempo's HTTP API over the store, so that a Grafana Tempo data source points at it unchanged; and ours beside it.

Rules. Trace by id answers Protobuf to `Accept: application/protobuf` (tempopb.Trace, in v2 tempopb.TraceByIDResponse: both are
written by hand here, since a `Trace` is OTLP's TracesData on the wire) and else Protobuf's JSON, ids in base64 as Tempo's. What
is asked wrongly is answered 400 with what is spoken; what takes too long 504. Source: Grafana Tempo documentation, "Tempo API".
"""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from telemetry.store.query import LINES_MAX, TRACES_MAX, FoundSpan, FoundTrace, LinesAsked, Queries, Range, TooLongError
from telemetry.store.rows import SEVERITIES
from telemetry.store.traceql import All, Always, Compare, Condition, Field, NotSpokenError, duration_ns, field_of, parse

T = TypeVar("T")
QUERY_THREADS = 4
TRACES_DEFAULT, SPANS_DEFAULT, LINES_DEFAULT = 20, 3, 200
NO_ROOT = "<root span not yet received>"
INTRINSICS = ("duration", "kind", "name", "status", "statusMessage", "nestedSetParent", "trace:id", "span:id")
_PROTOBUF = "application/protobuf"
_SECOND_NS = 1_000_000_000


class Tempo:
    """The routes. Questions run on threads of their own, so that what comes in is not held up."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._threads = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="query")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def routes(self) -> list[Route]:
        handlers: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/traces/{id}": self._trace,
            "/api/v2/traces/{id}": self._trace_v2,
            "/api/search": self._search,
            "/api/search/tags": self._tags,
            "/api/v2/search/tags": self._tags_v2,
            "/api/search/tag/{name:path}/values": self._values,
            "/api/v2/search/tag/{name:path}/values": self._values_v2,
            "/api/logs": self._lines,
            "/api/events/{id:path}": self._event,
        }
        return [
            Route("/api/echo", lambda _: PlainTextResponse("echo")),
            Route("/ready", lambda _: PlainTextResponse("ready")),
            *(Route(path, _careful(handler)) for path, handler in handlers.items()),
        ]

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    # -- trace by id

    async def _trace(self, request: Request) -> Response:
        trace_id = _trace_id(request.path_params["id"])

        def answer() -> Response:
            found = self._queries.trace(trace_id)
            if found is None:
                return PlainTextResponse("trace not found", 404)
            if _wants_protobuf(request):
                return Response(found[0].SerializeToString(), media_type=_PROTOBUF)
            return JSONResponse({"batches": MessageToDict(found[0]).get("resourceSpans", [])})

        return await self._ask(answer)

    async def _trace_v2(self, request: Request) -> Response:
        trace_id = _trace_id(request.path_params["id"])

        def answer() -> Response:
            found = self._queries.trace(trace_id)
            if found is None:
                return PlainTextResponse("trace not found", 404)
            trace, whole = found
            if _wants_protobuf(request):
                # Field 1 is the trace, field 3 the status, where 1 is PARTIAL.
                body = trace.SerializeToString()
                return Response(b"\x0a" + _varint(len(body)) + body + (b"" if whole else b"\x18\x01"), media_type=_PROTOBUF)
            status = {} if whole else {"status": "PARTIAL", "message": "the trace has more spans than are shown"}
            return JSONResponse({"trace": MessageToDict(trace), **status})

        return await self._ask(answer)

    # -- search

    async def _search(self, request: Request) -> Response:
        asked = request.query_params
        condition = All((_condition(asked.get("q", ""), asked.get("tags", "")), *_durations(request)))
        if condition.parts[1:] == ():
            condition = condition.parts[0]  # type: ignore[assignment]
        within, limit = _range(request), _number(request, "limit", TRACES_DEFAULT, TRACES_MAX)
        spans_max = _number(request, "spss", SPANS_DEFAULT, 100)
        found = await self._ask(lambda: self._queries.search(condition, within, limit))
        metrics = {"inspectedTraces": len(found), "completedJobs": 1, "totalJobs": 1}
        return JSONResponse({"traces": [_summary(trace, spans_max) for trace in found], "metrics": metrics})

    # -- tags

    async def _tags(self, request: Request) -> Response:
        within = _range(request)
        names = await self._ask(lambda: self._queries.tag_names(within))
        return JSONResponse({"tagNames": sorted({*names["resource"], *names["span"]}), "metrics": {}})

    async def _tags_v2(self, request: Request) -> Response:
        within, scope = _range(request), request.query_params.get("scope", "")
        if scope not in ("", "none", "resource", "span", "intrinsic"):
            return JSONResponse({"scopes": [], "metrics": {}})
        names = await self._ask(lambda: self._queries.tag_names(within))
        names["intrinsic"] = list(INTRINSICS)
        chosen = [{"name": name, "tags": tags} for name, tags in names.items() if scope in ("", "none", name)]
        return JSONResponse({"scopes": chosen, "metrics": {}})

    async def _values(self, request: Request) -> Response:
        name = request.path_params["name"]
        asked = field_of(name) if name in INTRINSICS or name.startswith(("span.", "resource.", ".")) else Field("", name)
        return JSONResponse({"tagValues": [_text(value) for value in await self._values_of(request, asked)], "metrics": {}})

    async def _values_v2(self, request: Request) -> Response:
        asked = field_of(request.path_params["name"])
        word = asked.scope == "intrinsic" and asked.name in ("status", "kind")
        values = await self._values_of(request, asked)
        typed = [{"type": "keyword" if word else _type(value), "value": _text(value)} for value in values]
        return JSONResponse({"tagValues": typed, "metrics": {}})

    async def _values_of(self, request: Request, asked: Field) -> list[Any]:
        within = _range(request)
        condition = _half_typed(request.query_params.get("q", ""))
        return await self._ask(lambda: self._queries.tag_values(asked, within, condition))

    # -- ours

    async def _lines(self, request: Request) -> Response:
        asked = request.query_params
        level = asked.get("level", "").lower()
        if level and level not in SEVERITIES:
            raise NotAskedRightError(f"level is one of {', '.join(SEVERITIES)}; that and worse is shown")
        wanted = LinesAsked(
            trace_id=_trace_id(asked["trace_id"]) if asked.get("trace_id") else None,
            event_id=asked.get("event_id", ""),
            text=asked.get("q", ""),
            severity_min=SEVERITIES.get(level, 0),
            process=asked.get("process", ""),
            range=_range(request),
            limit=_number(request, "limit", LINES_DEFAULT, LINES_MAX),
        )
        return JSONResponse(await self._ask(lambda: self._queries.lines(wanted)))

    async def _event(self, request: Request) -> Response:
        event_id = request.path_params["id"]
        found = await self._ask(lambda: self._queries.traces_of_event(event_id))
        traces = [{"traceID": trace_id.hex(), "source": source, "eventID": event_id} for trace_id, source in found]
        return JSONResponse({"traces": traces})


class NotAskedRightError(ValueError):
    """A parameter that can't be read."""


def _careful(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors become answers, once, here."""

    async def careful(request: Request) -> Response:
        try:
            return await handler(request)
        except (NotSpokenError, NotAskedRightError) as exc:
            return PlainTextResponse(f"{exc}\n", 400)
        except TooLongError as exc:
            return PlainTextResponse(f"{exc}\n", 504)
        except sqlite3.Error as exc:
            return PlainTextResponse(f"the store can't read: {exc}\n", 503)

    return careful


def _wants_protobuf(request: Request) -> bool:
    return "protobuf" in request.headers.get("accept", "")


def _trace_id(text: str) -> bytes:
    """Hexadecimal digits; short ones are ids whose leading zeros were left out."""
    try:
        if not 0 < len(text) <= 32:
            raise ValueError
        return bytes.fromhex(text.zfill(32))
    except ValueError:
        raise NotAskedRightError(f"{text!r} is no trace id: at most 32 hexadecimal digits") from None


def _range(request: Request) -> Range:
    """`start` and `end` in seconds since 1970, as Tempo's; also with decimals, or in nanoseconds."""
    ends = {}
    for name in ("start", "end"):
        text = request.query_params.get(name, "")
        if text:
            try:
                number = float(text)
                ends[f"{name}_ns"] = int(text) if number > 1e15 and text.isdigit() else int(number * _SECOND_NS)
            except (ValueError, OverflowError):
                raise NotAskedRightError(f"{name}={text!r}: seconds since 1970") from None
    if "end_ns" in ends and request.query_params["end"].isdigit() and float(request.query_params["end"]) <= 1e15:
        ends["end_ns"] += _SECOND_NS - 1  # the whole of that second
    return Range(**{name: min(max(value, 0), Range.end_ns if False else (1 << 63) - 1) for name, value in ends.items()})


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not int(text):
        raise NotAskedRightError(f"{name}={text!r}: a number from 1 to {most}")
    return min(int(text), most)


def _durations(request: Request) -> list[Condition]:
    conditions: list[Condition] = []
    for name, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        text = request.query_params.get(name, "")
        if text:
            conditions.append(Compare(Field("intrinsic", "duration"), operator, duration_ns(text)))
    return conditions


def _condition(query: str, tags: str) -> Condition:
    if query.strip():
        return parse(query)
    parts = [_tag(key, value) for key, value in _logfmt(tags)]
    return All(tuple(parts)) if len(parts) > 1 else parts[0] if parts else Always()


def _half_typed(query: str) -> Condition:
    """Grafana asks for values while a query is being typed: one that can't be read yet narrows nothing."""
    try:
        return parse(query) if query.strip() else Always()
    except NotSpokenError:
        return Always()


def _logfmt(text: str) -> list[tuple[str, str]]:
    """`a=b c="d e"` as pairs."""
    pairs, rest = [], text.strip()
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals or not key.strip() or " " in key.strip():
            raise NotAskedRightError('tags: pairs as key=value or key="a value", with spaces between')
        if rest.startswith('"'):
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except ValueError:
                raise NotAskedRightError(f"tags: the value of {key.strip()} has no end") from None
            rest = rest[end:].strip()
        else:
            value, _, rest = rest.partition(" ")
        pairs.append((key.strip(), str(value)))
        rest = rest.strip()
    return pairs


def _tag(key: str, value: str) -> Condition:
    if key == "name":
        return Compare(Field("intrinsic", "name"), "=", value)
    if (key, value) in (("error", "true"), ("status", "error")):
        return Compare(Field("intrinsic", "status"), "=", 2)
    return Compare(Field("", key), "=", value)


def _summary(trace: FoundTrace, spans_max: int) -> dict[str, Any]:
    """One trace as Tempo's TraceSearchMetadata. Its 64-bit numbers are strings in JSON, as Protobuf's are."""
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
        "durationMs": min((ended - began) // 1_000_000, (1 << 32) - 1),
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
            *([{"key": "status", "value": {"stringValue": "error"}}] if span.status == 2 else []),
        ],
    }


def _text(value: object) -> str:
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
