"""Sequence numbers say what they were made of, and order as they must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.emulator import sequence

SHARDS = st.integers(0, 2**32 - 1)
SECONDS = st.integers(0, 2**36 - 1)
COUNTERS = st.integers(0, sequence.COUNTER_END)


@given(SHARDS, SECONDS, COUNTERS, SECONDS)
def test_parsing_gives_back_what_was_put_in(shard: int, born_s: int, counter: int, arrival_s: int) -> None:
    number = sequence.number(sequence.head(shard, born_s), counter, arrival_s * 1000)
    assert sequence.parse(str(number)) == sequence.Parts(shard, born_s, counter)


@given(SHARDS, SECONDS, st.tuples(COUNTERS, SECONDS), st.tuples(COUNTERS, SECONDS))
def test_numbers_of_a_shard_order_as_their_counters(
    shard: int, born_s: int, one: tuple[int, int], other: tuple[int, int]
) -> None:
    head = sequence.head(shard, born_s)
    numbers = [sequence.number(head, counter, arrival_s * 1000) for counter, arrival_s in (one, other)]
    assert (numbers[0] < numbers[1]) == (one < other)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parts = sequence.parse(text)
    assert parts is None or isinstance(parts, sequence.Parts)
