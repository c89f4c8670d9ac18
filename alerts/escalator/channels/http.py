"""One POST for a channel, and what its answer means: taken, later, never."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import requests

CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX = 3.0, 5.0
DETAIL_CHARS_MAX = 300
# Too early, too many, or the other side's own trouble.
_LATER = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Sent:
    result: Literal["ok", "retry", "refused"]
    detail: str = ""
    retry_after_seconds: float = 0.0


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Sent:
    """Follows no redirect: a page must not end at an address that nobody configured."""
    try:
        answer = requests.post(
            url, data=body, headers=headers, timeout=(CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX), allow_redirects=False
        )
    except requests.exceptions.InvalidURL:
        return Sent("refused", "its address can't be used")
    except requests.exceptions.RequestException as exc:
        return Sent("retry", f"no answer: {_cause(exc)}"[:DETAIL_CHARS_MAX])
    said = " ".join(answer.text[: DETAIL_CHARS_MAX * 2].split())[:DETAIL_CHARS_MAX]
    if 200 <= answer.status_code < 300:
        return Sent("ok", f"{answer.status_code}")
    if answer.status_code in _LATER or answer.status_code >= 500:
        return Sent("retry", f"{answer.status_code} {said}".strip(), _seconds(answer.headers.get("Retry-After", "")))
    return Sent("refused", f"{answer.status_code} {said}".strip())


def _cause(exc: BaseException) -> str:
    """Without the address: it may hold a secret."""
    if isinstance(exc, requests.exceptions.Timeout):
        return "it took too long"
    inner = exc.args[0] if exc.args else exc
    reason = getattr(inner, "reason", inner)
    return type(reason).__name__


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 0.0
