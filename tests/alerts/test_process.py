"""The escalator as a process: killed at the worst moments, with a pager that is ill; and what its HTTP answers."""

import hashlib
import hmac
import json
import random
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alerts.escalator.command import pages as pages_command
from tests.alerts.pagerduty import KEY, PagerDuty, pagerduty
from tests.alerts.running import Escalator, alert, alertmanager_api, escalator, posted

SECRET = "of PagerDuty's webhook"
QUICK = """
policy: default
levels:
  - {notify: [{who: first, channel: pagerduty}, {who: looker, channel: log}], acknowledge_within_seconds: 1}
  - {notify: [{who: second, channel: pagerduty-second}], acknowledge_within_seconds: 600}
"""


@pytest.fixture(scope="module")
def pager() -> Iterator[PagerDuty]:
    with pagerduty() as pager:
        yield pager


@pytest.fixture(scope="module")
def running(pager: PagerDuty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Escalator]:
    folder = tmp_path_factory.mktemp("escalator")
    (folder / "policies").mkdir()
    (folder / "policies" / "default.yaml").write_text(QUICK)
    env = {"SPILLWAY_ESCALATOR_PAGERDUTY_SECOND_KEY": KEY[::-1], "SPILLWAY_ESCALATOR_POLICIES": str(folder / "policies")}
    env["SPILLWAY_ESCALATOR_PAGERDUTY_WEBHOOK_SECRET"] = SECRET
    with escalator(folder, **pager.environment(), **env) as process:
        yield process


def of(pager: PagerDuty, key: str) -> list[str]:
    return [entry for incident in pager.incidents() if incident.key == key for entry in incident.log]


def test_killed_between_webhook_and_delivery_it_pages_once_and_loses_nothing(running: Escalator, pager: PagerDuty) -> None:
    pager.behave("hang")
    assert 200 == running.post(alert("CanaryLost", exit="redis"))
    pager.wait_until(lambda pager: pager.hanging > 0, 15, "the pager is asked")
    running.kill()
    pager.behave("ok")
    assert [] == pager.received()
    running.start()
    pager.wait_until(lambda pager: len(pager.received()) >= 2, 15, "both levels are told")
    key = running.page("CanaryLost")["key"]
    assert {key} == {each.dedup_key for each in pager.received()}
    assert [(key, "triggered")] == [(each.key, each.state) for each in pager.incidents()]
    assert 200 == running.post(alert("CanaryLost", "resolved", exit="redis"))
    pager.wait_until(lambda pager: pager.incidents()[0].state == "resolved", 15, "it is over")
    assert [] == pager.invalid()


def test_a_message_that_was_taken_and_not_answered_is_sent_again_into_the_same_incident(
    running: Escalator, pager: PagerDuty
) -> None:
    pager.behave("lose_answer")
    running.post(alert("CanarySlow"))
    key = running.page("CanarySlow")["key"]
    pager.wait_until(lambda pager: "trigger" in of(pager, key), 15, "it took the first")
    running.kill()
    pager.behave("ok")
    running.start()
    running.wait_for(lambda: "pending" not in {each["outcome"] for each in running.page("CanarySlow")["notified"]})
    assert [key] == [each.key for each in pager.incidents() if each.key == key]
    running.ask(f"/api/pages/{key}/resolve", {"who": "ann"})


def test_acknowledged_by_the_command_nobody_else_is_told_and_pagerduty_knows(running: Escalator, pager: PagerDuty) -> None:
    running.post(alert("ExitStale"))
    key = running.page("ExitStale")["key"]
    done = CliRunner().invoke(pages_command, ["ack", key, "--who", "ann", "--url", running.url])
    assert (0, f"{key}: acknowledged. Next: nothing: ann has it\n") == (done.exit_code, done.output)
    pager.wait_until(lambda pager: "acknowledge" in of(pager, key), 15, "PagerDuty is told")
    listed = CliRunner().invoke(pages_command, ["list", "--json", "--url", running.url])
    (page,) = [each for each in json.loads(listed.output)["pages"] if each["key"] == key]
    assert ("acknowledged", "ann", None) == (page["state"], page["acknowledged_by"], page["next_at"])
    shown = CliRunner().invoke(pages_command, ["show", key, "--url", running.url])
    assert "RedisErrors: redis refuses connections" in shown.output
    resolved = CliRunner().invoke(pages_command, ["resolve", key, "--who", "ann", "--url", running.url])
    assert f"{key}: resolved. Next: over since " in resolved.output


def test_unacknowledged_the_next_level_is_told(running: Escalator, pager: PagerDuty) -> None:
    running.post(alert("BackupGap"))
    key = running.page("BackupGap")["key"]
    keys = [KEY, KEY[::-1]]
    pager.wait_until(
        lambda pager: [each.body["routing_key"] for each in pager.received() if each.dedup_key == key] == keys, 15, "two"
    )
    wanted = [
        (1, "first", "pagerduty", "delivered"),
        (1, "looker", "log", "delivered"),
        (2, "second", "pagerduty-second", "delivered"),
    ]
    running.wait_for(
        lambda: wanted == [(e["level"], e["who"], e["channel"], e["outcome"]) for e in running.page("BackupGap")["notified"]]
    )


def test_the_pager_gets_the_facts(running: Escalator, pager: PagerDuty) -> None:
    running.post(alert("RedactionLeak", hop="redactor"))
    key = running.page("RedactionLeak")["key"]
    pager.wait_until(lambda pager: bool(of(pager, key)), 15, "it is told")
    body = next(each.body for each in pager.received() if each.dedup_key == key)
    payload, details = body["payload"], body["payload"]["custom_details"]
    assert ("RedactionLeak: RedactionLeak: probes do not reach redis", "critical", "redactor", "RedactionLeak") == (
        payload["summary"], payload["severity"], payload["component"], payload["class"],
    )  # fmt: skip
    assert ("Hot state is old.", "RedisErrors: redis refuses connections", "2026-11-26 04:00:00 UTC", "61 % of this month's") == (
        details["what_users_feel"], details["probable_cause"], details["since"], details["error_budget_left"],
    )  # fmt: skip
    assert ["Runbook", "Dashboard", "Traces", "All pages", "Acknowledge", "Resolve"] == [link["text"] for link in body["links"]]
    assert [] == pager.invalid()


def test_a_signed_link_shows_a_button_and_changes_nothing_until_it_is_pressed(running: Escalator, pager: PagerDuty) -> None:
    running.post(alert("CorruptionDetected"))
    key = running.page("CorruptionDetected")["key"]
    pager.wait_until(lambda pager: bool(of(pager, key)), 15, "it is told")
    body = next(each.body for each in pager.received() if each.dedup_key == key)
    (link,) = [link["href"] for link in body["links"] if link["text"] == "Acknowledge"]
    path = urllib.parse.urlsplit(link).path
    status, shown = running.ask(path)
    assert (200, True, "open") == (status, "Acknowledge: I take it" in shown, running.page("CorruptionDetected")["state"])
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert 200 == running.ask(path, b"", form)[0]
    assert ("acknowledged", "first (link)") == tuple(
        running.page("CorruptionDetected")[name] for name in ("state", "acknowledged_by")
    )  # fmt: skip
    assert 200 == running.ask(path, b"", form)[0]
    assert 403 == running.ask(path[:-2] + "xx", b"", form)[0]


def test_who_acknowledges_in_pagerdutys_app_has_acknowledged_here(running: Escalator) -> None:
    running.post(alert("DuplicatesOverContract"))
    key = running.page("DuplicatesOverContract")["key"]
    event = {"event_type": "incident.acknowledged", "agent": {"summary": "Ann"}, "data": {"incident_key": key}}
    body = json.dumps({"event": event}).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert 403 == running.ask("/pagerduty", body, {"x-pagerduty-signature": f"v1={digest[::-1]}"})[0]
    assert "open" == running.page("DuplicatesOverContract")["state"]
    outside = {"x-pagerduty-signature": f"v1=old,v1={digest}", "host": "escalator.example"}
    assert 200 == running.ask("/pagerduty", body, outside)[0]
    page = running.page("DuplicatesOverContract")
    assert ("acknowledged", "Ann (PagerDuty)") == (page["state"], page["acknowledged_by"])


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "says"),
    [
        ("/alertmanager", b"{", {}, 400, "no JSON"),
        ("/alertmanager", {"alerts": [], "version": "3"}, {}, 400, "version 4"),
        ("/alertmanager", {"alerts": [{"labels": {}}], "version": "4"}, {}, 400, "alerts[0].status"),
        ("/alertmanager", posted(alert("X")), {"content-type": "text/plain"}, 415, "send JSON"),
        ("/alertmanager", posted(alert("X")), {"host": "evil.example"}, 421, "loopback"),
        ("/api/pages/nobody/acknowledge", {"who": "ann"}, {}, 404, "no such page"),
        ("/api/pages/nobody/acknowledge", {}, {}, 400, "say who you are"),
        ("/api/pages?state=odd", None, {}, 400, "open, closed or all"),
        ("/api/pages?limit=0", None, {}, 400, "1 to 1000"),
    ],
)
def test_what_cant_be_taken_is_refused_with_the_remedy(
    running: Escalator, path: str, body: Any, headers: dict[str, str], status: int, says: str
) -> None:
    answered, said = running.ask(path, body, headers)
    assert (status, True) == (answered, says in str(said)), said


def test_sigterm_ends_it_well(running: Escalator) -> None:
    assert 0 == running.end()


@pytest.mark.slow
def test_a_test_page_takes_the_whole_path_and_one_that_does_not_come_back_pages(tmp_path: Path) -> None:
    env = {"SPILLWAY_ESCALATOR_TEST_EVERY_SECONDS": "3600", "SPILLWAY_ESCALATOR_TEST_LATE_SECONDS": "2"}
    env |= {"SPILLWAY_ESCALATOR_TEST_FIRST_SECONDS": "1", "SPILLWAY_ESCALATOR_DEADMAN_GRACE_SECONDS": "3"}
    with (
        pagerduty() as pager,
        alertmanager_api() as (url, tests),
        escalator(tmp_path, url, **pager.environment(), **env) as running,
    ):
        pager.wait_until(lambda pager: len(pager.incidents()) == 2, 30, "TestPage and MonitorBlind are paged")
        assert {"TestPage", "MonitorBlind"} == {page["alert"] for page in running.pages("open")}
        (test,) = tests
        running.post({**alert("TestPage"), "labels": test["labels"]})
        running.post(alert("Watchdog"))
        pager.wait_until(lambda pager: "change" in {each.action for each in pager.received()}, 15, "the pager sees the test")
        pager.wait_until(lambda pager: {"resolved"} == {each.state for each in pager.incidents()}, 15, "both are over")
        assert ("ok", "ok") == tuple(running.ask("/api/health")[1][name]["state"] for name in ("test_page", "deadman"))
        assert [] == pager.invalid()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_every_alert_is_one_incident(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with pagerduty() as pager, escalator(tmp_path, **pager.environment()) as running:
        names = [f"Alert{number}" for number in range(8)]
        for name in names:
            pager.behave(chance.choice(("ok", "hang", "lose_answer", "500", "429")))
            assert 200 == running.post(alert(name))
            if chance.random() < 0.6:
                if chance.random() < 0.3:
                    running.wait_for(lambda: pager.hanging or pager.received(), 1 + chance.random())
                running.kill()
                running.start()
        pager.behave("ok")
        keys = {page["alert"]: page["key"] for page in running.pages()}
        pager.wait_until(
            lambda pager: {keys[name] for name in names} <= {each.key for each in pager.incidents()}, 90, "all are told"
        )
        assert len({each.key for each in pager.incidents()}) == len(pager.incidents())
        for name in names:
            running.post(alert(name, "resolved"))
        pager.wait_until(lambda pager: {"resolved"} == {each.state for each in pager.incidents()}, 90, "all are over")
        assert len({each.key for each in pager.incidents()}) == len(pager.incidents())
        assert [] == pager.invalid()
