"""The console without a process or a port: asked as a server would ask it; and sources that say what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

from aiohttp import web
from starlette.types import ASGIApp, Message

from dashboards.console.app import ConsoleSettings, console

BROWSER = {"host": "127.0.0.1:8088", "accept": "text/html"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookie(self) -> SimpleCookie:
        return SimpleCookie(self.headers.get("set-cookie", ""))


@dataclass
class Asker:
    """Asks one ASGI app."""

    app: ASGIApp
    # Sent with each request.
    headers: dict[str, str] = field(default_factory=lambda: dict(BROWSER))

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers)

    async def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return await self.ask("POST", path, headers, body)

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        seen: Callable[[bytes], None] = lambda _: None,
    ) -> Answer:
        """`seen` gets each piece of the body when it is sent."""
        bare, _, query = path.partition("?")
        named = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": bare, "raw_path": bare.encode(), "root_path": "", "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8088),
        }  # fmt: skip
        sent: list[Message] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if not waiting:
                await asyncio.Event().wait()  # the client stays
            return waiting.pop()

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body"):
                seen(message["body"])

        await self.app(scope, receive, send)
        start = next(each for each in sent if each["type"] == "http.response.start")
        said = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], said, b"".join(each.get("body", b"") for each in sent))


@asynccontextmanager
async def running(settings: ConsoleSettings) -> AsyncIterator[Asker]:
    """The console between its start and its end."""
    app = console(settings)
    inbox: list[Message] = [{"type": "lifespan.startup"}]
    ending, started, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        if inbox:
            return inbox.pop()
        await ending.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        (started if message["type"] == "lifespan.startup.complete" else ended).set()

    life = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    await started.wait()
    try:
        yield Asker(app)
    finally:
        ending.set()
        await life


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[str]:
    """An HTTP server for the while; `query_range=...` answers every path that ends so. Others are 404."""

    async def answer(request: web.Request) -> web.StreamResponse:
        name = request.path.split("/")[-2 if "/traces/" in request.path else -1]
        handler = handlers.get(name)
        return await handler(request) if handler else web.Response(status=404, text="not found")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert site._server is not None
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


def saying(answer: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(answer, status=status)

    return handler


def prometheus_saying(result: object, kind: str = "vector") -> Handler:
    return saying({"status": "success", "data": {"resultType": kind, "result": result}})
