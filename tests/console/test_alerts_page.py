"""The page of alerts: what it shows of a bad night, what it says while it can't know, and the three things that it does."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from dashboards.console import alert_answers, alert_desk, alerting, moments, sources, standing
from dashboards.console.alert_answers import seconds_of
from dashboards.console.app import ConsoleSettings
from dashboards.console.sources import Away
from tests.console.asked import Answer, Asker, running
from tests.console.parsed import Parsed
from tests.console.watched import Night, bad, quiet, watched

PAGE_BYTES_MAX = 300_000
HOSTILE = "</td></title><script>alert(1)</script>\"' onmouseover='x"
FORM = {"content_type": "application/x-www-form-urlencoded", "origin": "http://127.0.0.1:8088", "sec_fetch_site": "same-origin"}


@asynccontextmanager
async def over(night: Night, **more: Any) -> AsyncIterator[Asker]:
    async with watched(night) as url, running(ConsoleSettings(url, "", alertmanager_url=url, escalator_url=url, **more)) as asker:
        yield asker


async def shown(night: Night, path: str = "/alerts") -> tuple[Answer, Parsed]:
    async with over(night) as asker:
        answer = await asker.get(path)
    return answer, Parsed(answer.text)


def articles(answer: Answer) -> list[str]:
    """The words of each problem."""
    return [Parsed(each).words for each in re.findall(r"<article.*?</article>", answer.text)]


def verdict_of(answer: Answer) -> tuple[str, str]:
    (found,) = re.findall(r'<section class="verdict state-(\w+)"[^>]*><strong>(.*?)</strong>', answer.text)
    return found


# -- what is shown


async def test_a_symptom_is_shown_with_its_page_its_causes_and_where_to_go() -> None:
    answer, parsed = await shown(bad())
    first, second = articles(answer)
    for said in (
        "CanaryLost exit=rds", "nobody has acknowledged it", "42 probes did not reach rds", "Users feel: Nothing that happens",
        "alice by pagerduty: delivered", "alice by slack: refused", "1 of 3, policy default",
        "Nextin 1 min", ": level 2: sam by pagerduty",
        "Error budget11.2% of the error budget of freshness-rds is left",
        "RdsErrors at RDS", "EtlBatchFailed at RDS exit=rds pending", "connection refused",
    ):  # fmt: skip
        assert said in first.replace("CanaryLostexit", "CanaryLost exit"), said
    assert "acknowledged by alice" in second
    assert ("bad", "1 page nobody has acknowledged, 1 acknowledged") == verdict_of(answer)
    links = {each["href"] for each in parsed.all("a")}
    assert {
        "/runbooks/CanaryLost",
        "/runbooks/RdsErrors",
        "/d/spillway-canary",
        "/traces?q=%7B%20status%20%3D%20error%20%7D",
    } <= links
    assert [] == parsed.dangers()


async def test_a_cause_without_a_symptom_pages_nobody_and_stands_apart_silenced_ones_too() -> None:
    answer, parsed = await shown(bad())
    assert not any("HotShard" in each for each in articles(answer))
    assert "HotShard" in parsed.words
    assert re.search(r"silenced by bob until [\d:-]+( \d\d:\d\d)?: new schema is being rolled out", parsed.words)


async def test_a_cause_at_another_exit_explains_nothing() -> None:
    night = bad()
    night.fires("EtlBatchFailed", "ticket", "cause", "3 batches into the lake failed.", 30, exit="lake", hop="lake")
    answer, parsed = await shown(night)
    assert not any("into the lake" in each for each in articles(answer))
    assert "3 batches into the lake failed." in parsed.words


async def test_budgets_have_their_nines_the_least_left_first() -> None:
    _, parsed = await shown(bad())
    assert re.search(r"correctness99.99 %52.6 minutes4.32 minutesoverspent by 35 %0.00freshness-rds99 %3.65 days", parsed.words)


async def test_pages_that_have_ended_are_listed_with_who_acknowledged_and_their_notifications() -> None:
    _, parsed = await shown(bad())
    assert "Half of the probes reach the lake after 40 s.15 minalice, after 1 min 10 s2" in parsed.words


async def test_the_hourly_test_page_is_no_page() -> None:
    night = quiet()
    night.paged(night.fires("TestPage", "page", "watch", "A test.", 5), 5)
    answer, parsed = await shown(night)
    assert (("ok", "No page is open, and the watchers see"), []) == (verdict_of(answer), articles(answer))
    assert "A test." not in parsed.words


async def test_a_quiet_night_is_green_and_says_that_the_watchers_see() -> None:
    answer, parsed = await shown(quiet())
    assert ("ok", "No page is open, and the watchers see") == verdict_of(answer)
    assert "No symptom fires and no page is open." in parsed.words
    assert "state-bad" not in answer.text


async def test_a_symptom_that_pages_and_has_no_page_is_bad() -> None:
    night = quiet()
    night.fires("BackupGap", "page", "symptom", "No object for 11 min.", 30)
    answer, _ = await shown(night)
    assert ("bad", "A symptom fires, and no page is open for it") == verdict_of(answer)
    assert "no page is open for it" in articles(answer)[0]


async def test_a_symptom_without_a_page_is_bad_though_another_has_one_that_is_acknowledged() -> None:
    night = quiet()
    lost = night.fires("CanaryLost", "page", "symptom", "Probes did not reach rds.", 60, exit="rds", hop="rds")
    night.paged(lost, 55, state="acknowledged", acknowledged_by="alice")
    assert ("near", "1 page acknowledged, none waits for anybody") == verdict_of((await shown(night))[0])
    night.fires("BackupGap", "page", "symptom", "No object for 11 min.", 30)
    answer, _ = await shown(night)
    assert ("bad", "A symptom fires, and no page is open for it") == verdict_of(answer)
    assert "no page is open for it" in articles(answer)[1]


async def test_a_symptom_that_another_pages_for_says_so_and_is_not_bad() -> None:
    night = quiet()
    lost = night.fires("CanaryLost", "page", "symptom", "Probes did not reach rds.", 60, exit="rds", hop="rds")
    night.paged(lost, 55, state="acknowledged", acknowledged_by="alice")
    night.fires("ExitStale", "page", "symptom", "rds is behind.", 30, inhibited_by=[lost["fingerprint"]], exit="rds", hop="rds")
    answer, _ = await shown(night)
    assert ("near", "1 page acknowledged, none waits for anybody") == verdict_of(answer)
    assert "CanaryLost pages for it" in articles(answer)[1]


async def test_a_ticket_wakes_nobody_though_the_escalator_keeps_it_as_a_page() -> None:
    night = quiet()
    slow = night.fires("FreshnessSlowBurn", "ticket", "symptom", "2 % is late.", 3000, exit="lake", hop="lake")
    shard = night.fires("HotShard", "ticket", "cause", "A shard is hot.", 3000, hop="kinesis")
    for each in (slow, shard):
        night.paged(each, 2990, levels=1, next_at=None, next="nothing: nobody need acknowledge")
    answer, parsed = await shown(night)
    assert ("near", "No page is open; something fires that pages nobody") == verdict_of(answer)
    assert ["a ticket: nobody need acknowledge it"] == re.findall(r"a ticket: nobody[\w ]+it", " ".join(articles(answer)))
    assert "told alice by pagerduty; Silence" in parsed.words
    assert "Acknowledge</button>" not in answer.text


async def test_an_escalator_that_knows_nobody_to_wake_is_not_green() -> None:
    night = quiet()
    night.health["channels"] = [
        {"name": "console", "state": "ok", "last_ok_at": 1.0, "last_error": None, "reaches_a_person": False}
    ]
    answer, parsed = await shown(night)
    assert ("near", "No page is open; no channel reaches a person") == verdict_of(answer)
    assert "pages stand here and in the escalator's log alone" in parsed.words


async def test_a_page_of_the_escalator_itself_does_not_look_as_if_it_were_over() -> None:
    night = quiet()
    night.paged({"labels": {"alertname": "PagerRefusing"}, "annotations": {"summary": "pagerduty refuses."}}, 9, series=0)
    (article,) = articles((await shown(night))[0])
    assert "nobody has acknowledged it" in article
    assert "any more" not in article


async def test_a_page_whose_alert_has_ended_stays_until_it_is_resolved() -> None:
    night = bad()
    night.alerts = [each for each in night.alerts if each["labels"]["alertname"] == "Watchdog"]
    answer, _ = await shown(night)
    assert ["nobody has acknowledged it, does not fire any more", "acknowledged by alice, does not fire any more"] == [
        word for each in articles(answer) for word in re.findall(r"(?:nobody has|acknowledged by alice).*?any more", each)
    ]


async def test_nothing_that_comes_from_outside_becomes_markup() -> None:
    night = bad()
    for alert in (*night.alerts[1:], *night.pending):
        alert["annotations"] = dict.fromkeys(alert["annotations"], HOSTILE) | {"dashboard": "javascript:alert(1)"}
        alert["labels"] |= {"exit": HOSTILE, "hop": HOSTILE}
    for page in night.pages:
        page |= {
            "key": HOSTILE,
            "next": HOSTILE,
            "acknowledged_by": HOSTILE,
            "policy": HOSTILE,
            "annotations": {"summary": HOSTILE},
        }
        page["notified"] = [night.notified(1, 1, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    for each in night.silences:
        each |= {"comment": HOSTILE, "createdBy": HOSTILE, "id": HOSTILE}
    night.health["said"] = night.health["channels"][0]["name"] = night.health["channels"][0]["last_error"] = HOSTILE
    night.slos[HOSTILE] = (0.9, 0.5, 1.0)
    for path in ("/alerts", "/alerts/brief", "/", f"/alerts?done={HOSTILE}", f"/alerts/silence?alert={HOSTILE}"):
        answer, parsed = await shown(night, path)
        assert (200 if "silence" not in path else 404, []) == (answer.status, parsed.dangers()), path
        assert not any(each.get("href", "").startswith("javascript") for each in parsed.all("a"))


async def test_a_storm_of_alerts_and_pages_stays_small_and_hides_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    # The stand-in shares this processor, and a storm takes it a while.
    monkeypatch.setattr("dashboards.console.alert_desk.ANSWER_SECONDS_MAX", 30.0)
    night = bad()
    for number in range(400):
        night.fires(f"Cause{number}", "ticket", "cause", "x" * 200, 60, hop="lake")
        alert = night.fires(
            "ExitStale", "page", "symptom", "y" * 100, 60, {"cause": f"Cause{number}"}, exit=f"e{number}", hop="lake"
        )
        told = [night.notified(1, 1, "alice", "pagerduty", "delivered", "z" * 100)] * 50
        night.paged(alert, 60 + number / 10, notified=told, state="resolved" if number % 5 == 4 else "open")
    answer, parsed = await shown(night)
    assert len(answer.body) < PAGE_BYTES_MAX
    assert ("bad", "321 pages nobody has acknowledged, 1 acknowledged") == verdict_of(answer)
    assert "377 more problems not shown: 377 ExitStale." in parsed.words


# -- while it can't know


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1", "UNKNOWN: Prometheus says 503: away"),
        ("/api/v2", "UNKNOWN: Alertmanager says 503: away"),
        ("/api/pages", "UNKNOWN: The escalator says 503: away"),
        ("/api/health", "UNKNOWN: The escalator says 503: away"),
    ],
)
@pytest.mark.parametrize("page", ["/alerts", "/alerts/brief"])
async def test_who_is_away_is_named_and_nothing_is_green(page: str, path: str, said: str) -> None:
    night = quiet()
    night.away.add(path)
    answer, parsed = await shown(night, page)
    assert (True, False) == (said in parsed.words, "state-ok" in answer.text)
    assert "nodata" in answer.text


async def test_whoever_is_away_open_pages_stay_on_the_page() -> None:
    for path in ("/api/v1", "/api/v2", "/api/health"):
        night = bad()
        night.away.add(path)
        answer, _ = await shown(night)
        assert ("bad", "1 page nobody has acknowledged, 1 acknowledged; the rest is UNKNOWN") == verdict_of(answer)
        assert "42 probes did not reach rds" in articles(answer)[0]
        assert "state-ok" not in answer.text


async def test_without_the_escalator_what_fires_is_shown_and_who_is_paged_is_unknown() -> None:
    night = bad()
    night.away.add("/api/pages")
    answer, parsed = await shown(night)
    assert ["UNKNOWN who is paged"] * 2 == [
        word for each in articles(answer) for word in re.findall("UNKNOWN who is paged", each)
    ]
    assert "no page is known to be open, which does not mean that none should be" in parsed.words


async def test_without_alertmanager_what_prometheus_fires_is_shown() -> None:
    night = quiet()
    night.fires("BackupGap", "page", "symptom", "No object for 11 min.", 30)
    night.away.add("/api/v2")
    answer, parsed = await shown(night)
    assert "No object for 11 min." in articles(answer)[0]
    assert "Shown is what Prometheus fires." in parsed.words


async def test_whoever_hangs_holds_the_page_up_for_a_bounded_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_desk, "ANSWER_SECONDS_MAX", 0.2)
    night = quiet()
    night.hangs.add("/api")
    answer, _ = await shown(night)
    assert ("nodata", "UNKNOWN: the watchers are blind") == verdict_of(answer)
    assert "state-ok" not in answer.text


async def test_what_is_not_configured_is_unknown_on_the_overview_too() -> None:
    async with running(ConsoleSettings("", "")) as asker:
        for path in ("/alerts", "/"):
            words = Parsed((await asker.get(path)).text).words
            assert "UNKNOWN: Alertmanager is not configured" in words
            assert "UNKNOWN: The escalator is not configured" in words


@pytest.mark.parametrize("answer", [{}, [], None, {"pages": [{}]}, {"deadman": 3}, [{"labels": 3}], "x"])
async def test_an_answer_that_is_none_is_unknown(answer: object) -> None:
    night = quiet()
    night.health = answer  # type: ignore[assignment]
    said, _ = await shown(night)
    assert ("nodata", "UNKNOWN: the watchers are blind") == verdict_of(said)


async def test_alerts_that_do_not_reach_the_next_watcher_make_it_blind() -> None:
    silent = quiet()
    silent.health["deadman"]["state"] = "late"
    assert "the dead man's switch is late: alerts may not reach the escalator" in (await shown(silent))[1].words
    empty = quiet()
    empty.alerts.clear()
    answer, parsed = await shown(empty)
    assert "UNKNOWN: Prometheus does not fire Watchdog: its alert rules are not loaded" in parsed.words
    assert "state-ok" not in answer.text


def test_an_alertmanager_that_prometheus_does_not_reach_is_blind() -> None:
    watchdog = alerting.Firing({"alertname": "Watchdog", "kind": "watch"}, {}, 0.0)
    health = alert_answers.health_of(quiet(0.0).health)
    assert ["Alertmanager has no Watchdog: what Prometheus fires does not reach it"] == alerting.blind(
        alerting.Watch((), (watchdog,), (), health)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_page": {"state": "failed"}}, "the test page failed"),
        ({"test_page": {"state": "late"}}, "the test page did not come back in time"),
        ({"channels": [{"name": "pagerduty", "state": "refusing", "last_error": "429"}]}, "pagerduty refuses pages (429)"),
        ({"durable": False}, "the escalator's disk refuses: a restart would forget pages"),
        ({"outbox": {"pending": 3, "oldest_at": -100.0}}, "3 notifications wait to be sent, the oldest for 100 s"),
    ],
)
def test_a_page_that_may_not_arrive_is_bad_though_nothing_fires(change: dict[str, Any], said: str) -> None:
    night = quiet(0.0)
    watchdog = alert_answers.firing_of_alertmanager(night.alerts)
    watch = alerting.Watch(watchdog, watchdog, (), alert_answers.health_of(night.health | change))
    assert ([said], ("bad", "A page may not reach anybody")) == (alerting.deaf(watch), alerting.verdict(watch))


def test_a_reason_is_said_once() -> None:
    away = Away("The escalator does not answer")
    watch = alerting.Watch((), (), away, away)
    assert 1 == sum("escalator" in each for each in alerting.blind(watch))


# -- what it does


def token_of(answer: Answer) -> str:
    return next(each["value"] for each in Parsed(answer.text).all("input") if each.get("name") == "token")


async def press(asker: Asker, path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
    return await asker.post(path, urlencode(fields).encode(), **(FORM if headers is None else headers))


async def test_acknowledging_names_who_tells_the_escalator_and_remembers_the_name() -> None:
    night = bad()
    async with over(night) as asker:
        token = token_of(await asker.get("/alerts"))
        answer = await press(asker, "/alerts/acknowledge", token=token, key="CanaryLost/0", who=" Zoë  O'Neill ")
        assert (303, "/alerts?done=acknowledged") == (answer.status, answer.headers["location"])
        after = await asker.get("/alerts?done=acknowledged", cookie=f"who={answer.cookie['who'].value}")
    assert [("acknowledge", "CanaryLost/0", {"who": "Zoë O'Neill"})] == night.asked
    assert "Acknowledged." in Parsed(after.text).words
    assert "acknowledged by Zoë O'Neill" in articles(after)[1] or "acknowledged by Zoë O'Neill" in articles(after)[0]
    assert answer.cookie["who"]["samesite"] == "strict"


@pytest.mark.parametrize(
    ("headers", "fields", "status", "said"),
    [
        ({}, {"token": ""}, 403, "older than this console"),
        ({}, {"token": "0" * 64}, 403, "older than this console"),
        ({"origin": "http://evil.example"}, {}, 403, "a page of another site"),
        ({"origin": "null"}, {}, 403, "a page of another site"),
        ({"origin": "http://127.0.0.1:9999"}, {}, 403, "a page of another site"),
        ({"sec_fetch_site": "cross-site"}, {}, 403, "a page of another site"),
        ({}, {"who": " "}, 400, "Nobody was named"),
        ({}, {"who": "x" * 5000}, 413, "larger than 4096 bytes"),
    ],
)
async def test_a_form_that_is_not_ours_does_nothing(
    headers: dict[str, str], fields: dict[str, str], status: int, said: str
) -> None:  # fmt: skip
    night = bad()
    async with over(night) as asker:
        token = token_of(await asker.get("/alerts"))
        for path in ("/alerts/acknowledge", "/alerts/silences"):
            answer = await press(asker, path, FORM | headers, **({"token": token, "key": "k", "who": "alice"} | fields))
            assert (status, True) == (answer.status, said in Parsed(answer.text).words)
    assert [] == night.asked


async def test_a_stranger_without_the_consoles_token_can_do_nothing() -> None:
    night = bad()
    async with over(night, token="a token of the test, long enough") as asker:
        assert 303 == (await press(asker, "/alerts/acknowledge", key="CanaryLost/0", who="x")).status
    assert [] == night.asked


async def test_acknowledging_what_is_not_there_or_nobody_answers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    night = bad()
    async with over(night) as asker:
        token = token_of(await asker.get("/alerts"))
        answer = await press(asker, "/alerts/acknowledge", token=token, key="nothing", who="alice")
        assert (502, True) == (answer.status, "That was not acknowledged: The escalator says 404" in Parsed(answer.text).words)
        monkeypatch.setattr(sources, "ASK_SECONDS_MAX", 0.2)
        night.hangs.add("/api/pages/")
        answer = await press(asker, "/alerts/acknowledge", token=token, key="CanaryLost/0", who="alice")
    said = "It is not known whether that was acknowledged: The escalator at"
    assert (502, True) == (answer.status, said in Parsed(answer.text).words)


async def test_a_silence_is_made_for_one_alert_with_a_reason_and_ended_again() -> None:
    night = bad()
    async with over(night) as asker:
        form = await asker.get(f"/alerts/silence?alert={night.alerts[1]['fingerprint']}")
        assert 'Alerts with all of these labels: alertname="CanaryLost" exit="rds" hop="rds"' in Parsed(form.text).words
        given = {
            "token": token_of(form),
            "alert": night.alerts[1]["fingerprint"],
            "who": "alice",
            "for": "1h",
            "comment": "rollout",
        }
        answer = await press(asker, "/alerts/silences", **given)
        assert (303, "/alerts?done=silenced") == (answer.status, answer.headers["location"])
        ended = await press(asker, "/alerts/silences/expire", token=given["token"], id="made-2")
        assert (303, "/alerts?done=ended") == (ended.status, ended.headers["location"])
    (_, _, told), expired = night.asked
    assert [("alertname", "CanaryLost"), ("exit", "rds"), ("hop", "rds")] == [
        (one["name"], one["value"]) for one in told["matchers"]
    ]
    assert ("alice", "rollout", 3600.0) == (
        told["createdBy"], told["comment"], seconds_of(told["endsAt"]) - seconds_of(told["startsAt"])
    )  # fmt: skip
    assert ("expire", "made-2", None) == expired


@pytest.mark.parametrize(
    ("change", "status"), [({"comment": ""}, 400), ({"for": "9y"}, 400), ({"alert": "gone"}, 409), ({"alert": f"{0:016x}"}, 400)]
)
async def test_a_silence_without_reason_time_or_alert_or_of_the_dead_mans_switch_is_not_made(
    change: dict[str, str], status: int
) -> None:  # fmt: skip
    night = bad()
    async with over(night) as asker:
        given = {"alert": night.alerts[1]["fingerprint"], "who": "alice", "for": "1h", "comment": "rollout"}
        token = token_of(await asker.get("/alerts"))
        assert status == (await press(asker, "/alerts/silences", token=token, **(given | change))).status
    assert [] == night.asked


# -- small things


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7620, "2 h 7 min"),
        (3600, "1 h"),
        (273600, "3 d 4 h"),
    ],
)
def test_an_age_is_said_in_two_units(seconds: float, words: str) -> None:
    assert words == moments.age(seconds)


@pytest.mark.parametrize(
    ("objective", "year"),
    [
        (0.99, "3.65 days"),
        (0.999, "8.76 hours"),
        (0.9999, "52.6 minutes"),
        (0.99999, "5.26 minutes"),
        (1.0, "none"),
        (None, "no data"),
    ],
)
def test_the_nines_are_told_as_time(objective: float | None, year: str) -> None:
    assert year == standing.may_fail(objective, standing.YEAR_SECONDS)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:8088/d/spillway-slo?range=1h", "/d/spillway-slo?range=1h"),
        ("/runbooks/CanaryLost#mend", "/runbooks/CanaryLost#mend"),
        ("https://elsewhere.example/", ""),
        ("javascript:alert(1)", ""),
        ("//evil.example/d/", "/d/"),
        ("http://[", ""),
        ("", ""),
    ],
)
def test_an_annotation_leads_to_a_page_of_this_console_or_nowhere(url: str, path: str) -> None:
    assert path == moments.own_path(url)
