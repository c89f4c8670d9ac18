"""The recording rules of the SLOs: Sloth's names and labels, and their arithmetic."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alerts import burn
from alerts.burn import WINDOWS, fires, groups
from alerts.slos import SLOS
from telemetry import metrics as m
from tests.alerts.healthy import CALM
from tests.alerts.story import Change, Rate, Story, killed, samples, words
from tests.dashboards.prometheus import promtool

DOOR = next(slo for slo in SLOS if slo.name == "grpc-door-availability")
STEP = 30
SLOTH = ("sloth_id", "sloth_service", "sloth_slo")


def played(folder: Path, changes: tuple[Change, ...], expected: Mapping[str, float], *, before: int, after: int) -> str:
    """What promtool complains of, of queries rounded to thousandths, `after` seconds after the fault began."""
    rules = groups(STEP, [DOOR])
    read = " ".join(rule["expr"] for group in rules for rule in group["rules"])
    calm = tuple(each for each in CALM if each.metric in read)
    story = Story("", changes, before_seconds=before, fault_seconds=after, step_seconds=STEP, calm=calm)
    (folder / "rules.json").write_text(json.dumps({"groups": rules}))
    tests: list[dict[str, Any]] = [
        {
            "expr": f"round(max({query}), 0.001)",
            "eval_time": f"{before + after}s",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for query, value in expected.items()
    ]
    told = {
        "interval": f"{STEP}s",
        "input_series": [{"series": name, "values": words(values)} for name, values in samples(story).items()],
        "promql_expr_test": tests,
    }
    (folder / "story.json").write_text(
        json.dumps({"rule_files": ["rules.json"], "evaluation_interval": f"{STEP}s", "tests": [told]})
    )
    return promtool("test", "rules", str(folder / "story.json"))


def test_every_slo_has_all_of_sloths_records_with_its_labels() -> None:
    windows = {f"{burn.SLI}{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")}
    names = windows | {burn.OBJECTIVE, burn.BUDGET, burn.PERIOD, burn.CURRENT, burn.SPENT, burn.LEFT, burn.INFO}
    for slo in SLOS:
        made = [rule for group in groups(5, [slo]) for rule in group["rules"]]
        assert sorted(names) == sorted(rule["record"] for rule in made)
        for rule in made:
            assert (slo.id, "spillway", slo.name) == tuple(rule["labels"][label] for label in SLOTH)
            assert rule["record"].removeprefix(burn.SLI) == rule["labels"].get("sloth_window", rule["record"])


def test_each_short_window_is_a_twelfth_of_its_long_one() -> None:
    seconds = {"m": 60, "h": 3600, "d": 86400}

    def length(window: str) -> int:
        return int(window[:-1]) * seconds[window[-1]]

    assert [12] * len(WINDOWS) == [length(each.long) // length(each.short) for each in WINDOWS]
    # The share of 30 days' budget that is gone when the long window is full.
    spent = [round(each.factor * length(each.long) / (30 * 86400), 4) for each in WINDOWS]
    assert [0.02, 0.05, 0.1, 0.1] == spent


def test_all_is_well_burns_nothing(tmp_path: Path) -> None:
    sli = {f"{burn.SLI}{window}": 0.0 for window in ("5m", "1h", "1d", "30d")}
    expected = {**sli, burn.LEFT: 1.0, burn.CURRENT: 0.0, burn.OBJECTIVE: 0.999, burn.PERIOD: 30}
    assert "" == played(tmp_path, (), expected, before=1200, after=0)


def test_the_worst_witness_counts_and_the_hour_that_is_not_over_counts_as_much_as_there_is(tmp_path: Path) -> None:
    """A tenth is refused for ten minutes of fifteen; the hour has only these fifteen."""
    bad = (
        Change(m.DOOR_EVENTS, {"door": "grpc", "status": "retry"}, Rate(20.2 / 9)),
        Change(m.DOOR_EVENTS, {"door": "grpc", "status": "accepted"}, Rate(20.2)),
    )
    expected = {
        f"{burn.SLI}5m": 0.1,
        # 10 of 60 minutes, a tenth of each: 0.0167, and less by the edge of the minutes that were seen.
        f"{burn.SLI}1h > bool 0.014": 1.0,
        f"{burn.SLI}1h < bool 0.018": 1.0,
        burn.CURRENT: 100.0,
    }
    assert "" == played(tmp_path, bad, expected, before=300, after=600)


def test_doors_that_are_dead_hide_nothing_since_the_canary_goes_on(tmp_path: Path) -> None:
    dead = (
        *killed("grpc-1"),
        *killed("grpc-2"),
        Change(m.CANARY_SENT, {"door": "grpc", "outcome": "unanswered"}, Rate(0.4)),
        Change(m.CANARY_SENT, {"door": "grpc", "outcome": "accepted"}, Rate(0)),
    )
    assert "" == played(tmp_path, dead, {f"{burn.SLI}5m": 1.0}, before=600, after=360)


def test_an_alert_that_no_slo_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no SLO names Nonsense as its page: write it into spec\.burn"):
        fires("Nonsense", "page", "hop")
