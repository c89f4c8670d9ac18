"""Questions to the store: traces, tags, lines. Each thread has a connection of its own, and each question a deadline.

Rules. A question sees one state of the file, whatever is written or expires meanwhile. A search walks the newest spans first
until it has enough traces, then reads those traces for what is said of them. A question that takes longer than its deadline is
given up, and says so: a shorter time range helps. Names and values of tags are those of the newest `TAG_SPANS_MAX` spans in the
range.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from telemetry.store.condition import Clause, Leaf, clause
from telemetry.store.database import Database, is_corrupt
from telemetry.store.rows import plain
from telemetry.store.traceql import KINDS, STATUSES, Condition, Field

# A trace by id is shown up to these; what is beyond makes it partial.
TRACE_SPANS_MAX = 50_000
TRACE_BYTES_MAX = 32 << 20
# A trace that matches is read up to so many spans for its summary; and all that match together.
SUMMARY_SPANS_MAX = 5_000
SUMMARIES_SPANS_MAX = 100_000
TRACES_MAX = 1_000
EVENT_TRACES_MAX = 1_000
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
    # None of a span that is no hop's.
    hop: str | None
    service: str
    matched: int


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace with its spans by start, of which there is at least one."""

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


@dataclass(slots=True)
class _Reader:
    """What belongs to one thread."""

    connection: sqlite3.Connection
    generation: int
    leaves: list[Leaf] = field(default_factory=list)
    until: float = 0.0


class Queries:
    """Thread-safe: what a thread needs is its own. Each method raises `TooLongError`, and `sqlite3.Error` if it can't read."""

    def __init__(self, database: Database, query_seconds_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._seconds_max, self._clock = database, query_seconds_max, clock
        self._own = threading.local()

    def _open(self) -> _Reader:
        reader: _Reader | None = getattr(self._own, "reader", None)
        # Before the file is opened: a reader of an old file must not pass for one of the new.
        generation = self._database.generation
        if reader is not None and reader.generation == generation:
            return reader
        if reader is not None:
            reader.connection.close()
        reader = self._own.reader = _Reader(self._database.reader(), generation)
        leaves = reader.leaves
        reader.connection.create_function("leaf", 2, lambda number, value: leaves[number](value), deterministic=True)
        reader.connection.set_progress_handler(lambda: self._clock() > reader.until, _STEPS_BETWEEN_LOOKS)
        return reader

    @contextmanager
    def _reading(self) -> Iterator[_Reader]:
        reader = self._open()
        reader.until = self._clock() + self._seconds_max
        reader.leaves.clear()
        try:
            reader.connection.execute("BEGIN")
            yield reader
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise self._too_long() from exc
            if is_corrupt(exc):
                self._database.suspect(reader.generation)
            raise
        finally:
            if reader.connection.in_transaction:
                reader.connection.execute("ROLLBACK")

    def _too_long(self) -> TooLongError:
        return TooLongError(f"given up after {self._seconds_max:g} s: ask for a shorter time range, or less of it")

    # -- traces

    def trace(self, trace_id: bytes) -> tuple[TracesData, bool] | None:
        """The trace in OTLP, and whether it is all of it. None if there is no span of it."""
        with self._reading() as reader:
            rows = reader.connection.execute(
                "SELECT origin_id, body FROM spans WHERE trace_id = ? ORDER BY start_ns, span_id LIMIT ?",
                (trace_id, TRACE_SPANS_MAX + 1),
            )
            bodies: dict[int, list[bytes]] = {}
            count = size_bytes = 0
            for origin_id, body in rows:
                count += 1
                size_bytes += len(body)
                if count > 1 and (count > TRACE_SPANS_MAX or size_bytes > TRACE_BYTES_MAX):
                    break
                bodies.setdefault(origin_id, []).append(body)
            whole = count == sum(map(len, bodies.values()))
            origins = _origins(reader.connection, bodies)
        return (_traces_data(bodies, origins), whole) if bodies else None

    def search(self, condition: Condition, within: Range, limit: int) -> list[FoundTrace]:
        """The newest traces with a span that fits, newest first; each with its spans by start."""
        with self._reading() as reader:
            made = clause(condition, reader.leaves)
            rows = reader.connection.execute(
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
            return list(self._summaries(reader, wanted, made))

    def _summaries(self, reader: _Reader, wanted: Iterable[bytes], made: Clause) -> Iterator[FoundTrace]:
        services: dict[int, str] = {}
        left = SUMMARIES_SPANS_MAX
        for trace_id in wanted:
            if self._clock() > reader.until:
                raise self._too_long()
            rows = reader.connection.execute(
                f"SELECT span_id, name, start_ns, duration_ns, status, parent_id, hop, origin_id,"
                f" {made.sql} FROM spans"
                " WHERE trace_id = ? ORDER BY start_ns, span_id LIMIT ?",
                (*made.parameters, trace_id, max(1, min(left, SUMMARY_SPANS_MAX))),
            ).fetchall()
            new = {row[7] for row in rows} - services.keys()
            services |= {id: _service(resource) for id, (resource, _) in _origins(reader.connection, new).items()}
            spans = tuple(FoundSpan._make((*kept, services.get(origin, ""), matched or 0)) for *kept, origin, matched in rows)
            left -= len(spans)
            yield FoundTrace(trace_id, spans)

    def traces_of_event(self, event_id: str) -> list[tuple[bytes, str]]:
        """(trace id, source) of every trace with a span of this event, the latest first."""
        with self._reading() as reader:
            return reader.connection.execute(
                "SELECT trace_id, coalesce(event_source, '') FROM spans WHERE event_id = ? GROUP BY 1, 2"
                " ORDER BY max(id) DESC LIMIT ?",
                (event_id, EVENT_TRACES_MAX),
            ).fetchall()

    # -- tags

    def tag_names(self, within: Range) -> dict[str, list[str]]:
        """The names of attributes, by scope."""
        names: dict[str, set[str]] = {"resource": set(), "span": set()}
        with self._reading() as reader:
            for (body,) in reader.connection.execute("SELECT resource FROM origins"):
                names["resource"].update(pair.key for pair in Resource.FromString(body).attributes)
            for (body,) in self._newest(reader, "body", within):
                names["span"].update(pair.key for pair in Span.FromString(body).attributes)
        return {scope: sorted(of_scope) for scope, of_scope in names.items()}

    def tag_values(self, asked: Field, within: Range, condition: Condition) -> list[Any]:
        """The distinct values of a field in those of the newest spans that fit the condition."""
        found: dict[tuple[str, Any], Any] = {}
        with self._reading() as reader:
            for value in self._values(reader, asked, within, condition):
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, (str, int, float)):
                        found.setdefault((type(one).__name__, one), one)
                if len(found) >= TAG_VALUES_MAX:
                    break
        return [found[key] for key in sorted(found)]

    def _values(self, reader: _Reader, asked: Field, within: Range, condition: Condition) -> Iterator[Any]:
        match asked:
            case Field("intrinsic", "status"):
                yield from STATUSES
                return
            case Field("intrinsic", "kind"):
                yield from KINDS
                return
            case Field("intrinsic", "name"):
                yield from (row[0] for row in self._newest(reader, "name", within, condition))
                return
            case Field("intrinsic"):
                return
        if asked.scope in ("resource", ""):
            chosen = {row[0] for row in self._newest(reader, "origin_id", within, condition)}
            for resource, _ in _origins(reader.connection, chosen).values():
                yield plain(Resource.FromString(resource).attributes).get(asked.name)
        if asked.scope in ("span", ""):
            for (body,) in self._newest(reader, "body", within, condition):
                yield plain(pair for pair in Span.FromString(body).attributes if pair.key == asked.name).get(asked.name)

    @staticmethod
    def _newest(reader: _Reader, column: str, within: Range, condition: Condition | None = None) -> Iterator[tuple[Any]]:
        made = clause(condition, reader.leaves) if condition is not None else Clause("1")
        yield from reader.connection.execute(
            f"SELECT {column} FROM (SELECT * FROM spans INDEXED BY spans_start WHERE start_ns BETWEEN ? AND ?"
            f" ORDER BY start_ns DESC LIMIT ?) AS spans WHERE {made.sql}",
            (within.start_ns, within.end_ns, TAG_SPANS_MAX, *made.parameters),
        )

    # -- lines

    def lines(self, asked: LinesAsked) -> list[dict[str, Any]]:
        """The newest lines that fit, oldest first. Text is looked for without regard to the case of ASCII letters."""
        where, parameters = ["time_ns BETWEEN ? AND ?"], [asked.range.start_ns, asked.range.end_ns]
        text = _lower(asked.text)
        conditions: list[tuple[bool, str, tuple[Any, ...]]] = [
            (asked.trace_id is not None, "trace_id = ?", (asked.trace_id,)),
            (bool(asked.event_id), "event_id = ?", (asked.event_id,)),
            # Fields are kept as JSON, with its escapes.
            (bool(text), "(instr(lower(event), ?) OR instr(lower(fields), ?))", (text, _lower(_in_json(asked.text)))),
            (asked.severity_min > 0, "severity >= ?", (asked.severity_min,)),
            (bool(asked.process), "(part = ? OR worker = ?)", (asked.process,) * 2),
        ]
        for applies, sql, values in conditions:
            if applies:
                where.append(sql)
                parameters.extend(values)
        index = "lines_trace" if asked.trace_id is not None else "lines_event" if asked.event_id else "lines_time"
        with self._reading() as reader:
            rows = reader.connection.execute(
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


def _lower(text: str) -> str:
    """As SQLite's `lower` has it: ASCII letters only."""
    return "".join(one.lower() if one.isascii() else one for one in text)


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _origins(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, tuple[bytes, bytes]]:
    """Resource and scope by id."""
    marks = ",".join(str(int(id)) for id in ids)
    rows = connection.execute(f"SELECT id, resource, scope FROM origins WHERE id IN ({marks})")
    return {id: (resource, scope) for id, resource, scope in rows}


def _traces_data(bodies: dict[int, list[bytes]], origins: dict[int, tuple[bytes, bytes]]) -> TracesData:
    data = TracesData()
    by_resource: dict[bytes, ResourceSpans] = {}
    for origin_id, spans in bodies.items():
        resource, scope = origins.get(origin_id, (b"", b""))
        of_resource = by_resource.get(resource)
        if of_resource is None:
            of_resource = by_resource[resource] = data.resource_spans.add(resource=Resource.FromString(resource))
        of_scope: ScopeSpans = of_resource.scope_spans.add(scope=InstrumentationScope.FromString(scope))
        of_scope.spans.extend(map(Span.FromString, spans))
    return data


def _service(resource: bytes) -> str:
    return str(plain(Resource.FromString(resource).attributes).get("service.name", ""))
