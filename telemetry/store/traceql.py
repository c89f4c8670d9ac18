"""The part of TraceQL that the store speaks: comparisons inside one pair of braces.

    { status = error && name = "send events" && (span.spillway.tenant = "x" || duration > 1s) && .service.name =~ "spill.*" }

Rules. What is not spoken is refused with a message that says what is; nothing is silently ignored but hints (`with (...)`), which
only say how hard to look. A comparison with an attribute that a span has not is false, also `!=`; `= nil` asks for absence.
Regular expressions are RE2's and match the whole value. Source: Grafana Tempo documentation, "Construct a TraceQL query".
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from telemetry.store.patterns import matcher

SPOKEN = (
    "spoken here: one { }, in it comparisons joined by && and || and parentheses; fields: name, status, statusMessage, kind, "
    "duration, traceDuration, nestedSetParent < 0 (a root), trace:id, span:id, span.<attribute>, resource.<attribute>, "
    '.<attribute>; operators: = != > >= < <= =~ !~; values: "text", numbers, durations as 1.5s, true, false, nil, ok, error, '
    "unset, server, client, ..."
)
QUERY_CHARS_MAX = 4096
NESTING_MAX = 32
_INTEGER_MAX = (1 << 63) - 1

Scalar = str | int | float | bool | None
STATUSES = {"unset": 0, "ok": 1, "error": 2}
KINDS = {"unspecified": 0, "internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
# Nanoseconds. Source: Tempo's TraceQL takes Go's and Prometheus' durations.
_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip


class NotSpokenError(ValueError):
    """The query is broken, or says what the store can't."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {SPOKEN}")


@dataclass(frozen=True, slots=True)
class Field:
    """`scope` is "span", "resource", "" (either) or "intrinsic"."""

    scope: str
    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    field: Field
    operator: str
    # Statuses and kinds as OTLP's numbers, durations in nanoseconds.
    value: Scalar


@dataclass(frozen=True, slots=True)
class Always:
    """`{ }`, `true` and `false`."""

    value: bool = True


@dataclass(frozen=True, slots=True)
class All:
    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Any:
    parts: "tuple[Condition, ...]"


Condition = Compare | Always | All | Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<duration>-?(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h|d))+(?![\w.]))
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?![\w.]))
    | (?P<operator>&&|\|\||=~|!~|!=|>=|<=|=|>|<|[{}()|!~])
    | (?P<word>[^\s{}()=~!<>&|^,"]+(?:"(?:[^"\\]|\\.)*"[^\s{}()=~!<>&|^,"]*)*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS = frozenset(("=", "!=", ">", ">=", "<", "<=", "=~", "!~"))
_ORDERED = frozenset((">", ">=", "<", "<="))
_EQUAL = frozenset(("=", "!="))
_INTRINSICS = {
    "name": "name", "span:name": "name", "status": "status", "span:status": "status", "kind": "kind", "span:kind": "kind",
    "duration": "duration", "span:duration": "duration", "statusMessage": "statusMessage", "span:statusMessage": "statusMessage",
    "traceDuration": "trace:duration", "trace:duration": "trace:duration", "nestedSetParent": "nestedSetParent",
    "trace:id": "trace:id", "span:id": "span:id",
}  # fmt: skip
_WITH = re.compile(r"\}\s*with\s*\([\w\s=.,\"]*\)$")


def parse(query: str) -> Condition:
    """The condition of a query.

    Raises:
        NotSpokenError: with a message for the person who asked.
    """
    if len(query) > QUERY_CHARS_MAX:
        raise NotSpokenError(f"the query is longer than {QUERY_CHARS_MAX} characters")
    if not query.isascii() and any("\ud800" <= one <= "\udfff" for one in query):
        raise NotSpokenError("the query is no Unicode text")
    query = _WITH.sub("}", query.strip())
    return _Parser(list(_tokens(query))).query()


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(query.rstrip())
    while at < end:
        found = _TOKEN.match(query, at)
        if found is None:
            raise NotSpokenError(f"can't read {query[at : at + 20]!r} at character {at + 1}")
        kind = found.lastgroup or ""
        yield kind, found.group(kind)
        at = found.end()


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    def query(self) -> Condition:
        self._expect("{")
        condition: Condition = Always() if self._peek() == "}" else self._either()
        self._expect("}")
        if self._at < len(self._tokens):
            raise NotSpokenError(f"{self._next()[1]!r} after the closing brace")
        return condition

    def _peek(self) -> str:
        """The next token if it is an operator or a brace."""
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        return text if kind == "operator" else ""

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise NotSpokenError("the query ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, wanted: str) -> None:
        kind, text = self._next()
        if kind != "operator" or text != wanted:
            raise NotSpokenError(f"{text!r} where {wanted!r} must be")

    def _either(self) -> Condition:
        return self._joined("||", self._all, Any)

    def _all(self) -> Condition:
        return self._joined("&&", self._one, All)

    def _joined(self, operator: str, part: Callable[[], Condition], whole: type[All] | type[Any]) -> Condition:
        parts = [part()]
        while self._peek() == operator:
            self._next()
            parts.append(part())
        return parts[0] if len(parts) == 1 else whole(tuple(parts))

    def _one(self) -> Condition:
        kind, text = self._next()
        if (kind, text) == ("operator", "("):
            self._depth += 1
            if self._depth > NESTING_MAX:
                raise NotSpokenError(f"more than {NESTING_MAX} parentheses in each other")
            inner = self._either()
            self._expect(")")
            self._depth -= 1
            return inner
        if kind == "word" and text in ("true", "false"):
            return Always(text == "true")
        if kind != "word":
            raise NotSpokenError(f"{text!r} where a field must be")
        field = field_of(text)
        operator = self._next()[1]
        if operator not in _COMPARISONS:
            raise NotSpokenError(f"{operator!r} after {text!r}")
        return _compare(field, operator, *self._value(field))

    def _value(self, field: Field) -> tuple[str, Scalar]:
        """Its kind (text, number, duration, word) and the value."""
        kind, text = self._next()
        match kind:
            case "text":
                return kind, unquoted(text)
            case "duration":
                return kind, duration_ns(text)
            case "number":
                return kind, _number(text)
            case "word" if text in ("true", "false", "nil"):
                return text, {"true": True, "false": False, "nil": None}[text]
            case "word" if field == Field("intrinsic", "status") and text in STATUSES:
                return kind, STATUSES[text]
            case "word" if field == Field("intrinsic", "kind") and text in KINDS:
                return kind, KINDS[text]
        raise NotSpokenError(f"{text!r} is no value")


def field_of(text: str) -> Field:
    """A field as it is written: `name`, `span.http.status`, `.tenant`, `resource."odd key"`.

    Raises:
        NotSpokenError: it is none.
    """
    if text in _INTRINSICS:
        return Field("intrinsic", _INTRINSICS[text])
    for scope, prefix in (("span", "span."), ("resource", "resource."), ("", ".")):
        if text.startswith(prefix) and len(text) > len(prefix):
            name = text.removeprefix(prefix)
            return Field(scope, unquoted(name) if len(name) > 1 and name[0] == name[-1] == '"' else name)
    raise NotSpokenError(f"the field {text!r}")


def unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found.group(1), found.group(1)), text[1:-1], flags=re.DOTALL)


def duration_ns(text: str) -> int:
    """Nanoseconds of a duration as `1.5s` or `1m30s`.

    Raises:
        NotSpokenError: it is none.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.removeprefix("-"):
        raise NotSpokenError(f"{text!r} is no duration")
    nanoseconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if nanoseconds > _INTEGER_MAX:
        raise NotSpokenError(f"{text[:40]!r} is longer than any span")
    return (-1 if text.startswith("-") else 1) * round(nanoseconds)


def _number(text: str) -> int | float:
    number = float(text)
    if math.isinf(number) or ("." not in text and abs(int(text)) > _INTEGER_MAX):
        raise NotSpokenError(f"{text[:40]!r} is more than 64 bits")
    return number if "." in text else int(text)


def _compare(field: Field, operator: str, kind: str, value: Scalar) -> Compare:
    said = f"{field.name} {operator} {value!r}"
    if value is None and operator not in _EQUAL:
        raise NotSpokenError(f"{said}: nil has no order")
    if isinstance(value, bool) and operator not in _EQUAL:
        raise NotSpokenError(f"{said}: true and false have no order")
    if operator in ("=~", "!~"):
        _check_pattern(value, said)
    if field.scope == "intrinsic":
        _check_intrinsic(field.name, operator, kind, value, said)
    return Compare(field, operator, value)


def _check_pattern(value: Scalar, said: str) -> None:
    if not isinstance(value, str):
        raise NotSpokenError(f"{said}: a pattern is a text")
    try:
        matcher(value)
    except ValueError as exc:
        raise NotSpokenError(f"{said}: {exc}") from exc


def _check_intrinsic(name: str, operator: str, kind: str, value: Scalar, said: str) -> None:
    match name:
        case "name" | "statusMessage":
            fits = kind == "text"
        case "status" | "kind":
            fits = operator in _EQUAL and kind == "word"
        case "duration" | "trace:duration":
            fits = kind == "duration" and operator in _ORDERED | _EQUAL
        case "nestedSetParent":
            fits = (operator, value) in (("<", 0), ("=", -1)) and kind == "number"
        case _:
            digits = 32 if name == "trace:id" else 16
            fits = operator in _EQUAL and re.fullmatch(f"[0-9a-fA-F]{{1,{digits}}}", str(value)) is not None and kind == "text"
    if not fits:
        raise NotSpokenError(said)
