"""Debian's Alertmanager for a test: on a free port, with our configuration, ended by the test; and who hears what it tells."""

import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.stack.debian import Debian

READY_SECONDS_MAX, END_SECONDS_MAX, ASK_SECONDS_MAX = 20, 10, 10
CACHE = Path(__file__).parents[2] / ".cache"
# A whole hour from now: what is not resolved is firing.
FIRING_SECONDS = 3600


@dataclass(slots=True)
class Hearer:
    """A webhook that remembers what it was told: (alert, status), in that order."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    _came: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: dict[str, Any]) -> None:
        with self._came:
            self.bodies.append(body)
            self.at.append(time.monotonic())
            self._came.notify_all()

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(alert["labels"]["alertname"], alert["status"]) for body in self.bodies for alert in body["alerts"]]

    def wait_until(self, true: Callable[[], bool], seconds_max: float = 15.0) -> None:
        with self._came:
            assert self._came.wait_for(true, seconds_max), f"not within {seconds_max} s; told: {self.told}"

    def wait_for(self, alert: str, status: str = "firing") -> None:
        self.wait_until(lambda: (alert, status) in self.told)


@contextmanager
def hearer() -> Iterator[Hearer]:
    heard = Hearer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    heard.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join(END_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Alertmanager:
    url: str

    def post(self, *labels: dict[str, str], resolved: bool = False) -> None:
        """Alerts that fire since a second ago, which is longer than any group waits here, or have just ended."""
        now = time.time()
        ends = now - 0.001 if resolved else now + FIRING_SECONDS
        alerts = [{"labels": each, "startsAt": _time(now - 1), "endsAt": _time(ends)} for each in labels]
        asked = urllib.request.Request(
            f"{self.url}/api/v2/alerts", json.dumps(alerts).encode(), {"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(asked, timeout=ASK_SECONDS_MAX):
            return

    def states(self) -> dict[str, str]:
        """Alert by name: active, suppressed or unprocessed."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=ASK_SECONDS_MAX) as answer:
            return {each["labels"]["alertname"]: each["status"]["state"] for each in json.load(answer)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[Alertmanager]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "alertmanager.json"
    file.write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tool = Debian(CACHE).alertmanager()
    command = [str(tool.programs / "prometheus-alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=tool.root, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "log")
            yield Alertmanager(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def amtool(*arguments: str) -> tuple[int, str]:
    """Exit code, and what it says."""
    command = [str(Debian(CACHE).alertmanager().programs / "amtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # It warns of a choice that we did not make.
    return done.returncode, (done.stdout + ("" if done.returncode == 0 else done.stderr)).strip()


def receivers_of(config: Path, labels: Sequence[str]) -> str:
    """Who is told of an alert with these labels."""
    code, said = amtool("config", "routes", "test", f"--config.file={config}", *labels)
    assert code == 0, said
    return said


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"Alertmanager is not ready: {log.read_text()[-2000:]}")
