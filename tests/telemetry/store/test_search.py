"""A search finds what a plain reading of the question finds, by whichever index it goes; and nothing that is asked is SQL."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any as Anything

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetry.store.condition import clause
from telemetry.store.query import Range, TooLongError
from telemetry.store.traceql import All, Always, Any, Compare, Condition, Field, Scalar, parse
from tests.telemetry.store.spans import AT_NS, SECOND_NS, request, span, trace_id
from tests.telemetry.store.world import World

EVENT_ID = "cloudevents.event_id"
KEYS = ("spillway.hop", "cloudevents.event_source", "a", "b", "")
TEXTS = ("", "x", "X", "grpc-door", "lake", "lakes", "a\nb", "0a", "10", "é", "a'; DROP TABLE spans; --", "%", "a\x00b")
NUMBERS = (0, 1, -1, 7, 200, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 0.0, -0.0, 1.0, 2.5, 1e300)
PATTERNS = ("x", ".*", "", "[a-z-]+", "(?i)x", "l.ke|10", "a.b")
RESOURCES: tuple[Mapping[str, Anything], ...] = ({"service.name": "x", "a": "x"}, {"service.name": "lake", "b": 7}, {})

scalars: st.SearchStrategy[Anything] = (
    st.sampled_from(TEXTS) | st.sampled_from(NUMBERS) | st.booleans() | st.sampled_from((b"\x0a", b"")) | st.just(float("nan"))
)
attributes = st.dictionaries(st.sampled_from(KEYS), scalars | st.lists(scalars, max_size=3) | st.none(), max_size=4).flatmap(
    lambda said: st.sampled_from(("", "x", "e-1")).map(lambda id: {**said, EVENT_ID: id} if id else said)
)


# A span, its attributes, and those of its resource.
Stored = tuple[Span, Mapping[str, Anything], Mapping[str, Anything]]


@st.composite
def stored_spans(draw: st.DrawFn) -> list[Stored]:
    found: list[Stored] = []
    for number in range(draw(st.integers(1, 8))):
        said = draw(attributes)
        one = span(
            draw(st.integers(1, 3)),
            number + 1,
            name=draw(st.sampled_from(TEXTS)),
            parent=draw(st.sampled_from((0, 7))),
            start_ns=AT_NS + number * SECOND_NS,
            duration_ns=draw(st.sampled_from((0, 1_000_000, SECOND_NS, 3 * SECOND_NS))),
            kind=draw(st.integers(0, 5)),
            error=draw(st.sampled_from(("", "", "x", "é"))),
            attributes=said,
        )
        found.append((one, said, draw(st.sampled_from(RESOURCES))))
    return found


EQUAL, ORDER, PATTERN = ("=", "!="), (">", ">=", "<", "<="), ("=~", "!~")
fields = st.builds(Field, st.sampled_from(("span", "resource", "")), st.sampled_from((*KEYS, "service.name")))
compares: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Compare, fields, st.sampled_from(EQUAL), st.sampled_from((*TEXTS, *NUMBERS, True, False, None))),
    st.builds(Compare, fields, st.sampled_from(ORDER), st.sampled_from((*TEXTS, *NUMBERS))),
    st.builds(Compare, fields, st.sampled_from(PATTERN), st.sampled_from(PATTERNS)),
    st.builds(
        Compare, st.just(Field("span", EVENT_ID)), st.sampled_from((*EQUAL, *ORDER)), st.sampled_from(("x", "e-1", "none"))
    ),
    st.builds(Compare, st.just(Field("intrinsic", "name")), st.sampled_from((*EQUAL, *ORDER)), st.sampled_from(TEXTS)),
    st.builds(Compare, st.just(Field("intrinsic", "name")), st.sampled_from(PATTERN), st.sampled_from(PATTERNS)),
    st.builds(Compare, st.just(Field("intrinsic", "statusMessage")), st.sampled_from((*EQUAL, *ORDER)), st.sampled_from(TEXTS)),
    st.builds(Compare, st.just(Field("intrinsic", "status")), st.sampled_from(EQUAL), st.integers(0, 2)),
    st.builds(Compare, st.just(Field("intrinsic", "kind")), st.sampled_from(EQUAL), st.integers(0, 5)),
    st.builds(
        Compare,
        st.sampled_from((Field("intrinsic", "duration"), Field("intrinsic", "trace:duration"))),
        st.sampled_from((*EQUAL, *ORDER)),
        st.sampled_from((0, 1_000_000, SECOND_NS, SECOND_NS + 1, 4 * SECOND_NS)),
    ),
    st.just(Compare(Field("intrinsic", "nestedSetParent"), "<", 0)),
    st.builds(Compare, st.just(Field("intrinsic", "trace:id")), st.sampled_from(EQUAL), st.sampled_from(("1", "02", "9"))),
    st.builds(Compare, st.just(Field("intrinsic", "span:id")), st.sampled_from(EQUAL), st.sampled_from(("1", "003"))),
    st.builds(Always, st.booleans()),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    compares,
    lambda inner: (
        st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Any, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=6,
)

OPERATORS: dict[str, Callable[[Anything, Anything], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "=~": lambda a, b: re.fullmatch(b, a, re.DOTALL) is not None,
    "!~": lambda a, b: re.fullmatch(b, a, re.DOTALL) is None,
}
ABSENT = object()


class Oracle:
    """The question, read plainly, over the spans themselves."""

    def __init__(self, stored: list[Stored]) -> None:
        self._stored = stored

    def matches(self, condition: Condition) -> dict[str, set[str]]:
        """The ids of the spans that fit, by trace."""
        found: dict[str, set[str]] = {}
        for one, said, resource in self._stored:
            if self._fits(condition, one, said, resource):
                found.setdefault(one.trace_id.hex(), set()).add(one.span_id.hex())
        return found

    def _fits(self, condition: Condition, one: Span, said: Mapping[str, Anything], resource: Mapping[str, Anything]) -> bool:
        match condition:
            case Always(value):
                return value
            case All(parts):
                return all(self._fits(part, one, said, resource) for part in parts)
            case Any(parts):
                return any(self._fits(part, one, said, resource) for part in parts)
            case Compare(Field("intrinsic", name), operator, value):
                return OPERATORS[operator](*self._intrinsic(name, one, value))
            case Compare(Field(scope, name), operator, value):
                looked = {"span": (said,), "resource": (resource,), "": (said, resource)}[scope]
                outcomes = [_holds(holder.get(name, ABSENT), operator, value) for holder in looked]
                return all(outcomes) if (operator, value) == ("=", None) else any(outcomes)

    def _intrinsic(self, name: str, one: Span, value: Scalar) -> tuple[Anything, Anything]:
        match name:
            case "name":
                return one.name, value
            case "statusMessage":
                return one.status.message, value
            case "status":
                return one.status.code, value
            case "kind":
                return one.kind, value
            case "duration":
                return one.end_time_unix_nano - one.start_time_unix_nano, value
            case "trace:duration":
                of_trace = [other for other, _, _ in self._stored if other.trace_id == one.trace_id]
                began = min(other.start_time_unix_nano for other in of_trace)
                return max(other.end_time_unix_nano for other in of_trace) - began, value
            case "nestedSetParent":
                return (-1 if not one.parent_span_id else 5), value
            case "trace:id":
                return int(one.trace_id.hex(), 16), int(str(value), 16)
        return int(one.span_id.hex(), 16), int(str(value), 16)


def _holds(said: Anything, operator: str, value: Scalar) -> bool:
    if value is None:
        return (said is ABSENT) == (operator == "=")
    if said is ABSENT:
        return False
    if isinstance(said, list):
        outcomes = [_one_holds(one, operator, value) for one in said]
        return all(outcomes) if operator in ("!=", "!~") else any(outcomes)
    return _one_holds(said, operator, value)


def _one_holds(said: Anything, operator: str, value: Scalar) -> bool:
    said = said.hex() if isinstance(said, bytes) else said
    return _kind(said) == _kind(value) and OPERATORS[operator](said, value)


def _kind(value: Anything) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def put(world: World, stored: list[Stored]) -> None:
    for one, _, resource in stored:
        world.take(request(one, resource=resource))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stored_spans(), st.lists(conditions, min_size=1, max_size=12))
def test_a_search_finds_what_a_plain_reading_finds(stored: list[Stored], asked: list[Condition]) -> None:
    oracle = Oracle(stored)
    with tempfile.TemporaryDirectory(prefix="store-oracle-") as folder, World(Path(folder)) as world:
        put(world, stored)
        for condition in asked:
            found = {trace["traceID"]: {one["spanID"] for one in trace["spanSet"]["spans"]} for trace in world.search(condition)}
            assert oracle.matches(condition) == found, condition
        assert len(stored) == len({one["spanID"] for trace in world.search("{}") for one in trace["spanSet"]["spans"]})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_numbers_are_equal_as_numbers_are_whatever_they_were_sent_as(world: World) -> None:
    for place, number in enumerate(NUMBERS):
        world.take(request(span(1, place + 1, name=repr(number), attributes={"n": number, "list": [number, "x"]})))
    for wanted in NUMBERS:
        expected = sorted(repr(number) for number in NUMBERS if number == wanted)
        for name in ("n", "list"):
            found = world.search(Compare(Field("span", name), "=", wanted))
            assert expected == sorted(one["name"] for trace in found for one in trace["spanSet"]["spans"]), (name, wanted)


@pytest.mark.parametrize("key", ["spillway.hop", EVENT_ID, "any"])
def test_of_an_attribute_that_comes_twice_the_first_counts(world: World, key: str) -> None:
    one = span(1, 1, name="twice", attributes={key: "first"})
    one.attributes.extend(span(1, 1, attributes={key: "second"}).attributes)
    world.take(request(one))
    assert ["twice"] == world.names(f'{{ span.{key} = "first" }}') == world.names(f'{{ span.{key} != "second" }}')
    assert [] == world.names(f'{{ span.{key} = "second" }}')


INDEXED = ('span.cloudevents.event_id = "x"', 'trace:id = "1"', "status = error", "duration > 2s", 'name = "x"')


@pytest.mark.parametrize("never", ["false", 'resource.none = "x"', "status = ok && status = unset", "duration < 0s"])
@pytest.mark.parametrize("indexed", INDEXED)
def test_what_can_never_be_true_finds_nothing_by_any_index(world: World, indexed: str, never: str) -> None:
    """SQLite is told which index to walk, and refuses if it can't."""
    world.take(request(span(1, 1, name="x", error="no", duration_ns=3 * SECOND_NS, attributes={EVENT_ID: "x"})))
    assert ["x"] == world.names(f"{{ {indexed} }}")
    assert [] == world.names(f"{{ {indexed} && {never} }}") == world.names(f"{{ {never} && ({indexed} && {indexed}) }}")


PLANS = {
    '{ span.cloudevents.event_id = "x" && status = error }': "spans_event",
    '{ trace:id = "1" }': "spans_identity",
    "{ status = error }": "spans_errors",
    "{ (status = error && name = `x`) && duration > 2s }": "spans_errors",
    "{ duration > 2s }": "spans_slow",
    "{ duration > 2ms }": "spans_start",
    '{ name = "x" }': "spans_name",
    '{ status = error || name = "x" }': "spans_start",
    "{ }": "spans_start",
}


@pytest.mark.parametrize(("query", "index"), PLANS.items())
def test_a_search_walks_the_index_that_leaves_the_fewest_rows(world: World, query: str, index: str) -> None:
    """What makes them fast is the plan; the bench has the figures."""
    world.take(request(span(1, 1)))
    made = clause(parse(query), [])
    assert index == made.index
    plan = world.database.reader().execute(
        f"EXPLAIN QUERY PLAN SELECT trace_id FROM spans INDEXED BY {made.index} WHERE start_ns BETWEEN 0 AND 9 AND "
        f"{made.sql} ORDER BY start_ns DESC",
        made.parameters,
    )
    assert index in " ".join(str(row) for row in plan.fetchall())


def test_the_newest_traces_come_first_and_no_more_than_asked_for(world: World) -> None:
    for number in range(1, 6):
        world.take(request(span(number, number, start_ns=AT_NS + number * SECOND_NS)))
    assert [5, 4, 3] == [int(trace["traceID"], 16) for trace in world.search("{}", limit=3)]
    found = world.queries.search(Always(), Range(AT_NS + 2 * SECOND_NS, AT_NS + 4 * SECOND_NS), 10)
    assert [4, 3, 2] == [int.from_bytes(trace.trace_id, "big") for trace in found]


def test_a_trace_is_summed_up_with_its_root_its_services_and_all_its_time(world: World) -> None:
    world.take(request(span(1, 1, name="send", start_ns=AT_NS, duration_ns=SECOND_NS), resource={"service.name": "shop"}))
    world.take(request(span(1, 2, parent=1, name="take", start_ns=AT_NS + SECOND_NS, duration_ns=SECOND_NS, error="no")))
    (found,) = world.search("{ status = error }")
    matched = {
        "spans": [
            {
                "spanID": "0000000000000002",
                "name": "take",
                "startTimeUnixNano": str(AT_NS + SECOND_NS),
                "durationNanos": str(SECOND_NS),
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "spillway"}},
                    {"key": "status", "value": {"stringValue": "error"}},
                ],
            }
        ],
        "matched": 1,
    }
    assert {
        "traceID": trace_id(1).hex(),
        "rootServiceName": "shop",
        "rootTraceName": "send",
        "startTimeUnixNano": str(AT_NS),
        "durationMs": 2_000,
        "spanSet": matched,
        "spanSets": [matched],
        "serviceStats": {"shop": {"spanCount": 1, "errorCount": 0}, "spillway": {"spanCount": 1, "errorCount": 1}},
    } == found


def test_a_question_that_takes_too_long_is_given_up_and_the_next_is_answered(tmp_path: Path) -> None:
    times = [0.0]
    with World(tmp_path, query_seconds_max=5.0, query_clock=lambda: times.pop() if len(times) > 1 else times[0]) as world:
        for start in range(1, 2_000, 500):
            world.take(request(*(span(1, start + number) for number in range(500))))
        # It is 0 when the question begins, and 6 whenever the clock is looked at again.
        times[:] = [6.0, 0.0]
        with pytest.raises(TooLongError, match="shorter time range"):
            world.search("{ traceDuration = 1ms }")  # each span is compared with all of its trace
        assert 1 == len(world.search("{ }", limit=1))


def test_a_pattern_that_would_hold_python_for_ever_is_answered_at_once(world: World) -> None:
    world.take(request(span(1, 1, name="a" * 5_000 + "b"), span(2, 2, name="aaa")))
    assert ["aaa"] == world.names('{ name =~ "(a+)+" }')
