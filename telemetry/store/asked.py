"""What is asked over HTTP, read into values. What can't be read is refused with a message that says how to write it."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal

from telemetry.store.query import LINES_MAX, LinesAsked, Range
from telemetry.store.rows import SEVERITIES
from telemetry.store.traceql import All, Always, Any, Compare, Condition, Field, NotSpokenError, duration_ns, parse

LINES_DEFAULT = 200
PAIRS_MAX = 64
_SECOND_NS = 1_000_000_000
_EVER_NS = (1 << 63) - 1
# A number of seconds as large as this is one of nanoseconds.
_NANOSECONDS_MIN = Decimal(10) ** 15
_LINES_PARAMETERS = frozenset(("trace_id", "event_id", "q", "level", "process", "part", "start", "end", "limit"))

Parameters = Mapping[str, str]


class NotAskedRightError(ValueError):
    """A parameter that can't be read."""


def trace_id_of(text: str) -> bytes:
    """Hexadecimal digits; short ones are ids whose leading zeros were left out."""
    if re.fullmatch("[0-9a-fA-F]{1,32}", text) is None:
        raise NotAskedRightError(f"{text[:80]!r} is no trace id: at most 32 hexadecimal digits")
    return bytes.fromhex(text.zfill(32))


def range_of(asked: Parameters) -> Range:
    """`start` and `end` in seconds since 1970, as Tempo's; also with decimals, or in nanoseconds. The whole of that second."""
    within = Range(_time_ns(asked, "start", 0, 0), _time_ns(asked, "end", _EVER_NS, _SECOND_NS - 1))
    if within.start_ns > within.end_ns:
        raise NotAskedRightError("start is after end")
    return within


def _time_ns(asked: Parameters, name: str, default: int, rest_of_second_ns: int) -> int:
    text = asked.get(name, "")
    if not text:
        return default
    if re.fullmatch(r"[0-9]{1,19}(?:\.[0-9]{1,9})?", text) is None:
        raise NotAskedRightError(f"{name}={text[:80]!r}: seconds since 1970")
    number = Decimal(text)
    if number >= _NANOSECONDS_MIN:
        nanoseconds = int(number)
    else:
        nanoseconds = int(number * _SECOND_NS) + (0 if "." in text else rest_of_second_ns)
    return min(nanoseconds, _EVER_NS)


def number_of(asked: Parameters, name: str, default: int, most: int) -> int:
    text = asked.get(name, "")
    if not text:
        return default
    if re.fullmatch("[0-9]{1,9}", text) is None or not int(text):
        raise NotAskedRightError(f"{name}={text[:80]!r}: a number from 1 to {most}")
    return min(int(text), most)


def condition_of(asked: Parameters) -> Condition:
    """Of `q` in TraceQL, or of `tags` as logfmt; with `minDuration` and `maxDuration` of the whole trace, as Tempo's."""
    query = asked.get("q", "")
    parts = [parse(query)] if query.strip() else [_tag(key, value) for key, value in _logfmt(asked.get("tags", ""))]
    for name, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        text = asked.get(name, "")
        if text:
            parts.append(Compare(Field("intrinsic", "trace:duration"), operator, duration_ns(text)))
    return All(tuple(parts)) if len(parts) > 1 else parts[0] if parts else Always()


def half_typed(query: str) -> Condition:
    """Grafana asks for values while a query is being typed: one that can't be read yet narrows nothing."""
    try:
        return parse(query) if query.strip() else Always()
    except NotSpokenError:
        return Always()


def lines_of(asked: Parameters) -> LinesAsked:
    unknown = sorted(set(asked) - _LINES_PARAMETERS)
    if unknown:
        raise NotAskedRightError(f"{unknown[0][:80]!r} is not known here; known are {', '.join(sorted(_LINES_PARAMETERS))}")
    level = asked.get("level", "").lower()
    if level and level not in SEVERITIES:
        raise NotAskedRightError(f"level is one of {', '.join(SEVERITIES)}; that and worse is shown")
    return LinesAsked(
        trace_id=trace_id_of(asked["trace_id"]) if asked.get("trace_id") else None,
        event_id=asked.get("event_id", ""),
        text=asked.get("q", ""),
        severity_min=SEVERITIES.get(level, 0),
        process=asked.get("process") or asked.get("part", ""),
        range=range_of(asked),
        limit=number_of(asked, "limit", LINES_DEFAULT, LINES_MAX),
    )


def _logfmt(text: str) -> list[tuple[str, str]]:
    """`a=b c="d e"` as pairs."""
    pairs: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals or not key.strip() or " " in key.strip() or len(pairs) == PAIRS_MAX:
            raise NotAskedRightError(f'tags: at most {PAIRS_MAX} pairs as key=value or key="a value", with spaces between')
        if rest.startswith('"'):
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except ValueError:
                raise NotAskedRightError(f"tags: the value of {key.strip()[:80]} has no end") from None
            rest = rest[end:]
        else:
            value, _, rest = rest.partition(" ")
        pairs.append((key.strip(), str(value)))
        rest = rest.strip()
    return pairs


def _tag(key: str, value: str) -> Condition:
    """Tags have no types: a number or a truth is looked for as such as well."""
    if key == "name":
        return Compare(Field("intrinsic", "name"), "=", value)
    if (key, value) in (("error", "true"), ("status", "error")):
        return Compare(Field("intrinsic", "status"), "=", 2)
    field = Field("", key)
    meant: list[str | int | bool] = [value]
    if re.fullmatch("-?[0-9]{1,18}", value):
        meant.append(int(value))
    elif value in ("true", "false"):
        meant.append(value == "true")
    compares = tuple(Compare(field, "=", one) for one in meant)
    return compares[0] if len(compares) == 1 else Any(compares)
