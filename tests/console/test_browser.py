"""The console in a real browser: what `walk.mjs` and `weigh.mjs` saw."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.console.units import text_of, unit_of
from tests.console.browser import require_browser, run
from tests.console.live import HOSTILE_ID, KNOWN, Live, console
from tests.console.test_units import CASES

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(400)]
NOWHERE = "http://127.0.0.1:9"
PAGE_BYTES_MAX = 300_000
BOARDS = (
    "spillway-hop-lake",
    "spillway-hop-redactor",
    "spillway-delivery",
    "spillway-capacity",
    "spillway-cost",
    "spillway-telemetry",
)


def paths(filled: Live) -> list[str]:
    trace = f"/trace/{filled.told['slow'].trace_id}"
    boards = [f"/d/{uid}" for uid in BOARDS]
    return ["/", "/dashboards", *boards, "/traces", "/logs", "/canary", "/ledger", "/alerts", trace, "/runbooks/lake"]


UNITS = [(value, unit) for value, unit, decimals, _ in CASES if value is not None and math.isfinite(value) and decimals is None]


@pytest.fixture(scope="module")
def seen(filled: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    require_browser()
    with console(tmp_path_factory.mktemp("away"), NOWHERE, NOWHERE) as away:
        yield run(
            "walk.mjs", console=filled.console, away=away, hostile=f"/trace/{filled.told['hostile'].trace_id}",
            pages=paths(filled), units=[(value, unit_of(unit).as_json()) for value, unit in UNITS],
        )  # fmt: skip


def scene(seen: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = seen[name]
    assert "failed" not in found, found["failed"]
    assert [] == found.get("complaints", []), "the browser's console is not empty"
    return found


def test_a_latency_spike_leads_to_its_trace_and_to_its_log_line(seen: dict[str, Any], filled: Live) -> None:
    found, slow = scene(seen, "spike"), filled.told["slow"].trace_id
    assert f"/trace/{slow}" == found["dot"]["href"] == found["trace"]["path"] == found["back"]
    assert "exit lake" in found["dot"]["label"]
    assert "lake longest" == found["trace"]["longest"]
    assert "95 s at work in lake" in found["trace"]["facts"]
    assert ["sdk", "grpc-door", "redactor", "backup", "lake", "rds", "redis"] == found["trace"]["hops"]
    (line,) = found["trace"]["lines"]
    assert f"a micro-batch took long event_id={KNOWN['slow'].id} exit=lake seconds=95.0" in line
    assert f"/logs?trace_id={slow}&since=7d" == found["logs"]["path"]
    assert "a micro-batch took long" in found["logs"]["line"]


def test_a_panel_leads_to_traces_of_its_time_and_to_the_runbooks_of_its_hop(seen: dict[str, Any]) -> None:
    found = scene(seen, "leads")
    assert found["traces"]["found"] >= 1
    assert found["traces"]["chosen"].startswith("When (UTC)")
    assert "/runbooks/lake" == found["runbook"]


def test_the_tab_key_goes_through_a_page_in_the_order_in_which_it_is_read(seen: dict[str, Any]) -> None:
    names = [each["name"] for each in scene(seen, "keyboard")["stops"]]
    assert [
        "Skip to the content",
        "Spillway",
        "Overview",
        "Alerts",
        "Dashboards",
        "Traces",
        "Logs",
        "Canary",
        "Ledger",
        "Resume",
        "Theme",
        "Keyboard shortcuts",
    ] == names[:12]
    assert names.index("HTTP door") < names.index("About Events taken in")


def test_what_has_the_focus_is_in_sight_and_ringed(seen: dict[str, Any]) -> None:
    stops = scene(seen, "keyboard")["stops"]
    assert [] == [each for each in stops if not (each["ringed"] and each["inSight"] and each["name"])]


def test_the_skip_link_goes_to_the_content(seen: dict[str, Any]) -> None:
    assert "content" == scene(seen, "keyboard")["skipped"]


def test_every_page_is_two_keys_away_and_the_keys_are_listed(seen: dict[str, Any]) -> None:
    found = scene(seen, "keyboard")
    assert {"t": "/traces", "l": "/logs", "d": "/dashboards", "o": "/"} == found["went"]
    assert (True, True) == (found["helpOpen"], found["helpClosed"])


def test_a_search_its_results_and_a_waterfall_are_used_without_a_mouse(seen: dict[str, Any]) -> None:
    found = scene(seen, "keyboard")
    assert ("Event id or trace id", "/traces") == (found["search"], found["typed"])
    assert found["second"] == found["line"]
    assert (1, 0) == (found["opened"], found["span"])


def test_a_dashboards_range_pause_explanations_and_dots_are_used_without_a_mouse(seen: dict[str, Any]) -> None:
    found = scene(seen, "dashboardKeys")
    assert ("/d/spillway-hop-lake?range=1h&var-worker=.*", "1h") == (found["longer"], found["kept"])
    assert ("/d/spillway-hop-redactor?range=5m&var-worker=.*", "Resume") == (found["shorter"], found["paused"])
    assert (1, 0) == (found["about"], found["closed"])
    assert "its trace" in found["dot"]["name"]
    assert found["dot"]["href"] == found["trace"]


def test_every_page_fits_dark_and_light_wide_and_narrow_and_every_panel_is_answered(seen: dict[str, Any]) -> None:
    found = scene(seen, "looks")
    assert {} == {name: look["complaints"] for name, look in found.items() if look["complaints"]}
    for wrong in ("cut", "nameless", "twice", "waiting"):
        assert {} == {name: look[wrong] for name, look in found.items() if look[wrong]}
    assert {} == {name: look["wide"] for name, look in found.items() if look["wide"] > 0}
    assert {"light": {"rgb(246, 247, 249)"}, "dark": {"rgb(16, 21, 27)"}} == {
        scheme: {look["background"] for name, look in found.items() if name.startswith(scheme)} for scheme in ("light", "dark")
    }


def test_the_theme_is_chosen_charts_follow_and_it_is_kept(seen: dict[str, Any]) -> None:
    found = scene(seen, "theme")
    assert ["", "rgb(246, 247, 249)", "rgb(31, 111, 196)"] == found["before"]
    assert ["dark", "rgb(16, 21, 27)", "rgb(98, 168, 245)"] == found["after"] == found["reloaded"]


def test_without_prometheus_the_page_says_so_in_each_place_and_nothing_is_green(seen: dict[str, Any]) -> None:
    found = scene(seen, "away")
    assert "Nothing is known of any hop" == found["verdict"]
    assert f"Prometheus at {NOWHERE} does not answer" in found["error"]
    assert "Prometheus does not answer" == found["panel"]
    assert 0 == found["green"]


def test_a_console_that_is_gone_leaves_nothing_green_and_comes_back(seen: dict[str, Any]) -> None:
    found = scene(seen, "consoleGone")
    assert found["before"].startswith("as of ")
    assert ("The console does not answer: nothing is known", 0, 0) == (found["verdict"], found["green"], found["after"])


def test_hostile_ids_and_attributes_are_text(seen: dict[str, Any], filled: Live) -> None:
    found = scene(seen, "hostile")
    assert f"Trace {filled.told['hostile'].trace_id[:8]} · Spillway" == found["title"]
    assert (0, 0) == (found["images"], found["dialogs"])
    for said in (HOSTILE_ID, "</script><b>", "<b onclick='x'>&amp;", "javascript:alert(1)"):
        assert said in found["shown"]


def test_the_browser_writes_numbers_as_the_server_does(seen: dict[str, Any]) -> None:
    assert [text_of(value, unit_of(unit)) for value, unit in UNITS] == scene(seen, "units")["texts"]


def test_every_page_weighs_less_than_300_kb_with_all_its_panels(filled: Live) -> None:
    require_browser()
    weights = {each["path"]: each["bytes"] for each in run("weigh.mjs", console=filled.console, paths=paths(filled))}
    assert set(paths(filled)) == set(weights)
    assert all(1000 < weight < PAGE_BYTES_MAX for weight in weights.values()), weights
