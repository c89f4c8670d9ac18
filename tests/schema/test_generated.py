"""Generated files are those of the sources."""

from google.protobuf import descriptor_pb2
from protovalidate._gen.buf.validate import validate_pb

from pipeline.gen.buf.validate import validate_pb2
from pipeline.schema import compile as compiler


def test_the_generated_files_are_fresh(tmp_path, monkeypatch):
    """If this fails: run `make gen` and commit pipeline/gen."""
    committed = {
        path.relative_to(compiler.GEN_DIR): path.read_bytes()
        for path in compiler.GEN_DIR.rglob("*")
        if path.suffix in (".py", ".pyi", ".binpb")
    }
    monkeypatch.setattr(compiler, "GEN_DIR", tmp_path / "gen")
    monkeypatch.setattr(compiler, "SCHEMA_FILE", tmp_path / "gen" / "schema.binpb")
    made = {path.relative_to(tmp_path / "gen"): path.read_bytes() for path in compiler.generate()}
    assert {name for name in committed | made if committed.get(name) != made.get(name)} == set()


def test_the_printed_rules_are_those_of_the_installed_package():
    """Names, numbers, types and labels of everything in buf/validate/validate.proto; comments and options are left out."""
    package = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
    printed = descriptor_pb2.FileDescriptorProto()
    validate_pb2.DESCRIPTOR.CopyToProto(printed)
    assert facts(package) == facts(printed)


def facts(file):
    found = {("file", file.package, tuple(file.dependency))}
    for enum in file.enum_type:
        found |= {("enum", enum.name, value.name, value.number) for value in enum.value}
    for extension in file.extension:
        found.add(("extension", extension.name, extension.number, extension.extendee, extension.type_name))
    waiting = [("", message) for message in file.message_type]
    while waiting:
        prefix, message = waiting.pop()
        name = f"{prefix}{message.name}"
        waiting += [(f"{name}.", inner) for inner in message.nested_type]
        found |= {("range", name, span.start, span.end) for span in message.extension_range}
        for enum in message.enum_type:
            found |= {("enum", f"{name}.{enum.name}", value.name, value.number) for value in enum.value}
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found.add(("field", name, field.name, field.number, field.type, field.label, field.type_name, oneof))
    return found
