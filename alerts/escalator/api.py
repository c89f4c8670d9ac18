"""The escalator's HTTP: Alertmanager's webhook, pages for the console and the command, signed links for people."""

import html
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from alerts.escalator.access import Guard
from alerts.escalator.engine import NotDurable
from alerts.escalator.heard import is_signed
from alerts.escalator.intake import InvalidMessage
from alerts.escalator.links import BadLink, Link, read
from alerts.escalator.service import STATES, Service
from alerts.escalator.state import Page
from alerts.escalator.words import next_words, title_of, utc

BODY_BYTES_MAX = 16 << 20
PAGES_MAX, PAGES_USUAL = 1000, 100
WHO_CHARS_MAX = 200
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}"
    "button{font:inherit;padding:.6rem 1.4rem}dt{color:#555}dd{margin:0 0 .6rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}dt{color:#aaa}a{color:#8bf}}"
)
_BUTTON = {"acknowledge": "Acknowledge: I take it", "resolve": "Resolve: it is mended"}


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def app(service: Service) -> ASGIApp:
    routes = [
        Route("/alertmanager", _answered(service, _webhook), methods=["POST"]),
        Route("/pagerduty", _answered(service, _pagerduty), methods=["POST"]),
        Route("/api/pages", _answered(service, _pages)),
        Route("/api/pages/{key}", _answered(service, _page)),
        Route("/api/pages/{key}/{action:str}", _answered(service, _act), methods=["POST"]),
        Route("/api/health", _answered(service, _health)),
        Route("/l/{token}", _answered(service, _link), methods=["GET", "POST"]),
    ]
    return Guard(Starlette(routes=routes), service.settings.token, service.settings.links)


def _answered(
    service: Service, handler: Callable[[Service, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handler(service, request)
        except _Refused as exc:
            return PlainTextResponse(f"{exc}\n", exc.status)
        except InvalidMessage as exc:
            return PlainTextResponse(f"{exc}\n", 400)
        except NotDurable as exc:
            return PlainTextResponse(f"the disk refuses, send it again: {exc}\n", 503)

    return answer


async def _webhook(service: Service, request: Request) -> Response:
    await run_in_threadpool(service.take, await _json(request))
    return JSONResponse({"status": "ok"})


async def _pagerduty(service: Service, request: Request) -> Response:
    secret, body = service.settings.pagerduty_webhook_secret, await _body(request)
    if not secret:
        raise _Refused(404, "set SPILLWAY_ESCALATOR_PAGERDUTY_WEBHOOK_SECRET to the secret of PagerDuty's webhook")
    if not is_signed(request.headers.get("x-pagerduty-signature", ""), body, secret):
        raise _Refused(403, "its signature is not that of SPILLWAY_ESCALATOR_PAGERDUTY_WEBHOOK_SECRET")
    await run_in_threadpool(service.hear, body)
    return JSONResponse({"status": "ok"})


async def _pages(service: Service, request: Request) -> Response:
    states = request.query_params.get("state", "open")
    if states not in STATES:
        raise _Refused(400, f"state is {states!r}: open, closed or all")
    limit = request.query_params.get("limit", str(PAGES_USUAL))
    if not limit.isdigit() or not 1 <= int(limit) <= PAGES_MAX:
        raise _Refused(400, f"limit is {limit!r}: 1 to {PAGES_MAX}")
    pages = await run_in_threadpool(service.pages, states, int(limit))
    return JSONResponse({"now": service.now(), "pages": pages})


async def _page(service: Service, request: Request) -> Response:
    page = await run_in_threadpool(service.page, request.path_params["key"])
    return _shown(service, page)


async def _act(service: Service, request: Request) -> Response:
    action = request.path_params["action"]
    if action not in ("acknowledge", "resolve"):
        raise _Refused(404, "there is acknowledge and resolve")
    body = await _json(request)
    who = body.get("who") if isinstance(body, dict) else None
    if not isinstance(who, str) or not 0 < len(who.strip()) <= WHO_CHARS_MAX:
        raise _Refused(400, 'say who you are: {"who": "ann"}')
    return _shown(service, await run_in_threadpool(service.act, action, request.path_params["key"], who.strip()))


async def _health(service: Service, request: Request) -> Response:
    return JSONResponse(await run_in_threadpool(service.health))


async def _link(service: Service, request: Request) -> Response:
    try:
        link = read(request.path_params["token"], service.secret, service.now())
    except BadLink as exc:
        return HTMLResponse(_document("This link does nothing", f"<p>{html.escape(str(exc))}</p>"), 403)
    if request.method == "POST":
        page = await run_in_threadpool(service.act, link.action, link.key, f"{link.who} (link)")
    else:
        page = await run_in_threadpool(service.page, link.key)
    if page is None:
        return HTMLResponse(_document("No such page", "<p>It was closed long ago.</p>"), 404)
    return HTMLResponse(_document(title_of(page), _about(page, link, service, acted=request.method == "POST")))


def _about(page: Page, link: Link, service: Service, *, acted: bool) -> str:
    rows = {
        "State": page.state, "What users feel": page.annotations.get("feels", ""), "Since": utc(page.starts_at),
        "Probable cause": page.annotations.get("cause", ""), "Hop": page.labels.get("hop", ""),
        "Acknowledged": page.acknowledged_by and f"by {page.acknowledged_by}, {utc(page.acknowledged_at)}",
        "Next": next_words(page, service.engine.setup),
    }  # fmt: skip
    table = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows.items() if text)
    done = page.state == "resolved" or (page.state == "acknowledged" and link.action == "acknowledge")
    form = "" if done else f'<form method="post"><button>{_BUTTON[link.action]}</button></form>'
    return f"{'<p><b>Done.</b></p>' if acted else ''}<dl>{table}</dl>{form}"


def _document(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    return f'<!doctype html><html lang="en">{head}<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>'


def _shown(service: Service, page: Page | None) -> Response:
    if page is None:
        raise _Refused(404, "there is no such page: `spillway pages list --state all` shows their keys")
    return JSONResponse(service.shown(page))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise _Refused(413, f"more than {BODY_BYTES_MAX} bytes")
    return bytes(body)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await _body(request))
    except ValueError as exc:
        raise _Refused(400, f"no JSON: {exc}") from exc
