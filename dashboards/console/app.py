"""The console: its pages and its JSON, over Prometheus and the trace store.

Rules. The browser never gives PromQL: it names a panel of a committed dashboard, or asks for the hops. Whatever is away, a page
comes at once and says so at the place. Nothing is changed by a request: there is nothing to forge.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dashboards.console import boards, hop_map, panels, searches
from dashboards.console.access import COOKIE, COOKIE_SECONDS, Guard, digest_of, is_same
from dashboards.console.grafana import Dashboard, Dashboards
from dashboards.console.layout import STATIC, Markup, html, notice, page, tag
from dashboards.console.sources import Away, Prometheus, Refused, Source, Store, Unanswered
from dashboards.queries import JSON_FOLDER
from telemetry import journey

STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LOGIN_BYTES_MAX = 4096
FIRST_RENDER_SECONDS_MAX = 0.5
LOGS_OF_TRACE_MAX = 200


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    prometheus_url: str
    store_url: str
    host: str = "127.0.0.1"
    port: int = 8088
    token: str = ""
    dashboards: Path = JSON_FOLDER
    # A file_sd file, or a folder of them: who should be scraped. None: what Prometheus knows is all there is.
    targets: Path | None = None


def console(settings: ConsoleSettings) -> ASGIApp:
    return Guard(_Console(settings).app(), settings.host, settings.token)


class _Console:
    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._boards = Dashboards(settings.dashboards)
        self._prometheus: Prometheus
        self._store: Store

    def app(self) -> Starlette:
        routes = [
            Route("/", self._overview),
            Route("/dashboards", self._menu),
            Route("/d/{uid}", self._dashboard),
            Route("/d/{uid}/{slug}", self._dashboard),
            Route("/traces", self._traces),
            Route("/trace/{trace_id}", self._trace),
            Route("/logs", self._logs),
            Route("/runbooks/{name}", self._runbook),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/static/{file}", self._static),
            Route("/api/hops", self._api_hops),
            Route("/api/panels/{uid}/{panel_id:int}", self._api_panel),
        ]
        return Starlette(routes=routes, lifespan=self._life, exception_handlers={404: self._missing})

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
            self._prometheus = Prometheus(Source("Prometheus", self._settings.prometheus_url, session))
            self._store = Store(Source("The trace store", self._settings.store_url, session))
            yield

    # -- pages

    async def _overview(self, request: Request) -> Response:
        known = self._boards.all()
        board = self._boards.overview()
        now, error = await self._hops_at_once()
        parts = [boards.hop_map_section(now, [each.uid for each in known], error)]
        if board is None:
            parts.append(notice(f"There is no overview dashboard in {self._settings.dashboards}: run the generator.", "quiet"))
            return self._page(request, "Overview", html(*parts), "/", refreshes=True)
        parts += await self._board(request, board)
        data = {"board": board.uid, "map": "yes"}
        return self._page(request, "Overview", html(*parts), "/", charts=True, refreshes=True, data=data)

    async def _hops_at_once(self) -> tuple[hop_map.Map, str]:
        """For the first render: what is known in half a second; the browser asks again."""
        try:
            async with asyncio.timeout(FIRST_RENDER_SECONDS_MAX):
                return await hop_map.read(self._prometheus, self._expected()), ""
        except TimeoutError:
            return hop_map.unknown(), "Prometheus is slow to answer: asking again."
        except Unanswered as exc:
            return hop_map.unknown(), f"{exc.args[0]}. Nothing is known of any hop."

    async def _board(self, request: Request, board: Dashboard) -> list[Markup]:
        given = request.query_params
        name = given.get("range", panels.DEFAULT_RANGE)
        name = name if name in panels.RANGES_SECONDS else panels.DEFAULT_RANGE
        values = await self._variable_values(board)
        about = tag("p", board.description, class_="quiet") if board.description else Markup("")
        title = tag(
            "div", tag("h1", board.title), boards.controls(board, name, panels.choices(board, given), values), class_="title"
        )
        return [title, about, boards.grid(board, given, int(time.time()), panels.RANGES_SECONDS[name])]

    async def _variable_values(self, board: Dashboard) -> dict[str, list[str]]:
        """Of variables like `label_values(metric, label)`; without an answer there is no choice."""
        found: dict[str, list[str]] = {}
        for variable in board.variables:
            inner = variable.query.removeprefix("label_values(").removesuffix(")")
            if inner == variable.query:
                continue
            metric, _, label = inner.rpartition(",")
            try:
                async with asyncio.timeout(FIRST_RENDER_SECONDS_MAX):
                    found[variable.name] = sorted(await self._prometheus.label_values(label.strip(), metric.strip()))
            except (Unanswered, TimeoutError):
                found[variable.name] = []
        return found

    async def _menu(self, request: Request) -> Response:
        known = self._boards.all()
        items = [
            tag("li", tag("a", each.title, href=f"/d/{each.uid}"), tag("p", each.description, class_="quiet"), data_line=True)
            for each in known
        ]
        wrong = [notice(f"{name} can't be read: {why}") for name, why in self._boards.unreadable.items()]
        listed = tag("ul", *items, class_="menu") if items else notice(f"No dashboards in {self._settings.dashboards}.", "quiet")
        return self._page(request, "Dashboards", html(tag("h1", "Dashboards"), *wrong, listed), "/dashboards")

    async def _dashboard(self, request: Request) -> Response:
        board = self._boards.get(request.path_params["uid"])
        if board is None:
            return await self._missing(request, None)
        body = html(*await self._board(request, board))
        data = {"board": board.uid}
        return self._page(request, board.title, body, "/dashboards", charts=True, refreshes=True, data=data)

    async def _traces(self, request: Request) -> Response:
        asked = searches.Question.of(request.query_params)
        form = html(tag("h1", "Traces"), searches.trace_form(asked))
        if searches.TRACE_ID.match(asked.q) and len(asked.q) == 32:
            return RedirectResponse(f"/trace/{asked.q.lower()}", 303)
        try:
            found = await self._store.search(asked.params(time.time()))
            results = html(tag("p", "Asked: ", tag("code", asked.traceql()), class_="quiet"), searches.trace_results(found))
        except ValueError as exc:
            results = notice(str(exc), "bad")
        except Refused as exc:
            results = notice(_said(exc), "bad" if exc.status == 400 else "away")
        except Away as exc:
            results = notice(f"{exc.args[0]}. Events are not affected by that.")
        return self._page(request, "Traces", html(form, results), "/traces")

    async def _trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"].lower()
        title = tag("h1", "Trace ", tag("code", trace_id))
        if not searches.TRACE_ID.match(trace_id):
            return self._page(request, "Trace", html(title, notice("That is no trace id: up to 32 hexadecimal digits.", "bad")),
                              "/traces", status=404)  # fmt: skip
        trace, lines = await asyncio.gather(self._journey(trace_id), self._lines_of(trace_id))
        body = html(
            title, trace[0], tag("h2", "Log lines of this trace", id="lines"), lines,
            tag("p", tag("a", "Search these lines", href=searches.link_to_logs(trace_id=trace_id, since="7d")), class_="quiet"),
        )  # fmt: skip
        return self._page(request, f"Trace {trace_id[:8]}", body, "/traces", status=trace[1])

    async def _journey(self, trace_id: str) -> tuple[Markup, int]:
        try:
            spans = journey.spans_of(await self._store.trace(trace_id))
        except Refused as exc:
            if exc.status != 404:
                return notice(_said(exc)), 502
            spans = []
        except Away as exc:
            return notice(f"{exc.args[0]}. Events are not affected by that."), 200
        if not spans:
            return notice(
                "The store has no span of this trace: it was not kept, has expired, or is on its way still.", "quiet"
            ), 404
        found = journey.journey(trace_id, spans)
        return html(searches.trace_head(found), searches.waterfall(found)), 200

    async def _lines_of(self, trace_id: str) -> Markup:
        try:
            lines = await self._store.logs([("trace_id", trace_id), ("limit", str(LOGS_OF_TRACE_MAX))])
        except Unanswered as exc:
            return notice(f"{exc.args[0]}.")
        ordered = sorted(lines, key=lambda line: int(line.get("time_unix_nano") or 0))
        return searches.log_table(ordered, "No process wrote a line about it.", with_trace=False)

    async def _logs(self, request: Request) -> Response:
        given = request.query_params
        form = html(tag("h1", "Logs"), searches.log_form(given))
        try:
            lines = await self._store.logs(searches.log_params(given, time.time()))
            results = searches.log_table(lines, "No line fits.")
        except Unanswered as exc:
            results = notice(f"{exc.args[0]}. Each process keeps its own log file meanwhile.")
        return self._page(request, "Logs", html(form, results), "/logs")

    async def _runbook(self, request: Request) -> Response:
        name = request.path_params["name"]
        body = html(tag("h1", f"Runbooks: {name}"), notice("No runbook is written yet.", "quiet"))
        return self._page(request, "Runbooks", body, "")

    async def _login(self, request: Request) -> Response:
        to = _own_path(request.query_params.get("to", "/"))
        wrong = False
        if request.method == "POST":
            body = await _small_body(request)
            given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
            if self._settings.token and is_same(given.strip(), self._settings.token):
                answer = RedirectResponse(to, 303)
                answer.set_cookie(COOKIE, digest_of(self._settings.token), max_age=COOKIE_SECONDS, httponly=True,
                                  samesite="strict", secure=request.url.scheme == "https")  # fmt: skip
                return answer
            wrong = True
        entry = tag("input", type="password", name="token", autocomplete="current-password", data_search=True, required=True)
        form = tag(
            "form", tag("label", tag("span", "Token"), entry), tag("button", "Enter", type="submit", class_="main"),
            method="post", class_="search",
        )  # fmt: skip
        said = notice("That is not the token.", "bad") if wrong else Markup("")
        body_html = html(tag("h1", "This console asks for its token"), said, form)
        return self._page(request, "Enter", body_html, "", status=401 if wrong else 200)

    async def _missing(self, request: Request, _: Exception | None) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": "there is no such thing"}, 404)
        body = html(tag("h1", "There is no such page"), tag("p", "The pages are listed above."))
        return self._page(request, "No such page", body, "", status=404)

    def _page(
        self, request: Request, title: str, body: Markup, current: str, *, charts: bool = False, refreshes: bool = False,
        data: Mapping[str, str] | None = None, status: int = 200,
    ) -> Response:  # fmt: skip
        theme = request.cookies.get("theme", "")
        text = page(title, body, current=current, theme=theme, charts=charts, refreshes=refreshes, data=data)
        return HTMLResponse(text, status)

    # -- for the browser's own questions, and for probes

    async def _api_hops(self, _: Request) -> Response:
        try:
            return JSONResponse((await hop_map.read(self._prometheus, self._expected())).as_json())
        except Unanswered as exc:
            return JSONResponse({**hop_map.unknown().as_json(), "error": f"{exc.args[0]}. Nothing is known of any hop."})

    async def _api_panel(self, request: Request) -> Response:
        board = self._boards.get(request.path_params["uid"])
        panel = board.panel(request.path_params["panel_id"]) if board else None
        if board is None or panel is None:
            return JSONResponse({"error": "there is no such panel"}, 404)
        given = request.query_params
        span = panels.range_of(given.get("range", ""))
        return JSONResponse(await panels.answer(self._prometheus, panel, panels.choices(board, given), span))

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        """Its own readiness: it serves, and says so of others who are away."""
        return PlainTextResponse("ready\n")

    async def _static(self, request: Request) -> Response:
        file = STATIC / Path(request.path_params["file"]).name
        kind = STATIC_TYPES.get(file.suffix)
        if kind is None or not file.is_file():
            return PlainTextResponse("there is no such file\n", 404)
        cache = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
        return FileResponse(file, media_type=kind, headers={"cache-control": cache})

    def _expected(self) -> list[str]:
        """Workers that should be scraped; what can't be read counts for nothing."""
        where = self._settings.targets
        if where is None:
            return []
        found: list[str] = []
        for file in sorted(where.glob("*.json")) if where.is_dir() else [where]:
            try:
                found += [str(each["labels"]["worker"]) for each in json.loads(file.read_text())]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found


def _said(exc: Unanswered) -> str:
    return str(exc.args[0])


def _own_path(to: str) -> str:
    """A path of this console, never another site."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"


async def _small_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LOGIN_BYTES_MAX:
            return b""
    return body
