"""The console: its pages and its JSON, over Prometheus and the trace store.

Rules. The browser never gives PromQL: it names a panel of a committed dashboard, or asks for the hops. Whatever is away or slow,
a page comes at once and says so at the place: what is not known in `FIRST_RENDER_SECONDS_MAX` follows, in a second half of the
page or by the browser's own question. Only the forms of `alert_desk` change something, and not here.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from dashboards.console import alerts_page, boards, canary_page, hop_map, ledger, panels, runbooks, searches, waterfall
from dashboards.console.access import COOKIE, COOKIE_SECONDS, Guard, digest_of, is_same
from dashboards.console.alert_desk import AlertDesk
from dashboards.console.alert_desk import routes as alert_routes
from dashboards.console.forms import Forms
from dashboards.console.grafana import Dashboard, Dashboards
from dashboards.console.layout import HERE, STATIC, Markup, html, notice, page, tag
from dashboards.console.sources import Away, Prometheus, Refused, Source, Store, Unanswered
from dashboards.queries import JSON_FOLDER
from telemetry import journey

STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LOGIN_BYTES_MAX = 4096
FIRST_RENDER_SECONDS_MAX = 0.5
LOGS_OF_TRACE_MAX = 200
GZIP_LEVEL = 5
EVENTS_ARE_WELL = "Events are not affected by that."
Results = tuple[Markup, int]


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
    runbooks: Path = runbooks.FOLDER
    # The health ports of the canary and of the ledger; empty: there is none.
    canary_url: str = ""
    ledger_url: str = ""
    # Where alerts are grouped and silenced, and who pages people; empty: there is none.
    alertmanager_url: str = ""
    escalator_url: str = ""
    escalator_token: str = ""


def console(settings: ConsoleSettings) -> ASGIApp:
    return Guard(_Console(settings).app(), settings.host, settings.token)


class _Console:
    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._boards = Dashboards(settings.dashboards)
        self._prometheus: Prometheus
        self._store: Store
        self._canary_port: Source
        self._ledger: Source
        self._alerts: AlertDesk

    def app(self) -> Starlette:
        routes = [
            Route("/", self._overview),
            Route("/dashboards", self._menu),
            Route("/d/{uid}", self._dashboard),
            Route("/d/{uid}/{slug}", self._dashboard),
            Route("/traces", self._traces),
            Route("/trace/{trace_id}", self._trace),
            Route("/logs", self._logs),
            Route("/canary", self._canary),
            Route("/ledger", self._ledger_page),
            *alert_routes(lambda: self._alerts),
            Route("/runbooks/{name}", self._runbook),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/static/{file}", self._static),
            Route("/api/hops", self._api_hops),
            Route("/api/panels/{uid}/{panel_id:int}", self._api_panel),
        ]
        smaller = [Middleware(GZipMiddleware, compresslevel=GZIP_LEVEL)]
        return Starlette(routes=routes, middleware=smaller, lifespan=self._life, exception_handlers={404: self._missing})

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
            self._prometheus = Prometheus(Source("Prometheus", self._settings.prometheus_url, session))
            self._canary_port = Source("The canary", self._settings.canary_url, session)
            self._store = Store(Source("The trace store", self._settings.store_url, session))
            self._ledger = Source("The ledger", self._settings.ledger_url, session)
            alertmanager = Source("Alertmanager", self._settings.alertmanager_url, session)
            escalator = Source("The escalator", self._settings.escalator_url, session, token=self._settings.escalator_token)
            # A console with a token keeps its forms over a restart.
            forms = Forms(self._settings.token.encode() or None)
            self._alerts = AlertDesk(self._prometheus, alertmanager, escalator, forms, self._alerts_shown)
            yield

    # -- pages

    async def _overview(self, request: Request) -> Response:
        board, known = self._boards.overview(), [each.uid for each in self._boards.all()]
        (now, error), values, alerts = await asyncio.gather(
            self._hops_at_once(), self._variable_values(board), self._alerts.brief_within(FIRST_RENDER_SECONDS_MAX)
        )
        span, controls = self._range(request, board, values)
        parts = [
            boards.title_row(
                board.title if board else "Overview",
                boards.targets(now),
                boards.around(board, span) if board else Markup(""),
                controls,
            ),
            tag("p", error, id="map-error", class_="notice away", role="status", hidden=not error),
            alerts,
            boards.verdict(now),
            boards.hop_map_section(now, known),
        ]
        if board is None:
            parts.append(notice(f"There is no overview dashboard in {self._settings.dashboards}: run the generator.", "quiet"))
        else:
            parts.append(boards.grid(board, span))
        data = {"board": board.uid if board else "", "map": "yes", **_drawn_anew(alerts_page.BRIEF)}
        return self._page(request, "Overview", html(*parts), "/", charts=True, refreshes=True, data=data)

    async def _hops_at_once(self) -> tuple[hop_map.Map, str]:
        """For the first render: what is known in half a second; the browser asks again."""
        try:
            async with asyncio.timeout(FIRST_RENDER_SECONDS_MAX):
                return await hop_map.read(self._prometheus, self._expected()), ""
        except TimeoutError:
            return hop_map.unknown(), "Prometheus is slow to answer: asking again."
        except Unanswered as exc:
            return hop_map.unknown(), _said(exc)

    def _range(self, request: Request, board: Dashboard | None, values: Mapping[str, list[str]]) -> tuple[panels.Range, Markup]:
        given = request.query_params
        name = panels.range_name(given.get("range", ""), request.cookies.get("range", ""))
        chosen = panels.choices(board, given) if board else {}
        return panels.range_of(name), boards.controls(board, name, chosen, values)

    async def _variable_values(self, board: Dashboard | None) -> dict[str, list[str]]:
        """Of variables like `label_values(metric, label)`; without an answer there is no choice."""
        found: dict[str, list[str]] = {}
        for variable in board.variables if board else ():
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
        wrong = [notice(f"{name} can't be read: {why}") for name, why in self._boards.unreadable.items()]
        listed = boards.menu(known) if known else notice(f"No dashboards in {self._settings.dashboards}.", "quiet")
        return self._page(request, "Dashboards", html(tag("h1", "Dashboards"), *wrong, listed), "/dashboards")

    async def _dashboard(self, request: Request) -> Response:
        board = self._boards.get(request.path_params["uid"])
        if board is None:
            return await self._missing(request, None)
        span, controls = self._range(request, board, await self._variable_values(board))
        lede = tag("div", tag("p", board.description, class_="quiet"), boards.around(board, span), class_="lede")
        body = html(boards.title_row(board.title, controls), lede, boards.grid(board, span))
        data = {"board": board.uid}
        return self._page(request, board.title, body, "/dashboards", charts=True, refreshes=True, data=data)

    async def _traces(self, request: Request) -> Response:
        asked = searches.Question.read(request.query_params)
        for text in (asked.q, asked.event_id):
            if searches.TRACE_ID.match(text) and len(text) == 32:
                return RedirectResponse(f"/trace/{text.lower()}", 303)
        head = html(tag("h1", "Traces"), searches.trace_form(asked))
        return await self._answered(request, "Traces", head, self._traces_found(asked), "/traces")

    async def _traces_found(self, asked: searches.Question) -> Results:
        try:
            found = await self._store.search(asked.params(time.time()))
        except ValueError as exc:
            return notice(str(exc), "bad"), 200
        except Refused as exc:
            return notice(_said(exc), "bad" if exc.status == 400 else "away"), 200
        except Away as exc:
            return notice(f"{_said(exc)}. {EVENTS_ARE_WELL}"), 200
        question = tag("p", "Asked: ", tag("code", asked.traceql()), class_="quiet")
        return html(question, searches.trace_results(found)), 200

    async def _trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"].lower()
        title = tag("h1", "Trace ", tag("code", trace_id))
        if not searches.TRACE_ID.match(trace_id):
            body = html(title, notice("That is no trace id: up to 32 hexadecimal digits.", "bad"))
            return self._page(request, "Trace", body, "/traces", status=404)
        return await self._answered(request, f"Trace {trace_id[:8]}", title, self._trace_found(trace_id), "/traces")

    async def _trace_found(self, trace_id: str) -> Results:
        (journey_found, way, status), lines = await asyncio.gather(self._journey(trace_id), self._lines_of(trace_id))
        began_ns = journey_found.began_ns if journey_found else 0
        told = lines if isinstance(lines, Markup) else searches.lines_of_trace(lines, began_ns)
        search = tag("a", "Search these lines", href=searches.link_to_logs(trace_id=trace_id, since="7d"))
        return html(way, tag("h2", "Log lines of this trace", id="lines"), told, tag("p", search, class_="quiet")), status

    async def _journey(self, trace_id: str) -> tuple[journey.Journey | None, Markup, int]:
        try:
            spans = await self._store.trace(trace_id)
        except Refused as exc:
            if exc.status != 404:
                return None, notice(_said(exc)), 502
            spans = []
        except Away as exc:
            return None, notice(f"{_said(exc)}. {EVENTS_ARE_WELL}"), 200
        if not spans:
            text = "The store has no span of this trace: it was not kept, has expired, or is on its way still."
            return None, notice(text, "quiet"), 404
        found = journey.journey(trace_id, spans)
        return found, html(waterfall.head(found, time.time()), waterfall.waterfall(found)), 200

    async def _lines_of(self, trace_id: str) -> Markup | list[Any]:
        """The lines, or what is to be said instead."""
        try:
            return await self._store.logs([("trace_id", trace_id), ("limit", str(LOGS_OF_TRACE_MAX))])
        except Unanswered as exc:
            return notice(f"{_said(exc)}.")

    async def _logs(self, request: Request) -> Response:
        head = html(tag("h1", "Logs"), searches.log_form(request.query_params))
        return await self._answered(request, "Logs", head, self._lines_found(request.query_params), "/logs")

    async def _lines_found(self, given: Mapping[str, str]) -> Results:
        try:
            return searches.lines_found(await self._store.logs(searches.log_params(given, time.time()))), 200
        except Unanswered as exc:
            return notice(f"{_said(exc)}. Each process keeps its own log file meanwhile."), 200

    async def _canary(self, request: Request) -> Response:
        title = tag("h1", "Canary")
        try:
            async with asyncio.timeout(FIRST_RENDER_SECONDS_MAX):
                body = await self._canary_port.read("/canary", (), lambda said: canary_page.page(said, time.time()))
        except TimeoutError:
            body = html(title, notice("The canary is slow to answer: what it knows is not known here. Load this page again."))
        except Unanswered as exc:
            body = html(title, notice(f"{_said(exc)}. Whether everything is delivered is not known. {EVENTS_ARE_WELL}"))
        return self._page(request, "Canary", body, "/canary")

    async def _ledger_page(self, request: Request) -> Response:
        return await self._answered(request, "Ledger", tag("h1", "Ledger"), self._ledger_told(), "/ledger", "the ledger")

    async def _ledger_told(self) -> Results:
        try:
            return ledger.shown(await self._ledger.get(ledger.PATH), time.time()), 200
        except Unanswered as exc:
            return notice(f"UNKNOWN: {_said(exc)}. {EVENTS_ARE_WELL}"), 200
        except (KeyError, TypeError, ValueError):
            return notice("UNKNOWN: the ledger's answer can't be read."), 200

    def _alerts_shown(self, request: Request, title: str, body: Markup, status: int) -> Response:
        """Drawn anew by the browser, part for part, from this same page."""
        live = title == "Alerts"
        data = _drawn_anew(alerts_page.PATH) if live else None
        return self._page(request, title, body, alerts_page.PATH, refreshes=live, data=data, status=status)

    async def _runbook(self, request: Request) -> Response:
        title, body, status = runbooks.page_of(request.path_params["name"], self._settings.runbooks)
        return self._page(request, title, body, "", status=status)

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

    async def _answered(
        self, request: Request, title: str, head: Markup, results: Coroutine[Any, Any, Results], current: str,
        asked: str = "the trace store",
    ) -> Response:  # fmt: skip
        """The page with its results. If those let wait, its frame at once, and them when they are there."""
        task = asyncio.create_task(results)
        await asyncio.wait({task}, timeout=FIRST_RENDER_SECONDS_MAX)
        if task.done():
            found, status = task.result()
            return self._page(request, title, html(head, found), current, status=status)
        awaited = html(head, notice(f"Asking {asked}.", "quiet asking"), HERE)
        before, after = self._text(request, title, awaited, current).split(HERE)

        async def halves() -> AsyncIterator[str]:
            try:
                yield before
                yield (await task)[0]
                yield after
            finally:
                task.cancel()

        return StreamingResponse(halves(), media_type="text/html")

    def _page(
        self, request: Request, title: str, body: Markup, current: str, *, charts: bool = False, refreshes: bool = False,
        data: Mapping[str, str] | None = None, status: int = 200,
    ) -> Response:  # fmt: skip
        return HTMLResponse(self._text(request, title, body, current, charts, refreshes, data), status)

    def _text(
        self, request: Request, title: str, body: Markup, current: str, charts: bool = False, refreshes: bool = False,
        data: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        theme = request.cookies.get("theme", "")
        return page(title, body, current=current, theme=theme, charts=charts, refreshes=refreshes, data=data)

    # -- for the browser's own questions, and for probes

    async def _api_hops(self, _: Request) -> Response:
        try:
            return JSONResponse((await hop_map.read(self._prometheus, self._expected())).as_json())
        except Unanswered as exc:
            return JSONResponse({**hop_map.unknown().as_json(), "error": _said(exc)})

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


def _drawn_anew(path: str) -> dict[str, str]:
    """Where the browser gets the page's parts from, and our clock, which its own may not agree with."""
    return {"parts": path, "now": f"{time.time():.3f}"}


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
