"""Event types: what may be sent, found by name.

Rules. A message is an event type if it is top-level, lies in a file of a package `....events.vN` or anywhere in the user's
folder, and is not merely a part of another message (the type of one of its fields); a message that carries the option
`spillway.v1.entity` is one in any case. Nothing is registered by hand: write the message, `make gen`.
Ours use the generated stubs' classes (default pool), so that `isinstance` holds; a user's types live in a pool of their own,
with ours beside them, so that two registries in one process do not meet.
An event type is ready when it is made: its parser, checks and JSON plan are compiled then, and a schema that can't be compiled
stops the start instead of the first event.
"""

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import protovalidate
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

from pipeline.errors import InvalidEvent, InvalidSchema
from pipeline.gen.spillway.v1 import policy_pb2
from pipeline.schema.checks import Violation, compile_checks
from pipeline.schema.compile import GEN_DIR, PROTO_DIR, SCHEMA_FILE, compile_folder
from pipeline.schema.json_plan import compile_from_json
from pipeline.schema.parsing import compile_parse

_EVENTS_PACKAGE = re.compile(r"(^|\.)events\.v[0-9]\w*$")
# How many compiled folders this process remembers, by their content.
_FOLDERS_REMEMBERED_MAX = 16
_folders: dict[str, descriptor_pb2.FileDescriptorSet] = {}


@dataclass(frozen=True, slots=True)
class StateRule:
    """The event sets `attribute` of its subject's current state: to the value of `field_name`, or to `constant`."""

    attribute: str
    field_name: str | None = None
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event. Its functions are pure and may be called from any thread."""

    # Full name of the message: the CloudEvents `type`.
    name: str
    message_class: type[Message]
    descriptor: Descriptor
    # What the event's subject is ("plane"); empty if the type says nothing of state.
    entity: str
    state_rules: tuple[StateRule, ...]
    # bytes -> message. Raises: InvalidEvent "undecodable" or "unknown_field".
    parse: Callable[[bytes], Message]
    # JSON -> message. Raises: InvalidEvent "bad_json", "unknown_field" or "wrong_type"; the message names the field's path.
    from_json: Callable[[bytes | str], Message]
    # Every violated rule of a message, in the order of its fields; empty if it is right.
    violations: Callable[[Message], list[Violation]]

    def check(self, message: Message) -> None:
        """Raises: InvalidEvent "rule": names the fields and the rules that they break, never their values."""
        broken = self.violations(message)
        if broken:
            said = "; ".join(f"{at.field or 'the event'} breaks {at.rule}" for at in broken[:5])
            more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
            raise InvalidEvent("rule", f"{self.name}: {said}{more}")


class Registry:
    """The event types of this process: those under proto/ and, if one is named, those of a user's folder."""

    def __init__(self, types: Iterable[EventType]) -> None:
        self.types: Mapping[str, EventType] = MappingProxyType({kind.name: kind for kind in types})

    @classmethod
    def load(cls, proto_dir: Path | None = None) -> "Registry":
        """Raises: InvalidSchema: the folder can't be compiled, or one of its files hides one of ours."""
        ours = list(_our_files())
        if proto_dir is None:
            return cls(_types(ours, lambda file: bool(_EVENTS_PACKAGE.search(file.package))))
        theirs = set(_user_sources(proto_dir))
        pool = descriptor_pool.DescriptorPool()
        for proto in _compiled(proto_dir).file:
            pool.Add(proto)
        files = [pool.FindFileByName(name) for name in sorted(theirs)]
        return cls([*_types(ours, lambda file: bool(_EVENTS_PACKAGE.search(file.package))), *_types(files, lambda _: True)])

    def find(self, name: str) -> EventType:
        """Raises: InvalidEvent "unknown_type"."""
        kind = self.types.get(name)
        if kind is None:
            raise InvalidEvent("unknown_type", "`type` must be the full name of an event type that is deployed here")
        return kind


def _our_files() -> Iterator[FileDescriptor]:
    """The files of pipeline/gen, in the default pool, with the stubs' classes."""
    for proto in descriptor_pb2.FileDescriptorSet.FromString(SCHEMA_FILE.read_bytes()).file:
        module = proto.name.removesuffix(".proto") + "_pb2"
        if (GEN_DIR / f"{module}.py").exists():
            importlib.import_module("pipeline.gen." + module.replace("/", "."))
            yield descriptor_pool.Default().FindFileByName(proto.name)


def _user_sources(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InvalidSchema(f"{folder}: no such folder; the setting proto_dir names the folder that holds your event types")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    for name in names:
        if (PROTO_DIR / name).exists() or name.startswith(("google/protobuf/", "buf/validate/")):
            raise InvalidSchema(f"{folder / name} hides a file of ours with that path: move it to a folder of your name")
    return names


def _compiled(folder: Path) -> descriptor_pb2.FileDescriptorSet:
    digest = hashlib.blake2b(SCHEMA_FILE.read_bytes())
    for path in sorted(folder.rglob("*.proto")):
        for part in (str(path.relative_to(folder)).encode(), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    key = digest.hexdigest()
    if key not in _folders:
        while len(_folders) >= _FOLDERS_REMEMBERED_MAX:
            _folders.pop(next(iter(_folders)))
        _folders[key] = compile_folder(folder)
    return _folders[key]


def _types(files: Iterable[FileDescriptor], of_events: Callable[[FileDescriptor], bool]) -> Iterator[EventType]:
    validator = protovalidate.Validator()
    for file in files:
        parts = set(_parts(file))
        for descriptor in file.message_types_by_name.values():
            carries_entity = descriptor.GetOptions().HasExtension(policy_pb2.entity)
            if carries_entity or (of_events(file) and descriptor.full_name not in parts):
                yield _event_type(descriptor, validator)


def _parts(file: FileDescriptor) -> Iterator[str]:
    """Names of the messages that are the type of a field of another message in this file."""
    waiting = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_types)
        for field in message.fields:
            if field.message_type is not None and field.message_type is not message:
                yield field.message_type.full_name


def _event_type(descriptor: Descriptor, validator: protovalidate.Validator) -> EventType:
    message_class = message_factory.GetMessageClass(descriptor)
    entity = descriptor.GetOptions().Extensions[policy_pb2.entity]
    return EventType(
        name=descriptor.full_name,
        message_class=message_class,
        descriptor=descriptor,
        entity=entity.name,
        state_rules=tuple(_state_rules(descriptor, entity)),
        parse=compile_parse(message_class),
        from_json=compile_from_json(message_class),
        violations=compile_checks(descriptor, validator),
    )


def _state_rules(descriptor: Descriptor, entity: policy_pb2.Entity) -> Iterator[StateRule]:
    for constant in entity.constants:
        yield StateRule(constant.attribute, constant=constant.value)
    for field in descriptor.fields:
        attribute = field.GetOptions().Extensions[policy_pb2.state]
        if not attribute:
            continue
        if field.is_repeated or field.type == FieldDescriptor.TYPE_MESSAGE:
            raise InvalidSchema(f"{field.full_name}: `state` is for single values, not for repeated or message fields")
        if not entity.name:
            raise InvalidSchema(f"{field.full_name} has `state`, but its message has no `entity` to say whose")
        yield StateRule(attribute, field_name=field.name)
