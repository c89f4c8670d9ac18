"""The current state of a subject: its history, folded.

Rules. Per (tenant, entity, subject, attribute) the last writer wins, by event time, then event id compared as bytes; two sources
may use one id at one moment, so the event's key decides last. The order is total, so the fold may see events in any order
and any number of times and gives the same state (TRAPS 2). An event without a subject, or of a type without an entity, says
nothing of state. A field without presence that has its default says nothing either: proto3 can't tell it from absent.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from pipeline.etl.decode import Event
from pipeline.etl.plain import field_text
from pipeline.schema.registry import EventType, StateRule


class Attribute(NamedTuple):
    """What one state row is about."""

    tenant: str
    entity: str
    subject: str
    attribute: str


class Order(NamedTuple):
    """When it was said, as a total order. Compares as the fold does."""

    time_micros: int
    event_id: bytes
    event_key: bytes

    def token(self) -> str:
        """The order as text that compares the same: what Redis keeps beside a value and compares in Lua.

        Only digits and a-f, since Lua compares by the server's locale. Each byte of the id has a 1 before it and its end is a
        0, so that an id comes before those that it begins.
        """
        id = f"1{self.event_id.hex('1')}" if self.event_id else ""
        # The offset makes moments before 1970 positive, of one width.
        return f"{self.time_micros + (1 << 62):020d}{id}0{self.event_key.hex()}"


class Said(NamedTuple):
    order: Order
    value: str


State = dict[Attribute, Said]

_COMPILED_MAX = 4096
_compiled: dict[Descriptor, tuple[tuple[str, Callable[[Message], str | None]], ...]] = {}


def fold(events: Iterable[Event]) -> State:
    """The state that these events alone make."""
    state: State = {}
    for event in events:
        if event.subject and event.kind.entity:
            say(state, statements(event))
    return state


def statements(event: Event) -> Iterable[tuple[Attribute, Said]]:
    """What one event says of its subject."""
    kind = event.kind
    order = Order(event.time_micros, event.id.encode(), event.key)
    for attribute, read in _readers(kind):
        value = read(event.message)
        if value is not None:
            yield Attribute(event.tenant, kind.entity, event.subject, attribute), Said(order, value)


def say(state: State, said: Iterable[tuple[Attribute, Said]]) -> None:
    """Take in what is newer than what is known."""
    for attribute, new in said:
        known = state.get(attribute)
        if known is None or new.order > known.order:
            state[attribute] = new


def _readers(kind: EventType) -> tuple[tuple[str, Callable[[Message], str | None]], ...]:
    """Compiled once per type; a descriptor belongs to one registry and hashes by identity."""
    known = _compiled.get(kind.descriptor)
    if known is None:
        known = tuple((rule.attribute, _reader(kind.descriptor, rule)) for rule in kind.state_rules)
        if len(_compiled) >= _COMPILED_MAX:
            _compiled.clear()
        _compiled[kind.descriptor] = known
    return known


def _reader(descriptor: Descriptor, rule: StateRule) -> Callable[[Message], str | None]:
    if rule.field_name is None:
        return lambda _: rule.constant
    field = descriptor.fields_by_name[rule.field_name]
    name, text = field.name, field_text(field)
    if field.has_presence:
        return lambda message: text(message) if message.HasField(name) else None
    default = field.default_value
    return lambda message: text(message) if getattr(message, name) != default else None


def by_subject(state: Mapping[Attribute, Said]) -> dict[tuple[str, str, str], list[tuple[str, Said]]]:
    groups: dict[tuple[str, str, str], list[tuple[str, Said]]] = {}
    for at, said in state.items():
        groups.setdefault((at.tenant, at.entity, at.subject), []).append((at.attribute, said))
    return groups
