"""A stand-in for PagerDuty: Events API v2 on the loopback.

It records every event with its time, keeps incidents as PagerDuty does, refuses what PagerDuty's documentation calls invalid,
and can be told to be ill.

    with pagerduty() as pager:
        pager.behave("hang")
        ...
        pager.incidents()

    python -m tests.alerts.pagerduty --port 9096    # for a stack: prints each event as a line of JSON

Source: PagerDuty developer documentation, "Events API v2": overview (202, 400, 429, 5xx; 512 KB), trigger events (fields,
lengths, dedup_key), change events.
"""

import argparse
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

KEY = "0123456789abcdef0123456789abcdef"
BODY_BYTES_MAX = 512 * 1024
DEDUP_CHARS_MAX, SUMMARY_CHARS_MAX, KEY_CHARS = 255, 1024, 32
HANG_SECONDS_MAX = 60.0
ACTIONS, SEVERITIES = ("trigger", "acknowledge", "resolve"), ("critical", "error", "warning", "info")

# `lose_answer`: the event counts, and the connection is closed before its answer.
Behaviour = Literal["ok", "429", "500", "hang", "lose_answer"]
Action = Literal["trigger", "acknowledge", "resolve", "change"]


@dataclass(frozen=True, slots=True)
class Received:
    at: float
    action: Action
    dedup_key: str
    body: Mapping[str, Any]
    # What it was answered; 0: nothing.
    status: int

    @property
    def taken(self) -> bool:
        return self.status in (0, 202)


@dataclass(slots=True)
class Incident:
    key: str
    state: Literal["triggered", "acknowledged", "resolved"]
    # Everything that was applied to it, in order.
    log: list[str] = field(default_factory=list)


class PagerDuty:
    def __init__(self, port: int = 0, said: Callable[[Received], None] | None = None) -> None:
        self._lock = threading.Condition()
        self._received: list[Received] = []
        self._invalid: list[tuple[int, str]] = []
        self._incidents: list[Incident] = []
        self._behaviour: Behaviour = "ok"
        self._hanging = 0
        self._let_go = threading.Event()
        self._said = said or (lambda _: None)
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What makes it the escalator's pager."""
        return {"SPILLWAY_ESCALATOR_PAGERDUTY_KEY": KEY, "SPILLWAY_ESCALATOR_PAGERDUTY_URL": self.url}

    def behave(self, behaviour: Behaviour) -> None:
        with self._lock:
            self._behaviour = behaviour
            if behaviour != "hang":
                self._let_go.set()
                self._let_go = threading.Event()
            self._lock.notify_all()

    def go_away(self) -> None:
        """Connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def come_back(self) -> None:
        if self._server is None:
            self._server = _Server(("127.0.0.1", self._port), _handler(self))
            self._port = int(self._server.server_address[1])
            threading.Thread(target=self._server.serve_forever, args=(0.02,), name="pagerduty", daemon=True).start()

    def received(self) -> list[Received]:
        with self._lock:
            return list(self._received)

    def invalid(self) -> list[tuple[int, str]]:
        """What was answered with 400, and why: must be empty."""
        with self._lock:
            return list(self._invalid)

    def incidents(self) -> list[Incident]:
        with self._lock:
            return [Incident(each.key, each.state, list(each.log)) for each in self._incidents]

    def wait_until(self, holds: Callable[["PagerDuty"], bool], seconds_max: float, what: str) -> None:
        """Raises: AssertionError."""
        ends = time.monotonic() + seconds_max
        with self._lock:
            while not holds(self):
                left = ends - time.monotonic()
                if left <= 0 or not self._lock.wait(min(left, 0.5)):
                    assert time.monotonic() < ends, f"in {seconds_max:g} s not: {what}. Received: {self._received}"

    @property
    def hanging(self) -> int:
        """Requests that wait for an answer which does not come."""
        with self._lock:
            return self._hanging

    # -- what the handler asks

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """None: the connection is closed without a word."""
        with self._lock:
            behaviour, let_go = self._behaviour, self._let_go
            if behaviour == "hang":
                self._hanging += 1
                self._lock.notify_all()
        if behaviour == "hang":
            let_go.wait(HANG_SECONDS_MAX)
            with self._lock:
                self._hanging -= 1
            return None
        with self._lock:
            if behaviour in ("429", "500"):
                return int(behaviour), {"status": "throttled" if behaviour == "429" else "error", "message": "try again"}
            errors, event = _errors(path, body)
            if errors:
                self._invalid.append((400, "; ".join(errors)))
                self._lock.notify_all()
                return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            status = 202 if behaviour == "ok" else 0
            return self._take(path, event, status)

    def _take(self, path: str, event: dict[str, Any], status: int) -> tuple[int, dict[str, Any]] | None:
        action: Action = "change" if path == "/v2/change/enqueue" else event["event_action"]
        key = str(event.get("dedup_key", f"made-{len(self._received)}"))
        received = Received(time.time(), action, key, event, status)
        self._received.append(received)
        if action != "change":
            self._apply(action, key)
        self._said(received)
        self._lock.notify_all()
        if not status:
            return None
        return 202, {"status": "success", "message": "Event processed", "dedup_key": key}

    def _apply(self, action: Action, key: str) -> None:
        current = next((each for each in self._incidents if each.key == key and each.state != "resolved"), None)
        if action == "trigger":
            if current is None:
                current = Incident(key, "triggered")
                self._incidents.append(current)
            current.log.append("trigger")
        elif current is not None:
            current.state = "acknowledged" if action == "acknowledge" else "resolved"
            current.log.append(action)


def _errors(path: str, body: bytes) -> tuple[list[str], dict[str, Any]]:
    """What PagerDuty would refuse, in words like its own."""
    if path not in ("/v2/enqueue", "/v2/change/enqueue"):
        return [f"no such path: {path}"], {}
    if len(body) > BODY_BYTES_MAX:
        return ["body is larger than 512 KB"], {}
    try:
        event = json.loads(body)
    except ValueError:
        return ["JSON parse error"], {}
    if not isinstance(event, dict):
        return ["Event object format is unrecognized"], {}
    change = path == "/v2/change/enqueue"
    found = []
    if not re.fullmatch(rf"[A-Za-z0-9]{{{KEY_CHARS}}}", str(event.get("routing_key", ""))):
        found.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if not change and event.get("event_action") not in ACTIONS:
        found.append("'event_action' must be one of trigger, acknowledge, resolve")
    key = event.get("dedup_key")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= DEDUP_CHARS_MAX):
        found.append("'dedup_key' must be a text of at most 255 characters")
    if not change and event.get("event_action") in ("acknowledge", "resolve") and not key:
        found.append("'dedup_key' is required to acknowledge or resolve")
    if change or event.get("event_action") == "trigger":
        found += _payload_errors(event.get("payload"), change=change)
    return found + _address_errors(event), event


def _address_errors(event: dict[str, Any]) -> list[str]:
    wanted = [(each, name, needs) for name, needs in (("links", "href"), ("images", "src")) for each in event.get(name, [])]
    return [
        f"each of '{name}' needs '{needs}'"
        for each, name, needs in wanted
        if not isinstance(each, dict) or not str(each.get(needs, "")).startswith(("http://", "https://"))
    ]


def _payload_errors(payload: Any, *, change: bool) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing or blank"]
    found = []
    summary = payload.get("summary")
    if not isinstance(summary, str) or not summary.strip():
        found.append("'payload.summary' is missing or blank")
    elif len(summary) > SUMMARY_CHARS_MAX:
        found.append("'payload.summary' is longer than 1024 characters")
    if not change and not (isinstance(payload.get("source"), str) and payload["source"].strip()):
        found.append("'payload.source' is missing or blank")
    if not change and payload.get("severity") not in SEVERITIES:
        found.append("'payload.severity' is invalid (must be one of the following: critical, warning, error or info)")
    stamp = payload.get("timestamp")
    if stamp is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", str(stamp)):
        found.append("'payload.timestamp' is no ISO 8601 time")
    found += [
        f"'payload.{name}' is no text" for name in ("component", "group", "class") if not isinstance(payload.get(name, ""), str)
    ]
    if not isinstance(payload.get("custom_details", {}), dict):
        found.append("'payload.custom_details' is no object")
    return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().server_bind()


def _handler(pager: PagerDuty) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = pager.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if answer is None:
                self.close_connection = True
                return
            status, told = answer
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """It is recorded."""

    return Handler


@contextmanager
def pagerduty() -> Iterator[PagerDuty]:
    pager = PagerDuty()
    try:
        yield pager
    finally:
        pager.behave("ok")
        pager.go_away()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.alerts.pagerduty", description="A stand-in for PagerDuty.")
    parser.add_argument("--port", type=int, default=9096)

    def say(received: Received) -> None:
        line = {"at": received.at, "action": received.action, "dedup_key": received.dedup_key, "body": received.body}
        print(json.dumps(line), flush=True)

    pager = PagerDuty(parser.parse_args().port, say)
    print(json.dumps({"url": pager.url, **pager.environment()}), file=sys.stderr, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
