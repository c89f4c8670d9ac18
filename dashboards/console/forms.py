"""Forms that change something: protected against pages of other sites, small, and signed by who sends them.

Rules. Every form holds a token that only a page of this console could have read, and a browser's `Origin` and `Sec-Fetch-Site`,
where they are sent, must name the console. A body is at most `BODY_BYTES_MAX`. The name of who acts is kept in a cookie, so that
it is typed once; it proves nothing, and is written down as what it is: a name.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from dashboards.console.layout import Markup, tag

BODY_BYTES_MAX = 4096
WHO_COOKIE, WHO_CHARS_MAX, WHO_COOKIE_SECONDS = "who", 80, 365 * 86400
COMMENT_CHARS_MAX = 500


class Refusal(Exception):
    """The form is not taken; the text says why, and what to do."""

    def __init__(self, text: str, status: int = 403) -> None:
        super().__init__(text)
        self.status = status


class Forms:
    def __init__(self, key: bytes | None = None) -> None:
        """`key`: another than each process its own lets forms outlive a restart."""
        self._token = hmac.new(key or secrets.token_bytes(32), b"spillway console form", hashlib.sha256).hexdigest()

    def hidden(self, **values: str) -> Markup:
        """What a form holds unseen; `values` and the token."""
        fields = [tag("input", type="hidden", name=name, value=value) for name, value in {"token": self._token, **values}.items()]
        return Markup("".join(fields))

    async def read(self, request: Request) -> dict[str, str]:
        """The form's fields.

        Raises:
            Refusal: it is not of this console, or too large.
        """
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and urlsplit(origin).netloc != headers.get("host", "")) or site not in ("same-origin", "none"):
            raise Refusal("That form was sent by a page of another site: nothing was done.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise Refusal(f"That form is larger than {BODY_BYTES_MAX} bytes: nothing was done. Write less.", 413)
        given = {name: values[0].strip() for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if not hmac.compare_digest(given.get("token", "").encode(), self._token.encode()):
            raise Refusal("That form is older than this console: nothing was done. This page is fresh: press again.")
        return given


def who_of(given: Mapping[str, str]) -> str:
    """Who acts.

    Raises:
        Refusal: nobody is named.
    """
    who = " ".join(given.get("who", "").split())[:WHO_CHARS_MAX]
    if not who:
        raise Refusal("Nobody was named: nothing was done. Write who you are, and press again.", 400)
    return who


def remembered_who(request: Request) -> str:
    return " ".join(unquote(request.cookies.get(WHO_COOKIE, "")).split())[:WHO_CHARS_MAX]


def remember_who(answer: Response, who: str, *, secure: bool) -> None:
    answer.set_cookie(
        WHO_COOKIE, quote(who), max_age=WHO_COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure
    )  # fmt: skip
