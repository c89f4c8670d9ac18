"""The console as a process over a real Prometheus and a real trace store."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from dashboards.queries import dashboards, panels
from telemetry.hops import HOPS
from tests.console.live import KNOWN, ROOT, Live, console
from tests.console.parsed import Parsed
from tests.dashboards.stand_in import PROCESSES

pytestmark = pytest.mark.stack
END_SECONDS_MAX = 10.0
# A name that a recording rule writes. This Prometheus has no rules.
RECORDED = re.compile(r"\b[a-z_]+:[a-z_:0-9]+")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30.0) as answer:
        return json.loads(answer.read())


def page(url: str) -> Parsed:
    with urllib.request.urlopen(url, timeout=30.0) as answer:
        return Parsed(answer.read().decode())


BOARDS = dashboards()


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_every_panel_of_a_dashboard_is_answered(filled: Live, board: dict[str, Any]) -> None:
    answers = {
        panel["title"]: get(f"{filled.console}/api/panels/{board['uid']}/{panel['id']}?range=5m")
        for panel in panels(board)
        if panel.get("targets")
    }
    assert {} == {title: answer["error"] for title, answer in answers.items() if answer["error"]}
    empty = [
        title for title, answer in answers.items() if not (answer.get("series") or answer.get("values") or answer.get("rows"))
    ]
    assert [] == [title for title in empty if not _needs_rules(board, title)]
    for title, answer in answers.items():
        lengths = {len(each["values"]) for each in answer.get("series", ())}
        assert lengths <= {len(answer.get("times", ()))}, title


def _needs_rules(board: dict[str, Any], title: str) -> bool:
    """Whether the panel reads what recording rules write: names with a colon."""
    exprs = [target["expr"] for panel in panels(board) if panel["title"] == title for target in panel["targets"]]
    return any(RECORDED.search(expr) for expr in exprs)


def test_every_signal_of_every_hop_is_on_the_map(filled: Live) -> None:
    now = get(f"{filled.console}/api/hops")
    assert ("", f"all {len(PROCESSES)} processes answer") == (now["error"], now["targets"])
    assert [hop.name for hop in HOPS] == [each["name"] for each in now["hops"]]
    silent = [(each["name"], key) for each in now["hops"] for key, said in each["signals"].items() if said["state"] == "nodata"]
    assert [] == silent


def test_the_dots_of_latency_panels_lead_to_traces_that_are_there(filled: Live) -> None:
    known = {each.trace_id for each in filled.told.values()}
    dots = {
        board["uid"]: {each["trace"] for each in get(f"{filled.console}/api/panels/{board['uid']}/{panel['id']}")["exemplars"]}
        for board in BOARDS
        for panel in panels(board)
        if panel["title"].startswith("Latency: ") and board["uid"] != "spillway-hop-telemetry"
    }
    assert len(HOPS) - 1 == len(dots)
    assert {} == {uid: traces for uid, traces in dots.items() if not traces or not traces <= known}
    assert filled.told["slow"].trace_id in dots["spillway-hop-lake"]


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "hostile"])
def test_a_trace_is_found_by_its_event_and_shows_its_hops(filled: Live, name: str) -> None:
    course, trace_id = KNOWN[name], filled.told[name].trace_id
    found = page(f"{filled.console}/traces?event_id={course.id}")
    assert f"/trace/{trace_id}" in [each["href"] for each in found.all("a")]
    shown = page(f"{filled.console}/trace/{trace_id}")
    hops = {each["aria-label"].split(",")[0] for each in shown.all("summary") if "aria-label" in each}
    assert {"grpc-door"} <= hops
    assert ("http-door" in hops, "sdk" in hops) == (course.by_http, not course.by_http)
    assert ("lake" in hops) == (not course.ended_at)
    assert "No span" not in shown.words


def test_how_an_event_ended_is_said_and_searched_for(filled: Live) -> None:
    for name, status, said in (
        ("dead", "dead_letter", "redactor failed: rule"),
        ("rejected", "rejected", "grpc-door failed: unknown_type"),
    ):
        found = [
            each["href"]
            for each in page(f"{filled.console}/traces?status={status}").all("a")
            if each["href"].startswith("/trace/")
        ]
        assert [f"/trace/{filled.told[name].trace_id}"] == found
        assert said in page(f"{filled.console}/trace/{filled.told[name].trace_id}").words


def test_lines_are_found_by_trace_by_text_and_by_process(filled: Live) -> None:
    slow = filled.told["slow"].trace_id
    for asked in (f"trace_id={slow}", "q=took%20long", "process=etl", f"event_id={KNOWN['slow'].id}"):
        parsed = page(f"{filled.console}/logs?{asked}")
        assert "1 line, newest first" in parsed.words
        assert f"/trace/{slow}" in [each["href"] for each in parsed.all("a")]


def test_events_of_one_trace_are_told_apart(filled: Live) -> None:
    shown = page(f"{filled.console}/trace/{filled.told['web'].trace_id}")
    assert filled.told["web"].trace_id == filled.told["web too"].trace_id
    assert f"Event {KNOWN['web'].id}" in shown.words
    assert f"Event {KNOWN['web too'].id}" in shown.words


def test_what_the_store_does_not_speak_is_said_in_its_words(filled: Live) -> None:
    assert "The trace store says 400" in page(f"{filled.console}/traces?q=%7B%20nonsense").words


def test_the_process_ends_at_once_and_well(filled: Live, tmp_path: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "dashboards.console",
        "--port",
        "0",
        "--prometheus",
        filled.prometheus.url,
        "--store",
        filled.store,
    ]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    assert running.stderr is not None
    assert b"console serves" in running.stderr.readline()
    running.send_signal(signal.SIGTERM)
    assert 0 == running.wait(END_SECONDS_MAX)
    running.stderr.close()


def test_sources_that_come_back_are_shown_again(filled: Live, tmp_path: Any) -> None:
    """TRAPS 12: starting needs nobody."""
    with console(tmp_path, "http://127.0.0.1:9", filled.store) as url:
        assert "does not answer" in get(f"{url}/api/hops")["error"]
        assert "1 line, newest first" in page(f"{url}/logs?process=etl").words
