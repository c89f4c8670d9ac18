"""Checks of a message against the rules in its schema, as Python made from the rules.

Rules. The meaning of a rule is that of protovalidate; it is the oracle in the tests. For each message a function is written and
compiled that touches each field once and returns None when all is well, which is the case to be fast in. A message that uses, at
any depth, a rule that is not written here (CEL, formats such as `uri`, patterns that Python's `re` may read or time otherwise) is
checked by protovalidate itself, as a whole: slower, never skipped. Which way a type goes is `compiled_here`.
A violation names the field and the rule. A map's key may be personal and is written as `*`.
"""

import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import protovalidate
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pipeline.errors import InvalidSchema
from pipeline.gen.buf.validate import validate_pb2
from pipeline.schema.rules import Unsupported, rule_lines

_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_IGNORE_ALWAYS, _IGNORE_IF_ZERO = validate_pb2.IGNORE_ALWAYS, validate_pb2.IGNORE_IF_ZERO_VALUE


@dataclass(frozen=True, slots=True)
class Violation:
    """A field, by its path (`lines[0].sku`, `preferences[*]`), and the rule that it breaks (`string.min_len`). Never the
    value."""

    field: str
    rule: str


Checks = Callable[[Message], list[Violation]]


def compile_checks(descriptor: Descriptor, validator: protovalidate.Validator) -> Checks:
    """A function from a message to the rules that it breaks.

    `validator` is the registry's own: it remembers messages by name, and two registries may each have theirs of one name.

    Raises:
        InvalidSchema: the rules contradict their field (a string's rule on a number).
    """
    _refuse_nonsense(descriptor, validator)
    try:
        return _compiled(descriptor)
    except Unsupported:
        return _by_protovalidate(validator)


def compiled_here(descriptor: Descriptor) -> str | None:
    """None if the checks of this type are compiled; else the rule for whose sake protovalidate does them."""
    try:
        _compiled(descriptor)
    except Unsupported as exc:
        return str(exc)
    return None


def _refuse_nonsense(descriptor: Descriptor, validator: protovalidate.Validator) -> None:
    for message in _reachable(descriptor):
        try:
            validator.collect_violations(message_factory.GetMessageClass(message)())
        except protovalidate.CompilationError as exc:
            raise InvalidSchema(f"the validation rules of {message.full_name} do not fit: {exc}") from exc


def _by_protovalidate(validator: protovalidate.Validator) -> Checks:
    def violations(message: Message) -> list[Violation]:
        return [
            Violation("".join(_path(found.proto)), found.proto.rule_id or "cel")
            for found in validator.collect_violations(message)
        ]

    return violations


def _path(violation: Any) -> Iterator[str]:
    for place, element in enumerate(violation.field.elements if violation.field else ()):
        yield f"{'.' if place else ''}{element.field_name}"
        if element.subscript is not None:
            yield f"[{element.subscript.value}]" if element.subscript.field == "index" else "[*]"


def _compiled(descriptor: Descriptor) -> Checks:
    source = _Source()
    name = source.function(descriptor)
    if name is None:
        return lambda message: []
    check = source.compiled(name)

    def violations(message: Message) -> list[Violation]:
        found = check(message)
        return [Violation(field, rule) for field, rule in found] if found else []

    return violations


def _reachable(descriptor: Descriptor) -> list[Descriptor]:
    reached = {descriptor.full_name: descriptor}
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in reached:
                reached[inner.full_name] = inner
                waiting.append(inner)
    return [message for message in reached.values() if not message.GetOptions().map_entry]


def add(found: list[tuple[str, str]] | None, field: str, rule: str) -> list[tuple[str, str]]:
    """The generated code's way to report: the list is made at the first violation."""
    found = [] if found is None else found
    found.append((field, rule))
    return found


def lift(found: list[tuple[str, str]] | None, inner: list[tuple[str, str]], at: str) -> list[tuple[str, str]]:
    """Violations of an inner message, with its place in front of their paths."""
    found = [] if found is None else found
    found.extend((f"{at}.{field}", rule) for field, rule in inner)
    return found


class _Source:
    """The functions of a message and of those within it, as text, and the constants that they use."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._text: list[str] = []
        self.constants: dict[str, Any] = {"add": add, "lift": lift}

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def compiled(self, name: str) -> Callable[[Message], list[tuple[str, str]] | None]:
        exec(compile("\n".join(self._text), f"<checks {name}>", "exec"), self.constants)
        made: Callable[[Message], list[tuple[str, str]] | None] = self.constants[name]
        return made

    def function(self, descriptor: Descriptor) -> str | None:
        """The name of the function that checks this message; None if there is nothing to check in it."""
        if descriptor.full_name in self._names:
            return self._names[descriptor.full_name]
        if not any(_has_rules(message) for message in _reachable(descriptor)):
            return None
        name = self._names[descriptor.full_name] = f"check_{len(self._names)}"
        rules = descriptor.GetOptions()
        if rules.HasExtension(validate_pb2.message):
            raise Unsupported(f"{descriptor.full_name}: rules of a whole message")
        lines = [f"def {name}(m):", "    found = None"]
        for oneof in descriptor.oneofs:
            if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
                lines.append(f"    if m.WhichOneof({oneof.name!r}) is None: found = add(found, {oneof.name!r}, 'required')")
        for field in descriptor.fields:
            lines += [f"    {line}" for line in self._field(field)]
        self._text.append("\n".join([*lines, "    return found"]))
        return name

    def _field(self, field: FieldDescriptor) -> list[str]:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if rules.ignore == _IGNORE_ALWAYS:
            return []
        value = f"m.{field.name}" if not keyword.iskeyword(field.name) else f"getattr(m, {field.name!r})"
        body = self._repeated(field, rules) if field.is_repeated else self._single(field, rules)
        if rules.cel or rules.cel_expression:
            raise Unsupported(f"{field.full_name}: CEL")
        if not body and not rules.required:
            return []
        if (rules.required or rules.ignore == _IGNORE_IF_ZERO) and field.type in _FLOATS and not field.is_repeated:
            raise Unsupported(f"{field.full_name}: zero of a float")
        return _guarded(field, rules, value, body)

    def _single(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[str]:
        inner = field.message_type
        at = repr(field.name)
        if inner is None:
            return list(rule_lines(field, rules, "v", at, self.constant))
        if inner.full_name in _WRAPPERS and rules.WhichOneof("type"):
            if rules.ignore == _IGNORE_IF_ZERO:
                raise Unsupported(f"{field.full_name}: zero of a wrapper")
            return ["v = v.value", *rule_lines(inner.fields_by_name["value"], rules, "v", at, self.constant)]
        return [*rule_lines(field, rules, "v", at, self.constant), *self._inner(inner, "v", at)]

    def _inner(self, message: Descriptor, value: str, at: str) -> list[str]:
        check = self.function(message)
        if check is None:
            return []
        return [f"inner = {check}({value})", f"if inner: found = lift(found, inner, {at})"]

    def _repeated(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[str]:
        kind = rules.WhichOneof("type")
        if kind not in (None, "repeated", "map"):
            raise Unsupported(f"{field.full_name}: {kind} rules on a repeated field")
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return self._map(field, rules)
        name, items = field.name, rules.repeated.items
        at = f"f'{name}[{{i}}]'"
        loop = self._each(field, items, "x", at)
        lines = _bounds(name, "repeated.min_items", "repeated.max_items", rules.repeated, "min_items", "max_items")
        if rules.repeated.unique:
            if field.message_type is not None or field.type in _FLOATS:
                raise Unsupported(f"{field.full_name}: unique of messages or floats")
            lines.append(f"if len(set(v)) != len(v): found = add(found, {name!r}, 'repeated.unique')")
        if loop:
            lines += ["for i, x in enumerate(v):", *(f"    {line}" for line in loop)]
        return lines

    def _map(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[str]:
        assert field.message_type is not None
        entry, at = field.message_type.fields_by_name, repr(f"{field.name}[*]")
        lines = _bounds(field.name, "map.min_pairs", "map.max_pairs", rules.map, "min_pairs", "max_pairs")
        loop = [
            *self._each(entry["key"], rules.map.keys, "k", at),
            *self._each(entry["value"], rules.map.values, "x", at),
        ]
        if loop:
            lines += ["for k in v:", "    x = v[k]", *(f"    {line}" for line in loop)]
        return lines

    def _each(self, field: FieldDescriptor, rules: validate_pb2.FieldRules, value: str, at: str) -> list[str]:
        """Checks of one item, key or value."""
        if rules.ignore == _IGNORE_ALWAYS:
            return []
        if rules.cel or rules.cel_expression or rules.required:
            raise Unsupported(f"{field.full_name}: CEL or required on items")
        lines = list(rule_lines(field, rules, value, at, self.constant))
        inner = field.message_type
        if inner is not None:
            if rules.WhichOneof("type") and inner.full_name in _WRAPPERS:
                raise Unsupported(f"{field.full_name}: rules on wrappers as items")
            lines += self._inner(inner, value, at)
        if lines and rules.ignore == _IGNORE_IF_ZERO:
            if inner is not None or field.type in _FLOATS:
                raise Unsupported(f"{field.full_name}: zero of a message or float item")
            return [f"if {value}:", *(f"    {line}" for line in lines)]
        return lines


def _has_rules(message: Descriptor) -> bool:
    options = message.GetOptions()
    return (
        options.HasExtension(validate_pb2.message)
        or any(oneof.GetOptions().HasExtension(validate_pb2.oneof) for oneof in message.oneofs)
        or any(field.GetOptions().HasExtension(validate_pb2.field) for field in message.fields)
    )


def _bounds(name: str, low_rule: str, high_rule: str, rules: Any, low: str, high: str) -> list[str]:
    lines = []
    if rules.HasField(low):
        lines.append(f"if len(v) < {getattr(rules, low)}: found = add(found, {name!r}, {low_rule!r})")
    if rules.HasField(high):
        lines.append(f"if len(v) > {getattr(rules, high)}: found = add(found, {name!r}, {high_rule!r})")
    return lines


def _guarded(field: FieldDescriptor, rules: validate_pb2.FieldRules, value: str, body: list[str]) -> list[str]:
    """The checks of one field, behind its presence: an absent field breaks `required` or nothing.

    `IGNORE_IF_ZERO_VALUE` means nothing where presence is known: a zero that was set is judged.
    """
    missing = [f"found = add(found, {field.name!r}, 'required')"] if rules.required else []
    if field.has_presence:
        inside = [f"v = {value}", *body]
        if not body:
            return [f"if not m.HasField({field.name!r}): {missing[0]}"]
        lines = [f"if m.HasField({field.name!r}):", *(f"    {line}" for line in inside)]
        return [*lines, "else:", *(f"    {line}" for line in missing)] if missing else lines
    if not missing and rules.ignore != _IGNORE_IF_ZERO:
        return [f"v = {value}", *body]
    lines = [f"v = {value}", "if v:", *(f"    {line}" for line in body or ["pass"])]
    return [*lines, "else:", *(f"    {line}" for line in missing)] if missing else lines
