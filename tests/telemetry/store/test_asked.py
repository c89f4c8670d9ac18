"""Whatever is asked is read or refused with a word; nothing else happens."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.store.asked import (
    NotAskedRightError,
    Parameters,
    condition_of,
    half_typed,
    lines_of,
    number_of,
    range_of,
    trace_id_of,
)
from telemetry.store.query import Range
from telemetry.store.traceql import Always, NotSpokenError, parse

NAMES = st.sampled_from(
    ("q", "tags", "minDuration", "maxDuration", "start", "end", "limit", "trace_id", "event_id", "level", "part")
)
WRITTEN = (
    *("1", "1.5", "-1", "1e9", "٣", "²", "nan", "inf", "9" * 25, "1s", "error", "f" * 32),
    *("a=b", 'a="b', 'a="b" c=1', "{}", "{ .a = 1 }"),
)
VALUES = st.text(max_size=20) | st.sampled_from(WRITTEN)
QUESTIONS: list[Callable[[Parameters], Any]] = [
    condition_of,
    range_of,
    lines_of,
    lambda asked: number_of(asked, "limit", 20, 100),
    lambda asked: trace_id_of(asked.get("trace_id", "")),
]


@pytest.mark.parametrize("read", QUESTIONS)
@given(asked=st.dictionaries(NAMES, VALUES, max_size=4))
def test_no_parameter_does_more_than_be_read_or_be_refused(read: Callable[[Parameters], Any], asked: dict[str, str]) -> None:
    with contextlib.suppress(NotAskedRightError, NotSpokenError):
        assert read(asked) is not None


@given(st.text(max_size=40))
def test_a_half_typed_query_narrows_nothing(text: str) -> None:
    try:
        expected = parse(text)
    except NotSpokenError:
        expected = Always()
    assert expected == half_typed(text)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, Range()),
        ({"start": "1700000000"}, Range(start_ns=1_700_000_000_000_000_000)),
        ({"end": "1700000000"}, Range(end_ns=1_700_000_000_999_999_999)),
        ({"end": "1700000000.25"}, Range(end_ns=1_700_000_000_250_000_000)),
        ({"start": "1700000000123456789"}, Range(start_ns=1_700_000_000_123_456_789)),
        ({"end": "9999999999999999999"}, Range()),
        ({"start": "5", "end": "5"}, Range(5_000_000_000, 5_999_999_999)),
    ],
)
def test_times_are_seconds_with_or_without_decimals_or_nanoseconds(asked: dict[str, str], expected: Range) -> None:
    assert expected == range_of(asked)
