"""Tempo's HTTP API over the store, so that a Grafana Tempo data source points at it unchanged; and ours beside it.

Rules. Trace by id answers Protobuf to `Accept: application/protobuf` and else Protobuf's JSON, ids in base64 as Tempo's. What is
asked wrongly, or is not spoken, is answered 400 with what is; what takes too long 504; too many questions at once 429.
Source: Grafana Tempo documentation, "Tempo API".
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from telemetry.store import shapes
from telemetry.store.asked import (
    NotAskedRightError,
    condition_of,
    half_typed,
    lines_of,
    number_of,
    range_of,
    trace_id_of,
)
from telemetry.store.query import TRACES_MAX, Queries, TooLongError
from telemetry.store.traceql import Field, NotSpokenError, field_of

T = TypeVar("T")
QUERY_THREADS = 4
# Questions that run or wait for a thread; past it the next is refused.
QUESTIONS_MAX = 64
RETRY_SECONDS = 2
TRACES_DEFAULT, SPANS_DEFAULT, SPANS_MAX = 20, 3, 100
INTRINSICS = ("duration", "kind", "name", "status", "statusMessage", "traceDuration", "nestedSetParent", "trace:id", "span:id")
# What is spoken here is a part of this version's API: some clients ask.
BUILD = {"version": "2.8.0", "revision": "spillway", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}
_PROTOBUF = "application/protobuf"

Handler = Callable[[Request], Awaitable[Response]]


class BusyError(Exception):
    """Too many questions at once."""


class Tempo:
    """The routes. Questions run on threads of their own, so that what comes in is not held up."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._asked = 0
        self._threads = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="query")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def routes(self) -> list[Route]:
        handlers: dict[str, Handler] = {
            "/api/traces/{id}": self._trace,
            "/api/v2/traces/{id}": self._trace_v2,
            "/api/search": self._search,
            "/api/search/tags": self._tags,
            "/api/v2/search/tags": self._tags_v2,
            "/api/search/tag/{name:path}/values": self._values,
            "/api/v2/search/tag/{name:path}/values": self._values_v2,
            "/api/metrics/{rest:path}": _no_metrics,
            "/api/logs": self._lines,
            "/api/events/{id:path}": self._event,
        }
        return [
            Route("/api/echo", lambda _: PlainTextResponse("echo")),
            Route("/ready", lambda _: PlainTextResponse("ready")),
            Route("/api/status/buildinfo", lambda _: JSONResponse(BUILD)),
            *(Route(path, _careful(handler)) for path, handler in handlers.items()),
        ]

    async def _ask(self, question: Callable[[], T]) -> T:
        """Raises: BusyError."""
        if self._asked >= QUESTIONS_MAX:
            raise BusyError(f"{self._asked} questions are being answered already: ask again later")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        finally:
            self._asked -= 1

    # -- trace by id

    async def _trace(self, request: Request) -> Response:
        trace_id = trace_id_of(request.path_params["id"])

        def answer() -> Response:
            found = self._queries.trace(trace_id)
            if found is None:
                return PlainTextResponse("trace not found", 404)
            if _wants_protobuf(request):
                return Response(found[0].SerializeToString(), media_type=_PROTOBUF)
            return JSONResponse(shapes.trace_v1(found[0]))

        return await self._ask(answer)

    async def _trace_v2(self, request: Request) -> Response:
        trace_id = trace_id_of(request.path_params["id"])

        def answer() -> Response:
            found = self._queries.trace(trace_id)
            if found is None:
                return PlainTextResponse("trace not found", 404)
            if _wants_protobuf(request):
                return Response(shapes.trace_v2_wire(*found), media_type=_PROTOBUF)
            return JSONResponse(shapes.trace_v2(*found))

        return await self._ask(answer)

    # -- search

    async def _search(self, request: Request) -> Response:
        asked = request.query_params
        within, limit = range_of(asked), number_of(asked, "limit", TRACES_DEFAULT, TRACES_MAX)
        spans_max = number_of(asked, "spss", SPANS_DEFAULT, SPANS_MAX)

        def answer() -> Response:
            # Reading it may load what patterns need: not on the thread that serves.
            found = self._queries.search(condition_of(asked), within, limit)
            return JSONResponse(shapes.search_answer(found, spans_max))

        return await self._ask(answer)

    # -- tags

    async def _tags(self, request: Request) -> Response:
        within = range_of(request.query_params)
        names = await self._ask(lambda: self._queries.tag_names(within))
        return JSONResponse({"tagNames": sorted({*names["resource"], *names["span"]}), "metrics": {}})

    async def _tags_v2(self, request: Request) -> Response:
        within, scope = range_of(request.query_params), request.query_params.get("scope", "")
        names = await self._ask(lambda: self._queries.tag_names(within))
        names["intrinsic"] = list(INTRINSICS)
        chosen = [{"name": name, "tags": tags} for name, tags in names.items() if scope in ("", "none", name)]
        return JSONResponse({"scopes": chosen, "metrics": {}})

    async def _values(self, request: Request) -> Response:
        name = _tag_name(request)
        asked = field_of(name) if name in INTRINSICS or name.startswith(("span.", "resource.", ".")) else Field("", name)
        values = await self._values_of(request, asked)
        return JSONResponse({"tagValues": [shapes.text_of(value) for value in values], "metrics": {}})

    async def _values_v2(self, request: Request) -> Response:
        asked = field_of(_tag_name(request))
        keyword = asked.scope == "intrinsic" and asked.name in ("status", "kind")
        values = await self._values_of(request, asked)
        return JSONResponse({"tagValues": [shapes.tag_value(value, keyword=keyword) for value in values], "metrics": {}})

    async def _values_of(self, request: Request, asked: Field) -> list[object]:
        within, query = range_of(request.query_params), request.query_params.get("q", "")
        return await self._ask(lambda: self._queries.tag_values(asked, within, half_typed(query)))

    # -- ours

    async def _lines(self, request: Request) -> Response:
        asked = lines_of(request.query_params)
        return JSONResponse(await self._ask(lambda: self._queries.lines(asked)))

    async def _event(self, request: Request) -> Response:
        event_id = request.path_params["id"]
        found = await self._ask(lambda: self._queries.traces_of_event(event_id))
        traces = [{"traceID": trace_id.hex(), "source": source, "eventID": event_id} for trace_id, source in found]
        return JSONResponse({"traces": traces})


def _careful(handler: Handler) -> Handler:
    """Errors become answers, once, here."""

    async def careful(request: Request) -> Response:
        try:
            return await handler(request)
        except (NotSpokenError, NotAskedRightError) as exc:
            return PlainTextResponse(f"{exc}\n", 400)
        except TooLongError as exc:
            return PlainTextResponse(f"{exc}\n", 504)
        except BusyError as exc:
            return PlainTextResponse(f"{exc}\n", 429, {"retry-after": str(RETRY_SECONDS)})
        except sqlite3.Error as exc:
            return PlainTextResponse(f"the store can't read: {exc}; ask again later\n", 503, {"retry-after": str(RETRY_SECONDS)})

    return careful


async def _no_metrics(request: Request) -> Response:
    raise NotAskedRightError("TraceQL metrics are not spoken here: the figures are in Prometheus, the traces in /api/search")


def _wants_protobuf(request: Request) -> bool:
    return _PROTOBUF in request.headers.get("accept", "")


def _tag_name(request: Request) -> str:
    """Some Grafanas escape it twice."""
    return unquote(str(request.path_params["name"]))
