"""Asking a trace store: ours, a Tempo, something that is neither, and one that is away or slow."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from telemetry.otlp import LogLine
from telemetry.store_client import Away, Refused, TraceStore, Within, quoted
from tests.explain.conftest import RealStore
from tests.explain.trail import BEGAN_NS, Trail

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
WITHIN = Within(BEGAN_NS // 10**9 - 60, BEGAN_NS // 10**9 + 60)
Answer = tuple[int, bytes]


@contextmanager
def serving(answer: Callable[[str], Answer], write: Callable[[Any, bytes], None] | None = None) -> Iterator[str]:
    """A server on loopback that answers GET by its path with query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            with contextlib.suppress(OSError):  # the asker may have gone
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                (write or (lambda out, body: out.write(body)))(self.wfile, body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def tempo(pages: dict[str, Any]) -> Callable[[str], Answer]:
    """Tempo as far as it is asked here: it has neither events nor lines, and says 404 of what it does not know."""

    def answer(path: str) -> Answer:
        if path == "/api/echo":
            return 200, b"echo"
        page = pages.get(urlsplit(path).path)
        return (404, b"") if page is None else (200, json.dumps(page(path) if callable(page) else page).encode())

    return answer


# -- ours


def test_the_spans_and_lines_of_a_trace_are_had_by_its_id(store: RealStore) -> None:
    trail = Trail("asked").by_sdk()
    store.takes(*trail.emitted)
    store.takes_lines([LogLine(5, "warning", "stopped", trail.trace.hex_id, {"detail": "why"})], "redactor")
    spans = store.client.trace(trail.trace.hex_id)
    assert spans is not None
    assert {"sdk", "grpc-door", "grpc-door/write"} == {span.hop for span in spans}
    (line,) = store.client.lines(trace_id=trail.trace.hex_id) or ()
    assert (5, "warning", "stopped", "redactor", "redactor-1", "why") == (
        line.time_ns, line.level, line.event, line.part, line.worker, line.fields["detail"],
    )  # fmt: skip


@pytest.mark.parametrize("id", ["plain", "with/slash?&#", 'quote"\\', "ünï ☃", "../..", "%2F", " "])
def test_the_traces_of_an_event_are_had_by_any_id(store: RealStore, id: str) -> None:
    trail = Trail(id).by_sdk()
    store.takes(*trail.emitted)
    assert [trail.trace.hex_id] == store.client.traces_of_event(id, WITHIN)


def test_a_trace_that_is_not_there_is_none(store: RealStore) -> None:
    assert store.client.trace("00" * 15 + "07") is None
    assert [] == store.client.traces_of_event("never", WITHIN)


def test_the_last_sign_of_a_hop_is_the_end_of_its_newest_span(store: RealStore) -> None:
    now_ns = time.time_ns()
    for age_seconds in (300, 100, 200):
        trail = Trail(f"sign-{age_seconds}")
        began = (now_ns - BEGAN_NS) / 1e9 - age_seconds
        store.takes(*trail.says("transcoder", began, began + 7.0).emitted)
    assert now_ns / 1e9 - 93.0 == pytest.approx(store.client.last_sign_ns("transcoder", now_ns / 1e9) / 1e9, abs=0.001)
    assert 0 == store.client.last_sign_ns("no-such-hop", now_ns / 1e9)


# -- any Tempo


def test_a_tempo_is_searched_for_the_traces_of_an_event_within_a_time() -> None:
    asked: list[str] = []

    def search(path: str) -> Any:
        asked.append(path)
        # Tempo leaves leading zeros out.
        return {"traces": [{"traceID": TRACE_ID}, {"traceID": "abc"}, {"traceID": TRACE_ID}]}

    with serving(tempo({"/api/search": search})) as url:
        assert [TRACE_ID, "abc".zfill(32)] == TraceStore(url).traces_of_event('e"1', WITHIN)
    query = parse_qs(urlsplit(asked[0]).query)
    assert ['{ span.cloudevents.event_id = "e\\"1" }'] == query["q"]
    assert ([str(WITHIN.start)], [str(WITHIN.end)]) == (query["start"], query["end"])


def test_a_tempo_keeps_no_lines_and_that_is_not_the_same_as_none_found() -> None:
    with serving(tempo({})) as url:
        assert TraceStore(url).lines(trace_id=TRACE_ID) is None
        assert TraceStore(url).trace(TRACE_ID) is None


def test_a_path_before_the_api_is_kept() -> None:
    """Such as Grafana's proxy of a data source."""
    with serving(lambda path: (200, b'{"batches": []}') if path == f"/proxy/x/api/traces/{TRACE_ID}" else (500, b"")) as url:
        assert TraceStore(f"{url}/proxy/x/").trace(TRACE_ID) is None


def test_no_proxy_of_the_environment_stands_between(store: RealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        assert store.client.trace("00" * 15 + "07") is None


# -- neither


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: (404, b"nothing here"),
        lambda _: (200, b"<html>"),
        lambda _: (200, b"[1]"),
        lambda _: (200, b'{"batches": 7}'),
        lambda _: (200, b'{"batches": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]}]}'),
        lambda _: (200, b"\xff\xfe"),
        lambda _: (401, b"who are you?"),
        lambda _: (504, b"given up after 10 s"),
    ],
    ids=["404", "html", "list", "number", "time", "bytes", "401", "504"],
)
def test_what_is_no_store_or_says_no_never_means_that_there_is_no_trace(answer: Callable[[str], Answer]) -> None:
    with serving(answer) as url, pytest.raises(Refused):
        TraceStore(url).trace(TRACE_ID)


def test_what_a_store_says_when_it_refuses_is_told() -> None:
    with serving(lambda _: (504, b"given up after 10 s: ask for a shorter time range\n")) as url:
        with pytest.raises(Refused) as told:
            TraceStore(url).trace(TRACE_ID)
        assert f"the trace store at {url} says 504: given up after 10 s: ask for a shorter time range" == str(told.value)


def test_an_answer_without_an_end_is_given_up_by_a_deadline_over_the_whole() -> None:
    """Each byte comes well within the deadline of one read."""
    going = threading.Event()

    def drip(out: Any, body: bytes) -> None:
        while not going.wait(0.02):
            out.write(b" ")
            out.flush()

    with serving(lambda _: (200, b" " * 10_000_000), drip) as url:
        began = time.monotonic()
        with pytest.raises(Away, match=r"nothing in 0.3 s|does not answer"):
            TraceStore(url, ask_seconds_max=0.3).trace(TRACE_ID)
        assert time.monotonic() - began < 3.0
        going.set()


def test_a_server_that_says_nothing_is_away() -> None:
    going = threading.Event()

    def silent(_: str) -> Answer:
        going.wait(10.0)
        return 200, b"{}"

    with serving(silent) as url:
        with pytest.raises(Away, match=r"does not answer: nothing in 0\.2 s"):
            TraceStore(url, ask_seconds_max=0.2).trace(TRACE_ID)
        going.set()


@pytest.mark.parametrize("url", ["", "localhost:4318", "ftp://localhost", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused_before_it_is_asked(url: str) -> None:
    with pytest.raises(ValueError, match="is no address of a trace store"):
        TraceStore(url)


def test_a_string_of_traceql_is_quoted() -> None:
    assert '"a\\"b\\\\c\\nd"' == quoted('a"b\\c\nd')
