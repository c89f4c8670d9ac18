"""What of TraceQL is spoken, and that all else is refused with a word on what is."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetry.store.traceql import (
    QUERY_CHARS_MAX,
    SPOKEN,
    All,
    Always,
    Any,
    Compare,
    Condition,
    Field,
    NotSpokenError,
    Scalar,
    duration_ns,
    field_of,
    parse,
)

NAME, STATUS, DURATION = Field("intrinsic", "name"), Field("intrinsic", "status"), Field("intrinsic", "duration")

A, B, C = (Compare(Field("", name), "=", number) for name, number in (("a", 1), ("b", 2), ("c", 3)))

SPOKEN_QUERIES: list[tuple[str, Condition]] = [
    ("{}", Always()),
    ("{ true }", Always()),
    ("{ false }", Always(False)),
    ("  {  }  with (most_recent=true)", Always()),
    ('{ name = "a" }', Compare(NAME, "=", "a")),
    ("{ name = `a\\n` }", Compare(NAME, "=", "a\\n")),
    ('{ name = "a\\n\\"b\\"" }', Compare(NAME, "=", 'a\n"b"')),
    ("{ status=error }", Compare(STATUS, "=", 2)),
    ("{ span:status != unset }", Compare(STATUS, "!=", 0)),
    ("{ kind = server }", Compare(Field("intrinsic", "kind"), "=", 2)),
    ("{ duration > 1m30s }", Compare(DURATION, ">", 90_000_000_000)),
    ("{ duration<=1.5ms }", Compare(DURATION, "<=", 1_500_000)),
    ("{ traceDuration >= 2h }", Compare(Field("intrinsic", "trace:duration"), ">=", 7_200_000_000_000)),
    ("{ nestedSetParent < 0 }", Compare(Field("intrinsic", "nestedSetParent"), "<", 0)),
    ('{ trace:id = "4bf9" }', Compare(Field("intrinsic", "trace:id"), "=", "4bf9")),
    ('{ span.spillway.tenant = "x" }', Compare(Field("span", "spillway.tenant"), "=", "x")),
    ("{ span.http.status_code >= 500 }", Compare(Field("span", "http.status_code"), ">=", 500)),
    ("{ .share < -0.5 }", Compare(Field("", "share"), "<", -0.5)),
    ('{ span."odd key"=1 }', Compare(Field("span", "odd key"), "=", 1)),
    ("{ span.a/b != nil }", Compare(Field("span", "a/b"), "!=", None)),
    ('{ resource.service.name =~ "spill.*" }', Compare(Field("resource", "service.name"), "=~", "spill.*")),
    ("{ span.ok = true }", Compare(Field("span", "ok"), "=", True)),
    ("{ .a=1 && .b=2 || .c=3 }", Any((All((A, B)), C))),
    ("{ .a=1 && (.b=2 || .c=3) }", All((A, Any((B, C))))),
]
# What Grafana's search builder writes. Source: grafana-tempo-datasource `src/SearchTraceQLEditor/utils.ts`.
BUILT_BY_GRAFANA = [
    '{resource.service.name="spillway" && name="process events" && status=error}',
    "{duration>100ms && duration<1.2s}",
    "{traceDuration>100ms}",
    '{resource.service.name=~"a|b" && span.spillway.hop!="lake"}',
    '{(span.a="x" || span.a="y")}',
    "{status=error && kind=server}",
    '{.tenant="x"}',
    "{nestedSetParent<0 && true && status=error}",
]
NOT_SPOKEN = [
    "",
    " ",
    "x",
    "{",
    "}",
    "{}}",
    "{} {}",
    "{ } | rate()",
    "{ } | count() > 2",
    "{} >> {}",
    "{ } && { }",
    "{ } | select(name)",
    "{ name }",
    "{ name = }",
    "{ name = a }",
    '{ name "a" }',
    "{ name > 1 }",
    "{ name = 1 }",
    "{ name = nil }",
    "{ = 1 }",
    "{ status = 2 }",
    "{ status > error }",
    "{ status = broken }",
    "{ kind = 3 }",
    '{ kind =~ "server" }',
    "{ duration > 100 }",
    "{ duration = nil }",
    '{ duration =~ "1s" }',
    "{ duration > 99999999999999999h }",
    "{ .a > nil }",
    "{ .a > true }",
    "{ .a =~ 5 }",
    '{ .a =~ "(" }',
    '{ .a =~ "(?=x)" }',
    "{ .a =~ true }",
    f'{{ .a =~ "{"x" * 201}" }}',
    f"{{ .a = {10**30} }}",
    f"{{ .a = {'9' * 400}.5 }}",
    "{ nestedSetParent = 7 }",
    '{ trace:id = "xyz" }',
    '{ span:id = "00112233445566778" }',
    "{ event.name = 1 }",
    "{ parent.x = 1 }",
    "{ rootName = 1 }",
    "{ span. = 1 }",
    "{ . = 1 }",
    "{ foo = 1 }",
    "{ .a + 1 = 2 }",
    "{ !(.a = 1) }",
    '{ .a = "unfinished }',
    "{ .a = 1 || }",
    "{ (.a = 1 }",
    "{" + "(" * 40 + ".a=1" + ")" * 40 + "}",
    "{ .a = 1 }" + " " * QUERY_CHARS_MAX,
    "{ .a = \ud800 }",
]


@pytest.mark.parametrize(("query", "condition"), SPOKEN_QUERIES)
def test_what_is_spoken_is_read(query: str, condition: Condition) -> None:
    assert condition == parse(query)


@pytest.mark.parametrize("query", BUILT_BY_GRAFANA)
def test_what_grafana_builds_is_spoken(query: str) -> None:
    assert isinstance(parse(query), Compare | All | Any)


@pytest.mark.parametrize("query", NOT_SPOKEN)
def test_all_else_is_refused_and_told_what_is_spoken(query: str) -> None:
    with pytest.raises(NotSpokenError) as refusal:
        parse(query)
    assert str(refusal.value).endswith(SPOKEN)


WORDS = st.sampled_from(
    [
        "{",
        "}",
        "(",
        ")",
        "&&",
        "||",
        "=",
        "!=",
        ">",
        "<=",
        "=~",
        "!~",
        "!",
        "|",
        "name",
        "status",
        "error",
        "duration",
        "1s",
        "1.5ms",
        "-3",
        "0",
        "nil",
        "true",
        "kind",
        "server",
        ".a",
        "span.x",
        "resource.service.name",
        '"a"',
        '"(a+)+$"',
        "`b`",
        '"',
        "\\",
        "trace:id",
        "nestedSetParent",
        "with",
        "(most_recent=true)",
        "9" * 30,
        "µs",
        "\x00",
        "é",
        "²",
    ]
)


@given(st.text(max_size=200) | st.lists(WORDS, max_size=40).map(" ".join) | st.lists(WORDS, max_size=40).map("".join))
@example("{ .a = " + "9" * 4000 + " }")
@example("{ duration > " + "9" * 4000 + "h }")
@example('{ .a =~ "' + "(" * 190 + '" }')
def test_no_text_does_more_than_be_read_or_be_refused(query: str) -> None:
    try:
        read: Condition | None = parse(query)
    except NotSpokenError:
        read = None
    assert isinstance(read, Compare | Always | All | Any | None)


@given(st.text(max_size=60))
def test_no_text_breaks_a_field_or_a_duration(text: str) -> None:
    for read, kind in ((field_of, Field), (duration_ns, int)):
        with contextlib.suppress(NotSpokenError):
            assert isinstance(read(text), kind)


VALUES: st.SearchStrategy[Scalar] = (
    st.text(max_size=8) | st.booleans() | st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.decimals(-(10**9), 10**9, places=3, allow_nan=False).map(float)
)  # fmt: skip
COMPARES = st.builds(
    Compare, st.sampled_from([Field("span", "a"), Field("resource", "b.c"), Field("", "d/e")]), st.just("="), VALUES
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    COMPARES | st.builds(Always, st.booleans()),
    lambda inner: st.builds(All, st.tuples(inner, inner)) | st.builds(Any, st.tuples(inner, inner)),
    max_leaves=8,
)


def written(condition: Condition) -> str:
    """The condition in TraceQL, with all its parentheses."""
    match condition:
        case Always(value):
            return str(value).lower()
        case All(parts) | Any(parts):
            return "(" + (" && " if isinstance(condition, All) else " || ").join(map(written, parts)) + ")"
        case Compare(Field(scope, name), operator, value):
            return f"{scope}.{name} {operator} {_literal(value)}"


def _literal(value: Scalar) -> str:
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case float():
            return f"{value:.3f}"
    return str(value)


@given(CONDITIONS)
def test_what_is_written_is_what_is_read(condition: Condition) -> None:
    assert condition == parse("{ " + written(condition) + " }")
