"""Runs the Node client; says why if it can't."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

NODE_CLIENT = Path(__file__).resolve().parents[2] / "clients" / "node"
INSTALL_SECONDS_MAX = 120
SEND_SECONDS_MAX = 60


def require_node() -> None:
    """Skip, with the reason, where the client can't run; install its two packages where it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: apt-get install nodejs npm")
    if (NODE_CLIENT / "node_modules" / "@grpc" / "grpc-js").exists():
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=NODE_CLIENT, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    if done.returncode != 0:
        pytest.skip(f"npm ci failed, without a network perhaps: {done.stderr.strip()[-300:]}")


def send(target: str, key: str, lines: Sequence[object], deadline_millis: int = 20_000) -> tuple[int, list[list[str]], str]:
    """Exit code, the answers as lists of columns, and standard error of `send.mjs` for these lines."""
    environment = {
        "PATH": os.environ["PATH"],
        "SPILLWAY_COLLECTOR": target,
        "SPILLWAY_KEY": key,
        "SPILLWAY_DEADLINE_MILLIS": str(deadline_millis),
    }
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = subprocess.run(
        ["node", "send.mjs"],
        cwd=NODE_CLIENT,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=SEND_SECONDS_MAX,
    )
    return done.returncode, [line.split("\t") for line in done.stdout.splitlines()], done.stderr
