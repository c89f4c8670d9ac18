"""Answers of the HTTP door: the one place where our reasons become HTTP statuses.

A single event: 200 accepted, 202 queued, else a problem (RFC 9457) with its `reason`. A batch: 207 with an answer per event; if
every event of it has to be sent again, 503 or 429 with the same body, so that a client that knows no 207 does the right thing.
Whatever is worth sending again carries Retry-After.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from pipeline.doors.collect import Answer, NotTaken, Problem
from pipeline.doors.reasons import Reason, Status

_STATUS = {
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.METHOD: 405,
    Reason.BODY_TIMEOUT: 408,
    Reason.REQUEST_TOO_LARGE: 413,
    Reason.EVENT_TOO_LARGE: 413,
    Reason.CONTENT_TYPE: 415,
    Reason.DATA_CONTENT_TYPE: 415,
    Reason.OVERLOADED: 429,
    Reason.THROTTLED: 429,
    Reason.UNAVAILABLE: 503,
    Reason.DEADLINE: 503,
    Reason.DRAINING: 503,
}
_WORDS = {status: status.name.lower() for status in Status}


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes
    content_type: bytes = b"application/json"
    retry_after_seconds: float | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", self.content_type), (b"content-length", str(len(self.body)).encode()), *self.headers]
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_seconds))).encode()))
        return headers


def status_of(reason: Reason) -> int:
    return _STATUS.get(reason, 400)


def problem(reason: Reason, detail: str, *, retry_after_seconds: float | None = None, id: str = "") -> HttpAnswer:
    status = status_of(reason)
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "reason": reason, "detail": detail}
    if id:
        body["id"] = id
    headers = ((b"www-authenticate", b"Bearer"),) if status == 401 else ((b"allow", b"POST, OPTIONS"),) if status == 405 else ()
    return HttpAnswer(status, orjson.dumps(body), b"application/problem+json", retry_after_seconds, headers)


def not_taken(exc: NotTaken) -> HttpAnswer:
    return problem(exc.reason, str(exc), retry_after_seconds=exc.retry_after_seconds)


def single(id: str, answer: Answer) -> HttpAnswer:
    if answer.problems:
        of = answer.problems[0]
        return problem(of.reason, of.message, retry_after_seconds=of.retry_after_seconds, id=id)
    status = answer.statuses[0]
    return HttpAnswer(200 if status == Status.ACCEPTED else 202, orjson.dumps({"id": id, "status": _WORDS[Status(status)]}))


def batch(ids: Sequence[str], answer: Answer) -> HttpAnswer:
    problems = {of.index: of for of in answer.problems}
    events = [
        {"id": id, "status": _WORDS[Status(status)]} if index not in problems else _event(id, problems[index])
        for index, (id, status) in enumerate(zip(ids, answer.statuses, strict=True))
    ]
    counts = {word: answer.statuses.count(status) for status, word in _WORDS.items()}
    waits = [of.retry_after_seconds for of in answer.problems if of.retry_after_seconds is not None]
    status = 207
    if counts["retry"] == len(ids):
        status = max(status_of(of.reason) for of in answer.problems)
    body = orjson.dumps({**counts, "events": events})
    return HttpAnswer(status, body, retry_after_seconds=max(waits) if waits else None)


def _event(id: str, of: Problem) -> dict[str, object]:
    event: dict[str, object] = {"id": id, "status": _WORDS[of.status], "reason": of.reason, "message": of.message}
    if of.retry_after_seconds is not None:
        event["retry_after_seconds"] = of.retry_after_seconds
    return event
