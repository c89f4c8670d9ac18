"""The policy in proto/ as a plan per event type: what the redactor does to each field.

Rules.
- A string without the option `spillway.v1.personal_data` is scanned as free text. So is a map's key: one that holds personal data
  becomes a pseudonym, since two masked keys would collide.
- An option on a message field holds for every text beneath it that has no option of its own; `drop` and `keep` take the whole
  field.
- Numbers, enums, times and bools pass; on them only `drop` and `keep` mean something. If such a field's name says that it is
  personal (`phone`, `birth_date`, ...), it must have an option.
- Bytes and `google.protobuf.Any` can't be judged: they must have `drop` or `keep`. So can't proto2 extensions: a type that
  allows them is refused.
- An option that is no decision (unspecified action, or one that does not fit the field) is refused: the redactor does not start.
"""

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pipeline.errors import InvalidSchema
from pipeline.gen.spillway.v1 import policy_pb2
from pipeline.gen.spillway.v1.policy_pb2 import PersonalDataKind, RedactionAction
from pipeline.redaction.actions import exact_pseudonym, generalised, masked, pseudonym
from pipeline.schema.registry import Registry
from telemetry.personal_data import find, mask

# Redacts a message in place, with the tenant's key, and counts what it changed by action.
Plan = Callable[[Message, bytes, MutableMapping[str, int]], None]
TextChange = Callable[[str, bytes], str]

DROP, KEEP, SCAN = (
    RedactionAction.REDACTION_ACTION_DROP,
    RedactionAction.REDACTION_ACTION_KEEP,
    RedactionAction.REDACTION_ACTION_SCAN,
)
MASK, PSEUDONYMISE = RedactionAction.REDACTION_ACTION_MASK, RedactionAction.REDACTION_ACTION_PSEUDONYMISE
GENERALISE = RedactionAction.REDACTION_ACTION_GENERALISE
_CAN_GENERALISE = (PersonalDataKind.PERSONAL_DATA_KIND_IP, PersonalDataKind.PERSONAL_DATA_KIND_BIRTH_DATE)
_PERSONAL_NAME = re.compile(r"(?:^|_)(?:phone|mobile|msisdn|email|card|ssn|birth|birthday|birthdate|dob|ip|passport)(?:_|$)")


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do to a field. `action` is one of DROP ... KEEP."""

    kind: int
    action: int

    @property
    def word(self) -> str:
        return RedactionAction.Name(RedactionAction.ValueType(self.action)).removeprefix("REDACTION_ACTION_").lower()


_FREE_TEXT = Policy(PersonalDataKind.PERSONAL_DATA_KIND_FREE_TEXT, SCAN)


def verify(registry: Registry) -> Mapping[str, Plan]:
    """The plan of every event type.

    Raises:
        InvalidSchema: a field's policy is missing or is no decision; the message names every such field.
    """
    compiler = _Compiler()
    plans = {name: compiler.plan(kind.descriptor, _FREE_TEXT) for name, kind in registry.types.items()}
    if compiler.complaints:
        raise InvalidSchema("the personal-data policy is not complete:\n" + "\n".join(sorted(set(compiler.complaints))))
    return MappingProxyType(plans)


class _Compiler:
    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._steps: dict[tuple[int, Policy], list[Plan]] = {}
        self._alive: list[Descriptor] = []  # keeps the ids in `_steps` from being used again

    def plan(self, message: Descriptor, inherited: Policy) -> Plan:
        """The plan of a message whose texts without an option get `inherited`. Messages may contain themselves."""
        at = (id(message), inherited)
        if at not in self._steps:
            steps: list[Plan] = []
            self._steps[at] = steps
            self._alive.append(message)
            if message.is_extendable:
                self.complaints.append(f"{message.full_name} allows extensions, which no policy can cover: use fields")
            steps.extend(step for field in message.fields if (step := self._field(field, inherited)) is not None)
        planned = self._steps[at]

        def redact(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
            for step in planned:
                step(message, key, changed)

        return redact

    def _field(self, field: FieldDescriptor, inherited: Policy) -> Plan | None:
        own = self._own(field)
        if own is not None and own.action == KEEP:
            return None
        if own is not None and own.action == DROP:
            return _dropped(field.name, field.has_presence)
        policy = own or inherited
        value = _value_of(field)
        if _is_map(field):
            return self._map(field, value, policy, own)
        if value.type == FieldDescriptor.TYPE_STRING:
            change = self._text_change(field, policy)
            return _texts(field.name, change, policy.word) if field.is_repeated else _text(field.name, change, policy.word)
        if value.message_type is not None:
            inner = self._message(field, value.message_type, policy, own)
            if inner is None:
                return None
            return _messages(field.name, inner) if field.is_repeated else _message(field.name, inner)
        self._number(field, value, policy, own)
        return None

    def _own(self, field: FieldDescriptor) -> Policy | None:
        options = field.GetOptions()
        if not options.HasExtension(policy_pb2.personal_data):
            return None
        said = options.Extensions[policy_pb2.personal_data]
        if said.action not in (DROP, KEEP, SCAN, MASK, PSEUDONYMISE, GENERALISE):
            self.complaints.append(f"{field.full_name}: `personal_data` names no action: say what is to be done with it")
            return Policy(said.kind, DROP)
        return Policy(said.kind, said.action)

    def _text_change(self, field: FieldDescriptor, policy: Policy) -> TextChange:
        kind = policy.kind
        if policy.action == GENERALISE and kind not in _CAN_GENERALISE:
            self.complaints.append(f"{field.full_name}: only an IP or a BIRTH_DATE can be generalised; mask or drop it")
        changes: dict[int, TextChange] = {
            SCAN: lambda text, key: mask(text),
            MASK: lambda text, key: masked(kind, text),
            PSEUDONYMISE: lambda text, key: pseudonym(key, kind, text),
            GENERALISE: lambda text, key: generalised(kind, text),
        }
        return changes[policy.action]

    def _message(self, field: FieldDescriptor, inner: Descriptor, policy: Policy, own: Policy | None) -> Plan | None:
        if inner.full_name == "google.protobuf.Any":
            self.complaints.append(f"{field.full_name}: an Any can't be judged: give it `personal_data` with drop or keep")
            return None
        if inner.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            self._number(field, field, policy, own)
            return None
        return self.plan(inner, policy)

    def _number(self, field: FieldDescriptor, value: FieldDescriptor, policy: Policy, own: Policy | None) -> None:
        if own is not None:
            self.complaints.append(f"{field.full_name}: {own.word} is for text; drop it or keep it")
        elif value.type == FieldDescriptor.TYPE_BYTES:
            self.complaints.append(f"{field.full_name}: bytes can't be judged: give it `personal_data` with drop or keep")
        elif policy.action != SCAN:
            self.complaints.append(
                f"{field.full_name}: inherits {policy.word}, which is for text: give it drop or keep of its own"
            )
        elif _PERSONAL_NAME.search(field.name):
            self.complaints.append(
                f"{field.full_name}: sounds personal and is not text: give it `personal_data` with drop or keep"
            )

    def _map(self, field: FieldDescriptor, value: FieldDescriptor, policy: Policy, own: Policy | None) -> Plan | None:
        assert field.message_type is not None
        text_keys = field.message_type.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING
        keys = _map_keys(field.name, value.message_type is not None) if text_keys else None
        values: Plan | None = None
        if value.type == FieldDescriptor.TYPE_STRING:
            values = _map_texts(field.name, self._text_change(field, policy), policy.word)
        elif value.message_type is not None:
            inner = self._message(field, value.message_type, policy, own)
            values = _map_messages(field.name, inner) if inner is not None else None
        else:
            self._number(field, value, policy, own)
        return _both(values, keys)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _value_of(field: FieldDescriptor) -> FieldDescriptor:
    return field.message_type.fields_by_name["value"] if field.message_type is not None and _is_map(field) else field


def _count(changed: MutableMapping[str, int], word: str) -> None:
    changed[word] = changed.get(word, 0) + 1


def _dropped(name: str, has_presence: bool) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        if message.HasField(name) if has_presence else getattr(message, name):
            message.ClearField(name)
            _count(changed, "drop")

    return step


def _text(name: str, change: TextChange, word: str) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        text = getattr(message, name)
        if text:
            clean = change(text, key)
            if clean != text:
                setattr(message, name, clean)
                _count(changed, word)

    return step


def _texts(name: str, change: TextChange, word: str) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        texts = getattr(message, name)
        for index, text in enumerate(texts):
            clean = change(text, key) if text else text
            if clean != text:
                texts[index] = clean
                _count(changed, word)

    return step


def _message(name: str, inner: Plan) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        if message.HasField(name):
            inner(getattr(message, name), key, changed)

    return step


def _messages(name: str, inner: Plan) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        for one in getattr(message, name):
            inner(one, key, changed)

    return step


def _map_texts(name: str, change: TextChange, word: str) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        entries = getattr(message, name)
        for entry, text in list(entries.items()):
            clean = change(text, key) if text else text
            if clean != text:
                entries[entry] = clean
                _count(changed, word)

    return step


def _map_messages(name: str, inner: Plan) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        entries = getattr(message, name)
        for entry in list(entries):
            inner(entries[entry], key, changed)

    return step


def _map_keys(name: str, of_messages: bool) -> Plan:
    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        entries: Any = getattr(message, name)
        for entry in [entry for entry in entries if find(entry)]:
            clean = exact_pseudonym(key, "entry", entry)
            if of_messages:
                entries[clean].CopyFrom(entries[entry])
            else:
                entries[clean] = entries[entry]
            del entries[entry]
            _count(changed, "scan")

    return step


def _both(*plans: Plan | None) -> Plan | None:
    steps = [plan for plan in plans if plan is not None]
    if not steps:
        return None

    def step(message: Message, key: bytes, changed: MutableMapping[str, int]) -> None:
        for one in steps:
            one(message, key, changed)

    return step


def rules(registry: Registry) -> dict[str, int]:
    """How many fields of all deployed messages have an option that changes them, by action: a fall is a rule that has gone."""
    counts = dict.fromkeys((Policy(0, action).word for action in (DROP, MASK, PSEUDONYMISE, GENERALISE, SCAN)), 0)
    known: set[str] = set()
    unread = [kind.descriptor for kind in registry.types.values()]
    while unread:
        message = unread.pop()
        if message.full_name in known:
            continue
        known.add(message.full_name)
        for field in message.fields:
            own = _Compiler()._own(field)
            if own is not None and own.word in counts:
                counts[own.word] += 1
            if field.message_type is not None:
                unread.append(field.message_type)
    return counts


def explain(registry: Registry) -> Iterator[tuple[str, str, str]]:
    """(event type, field, what is done to it) of every field with an option: for people who review the policy."""
    for name, kind in sorted(registry.types.items()):
        for field in kind.descriptor.fields:
            own = _Compiler()._own(field)
            if own is not None:
                yield name, field.name, own.word
