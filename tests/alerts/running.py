"""The escalator as a process for a test, with a stand-in for Alertmanager's API, and messages as Alertmanager posts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
READY_SECONDS_MAX, END_SECONDS_MAX, ASK_SECONDS_MAX = 60.0, 10.0, 10.0
BEGAN = "2026-11-26T04:00:00.123456789Z"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def alert(name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    """One alert of a message."""
    every = {"alertname": name, "severity": "page", "kind": "symptom", "owner": "pipeline", "policy": "default", **labels}
    said = {
        "summary": f"{name}: probes do not reach redis",
        "feels": "Hot state is old.",
        "cause": "RedisErrors: redis refuses connections",
        "budget": "61 % of this month's",
        "dashboard": "http://127.0.0.1:8088/d/spillway-hop-redis",
        "runbook": f"http://127.0.0.1:8088/runbooks/{name}",
        "trace": "http://127.0.0.1:8088/traces?q=x",
    }
    fingerprint = f"{name}/{'/'.join(sorted(labels.values()))}"
    return {
        "status": status,
        "labels": every,
        "annotations": said,
        "startsAt": BEGAN,
        "endsAt": BEGAN,
        "fingerprint": fingerprint,
    }


def posted(*alerts: dict[str, Any]) -> dict[str, Any]:
    """A message of Alertmanager's webhook, version 4."""
    name = alerts[0]["labels"]["alertname"]
    return {
        "version": "4", "groupKey": f'{{}}:{{alertname="{name}"}}', "truncatedAlerts": 0, "receiver": "escalator",
        "status": "firing", "groupLabels": {"alertname": name}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "",
        "alerts": list(alerts),
    }  # fmt: skip


@dataclass(slots=True)
class Escalator:
    url: str
    health: str
    folder: Path
    arguments: Sequence[str]
    env: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    _starts: int = field(default=0)

    def start(self) -> None:
        self._starts += 1
        with (self.folder / f"escalator-{self._starts}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "alerts.escalator", *self.arguments], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )
        wait_until(self._is_ready, READY_SECONDS_MAX, self.log)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(END_SECONDS_MAX)

    def end(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def log(self) -> str:
        return (self.folder / f"escalator-{self._starts}.log").read_text()

    def ask(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status, and the answer: read as JSON if it is that."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        try:
            with _opener.open(urllib.request.Request(self.url + path, data, sent), timeout=ASK_SECONDS_MAX) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as exc:
            return exc.code, _read(exc.read())

    def post(self, *alerts: dict[str, Any]) -> int:
        return self.ask("/alertmanager", posted(*alerts))[0]

    def pages(self, state: str = "all") -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = self.ask(f"/api/pages?state={state}")[1]["pages"]
        return pages

    def page(self, name: str) -> dict[str, Any]:
        """The newest of this alert."""
        return next(page for page in self.pages() if page["alert"] == name)

    def wait_for(self, holds: Callable[[], Any], seconds_max: float = 15.0) -> None:
        wait_until(holds, seconds_max, self.log)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            with _opener.open(f"{self.health}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def escalator(folder: Path, alertmanager: str = "", **env: str) -> Iterator[Escalator]:
    port, health = _free_port(), _free_port()
    arguments = ["--port", str(port), "--health-port", str(health), "--data", str(folder / "data")]
    arguments += ["--alertmanager", alertmanager or f"http://127.0.0.1:{_free_port()}"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")}
    env = {"SPILLWAY_ESCALATOR_TEST_EVERY_SECONDS": "0", **env}
    running = Escalator(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{health}", folder, arguments, {**clean, **env})
    try:
        running.start()
        yield running
    finally:
        running.end()


@contextmanager
def alertmanager_api() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """`/api/v2/alerts` that has nothing, and what was posted to it."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"[]")

        def do_POST(self) -> None:
            taken.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """It is recorded."""

    with _serving(Handler) as url:
        yield url, taken


@dataclass(slots=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[Request]]]:
    """Takes any POST, as a Slack or a program would."""
    got: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """It is recorded."""

    with _serving(Handler) as url:
        yield url, got


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def wait_until(holds: Callable[[], Any], seconds_max: float, log: Callable[[], str]) -> None:
    ends = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < ends, f"not in {seconds_max:g} s; the log says:\n{log()[-4000:]}"
        time.sleep(0.05)


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
