"""The trace store as a command asks it: Tempo's HTTP API, and our own two questions where it is our store.

    StoreError
    ├── Away      no answer, or not in time: nothing is known
    └── Refused   an answer that says no; `status` is HTTP's

Rules. Synchronous, for commands; every question has a deadline and a bound on what it reads. "Not there" is said only by a store
that is one: a 404 of something that does not speak Tempo's API is `Refused`, never "no such trace". Proxies of the environment
are not used. Source: Grafana Tempo documentation, "Tempo API".
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from telemetry.journey import Span, spans_of

ASK_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 64 << 20
LINES_MAX = 200
# How far back the last sign of a hop is looked for.
SIGN_SECONDS_MAX = 3600
_CHUNK_BYTES = 1 << 16
_SAID_CHARS_MAX = 300
_NOT_FOUND = 404


class StoreError(Exception):
    """What was asked for is not known; the text is for the reader."""


class Away(StoreError):
    """No answer in time."""


class Refused(StoreError):
    """An answer that says no, or that is none of Tempo's."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Line:
    """One log line. `time_ns` is nanoseconds since 1970."""

    time_ns: int
    level: str
    event: str
    part: str
    worker: str
    trace_id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Within:
    """A stretch of time, seconds since 1970. Tempo looks no further than its newest blocks without one."""

    start: int
    end: int


class TraceStore:
    """One store. `url` as `http://127.0.0.1:4318`; a path in it is kept."""

    def __init__(
        self, url: str, *, ask_seconds_max: float = ASK_SECONDS_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises: ValueError: that is no HTTP address."""
        self.url = url.rstrip("/")
        where = urlsplit(self.url)
        if where.scheme not in ("http", "https") or not where.hostname:
            raise ValueError(f"{url!r} is no address of a trace store: write it as http://127.0.0.1:4318")
        self._seconds_max, self._clock = ask_seconds_max, clock
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def trace(self, trace_id: str) -> list[Span] | None:
        """The spans of a trace; None if the store has none of it."""
        try:
            found = self._get(f"/api/traces/{quote(trace_id, safe='')}")
        except Refused as exc:
            if exc.status != _NOT_FOUND:
                raise
            self._must_be_tempo()
            return None
        return self._read(found, spans_of) or None

    def traces_of_event(self, event_id: str, within: Within) -> list[str]:
        """Trace ids of an event, newest first. `within` bounds the search of a store that is not ours."""
        try:
            found = self._get(f"/api/events/{quote(event_id, safe='')}")
        except Refused as exc:
            if exc.status != _NOT_FOUND:
                raise
            query = f"{{ span.cloudevents.event_id = {quoted(event_id)} }}"
            found = self._get("/api/search", q=query, limit=20, start=within.start, end=within.end)
        ids = self._read(found, lambda said: [str(each["traceID"]).zfill(32) for each in said.get("traces") or ()])
        return list(dict.fromkeys(ids))

    def lines(
        self, *, trace_id: str = "", event_id: str = "", process: str = "", level: str = "", limit: int = LINES_MAX
    ) -> list[Line] | None:
        """The newest lines that fit, oldest first; None if the store keeps no lines, as Tempo does not."""
        try:
            found = self._get("/api/logs", trace_id=trace_id, event_id=event_id, process=process, level=level, limit=limit)
        except Refused as exc:
            if exc.status != _NOT_FOUND:
                raise
            return None
        return self._read(found, lambda said: [_line(each) for each in said])

    def last_sign_ns(self, hop: str, now: float) -> int:
        """When a hop last ended a span, within an hour; 0 if it did not."""
        query = f"{{ span.spillway.hop = {quoted(hop)} }}"
        found = self._get("/api/search", q=query, limit=1, spss=100, start=int(now) - SIGN_SECONDS_MAX, end=int(now) + 60)
        return max(self._read(found, _ends_ns), default=0)

    def _must_be_tempo(self) -> None:
        """Raises: Refused: it is something else that knows no such page."""
        try:
            self._get("/api/echo", as_json=False)
        except Refused as exc:
            raise Refused(f"what answers at {self.url} does not speak Tempo's API", exc.status) from exc

    def _get(self, path: str, *, as_json: bool = True, **asked: str | int) -> Any:
        query = urlencode({name: value for name, value in asked.items() if value != ""})
        url = f"{self.url}{path}" + (f"?{query}" if query else "")
        try:
            request = urllib.request.Request(url, headers={"accept": "application/json"})
            with self._opener.open(request, timeout=self._seconds_max) as answer:
                said = self._body(answer)
            return json.loads(said) if as_json else said
        except urllib.error.HTTPError as exc:
            raise self._refusal(exc) from exc
        except ValueError as exc:
            raise Refused(f"what answers at {self.url} does not speak Tempo's API: its answer is not JSON", 502) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Away(f"the trace store at {self.url} does not answer: {self._why(exc)}") from exc

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        """All of it, by a deadline over the whole and not only over each piece."""
        until, chunks, size = self._clock() + self._seconds_max, list[bytes](), 0
        while chunk := answer.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise Refused(f"the trace store at {self.url} answers with more than {ANSWER_BYTES_MAX >> 20} MiB", 413)
            if self._clock() > until:
                raise TimeoutError
        return b"".join(chunks)

    def _refusal(self, exc: urllib.error.HTTPError) -> Refused:
        with exc:
            try:
                said = exc.read1(4096).decode("utf-8", "replace").strip()
            except (OSError, http.client.HTTPException):
                said = ""
        text = f"the trace store at {self.url} says {exc.code}" + (f": {said[:_SAID_CHARS_MAX]}" if said else "")
        return Refused(text, exc.code)

    def _why(self, exc: Exception) -> str:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        if isinstance(reason, TimeoutError):
            return f"nothing in {self._seconds_max:g} s"
        return (reason.strerror if isinstance(reason, OSError) else "") or type(reason).__name__

    def _read(self, said: Any, how: Callable[[Any], list[Any]]) -> list[Any]:
        try:
            return how(said)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise Refused(f"what answers at {self.url} does not speak Tempo's API: its JSON is something else's", 502) from exc


def quoted(text: str) -> str:
    """A string of TraceQL."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def _line(raw: Mapping[str, Any]) -> Line:
    return Line(
        time_ns=int(raw["time_unix_nano"]),
        level=str(raw.get("level") or ""),
        event=str(raw.get("event") or ""),
        part=str(raw.get("part") or ""),
        worker=str(raw.get("worker") or raw.get("part") or ""),
        trace_id=str(raw.get("trace_id") or ""),
        fields=dict(raw.get("fields") or {}),
    )


def _ends_ns(said: Mapping[str, Any]) -> list[int]:
    return [
        int(span.get("startTimeUnixNano") or 0) + int(span.get("durationNanos") or 0)
        for trace in said.get("traces") or ()
        for one in _sets(trace)
        for span in one.get("spans") or ()
    ]


def _sets(trace: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return trace.get("spanSets") or ([trace["spanSet"]] if trace.get("spanSet") else [])
