"""Stubs of other languages, from the same proto/ (`make gen`, or `python clients/generate.py`).

    clients/node/gen/spillway.binpb     a descriptor set: the Node client loads it at run time, there is nothing to compile
    clients/java/gen/, clients/go/gen/  messages and gRPC stubs

What a client gets is the interface: envelope, collector, event types. The options that only the pipeline reads (validation,
personal data, state) are taken out first, so that no client needs their libraries; the pipeline checks anyway.

Node needs nothing but the Python environment. For Java and Go, protoc and its plugins are those of Debian 12; on a machine that
has apt-get they are downloaded and unpacked into .cache/protoc, not installed. Where they can't be had, this says so and leaves
the committed stubs as they are.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from pipeline.schema.compile import PROTO_DIR, ROOT, _protoc

CLIENTS = ROOT / "clients"
TOOLS = ROOT / ".cache" / "protoc"
# What is inside the pipeline, and what only it reads.
INTERNAL = ("spillway/v1/record.proto", "spillway/v1/policy.proto", "buf/validate/validate.proto")
DEBIAN_PACKAGES = (
    "protobuf-compiler",
    "libprotoc32",
    "libprotobuf32",
    "protobuf-compiler-grpc-java-plugin",
    "protoc-gen-go",
    "protoc-gen-go-grpc",
)
DOWNLOAD_SECONDS_MAX = 120


def interface(*, comments: bool) -> tuple[descriptor_pb2.FileDescriptorSet, list[str]]:
    """The descriptors that clients get, and which of them are ours."""
    ours = sorted(str(path.relative_to(PROTO_DIR)) for path in PROTO_DIR.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "all.binpb"
        source_info = ["--include_source_info"] if comments else []
        _protoc([PROTO_DIR], ["--include_imports", *source_info, f"--descriptor_set_out={out}"], ours, Path(scratch))
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    kept = [_cleaned(file) for file in files.file if file.name not in INTERNAL]
    needed = {name for file in kept for name in file.dependency} | set(ours)
    return descriptor_pb2.FileDescriptorSet(file=[f for f in kept if f.name in needed]), [n for n in ours if n not in INTERNAL]


def _cleaned(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Without the options that are ours, and without the imports that only they needed."""
    for options in _options(file):
        options.DiscardUnknownFields()
        for field, _ in options.ListFields():
            if field.is_extension:
                options.ClearExtension(field)  # type: ignore[arg-type]
    kept = [name for name in file.dependency if name not in INTERNAL]
    del file.dependency[:]
    file.dependency.extend(kept)
    return file


def _options(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Message]:
    todo = list(file.message_type)
    while todo:
        message = todo.pop()
        todo += message.nested_type
        yield message.options
        yield from (field.options for field in message.field)


def node() -> None:
    files, _ = interface(comments=False)
    _write(CLIENTS / "node" / "gen" / "spillway.binpb", files.SerializeToString(deterministic=True))


def java_and_go(tools: Path) -> None:
    files, ours = interface(comments=True)
    bin_dir = tools / "usr" / "bin"
    libraries = next(iter(tools.glob("usr/lib/*/libprotoc.so.32")), tools / "none").parent
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    java, go = _emptied(CLIENTS / "java" / "gen"), _emptied(CLIENTS / "go" / "gen")
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptors:
        descriptors.write(files.SerializeToString())
        descriptors.flush()
        arguments = [
            str(bin_dir / "protoc"),
            f"--descriptor_set_in={descriptors.name}",
            f"--java_out={java}",
            f"--plugin=protoc-gen-grpc-java={bin_dir / 'grpc_java_plugin'}",
            f"--grpc-java_out={java}",
            f"--plugin=protoc-gen-go={bin_dir / 'protoc-gen-go'}",
            f"--go_out={go}",
            "--go_opt=module=spillway.dev/proto",
            f"--plugin=protoc-gen-go-grpc={bin_dir / 'protoc-gen-go-grpc'}",
            f"--go-grpc_out={go}",
            "--go-grpc_opt=module=spillway.dev/proto",
            *ours,
        ]
        subprocess.run(arguments, env=environment, check=True, timeout=DOWNLOAD_SECONDS_MAX)


def debian_tools() -> Path | None:
    """Where protoc and its plugins are unpacked; None, with the reason on standard error, if they can't be had."""
    wanted = [TOOLS / "usr" / "bin" / name for name in ("protoc", "grpc_java_plugin", "protoc-gen-go", "protoc-gen-go-grpc")]
    if all(path.exists() for path in wanted):
        return TOOLS
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return _say_without("this machine has no apt-get")
    with tempfile.TemporaryDirectory() as scratch:
        command = ["apt-get", "download", "-q", *DEBIAN_PACKAGES]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return _say_without(f"`apt-get download` took more than {DOWNLOAD_SECONDS_MAX} s")
        if done.returncode != 0:
            return _say_without(f"`apt-get download` failed: {done.stderr.strip()[-300:]}")
        for package in sorted(Path(scratch).glob("*.deb")):
            TOOLS.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg", "-x", str(package), str(TOOLS)], check=True, timeout=DOWNLOAD_SECONDS_MAX)
    return TOOLS


def _say_without(reason: str) -> Path | None:
    print(f"clients: the Java and Go stubs are left as they are: {reason}", file=sys.stderr)
    return None


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main(arguments: Sequence[str]) -> None:
    """`--node` makes only what needs no tools."""
    node()
    tools = None if "--node" in arguments else debian_tools()
    if tools is not None:
        java_and_go(tools)
    for path in sorted(CLIENTS.glob("*/gen/**/*")):
        if path.is_file():
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
