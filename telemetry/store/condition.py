"""A TraceQL condition as SQL over the table `spans`.

What has a column is compared there. An attribute is looked for in `body`: first by its bytes, which SQLite finds fast, then
exactly, by a Python function, only in the rows that have the bytes. A resource is compared once, not once a span.
"""

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetry.store.database import SLOW_NS
from telemetry.store.rows import EVENT_ID, EVENT_SOURCE, HOP, value_of
from telemetry.store.traceql import STATUSES, All, Always, Any, Compare, Condition, Field, Scalar

_COLUMNS = {HOP: "hop", EVENT_ID: "event_id", EVENT_SOURCE: "event_source"}
_SQL = {"=": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_TESTS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


@dataclass(slots=True)
class Clause:
    """SQL, its parameters, and the index to walk."""

    sql: str = ""
    parameters: list[object] = field(default_factory=list)
    index: str = "spans_start"


def clause(condition: Condition, connection: sqlite3.Connection) -> Clause:
    """The condition as SQL for this connection, which gets the functions that it needs."""
    made = _Maker(connection)
    sql = made.sql(condition)
    index = _index(condition)
    if index == "spans_slow":
        # The planner takes a partial index only where its own words are.
        sql = f"duration_ns >= {SLOW_NS} AND ({sql})"
    return Clause(sql, made.parameters, index)


def _index(condition: Condition) -> str:
    """The index that leaves the fewest rows, of those that keep the order of time."""
    parts = condition.parts if isinstance(condition, All) else (condition,)
    best = "spans_start"
    for part in parts:
        match part:
            case Compare(Field("span", name), "=", str()) if name == EVENT_ID:
                return "spans_event"
            case Compare(Field("intrinsic", "trace:id"), "=", _):
                return "spans_identity"
            case Compare(Field("intrinsic", "status"), "=", value) if value == STATUSES["error"]:
                best = "spans_errors"
            case Compare(Field("intrinsic", "duration"), ">" | ">=", int() | float() as value) if value >= SLOW_NS:
                best = "spans_slow" if best != "spans_errors" else best
            case Compare(Field("intrinsic", "name"), "=", _) if best == "spans_start":
                best = "spans_name"
    return best


class _Maker:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.parameters: list[object] = []
        self._functions = 0

    def sql(self, condition: Condition) -> str:
        match condition:
            case Always(value):
                return "1" if value else "0"
            case All(parts):
                return "(" + " AND ".join(map(self.sql, parts)) + ")"
            case Any(parts):
                return "(" + " OR ".join(map(self.sql, parts)) + ")"
            case Compare(Field("intrinsic")):
                return self._intrinsic(condition)
            case Compare(Field("resource")):
                return self._resource(condition)
            case Compare(Field("span")):
                return self._attribute(condition)
            case Compare(Field(_, name), operator, None):
                # Neither has it; or one of both.
                join = "AND" if operator == "=" else "OR"
                sides = [Compare(Field(scope, name), operator, None) for scope in ("span", "resource")]
                return f"({self.sql(sides[0])} {join} {self.sql(sides[1])})"
            case Compare(Field(_, name), operator, value):
                return self.sql(Any(tuple(Compare(Field(scope, name), operator, value) for scope in ("span", "resource"))))

    def _bind(self, value: object) -> str:
        self.parameters.append(value)
        return "?"

    def _function(self, function: Callable[[bytes], bool]) -> str:
        name = f"leaf_{self._functions}"
        self._functions += 1
        self._connection.create_function(name, 1, function, deterministic=True)
        return name

    def _intrinsic(self, compare: Compare) -> str:
        name, operator, value = compare.field.name, compare.operator, compare.value
        match name:
            case "status" | "kind":
                return f"{name} {_SQL[operator]} {int(value or 0)}"  # written out, for the sake of partial indexes
            case "duration":
                return f"duration_ns {_SQL[operator]} {self._bind(value)}"
            case "nestedSetParent":
                return "length(parent_id) = 0"
            case "trace:id" | "span:id":
                width = 32 if name == "trace:id" else 16
                return f"{name.replace(':', '_')} {_SQL[operator]} {self._bind(bytes.fromhex(str(value).zfill(width)))}"
            case "name":
                return self._column("name", operator, value)
        test = _test(operator, value)
        return f"{self._function(lambda body: test(Span.FromString(body).status.message))}(body)"

    def _column(self, column: str, operator: str, value: Scalar) -> str:
        if operator in _SQL:
            return f"{column} {_SQL[operator]} {self._bind(value)}"
        test = _test(operator, value)
        return f"({column} IS NOT NULL AND {self._function(test)}({column}))"

    def _resource(self, compare: Compare) -> str:
        key, test = compare.field.name, _test(compare.operator, compare.value)
        ids = [
            str(id)
            for id, body in self._connection.execute("SELECT id, resource FROM origins")
            if _holds(Resource.FromString(body).attributes, key, compare, test)
        ]
        return f"origin_id IN ({','.join(ids)})"

    def _attribute(self, compare: Compare) -> str:
        key, operator, value = compare.field.name, compare.operator, compare.value
        if key in _COLUMNS and value is None:
            return f"{_COLUMNS[key]} IS {'NOT ' if operator == '!=' else ''}NULL"
        if key in _COLUMNS and isinstance(value, str):
            return self._column(_COLUMNS[key], operator, value)
        test = _test(operator, value)
        exact = f"{self._function(lambda body: _holds(Span.FromString(body).attributes, key, compare, test))}(body)"
        if operator == "=" and value is None:
            return exact
        return f"(instr(body, {self._bind(_bytes(key, operator, value))}) > 0 AND {exact})"


def _bytes(key: str, operator: str, value: Scalar) -> bytes:
    """Bytes that a span with this attribute has for certain: of key and value, or of the key alone."""
    match operator, value:
        case "=", bool():
            return KeyValue(key=key, value=AnyValue(bool_value=value)).SerializeToString()
        case "=", str() if value:
            return KeyValue(key=key, value=AnyValue(string_value=value)).SerializeToString()
    return KeyValue(key=key).SerializeToString()


def _holds(attributes: "object", key: str, compare: Compare, test: Callable[[object], bool]) -> bool:
    for pair in attributes:  # type: ignore[attr-defined]
        if pair.key == key:
            return compare.operator == "!=" if compare.value is None else _any(value_of(pair.value), compare.operator, test)
    return compare.value is None and compare.operator == "="


def _any(value: object, operator: str, test: Callable[[object], bool]) -> bool:
    """Of a list, one element has to fit; with a negation, all."""
    if not isinstance(value, list):
        return test(value)
    return all(map(test, value)) if operator in ("!=", "!~") else any(map(test, value))


def _test(operator: str, value: Scalar) -> Callable[[object], bool]:
    """The comparison of one value that is there. Values of different kinds are never equal, and have no order."""
    match operator, value:
        case "=", _:
            return lambda said: _alike(said, value) and said == value
        case "!=", _:
            return lambda said: _alike(said, value) and said != value
        case "=~", str():
            pattern = re.compile(value, re.DOTALL)
            return lambda said: isinstance(said, str) and pattern.fullmatch(said) is not None
        case "!~", str():
            unlike = re.compile(value, re.DOTALL)
            return lambda said: isinstance(said, str) and unlike.fullmatch(said) is None
    order: Callable[[object, object], bool] = _TESTS[operator]  # type: ignore[assignment]
    return lambda said: _alike(said, value) and order(said, value)


def _alike(said: object, value: Scalar) -> bool:
    if isinstance(said, bool) or isinstance(value, bool):
        return isinstance(said, bool) and isinstance(value, bool)
    if isinstance(said, (int, float)):
        return isinstance(value, (int, float))
    return isinstance(said, str) and isinstance(value, str)
