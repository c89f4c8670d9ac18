"""The page of alerts in a real browser: what `walk_alerts.mjs` saw."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.browser import require_browser, run
from tests.console.watched import Night, bad, console_over, quiet

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(300)]
PAGE_BYTES_MAX = 300_000
NIGHT = bad()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    require_browser()
    folders = [tmp_path_factory.mktemp(name) for name in ("bad", "quiet")]
    with console_over(NIGHT, folders[0]) as over_bad, console_over(quiet(), folders[1]) as over_quiet:
        found: dict[str, Any] = run("walk_alerts.mjs", bad=over_bad, quiet=over_quiet)
        found["weights"] = run("weigh.mjs", console=over_bad[0], paths=["/alerts"])
        yield found


def scene(seen: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = seen[name]
    assert "failed" not in found, found["failed"]
    assert [] == found.get("complaints", []), "the browser's console is not empty"
    return found


def told(night: Night, what: str) -> list[tuple[str, Any]]:
    return [(key, body) for name, key, body in night.asked if name == what]


def test_it_fits_dark_and_light_wide_and_narrow_and_everything_has_a_name(seen: dict[str, Any]) -> None:
    found = scene(seen, "looks")
    for wrong in ("complaints", "nameless", "twice"):
        assert {} == {name: look[wrong] for name, look in found.items() if look[wrong]}
    assert {} == {name: look["wide"] for name, look in found.items() if look["wide"] > 0}
    assert {"rgb(246, 247, 249)", "rgb(16, 21, 27)"} == {look["background"] for look in found.values()}


def test_the_next_level_is_counted_down_without_asking_anybody(seen: dict[str, Any]) -> None:
    found = scene(seen, "countsDown")
    assert found["before"].startswith("in ")
    assert found["after"].startswith("in ")
    assert found["before"] != found["after"]


def test_who_goes_away_is_said_without_a_reload_and_leaves_nothing_green(seen: dict[str, Any]) -> None:
    found = scene(seen, "quietNight")
    assert ("No page is open, and the watchers see", True) == (found["verdict"], found["green"] > 0)
    assert found["away"]["verdict"].startswith("UNKNOWN: the watchers are blind")
    assert found["back"] == found["verdict"]
    assert ("UNKNOWN: the console does not answer", 0, 0) == (
        found["gone"]["verdict"], found["gone"]["green"], found["away"]["green"]
    )  # fmt: skip


def test_the_overview_says_whether_pages_are_open_and_the_watchers_see(seen: dict[str, Any]) -> None:
    found = scene(seen, "quietNight")
    assert "Alerts: No page is open, and the watchers see" == found["overview"]
    assert found["overviewAway"].startswith("Alerts: UNKNOWN: the watchers are blind\nUNKNOWN: Alertmanager says 503")
    overview = scene(seen, "acknowledges")["overview"]
    assert overview.startswith("Alerts: 1 page nobody has acknowledged, 1 acknowledged\nCanaryLost: 42 probes did not reach rds")


def test_a_page_is_acknowledged_by_keyboard_while_the_page_draws_itself_anew(seen: dict[str, Any]) -> None:
    found = scene(seen, "acknowledges")
    assert ("alice", "Acknowledge", "Acknowledge", 1) == (found["typed"], found["next"], found["kept"], found["open"])
    assert ("Acknowledged.", "2 pages acknowledged, none waits for anybody", 0) == (
        found["said"], found["verdict"], found["buttons"]
    )  # fmt: skip
    assert [("CanaryLost/0", {"who": "alice"})] == told(NIGHT, "acknowledge")


def test_a_silence_is_made_and_ended_by_keyboard(seen: dict[str, Any]) -> None:
    found = scene(seen, "silences")
    assert 'in force\talertname="HotShard" hop="kinesis" stream="events"' in found["made"]
    assert found["ended"].startswith("ended")
    ((_, body),) = told(NIGHT, "silence")
    assert ("alice", "resharding") == (body["createdBy"], body["comment"])
    assert 1 == len(told(NIGHT, "expire"))


def test_a_page_of_another_site_can_acknowledge_nothing(seen: dict[str, Any]) -> None:
    assert {"status": 403, "said": "That form was sent by a page of another site: nothing was done."} == scene(seen, "stranger")


def test_it_weighs_less_than_300_kb(seen: dict[str, Any]) -> None:
    (weight,) = seen["weights"]
    assert 1000 < weight["bytes"] < PAGE_BYTES_MAX
