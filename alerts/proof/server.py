"""A Prometheus of our own that scrapes nobody and has no rules: series are written to it, expressions asked of it at any time.

Its head block is wide enough for months, so that series may be written in any order of time, and nothing is compacted meanwhile.
It lives in a folder for as long as the question takes.
"""

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from alerts.proof.series import Series, write_request

READY_SECONDS_MAX, END_SECONDS_MAX, ASK_SECONDS_MAX = 30, 30, 600
# Of one answer. Source: Prometheus' web/api/v1, `query_range`: more than 11,000 points per series are refused.
POINTS_MAX = 11_000
# Larger requests cost more a sample.
WRITE_BYTES_MAX = 1 << 20
_MONTHS = "400d"
# Collect when the heap has grown so many percent: memory for time.
_GARBAGE = "1000"


# Prometheus processes that run now.
_running: set["subprocess.Popen[bytes]"] = set()
_ended = threading.Event()


class ProofError(Exception):
    """Prometheus is not there, or did not do what was asked; its words."""


@dataclass(slots=True)
class Server:
    port: int
    process: "subprocess.Popen[bytes]"
    _connection: http.client.HTTPConnection | None = None

    def write(self, series: Iterable[Series]) -> int:
        """Returns how many samples. The times of each series rise.

        Raises:
            ProofError: refused.
        """
        count, held, size = 0, list[Series](), 0
        for each in series:
            if not len(each.times_ms):
                continue
            held.append(each)
            count, size = count + len(each.times_ms), size + 20 * len(each.times_ms) + 300
            if size > WRITE_BYTES_MAX:
                self._write(held)
                held, size = [], 0
        if held:
            self._write(held)
        return count

    def _write(self, series: Sequence[Series]) -> None:
        headers = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
        headers |= {"x-prometheus-remote-write-version": "0.1.0"}
        self._ask("/api/v1/write", write_request(series), headers)

    def query_range(self, expr: str, times_ms: range) -> list[Series]:
        """The expression at each of these times.

        Raises:
            ProofError: refused.
        """
        found: dict[tuple[tuple[str, str], ...], list[tuple[list[float], list[str]]]] = {}
        for first in range(0, len(times_ms), POINTS_MAX):
            part = times_ms[first : first + POINTS_MAX]
            words = {"query": expr, "start": f"{part[0] / 1000:.3f}", "end": f"{part[-1] / 1000:.3f}"}
            words["step"] = f"{times_ms.step / 1000:.3f}"
            for one in self._get("/api/v1/query_range", words)["result"]:
                times, values = zip(*one["values"], strict=True)
                found.setdefault(tuple(sorted(one["metric"].items())), []).append((list(times), list(values)))
        return [
            Series(
                dict(labels),
                np.rint(np.concatenate([np.array(times) for times, _ in parts]) * 1000).astype(np.int64),
                np.concatenate([np.array(values, dtype=np.float64) for _, values in parts]),
            )
            for labels, parts in found.items()
        ]

    def cpu_seconds(self) -> float:
        """Of the server, until now."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / 100

    def _get(self, path: str, words: dict[str, str]) -> dict[str, Any]:
        form = urllib.parse.urlencode(words).encode()
        answer = orjson.loads(self._ask(path, form, {"content-type": "application/x-www-form-urlencoded"}))
        if answer.get("warnings"):
            raise ProofError(f"{words['query']}: {answer['warnings']}")
        data: dict[str, Any] = answer["data"]
        return data

    def _ask(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_SECONDS_MAX)
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise ProofError(f"{path}: {answer.status} {said.decode(errors='replace')[:2000]}")
        return said


def programs_of(environment: Mapping[str, str]) -> Path:
    """The folder of `prometheus`: where it is installed, else where `spillway up` keeps what it fetched.

    Raises:
        ProofError: neither is there.
    """
    installed = shutil.which("prometheus", path=environment.get("PATH", os.defpath))
    cache = Path(environment.get("SPILLWAY_CACHE_DIR") or Path(__file__).parents[2] / ".cache") / "debian/prometheus"
    if installed is not None:
        return Path(installed).parent
    if (cache / "complete").exists():
        return cache / "root/usr/bin"
    raise ProofError(
        f"no `prometheus` on PATH nor in {cache}: `spillway up` fetches it; or install it; or say `--programs FOLDER`"
    )


def end_all() -> None:
    """Every server, and whoever waits for one: none is begun any more in this process."""
    _ended.set()
    for process in list(_running):
        process.kill()
        process.wait(END_SECONDS_MAX)


@contextmanager
def server(programs: Path, folder: Path) -> Iterator[Server]:
    """`programs`: the folder of `prometheus`; `folder`: for its data: what is there is removed.

    Raises:
        ProofError: it does not start.
    """
    if _ended.is_set():
        raise ProofError("this process is ending")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "tsdb", ignore_errors=True)
    (folder / "prometheus.yml").write_text("{}")
    port = _free_port()
    command = [
        # Should one begin while all are ended, or this process be killed.
        *(("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()),
        str(programs / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=warn"]
    command += [f"--storage.tsdb.min-block-duration={_MONTHS}", f"--storage.tsdb.max-block-duration={_MONTHS}"]
    command += ["--storage.tsdb.retention.time=100y", "--query.max-samples=500000000", "--query.timeout=10m"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "GOGC": _GARBAGE})
    _running.add(process)
    try:
        _wait_until_ready(port, process, folder / "log")
        yield Server(port, process)
    finally:
        _running.discard(process)
        # Its data is not wanted any more: nothing to write down.
        process.kill()
        process.wait(END_SECONDS_MAX)


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < ends and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/-/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise ProofError(f"Prometheus is not ready: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
