"""No alert is half there: each has its stories, runbook, owner, policy, dashboard, budget, and reads only what somebody reports.

`lacking` is the check; the last tests show that it convicts an alert for each thing that it lacks.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import burn, symptoms
from alerts.__main__ import main
from alerts.alert import Alert
from alerts.rules import ALERTS, INTERVAL_SECONDS_MAX, SCRAPES, at, rules_text
from alerts.slos import SLOS
from alerts.watchdog import WATCHDOG
from dashboards.queries import dashboards
from telemetry.hops import BY_NAME as HOPS
from telemetry.hops import EXITS
from telemetry.metrics import CATALOGUE
from telemetry.recording import LABELS
from tests.alerts.healthy import le_of
from tests.alerts.story import Story
from tests.alerts.told import STORIES
from tests.dashboards.prometheus import promtool

ALERTS_FOLDER = Path(symptoms.__file__).parent
RUNBOOKS, POLICIES = ALERTS_FOLDER / "runbooks", ALERTS_FOLDER / "policies"
TARGET_LABELS = frozenset({"job", "instance", "process", "worker", "le"})
ALERT_LABELS = frozenset({"alertname", "alertstate", "severity", "kind", "owner", "policy", "hop"})
BOARDS = frozenset(board["uid"] for board in dashboards())
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
Stories = Iterable[Story]


def lacking(alert: Alert, stories: Stories, alerts: Iterable[Alert] = ALERTS) -> list[str]:
    """What an alert lacks, each with its remedy."""
    known = {each.name: each for each in alerts}
    said = []
    if not any(each.alert == alert.name for story in stories for each in story.fires):
        said.append("no story fires it: add one to tests/alerts/stories/")
    if alert.name != WATCHDOG and not any(_is_quiet(alert, story) for story in stories):
        said.append("no story names it as quiet: add a look-alike to tests/alerts/stories/")
    for field in ("owner", "policy", "summary", "feels"):
        if not getattr(alert, field).strip():
            said.append(f"no {field}: fill it in")
    if alert.dashboard not in BOARDS:
        said.append(f"no dashboard {alert.dashboard!r}: name a uid of dashboards/json")
    if alert.policy not in policies():
        said.append(f"no policy {alert.policy!r}: write alerts/policies/{alert.policy}.yaml or name one of {sorted(policies())}")
    if not (RUNBOOKS / f"{alert.name}.md").exists():
        said.append(f"no runbook: write alerts/runbooks/{alert.name}.md")
    if not alert.absence and not re.search(r"\babsent\(|\bvector\(", alert.expr):
        said.append("it is silent if its series are absent: use absent(), or name in `absence` who speaks then")
    if alert.absence and alert.absence not in known:
        said.append(f"absence names {alert.absence}, which is no alert")
    if alert.within_seconds <= alert.for_seconds:
        said.append("within_seconds is not longer than for_seconds: it can't be kept")
    return said + _budget(alert) + _kind(alert, known) + _unknown_series(alert)


def _is_quiet(alert: Alert, story: Story) -> bool:
    return alert.name in story.quiet and all(each.alert != alert.name for each in story.fires)


def _budget(alert: Alert) -> list[str]:
    names = {slo.name for slo in SLOS}
    meant = {alert.slo.replace("{exit}", exit).replace("{hop}", hop) for exit in EXITS for hop in ("grpc-door", "http-door")}
    return [f"slo names {name}, which no file of alerts/slo/ is" for name in sorted(meant - names - {""})]


def _kind(alert: Alert, known: Mapping[str, Alert]) -> list[str]:
    said = [f"it explains {name}, which is no symptom" for name in alert.explains if _kind_of(name, known) != "symptom"]
    if alert.kind == "cause" and alert.severity == "page":
        said.append("a cause never pages: make it a ticket")
    if alert.hop and alert.hop not in HOPS:
        said.append(f"hop {alert.hop} is none of telemetry.hops")
    return said


def _kind_of(name: str, known: Mapping[str, Alert]) -> str:
    return known[name].kind if name in known else ""


def series_of(expr: str) -> dict[str, set[str]]:
    """Names of the series that an expression reads, each with the labels that it selects by."""
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', expr)
    found: dict[str, set[str]] = {}
    for match in re.finditer(r"(?<![\w:$])(spillway_\w+|up|ALERTS|\w+:\w+:\w+|sloth_slo_info)(?![\w(])(\{[^}]*\})?", bare):
        labels = found.setdefault(match[1], set())
        labels |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", match[2] or ""))
    return found


def known_series() -> dict[str, frozenset[str]]:
    """Every series that there can be, with its labels."""
    known: dict[str, frozenset[str]] = {"up": TARGET_LABELS, "ALERTS": ALERT_LABELS}
    for metric in CATALOGUE:
        for suffix in ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",):
            known[metric.name + suffix] = frozenset(metric.labels) | TARGET_LABELS
    known |= dict(LABELS)
    for group in burn.groups(5):
        for rule in group["rules"]:
            known[rule["record"]] = known.get(rule["record"], frozenset()) | frozenset(rule["labels"])
    return known


def _unknown_series(alert: Alert) -> list[str]:
    known = known_series()
    read = series_of(alert.expr)
    said = [f"nobody reports {name}: see telemetry/metrics.py" for name in read if name not in known]
    if not read and not alert.expr.startswith("vector("):
        said.append("its expression reads nothing")
    for name, labels in read.items():
        said += [f"{name} has no label {label}" for label in sorted(labels - known.get(name, labels))]
    return said


def policies() -> set[str]:
    return {str(yaml.safe_load(file.read_text())["policy"]) for file in POLICIES.glob("*.yaml")}


# All of them.


@each_alert
def test_an_alert_lacks_nothing(alert: Alert) -> None:
    assert [] == lacking(alert, STORIES)


def test_names_and_ids_are_unique() -> None:
    for names in ([alert.name for alert in ALERTS], [alert.id for alert in ALERTS if alert.id]):
        assert sorted(set(names)) == sorted(names)


def test_every_symptom_of_the_catalogue_of_drills_pages() -> None:
    paging = {alert.id for alert in ALERTS if alert.kind == "symptom" and alert.severity == "page"}
    assert {f"S{number}" for number in range(1, 11)} <= paging


def test_what_slos_name_exists() -> None:
    known = {alert.name: alert.severity for alert in ALERTS}
    for slo in SLOS:
        assert slo.dashboard in BOARDS
        assert {slo.runbook, *filter(None, (slo.page, slo.ticket, slo.zero_tolerance))} <= set(known)
        assert "page" == known[slo.zero_tolerance or slo.page]
        assert not slo.ticket or "ticket" == known[slo.ticket]


def test_what_slos_read_is_reported_by_somebody() -> None:
    known = known_series()
    for slo in SLOS:
        for witness in slo.witnesses:
            for name, labels in series_of(f"{witness.bad} {witness.total}").items():
                assert set() == labels - known[name], f"{slo.name}: {name}"


def test_what_slos_take_for_in_time_is_the_edge_of_a_bucket() -> None:
    """Of another there is no series: what is bad would not be known, and read as nothing."""
    edges = {f"{metric.name}_bucket": {le_of(edge) for edge in metric.buckets} for metric in CATALOGUE if metric.buckets}
    bad = " ".join(witness.bad for slo in SLOS for witness in slo.witnesses)
    asked = re.findall(r'(\w+_bucket)\{[^}]*\ble="([^"]*)"', bad)
    assert [] == [(name, edge) for name, edge in asked if edge not in edges[name]]
    assert bad.count("_bucket") == len(asked) > 0


# The file.


def rules(interval: int = 5) -> list[dict[str, Any]]:
    return [rule for group in json.loads(rules_text(interval, "http://console"))["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("interval", [1, 5, 15, INTERVAL_SECONDS_MAX])
def test_promtool_accepts_the_rules(interval: int, tmp_path: Path) -> None:
    files = ["--rules", str(tmp_path / "rules.json"), "--routes", str(tmp_path / "routes.json")]
    assert 0 == main(["--interval", str(interval), *files])
    assert "" == promtool("check", "rules", "--lint-fatal", str(tmp_path / "rules.json"))


@pytest.mark.parametrize("interval", [0, INTERVAL_SECONDS_MAX + 1])
def test_an_interval_that_leaves_gaps_is_refused(interval: int) -> None:
    with pytest.raises(ValueError, match=f"{interval} s is not within 1 to {INTERVAL_SECONDS_MAX} s"):
        rules_text(interval)


def test_every_alert_is_in_it_once_with_all_labels_and_links() -> None:
    made = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert [alert.name for alert in sorted(ALERTS, key=lambda each: each.name)] == sorted(made)
    for alert in ALERTS:
        rule = made[alert.name]
        assert {"severity", "kind", "owner", "policy", "hop"} <= set(rule["labels"])
        wanted = {"summary", "feels", "dashboard", "runbook"} | ({"cause", "trace"} if alert.severity == "page" else set())
        assert wanted <= set(rule["annotations"])
        assert f"http://console/runbooks/{alert.name}" == rule["annotations"]["runbook"]
        assert f"http://console/d/{alert.dashboard}" == rule["annotations"]["dashboard"]


@pytest.mark.parametrize("interval", [1, 5, 15, 30])
def test_no_range_is_shorter_than_four_scrapes(interval: int) -> None:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    for alert in ALERTS:
        # But for `$some`, beside which another sign is wanted.
        ranges = re.findall(r"\[(\d+)([smhd])[\]:]", at(alert.expr.replace("$some", "1h"), interval))
        assert [] == [each for each in ranges if int(each[0]) * units[each[1]] < SCRAPES * interval], alert.name


def test_no_placeholder_is_left_in_the_file() -> None:
    # Templates of annotations have `$labels`, `$value` and variables of their own.
    assert [] == [rule.get("alert", rule.get("record")) for rule in rules() if re.search(r"\$[a-z]", rule["expr"])]


def test_no_expression_is_read_differently_by_prometheus_3() -> None:
    # Renamed, or behind a flag of one of the two; and a dot that matches a newline, a range whose edge counts.
    changed = re.compile(
        r"\b(holt_winters|double_exponential_smoothing|limitk|limit_ratio|sort_by_label|mad_over_time|info|count_over_time)\b|@"
    )
    assert [] == [rule["expr"] for rule in rules() if changed.search(rule["expr"])]


def test_every_group_comes_round_before_its_series_count_as_gone() -> None:
    groups = json.loads(rules_text(INTERVAL_SECONDS_MAX))["groups"]
    assert [] == [group["name"] for group in groups if int(group["interval"].removesuffix("s")) >= 300]


# The check is a checker: it has to convict.

GOOD = next(alert for alert in ALERTS if alert.name == "ExitStale")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(GOOD, owner=""), "no owner"),
        (replace(GOOD, policy=" "), "no policy"),
        (replace(GOOD, summary=""), "no summary"),
        (replace(GOOD, feels=""), "no feels"),
        (replace(GOOD, dashboard="spillway-nonsense"), "no dashboard"),
        (replace(GOOD, name="Unheard"), "no story fires it"),
        (replace(GOOD, name="Unheard"), "no story names it as quiet"),
        (replace(GOOD, absence=""), "silent if its series are absent"),
        (replace(GOOD, absence="Nobody"), "absence names Nobody"),
        (replace(GOOD, slo="freshness-{hop}"), "slo names freshness-grpc-door"),
        (replace(GOOD, explains=("Watchdog",)), "it explains Watchdog"),
        (replace(GOOD, kind="cause"), "a cause never pages"),
        (replace(GOOD, hop="moon"), "hop moon"),
        (replace(GOOD, for_seconds=140), "can't be kept"),
        (replace(GOOD, expr="max(spillway_moon_total) > 0"), "nobody reports spillway_moon_total"),
        (replace(GOOD, expr='max(up{moon="full"}) > 0'), "up has no label moon"),
        (replace(GOOD, expr="1 > 0"), "reads nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_alert_is_convicted_of_what_it_lacks(wrong: Alert, said: str) -> None:
    assert [] == lacking(GOOD, STORIES)
    assert any(said in each for each in lacking(wrong, STORIES))


def test_an_alert_without_a_runbook_and_one_with_an_unknown_policy_are_convicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.RUNBOOKS", tmp_path)
    monkeypatch.setattr(f"{__name__}.POLICIES", tmp_path)
    (tmp_path / "other.yaml").write_text("policy: other")
    assert ["no policy 'default'", "no runbook"] == [each.partition(":")[0] for each in lacking(GOOD, STORIES)]
