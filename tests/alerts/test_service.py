"""The service around the mind, without a process: what it takes, what it says of itself, what a disk that refuses changes."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from alerts.escalator.__main__ import channels_of, setup_of
from alerts.escalator.access import Guard, RefusedToStart, check_start
from alerts.escalator.alertmanager import Alertmanager
from alerts.escalator.clock import Clock, Reading, since
from alerts.escalator.engine import Engine, NotDurable
from alerts.escalator.events import Closed, Firing, Outcome, Record, Resolved, Verified, WatchdogHeard
from alerts.escalator.intake import InvalidMessage, events_of, verified_of
from alerts.escalator.links import BadLink, Link, read, secret_of, sign
from alerts.escalator.service import Service
from alerts.escalator.settings import EscalatorSettings
from alerts.escalator.state import Setup, State
from alerts.escalator.store import FolderInUse, Memory, Sqlite, WrongLayout
from telemetry.log import configure
from telemetry.metrics import Metrics
from tests.alerts.pagerduty import KEY
from tests.alerts.running import alert, alertmanager_api, posted, wait_until
from tests.console.asked import Asker

T = 1_795_664_000.0
TOKEN = "a token of the test, long enough"
LINK = Link("CanaryLost-1-1", "acknowledge", "ann", T + 60)


def service(folder: Path, **env: str) -> tuple[Service, Sqlite]:
    settings, log = EscalatorSettings(test_every_seconds=0.0), configure("escalator", stream=io.StringIO())
    channels = channels_of(env, settings, log)
    store = Sqlite(folder)
    engine = Engine(store, Clock(), setup_of(channels, settings, "http://console"))
    return Service(engine, store, channels, Alertmanager("http://127.0.0.1:9"), settings, b"secret", Metrics(), log), store


def test_without_a_pager_health_says_so_and_the_page_stands_in_the_console(tmp_path: Path) -> None:
    one, store = service(tmp_path)
    assert "never" == one.health()["deadman"]["state"]
    one.take(posted(alert("CanaryLost"), alert("Watchdog")))
    health = one.health()
    assert "No pager is configured" in health["said"]
    assert ("ok", "never") == (health["deadman"]["state"], health["test_page"]["state"])
    assert [("console", "untried"), ("log", "untried")] == [(each["name"], each["state"]) for each in health["channels"]]
    (page,) = one.pages("all", 10)
    assert ("CanaryLost", "default", "open", 1, 1) == tuple(
        page[name] for name in ("alert", "policy", "state", "level", "levels")
    )
    store.close()


def test_with_a_pager_health_names_what_goes_where(tmp_path: Path) -> None:
    one, store = service(tmp_path, SPILLWAY_ESCALATOR_PAGERDUTY_KEY=KEY)
    one.take(posted(alert("Watchdog")))
    assert "Pages go to pagerduty; not tried yet: pagerduty." == one.health()["said"]
    one.take(posted(alert("CanaryLost")))
    for result, said in (
        ("retry", "Not taking pages at the moment: pagerduty."), ("ok", "The path of a page works; pages go to pagerduty."),
        ("refused", "Refusing pages: pagerduty."),
    ):  # fmt: skip
        one.engine.done(Outcome("x", "pagerduty", result))  # type: ignore[arg-type]
        assert said == one.health()["said"]
    store.close()


def test_closed_pages_stay_in_history_and_can_be_told_apart(tmp_path: Path) -> None:
    one, store = service(tmp_path)
    one.take(posted(alert("CanaryLost")))
    one.take(posted(alert("CanaryLost", "resolved")))
    one.take(posted(alert("ExitStale")))
    assert [["ExitStale"], ["CanaryLost"], ["ExitStale", "CanaryLost"]] == [
        [page["alert"] for page in one.pages(states, 10)] for states in ("open", "closed", "all")
    ]
    assert ["ExitStale"] == [page["alert"] for page in one.pages("all", 1)]
    store.forget(T * 2)
    assert 2 == len(one.pages("all", 10)), "somebody is still to be told that it is over"
    for note in one.engine.take(lambda _: 9):
        one.engine.done(Outcome(note.id, note.channel, "ok"))
    store.forget(T * 2)
    assert ["ExitStale"] == [page["alert"] for page in one.pages("all", 10)]
    store.close()


class _Full(Memory):
    refuses = False

    def commit(
        self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading
    ) -> None:  # fmt: skip
        if self.refuses:
            raise OSError("no space left on device")
        super().commit(before, after, history, reading)


def test_a_disk_that_refuses_stops_no_page_and_all_is_kept_once_it_takes_again(tmp_path: Path) -> None:
    one, sqlite = service(tmp_path)
    store = _Full()
    engine = Engine(store, Clock(), one.engine.setup)
    store.refuses = True
    (firing,) = events_of(posted(alert("CanaryLost")))
    with pytest.raises(NotDurable, match="no space left"):
        engine.apply(firing)
    assert ["console", "log"] == [note.channel for note in engine.take(lambda _: 9)]
    store.refuses = False
    engine.tick()
    kept = store.load()
    assert kept is not None
    assert engine.state == kept[0]
    sqlite.close()


class _FullSqlite(Sqlite):
    def commit(
        self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading
    ) -> None:  # fmt: skip
        raise OSError("no space left on device")


def test_while_the_disk_refuses_the_service_tells_people_says_so_and_posts_test_pages(tmp_path: Path) -> None:
    store, lines = _FullSqlite(tmp_path), io.StringIO()
    settings, log = EscalatorSettings(test_every_seconds=3600.0, test_first_seconds=0.0), configure("escalator", stream=lines)
    channels = channels_of({}, settings, log)
    with alertmanager_api() as (url, tests):
        engine = Engine(store, Clock(), setup_of(channels, settings, ""))
        one = Service(engine, store, channels, Alertmanager(url), settings, b"secret", Metrics(), log)
        one.begin()
        try:
            with pytest.raises(NotDurable, match="no space left"):
                one.take(posted(alert("CanaryLost")))
            wait_until(lambda: "page trigger" in lines.getvalue() and tests, 10, lines.getvalue)
            assert "page opened" in lines.getvalue()
            assert "The disk refuses (OSError: no space left on device)" in one.health()["said"]
        finally:
            one.end()
    store.close()


def test_one_folder_has_one_escalator_and_another_layout_is_refused(tmp_path: Path) -> None:
    store = Sqlite(tmp_path)
    with pytest.raises(FolderInUse, match="another --data"):
        Sqlite(tmp_path)
    store._connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(WrongLayout, match="layout 99"):
        Sqlite(tmp_path)


# -- what Alertmanager says


def test_a_message_makes_a_page_for_each_name_and_watchdog_is_a_heartbeat() -> None:
    both = [alert("A", exit="x"), alert("A", exit="y"), alert("Watchdog"), alert("B", "resolved"), alert("Watchdog", "resolved")]
    first, heard, over = events_of(posted(*both))
    assert isinstance(first, Firing)
    assert ("A", ("A/x", "A/y"), "default") == (first.alert, first.members, first.policy)
    assert "exit" not in first.labels
    assert (WatchdogHeard(), True) == (heard, isinstance(over, Resolved))


def test_a_message_that_left_alerts_out_ends_nothing() -> None:
    assert [] == events_of({**posted(alert("A", "resolved")), "truncatedAlerts": 3})


def test_what_alertmanager_has_is_read_and_anything_else_is_not_an_empty_list() -> None:
    has = [
        {"fingerprint": "a", "status": {"state": "suppressed"}, "labels": {"alertname": "A"}, "updatedAt": "1"},
        {"fingerprint": "w", "status": {"state": "active"}, "labels": {"alertname": "Watchdog"}, "updatedAt": "2"},
    ]
    assert Verified({"a": True, "w": False}, "2") == verified_of(has)
    for wrong in ({"error": "x"}, None, [{"labels": {}}]):
        with pytest.raises(InvalidMessage):
            verified_of(wrong)


# -- links


def test_a_link_is_read_until_it_expires_and_one_that_was_changed_never() -> None:
    token = sign(LINK, b"secret")
    assert LINK == read(token, b"secret", T)
    for wrong, secret, at in ((token, b"secret", T + 61), (token, b"other", T), ("x" + token, b"secret", T), ("", b"secret", T)):
        with pytest.raises(BadLink):
            read(wrong, secret, at)
    for place in range(len(token)):
        with pytest.raises(BadLink):
            read(token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :], b"secret", T)


def test_the_secret_of_links_is_made_once_and_no_other_user_can_read_it(tmp_path: Path) -> None:
    made = secret_of(tmp_path / "data", "")
    assert made == secret_of(tmp_path / "data", "")
    assert 0o600 == (tmp_path / "data" / "link-secret").stat().st_mode & 0o777
    assert secret_of(tmp_path, "told") == secret_of(tmp_path / "data", "told") != made


def test_on_another_host_it_does_not_start_without_a_token() -> None:
    check_start("127.0.0.1", "")
    check_start("0.0.0.0", "x" * 16)
    for host, token in (("0.0.0.0", ""), ("127.0.0.1", "short")):
        with pytest.raises(RefusedToStart):
            check_start(host, token)


@pytest.mark.parametrize(
    ("token", "path", "host", "authorization", "status"),
    [
        ("", "/api/pages", "localhost:9095", "", 200),
        ("", "/api/pages", "pages.example", "", 200),
        ("", "/api/pages", "evil.example", "", 421),
        ("", "/l/x", "evil.example", "", 421),
        ("", "/pagerduty", "evil.example", "", 200),
        (TOKEN, "/api/pages", "evil.example", "", 401),
        (TOKEN, "/api/pages", "evil.example", f"Bearer {TOKEN}x", 401),
        (TOKEN, "/api/pages", "evil.example", f"Basic {TOKEN}", 401),
        (TOKEN, "/api/pages", "evil.example", f"bearer {TOKEN}", 200),
        (TOKEN, "/alertmanager", "127.0.0.1:9095", "", 401),
        (TOKEN, "/l/x", "evil.example", "", 200),
        (TOKEN, "/pagerduty", "evil.example", "", 200),
    ],
)
async def test_who_may_ask(token: str, path: str, host: str, authorization: str, status: int) -> None:
    asker = Asker(Guard(PlainTextResponse("in"), token, "https://pages.example"))
    answer = await asker.get(path, host=host, authorization=authorization)
    assert (status, "no-store", "nosniff") == (
        answer.status, answer.headers["cache-control"], answer.headers["x-content-type-options"],
    )  # fmt: skip


# -- time


@pytest.mark.parametrize(
    ("stored", "now", "down", "stepped"),
    [
        (Reading(T, 100, "a"), Reading(T + 50, 150, "a"), 50, 0),
        (Reading(T, 100, "a"), Reading(T - 3550, 150, "a"), 50, -3600),
        (Reading(T, 100, "a"), Reading(T + 3650, 150, "a"), 50, 3600),
        # After a reboot only the wall clock is left.
        (Reading(T, 100, "a"), Reading(T + 50, 3, "b"), 50, 0),
        (Reading(T, 100, "a"), Reading(T - 3600, 3, "b"), 0, -3600),
        (Reading(T, 100, ""), Reading(T + 50, 150, ""), 50, 0),
    ],
)
def test_what_happened_while_it_was_down_is_known(stored: Reading, now: Reading, down: float, stepped: float) -> None:
    began = since(stored, now)
    assert (down, stepped) == (began.down_seconds, began.stepped_seconds)


def test_a_step_of_the_clock_is_seen_once_and_slewing_is_followed() -> None:
    times = {"wall": T, "steady": 0.0}
    clock = Clock(lambda: times["wall"], lambda: times["steady"], "a")
    seen = []
    for wall, steady in ((T + 10, 10.0), (T + 3620, 20.0), (T + 3630.4, 30.0), (T + 40, 40.0)):
        times.update(wall=wall, steady=steady)
        seen.append(round(clock.read()[1], 3))
    assert [0, 3600, 0, -3600.4] == seen


def test_setup_holds_every_channel(tmp_path: Path) -> None:
    one, store = service(tmp_path, SPILLWAY_ESCALATOR_SLACK_URL="https://hooks.slack.com/x")
    setup: Setup = one.engine.setup
    assert {"slack", "console", "log"} == set(setup.tells)
    assert ["slack", "console", "log"] == [target.channel for target in setup.policies["default"].levels[0].targets]
    store.close()
