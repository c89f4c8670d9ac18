"""Questions to the store: traces, tags, lines. Each thread has a connection of its own, and each question a deadline.

Rules. A search walks the newest spans first until it has enough traces, then reads those traces whole for what is said of them.
A question that takes longer than its deadline is given up, and says so: a shorter time range helps. Names and values of tags are
those of the newest `TAG_SPANS_MAX` spans in the range.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from telemetry.store.condition import clause
from telemetry.store.database import Database, is_corrupt
from telemetry.store.rows import plain
from telemetry.store.traceql import KINDS, STATUSES, Condition, Field

TRACE_SPANS_MAX = 50_000
# A trace that matches is read up to so many spans for its summary.
SUMMARY_SPANS_MAX = 5_000
TRACES_MAX = 1_000
LINES_MAX = 5_000
TAG_SPANS_MAX = 20_000
TAG_VALUES_MAX = 1_000
_EVER_NS = (1 << 63) - 1
_STEPS_BETWEEN_LOOKS = 10_000


class TooLongError(Exception):
    """The question took longer than it may."""


@dataclass(frozen=True, slots=True)
class Range:
    """Of the time when spans began; nanoseconds since 1970, both ends included."""

    start_ns: int = 0
    end_ns: int = _EVER_NS


class FoundSpan(NamedTuple):
    span_id: bytes
    name: str
    start_ns: int
    duration_ns: int
    status: int
    parent_id: bytes
    service: str
    matched: int


@dataclass(frozen=True, slots=True)
class FoundTrace:
    trace_id: bytes
    spans: tuple[FoundSpan, ...]

    @property
    def root(self) -> FoundSpan | None:
        """The span without a parent here. None if there is none: Tempo calls that root not yet received."""
        return next((span for span in self.spans if not span.parent_id), None)


@dataclass(frozen=True, slots=True)
class LinesAsked:
    trace_id: bytes | None = None
    event_id: str = ""
    text: str = ""
    # This severity or worse.
    severity_min: int = 0
    process: str = ""
    range: Range = field(default_factory=Range)
    limit: int = 200


class Queries:
    """Thread-safe: what a thread needs is its own."""

    def __init__(self, database: Database, query_seconds_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._seconds_max, self._clock = database, query_seconds_max, clock
        self._own = threading.local()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        own, database = self._own, self._database
        if getattr(own, "generation", None) != database.generation:
            if hasattr(own, "connection"):
                own.connection.close()
            own.connection, own.generation = database.reader(), database.generation
        until = self._clock() + self._seconds_max
        own.connection.set_progress_handler(lambda: self._clock() > until, _STEPS_BETWEEN_LOOKS)
        try:
            yield own.connection
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise TooLongError(f"given up after {self._seconds_max:g} s: ask for a shorter time range") from exc
            if is_corrupt(exc):
                database.damaged = True
            raise

    # -- traces

    def trace(self, trace_id: bytes) -> tuple[TracesData, bool] | None:
        """The trace in OTLP, and whether it is all of it. None if there is no span of it."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT origin_id, body FROM spans WHERE trace_id = ? ORDER BY start_ns LIMIT ?", (trace_id, TRACE_SPANS_MAX + 1)
            ).fetchall()
            if not rows:
                return None
            bodies: dict[int, list[bytes]] = {}
            for origin_id, body in rows[:TRACE_SPANS_MAX]:
                bodies.setdefault(origin_id, []).append(body)
            origins = _origins(connection, bodies)
        data = TracesData()
        by_resource: dict[bytes, ResourceSpans] = {}
        for origin_id, spans in bodies.items():
            resource, scope = origins.get(origin_id, (b"", b""))
            of_resource = by_resource.get(resource)
            if of_resource is None:
                of_resource = by_resource[resource] = data.resource_spans.add(resource=Resource.FromString(resource))
            of_scope: ScopeSpans = of_resource.scope_spans.add(scope=InstrumentationScope.FromString(scope))
            of_scope.spans.extend(map(Span.FromString, spans))
        return data, len(rows) <= TRACE_SPANS_MAX

    def search(self, condition: Condition, within: Range, limit: int) -> list[FoundTrace]:
        """The newest traces with a span that fits, newest first; each with its spans by start."""
        with self._reading() as connection:
            made = clause(condition, connection)
            rows = connection.execute(
                f"SELECT trace_id FROM spans INDEXED BY {made.index} WHERE start_ns BETWEEN ? AND ? AND {made.sql}"
                " ORDER BY start_ns DESC",
                (within.start_ns, within.end_ns, *made.parameters),
            )
            wanted: dict[bytes, None] = {}
            for (trace_id,) in rows:
                wanted[trace_id] = None
                if len(wanted) >= limit:
                    break
            rows.close()
            services = {id: _service(resource) for id, resource in connection.execute("SELECT id, resource FROM origins")}
            return [FoundTrace(trace_id, self._spans(connection, trace_id, made, services)) for trace_id in wanted]

    @staticmethod
    def _spans(connection: sqlite3.Connection, trace_id: bytes, made: Any, services: dict[int, str]) -> tuple[FoundSpan, ...]:
        rows = connection.execute(
            f"SELECT span_id, name, start_ns, duration_ns, status, parent_id, origin_id, ({made.sql}) FROM spans"
            " WHERE trace_id = ? ORDER BY start_ns LIMIT ?",
            (*made.parameters, trace_id, SUMMARY_SPANS_MAX),
        )
        return tuple(FoundSpan._make((*kept, services.get(origin, ""), matched or 0)) for *kept, origin, matched in rows)

    def traces_of_event(self, event_id: str) -> list[tuple[bytes, str]]:
        """(trace id, source) of every trace with a span of this event."""
        with self._reading() as connection:
            return connection.execute(
                "SELECT trace_id, coalesce(event_source, '') FROM spans WHERE event_id = ? GROUP BY 1, 2 ORDER BY max(id) DESC",
                (event_id,),
            ).fetchall()

    # -- tags

    def tag_names(self, within: Range) -> dict[str, list[str]]:
        """The names of attributes, by scope."""
        names: dict[str, set[str]] = {"resource": set(), "span": set()}
        with self._reading() as connection:
            for (body,) in connection.execute("SELECT resource FROM origins"):
                names["resource"].update(pair.key for pair in Resource.FromString(body).attributes)
            for (body,) in self._newest(connection, "body", within):
                names["span"].update(pair.key for pair in Span.FromString(body).attributes)
        return {scope: sorted(of_scope) for scope, of_scope in names.items()}

    def tag_values(self, asked: Field, within: Range, condition: Condition) -> list[Any]:
        """The distinct values of a field in the newest spans that fit the condition."""
        found: dict[tuple[str, Any], Any] = {}
        with self._reading() as connection:
            for value in self._values(connection, asked, within, condition):
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, (str, int, float)):
                        found.setdefault((type(one).__name__, one), one)
                if len(found) >= TAG_VALUES_MAX:
                    break
        return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1]))]

    def _values(self, connection: sqlite3.Connection, asked: Field, within: Range, condition: Condition) -> Iterator[Any]:
        match asked:
            case Field("intrinsic", "status"):
                yield from STATUSES
                return
            case Field("intrinsic", "kind"):
                yield from KINDS
                return
            case Field("intrinsic", "name"):
                yield from (row[0] for row in self._newest(connection, "name", within, condition))
                return
            case Field("intrinsic"):
                return
        if asked.scope in ("resource", ""):
            chosen = [row[0] for row in self._newest(connection, "origin_id", within, condition)]
            for resource, _ in _origins(connection, dict.fromkeys(chosen)).values():
                yield plain(Resource.FromString(resource).attributes).get(asked.name)
        if asked.scope in ("span", ""):
            for (body,) in self._newest(connection, "body", within, condition):
                for pair in Span.FromString(body).attributes:
                    if pair.key == asked.name:
                        yield plain((pair,))[asked.name]

    @staticmethod
    def _newest(
        connection: sqlite3.Connection, column: str, within: Range, condition: Condition | None = None
    ) -> Iterator[tuple[Any]]:
        made = clause(condition, connection) if condition is not None else None
        where, parameters = (f" AND {made.sql}", made.parameters) if made else ("", [])
        yield from connection.execute(
            f"SELECT {column} FROM spans INDEXED BY spans_start WHERE start_ns BETWEEN ? AND ?{where}"
            " ORDER BY start_ns DESC LIMIT ?",
            (within.start_ns, within.end_ns, *parameters, TAG_SPANS_MAX),
        )

    # -- lines

    def lines(self, asked: LinesAsked) -> list[dict[str, Any]]:
        """The newest lines that fit, oldest first."""
        where, parameters = ["time_ns BETWEEN ? AND ?"], [asked.range.start_ns, asked.range.end_ns]
        conditions: list[tuple[bool, str, tuple[Any, ...]]] = [
            (asked.trace_id is not None, "trace_id = ?", (asked.trace_id,)),
            (bool(asked.event_id), "event_id = ?", (asked.event_id,)),
            (bool(asked.text), "(instr(lower(event), ?) OR instr(lower(fields), ?))", (asked.text.lower(),) * 2),
            (asked.severity_min > 0, "severity >= ?", (asked.severity_min,)),
            (bool(asked.process), "(part = ? OR worker = ?)", (asked.process,) * 2),
        ]
        for applies, sql, values in conditions:
            if applies:
                where.append(sql)
                parameters.extend(values)
        index = "lines_trace" if asked.trace_id is not None else "lines_event" if asked.event_id else "lines_time"
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT time_ns, level, event, trace_id, fields, part, worker FROM lines INDEXED BY {index}"
                f" WHERE {' AND '.join(where)} ORDER BY time_ns DESC, id DESC LIMIT ?",
                (*parameters, min(asked.limit, LINES_MAX)),
            ).fetchall()
        return [
            {
                "time_unix_nano": time_ns,
                "level": level,
                "event": event,
                "trace_id": trace_id.hex() if trace_id else "",
                "fields": json.loads(fields),
                "part": part,
                "worker": worker,
            }
            for time_ns, level, event, trace_id, fields, part, worker in reversed(rows)
        ]


def _origins(connection: sqlite3.Connection, ids: "dict[int, Any]") -> dict[int, tuple[bytes, bytes]]:
    """Resource and scope by id."""
    marks = ",".join(str(int(id)) for id in ids)
    rows = connection.execute(f"SELECT id, resource, scope FROM origins WHERE id IN ({marks})")
    return {id: (resource, scope) for id, resource, scope in rows}


def _service(resource: bytes) -> str:
    return str(plain(Resource.FromString(resource).attributes).get("service.name", ""))
