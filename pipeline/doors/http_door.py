"""The HTTP door: POST /v1/events in the three modes of the CloudEvents HTTP binding.

Rules. The hot route is bare ASGI; everything else is Starlette. Whoever can't be let in is told so before the body is read; a
body is read within its size and its time. uvicorn serves, but signals are ours (TRAPS 11). While the process stops, every answer
says `Connection: close`, so that clients and balancers move on.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.doors import http_answers, json_events
from pipeline.doors.accept import Decision, is_json
from pipeline.doors.collect import Caller, Collector, Hold, NotTaken
from pipeline.doors.http_answers import HttpAnswer
from pipeline.doors.json_events import Parsed
from pipeline.doors.openapi import document
from pipeline.doors.reasons import Reason, reason_of
from pipeline.doors.settings import HttpSettings
from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from telemetry.serving import QuietServer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EVENTS_PATH = "/v1/events"
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
_MODES = f"send {STRUCTURED}, {BATCHED}, or ce-* headers with application/json"


class HttpDoor:
    """One process's HTTP server and its ASGI application."""

    def __init__(self, collector: Collector, settings: HttpSettings) -> None:
        self._collector, self._settings = collector, settings
        self._limits = collector.acceptance.limits
        self._ready = False
        self._rest = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/openapi.json", self._openapi),
            ],
            exception_handlers={404: _not_found, 405: _wrong_method},
        )
        self._server: QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    # -- life

    async def start(self) -> None:
        listener = listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=self._settings.keepalive_seconds,
        )
        self._server = QuietServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        up = asyncio.create_task(self._server.is_up.wait())
        await asyncio.wait({up, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._serving.done():
            await self._serving
        self._ready = True

    async def fail_readiness(self) -> None:
        self._ready = False

    async def stop_accepting(self, budget_seconds: float) -> None:
        """Close the listener, answer what is in flight with `Connection: close`, at most this long."""
        assert self._server is not None, "not started"
        assert self._serving is not None, "not started"
        self._collector.draining = True
        self._server.config.timeout_graceful_shutdown = max(1, int(budget_seconds))
        self._server.should_exit = True
        await self._serving

    # -- the hot route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != EVENTS_PATH:
            await self._rest(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "POST":
            answer = await self._post(headers, receive, began)
        elif scope["method"] == "OPTIONS":
            answer = HttpAnswer(204, b"")
        else:
            answer = http_answers.problem(Reason.METHOD, "events are sent by POST")
        all_headers = answer.all_headers() + self._cors(headers, preflight=scope["method"] == "OPTIONS")
        if self._collector.draining or answer.status in (408, 413):
            all_headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": all_headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _post(self, headers: Mapping[str, str], receive: Receive, began: float) -> HttpAnswer:
        hold: Hold | None = None
        try:
            caller = self._collector.identify(headers)
            mode = _mode(headers)
            size = self._announced(headers)
            hold = self._collector.admit(caller, size)
            async with asyncio.timeout(self._settings.body_seconds):
                body = await _body(receive, size)
            return await self._publish(caller, mode, headers, body, hold, began)
        except TimeoutError:
            return self._refused(
                NotTaken(Reason.BODY_TIMEOUT, f"the body did not arrive within {self._settings.body_seconds} s"), began
            )
        except NotTaken as exc:
            return self._refused(exc, began)
        except InvalidEvent as exc:
            return self._refused(NotTaken(reason_of(exc.reason), str(exc)), began)
        finally:
            if hold is not None and not hold.handed_over:
                hold.release()

    def _refused(self, problem: NotTaken, began: float) -> HttpAnswer:
        self._collector.refused(problem)
        self._collector.request_seconds.observe(time.perf_counter() - began)
        return http_answers.not_taken(problem)

    async def _publish(
        self, caller: Caller, mode: str, headers: Mapping[str, str], body: bytes, hold: Hold, began: float
    ) -> HttpAnswer:
        if mode == BATCHED:
            parsed = json_events.batched(body, self._limits.request_events)
        elif mode == STRUCTURED:
            parsed = [json_events.structured(body)]
        else:
            parsed = [json_events.binary(_ce_attributes(headers), headers.get("content-type", ""), body)]
        now = self._collector.clock_micros()
        decisions = [self._decide(event, now, caller.context) for event in parsed]
        answer = await self._collector.publish(caller, decisions, hold, None, began)
        ids = [event.id for event in parsed]
        return http_answers.batch(ids, answer) if mode == BATCHED else http_answers.single(ids[0], answer)

    def _decide(self, parsed: Parsed, now_micros: int, context: str) -> Decision:
        acceptance, event = self._collector.acceptance, parsed.event
        if isinstance(event, CloudEvent):
            return acceptance.decide_json(event, now_micros, context)
        return acceptance.rejected(event.why, event.named)

    def _announced(self, headers: Mapping[str, str]) -> int:
        """How large the body may become: what was announced, else the most that is taken."""
        if headers.get("content-encoding", "identity") != "identity":
            raise NotTaken(Reason.CONTENT_TYPE, "compressed bodies are not taken: leave out Content-Encoding")
        text = headers.get("content-length")
        size = int(text) if text is not None and text.isascii() and text.isdigit() else self._limits.request_bytes
        if size > self._limits.request_bytes:
            raise NotTaken(Reason.REQUEST_TOO_LARGE, f"a request holds at most {self._limits.request_bytes} bytes")
        return size

    def _cors(self, headers: Mapping[str, str], *, preflight: bool) -> list[tuple[bytes, bytes]]:
        origin = headers.get("origin")
        allowed: Sequence[str] = self._settings.cors_origins
        if origin is None or ("*" not in allowed and origin not in allowed):
            return []
        cors = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"vary", b"Origin"),
            (b"access-control-expose-headers", b"Retry-After"),
        ]
        if preflight:
            asked = headers.get("access-control-request-headers", "authorization, content-type, spillway-delivery")
            cors += [
                (b"access-control-allow-methods", b"POST"),
                (b"access-control-allow-headers", asked.encode("latin-1")),
                (b"access-control-max-age", b"600"),
            ]
        return cors

    # -- the rest

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        return PlainTextResponse("ready\n") if self._ready else PlainTextResponse("not ready\n", status_code=503)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(document(self._limits), headers={"access-control-allow-origin": "*"})


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other processes of this door may share.

    Raises:
        InvalidConfiguration: the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise InvalidConfiguration(f"SPILLWAY_HTTP_PORT={port}: can't listen on {host}: {exc.strerror}") from exc
    listener.setblocking(False)
    return listener


def _mode(headers: Mapping[str, str]) -> str:
    """The content mode of the CloudEvents HTTP binding. Raises: NotTaken."""
    media = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media in (STRUCTURED, BATCHED):
        return media
    if any(name.startswith("ce-") for name in headers):
        if is_json(media):
            return "binary"
        raise NotTaken(Reason.CONTENT_TYPE, "this door takes data as JSON; send Protobuf to the gRPC door")
    raise NotTaken(Reason.CONTENT_TYPE, f"this is no CloudEvent: {_MODES}")


def _ce_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """Attributes that came as headers, percent-decoded; broken UTF-8 becomes U+FFFD."""
    return {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}


async def _body(receive: Receive, size_max: int) -> bytes:
    """Raises: NotTaken: it is larger; InvalidEvent: the client left before its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidEvent(Reason.MALFORMED_REQUEST, "the client left before the body's end")
        part = message.get("body", b"")
        size += len(part)
        if size > size_max:
            raise NotTaken(Reason.REQUEST_TOO_LARGE, f"a request holds at most {size_max} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _not_found(_: Request, __: Exception) -> Response:
    return _response(http_answers.problem(Reason.NOT_FOUND, f"there is {EVENTS_PATH}, /openapi.json, /healthz and /readyz"))


async def _wrong_method(_: Request, __: Exception) -> Response:
    return _response(http_answers.problem(Reason.METHOD, "this is read by GET"))


def _response(answer: HttpAnswer) -> Response:
    return Response(answer.body, answer.status, media_type=answer.content_type.decode())
