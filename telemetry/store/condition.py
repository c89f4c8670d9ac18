"""A TraceQL condition as SQL over the table `spans`. Pure: nothing is asked here.

What has a column is compared there. An attribute is looked for in `body`: first by its bytes, which SQLite finds fast, then
exactly, by a Python function (`leaf`), only in the rows that have the bytes. A resource is compared once, not once a span.

Rules. `leaf(number, value)` calls `leaves[number]`; a question's clauses share the list. Of a list, one element has to fit, with
a negation all. Values of different kinds are never equal and have no order. An event id is a text: one that is none is not found
by `=`, which keeps that search on its index.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetry.store.database import SLOW_NS
from telemetry.store.patterns import matcher
from telemetry.store.rows import EVENT_ID, EVENT_SOURCE, HOP, value_of
from telemetry.store.traceql import STATUSES, All, Always, Any, Compare, Condition, Field, Scalar

# What a leaf is given depends on where it is used: a body, or a column's text.
Leaf = Callable[[bytes | str], bool]

_COLUMNS = {HOP: "hop", EVENT_ID: "event_id", EVENT_SOURCE: "event_source"}
_SQL = {"=": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_TESTS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
RESOURCES_REMEMBERED_MAX = 10_000
# Of a constant the planner makes nothing at all, and then says that the index that it was told to walk is of no use ("no query
# solution").
_NEVER = "origin_id < 0"
_TRACE_DURATION = (
    "(SELECT max(other.start_ns + other.duration_ns) - min(other.start_ns) FROM spans AS other"
    " WHERE other.trace_id = spans.trace_id)"
)


@dataclass(slots=True)
class Clause:
    """SQL, its parameters, and the index to walk."""

    sql: str = ""
    parameters: list[object] = field(default_factory=list)
    index: str = "spans_start"


def clause(condition: Condition, leaves: list[Leaf]) -> Clause:
    """The condition as SQL; what SQL can't say is added to `leaves`."""
    made = _Maker(leaves)
    sql = made.sql(condition)
    index = _index(list(_parts(condition)))
    if index == "spans_slow":
        # The planner takes a partial index only where its own words are.
        sql = f"duration_ns >= {SLOW_NS} AND ({sql})"
    return Clause(sql, made.parameters, index)


def _parts(condition: Condition) -> Iterable[Condition]:
    """What has to be true in any case."""
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _parts(part)
    else:
        yield condition


def _index(parts: list[Condition]) -> str:
    """The index that leaves the fewest rows, of those that keep the order of time."""
    found = {"spans_start"}
    for part in parts:
        match part:
            case Compare(Field("span", name), "=", str()) if name == EVENT_ID:
                found.add("spans_event")
            case Compare(Field("intrinsic", "trace:id"), "=", _):
                found.add("spans_identity")
            case Compare(Field("intrinsic", "status"), "=", value) if value == STATUSES["error"]:
                found.add("spans_errors")
            case Compare(Field("intrinsic", "duration"), ">" | ">=", int() as value) if value >= SLOW_NS:
                found.add("spans_slow")
            case Compare(Field("intrinsic", "name"), "=", _):
                found.add("spans_name")
    best = ("spans_event", "spans_identity", "spans_errors", "spans_slow", "spans_name", "spans_start")
    return next(index for index in best if index in found)


class _Maker:
    def __init__(self, leaves: list[Leaf]) -> None:
        self._leaves = leaves
        self.parameters: list[object] = []

    def sql(self, condition: Condition) -> str:
        match condition:
            case Always(value):
                return "1" if value else _NEVER
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
            case Compare(Field(_, name), operator, value):
                sides = tuple(Compare(Field(scope, name), operator, value) for scope in ("span", "resource"))
                # Absent is what neither has; all else is true of one of both.
                return self.sql(All(sides) if (operator, value) == ("=", None) else Any(sides))

    def _bind(self, value: object) -> str:
        self.parameters.append(value)
        return "?"

    def _leaf(self, leaf: Leaf, of: str) -> str:
        self._leaves.append(leaf)
        return f"leaf({len(self._leaves) - 1}, {of})"

    def _intrinsic(self, compare: Compare) -> str:
        name, operator, value = compare.field.name, compare.operator, compare.value
        match name:
            case "status" | "kind":
                return f"{name} {_SQL[operator]} {int(value or 0)}"  # written out, for the sake of partial indexes
            case "duration":
                return f"duration_ns {_SQL[operator]} {self._bind(value)}"
            case "trace:duration":
                return f"{_TRACE_DURATION} {_SQL[operator]} {self._bind(value)}"
            case "nestedSetParent":
                return "length(parent_id) = 0"
            case "trace:id" | "span:id":
                digits = 32 if name == "trace:id" else 16
                return f"{name.replace(':', '_')} {_SQL[operator]} {self._bind(bytes.fromhex(str(value).zfill(digits)))}"
            case "name":
                return self._column("name", operator, value)
        test = _test(operator, value)
        return self._leaf(lambda body: test(_span(body).status.message), "body")

    def _column(self, column: str, operator: str, value: Scalar) -> str:
        if operator in _SQL:
            return f"{column} {_SQL[operator]} {self._bind(value)}"
        return f"({column} IS NOT NULL AND {self._leaf(_test(operator, value), column)})"

    def _resource(self, compare: Compare) -> str:
        holds, known = _holds(compare), dict[bytes | str, bool]()

        def leaf(body: bytes | str) -> bool:
            """Remembered: a summary asks again for every trace."""
            if body not in known:
                if len(known) >= RESOURCES_REMEMBERED_MAX:
                    known.clear()
                assert isinstance(body, bytes)
                known[body] = holds(Resource.FromString(body).attributes)
            return known[body]

        return f"origin_id IN (SELECT id FROM origins WHERE {self._leaf(leaf, 'resource')})"

    def _attribute(self, compare: Compare) -> str:
        column = _COLUMNS.get(compare.field.name, "")
        if not column or not isinstance(compare.value, str):
            return self._in_body(compare)
        in_column = self._column(column, compare.operator, compare.value)
        if (column, compare.operator) == ("event_id", "="):
            return in_column
        return f"({in_column} OR ({column} IS NULL AND {self._in_body(compare)}))"

    def _in_body(self, compare: Compare) -> str:
        holds = _holds(compare)
        needles = [] if (compare.operator, compare.value) == ("=", None) else _needles(compare)
        terms = ["(" + " OR ".join(f"instr(body, {self._bind(needle)}) > 0" for needle in one_of) + ")" for one_of in needles]
        exact = self._leaf(lambda body: holds(_span(body).attributes), "body")
        return "(" + " AND ".join([*terms, exact]) + ")"


def _span(body: bytes | str) -> Span:
    assert isinstance(body, bytes)
    return Span.FromString(body)


def _needles(compare: Compare) -> list[list[bytes]]:
    """Bytes that a span for which this is true has for certain: one of each of the lists.

    Not of key and value together: the value may be one of a list.
    """
    key = KeyValue(key=compare.field.name).SerializeToString()
    values: list[bytes] = []
    match compare.operator, compare.value:
        case "=", bool():
            pass
        case "=", str(text) if text:
            # Bytes are compared as hexadecimal digits.
            values = [text.encode(), *([bytes.fromhex(text)] if re.fullmatch("(?:[0-9a-f]{2})+", text) else [])]
        case "=", int() | float() as number:
            doubles = (0.0, -0.0) if number == 0 else (float(number),)
            values = [AnyValue(double_value=double).SerializeToString() for double in doubles if double == number]
            if number == int(number) and abs(number) < 1 << 63:
                values.append(AnyValue(int_value=int(number)).SerializeToString())
    # The value first: it is the rarer one.
    return [one_of for one_of in (values, [key] if key else []) if one_of]


def _holds(compare: Compare) -> Callable[[Iterable[KeyValue]], bool]:
    """Whether the comparison is true of these attributes."""
    key, operator, value = compare.field.name, compare.operator, compare.value
    if value is None:
        return lambda attributes: any(pair.key == key for pair in attributes) == (operator == "!=")
    test = _test(operator, value)
    of_list = all if operator in ("!=", "!~") else any

    def holds(attributes: Iterable[KeyValue]) -> bool:
        for pair in attributes:
            if pair.key == key:
                said = value_of(pair.value)
                return of_list(map(test, said)) if isinstance(said, list) else test(said)
        return False

    return holds


def _test(operator: str, value: Scalar) -> Callable[[object], bool]:
    """The comparison of one value that is there."""
    match operator, value:
        case "=", _:
            return lambda said: _alike(said, value) and said == value
        case "!=", _:
            return lambda said: _alike(said, value) and said != value
        case "=~" | "!~", str():
            matches, wanted = matcher(value), operator == "=~"
            return lambda said: isinstance(said, str) and matches(said) == wanted
    order: Callable[[object, object], bool] = _TESTS[operator]  # type: ignore[assignment]
    return lambda said: _alike(said, value) and order(said, value)


def _alike(said: object, value: Scalar) -> bool:
    if isinstance(said, bool) or isinstance(value, bool):
        return isinstance(said, bool) and isinstance(value, bool)
    if isinstance(said, (int, float)):
        return isinstance(value, (int, float))
    return isinstance(said, str) and isinstance(value, str)
