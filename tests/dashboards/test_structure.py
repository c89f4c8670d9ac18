"""The committed dashboards as Grafana needs them and as a reader wants them."""

import re
from itertools import combinations
from typing import Any

import pytest

from dashboards import build, slo_records
from dashboards.grafana import as_json
from dashboards.page import Page, Panel, Query, Row
from dashboards.prices import prices
from dashboards.queries import UnknownVariable, all_queries, dashboards, panels, resolve, resolve_link, variables_of
from telemetry import metrics as m
from telemetry.hops import HOPS
from telemetry.metrics import CATALOGUE
from telemetry.recording import LABELS, forecasts
from tests.dashboards.stand_in import LABEL_VALUES, label_sets

BOARDS = dashboards()
BY_UID = {board["uid"]: board for board in BOARDS}
EVERY_TARGET_HAS = {"process", "worker", "instance", "job", "le"}
PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
METRICS = {metric.name: metric for metric in CATALOGUE}
LEGEND_LENGTH_MAX = 30
each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])


def asking(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in panels(board) if panel["type"] not in ("row", "text")]


def titles(board: dict[str, Any], holds: Any) -> list[str]:
    return [panel["title"] for panel in asking(board) if not holds(panel)]


def test_committed_dashboards_are_what_the_code_generates() -> None:
    assert [] == build.stale(), "run `python -m dashboards.build --write`"


def test_a_changed_a_missing_and_a_leftover_file_are_stale_until_written(tmp_path: Any) -> None:
    build.write(tmp_path)
    (tmp_path / "spillway-cost.json").write_text("{}")
    (tmp_path / "spillway-overview.json").unlink()
    (tmp_path / "spillway-old.json").write_text("{}")
    assert ["spillway-cost.json", "spillway-old.json", "spillway-overview.json"] == build.stale(tmp_path)
    build.write(tmp_path)
    assert [] == build.stale(tmp_path)


def test_uids_and_titles_are_unique() -> None:
    for key in ("uid", "title"):
        assert len(BOARDS) == len({board[key] for board in BOARDS})


def test_the_menu_begins_with_the_overview_and_follows_the_path() -> None:
    uids = [board["uid"] for board in BOARDS]
    assert ["spillway-overview", *(f"spillway-hop-{hop.name}" for hop in HOPS)] == uids[: len(HOPS) + 1]


@each_board
def test_panel_ids_are_unique(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in panels(board)]
    assert sorted(set(ids)) == sorted(ids)


@each_board
def test_panels_lie_within_the_grid_and_over_no_other(board: dict[str, Any]) -> None:
    places = {panel["title"] + str(panel["id"]): panel["gridPos"] for panel in panels(board)}
    assert [] == [name for name, at in places.items() if not (0 <= at["x"] and 0 < at["w"] and at["x"] + at["w"] <= 24)]
    assert [] == [(a, b) for (a, at), (b, other) in combinations(places.items(), 2) if overlap(at, other)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_an_overlap_is_seen() -> None:
    assert overlap({"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 11, "y": 7, "w": 4, "h": 4})
    assert not overlap({"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 12, "y": 0, "w": 12, "h": 8})


@each_board
def test_every_panel_says_what_it_means_what_to_do_and_its_unit(board: dict[str, Any]) -> None:
    assert [] == titles(board, lambda panel: panel["title"] and panel["targets"])
    assert [] == titles(board, lambda panel: re.fullmatch(r"(?s).{20,}\n\nWhat to do: .{10,}", panel["description"]))
    assert [] == titles(board, lambda panel: panel["fieldConfig"]["defaults"]["unit"])


@each_board
def test_every_panel_leads_to_its_traces(board: dict[str, Any]) -> None:
    def leads(panel: dict[str, Any]) -> bool:
        return any(link["url"].startswith("${console}/traces?q=") for link in panel["fieldConfig"]["defaults"]["links"])

    assert [] == titles(board, leads)


@each_board
def test_every_query_goes_to_the_chosen_prometheus_and_has_a_short_legend(board: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert [] == titles(board, lambda panel: chosen == panel["datasource"])
    targets = [target for panel in asking(board) for target in panel["targets"]]
    assert [] == [target["expr"] for target in targets if chosen != target["datasource"]]
    assert [] == [target["expr"] for target in targets if not 0 < len(target["legendFormat"]) <= LEGEND_LENGTH_MAX]


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: hop.name)
def test_a_hops_page_begins_with_its_golden_signals_and_their_limits(hop: Any) -> None:
    row, *four = list(panels(BY_UID[f"spillway-hop-{hop.name}"]))[:5]
    assert "Golden signals" == row["title"]
    assert ["Traffic", "Errors", "Latency", "Saturation"] == [panel["title"].split(":")[0] for panel in four]
    limits = [panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1].get("value") for panel in four]
    assert [signal.limit for signal in hop.signals.values()] == limits
    assert four[2]["targets"][0]["exemplar"] is True
    (override,) = four[2]["fieldConfig"]["overrides"]
    assert "${console}/trace/${__value.raw}" == override["properties"][0]["value"][0]["url"]
    median = four[2]["targets"][1]["expr"]
    assert four[2]["targets"][0]["expr"] == median.replace("histogram_quantile(0.5,", "histogram_quantile(0.99,")
    assert "histogram_quantile(0.5," in median


def test_the_overview_has_symptoms_first_hops_in_the_order_of_the_path_and_causes_last() -> None:
    rows = [panel["title"].split(":")[0] for panel in panels(BY_UID["spillway-overview"]) if panel["type"] == "row"]
    assert [hop.title for hop in HOPS] == rows[3:-1]
    assert ("Is it well? What users feel", "Possible causes") == (rows[0], rows[-1])


def test_every_metric_of_a_query_is_in_the_catalogue_or_recorded_and_has_the_labels_that_are_used() -> None:
    assert [] == [(uid, title, complaint) for uid, title, query in all_queries() for complaint in complaints(query)]


def test_every_metric_of_the_catalogue_is_on_some_dashboard() -> None:
    shown = " ".join(query for _, _, query in all_queries())
    assert [] == [name for name in METRICS if not re.search(rf"\b{name}(_bucket|_count|_sum)?\b", shown)]


SLO_LABELS = {name: {*slo_records.LABELS} for name in (*slo_records.NAMES, *map(slo_records.error_ratio, slo_records.WINDOWS))}
# Metrics of the catalogue, Prometheus' own, and what is recorded.
_SELECTOR = re.compile(r"\b(spillway_\w+|up|scrape_\w+|\w+:\w+:\w+)\b(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby\s*\(([^)]*)\)")


def complaints(query: str) -> list[str]:
    """What is wrong with the names of a query, as far as can be seen without a Prometheus."""
    found = []
    used: set[str] = set()
    for name, inside in _SELECTOR.findall(query):
        has = labels_of(name)
        if has is None:
            found.append(f"no metric {name}")
            continue
        used |= has
        found += [
            f"{name} has no label {label}" for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", inside) if label not in has
        ]
    by = {label.strip() for group in _BY.findall(query) for label in group.split(",")}
    return [*found, *(f"nothing has a label {label}" for label in sorted(by - used))]


def labels_of(name: str) -> set[str] | None:
    if name in LABELS:
        return set(LABELS[name])
    if name in SLO_LABELS:
        return SLO_LABELS[name]
    base = METRICS.get(name) or METRICS.get(re.sub(r"_(bucket|count|sum)$", "", name))
    return {*base.labels, *EVERY_TARGET_HAS} if base else EVERY_TARGET_HAS if name in PROMETHEUS_OWN else None


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("rate(spillway_nowhere_total[1m])", ["no metric spillway_nowhere_total"]),
        (f'rate({m.DOOR_EVENTS.name}{{tenant="a"}}[1m])', [f"{m.DOOR_EVENTS.name} has no label tenant"]),
        (f"sum by (shard) ({m.DOOR_EVENTS.name})", ["nothing has a label shard"]),
        (f'sum by (door, worker) ({m.DOOR_EVENTS.name}{{status!="retry"}})', []),
        ("max(tenant:events:rate9m)", ["no metric tenant:events:rate9m"]),
        (f'{forecasts.USE}{{worker="a"}}', [f"{forecasts.USE} has no label worker"]),
        (f'{slo_records.BUDGET_LEFT}{{exit="lake"}}', [f"{slo_records.BUDGET_LEFT} has no label exit"]),
        (f'max by (stream) ({forecasts.USE}{{resource="shards"}})', []),
    ],
)
def test_wrong_names_are_seen(query: str, complaint: list[str]) -> None:
    assert complaint == complaints(query)


def test_the_stand_in_knows_every_label_of_the_catalogue() -> None:
    assert [] == [(each.name, label) for each in CATALOGUE for label in each.labels if label not in LABEL_VALUES]
    assert all(label_sets(metric) for metric in CATALOGUE)


def test_variables_are_resolved_and_unknown_ones_refused() -> None:
    asked = 'rate(a{w=~"$worker"}[$__rate_interval]) * ${price:raw} + label_replace(b, "x", "$1", "y", "(.*)")'
    said = 'rate(a{w=~".*"}[30s]) * 2 + label_replace(b, "x", "$1", "y", "(.*)")'
    assert said == resolve(asked, "30s", {"worker": ".*", "price": "2"})
    with pytest.raises(UnknownVariable, match="nobody"):
        resolve("a * $nobody")


def test_links_are_resolved() -> None:
    url = "${console}/traces?q=x&start=${__from:date:seconds}&end=${__to}"
    assert "/traces?q=x&start=7&end=9000" == resolve_link(url, from_seconds=7, to_seconds=9)
    assert "/trace/ab" == resolve_link("${console}/trace/${__value.raw}", value="ab")


def test_every_price_is_a_constant_of_the_cost_page_and_says_its_source() -> None:
    known = prices()
    constants = variables_of(BY_UID["spillway-cost"])
    assert {f"price_{each.name}": f"{each.price:g}" for each in known.prices} == {
        name: value for name, value in constants.items() if name.startswith("price_")
    }
    assert [] == [each.name for each in known.prices if not (each.source and each.unit and each.price > 0)]
    used = " ".join(target["expr"] for panel in asking(BY_UID["spillway-cost"]) for target in panel["targets"])
    assert [] == [each.name for each in known.prices if f"$price_{each.name}" not in used]


def test_panels_flow_into_lines_and_rows_break_them() -> None:
    def panel(title: str, width: int) -> Panel:
        return Panel(title, "s", "m", "d", (Query("up", "x"),), width=width, height=4)

    page = Page("u", "t", "d", (Row("one", (panel("a", 12), panel("b", 12), panel("c", 8))), Row("two", (panel("d", 24),))))
    import json

    at = [(each["title"], each["gridPos"]["x"], each["gridPos"]["y"]) for each in json.loads(as_json(page, 0))["panels"]]
    assert [("one", 0, 0), ("a", 0, 1), ("b", 12, 1), ("c", 0, 5), ("two", 0, 9), ("d", 0, 10)] == at
