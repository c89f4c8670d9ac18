"""Links that act without a login: signed by HMAC-SHA256 over page, action, person and expiry.

To open one changes nothing, since programs that scan mail open every link; its page has a button that acts.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LinkAction = Literal["acknowledge", "resolve"]
SECRET_BYTES, TOKEN_CHARS_MAX = 32, 2000


class BadLink(Exception):
    """Not ours, changed, or too old; the text says which."""


@dataclass(frozen=True, slots=True)
class Link:
    key: str
    action: LinkAction
    who: str
    expires_at: float


def sign(link: Link, secret: bytes) -> str:
    body = json.dumps([link.key, link.action, link.who, round(link.expires_at)], separators=(",", ":")).encode()
    return f"{_text(body)}.{_text(_digest(body, secret))}"


def read(token: str, secret: bytes, now: float) -> Link:
    """Raises: BadLink."""
    body_text, _, given = token.partition(".")
    try:
        if len(token) > TOKEN_CHARS_MAX:
            raise ValueError
        body = _bytes(body_text)
        right = hmac.compare_digest(_bytes(given), _digest(body, secret))
    except ValueError:
        right = False
    if not right:
        raise BadLink("this link was not made here, or was changed on its way")
    key, action, who, expires_at = json.loads(body)
    if now >= expires_at:
        raise BadLink("this link is too old: use the console, or `spillway pages`")
    return Link(key, action, who, expires_at)


def secret_of(folder: Path, told: str) -> bytes:
    """The one that was told, or one that is made once and kept."""
    if told:
        return hashlib.sha256(told.encode()).digest()
    path = folder / "link-secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f"link-secret.{os.getpid()}"
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as written:
            written.write(secrets.token_bytes(SECRET_BYTES))
            written.flush()
            os.fsync(written.fileno())
        fresh.replace(path)
    return path.read_bytes()


def _digest(body: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"spillway link\0" + body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
