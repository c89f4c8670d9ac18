"""What the map says of the hops, and where it draws them."""

import math
from typing import Any

import pytest

from dashboards.console import hop_map
from dashboards.console.hop_map import HopNow, Map, Reading, arrows, blames, places, read, unknown, verdict, verdict_state
from dashboards.console.sources import Refused, Series
from telemetry.hops import BY_NAME, HOPS, Hop
from tests.console.test_panels import Said

LIMITED = [(hop, key) for hop in HOPS for key, signal in hop.signals.items() if signal.limit is not None]


def hop_now(hop: Hop, down: bool = False, **values: float | None) -> HopNow:
    """Every signal at 0 but those that are given."""
    return HopNow(hop, tuple(Reading(key, signal, values.get(key, 0.0)) for key, signal in hop.signals.items()), down)


def all_well() -> list[HopNow]:
    return [hop_now(hop) for hop in HOPS]


@pytest.mark.parametrize(("hop", "key"), LIMITED, ids=lambda each: getattr(each, "name", each))
def test_a_signal_over_its_limit_is_bad_and_close_to_it_near(hop: Hop, key: str) -> None:
    limit = hop.signals[key].limit or 0.0
    assert ["ok", "near", "bad", "bad"] == [
        hop_now(hop, **{key: limit * share}).state for share in (0.74, 0.76, 1.0, 9.0)
    ]  # fmt: skip


def test_no_data_is_never_green() -> None:
    for value in (None, math.nan):
        for key in ("traffic", "errors", "latency", "saturation"):
            assert "nodata" == hop_now(BY_NAME["lake"], **{key: value}).state
    assert "nodata" == hop_now(BY_NAME["lake"], down=True).state
    assert {"nodata"} == {each.state for each in unknown().hops}


def test_what_is_over_its_limit_is_said_though_another_signal_is_silent() -> None:
    assert "bad" == hop_now(BY_NAME["lake"], latency=None, saturation=5.0).state


def test_the_verdict_counts_and_the_blame_names_the_worst_first() -> None:
    now = all_well()
    assert (f"All {len(HOPS)} hops are within their limits", "ok", []) == (
        verdict(Map(tuple(now))), verdict_state(Map(tuple(now))), blames(Map(tuple(now))),
    )  # fmt: skip
    now[1] = hop_now(now[1].hop, saturation=0.7)
    now[4] = hop_now(now[4].hop, latency=None)
    now[7] = hop_now(now[7].hop, latency=95.0, errors=0.5)
    now[8] = hop_now(now[8].hop, down=True)
    told = Map(tuple(now))
    assert (f"1 of {len(HOPS)} hops over a limit, 2 not known, 1 near a limit", "bad") == (verdict(told), verdict_state(told))
    assert [
        ("lake", "dead letters, conflicts and failed batches 0.5 ev/s, limit 0.1 ev/s; "
                 "accepted to visible, 99th percentile 95 s, limit 1 min"),
        ("kinesis", "no data of p99"),
        ("rds", "none of its processes answers"),
        ("http-door", "bytes in flight of the limit 70 %, limit 80 %"),
    ] == [(each.hop.name, each.text.replace("60 s", "1 min")) for each in blames(told)]  # fmt: skip


def test_if_nothing_is_known_that_is_said_once() -> None:
    assert ("Nothing is known of any hop", "nodata", []) == (verdict(unknown()), verdict_state(unknown()), blames(unknown()))


# -- asking Prometheus


def up(**workers: float) -> list[Series]:
    return [Series({"process": worker.split("_")[0], "worker": worker}, ((1.0, value),)) for worker, value in workers.items()]


async def test_a_process_that_does_not_answer_and_one_that_is_not_scraped_are_named() -> None:
    now = await read(Said(up=up(grpc_1=1.0, grpc_2=0.0, etl_1=0.0)), ["grpc_1", "redactor_1"])
    assert ("3 of 4 processes do not answer: etl_1, grpc_2, redactor_1", "bad") == (
        hop_map.targets_text(now), hop_map.targets_state(now),
    )  # fmt: skip


async def test_a_hop_is_down_if_none_of_its_processes_answers_and_up_if_one_does() -> None:
    now = await read(Said(**{"(up)": up(grpc_1=1.0, grpc_2=0.0, etl_1=0.0), "sum": [Series({}, ((1.0, 0.0),))]}))
    down = {each.hop.name for each in now.hops if each.down}
    assert {hop.name for hop in HOPS if hop.process == "etl"} == down


async def test_a_query_that_is_refused_leaves_its_own_signal_unknown_alone() -> None:
    said: dict[str, Any] = {
        "(up)": up(grpc_1=1.0),
        "spillway_etl_freshness": Refused("no", 422),
        "(": [Series({}, ((1.0, 0.0),))],
    }
    now = await read(Said(**said))
    unknown_signals = {(each.hop.name, reading.key) for each in now.hops for reading in each.readings if reading.value is None}
    assert {("lake", "latency"), ("rds", "latency"), ("redis", "latency")} == unknown_signals


async def test_without_targets_nothing_is_said_to_answer() -> None:
    now = await read(Said())
    assert ("Prometheus scrapes no process", "nodata") == (hop_map.targets_text(now), hop_map.targets_state(now))


# -- the drawing


def test_every_hop_has_a_place_of_its_own_behind_those_it_takes_from() -> None:
    placed = places()
    assert {hop.name for hop in HOPS} == set(placed)
    assert len(placed) == len(set(placed.values()))
    assert [] == [(before, after) for before, after in arrows() if placed[before].column >= placed[after].column]


def test_an_arrow_leads_from_each_hop_to_those_that_take_from_it() -> None:
    assert {(before, hop.name) for hop in HOPS for before in hop.after} == set(arrows())


def test_no_arrow_runs_through_a_box() -> None:
    """Lines run in the row of the later box, from the gap behind the earlier one's column."""
    placed = places()
    taken = set(placed.values())
    through = [
        (before, after)
        for before, after in arrows()
        for column in range(placed[before].column + 1, placed[after].column)
        if hop_map.Place(column, placed[after].row) in taken
    ]
    assert [] == through


def test_the_style_sheet_has_a_place_for_every_column_and_row() -> None:
    from dashboards.console.layout import STATIC

    style = (STATIC / "console.css").read_text()
    placed = places().values()
    wanted = {f".c{place.column}{{" for place in placed} | {f".r{place.row}{{" for place in placed}
    wanted |= {f".rows{1 + max(place.row for place in placed)}{{", f".columns{1 + max(place.column for place in placed)} "}
    assert set() == {each for each in wanted if each not in style}
