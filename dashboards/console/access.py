"""Who may look: the rules of the console's door, as pure functions, and the middleware that holds them.

Rules. On the loopback no token is needed, but the `Host` header must name the loopback: else a page from elsewhere could read the
console by rebinding its name. Bound to any other host a token is required, and the console refuses to start without one. A token
comes as `Authorization: Bearer`, or once by the form at `/login`, which leaves a cookie with a digest of it. Comparisons take
constant time.
"""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.serving import TOKEN_CHARS_MIN, bears, host_name, is_loopback

COOKIE = "spillway_console"
COOKIE_SECONDS = 12 * 3600
# Asked by probes and by the login page itself.
OPEN_PATHS = ("/healthz", "/readyz", "/login")
OPEN_PREFIX = "/static/"
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class RefusedToStart(Exception):
    """The console would be open to others; the text says what to do."""


def check_start(host: str, token: str) -> None:
    """Raises:
    RefusedToStart: others could reach it, and no token, or one that can be guessed, is set.
    """
    if not is_loopback(host) and not token:
        raise RefusedToStart(
            f"the console would listen on {host}, where others can reach it: give it a token "
            "(--token, or SPILLWAY_CONSOLE_TOKEN), or leave --host at 127.0.0.1"
        )
    if token and len(token) < TOKEN_CHARS_MIN:
        raise RefusedToStart(f"the console's token is shorter than {TOKEN_CHARS_MIN} characters: take a longer one")


def digest_of(token: str) -> str:
    """What the cookie holds: whoever reads the cookie does not learn the token."""
    return hmac.new(token.encode(), b"spillway console", hashlib.sha256).hexdigest()


def is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def may_enter(token: str, authorization: str, cookie_header: str) -> bool:
    if not token:
        return True
    if bears(authorization, token):
        return True
    try:
        cookie = SimpleCookie(cookie_header).get(COOKIE)
    except CookieError:
        return False
    return cookie is not None and is_same(cookie.value, digest_of(token))


def host_fits(host_header: str, bound_host: str, token: str) -> bool:
    """Whether this name may be used for the console. With a token any may: a stranger's page has no cookie."""
    name = host_name(host_header)
    return bool(token) or is_loopback(name) or name == bound_host


class Guard:
    """Holds the rules in front of `app`, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, host: str, token: str) -> None:
        self._app, self._host, self._token = app, host, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not host_fits(headers.get("host", ""), self._host, self._token):
            return PlainTextResponse("this console answers to loopback names only\n", 421)
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        if may_enter(self._token, headers.get("authorization", ""), headers.get("cookie", "")):
            return None
        if path.startswith("/api/") or "text/html" not in headers.get("accept", ""):
            return PlainTextResponse(
                "a token is required: Authorization: Bearer\n", 401, {"www-authenticate": 'Bearer realm="spillway"'}
            )
        query = scope.get("query_string", b"").decode("latin-1")
        return RedirectResponse("/login?to=" + quote(path + (f"?{query}" if query else ""), safe=""), 303)
