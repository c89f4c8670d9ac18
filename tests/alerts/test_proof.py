"""The proof's own proof: its arithmetic of rules is Prometheus', its canary is the canary, and its checks can fail.

The long ones are in `make proof`: two healthy weeks and every mutant, outages at some phases, whoever falls silent.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alerts.proof import absence, canary, detection, healthy, mutants, watchers, weeks
from alerts.proof.rulebook import Firing, Pace, Rule, Rulebook, judge, rulebook, runs
from alerts.proof.series import Series, input_series, is_stale, stale
from alerts.proof.server import ProofError, Server, programs_of, server
from alerts.proof.story import EPOCH_MS, SCRAPE_SECONDS, Fault, Kind, Story
from alerts.proof.world import World
from alerts.rules import ALERTS, rules_text
from canary.ledger.settings import LedgerSettings
from canary.settings import CanarySettings
from pipeline.ledger.tally import WINDOW_SECONDS
from tests.dashboards.prometheus import program, promtool

PROGRAMS = Path(program("prometheus")).parent
INTERVAL_MS = 5000
BOOK = rulebook(rules_text(5), INTERVAL_MS)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(PROGRAMS, tmp_path_factory.mktemp("prometheus")) as started:
        yield started


def alert(name: str, expr: str, lasts: str = "0s", **labels: str) -> dict[str, object]:
    return {"alert": name, "expr": expr, "for": lasts, "labels": {"severity": "page", **labels}}


def book_of(*rules: Mapping[str, object]) -> Rulebook:
    return rulebook(text_of(*rules), INTERVAL_MS)


def text_of(*rules: Mapping[str, object]) -> str:
    return json.dumps({"groups": [{"name": "g", "interval": "5s", "rules": list(rules)}]})


# Where Prometheus is.


def test_prometheus_is_the_installed_one_else_the_fetched_one_else_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    installed, fetched = tmp_path / "bin/prometheus", tmp_path / "cache/debian/prometheus/root/usr/bin/prometheus"
    environment = {"PATH": str(installed.parent), "SPILLWAY_CACHE_DIR": str(tmp_path / "cache")}
    with pytest.raises(ProofError, match="`spillway up` fetches it"):
        programs_of(environment)
    for each in (fetched, installed):
        each.parent.mkdir(parents=True)
        each.touch(0o755)
    (fetched.parents[3] / "complete").touch()
    assert installed.parent == programs_of(environment)
    installed.unlink()
    assert fetched.parent == programs_of(environment)


# Series.


def test_what_is_written_is_what_is_asked(where: Server) -> None:
    times = 1_780_272_000_000 + np.arange(0, 30_000, 5000, dtype=np.int64)
    values = np.array([0.0, 1.5, -3.0, np.inf, 1e300, 7.0])
    assert 6 == where.write([Series({"__name__": "told", "a": "b"}, times, values)])
    (found,) = where.query_range("told", range(int(times[0]), int(times[-1]) + 1, 5000))
    assert ({"__name__": "told", "a": "b"}, times.tolist(), values.tolist()) == (
        found.labels,
        found.times_ms.tolist(),
        found.values.tolist(),
    )


def test_a_series_that_ended_is_gone_at_once(where: Server) -> None:
    times = 1_780_272_000_000 + np.arange(0, 15_000, 5000, dtype=np.int64)
    where.write([Series({"__name__": "ended"}, times, np.append(np.ones(2), stale(1)))])
    (found,) = where.query_range("ended", range(int(times[0]), int(times[0]) + 60_000, 5000))
    assert times[:2].tolist() == found.times_ms.tolist()


def test_samples_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="not on a grid of 1000 ms"):
        input_series(Series({"__name__": "x"}, np.array([500]), np.array([1.0])), 0, 1000)


# Rules.


def rule(lasts_ms: int) -> Rule:
    return Rule("A", "x", "g", INTERVAL_MS, True, lasts_ms, (("severity", "page"), ("hop", "{{ $labels.exit }}")))


@pytest.mark.parametrize(
    ("answered", "lasts_ms", "expected"),
    [
        ([0, 5, 10], 0, [(0, 0, 10)]),
        ([0, 5, 10], 10_000, [(0, 10, 10)]),
        ([0, 5, 10], 11_000, []),
        # An evaluation without an answer begins anew.
        ([0, 5, 15, 20, 25], 10_000, [(15, 25, 25)]),
    ],
)
def test_an_alert_fires_once_it_is_pending_for_long_enough(
    answered: list[int], lasts_ms: int, expected: list[tuple[int, int, int]]
) -> None:
    series = Series({"exit": "rds"}, np.array(answered) * 1000, np.ones(len(answered)))
    labels = (("exit", "rds"), ("severity", "page"))
    found = [Firing("A", labels, first * 1000, begins * 1000, ends * 1000) for first, begins, ends in expected]
    assert found == list(runs(rule(lasts_ms), series, INTERVAL_MS))


def test_only_the_records_that_an_alert_reads_are_evaluated() -> None:
    records = [
        {"record": "r:a", "expr": "x", "labels": {"slo": "one"}},
        {"record": "r:a", "expr": "y", "labels": {"slo": "two"}},
        {"record": "r:b", "expr": 'r:a{slo="two"} * 2'},
        {"record": "r:c", "expr": "z"},
    ]
    book = book_of(*records, alert("A", "r:b > 1"), alert("B", 'r:c > 1 unless ALERTS{alertname="A"}'))
    assert ["y", 'r:a{slo="two"} * 2', "r:b > 1"] == [each.expr for each in book.closure(["A"])]
    assert ["r:a", "r:b", "A", "r:c", "B"] == [each.name for each in book.closure(["B"])]


STORY_SECONDS = 420.0
FAULT = Fault("killed", "redactor", 200.0, 300.0)


def short_story(*faults: Fault) -> Story:
    times = np.arange(0.0, STORY_SECONDS, SCRAPE_SECONDS)
    # At the begin of 1970, as promtool's stories.
    return Story(times, times, faults, epoch_ms=0, seed=3)


def seconds(story: Story, reads: frozenset[str]) -> list[Series]:
    """Its series with scrapes at whole seconds: promtool's grid."""
    return [replace(each, times_ms=each.times_ms // 1000 * 1000) for each in World(story, reads).series()]


OWN_RULES = (
    {"record": "r:pace", "expr": "sum by (part) (rate(spillway_consumer_events_total[20s]))"},
    {"record": "r:mean", "expr": "avg_over_time(r:pace[30s])"},
    alert("Slower", "r:mean < 300", "15s"),
    alert("Gone", 'absent(r:pace{part="redactor"})', "30s"),
    alert("Overdue", "sum by (exit) (spillway_canary_overdue_events) > 0"),
    alert("Down", "up == 0", "10s"),
    alert("Both", 'r:mean < 300 and on () ALERTS{alertname="Down",alertstate="firing"}'),
)


@pytest.mark.parametrize("whose", ["own rules", pytest.param("real rules", marks=pytest.mark.proof)])
def test_what_fires_and_when_is_what_promtool_says(tmp_path: Path, where: Server, whose: str) -> None:
    """By alert, the first second of firing, in the same story of an outage that ends."""
    text = text_of(*OWN_RULES)
    if whose == "real rules":
        quick = [name for name in BOOK.pages() if all(each.is_alert for each in BOOK.closure([name]))]
        groups = json.loads(rules_text(5))["groups"]
        text = text_of(*(each for group in groups for each in group["rules"] if each.get("alert") in quick))
    book = rulebook(text, INTERVAL_MS)
    names = [each.name for each in book.alerts]
    rules, story = book.closure(names), short_story(FAULT)
    series = seconds(story, book.reads(names))
    ends = int(STORY_SECONDS) - 10
    with server(PROGRAMS, tmp_path / "own") as fresh:
        fresh.write(series)
        first: dict[str, int] = {}
        for each in judge(fresh, rules, 0, ends * 1000, Pace({}, INTERVAL_MS)):
            first.setdefault(each.alert, each.begins_ms // 1000)
    asked = f'min by (alertname) (min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{ends}s:5s]))'
    told = {
        "rule_files": ["rules.json"],
        "evaluation_interval": "5s",
        "tests": [
            {
                "interval": "1s",
                "input_series": [input_series(each, 0, 1000) for each in series],
                "promql_expr_test": [
                    {
                        "expr": asked,
                        "eval_time": f"{ends}s",
                        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": at} for name, at in first.items()],
                    }
                ],
            }
        ],
    }
    # What fires in neither would be no proof.
    assert ({"CanaryLost"} if whose == "real rules" else set(names)) <= first.keys()
    (tmp_path / "rules.json").write_text(text)
    (tmp_path / "tests.json").write_text(json.dumps(told))
    assert "" == promtool("test", "rules", str(tmp_path / "tests.json"))


# The world.


def test_every_series_that_rules_read_is_simulated() -> None:
    names = {each.name for each in World(short_story()).series()}
    read = {
        word for each in BOOK.rules for word in each.words if word.startswith(("spillway_", "up", "process_", "alertmanager_"))
    }
    assert set() == read - names


def test_the_same_seed_is_the_same_series_and_another_is_not() -> None:
    first, again, other = (
        [
            (each.labels, each.times_ms.tobytes(), each.values.tobytes())
            for each in World(healthy.healthy(seed, 3600.0), {"up", "spillway_door_events_total"}).series()
        ]
        for seed in (4, 4, 5)
    )
    assert first == again
    assert [labels for labels, _, _ in first] == [labels for labels, _, _ in other]
    assert not any(one == two for one, two in zip(first, other, strict=True))


def test_a_process_that_dies_ends_its_series_and_counts_anew() -> None:
    story = short_story(Fault("killed", "grpc-1", 100.0, 200.0))
    (found,) = (
        each
        for each in World(story, {"spillway_door_events_total"}).series()
        if each.labels["worker"] == "grpc-1" and each.labels["status"] == "accepted"
    )
    (gone,) = np.flatnonzero(is_stale(found.values))
    assert 100_000 <= found.times_ms[gone] < 105_000
    assert found.times_ms[gone + 1] >= 200_000
    assert found.values[gone + 1] < found.values[gone - 1]


def test_the_simulated_canary_has_the_canarys_figures() -> None:
    real = CanarySettings()
    assert (real.interval_seconds, real.look_seconds, real.due_seconds, real.lost_seconds) == (
        canary.ROUND_SECONDS,
        canary.LOOK_SECONDS,
        canary.DUE_SECONDS,
        canary.LOST_SECONDS,
    )
    assert (real.backup_due_seconds, real.backup_lost_seconds, real.door_seconds_max, real.check_seconds) == (
        canary.BACKUP_DUE_SECONDS,
        canary.BACKUP_LOST_SECONDS,
        canary.DOOR_SECONDS_MAX,
        canary.CHECK_SECONDS,
    )


def test_the_simulated_ledger_has_the_ledgers_figures() -> None:
    real = LedgerSettings()
    assert (WINDOW_SECONDS, real.deadline_seconds, real.patience_seconds, real.round_seconds, real.horizon_seconds) == (
        watchers.WINDOW_SECONDS,
        watchers.LEDGER_DEADLINE_SECONDS,
        watchers.LEDGER_PATIENCE_SECONDS,
        watchers.LEDGER_ROUND_SECONDS,
        watchers.LEDGER_HORIZON_SECONDS,
    )


def test_the_standard_windows_by_arithmetic() -> None:
    # The table: 52 s, 8.6 minutes, 3.6 hours, never, never.
    expected = ["52 s", "8.6 min", "3.6 h", "never", "never"]
    assert expected == [detection.in_words(detection.arithmetic(share)) for share in detection.SHARES]


# The questions, each shown to convict.


def test_a_mutant_that_nothing_pages_is_named() -> None:
    mutant = mutants.MUTANTS[0].moved(1000.0)
    early = Firing("A", (), 0, EPOCH_MS + 999_000, EPOCH_MS + 999_000)
    in_time = replace(early, begins_ms=EPOCH_MS + 1_030_000)
    assert [] == mutants.missed([mutant], [in_time], EPOCH_MS)
    assert [f"{mutant.words}: no page within 90 s"] == mutants.missed([mutant], [early], EPOCH_MS)


@pytest.mark.parametrize(
    ("pending", "ends", "expected"),
    [
        (100.0, 100.0, False),
        # Begun in what happens, and there still at the next look, when nothing happens any more.
        (100.0, 400.0, True),
        (400.0, 400.0, True),
    ],
)
def test_what_answers_while_nothing_happens_is_a_suspicion(pending: float, ends: float, expected: bool) -> None:
    found = Firing("A", (), *(int(at * 1000) for at in (pending, pending, ends)))
    assert expected == weeks.is_suspicious(found, [(90.0, 220.0), (690.0, 820.0)], 0)


def test_an_alert_that_nobody_speaks_for_is_named() -> None:
    of = {each.name: each for each in ALERTS}["AckedUnaccounted"]
    loss = absence.Loss(frozenset({"ledger"}), False)
    by_alert = {of.name: loss.processes}
    assert [] == absence.complaints([of], by_alert, [(loss, {of.absence: 95.0})])
    (said,) = absence.complaints([of], by_alert, [(loss, {"Watchdog": 0.0})])
    assert said.startswith("AckedUnaccounted: ledger dead, and neither of")
    assert ["AckedUnaccounted: ledger never taken away"] == absence.complaints([of], by_alert, [])


def test_a_page_that_comes_late_is_not_held() -> None:
    outage = detection.OUTAGES[0]
    soon, late = detection.Trial(10.0, "A", False), detection.Trial(28.0, "A", False)
    assert detection.Row(outage, (soon,) * 19 + (late,)).held
    assert not detection.Row(outage, (soon,) * 18 + (late,) * 2).held
    assert not detection.Row(outage, (soon,) * 19 + (replace(soon, false=True),)).held


@pytest.mark.parametrize(
    ("kind", "share", "ours", "expected"),
    [
        ("errors", 0.1, {"A": 515.0}, True),
        # The standard windows page after 518 s.
        ("errors", 0.1, {"A": 519.0}, False),
        ("errors", 0.1, {}, False),
        ("errors", 0.001, {}, True),
        ("loss", 0.001, {"A": 150.0}, True),
        ("loss", 0.001, {}, False),
    ],
)
def test_a_partial_outage_pages_no_later_than_the_standard_windows_and_a_loss_always(
    kind: Kind, share: float, ours: dict[str, float], expected: bool
) -> None:
    assert expected == detection.Partial("", kind, share, ours, {}).held


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_leaves_no_prometheus_and_no_folder_behind(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "alerts.proof", "mutants", "--programs", str(PROGRAMS)]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, cwd=Path(__file__).parents[2])

    def served() -> list[str]:
        asked = subprocess.run(["pgrep", "-f", f"config.file={tmp_path}"], capture_output=True, text=True, check=False)
        return asked.stdout.split()

    try:
        until = time.monotonic() + 60
        while not served() and time.monotonic() < until:
            time.sleep(0.05)
        assert served()
        process.send_signal(how)
        assert 128 + how == process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert ([], []) == (served(), list(tmp_path.iterdir()))


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_two_healthy_weeks_page_nobody(tmp_path: Path) -> None:
    assert [] == [page for seed in (1, 2) for page in weeks.one(PROGRAMS, tmp_path, BOOK, seed).pages]


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_every_mutant_of_a_week_pages(tmp_path: Path) -> None:
    story, placed = mutants.mutated(1)
    with server(PROGRAMS, tmp_path) as started:
        assert [] == mutants.missed(placed, weeks.run(started, BOOK, story).pages, story.epoch_ms)


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_a_total_outage_of_each_hop_pages_within_its_time_at_any_phase(tmp_path: Path) -> None:
    rows = [detection.total(PROGRAMS, tmp_path, BOOK, 20, 1, outage) for outage in detection.OUTAGES]
    assert [] == [row.markdown() for row in rows if not row.held]


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_no_alert_is_silent_when_whoever_reports_is_gone(tmp_path: Path) -> None:
    by_alert = {each.name: absence.sources(BOOK, each) for each in ALERTS}
    found = list(absence.fired(PROGRAMS, tmp_path, BOOK, absence.losses(by_alert)))
    assert [] == absence.complaints(ALERTS, by_alert, found)
