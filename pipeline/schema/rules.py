"""One value's rules as lines of Python.

Each line is `if <broken>: found = add(found, <path>, <rule id>)`. Every rule that is set must be known here; one that is not
raises Unsupported, so that no rule is skipped in silence. Identifiers and meaning are those of protovalidate
(Source: https://protovalidate.com/reference/rules/).
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from pipeline.gen.buf.validate import validate_pb2

Constant = Callable[[Any], str]

_NUMBERS = frozenset(
    "float double int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 sfixed64".split()  # noqa: SIM905
)
_LENGTHS = {"len": "!=", "min_len": "<", "max_len": ">"}
_SAFE_PATTERN = re.compile(
    r"""(?:
        [A-Za-z0-9\x20_\-@\#%&=,:;"'<>~`!/]                      # itself
      | \\[.\-+*?()\[\]{}|^$/\\@]                                # escaped
      | \.
      | \[\^?(?:[A-Za-z0-9\x20_.@%+*?(){}|$/:;,<>=!\#'"-]|\\[\]\[\-\\^./+])+\]
      | \((?:\?:)?(?!\?) | \)\?? (?![*+{]) | [|^$]
      | (?<=[^(|])[*+?] | \{\d{1,3}(?:,\d{0,3})?\}
    )*""",
    re.VERBOSE,
)
_UNBOUNDED = re.compile(r"(?<!\\)[*+]|\{\d+,\}")
_UNBOUNDED_MAX = 3
_END = re.compile(r"\\.|\[\^?(?:\\.|[^\]])*\]|\$", re.DOTALL)
_FORMATS = {
    "uuid": re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
    "tuuid": re.compile(r"[0-9a-fA-F]{32}"),
    # The WHATWG's pattern for <input type=email>, which protovalidate uses.
    "email": re.compile(
        r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
    ),
}


class Unsupported(Exception):
    """A rule that is not written here; the message names it."""


def rule_lines(field: FieldDescriptor, rules: validate_pb2.FieldRules, v: str, at: str, constant: Constant) -> Iterator[str]:
    """Lines that check the value in variable `v`, whose path is the Python expression `at`."""
    kind = rules.WhichOneof("type")
    if kind is None:
        return
    inner = getattr(rules, kind)
    known = {rule.name: value for rule, value in inner.ListFields() if not rule.is_extension}
    known.pop("example", None)
    if any(rule.is_extension for rule, _ in inner.ListFields()):
        raise Unsupported(f"{field.full_name}: predefined rules")
    if kind in _NUMBERS:
        lines = _numbers(kind, v, known, constant)
    elif kind in ("timestamp", "duration"):
        lines = _moments(kind, v, known, constant)
    elif kind in ("string", "bytes"):
        lines = _texts(kind, v, known, constant)
    elif kind in ("enum", "bool"):
        lines = _choices(kind, v, known, field, constant)
    else:
        raise Unsupported(f"{field.full_name}: {kind} rules")
    for broken, rule in lines:
        yield f"if {broken}: found = add(found, {at}, '{kind}.{rule}')"
    if known:
        raise Unsupported(f"{field.full_name}: {kind}.{next(iter(known))}")


def _numbers(kind: str, v: str, known: dict[str, Any], constant: Constant) -> Iterator[tuple[str, str]]:
    yield from _equality(v, known, constant)
    yield from _range(v, known, lambda limit: repr(limit) if isinstance(limit, int) else constant(limit), lambda limit: limit)
    if known.pop("finite", False):
        yield f"not {constant(math.isfinite)}({v})", "finite"


def _moments(kind: str, v: str, known: dict[str, Any], constant: Constant) -> Iterator[tuple[str, str]]:
    """Timestamps and durations compare as (seconds, nanos): for both, protobuf keeps nanos on the side of the seconds."""

    def plain(moment: Any) -> tuple[int, int]:
        return moment.seconds, moment.nanos

    t = f"({v}.seconds, {v}.nanos)"
    for name in ("in", "not_in"):
        if name in known:
            known[name] = [plain(moment) for moment in known[name]]
    if "const" in known:
        known["const"] = plain(known["const"])
    yield from _equality(t, known, constant)
    yield from _range(t, known, lambda limit: repr(plain(limit)), plain)


def _equality(v: str, known: dict[str, Any], constant: Constant) -> Iterator[tuple[str, str]]:
    if "const" in known:
        yield f"{v} != {constant(known.pop('const'))}", "const"
    if "in" in known:
        yield f"{v} not in {constant(_members(known.pop('in')))}", "in"
    if "not_in" in known:
        yield f"{v} in {constant(_members(known.pop('not_in')))}", "not_in"


def _members(values: Sequence[Any]) -> frozenset[Any]:
    if any(isinstance(value, float) and math.isnan(value) for value in values):
        raise Unsupported("NaN in a list")  # a set finds NaN by identity, the rule never does
    return frozenset(values)


def _range(v: str, known: dict[str, Any], text: Callable[[Any], str], order: Callable[[Any], Any]) -> Iterator[tuple[str, str]]:
    """`not (...)` and not the opposite comparison, so that NaN breaks every bound."""
    low = next((name for name in ("gt", "gte") if name in known), None)
    high = next((name for name in ("lt", "lte") if name in known), None)
    signs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    limits = {name: known.pop(name) for name in (low, high) if name is not None}
    parts = [f"{v} {signs[name]} {text(limit)}" for name, limit in limits.items()]
    if low and high:
        exclusive = order(limits[high]) < order(limits[low])
        yield f"not ({(' or ' if exclusive else ' and ').join(parts)})", f"{low}_{high}{'_exclusive' if exclusive else ''}"
    elif parts:
        yield f"not ({parts[0]})", str(low or high)


def _texts(kind: str, v: str, known: dict[str, Any], constant: Constant) -> Iterator[tuple[str, str]]:
    yield from _equality(v, known, constant)
    for name, sign in _LENGTHS.items():
        if name in known:
            yield f"len({v}) {sign} {known.pop(name)}", name
    for name, sign in (("len_bytes", "!="), ("min_bytes", "<"), ("max_bytes", ">")):
        if name in known:
            yield f"len({v}.encode()) {sign} {known.pop(name)}", name
    for name, method in (("prefix", "startswith"), ("suffix", "endswith")):
        if name in known:
            yield f"not {v}.{method}({constant(known.pop(name))})", name
    if "contains" in known:
        yield f"{constant(known.pop('contains'))} not in {v}", "contains"
    if "not_contains" in known:
        yield f"{constant(known.pop('not_contains'))} in {v}", "not_contains"
    if "pattern" in known and kind == "string":
        yield f"{constant(python_pattern(known.pop('pattern')).search)}({v}) is None", "pattern"
    for name, pattern in _FORMATS.items() if kind == "string" else ():
        if known.get(name) is True:
            del known[name]
            yield f"not {v}", f"{name}_empty"
            yield f"{v} and {constant(pattern.fullmatch)}({v}) is None", name


def _choices(kind: str, v: str, known: dict[str, Any], field: FieldDescriptor, constant: Constant) -> Iterator[tuple[str, str]]:
    yield from _equality(v, known, constant)
    if known.pop("defined_only", False):
        assert field.enum_type is not None
        yield f"{v} not in {constant(frozenset(field.enum_type.values_by_number))}", "defined_only"


def python_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern for `re`, if it means the same there and can't take long.

    Left to protovalidate: classes such as `\\w`, flags, whatever has another meaning in RE2; repeated groups and more than three
    unbounded repetitions, which backtrack for ever on a text made for it.

    Raises:
        Unsupported: it may mean something else, or take long.
    """
    if _SAFE_PATTERN.fullmatch(pattern) is None or len(_UNBOUNDED.findall(pattern)) > _UNBOUNDED_MAX:
        raise Unsupported(f"pattern {pattern}")
    if any(doubled in pattern for doubled in ("--", "&&", "~~", "||")):
        raise Unsupported(f"pattern {pattern}")
    # `$` is the very end in RE2; in `re` it also stands before a last newline.
    return re.compile(_END.sub(lambda match: r"\Z" if match[0] == "$" else match[0], pattern))
