"""Who may ask the escalator. Rules.

- On the loopback no token is needed, but the `Host` header must name the loopback or the host of the signed links: else a page
  from elsewhere could act by rebinding its name. Bound to another host, a token is required, or the escalator does not start.
- Whatever changes something is JSON, or comes over a signed link: a form of a stranger's page can send neither.
- PagerDuty's webhook comes from outside, and is known by its signature.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.serving import TOKEN_CHARS_MIN, bears, host_name, is_loopback

# What comes to these is signed.
LINKS, PAGERDUTY = "/l/", "/pagerduty"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class RefusedToStart(Exception):
    """Others could acknowledge pages; the text says what to do."""


def check_start(host: str, token: str) -> None:
    """Raises: RefusedToStart."""
    if not is_loopback(host) and not token:
        raise RefusedToStart(
            f"the escalator would listen on {host}, where others can reach it: set SPILLWAY_ESCALATOR_TOKEN (and the same in "
            "Alertmanager's http_config), or leave --host at 127.0.0.1"
        )
    if token and len(token) < TOKEN_CHARS_MIN:
        raise RefusedToStart(f"SPILLWAY_ESCALATOR_TOKEN is shorter than {TOKEN_CHARS_MIN} characters: take a longer one")


class Guard:
    def __init__(self, app: ASGIApp, token: str, links: str) -> None:
        self._app, self._token = app, token
        self._links_host = urlsplit(links).hostname or ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, path = Headers(scope=scope), scope["path"]
        if path == PAGERDUTY:
            return None
        name = host_name(headers.get("host", ""))
        if not self._token and not is_loopback(name) and name != self._links_host:
            return PlainTextResponse(
                "the escalator answers to loopback names only; set SPILLWAY_ESCALATOR_LINKS to add one\n", 421
            )
        if path.startswith(LINKS):
            return None
        if self._token and not bears(headers.get("authorization", ""), self._token):
            return PlainTextResponse("a token is required: Authorization: Bearer\n", 401, {"www-authenticate": "Bearer"})
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("send JSON, with content-type: application/json\n", 415)
        return None
