"""OTLP in, over HTTP: Protobuf or JSON, plain or gzip.

Rules. A sender is answered when its spans are in the file, in the encoding that it sent. "Come again later" is 429 with
Retry-After; a store that can't write says 503; a request that can't be read says 400, and is not to be sent again. Spans that are
not valid are left out and named in `partial_success`. Source: OTLP specification 1.x, "OTLP/HTTP".
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.store.ingest import RETRY_SECONDS, RefusedError
from telemetry.store.intake import Encoding, Intake, InvalidError, success
from telemetry.store.rows import Signal
from telemetry.store.settings import REQUEST_BYTES_MAX

# A sender that is slower than this gives its place to others.
RECEIVE_SECONDS_MAX = 10.0
_TYPES: dict[str, Encoding] = {"application/x-protobuf": "protobuf", "application/json": "json"}
_PATHS: tuple[tuple[str, Signal], ...] = (("/v1/traces", "spans"), ("/v1/logs", "logs"))


class HttpDoor:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def routes(self) -> list[Route]:
        return [Route(path, self._taker(signal), methods=["POST"]) for path, signal in _PATHS]

    def _taker(self, signal: Signal) -> Callable[[Request], Awaitable[Response]]:
        async def take(request: Request) -> Response:
            content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
            encoding = _TYPES.get(content_type)
            packing = request.headers.get("content-encoding", "identity").strip().lower()
            if encoding is None:
                return _no("protobuf", 415, code_pb2.INVALID_ARGUMENT, f"content-type is {' or '.join(_TYPES)}")
            if packing not in ("identity", "gzip"):
                return _no(encoding, 415, code_pb2.INVALID_ARGUMENT, "content-encoding is gzip or none")
            try:
                rejected = await self._take(signal, request, encoding, gzip=packing == "gzip")
            except InvalidError as exc:
                return _no(encoding, 413 if exc.too_large else 400, code_pb2.INVALID_ARGUMENT, str(exc))
            except TimeoutError:
                why = f"the body did not come within {RECEIVE_SECONDS_MAX:g} s"
                return _no(encoding, 408, code_pb2.DEADLINE_EXCEEDED, why)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it
            except RefusedError as exc:
                if exc.busy:
                    return _no(encoding, 429, code_pb2.RESOURCE_EXHAUSTED, str(exc))
                return _no(encoding, 503, code_pb2.UNAVAILABLE, str(exc))
            return _answer(success(signal, rejected), encoding, 200)

        return take

    async def _take(self, signal: Signal, request: Request, encoding: Encoding, *, gzip: bool) -> int:
        """The whole body within its bounds of time and size, and then into the file."""
        body = bytearray()
        try:
            async with asyncio.timeout(RECEIVE_SECONDS_MAX):
                async for chunk in request.stream():
                    self._intake.hold(signal, len(chunk))
                    body += chunk
                    if len(body) > REQUEST_BYTES_MAX:
                        raise InvalidError(f"a request is at most {REQUEST_BYTES_MAX} bytes: send fewer at once", too_large=True)
            return await self._intake.take(signal, bytes(body), encoding, gzip=gzip)
        finally:
            self._intake.let_go(len(body))


def _no(encoding: Encoding, status: int, code: int, why: str) -> Response:
    answer = _answer(Status(code=code, message=why), encoding, status)
    if status in (408, 429, 503):
        answer.headers["retry-after"] = str(RETRY_SECONDS)
    return answer


def _answer(message: Message, encoding: Encoding, status: int) -> Response:
    if encoding == "json":
        return Response(json.dumps(MessageToDict(message)), status, media_type="application/json")
    return Response(message.SerializeToString(), status, media_type="application/x-protobuf")
