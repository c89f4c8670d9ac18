"""Runs the Node scripts of this folder, which drive a headless Chromium; says why if they can't."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
INSTALL_SECONDS_MAX = 120
RUN_SECONDS_MAX = 180


class BrowserMissing(Exception):
    """Chromium, Node or the one package is not to be had; the text says what to do."""


def prepare() -> str:
    """The path of Chromium. Installs playwright-core, a driver without browsers of its own, where it is not yet.

    Raises:
        BrowserMissing: something is lacking.
    """
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise BrowserMissing("chromium is not installed: apt-get install --no-install-recommends chromium fonts-dejavu-core")
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise BrowserMissing("node and npm are not installed: apt-get install nodejs npm")
    if not (FOLDER / "node_modules" / "playwright-core").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
        if done.returncode != 0:
            raise BrowserMissing(f"npm ci failed, without a network perhaps: {done.stderr.strip()[-300:]}")
    return chromium


def require_browser() -> None:
    """Skip, with the reason, where a browser can't be driven."""
    try:
        prepare()
    except BrowserMissing as exc:
        pytest.skip(str(exc))


def run(script: str, **asked: Any) -> Any:
    """What the script prints, as JSON; its errors are ours."""
    environment = {**os.environ, "CHROMIUM": prepare()}
    done = subprocess.run(
        ["node", script, json.dumps(asked)], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stderr[-4000:]}\n{done.stdout[-1000:]}"
    return json.loads(done.stdout)
