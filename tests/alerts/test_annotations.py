"""What a page says, as Prometheus fills it in: the cause that is seen, its hop, the budget that is left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alerts.alert import Alert
from alerts.annotations import NO_BUDGET, NO_CAUSE, annotations
from alerts.burn import LEFT
from tests.dashboards.prometheus import promtool

SYMPTOM = Alert(
    "Lost", "S1", "symptom", "page", "sum by (exit) (lost) > 0", "lost at {{ $labels.exit }}", "nothing is there", 30,
    slo="freshness-{exit}", absence="Blind", traces="{ status = error }",
)  # fmt: skip
CAUSE = Alert(
    "RedisErrors", "K15", "cause", "ticket", "redis > 0", "r", "r", 30, hop="redis", explains=("Lost",), absence="Blind"
)
CAUSES = (
    CAUSE,
    replace(CAUSE, name="LakeErrors", expr="lake > 0", hop="lake"),
    replace(CAUSE, name="Throttled", expr="throttled > 0", hop="kinesis"),
    replace(CAUSE, name="Elsewhere", expr="elsewhere > 0", hop="redis", explains=("Other",)),
)


def said(folder: Path, series: dict[str, str], *, cause: str, budget: str = NO_BUDGET) -> str:
    """What promtool complains of, if the page for Redis is to say this."""

    def rule(alert: Alert, hold: str) -> dict[str, object]:
        labels = {"kind": alert.kind, "severity": alert.severity} | ({"hop": alert.hop} if alert.hop else {})
        told = annotations(alert, (SYMPTOM, *CAUSES), "http://console")
        return {"alert": alert.name, "expr": alert.expr, "for": hold, "labels": labels, "annotations": told}

    rules = [rule(each, "1m" if each.name == "Throttled" else "0s") for each in CAUSES]
    expected = {
        "exp_labels": {"exit": "redis", "kind": "symptom", "severity": "page"},
        "exp_annotations": {
            "summary": "lost at redis",
            "feels": "nothing is there",
            "dashboard": "http://console/d/spillway-overview",
            "runbook": "http://console/runbooks/Lost",
            "trace": "http://console/traces?q=%7B%20status%20%3D%20error%20%7D",
            "cause": cause,
            "budget": budget,
        },
    }
    return played(folder, [*rules, rule(SYMPTOM, "0s")], series, expected)


def played(folder: Path, rules: list[dict[str, object]], series: dict[str, str], expected: dict[str, object]) -> str:
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    test = {
        "interval": "5s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "20s", "alertname": "Lost", "exp_alerts": [expected]}],
    }
    told = {"rule_files": ["rules.json"], "evaluation_interval": "5s", "tests": [test]}
    (folder / "story.json").write_text(json.dumps(told))
    return promtool("test", "rules", str(folder / "story.json"))


LOST = {'lost{exit="redis"}': "1x10"}


def test_no_known_cause_is_said_to_be_none(tmp_path: Path) -> None:
    assert "" == said(tmp_path, LOST, cause=NO_CAUSE)


def test_causes_that_are_firing_or_pending_are_named_with_their_hops(tmp_path: Path) -> None:
    series = {**LOST, "redis": "1x10", "throttled": "1x10"}
    assert "" == said(tmp_path, series, cause="RedisErrors at redis (firing); Throttled at kinesis (pending)")


def test_a_cause_at_another_exit_and_one_that_explains_something_else_are_left_out(tmp_path: Path) -> None:
    assert "" == said(tmp_path, {**LOST, "lake": "1x10", "elsewhere": "1x10"}, cause=NO_CAUSE)


def test_a_cause_at_the_other_door_is_left_out_and_one_at_the_same_is_named(tmp_path: Path) -> None:
    at_door = {'lost{exit="grpc-door"}': "1x10"}
    doors = tuple(replace(CAUSE, name=f"Down{door}", expr=door, hop=f"{door}-door") for door in ("grpc", "http"))
    told = annotations(SYMPTOM, doors, "")["cause"]
    rules: list[dict[str, object]] = [
        {"alert": each.name, "expr": each.expr, "labels": {"kind": "cause", "hop": each.hop}} for each in doors
    ]
    page = {"alert": "Lost", "expr": SYMPTOM.expr, "annotations": {"cause": told}}
    expected = {"exp_labels": {"exit": "grpc-door"}, "exp_annotations": {"cause": "Downgrpc at grpc-door (firing)"}}
    assert "" == played(tmp_path, [*rules, page], {**at_door, "grpc": "1x10", "http": "1x10"}, expected)


def test_a_cause_that_begins_in_the_same_round_is_named(tmp_path: Path) -> None:
    assert "" == said(tmp_path, {'lost{exit="redis"}': "0x3 1x6", "redis": "0x3 1x6"}, cause="RedisErrors at redis (firing)")


def test_the_budget_that_is_left_is_that_of_the_exit(tmp_path: Path) -> None:
    left = {f'{LEFT}{{sloth_slo="freshness-{exit}"}}': f"{value}x10" for exit, value in (("redis", 0.5), ("lake", 0.9))}
    assert "" == said(tmp_path, {**LOST, **left}, cause=NO_CAUSE, budget="50% of the error budget of freshness-redis is left")


@pytest.mark.parametrize("slo", ["durability", ""])
def test_an_alert_of_one_slo_names_it_and_one_of_none_has_no_budget(slo: str) -> None:
    told = annotations(replace(SYMPTOM, slo=slo), CAUSES, "")
    assert bool(slo) == ("budget" in told)
    assert slo in told.get("budget", "")


def test_a_ticket_has_neither_cause_nor_trace() -> None:
    assert {"summary", "feels", "dashboard", "runbook"} == set(annotations(CAUSE, CAUSES, ""))
