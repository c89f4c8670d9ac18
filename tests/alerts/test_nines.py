"""The nines, and `spillway slo`."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner

from alerts import burn
from alerts.command import slo
from alerts.nines import PERIODS, NoAnswer, budgets, downtime_seconds, per_cent, words
from alerts.slos import SLOS
from spillway import main


@pytest.mark.parametrize(
    ("objective", "year", "expected"),
    [
        (0.99, "year", "3.65 days"),
        (0.999, "year", "8.76 hours"),
        (0.9999, "year", "52.56 minutes"),
        (0.99999, "year", "5.26 minutes"),
        (0.999, "30 days", "43.20 minutes"),
        (0.99, "day", "14.40 minutes"),
        (0.999999, "day", "0.09 seconds"),
        (0.9999999, "day", "8.64 ms"),
        (1.0, "year", "0.00 seconds"),
    ],
)
def test_nines_allow_so_much(objective: float, year: str, expected: str) -> None:
    assert expected == words(downtime_seconds(objective, PERIODS[year]))


def test_an_objective_in_per_cent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"write 0\.999 for 99\.9 %"):
        downtime_seconds(99.9, 1)


def test_shares_are_shown_as_they_were_written() -> None:
    assert ["99 %", "99.95 %", "99.9999 %"] == [per_cent(share) for share in (0.99, 0.9995, 0.999999)]


class Answers(BaseHTTPRequestHandler):
    """A Prometheus that knows one SLO."""

    values: ClassVar[dict[str, float]] = {burn.LEFT: 0.25, burn.CURRENT: 2.5}

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())["query"][0]
        known = [{"metric": {"sloth_slo": "freshness-lake"}, "value": [0, str(self.values[asked])]}]
        body = json.dumps({"status": "success", "data": {"result": known}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_left_is_a_share_and_a_time(prometheus: str) -> None:
    known = {each.slo.name: each for each in budgets(SLOS, prometheus)}
    lake, redis = known["freshness-lake"], known["freshness-redis"]
    # A quarter of 1 % of 30 days.
    assert (0.25, 2.5, pytest.approx(6480.0)) == (lake.left, lake.burn_rate, lake.left_seconds)
    assert (None, None, None) == (redis.left, redis.burn_rate, redis.left_seconds)


def test_who_does_not_answer_is_named_with_the_remedy() -> None:
    with pytest.raises(NoAnswer, match="spillway up"):
        budgets(SLOS, "http://127.0.0.1:1")


def test_the_command_shows_promises_nines_and_what_is_left(prometheus: str) -> None:
    said = CliRunner().invoke(slo, ["--prometheus", prometheus])
    # All but one SLO are not known.
    assert 2 == said.exit_code
    for words_of_it in ("freshness-lake", "25.0 %, 1.80 hours", "2.50", "5.26 minutes", "3.65 days", "not known"):
        assert words_of_it in said.output


def test_programs_get_it_as_json_and_why_it_is_not_known() -> None:
    said = CliRunner().invoke(slo, ["--prometheus", "", "--json"])
    told = json.loads(said.output)
    assert (2, "nobody was asked") == (said.exit_code, told["unknown_because"])
    assert [each.name for each in SLOS] == [each["slo"] for each in told["slos"]]
    assert {"objective", *PERIODS} == set(told["nines"][0])


@pytest.mark.parametrize(("left", "code"), [(0.5, 0), (-0.1, 1), (float("nan"), 2)])
def test_the_exit_code_says_whether_there_is_budget_left(
    left: float, code: int, prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.command.SLOS", [each for each in SLOS if each.name == "freshness-lake"])
    monkeypatch.setitem(Answers.values, burn.LEFT, left)
    assert code == CliRunner().invoke(slo, ["--prometheus", prometheus]).exit_code


def test_spillway_has_the_command() -> None:
    assert "slo " in CliRunner().invoke(main, ["--help"]).output
