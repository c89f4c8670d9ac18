"""`buf/validate/validate.proto` as text, printed from the descriptor inside the installed `protovalidate` package.

The rules in `proto/` import that file; no package ships its text and it is not ours to copy. Printed from the descriptor
it is always that of the pinned validator. Options and comments are left out: compiling needs names and numbers.
"""

from collections.abc import Iterator

from google.protobuf import descriptor_pb2

_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_LABELS = {1: "optional ", 2: "required ", 3: "repeated "}


def validate_proto_text() -> str:
    """The text of the file, in proto2 syntax."""
    from protovalidate._gen.buf.validate import validate_pb

    file = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
    return "\n".join(_file_lines(file)) + "\n"


def _file_lines(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    yield 'syntax = "proto2";'
    yield f"package {file.package};"
    for name in file.dependency:
        yield f'import "{name}";'
    for enum in file.enum_type:
        yield from _enum_lines(enum)
    for message in file.message_type:
        yield from _message_lines(message)
    for extension in file.extension:
        yield f"extend {extension.extendee} {{ {_field(extension)} }}"


def _enum_lines(enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    for value in enum.value:
        yield f"  {value.name} = {value.number};"
    yield "}"


def _message_lines(message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    yield f"message {message.name} {{"
    for nested in message.nested_type:
        yield from _message_lines(nested)
    for enum in message.enum_type:
        yield from _enum_lines(enum)
    for span in message.extension_range:
        yield f"  extensions {span.start} to {span.end - 1 if span.end < 2**29 else 'max'};"
    for index, oneof in enumerate(message.oneof_decl):
        members = [f for f in message.field if f.HasField("oneof_index") and f.oneof_index == index]
        yield f"  oneof {oneof.name} {{ {' '.join(_field(f, label=False) for f in members)} }}"
    for field in message.field:
        if not field.HasField("oneof_index"):
            yield f"  {_field(field)}"
    yield "}"


def _field(field: descriptor_pb2.FieldDescriptorProto, *, label: bool = True) -> str:
    kind = _SCALARS.get(field.type, field.type_name)
    return f"{_LABELS[field.label] if label else ''}{kind} {field.name} = {field.number};"
