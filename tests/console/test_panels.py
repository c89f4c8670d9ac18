"""What the console makes of a panel's JSON and of Prometheus' answers."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.console.grafana import Dashboards, Target, Threshold, read
from dashboards.console.panels import (
    EXEMPLARS_MAX,
    POINTS_MAX,
    RANGES_SECONDS,
    Range,
    aligned,
    answer,
    choices,
    legend_of,
    range_name,
    reduced,
    state_at,
    worth_drawing,
    worth_showing,
)
from dashboards.console.sources import Exemplar, Prometheus, Refused, Series
from dashboards.queries import JSON_FOLDER
from dashboards.queries import panels as raw_panels

NOW = 1_795_640_758.9
SPAN = Range.until(NOW, 900)


class Said(Prometheus):
    """Prometheus that answers from a table, by a piece of the query; what is not in it is an empty answer."""

    def __init__(self, **of: Any) -> None:
        self.of, self.asked = of, []

    def _of(self, expr: str) -> Any:
        self.asked.append(expr)
        found = next((said for piece, said in self.of.items() if piece in expr), [])
        if isinstance(found, Exception):
            raise found
        return found

    async def now(self, expr: str) -> list[Series]:
        return list(self._of(expr))

    async def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        return list(self._of(expr))

    async def exemplars(self, expr: str, start: float, end: float) -> list[Exemplar]:
        return list(self._of("exemplars of " + expr))


def panel(kind: str = "timeseries", targets: Any = (), **more: Any) -> Any:
    raw = {
        "type": kind,
        "title": "T",
        "id": 1,
        "targets": [{"expr": expr, "legendFormat": legend} for expr, legend in targets],
        **more,
    }
    return read({"uid": "u", "panels": [raw]}).panels[0]


def steps(*pairs: tuple[float | None, str]) -> dict[str, Any]:
    return {"thresholds": {"steps": [{"value": value, "color": color} for value, color in pairs]}}


# -- the dashboards' JSON


def test_every_panel_of_the_committed_dashboards_is_read_and_is_drawn() -> None:
    known = Dashboards(JSON_FOLDER)
    boards = known.all()
    assert {} == known.unreadable
    assert len(list(JSON_FOLDER.glob("*.json"))) == len(boards)
    for board in boards:
        raw = list(raw_panels(json.loads((JSON_FOLDER / f"{board.uid}.json").read_text())))
        assert [each["title"] for each in raw] == [each.title for each in board.panels]
        assert [len(each.get("targets") or ()) for each in raw] == [len(each.targets) for each in board.panels]
        assert set() == {each.kind for each in board.panels} - {"row", "text", "timeseries", "stat", "table", "gauge", "bargauge"}


def test_a_file_that_is_no_dashboard_is_named_and_the_others_are_there(tmp_path: Any) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"uid": "good", "title": "Good"}))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    known = Dashboards(tmp_path)
    assert ["good"] == [each.uid for each in known.all()]
    assert ["bad.json", "list.json"] == sorted(known.unreadable)


def test_a_changed_file_is_read_again(tmp_path: Any) -> None:
    import os

    file = tmp_path / "a.json"
    file.write_text(json.dumps({"uid": "a", "title": "One"}))
    known = Dashboards(tmp_path)
    assert ["One"] == [each.title for each in known.all()]
    file.write_text(json.dumps({"uid": "a", "title": "Two"}))
    os.utime(file, ns=(1, 1))
    assert ["Two"] == [each.title for each in known.all()]


def test_of_variables_a_reader_chooses_values_and_never_promql() -> None:
    variables = [
        {"type": "query", "name": "worker", "query": "label_values(m, worker)", "includeAll": True, "allValue": ".*"},
        {"type": "textbox", "name": "days", "query": "30"},
        {"type": "constant", "name": "price", "query": "0.04"},
    ]
    board = read({"uid": "u", "templating": {"list": variables}})
    defaults = {"worker": ".*", "days": "30", "price": "0.04"}
    assert defaults == choices(board, {})
    assert defaults | {"worker": "grpc-1|grpc-2", "days": "7"} == choices(board, {"var-worker": "grpc-1|grpc-2", "var-days": "7"})
    assert defaults == choices(board, {"var-worker": 'x"} or up{a="', "var-days": "7)", "var-price": "0"})
    assert defaults == choices(board, {"var-worker": "x" * 200})


# -- time


@pytest.mark.parametrize("name", RANGES_SECONDS)
def test_a_range_has_few_points_on_multiples_of_its_step(name: str) -> None:
    span = Range.until(NOW, RANGES_SECONDS[name])
    assert len(span.times) <= POINTS_MAX + 1
    assert [] == [at for at in span.times if at % span.step]
    assert 0 <= NOW - span.times[-1] < span.step
    assert len(span.coarse.times) <= 61
    assert int(span.window[:-1]) >= max(60, span.step)


def test_the_range_is_what_was_asked_for_or_chosen_last_or_a_quarter_of_an_hour() -> None:
    assert ["1h", "6h", "15m", "15m"] == [
        range_name("1h", "6h"), range_name("", "6h"), range_name("1y", "'"), range_name("", "")
    ]  # fmt: skip


def test_a_gap_stays_a_gap_and_what_is_no_number_is_one() -> None:
    span = Range(100.0, 120.0, 5.0)
    series = Series({}, ((100.0, 1.0), (105.0, math.nan), (115.0, math.inf), (120.2, 2.123456789)))
    assert [1.0, None, None, None, 2.1235] == aligned(series, span)


# -- what is drawn


def test_a_few_idle_series_are_drawn_and_many_are_counted() -> None:
    busy, idle = ("busy", [1.0, 0.0, None]), [(f"idle {index}", [0.0, 0.0, 0.0]) for index in range(5)]
    assert ([busy, *idle[:3]], []) == worth_drawing([busy, *idle[:3]])
    assert ([busy], [name for name, _ in idle]) == worth_drawing([busy, *idle])
    assert ([("all 5", [0.0, 0.0, 0.0])], []) == worth_drawing(idle)
    assert ([busy], []) == worth_drawing([busy, ("unknown", [None, None, None])])


async def test_where_nought_is_bad_it_is_never_left_out() -> None:
    """A dead process is a line at 0."""
    series = [Series({"worker": f"w{index}"}, ((SPAN.end, float(index > 4)),)) for index in range(7)]
    drawn = panel(targets=[("up", "{{worker}}")], fieldConfig={"defaults": steps((None, "red"), (1.0, "green"))})
    said = await answer(Said(up=series), drawn, {}, SPAN)
    assert [f"w{index}" for index in range(7)] == [each["name"] for each in said["series"]]  # type: ignore[attr-defined]


def test_the_slowest_of_each_stretch_keeps_its_dot() -> None:
    many = [Exemplar(SPAN.start + index * 0.9, float(index % 97), f"{index:032x}", {}) for index in range(1000)]
    spike = Exemplar(SPAN.start + 450.3, 1e6, "f" * 32, {})
    shown = worth_showing([*many, spike], SPAN)
    assert len(shown) <= EXEMPLARS_MAX
    assert spike in shown


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 1e9)), max_size=300))
def test_the_slowest_of_all_is_always_shown(points: list[tuple[float, float]]) -> None:
    exemplars = [Exemplar(SPAN.start + at, value, "ab", {}) for at, value in points]
    shown = worth_showing(exemplars, SPAN)
    assert max((each.value for each in exemplars), default=None) == max((each.value for each in shown), default=None)


def test_legends_are_short() -> None:
    series = Series({"stream": "events", "shard": "shardId-000000000012", "type": "spillway.events.v1.OrderPlaced"}, ())
    assert "events shard 12" == legend_of(Target("x", "{{stream}} {{ shard }}"), series, "T")
    assert "OrderPlaced" == legend_of(Target("x", "{{type}}"), series, "T")
    assert "T" == legend_of(Target("x", "{{nothing}}"), series, "T")
    assert "shard shard 12, stream events, type OrderPlaced" == legend_of(Target("x"), series, "T")


@pytest.mark.parametrize(
    ("value", "state"), [(0.0, "ok"), (0.75, "near"), (0.99, "near"), (1.0, "bad"), (5.0, "bad"), (math.nan, "nodata")]
)
def test_a_number_has_the_state_of_the_highest_threshold_it_reached(value: float, state: str) -> None:
    limits = (Threshold(None, "green"), Threshold(0.75, "#EAB839"), Threshold(1.0, "red"))
    assert state == state_at(value, limits)


@pytest.mark.parametrize(
    ("how", "number"), [("max", 5.0), ("min", 1.0), ("mean", 3.0), ("sum", 9.0), ("firstNotNull", 3.0), ("lastNotNull", 5.0)]
)
def test_a_range_is_reduced_as_the_panel_wants(how: str, number: float) -> None:
    assert number == reduced(Series({}, ((1, 3.0), (2, 1.0), (3, math.nan), (4, 5.0))), how)


async def test_one_number_has_no_name_several_have_theirs_and_each_its_course() -> None:
    made = {"kind": "stat", "options": {"graphMode": "area"}, "fieldConfig": {"defaults": {"unit": "s"}}}
    one = await answer(Said(a=[Series({}, ((SPAN.end, 0.5),))]), panel(targets=[("a", "p99")], **made), {}, SPAN)
    two = await answer(
        Said(a=[Series({"x": "l"}, ((SPAN.coarse.end, 0.5),)), Series({"x": "r"}, ((SPAN.coarse.end, 2.0),))]),
        panel(targets=[("a", "{{x}}")], **made), {}, SPAN,
    )  # fmt: skip
    assert [("", "500 ms")] == [(each["name"], each["text"]) for each in one["values"]]  # type: ignore[attr-defined]
    assert [("l", "500 ms"), ("r", "2 s")] == [(each["name"], each["text"]) for each in two["values"]]  # type: ignore[attr-defined]
    assert [0.5, 2.0] == [each["course"][-1] for each in two["values"]]  # type: ignore[attr-defined]


async def test_a_table_has_a_row_for_each_set_of_labels_and_a_column_for_each_query() -> None:
    said = Said(
        a=[Series({"w": "1"}, ((1, 2.0),)), Series({"w": "2"}, ((1, 3.0),))], b=[Series({"w": "2", "__name__": "b"}, ((1, 0.5),))]
    )
    table = panel("table", [("a", "As"), ("b", "Bs")], fieldConfig={"defaults": {"unit": "s"}})
    made = await answer(said, table, {}, SPAN)
    assert (["w", "As", "Bs"], [["1", "2 s", "no data"], ["2", "3 s", "500 ms"]]) == (made["columns"], made["rows"])


async def test_a_query_that_is_refused_says_so_in_its_panel() -> None:
    said = await answer(Said(a=Refused("Prometheus says 422: too many points", 422)), panel(targets=[("a", "x")]), {}, SPAN)
    assert "Prometheus says 422: too many points" == said["error"]


async def test_a_variable_that_nobody_defines_is_said_not_asked() -> None:
    prometheus = Said()
    said = await answer(prometheus, panel(targets=[("rate(a[$__rate_interval]) * $nobody", "x")]), {}, SPAN)
    assert ([], True) == (prometheus.asked, "$nobody" in str(said["error"]))


async def test_without_exemplars_a_chart_is_a_chart() -> None:
    drawn = read({"panels": [{"type": "timeseries", "targets": [{"expr": "abc", "exemplar": True}]}]}).panels[0]
    said = Said(exemplars=Refused("exemplar storage is off", 404), abc=[Series({}, ((SPAN.end, 1.0),))])
    made = await answer(said, drawn, {}, SPAN)
    assert (1, [], "") == (len(made["series"]), made["exemplars"], made["error"])  # type: ignore[arg-type]
