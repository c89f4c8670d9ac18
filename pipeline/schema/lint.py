"""`buf` on proto/, offline: its style, and that nothing that is deployed is broken.

    python -m pipeline.schema.lint             lint, and compare with proto/baseline.binpb
    python -m pipeline.schema.lint --accept    the same, and then make today's schema the baseline

The baseline is the schema that producers and stored events rely on: a committed file, so that a clone without history compares as
well. Accept it with a release, or whenever a new field has left the author's machine. A renumbered, retyped or deleted field,
type or file is refused until then and after; only a baseline that is deleted by hand lets one through.
`buf` gets a workspace in a scratch folder, since the rules of validation come from the installed protovalidate, not from a
registry.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.schema.compile import PROTO_DIR
from pipeline.schema.validate_proto import validate_proto_text

BASELINE = PROTO_DIR / "baseline.binpb"
_BUF_SECONDS_MAX = 60.0


def complaints(proto_dir: Path = PROTO_DIR, baseline: Path = BASELINE, *, accept: bool = False) -> list[str]:
    """What `buf` has to say, a line each; empty if all is well. With `accept` and nothing to say, the baseline is written."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch)
        shutil.copytree(proto_dir, workspace / "proto", ignore=shutil.ignore_patterns("buf.yaml", "*.binpb", "*.md"))
        shutil.copy(proto_dir / "buf.yaml", workspace / "buf.yaml")
        rules = workspace / "rules" / "buf" / "validate"
        rules.mkdir(parents=True)
        (rules / "validate.proto").write_text(validate_proto_text())
        found = _buf(workspace, "lint", "proto")
        if baseline.exists():
            found += _buf(workspace, "breaking", "proto", "--against", str(baseline.resolve()))
        elif not accept:
            found.append(f"{baseline.name} is missing: what is deployed is not known; make it by --accept")
        if accept and not found:
            found += _buf(workspace, "build", "proto", "--exclude-source-info", "-o", str(baseline.resolve()))
    return found


def _buf(workspace: Path, *arguments: str) -> list[str]:
    beside = Path(sys.executable).parent / "buf"
    command = str(beside) if beside.exists() else shutil.which("buf")
    if command is None:
        return ["buf is not installed: it is the package buf-bin among the development dependencies"]
    ran = subprocess.run(
        [command, *arguments], cwd=workspace, capture_output=True, text=True, timeout=_BUF_SECONDS_MAX, check=False
    )
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    if ran.returncode != 0:
        return said or [f"buf {arguments[0]} ended with {ran.returncode}"]
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.schema.lint", description="buf on proto/, offline")
    parser.add_argument("--accept", action="store_true", help="make today's schema the baseline, if it breaks nothing")
    accept = parser.parse_args(arguments).accept
    found = complaints(accept=accept)
    print("\n".join(found) or ("proto/baseline.binpb is written" if accept else "proto/ is in style and breaks nothing"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
