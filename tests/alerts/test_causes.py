"""The list of causes against the drill catalogue, and against the catalogue of metrics."""

import re

import pytest

from alerts.causes import CAUSES
from alerts.rules import ALERTS, at
from tests.alerts.stories.causes import STORIES
from tests.dashboards.test_structure import complaints

BY_ID = {alert.id: alert for alert in CAUSES}
SYMPTOMS = {
    "S1": "CanaryLost", "S2": "CanarySlow", "S3": "IngestErrorsFastBurn", "S4": "AckedUnaccounted",
    "S5": "DuplicatesOverContract", "S6": "RedactionLeak", "S7": "ExitStale", "S8": "BackupGap", "S9": "CorruptionDetected",
    "S10": "MonitorBlind",
}  # fmt: skip
# Pages that are not in the catalogue, and are explained like one that is.
MORE_PAGES = {"FreshnessFastBurn"}
# Drills with a symptom and a cause: each of the causes must be able to explain each of the symptoms.
DRILLS = {
    "02": ("S3 S1", "K1"), "04": ("S2", "K1"), "05": ("S3", "K2"), "11": ("S3", "K19"), "13": ("S2 S3", "K3"), "15": ("S3", "K3"),
    "16": ("S2", "K4"), "18": ("S2", "K5"), "19": ("S1", "K6"), "20": ("S1 S7 S4", "K5"), "21": ("S2", "K7"), "22": ("S5", "K7"),
    "24": ("S2", "K8 K9"), "25": ("S1", "K9 K5"), "28": ("S1 S2", "K10"), "29": ("S6", "K10"), "32": ("S8", "K11 K19"),
    "36": ("S7", "K12"), "38": ("S7", "K14"), "39": ("S1", "K15"), "40": ("S1", "K16"), "42": ("S10", "K20"),
}  # fmt: skip
# The deadlines that the catalogue gives; K1 of a process that hangs has 60.
DEADLINES_SECONDS = {"K1": 30, "K3": 60, "K8": 60, "K9": 60, "K17": 60, "K21": 60}


def test_there_are_the_21_causes_of_the_catalogue_in_their_order() -> None:
    assert [f"K{number}" for number in range(1, 22)] == [alert.id for alert in CAUSES]
    assert 21 == len({alert.name for alert in CAUSES})


def test_a_cause_is_a_ticket() -> None:
    assert {("cause", "ticket")} == {(alert.kind, alert.severity) for alert in CAUSES}


def test_what_a_cause_explains_is_a_symptom() -> None:
    pages = {alert.name for alert in ALERTS if alert.kind == "symptom" and alert.severity == "page"}
    assert [] == [(alert.name, name) for alert in CAUSES for name in alert.explains if name not in pages]
    assert {*SYMPTOMS.values(), *MORE_PAGES} <= pages


@pytest.mark.parametrize("drill", DRILLS)
def test_the_causes_of_a_drill_explain_its_symptoms(drill: str) -> None:
    symptoms, causes = (words.split() for words in DRILLS[drill])
    assert [] == [(cause, one) for cause in causes for one in symptoms if SYMPTOMS[one] not in BY_ID[cause].explains]


def test_every_symptom_that_has_a_cause_in_the_catalogue_is_explained() -> None:
    # S9 has none: it names the hop itself.
    assert {*SYMPTOMS.values(), *MORE_PAGES} - {"CorruptionDetected"} == {name for alert in CAUSES for name in alert.explains}


def test_deadlines_are_those_of_the_catalogue() -> None:
    assert DEADLINES_SECONDS == {id: BY_ID[id].within_seconds for id in DEADLINES_SECONDS}


def test_every_cause_has_a_story_in_which_it_fires_and_look_alikes_in_which_it_is_quiet() -> None:
    fired = {fires.alert for story in STORIES for fires in story.fires}
    quiet = [name for story in STORIES for name in story.quiet]
    names = {alert.name for alert in CAUSES}
    assert names == fired
    assert [] == [name for name in names if quiet.count(name) < 4]


def test_a_gone_series_is_told_by_another_cause_that_is_not_silent_itself() -> None:
    speaks = {alert.name for alert in CAUSES if "absent(" in alert.expr}
    assert [] == [alert.name for alert in CAUSES if alert.name not in speaks and alert.absence not in speaks]


@pytest.mark.parametrize("alert", CAUSES, ids=lambda alert: alert.name)
def test_it_asks_for_what_is_counted(alert: object) -> None:
    assert [] == complaints(at(alert.expr, 5))  # type: ignore[attr-defined]


def test_no_series_keeps_a_label_that_an_alert_has_of_its_own() -> None:
    """Two series that differ in it alone would become one alert, and Prometheus gives up the rule."""
    kept = {
        (alert.name, label)
        for alert in ALERTS
        for group in re.findall(r"\bby \(([^)]*)\)", alert.expr)
        for label in group.split(", ")
    }
    assert [] == sorted(name for name, label in kept if label in ("kind", "severity", "owner", "policy"))
