"""The watch: each way in which a watcher can be blind is named, nobody is paged about a blip, no message is lost or doubled."""

import io
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from alerts.watch.ask import ask
from alerts.watch.command import watch as watch_command
from alerts.watch.judge import Answer, Answers, Finding, Outcome, Report, judge
from alerts.watch.service import Watch
from alerts.watch.settings import ADDRESSES, InvalidSetting, Limits, WatchSettings, load
from alerts.watch.strikes import Standing, Told, advance, due, settled
from alerts.watch.tell import Tellers
from telemetry import metrics as m
from telemetry.log import configure
from telemetry.metrics import Metrics
from tests.alerts.alertmanager import Hearer, hearer

NOW = 1_764_130_000.0
JUST = "2025-11-26T04:06:38.123456789Z"
LONG_AGO = "2025-11-26T04:00:00.123456789+00:00"
NEVER = "0001-01-01T00:00:00Z"

SILENCE = {
    "status": {"state": "active"},
    "matchers": [{"name": "severity", "value": "page", "isRegex": False, "isEqual": True}],
    "endsAt": JUST,
    "createdBy": "somebody",
    "comment": "at night",
}
OF_ONE = SILENCE | {"matchers": [{"name": "alertname", "value": "CanarySlow", "isRegex": False, "isEqual": True}]}

Said = dict[str, Any]


def good() -> dict[str, Said]:
    """What each watcher answers while all is well: by watcher and question, JSON or text."""
    rule = {"name": "Watchdog", "type": "alerting", "health": "ok"}
    target = {"health": "up", "lastScrape": JUST}
    row = {"exit": "lake", "blind": "", "looked_seconds": 2.0}
    return {
        "prometheus": {
            "ready": "Prometheus Server is Ready.",
            "rules": {"data": {"groups": [{"name": "g", "interval": 5, "lastEvaluation": JUST, "rules": [rule]}]}},
            "targets": {"data": {"activeTargets": [target, {"health": "down", "lastScrape": JUST}]}},
            "alertmanagers": {"data": {"activeAlertmanagers": [{"url": "http://x"}]}},
        },
        "alertmanager": {"ready": "OK", "silences": [dict(SILENCE, status={"state": "expired"}), OF_ONE]},
        "escalator": {
            "health": {
                "deadman": {"state": "ok", "seen_at": NOW - 30, "due_at": NOW + 70},
                "test_page": {"state": "ok", "sent_at": NOW - 900, "returned_at": NOW - 899, "seconds": 1.0},
                "channels": [{"name": "pagerduty", "state": "ok", "last_ok_at": NOW - 900, "last_error": ""}],
                "outbox": {"pending": 1, "oldest_at": NOW - 1},
                "durable": True,
                "said": "",
            }
        },
        "canary": {"report": {"at": NOW - 1, "sent": 40, "outcome": "held", "rows": [row, {**row, "exit": "rds"}]}},
        "ledger": {
            "standing": {"written_at": NOW - 3, "judged_to": NOW - 100},
            "metrics": "# TYPE spillway_ledger_sight_usable gauge\nspillway_ledger_sight_usable 1.0\n",
        },
        "console": {"health": "ok"},
    }


def answered(said: dict[str, Said]) -> dict[str, Answers | None]:
    def body(value: Any) -> Answer:
        return value if isinstance(value, Answer) else Answer(200, value if isinstance(value, str) else json.dumps(value))

    return {watcher: {name: body(value) for name, value in each.items()} for watcher, each in said.items()}


def found(said: dict[str, Said]) -> Report:
    return judge(answered(said), NOW, Limits())


def not_ok(report: Report) -> list[tuple[str, str, str]]:
    return [(each.watcher, each.outcome.value, each.words) for each in report.findings if each.outcome is not Outcome.OK]


def test_all_is_well_when_every_watcher_shows_that_it_works() -> None:
    report = found(good())
    assert (Outcome.OK, []) == (report.outcome, not_ok(report))
    assert "All 6 watchers see: prometheus, alertmanager, escalator, canary, ledger, console." == report.sentence
    assert "scrapes 1 of 2 processes, evaluates 1 alerts, each within 2 s" == report.findings[0].words


def change(*path: Any, to: Any) -> Callable[[dict[str, Said]], None]:
    """Puts a value where the path leads, in what all answer."""

    def put(said: Any) -> None:
        for step in path[:-1]:
            said = said[step]
        said[path[-1]] = to

    return put


HEALTH, REPORT, STANDING = ("escalator", "health"), ("canary", "report"), ("ledger", "standing")
GROUP, TARGETS = ("prometheus", "rules", "data", "groups", 0), ("prometheus", "targets", "data", "activeTargets")
RULE = (*GROUP, "rules", 0)


@pytest.mark.parametrize(
    ("broken", "watcher", "outcome", "words"),
    [
        (change("prometheus", "ready", to=Answer(503, "Service Unavailable")), "prometheus", "BLIND", "answers 503: Service"),
        (
            change("prometheus", "rules", to=Answer(0, error="nothing in 4 s")),
            "prometheus",
            "BLIND",
            "does not answer (nothing in",
        ),
        (
            change(*GROUP, "lastEvaluation", to=LONG_AGO),
            "prometheus",
            "BLIND",
            "does not evaluate its rules g, for 7 min and more",
        ),
        (change(*GROUP, "lastEvaluation", to=NEVER), "prometheus", "UNKNOWN", "has not evaluated every rule yet"),
        (change(*RULE, "name", to="Other"), "prometheus", "BLIND", "has no alert rules"),
        (change(*RULE, "health", to="err"), "prometheus", "BLIND", "can't evaluate Watchdog"),
        (change(*TARGETS, to=[{"health": "down", "lastScrape": JUST}]), "prometheus", "BLIND", "sees none of 1 processes"),
        (change(*TARGETS, to=[{"health": "up", "lastScrape": LONG_AGO}]), "prometheus", "BLIND", "has scraped nobody for 7 min"),
        (change(*TARGETS, to=[]), "prometheus", "UNKNOWN", "scrapes nobody yet"),
        (
            change("prometheus", "alertmanagers", "data", "activeAlertmanagers", to=[]),
            "prometheus",
            "BLIND",
            "knows no Alertmanager",
        ),
        (change("alertmanager", "ready", to=Answer(0, error="refused")), "alertmanager", "BLIND", "does not answer (refused)"),
        (
            change("alertmanager", "silences", to=[SILENCE]),
            "alertmanager",
            "UNKNOWN",
            "is silenced until 04:06:38 UTC by somebody: at",
        ),
        (change(*HEALTH, "durable", to=False), "escalator", "BLIND", "can't keep pages: its disk refuses"),
        (change(*HEALTH, "deadman", "state", to="late"), "escalator", "BLIND", "has heard no Watchdog for 30 s"),
        (change(*HEALTH, "deadman", "state", to="never"), "escalator", "UNKNOWN", "has not heard Watchdog yet"),
        (
            change(*HEALTH, "test_page", "state", to="late"),
            "escalator",
            "BLIND",
            "sent a test page that did not come back (late)",
        ),
        (change(*HEALTH, "test_page", "state", to="failed"), "escalator", "BLIND", "sent a test page that did not come back"),
        (change(*HEALTH, "channels", 0, "state", to="refusing"), "escalator", "BLIND", "can't page by pagerduty: refused"),
        (change(*HEALTH, "outbox", "oldest_at", to=NOW - 300), "escalator", "BLIND", "has 1 messages that nobody took"),
        (change(*REPORT, to={}), "canary", "UNKNOWN", "has just begun"),
        (change(*REPORT, "at", to=NOW - 31), "canary", "BLIND", "hangs: what it knows is 31 s old"),
        (change(*REPORT, "sent", to=0), "canary", "UNKNOWN", "has sent no probe yet"),
        (change(*REPORT, "rows", 0, "blind", to="down"), "canary", "UNKNOWN", "can't look at lake"),
        (change(*REPORT, "rows", 0, "looked_seconds", to=61.0), "canary", "UNKNOWN", "can't look at lake"),
        (change(*REPORT, "rows", 0, "looked_seconds", to=None), "canary", "UNKNOWN", "has not looked at lake yet"),
        (
            change(*REPORT, "rows", to=[{"exit": "rds", "blind": "down", "looked_seconds": 1}]),
            "canary",
            "BLIND",
            "can look at no",
        ),
        (change(*STANDING, "written_at", to=NOW - 46), "ledger", "BLIND", "has finished no round for 46 s"),
        (change(*STANDING, "written_at", to=0.0), "ledger", "UNKNOWN", "has finished no round yet"),
        (change(*STANDING, "judged_to", to=NOW - 301), "ledger", "BLIND", "has judged no window for 5 min"),
        (change(*STANDING, "judged_to", to=0), "ledger", "UNKNOWN", "has judged no window yet"),
        (change("ledger", "metrics", to="spillway_ledger_sight_usable 0.0\n"), "ledger", "BLIND", "can't look at everything"),
        (change("ledger", "metrics", to="process_start_time_seconds 1.0\n"), "ledger", "BLIND", "can't look at everything"),
        (change("console", "health", to=Answer(0, error="refused")), "console", "BLIND", "does not answer (refused)"),
        (change("canary", "report", to="<html>"), "canary", "BLIND", "answers what can't be read (JSONDecodeError"),
        (change("escalator", "health", to={"deadman": {}}), "escalator", "BLIND", "answers what can't be read (KeyError"),
        (change("ledger", "standing", to=[1]), "ledger", "BLIND", "answers what can't be read (TypeError"),
    ],
)
def test_each_way_of_not_watching_is_named(
    broken: Callable[[dict[str, Said]], None], watcher: str, outcome: str, words: str
) -> None:
    said = good()
    broken(said)
    report = found(said)
    assert [(watcher, outcome)] == [each[:2] for each in not_ok(report)]
    assert not_ok(report)[0][2].startswith(words), not_ok(report)
    assert outcome == report.outcome
    assert watcher in report.sentence


# A busy machine is no slow strategy.
@examples(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(sorted(good())), st.text() | st.none() | st.integers() | st.lists(st.integers(), min_size=1), min_size=1
    )
)
def test_no_answer_of_any_form_makes_a_watcher_ok_or_raises(told: Mapping[str, Any]) -> None:
    said = good()
    for watcher, value in told.items():
        said[watcher] = dict.fromkeys(said[watcher], Answer(200, json.dumps(value)))
    judged = {each.watcher: each.outcome for each in found(said).findings}
    by_status_alone = {"console"}
    assert all(judged[watcher] is not Outcome.OK for watcher in told.keys() - by_status_alone)


def test_a_watcher_that_nobody_named_is_unknown_with_what_to_do_and_one_that_is_left_out_is_not_missed() -> None:
    said = answered(good()) | {"ledger": None}
    report = judge(said, NOW, Limits())
    words = "is nowhere: set SPILLWAY_LEDGER_URL, or leave it out by --without ledger"
    assert [("ledger", "UNKNOWN", words)] == not_ok(report)
    del said["ledger"]
    assert Outcome.OK is judge(said, NOW, Limits()).outcome
    assert Outcome.UNKNOWN is judge({}, NOW, Limits()).outcome


# -- strikes, and what is told


def report_of(at: float, **outcomes: Outcome) -> Report:
    return Report(at, tuple(Finding(watcher, outcome, "is away", 30.0) for watcher, outcome in outcomes.items()))


class Run:
    """Looks every 10 s, and a channel that hears."""

    def __init__(self, told: Told | None = None) -> None:
        self.standing, self.told, self.journal = Standing(), told, list[str]()
        self.refuses = False

    def looks(self, *reports: Mapping[str, Outcome]) -> list[str]:
        for outcomes in reports:
            at = self.at = getattr(self, "at", 0.0) + 10.0
            report = settled(self.standing, report_of(at, **outcomes))
            self.standing = advance(self.standing, report, 2)
            message = due(self.standing, self.told, at, 300.0)
            if message is not None:
                self.journal.append(f"{at:.0f} {'refused' if self.refuses else ','.join(message.paged) or 'over'}")
                if not self.refuses:
                    self.told = Told(frozenset(message.paged), at)
        return self.journal


OK, BLIND, UNKNOWN = ({"a": each} for each in (Outcome.OK, Outcome.BLIND, Outcome.UNKNOWN))


def test_one_strike_pages_nobody_two_do_and_the_end_is_told_once() -> None:
    assert ["10 over", "60 a", "70 over"] == Run().looks(OK, BLIND, OK, OK, BLIND, BLIND, OK, OK)


def test_what_lasts_is_said_again_and_who_joins_is_told_at_once() -> None:
    run = Run()
    both = {"a": Outcome.BLIND, "b": Outcome.BLIND}
    assert ["10 over", "30 a", "330 a"] == run.looks(OK, *[BLIND] * 32)
    assert ["350 a,b"] == run.looks(both, both)[3:]
    # Of two, one sees again: it is not over, and not said again before it is time.
    assert [] == run.looks({"a": Outcome.OK, "b": Outcome.BLIND})[4:]


def test_a_message_that_failed_is_sent_at_the_next_look() -> None:
    run = Run(Told(frozenset(), 0.0))
    run.refuses = True
    assert ["20 refused", "30 refused"] == run.looks(BLIND, BLIND, BLIND)
    run.refuses = False
    assert ["40 a", "50 over"] == run.looks(BLIND, OK)[2:]


def test_unknown_pages_nobody_until_it_has_lasted_too_long() -> None:
    """It may be unknown for 30 s."""
    run = Run(Told(frozenset(), 0.0))
    assert [] == run.looks(UNKNOWN, UNKNOWN, UNKNOWN)
    assert ["50 a"] == run.looks(UNKNOWN, UNKNOWN)
    assert "is away, for 40 s" == run.standing.paged["a"]


def test_after_a_start_nothing_is_said_to_be_over_while_somebody_may_be_blind() -> None:
    assert [] == Run().looks(BLIND)
    assert ["20 over"] == Run().looks(BLIND, OK)


@examples(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([Outcome.OK, Outcome.BLIND]), st.booleans()), max_size=60))
def test_a_channel_that_works_at_last_knows_how_it_is(looks: list[tuple[Outcome, bool]]) -> None:
    run = Run()
    for outcome, refuses in looks:
        run.refuses = refuses
        run.looks({"a": outcome})
    run.refuses = False
    last = looks[-1][0] if looks else Outcome.OK
    run.looks({"a": last}, {"a": last}, {"a": last})
    assert run.told is not None
    assert (frozenset("a") if last is Outcome.BLIND else frozenset()) == run.told.about


# -- over HTTP


@pytest.fixture
def heard() -> Iterator[Hearer]:
    with hearer() as each:
        yield each


def quiet_watch(settings: WatchSettings, *reports: Report) -> Watch:
    coming = iter(reports)
    metrics, log = Metrics(), configure("watch", stream=io.StringIO())
    return Watch(settings, metrics, log, Tellers.of(settings, metrics, log), look=lambda _: next(coming))


def test_pagerduty_is_told_by_one_key_and_the_webhook_only_of_what_it_was_told_to_begin(heard: Hearer) -> None:
    settings = WatchSettings({}, pagerduty_url=heard.url, pagerduty_key="k", webhook_url=f"{heard.url}/hook", site="here")
    outcomes = (Outcome.OK, Outcome.BLIND, Outcome.BLIND, Outcome.OK)
    watch = quiet_watch(settings, *(report_of(10.0 * number, prometheus=each) for number, each in enumerate(outcomes)))
    for _ in outcomes:
        watch.step()
    pager = [body for body in heard.bodies if "routing_key" in body]
    hook = [body for body in heard.bodies if "routing_key" not in body]
    assert [("resolve", "here-watch"), ("trigger", "here-watch"), ("resolve", "here-watch")] == [
        (body["event_action"], body["dedup_key"]) for body in pager
    ]
    payload = pager[1]["payload"]
    assert ("MonitorBlind: prometheus is away", "critical", "here") == tuple(
        payload[name] for name in ("summary", "severity", "source")
    )
    assert ("is away", 10.0) == (payload["custom_details"]["prometheus"], payload["custom_details"]["since"])
    assert [("firing", {"prometheus": "is away"}), ("resolved", {})] == [(body["status"], body["blind"]) for body in hook]
    assert (3, 0) == tuple(
        watch.metrics.value(m.WATCH_MESSAGES, channel="pagerduty", outcome=each) for each in ("sent", "failed")
    )


def test_a_channel_that_is_away_costs_nothing_but_a_count_and_the_other_is_told(heard: Hearer) -> None:
    settings = WatchSettings({}, pagerduty_url="http://127.0.0.1:9", pagerduty_key="k", webhook_url=heard.url)
    watch = quiet_watch(settings, *(report_of(10.0 * number, canary=Outcome.BLIND) for number in range(3)))
    for _ in range(3):
        watch.step()
    assert [{"canary": "is away"}] == [body["blind"] for body in heard.bodies]
    assert 2 == watch.metrics.value(m.WATCH_MESSAGES, channel="pagerduty", outcome="failed")
    assert {"outcome": "BLIND", "paged": {"canary": "is away"}} == {
        name: json.loads(watch.said())[name] for name in ("outcome", "paged")
    }


def test_a_watch_without_a_channel_counts_once_each_page_that_nobody_hears() -> None:
    outcomes = (*[Outcome.BLIND] * 3, Outcome.OK, *[Outcome.BLIND] * 2)
    watch = quiet_watch(WatchSettings({}), *(report_of(10.0 * number, canary=each) for number, each in enumerate(outcomes)))
    counted = []
    for _ in outcomes:
        watch.step()
        counted.append(watch.metrics.value(m.WATCH_MESSAGES, channel="none", outcome="failed"))
    assert [0, 1, 1, 1, 1, 2] == counted


def test_who_hangs_and_who_is_gone_is_blind_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs, socket.create_server(("127.0.0.1", 0)) as gone:
        where = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        nowhere = f"http://127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        settings = WatchSettings({"alertmanager": where, "console": nowhere, "ledger": ""}, limits=Limits(answer=0.2))
        report = judge(ask(settings), NOW, settings.limits)
    assert [
        ("alertmanager", "BLIND", "does not answer (nothing in 0.2 s)"),
        ("console", "BLIND", "does not answer (Connection refused)"),
    ] == not_ok(report)[:2]
    assert "ledger is nowhere" in f"{report.findings[2].watcher} {report.findings[2].words}"


# -- the command


def test_once_says_who_is_blind_and_exits_1_and_2_for_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.watch.command.AGAIN_SECONDS", 0.0)
    for variable in ADDRESSES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SPILLWAY_CONSOLE_URL", "http://127.0.0.1:9")
    others = [word for name in ADDRESSES if name != "console" for word in ("--without", name)]
    run = CliRunner().invoke(watch_command, ["--once", "--json", *others])
    said = json.loads(run.stdout)
    assert (1, "BLIND", "console does not answer (Connection refused).") == (run.exit_code, said["outcome"], said["sentence"])
    run = CliRunner().invoke(watch_command, ["--once", *others[:-2]])
    assert (1, True) == (run.exit_code, "UNKNOWN" in run.stdout)
    monkeypatch.setenv("SPILLWAY_WATCH_WITHOUT", "console")
    run = CliRunner().invoke(watch_command, ["--once", *others])
    assert (2, True) == (run.exit_code, "Nobody is watched" in run.stdout)


def test_without_any_address_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ADDRESSES.values():
        monkeypatch.delenv(variable, raising=False)
    run = CliRunner().invoke(watch_command, ["--once"])
    assert (2, True) == (run.exit_code, "run `spillway up`, or set SPILLWAY_PROMETHEUS_URL" in run.output)


@pytest.mark.parametrize(
    ("env", "named"),
    [({"SPILLWAY_WATCH_EVERY_SECONDS": "often"}, "EVERY_SECONDS"), ({"SPILLWAY_WATCH_WITHOUT": "canray"}, "canray")],
)
def test_a_setting_that_can_not_be_used_is_named(env: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        load(env)


def test_settings_come_from_the_environment_and_secrets_do_not_show() -> None:
    env = {"SPILLWAY_CANARY_URL": "http://c/", "SPILLWAY_WATCH_WITHOUT": "ledger", "SPILLWAY_WATCH_PAGERDUTY_KEY": "secret-key"}
    settings = load(env)
    assert ("http://c", False, "secret-key") == (
        settings.addresses["canary"],
        "ledger" in settings.addresses,
        settings.pagerduty_key,
    )
    assert "secret-key" not in repr(replace(settings, site="x"))
