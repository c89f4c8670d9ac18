"""The two things the console reads: Prometheus and the trace store, each by HTTP, each allowed to be away.

`Away` means that it does not answer in time; `Refused` that it answered and said no, with what it said. Both are shown to the
reader at the place where the data would be. Who said nothing for a whole question is not asked again for `SILENT_SECONDS`: what
was to be asked is away at once, so that a page of thirty panels does not wait for each.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import aiohttp

from telemetry.journey import Span, spans_of

ANSWER_BYTES_MAX = 16 << 20
ASK_SECONDS_MAX = 5.0
SILENT_SECONDS = 5.0
SAID_CHARS_MAX = 300
Json = Any
T = TypeVar("T")


class Unanswered(Exception):
    """What was asked for is not to be had; the text is for the reader. `short` is for where there is little room."""

    def __init__(self, text: str, short: str = "") -> None:
        super().__init__(text)
        self.short = short or text


class Away(Unanswered):
    """No answer."""


class Refused(Unanswered):
    """An answer that says no."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Source:
    """One HTTP server: asked with GET, and told what to do."""

    def __init__(
        self, name: str, url: str, session: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic, token: str = ""
    ) -> None:  # fmt: skip
        self.name, self.url, self._session, self._clock = name, url.rstrip("/"), session, clock
        self._headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._answered_at = self._silent_until = -math.inf

    async def get(self, path: str, params: Sequence[tuple[str, str]] = ()) -> Json:
        """Raises:
        Away: it does not answer, or not in time.
        Refused: it answered with an error.
        """
        began = self._clock()
        if not self.url:
            raise Away(f"{self.name} is not configured")
        if began < self._silent_until:
            raise self._away(_silence())
        try:
            status, body = await self._asked(path, params)
            self._answered_at = self._clock()
            if status >= 400:
                said = body[:4096].decode("utf-8", "replace").strip()
                raise Refused(f"{self.name} says {status}: {said[:SAID_CHARS_MAX]}", status)
            return json.loads(body)
        except TimeoutError as exc:
            if self._answered_at < began:
                self._silent_until = self._clock() + SILENT_SECONDS
            raise self._away(_silence()) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise self._away(_plain(exc)) from exc
        except ValueError as exc:
            raise Refused(f"{self.name} at {self.url} answered with something that is no JSON", 502) from exc

    async def read(self, path: str, params: Sequence[tuple[str, str]], read: Callable[[Json], T]) -> T:
        """What `read` makes of the answer.

        Raises:
        Away, Refused: as `get`; also refused if the answer is none of the kind that was asked for.
        """
        answer = await self.get(path, params)
        try:
            return read(answer)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
            raise Refused(f"{self.name} at {self.url} answered with something that is no answer to this question", 502) from exc

    async def send(self, method: Literal["POST", "DELETE"], path: str, body: Json = None) -> Json:
        """Tells it to do something, once: whether to try again is the reader's to decide. What it answers, None if nothing.

        Raises:
        Away, Refused: as `get`. After `Away` it is not known whether it was done.
        """
        if not self.url:
            raise Away(f"{self.name} is not configured")
        try:
            status, said = await self._asked(path, (), method, body)
        except TimeoutError as exc:
            raise self._away(_silence()) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise self._away(_plain(exc)) from exc
        if status >= 400:
            text = said[:4096].decode("utf-8", "replace").strip()
            raise Refused(f"{self.name} says {status}: {text[:SAID_CHARS_MAX]}", status)
        try:
            return json.loads(said) if said.strip() else None
        except ValueError:
            return None

    async def _asked(
        self, path: str, params: Sequence[tuple[str, str]], method: str = "GET", told: Json = None
    ) -> tuple[int, bytes]:  # fmt: skip
        """Status and body, within the bounds of time and size."""
        async with self._session.request(
            method,
            self.url + path,
            params=list(params),
            json=told,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ASK_SECONDS_MAX),
            allow_redirects=False,
        ) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise Refused(f"{self.name} answered with more than {ANSWER_BYTES_MAX >> 20} MiB: narrow the question", 413)
            return answer.status, bytes(body)

    def _away(self, why: str) -> Away:
        return Away(f"{self.name} at {self.url} does not answer ({why})", f"{self.name} does not answer")


def _silence() -> str:
    return f"no answer in {ASK_SECONDS_MAX:g} s"


def _plain(exc: BaseException) -> str:
    if isinstance(exc, aiohttp.ClientConnectorError) and exc.os_error.errno:
        return os.strerror(exc.os_error.errno).lower()
    return type(exc).__name__


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    # Unix time in seconds, value.
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1] if self.points else math.nan


@dataclass(frozen=True, slots=True)
class Exemplar:
    at: float
    value: float
    trace_id: str
    labels: Mapping[str, str]


class Prometheus:
    # Questions to it at once: a dashboard of thirty panels must not keep others waiting.
    AT_ONCE_MAX = 12

    def __init__(self, source: Source) -> None:
        self.source = source
        self._turn = asyncio.Semaphore(self.AT_ONCE_MAX)

    async def now(self, expr: str) -> list[Series]:
        return await self._get("query", [("query", expr)], _instant)

    async def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        asked = [("query", expr), ("start", f"{start:.3f}"), ("end", f"{end:.3f}"), ("step", f"{step:g}")]
        return await self._get("query_range", asked, _range)

    async def exemplars(self, expr: str, start: float, end: float) -> list[Exemplar]:
        asked = [("query", expr), ("start", f"{start:.3f}"), ("end", f"{end:.3f}")]
        return await self._get("query_exemplars", asked, _exemplars)

    async def label_values(self, label: str, metric: str) -> list[str]:
        params = [("match[]", metric)] if metric else []
        return await self._get(f"label/{label}/values", params, lambda data: [str(each) for each in data])

    async def _get(self, path: str, params: Sequence[tuple[str, str]], read: Callable[[Json], T]) -> T:
        async with self._turn:
            return await self.source.read(f"/api/v1/{path}", params, lambda answer: read(answer["data"]))


def _instant(data: Json) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, (_point(data["result"]),))]
    return [Series(each["metric"], (_point(each["value"]),)) for each in data["result"]]


def _range(data: Json) -> list[Series]:
    return [Series(each["metric"], tuple(map(_point, each["values"]))) for each in data["result"]]


def _exemplars(data: Json) -> list[Exemplar]:
    return [
        Exemplar(float(one["timestamp"]), float(one["value"]), one["labels"]["trace_id"], each["seriesLabels"])
        for each in data
        for one in each["exemplars"]
        if one["labels"].get("trace_id")
    ]


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@dataclass(frozen=True, slots=True)
class Store:
    """The trace store, by Tempo's HTTP API and its own two questions."""

    source: Source

    async def search(self, params: Sequence[tuple[str, str]]) -> list[Mapping[str, Any]]:
        """Tempo leaves `traces` out if there is none."""
        return await self.source.read("/api/search", params, lambda answer: _mappings(answer.get("traces") or []))

    async def trace(self, trace_id: str) -> list[Span]:
        return await self.source.read(f"/api/traces/{trace_id}", (), spans_of)

    async def logs(self, params: Sequence[tuple[str, str]]) -> list[Mapping[str, Any]]:
        return await self.source.read("/api/logs", params, _mappings)


def _mappings(answer: Json) -> list[Mapping[str, Any]]:
    return [dict(each) for each in answer]
