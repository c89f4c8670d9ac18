"""The store as a child process: for tests, drills and the bench."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
_ROOT = Path(__file__).resolve().parents[2]


class Served:
    """One store process on free ports of 127.0.0.1; it keeps them and its folder over `kill` and `start`."""

    def __init__(self, folder: Path, *options: str, log: Path | None = None) -> None:
        """`log`: where it writes what it says, if not beside the folder."""
        self.folder, self._options = folder, options
        self.log = log or folder.with_name(folder.name + ".log")
        self.ports: Mapping[str, int] = {"grpc_port": 0, "http_port": 0, "health_port": 0}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http_port']}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the store is not running")
        return self._process.pid

    def start(self) -> None:
        """Raises: RuntimeError: it does not serve in time."""
        command = [sys.executable, "-m", "telemetry.store", "--folder", str(self.folder), *self._options]
        for name, port in self.ports.items():
            command += [f"--{name.replace('_', '-')}", str(port)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ}, cwd=_ROOT)
        deadline = time.monotonic() + START_SECONDS_MAX
        while (serving := self._serving(begin)) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the store does not serve: {self.log.read_bytes()[begin:].decode()[-2000:]}")
            time.sleep(POLL_SECONDS)
        self.ports = {name: int(serving[name]) for name in self.ports}

    def _serving(self, begin: int) -> Mapping[str, int] | None:
        """Its line that says on which ports it serves."""
        for line in self.log.read_bytes()[begin:].decode(errors="replace").splitlines():
            if '"event": "serving"' in line:
                said: Mapping[str, int] = json.loads(line)
                return said
        return None

    def cpu_seconds(self) -> float:
        """What the process has used of the processors so far. Source: proc(5), fields 14 and 15 of stat."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes_max(self) -> int:
        """The most memory that the process has had."""
        (line,) = (line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

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
