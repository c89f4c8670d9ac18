"""From `.proto` files to descriptors and stubs.

Two users. `make gen` (`python -m pipeline.schema.compile`) writes `pipeline/gen/`: Python stubs for the envelope and for
the events, and `schema.binpb`, the descriptor set of everything under `proto/`, which the schema registry reads.
A running part compiles the folder of a user's own protos (setting `proto_dir`) with the same function, so that adding an
event type there needs no code of ours either.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from google.protobuf import descriptor_pb2

from pipeline.errors import InvalidSchema
from pipeline.schema.validate_proto import validate_proto_text

ROOT = Path(__file__).resolve().parents[2]
PROTO_DIR = ROOT / "proto"
GEN_DIR = ROOT / "pipeline" / "gen"
SCHEMA_FILE = GEN_DIR / "schema.binpb"

# `from spillway.v1 import x_pb2` becomes `from pipeline.gen.spillway.v1 import x_pb2`: `spillway` is our command's module.
_IMPORT = re.compile(r"^(from|import) (spillway|cloudevents|buf)(\.[\w.]+)? ", re.MULTILINE)


def compile_folder(folder: Path) -> descriptor_pb2.FileDescriptorSet:
    """Descriptors of every `.proto` file under `folder` and of all that they import.

    Raises:
        InvalidSchema: there is no such folder, no file in it, or protoc refuses one; the message is protoc's own.
    """
    sources = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    if not sources:
        raise InvalidSchema(f"{folder}: no .proto file in this folder; name a folder that holds your event types")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "schema.binpb"
        _protoc([folder, PROTO_DIR], ["--include_imports", f"--descriptor_set_out={out}"], sources, Path(scratch))
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _protoc(roots: Sequence[Path], outputs: Sequence[str], sources: Sequence[str], scratch: Path) -> None:
    rules = scratch / "rules"
    (rules / "buf" / "validate").mkdir(parents=True, exist_ok=True)
    (rules / "buf" / "validate" / "validate.proto").write_text(validate_proto_text())
    includes = [*dict.fromkeys(roots), rules, files("grpc_tools").joinpath("_proto")]
    arguments = ["protoc", *(f"-I{root}" for root in includes), *outputs, *sources]
    from grpc_tools import protoc

    code, complaint = _captured(lambda: protoc.main(arguments), scratch)
    if code != 0:
        raise InvalidSchema(f"protoc refused {', '.join(map(str, roots[:1]))}:\n{complaint}")


def _captured(run: Callable[[], int], scratch: Path) -> tuple[int, str]:
    """protoc is C++ and writes to file descriptor 2; what it says belongs in our error."""
    kept = os.dup(2)
    log = scratch / "protoc.log"
    with log.open("wb") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            code = run()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return int(code), log.read_text(errors="replace").strip()


def generate() -> list[Path]:
    """Write `pipeline/gen/` anew and return its files."""
    shutil.rmtree(GEN_DIR, ignore_errors=True)
    GEN_DIR.mkdir(parents=True)
    sources = sorted(str(path.relative_to(PROTO_DIR)) for path in PROTO_DIR.rglob("*.proto"))
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(
            [PROTO_DIR],
            [
                f"--python_out={GEN_DIR}",
                f"--mypy_out=quiet:{GEN_DIR}",
                f"--grpc_python_out={GEN_DIR}",
                f"--mypy_grpc_out=quiet:{GEN_DIR}",
                "--include_imports",
                f"--descriptor_set_out={SCHEMA_FILE}",
            ],
            [*sources, "buf/validate/validate.proto"],
            Path(scratch),
        )
    for path in GEN_DIR.rglob("*_grpc.py*"):
        if "class " not in path.read_text():
            path.unlink()
    for path in [*GEN_DIR.rglob("*.py"), *GEN_DIR.rglob("*.pyi")]:
        path.write_text(_IMPORT.sub(r"\1 pipeline.gen.\2\3 ", path.read_text()))
    for folder in [GEN_DIR, *(p for p in GEN_DIR.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    return sorted(path for path in GEN_DIR.rglob("*") if path.is_file())


if __name__ == "__main__":
    for written in generate():
        print(written.relative_to(ROOT))
