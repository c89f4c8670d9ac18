"""What dashboards and the console read of SLOs is what the rules of alerts record."""

import json
from typing import Any

from alerts import watchdog
from alerts.rules import rules_text
from dashboards import slo_records
from dashboards.console import alerting

RECORDS: list[dict[str, Any]] = [
    rule for group in json.loads(rules_text())["groups"] for rule in group["rules"] if "record" in rule
]


def test_every_series_that_is_read_is_recorded_with_the_labels_that_are_used() -> None:
    read = {*slo_records.NAMES, *map(slo_records.error_ratio, slo_records.WINDOWS)}
    made = {rule["record"]: set(rule["labels"]) for rule in RECORDS if rule["record"] in read}
    assert read == made.keys()
    assert [] == [name for name, labels in made.items() if not labels >= set(slo_records.LABELS)]


def test_every_window_but_the_period_is_shown() -> None:
    prefix = slo_records.error_ratio("")
    windows = {rule["record"].removeprefix(prefix) for rule in RECORDS if rule["record"].startswith(prefix)}
    assert {"30d"} == windows - set(slo_records.WINDOWS)


def test_the_service_is_the_same() -> None:
    assert {slo_records.SERVICE} == {rule["labels"]["sloth_service"] for rule in RECORDS}


def test_the_dead_mans_switch_is_called_the_same() -> None:
    assert alerting.WATCHDOG in {each.name for each in watchdog.WATCHERS}
