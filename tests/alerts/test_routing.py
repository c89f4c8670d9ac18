"""Who is told of what, and of what not: by `amtool`, and by a real Alertmanager that is told alerts as Prometheus would."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alerts import quiet_start
from alerts import rules as alerts
from alerts.alert import Alert
from alerts.routing import FOLLOWS, HEARTBEAT, PAGES, TICKETS, Pace, Paces, config_text
from tests.alerts.alertmanager import Alertmanager, Hearer, alertmanager, amtool, hearer, receivers_of

SYMPTOM = Alert("CanaryLost", "S1", "symptom", "page", "vector(1)", "", "", within_seconds=30)
BLIND = Alert("MonitorBlind", "S10", "watch", "page", "vector(1)", "", "", within_seconds=180)
CAUSE = Alert(
    "CollectorDown", "K1", "cause", "ticket", "vector(1)", "", "", within_seconds=30, explains=("CanaryLost", "MonitorBlind")
)
OF_REDIS = replace(CAUSE, name="RedisErrors", hop="redis")
OF_AN_EXIT = replace(CAUSE, name="EtlBatchFailed")
ALERTS = (SYMPTOM, BLIND, CAUSE, OF_REDIS, OF_AN_EXIT)
# As the real ones, so much quicker.
QUICK = Paces(page=Pace(0.05, 0.1, 60.0), ticket=Pace(0.2, 0.1, 60.0), heartbeat=Pace(0.0, 0.25, 0.4))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "alertmanager.json"
    file.write_text(config_text("http://127.0.0.1:9095", ALERTS))
    return file


def test_amtool_finds_nothing_wrong(config: Path) -> None:
    code, said = amtool("check-config", str(config))
    assert 0 == code, said
    assert all(part in said for part in ("- 3 receivers", f"- {len(FOLLOWS) + 3 * 2 + 1} inhibit rules")), said


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=CanaryLost", "severity=page"], PAGES),
        (["alertname=CollectorDown", "severity=ticket"], TICKETS),
        (["alertname=Watchdog", "severity=none"], HEARTBEAT),
        (["alertname=TestPage", "severity=page"], HEARTBEAT),
        (["alertname=SomethingNew", "severity=none"], TICKETS),
        # A mistake is rather paged than lost.
        (["alertname=WithoutSeverity"], PAGES),
        (["alertname=Misspelt", "severity=Page"], PAGES),
    ],
)
def test_the_routing_tree_leads_to(config: Path, labels: list[str], receiver: str) -> None:
    assert receiver == receivers_of(config, labels)


def test_the_alerts_that_there_are_make_a_configuration_that_amtool_takes_and_each_is_inhibited_by_what_it_explains(
    tmp_path: Path,
) -> None:
    file = tmp_path / "alertmanager.json"
    file.write_text(config_text("http://127.0.0.1:9095", alerts.ALERTS))
    assert 0 == amtool("check-config", str(file))[0]
    for severity, receiver in (("page", PAGES), ("ticket", TICKETS)):
        one = next(alert for alert in alerts.ALERTS if alert.severity == severity)
        assert receiver == receivers_of(file, [f"alertname={one.name}", f"severity={severity}", f"policy={one.policy}"])
    rules = json.loads(file.read_text())["inhibit_rules"]
    targets = {each["target_matchers"][0] for each in rules[len(FOLLOWS) :]}
    known = {alert.name for alert in alerts.ALERTS if alert.severity == "page"}
    assert set() == {name for follows, first, _ in FOLLOWS for name in (follows, first)} - known
    explaining = [each.name for each in alerts.ALERTS if each.kind == "cause" and set(each.explains) - {"MonitorBlind"}]
    assert {f'alertname="{name}"' for name in explaining} == targets


def test_pages_wait_three_seconds_at_most_and_everything_goes_to_the_escalator(config: Path) -> None:
    told = json.loads(config.read_text())
    assert ("3000ms", "5000ms") == (told["route"]["group_wait"], told["route"]["group_interval"])
    assert {"http://127.0.0.1:9095/alertmanager"} == {
        hook["url"] for receiver in told["receivers"] for hook in receiver["webhook_configs"]
    }


@pytest.fixture
def heard() -> Iterator[Hearer]:
    with hearer() as each:
        yield each


@pytest.fixture
def running(tmp_path: Path, heard: Hearer) -> Iterator[Alertmanager]:
    with alertmanager(tmp_path, config_text(heard.url, ALERTS, QUICK)) as each:
        yield each


def fires(name: str, severity: str = "ticket", **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "policy": "default", **labels}


def renamed(all_of: tuple[Alert, ...], suffix: str) -> tuple[Alert, ...]:
    return tuple(
        replace(
            each, name=each.name + suffix, explains=tuple(one if one == BLIND.name else one + suffix for one in each.explains)
        )
        for each in all_of
    )


# Symptom with its exit, cause with its exit: whether that cause is told.
TOLD = {
    ("CanaryLost", "", "CollectorDown", ""): False,
    ("CanaryLost", "lake", "CollectorDown", ""): False,
    ("CanaryLost", "", "EtlBatchFailed", "redis"): False,
    ("CanaryLost", "redis", "EtlBatchFailed", "redis"): False,
    ("CanaryLost", "lake", "EtlBatchFailed", "redis"): True,
    ("CanaryLost", "redis", "RedisErrors", ""): False,
    ("CanaryLost", "lake", "RedisErrors", ""): True,
    ("MonitorBlind", "", "CollectorDown", ""): True,
    ("SomethingElse", "", "CollectorDown", ""): True,
}


def test_a_cause_is_told_unless_a_symptom_fires_that_it_explains(tmp_path: Path, heard: Hearer) -> None:
    """All cases in one Alertmanager, each under names of its own."""
    named = tuple(each for number in range(len(TOLD)) for each in renamed(ALERTS, str(number)))
    symptoms, causes = {}, {}
    for number, (symptom, at, cause, of) in enumerate(TOLD):
        name = symptom if symptom == BLIND.name else f"{symptom}{number}"
        symptoms[name] = fires(name, "page", **({"exit": at} if at else {}))
        causes[f"{cause}{number}"] = fires(f"{cause}{number}", **({"exit": of} if of else {}))
    with alertmanager(tmp_path, config_text(heard.url, named, QUICK)) as running:
        running.post(*symptoms.values())
        heard.wait_until(lambda: {name for name, _ in heard.told} == symptoms.keys())
        running.post(*causes.values(), fires("ThenThis"))
        want = dict(zip(causes, TOLD.values(), strict=True))
        expected = {*symptoms, "ThenThis", *(name for name, told in want.items() if told)}
        heard.wait_until(lambda: {name for name, _ in heard.told} >= expected)
        states = running.states()
    assert want == {name: states[name] == "active" for name in causes}
    assert expected == {name for name, _ in heard.told}


def test_a_page_that_only_follows_from_another_of_the_same_exit_is_not_told(running: Alertmanager, heard: Hearer) -> None:
    running.post(fires("CanaryLost", "page", exit="redis"))
    heard.wait_for("CanaryLost")
    running.post(fires("ExitStale", "page", exit="redis"), fires("ExitStale", "page", exit="lake"), fires("ExitStale", "page"))
    heard.wait_for("ExitStale")
    told = [alert["labels"].get("exit", "") for body in heard.bodies for alert in body["alerts"]]
    assert ["", "lake", "redis"] == sorted(told)


def test_a_cause_that_outlives_its_symptom_is_told_then(running: Alertmanager, heard: Hearer) -> None:
    symptom, cause = fires("CanaryLost", "page"), fires("CollectorDown")
    running.post(symptom)
    running.post(cause)
    heard.wait_for("CanaryLost")
    assert "suppressed" == running.states()["CollectorDown"]
    running.post(symptom, resolved=True)
    heard.wait_for("CollectorDown")
    running.post(cause, resolved=True)
    heard.wait_for("CollectorDown", "resolved")
    both = ["firing", "resolved"]
    assert (both, both) == tuple([status for name, status in heard.told if name == of] for of in ("CanaryLost", "CollectorDown"))


def test_the_watchdog_is_told_again_and_again_at_each_second_interval(running: Alertmanager, heard: Hearer) -> None:
    """So once a minute: a repeat that is due at an interval, and not before it, comes one later."""
    running.post(fires("Watchdog", "none"))
    heard.wait_until(lambda: len(heard.bodies) >= 3)
    assert [("Watchdog", "firing")] * 3 == heard.told[:3]
    real = Paces().heartbeat
    assert (60.0, True) == (2 * real.interval, real.interval < real.repeat < 2 * real.interval)


def test_what_was_told_is_known_after_a_restart_so_its_end_is_told_too(tmp_path: Path, heard: Hearer) -> None:
    lake, rds = fires("CanaryLost", "page", exit="lake"), fires("CanaryLost", "page", exit="rds")
    config = config_text(heard.url, ALERTS, QUICK)
    with alertmanager(tmp_path, config) as first:
        first.post(lake)
        heard.wait_for("CanaryLost")
        # It notes what it told after it told it: once it tells of the group again, the first is noted.
        first.post(rds)
        heard.wait_until(lambda: len(heard.bodies) == 2)
    with alertmanager(tmp_path, config) as second:
        # Prometheus says for a quarter of an hour that an alert has ended.
        second.post(lake, resolved=True)
        heard.wait_for("CanaryLost", "resolved")
    assert ["lake"] == [alert["labels"]["exit"] for alert in heard.bodies[-1]["alerts"] if alert["status"] == "resolved"]


def test_a_start_is_silent_but_for_signs_of_life_and_prometheus_hears_of_alertmanager_afterwards(
    tmp_path: Path, running: Alertmanager
) -> None:
    introduction = tmp_path / "introduction.json"
    with pytest.raises(OSError, match="refused"):
        quiet_start.main(["--alertmanager", "http://127.0.0.1:9", "--introduce", str(introduction)])
    assert not introduction.exists()
    assert 0 == quiet_start.main(["--alertmanager", running.url, "--seconds", "60", "--introduce", str(introduction)])
    assert [{"targets": [running.url.removeprefix("http://")]}] == json.loads(introduction.read_text())
    running.post(fires("CanaryLost", "page"), fires("CollectorDown"), fires("Watchdog", "none"), fires("TestPage", "page"))
    silenced = {"CanaryLost": "suppressed", "CollectorDown": "suppressed", "Watchdog": "active", "TestPage": "active"}
    assert silenced == running.states()
