"""Pages of lost events hold their ids, as the ledger tells them; a ledger that does not answer delays no page for long."""

import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alerts.escalator.__main__ import channels_of, setup_of
from alerts.escalator.alertmanager import Alertmanager
from alerts.escalator.clock import Clock
from alerts.escalator.engine import Engine
from alerts.escalator.naming import CLASSES, NAME_CHARS_MAX, NAMED_MAX, by_ledger, names
from alerts.escalator.service import Service
from alerts.escalator.settings import EscalatorSettings
from alerts.escalator.store import Sqlite
from alerts.rules import ALERTS
from canary.ledger.books import Window
from canary.ledger.judge import Class, Finding
from canary.ledger.status import Status, as_json
from canary.ledger.verdicts import Judged
from pipeline.ledger.identity import Name
from telemetry.log import configure
from telemetry.metrics import Metrics
from tests.alerts.running import alert, posted, wait_until

LOST = frozenset(("LOST",))


def finding(id: str | None, kind: str = "LOST", hop: str = "redactor") -> Finding:
    return Finding(Class(kind), hop, "not seen further on", 1 if id else None, Name(id, "/flights"))


def answer(*findings: Finding) -> bytes:
    """What the ledger says when it has judged so."""
    return as_json(Status(0.0, 0), [Judged(Window("airline", "grpc", 0), Class.LOST, 100, 0.0, findings)])


def said(hop: str, *findings: Finding) -> str:
    return names(json.loads(answer(*findings)), LOST, hop)


@contextmanager
def ledger(status: int, body: bytes) -> Iterator[str]:
    """A stand-in for the ledger's health port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ledger.json" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def told(folder: Path, url: str, *alerts: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of the log channel, which has told each of these alerts."""
    lines = io.StringIO()
    settings, log = EscalatorSettings(test_every_seconds=0.0), configure("escalator", stream=lines)
    channels = channels_of({}, settings, log)
    store = Sqlite(folder)
    engine = Engine(store, Clock(), setup_of(channels, settings, "http://console"))
    one = Service(
        engine, store, channels, Alertmanager("http://127.0.0.1:9"), settings, b"secret", Metrics(), log, by_ledger(url)
    )  # fmt: skip

    def triggered() -> list[dict[str, Any]]:
        return [line for line in map(json.loads, lines.getvalue().splitlines()) if line["event"] == "page trigger"]

    one.begin()
    try:
        for each in alerts:
            one.take(posted(each))
        wait_until(lambda: len(triggered()) == len(alerts), 10, lines.getvalue)
    finally:
        one.end()
        store.close()
    return triggered()


def test_a_page_of_lost_events_holds_the_ids_of_those_at_its_hop_and_no_others(tmp_path: Path) -> None:
    findings = [finding("a-1"), finding("b-2", "DOUBLED"), finding("c-3", hop="etl"), finding("d-4"), finding(None)]
    with ledger(200, answer(*findings)) as url:
        (line,) = told(tmp_path, url, alert("AckedUnaccounted", hop="redactor"))
    assert "a-1, d-4" == line["facts"]["Events"]


@pytest.mark.parametrize(("status", "body"), [(503, b""), (200, b"no JSON"), (200, b"[]"), (200, b'{"findings": [{}]}')])
def test_a_ledger_that_does_not_answer_as_it_should_stops_no_page(tmp_path: Path, status: int, body: bytes) -> None:
    with ledger(status, body) as url:
        (line,) = told(tmp_path, url, alert("AckedUnaccounted", hop="redactor"))
    assert "AckedUnaccounted" in line["title"]
    assert "Events" not in line["facts"]


def test_a_ledger_that_is_away_stops_no_page(tmp_path: Path) -> None:
    with ledger(200, b"{}") as url:
        pass
    (line,) = told(tmp_path, url, alert("AckedUnaccounted", hop="redactor"))
    assert "Events" not in line["facts"]


def test_of_many_some_are_named_and_the_rest_is_counted() -> None:
    few = ", ".join(f"id-{number}" for number in range(NAMED_MAX))
    assert f"{few} and 7 more" == said("redactor", *(finding(f"id-{number}") for number in range(NAMED_MAX + 7)))


def test_personal_data_in_an_id_does_not_leave_the_house_and_a_long_one_is_cut() -> None:
    text = said("redactor", finding("order-of-ann@example.com"), finding("x" * 1000))
    assert "ann@example.com" not in text
    assert text.endswith(", " + "x" * (NAME_CHARS_MAX - 1) + "…")


def test_a_page_without_a_hop_is_of_all_and_one_of_the_backup_of_each_stream_of_it() -> None:
    findings = [finding("a", hop="backup/web-events"), finding("b", hop="etl"), finding("a", hop="backup")]
    assert ["a, b", "a, b", "a", "b"] == [said(hop, *findings) for hop in ("", "other", "backup", "etl")]


def test_the_alerts_and_classes_are_those_that_there_are() -> None:
    assert set(CLASSES) <= {each.name for each in ALERTS}
    assert frozenset().union(*CLASSES.values()) <= {each.value for each in Class}
