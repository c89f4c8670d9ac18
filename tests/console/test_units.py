"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.console.units import Unit, clock, duration, text_of, unit_of
from dashboards.page import UNITS

CASES: list[tuple[float | None, str, int | None, str]] = [
    (None, "s", None, "no data"),
    (math.nan, "eps", None, "no data"),
    (0.0, "eps", None, "0 ev/s"),
    (363.4, "eps", None, "363 ev/s"),
    (1234.0, "eps", None, "1.23 k ev/s"),
    (0.000278, "eps", None, "0.00028 ev/s"),
    (2.5e6, "short", None, "2.5 M"),
    (159.0, "cps", None, "159/s"),
    (1220.0, "cps", None, "1.22 k/s"),
    (12.0, "suffix: rec/s", None, "12 rec/s"),
    (0.0000042, "s", None, "4.2 us"),
    (0.035, "s", None, "35 ms"),
    (0.9996, "s", None, "1 s"),
    (41.26, "s", None, "41.3 s"),
    (99.96, "s", None, "1 min 40 s"),
    (120.0, "s", None, "2 min"),
    (11100.0, "s", None, "3 h 5 min"),
    (86400.0, "s", None, "1 d"),
    (20 * 86400.0 + 7200, "s", None, "20 d"),
    (-150.0, "s", None, "-2 min 30 s"),
    (1.5, "d", None, "1 d 12 h"),
    (250.0, "ms", None, "250 ms"),
    (math.inf, "s", None, "never"),
    (0.124, "percentunit", None, "12.4 %"),
    (1.0, "percentunit", 2, "100.00 %"),
    (0.99999, "percentunit", None, "99.99 %"),
    (0.99999, "percentunit", 2, "99.99 %"),
    (0.999, "percentunit", None, "99.90 %"),
    (6.29, "percentunit", None, "629 %"),
    (42.0, "percent", None, "42 %"),
    (0.0, "bytes", None, "0 B"),
    (64 * 2**20, "bytes", None, "64 MiB"),
    (1536.0, "binBps", None, "1.5 KiB/s"),
    (11.956, "currencyUSD", None, "$ 11.96"),
    (0.0073, "currencyUSD", None, "$ 0.0073"),
    (7.0, "furlongs", None, "7 furlongs"),
]


@pytest.mark.parametrize(("value", "unit", "decimals", "text"), CASES)
def test_a_value_is_written_so(value: float | None, unit: str, decimals: int | None, text: str) -> None:
    assert text == text_of(value, unit_of(unit), decimals)


def test_every_unit_of_the_dashboards_is_known() -> None:
    named = set(UNITS.values()) | {"d", "currencyUSD", "binBps", "short"}
    assert [] == [unit for unit in named if unit_of(unit) == Unit("number", unit)]


@given(st.floats(0.0, 0.9999999999, exclude_max=True))
def test_less_than_the_whole_is_never_said_to_be_the_whole(share: float) -> None:
    assert not text_of(share, unit_of("percentunit")).startswith("100")
    assert not text_of(share, unit_of("percentunit"), 2).startswith("100")


@given(st.floats(1e-9, 1e9))
def test_a_duration_is_short_and_has_no_exponent(seconds: float) -> None:
    assert len(duration(seconds)) <= len("99 min 59 s")
    assert "e" not in duration(seconds)


def test_times_are_utc_to_the_millisecond() -> None:
    assert "11-25 21:05:58.004" == clock(1_795_640_758_004_999_999)
    assert "" == clock(0)
