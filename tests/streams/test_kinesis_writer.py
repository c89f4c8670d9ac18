"""Retries under a simulated clock: the whole story of each run."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.event import Record
from pipeline.streams.kinesis_writer import KinesisWriter
from pipeline.streams.retry import RetryBudget
from pipeline.streams.sink import NotWritten, Outcome, Written

from .simulated import ScriptedSink, Step, Time, all_failed, all_written, failing, record


def writer(sink: ScriptedSink, time: Time, tokens: float = 100) -> KinesisWriter:
    budget = RetryBudget(time, tokens_max=tokens, tokens_per_second=0, tokens_per_success=0)
    return KinesisWriter(sink, budget=budget, random=Random(7), clock=time, sleep=time.sleep)


def names(records: list[Record]) -> str:
    return "".join(one.data.decode() for one in records)


async def test_only_the_failed_records_are_tried_again() -> None:
    """TRAPS 1."""
    time = Time()
    sink = ScriptedSink([failing(1, 3), failing(0), all_written], time)
    outcomes = await writer(sink, time).write([record(name) for name in "abcd"], deadline_seconds=10)
    assert ["abcd", "bd", "b"] == [names(call) for call in sink.calls]
    assert [Written("shardId-000000000000", name) for name in "abcd"] == outcomes
    assert 2 == len(time.slept)


async def test_another_number_of_outcomes_confirms_nothing_and_all_are_tried_again() -> None:
    """TRAPS 1."""
    time = Time()
    sink = ScriptedSink([lambda records: all_written(records)[:-1], all_written], time)
    outcomes = await writer(sink, time).write([record("a"), record("b")], deadline_seconds=10)
    assert ["ab", "ab"] == [names(call) for call in sink.calls]
    assert all(isinstance(outcome, Written) for outcome in outcomes)


async def test_the_last_attempt_still_has_all_the_data() -> None:
    """TRAPS 6: nothing is moved out before it succeeded."""
    time = Time()
    steps: list[Step] = [all_failed] * 5
    sink = ScriptedSink([*steps, all_written], time)
    await writer(sink, time).write([record("a"), record("b")], deadline_seconds=60)
    assert ["ab"] * 6 == [names(call) for call in sink.calls]


async def test_a_timeout_after_success_writes_the_same_bytes_again() -> None:
    """TRAPS 3: the events inside keep their ids, so every exit can tell."""
    time = Time()
    stored: list[Record] = []

    def stored_but_unanswered(records: list[Record]) -> list[Outcome]:
        stored.extend(records)
        return [NotWritten("deadline")] * len(records)

    def stored_and_answered(records: list[Record]) -> list[Outcome]:
        stored.extend(records)
        return all_written(records)

    steps: list[Step] = [stored_but_unanswered, stored_and_answered]  # type: ignore[list-item]
    sink = ScriptedSink(steps, time)
    await writer(sink, time).write([record("a")], deadline_seconds=10)
    assert [record("a"), record("a")] == stored


async def test_the_deadline_ends_it_and_every_attempt_advances_time() -> None:
    """TRAPS 4, 7."""
    time = Time()
    sink = ScriptedSink([all_failed], time, call_seconds=0)
    began = time.now
    outcomes = await writer(sink, time).write([record("a")], deadline_seconds=10)
    assert [NotWritten("InternalFailure")] == outcomes
    assert time.now - began <= 10
    assert all(seconds > 0 for seconds in time.slept)
    assert len(sink.calls) < 60


async def test_without_budget_there_is_no_retry() -> None:
    """TRAPS 4."""
    time = Time()
    sink = ScriptedSink([all_failed], time)
    shared = writer(sink, time, tokens=3)
    for _ in range(5):
        await shared.write([record("a")], deadline_seconds=10)
    assert 5 + 3 == len(sink.calls)


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8), st.integers(0, 6), st.integers())
async def test_acknowledged_is_exactly_what_the_stream_confirmed(plan: list[list[bool]], count: int, seed: int) -> None:
    """Law: whatever fails when, outcomes stand at their records' indexes, and Written was confirmed for that very record."""
    time = Time()
    confirmed: set[bytes] = set()

    def step_of(fates: list[bool]) -> Step:
        def step(records: list[Record]) -> list[Outcome]:
            good = {one.data for one, fate in zip(records, fates, strict=False) if fate}
            confirmed.update(good)
            return [
                Written("s", one.data.decode()) if one.data in good else NotWritten("x", throttled=seed % 2 == 0)
                for one in records
            ]

        return step  # type: ignore[return-value]

    records = [record(name) for name in "abcdef"[:count]]
    sink = ScriptedSink([step_of(fates) for fates in plan], time)
    outcomes = await writer(sink, time, tokens=seed % 10).write(records, deadline_seconds=5)
    assert count == len(outcomes)
    assert [one.data in confirmed for one in records] == [isinstance(outcome, Written) for outcome in outcomes]
    assert all(
        of.sequence_number == one.data.decode() for one, of in zip(records, outcomes, strict=True) if isinstance(of, Written)
    )
