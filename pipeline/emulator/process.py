"""The served model as a child process: for tests, drills and the bench."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02


class Served:
    """One emulator process on a free port of 127.0.0.1. It keeps its port and state over `kill` and `start`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Raises: RuntimeError where it does not listen in time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pipeline.emulator", "--port", str(self.port), "--port-file", str(port_file)]
        command += ["--state", str(self._folder / "state"), *self._options]
        with (self._folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ}, cwd=_root())
        deadline_s = time.monotonic() + START_SECONDS_MAX
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"the emulator did not start: see {self._folder / 'server.log'}")
            time.sleep(POLL_SECONDS)
        self.port = int(port_file.read_text())

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the emulator is not running")
        return self._process.pid

    def wait(self) -> int:
        """Its exit code, once it has ended by itself. Raises: subprocess.TimeoutExpired."""
        if self._process is None:
            raise RuntimeError("the emulator is not running")
        code = self._process.wait(STOP_SECONDS_MAX)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS_MAX)
            self._process = None

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._process = None


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
