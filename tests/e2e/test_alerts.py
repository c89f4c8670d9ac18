"""Alerts on a live stack, with a stand-in for PagerDuty: a page arrives and names its cause, people are told in turn and in time,
and whoever watches is watched.

One stack for all, in the order of the file: well at first, then without collectors, then each watcher in turn hangs (SIGSTOP: its
port is open and it is silent, which is worse than dead).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from alerts.symptoms import SYMPTOMS
from loadtests.flights.dataset import month
from loadtests.flights.events import by_door
from loadtests.flights.replay import Doors, replay
from pipeline.doors.keys import add_key
from pipeline.stack.launch import Stack
from pipeline.stack.plan import StackSettings
from tests.alerts.pagerduty import PagerDuty, Received, pagerduty
from tests.e2e.conftest import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.proof, pytest.mark.timeout(600)]

# A start is over and nothing of it fires any more.
QUIET_START_SECONDS = 90
WELL_SECONDS = 150.0
READY_SECONDS_MAX = 400.0
# The console asks for five seconds whoever hangs.
ASK_SECONDS_MAX = 15.0
# The promises.
PAGE_SECONDS_MAX, WATCH_SECONDS_MAX = 60.0, 180.0
LEVEL_SECONDS, LEVEL_LATE_SECONDS_MAX = 15.0, 3.0
# What burnt a budget fires until its short window is clean, and is kept for a while; besides, rounds and sending.
RESOLVED_SECONDS_MAX = 300.0 + {each.name: each for each in SYMPTOMS}["IngestErrorsFastBurn"].keep_firing_seconds + 60.0
# A machine with so many more to run than it has processors is slow, and the alerts that say so are right.
BUSY_LOAD, SLOW = 4.0 * (os.cpu_count() or 1), {"CanarySlow", "FreshnessFastBurn", "FreshnessSlowBurn"}
# Keys of those who are told by PagerDuty.
FIRST, SECOND, WATCH = "1" * 32, "2" * 32, "9" * 32
POLICY = f"""
policy: default
levels:
  - notify: [{{who: first, channel: pagerduty}}]
    acknowledge_within_seconds: {LEVEL_SECONDS:g}
  - notify: [{{who: second, channel: pagerduty-second}}]
    acknowledge_within_seconds: {LEVEL_SECONDS:g}
repeat: 1
stop_on_resolve: true
"""
TICKET = """
policy: ticket
levels:
  - notify: [{who: whoever looks, channel: log}]
    acknowledge_within_seconds: null
repeat: 0
stop_on_resolve: true
"""


@dataclass(frozen=True)
class Site:
    stack: Stack
    pager: PagerDuty
    # When it was ready.
    began: float

    def get(self, part: str, path: str) -> Any:
        with urllib.request.urlopen(f"{self.stack.endpoints[part]}{path}", timeout=ASK_SECONDS_MAX) as answer:
            return json.loads(answer.read())

    def pages(self, state: str = "all") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("escalator", f"/api/pages?state={state}")["pages"]
        return found

    def sent(self, action: str, *keys: str, since: float = 0.0) -> list[Received]:
        """What PagerDuty was told, by the routing keys of those who hear it."""
        return [
            each
            for each in self.pager.received()
            if (each.action, each.at >= since) == (action, True) and each.body["routing_key"] in keys
        ]

    def watch(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("health:watch", "/watch")
        return found

    def blind(self) -> set[str]:
        return {each["watcher"] for each in self.watch().get("watchers", ()) if each["outcome"] == "BLIND"}

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "spillway.py", *words]
        return subprocess.run(command, env=os.environ | self.stack.env(), capture_output=True, text=True, timeout=60, check=False)

    def firing(self) -> list[str]:
        alerts = self.get("prometheus", "/api/v1/alerts")["data"]["alerts"]
        return sorted({each["labels"]["alertname"] for each in alerts if each["state"] == "firing"} - {"Watchdog"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("alerts")
    policies = folder / "policies"
    policies.mkdir()
    for name, text in (("default", POLICY), ("ticket", TICKET)):
        (policies / f"{name}.yaml").write_text(text)
    with pagerduty() as pager:
        env = {
            "SPILLWAY_ESCALATOR_POLICIES": str(policies),
            "SPILLWAY_ESCALATOR_PAGERDUTY_URL": pager.url,
            "SPILLWAY_ESCALATOR_PAGERDUTY_KEY": FIRST,
            "SPILLWAY_ESCALATOR_PAGERDUTY_SECOND_KEY": SECOND,
            "SPILLWAY_WATCH_PAGERDUTY_KEY": WATCH,
        }
        settings = StackSettings(quiet_start_seconds=QUIET_START_SECONDS)
        with Stack.start(folder / "stack", settings=settings, env=env, deadline_seconds=READY_SECONDS_MAX) as stack:
            yield Site(stack, pager, time.time())


class Load:
    """A few flights a second through both doors, until told to stop."""

    def __init__(self, stack: Stack) -> None:
        key = add_key(stack.folder.keys, "airline", "producer")
        self.doors = Doors(stack.env()["SPILLWAY_COLLECTOR"], stack.endpoints["http"], key)
        self.acknowledged = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for first in count(0, 5):
            if self._stop.wait(1.0):
                return
            pairs = list(by_door(list(islice(month(), first, first + 5))))
            self.acknowledged += len(replay(pairs, self.doors).acknowledged)

    def end(self) -> int:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.acknowledged


def seconds_until(true: Callable[[], bool], seconds_max: float, what: Callable[[], str]) -> float:
    began = time.monotonic()
    wait_until(true, what, seconds_max)
    return time.monotonic() - began


def told(site: Site) -> str:
    pages = [(page["alert"], page["state"], page["annotations"].get("cause")) for page in site.pages()]
    return f"firing: {site.firing()}; pages: {pages}; watch: {site.watch().get('sentence')}"


def is_busy() -> bool:
    return os.getloadavg()[1] > BUSY_LOAD


def wait_until_well(site: Site, seconds_max: float = RESOLVED_SECONDS_MAX) -> float:
    """Nothing fires, no page is open, and the watch says OK; a busy machine may be slow."""

    def well() -> bool:
        try:
            wrong = {*site.firing(), *(page["alert"] for page in site.pages("open"))}
            return not wrong - (SLOW if is_busy() else set()) and site.watch().get("outcome") == "OK"
        except OSError:
            return False

    return seconds_until(well, seconds_max, lambda: f"all is well: {told(site)}")


def wait_until_seen(site: Site) -> None:
    """The watch says OK. What burnt a budget may still fire: it is seen."""

    def seen() -> bool:
        try:
            return bool(site.watch().get("outcome") == "OK")
        except OSError:
            return False

    wait_until(seen, lambda: f"the watch says OK: {told(site)}", RESOLVED_SECONDS_MAX)


def test_a_healthy_stack_under_load_pages_nobody_from_its_start_on(site: Site) -> None:
    began = time.time()
    ends = max(began, site.began + QUIET_START_SECONDS) + WELL_SECONDS
    load = Load(site.stack)
    try:
        wait_until(lambda: time.time() >= ends, "minutes pass", ends - began + 10.0)
    finally:
        acknowledged = load.end()
    print(f"healthy under load for {WELL_SECONDS:.0f} s: {acknowledged} events acknowledged, {told(site)}")
    assert acknowledged > 500
    # Tickets stand there, too, and wake nobody.
    pages = [each["alert"] for each in site.pages() if each["opened_at"] >= began and each["labels"]["severity"] == "page"]
    if is_busy() and pages and set(pages) <= SLOW:
        pytest.skip(f"this machine is too busy to be called healthy: load {os.getloadavg()[1]:.0f}; {told(site)}")
    assert [] == site.sent("trigger", FIRST, SECOND, WATCH, since=began), told(site)
    assert ([], "OK") == (pages, site.watch()["outcome"])
    # The first test page took the whole way, to PagerDuty's change events.
    assert 1 == len(site.sent("change", FIRST))
    assert 0 == site.run("watch", "--once").returncode


@pytest.fixture
def no_collectors(site: Site) -> Iterator[float]:
    """Both doors are killed, and kept from coming back."""
    wait_until_well(site)
    for door in ("grpc", "http"):
        site.stack.hold(door)
        site.stack.kill(door, signal.SIGKILL)
    yield time.time()
    for door in ("grpc", "http"):
        site.stack.release(door)
    for door in ("grpc", "http"):
        site.stack.wait_ready(door, 60.0)


def test_no_collectors_page_in_a_minute_with_the_cause_the_next_level_on_time_and_none_after_an_acknowledgement(
    site: Site, no_collectors: float
) -> None:
    stack, killed_at = site.stack, no_collectors

    def caused() -> list[Received]:
        return [
            each
            for each in site.sent("trigger", FIRST, since=killed_at)
            if "CollectorDown" in each.body["payload"]["custom_details"].get("probable_cause", "")
        ]

    wait_until(lambda: bool(caused()), lambda: f"a page that names CollectorDown: {told(site)}", PAGE_SECONDS_MAX)
    first = site.sent("trigger", FIRST, since=killed_at)[0]
    named = caused()[0]
    print(f"paged {first.at - killed_at:.1f} s after the kill ({first.body['payload']['summary']}), with its cause after "
          f"{named.at - killed_at:.1f} s: {named.body['payload']['custom_details']['probable_cause']}")  # fmt: skip
    assert named.at - killed_at < PAGE_SECONDS_MAX

    # Between two levels the escalator dies.
    stack.kill("escalator", signal.SIGKILL)
    stack.wait_until("escalator", lambda each: each.restarts >= 1 and each.state == "ready", 30.0)

    def second() -> list[Received]:
        return [each for each in site.sent("trigger", SECOND, since=killed_at) if each.dedup_key == named.dedup_key]

    wait_until(lambda: bool(second()), lambda: f"the second level: {told(site)}", LEVEL_SECONDS + 30.0)
    late = second()[0].at - named.at - LEVEL_SECONDS
    print(f"second level {LEVEL_SECONDS + late:.1f} s after the first, over a SIGKILL of the escalator")
    assert -1.0 < late < LEVEL_LATE_SECONDS_MAX

    # Acknowledged, nothing follows: each page's first level is due again within two levels' time.
    keys = {page["key"] for page in site.pages("open")}
    for key in keys:
        assert 0 == site.run("pages", "ack", key, "--who", "tester").returncode
    acknowledged_at = time.time()
    wait_until(lambda: keys <= {each.dedup_key for each in site.sent("acknowledge", FIRST)}, lambda: f"told: {told(site)}", 20.0)
    wait_until(lambda: time.time() > acknowledged_at + 2 * LEVEL_SECONDS, "two levels' time", 2 * LEVEL_SECONDS + 5.0)
    after = site.sent("trigger", FIRST, SECOND, since=acknowledged_at + 1.0)
    assert [] == [each.dedup_key for each in after if each.dedup_key in keys]
    # Nothing was doubled: who was told of a page that was taken in its first round was told once.
    triggers = [each for each in site.sent("trigger", FIRST, SECOND, since=killed_at) if each.dedup_key in keys]
    times = [(each.dedup_key, each.body["routing_key"]) for each in triggers]
    assert sorted(set(times)) == sorted(times)
    open_incidents = [each.key.rpartition("-")[0] for each in site.pager.incidents() if each.state != "resolved"]
    assert sorted(set(open_incidents)) == sorted(open_incidents)

    for door in ("grpc", "http"):
        stack.release(door)
    back_at = time.time()
    for door in ("grpc", "http"):
        stack.wait_ready(door, 60.0)

    def unresolved() -> set[str]:
        return {each.key for each in site.pager.incidents() if each.state != "resolved"}

    wait_until(
        lambda: not unresolved(), lambda: f"PagerDuty is told that {unresolved()} are over: {told(site)}", RESOLVED_SECONDS_MAX
    )
    print(f"the last incident was resolved {time.time() - back_at:.1f} s after the doors were released")
    assert [] == site.pager.invalid()


def verdict_of_console(site: Site) -> str:
    found: str = site.get("console", "/api/hops")["verdict"]["state"]
    return found


def page_of_console(site: Site, path: str) -> str:
    with urllib.request.urlopen(f"{site.stack.endpoints['console']}{path}", timeout=ASK_SECONDS_MAX) as answer:
        text: str = answer.read().decode()
        return text


def green_while_blind(site: Site, watcher: str) -> list[str]:
    """Who says that all is well though nobody can know."""
    green = []
    if site.watch()["outcome"] == "OK" or site.run("watch", "--once").returncode == 0:
        green.append("the watch")
    if watcher == "prometheus" and verdict_of_console(site) == "ok":
        green.append("the console's verdict")
    if watcher == "canary":
        if site.run("canary", "status").returncode == 0:
            green.append("canary status")
        if "is not known" not in page_of_console(site, "/canary"):
            green.append("the console's canary page")
    if watcher == "ledger" and "UNKNOWN" not in page_of_console(site, "/ledger"):
        green.append("the console's ledger page")
    return green


@pytest.mark.parametrize("watcher", ["alertmanager", "canary", "ledger", "escalator", "prometheus"])
def test_a_watcher_that_hangs_is_told_of_by_the_watch_and_nothing_is_green_meanwhile(site: Site, watcher: str) -> None:
    stack, incident = site.stack, "spillway-watch"
    wait_until_seen(site)
    stopped_at = time.time()
    stack.kill(watcher, signal.SIGSTOP)
    try:
        wait_until(
            lambda: any(watcher in each.body["payload"]["summary"] for each in site.sent("trigger", WATCH, since=stopped_at)),
            lambda: f"the watch pages: {site.watch()}",
            WATCH_SECONDS_MAX,
        )
        page = site.sent("trigger", WATCH, since=stopped_at)[0]
        print(f"{watcher} hangs: paged by the watch after {page.at - stopped_at:.1f} s: {page.body['payload']['summary']}")
        assert (incident, True) == (page.dedup_key, watcher in site.blind())
        assert [] == green_while_blind(site, watcher)
        if watcher == "ledger":
            # What it wrote down is old after half a minute, and is said to be.
            wait_until(lambda: site.run("ledger").returncode == 2, "spillway ledger says UNKNOWN", 60.0)
        if watcher == "prometheus":
            # The dead man's switch tells, too.
            wait_until(lambda: any(each["alert"] == "MonitorBlind" for each in site.pages("open")), "MonitorBlind", 150.0)
            print(f"prometheus hangs: the dead man's switch opened MonitorBlind after {time.time() - stopped_at:.1f} s")
    finally:
        stack.kill(watcher, signal.SIGCONT)
    back_at = time.time()
    wait_until_seen(site)
    print(f"{watcher} is back: the watch says OK {time.time() - back_at:.1f} s later")
    assert [each.state for each in site.pager.incidents() if each.key == incident][-1] == "resolved"
    false = {each.dedup_key for each in site.sent("trigger", FIRST, since=stopped_at)}
    assert [] == sorted(key for key in false if key.startswith(("CanaryLost", "AckedUnaccounted")))
