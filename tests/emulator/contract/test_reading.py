"""Reading: the five iterators, their bounds, and the tip of a shard."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .targets import READ_PACE_SECONDS, Target
from .test_streams import code

ONLY = "shardId-000000000000"


@pytest.fixture
def written(target: Target) -> tuple[str, list[dict[str, Any]]]:
    """A stream of one shard with the records 0, 1, 2, each put for itself; and the answers."""
    name = target.stream(1)
    answers = []
    for at in range(3):
        answers.append(target.kinesis.put_record(StreamName=name, Data=b"%d" % at, PartitionKey="k"))
        target.wait(0.02)
    return name, answers


def data(records: list[dict[str, Any]]) -> list[bytes]:
    return [record["Data"] for record in records]


def test_trim_horizon_begins_at_the_oldest(target: Target, written: tuple[str, list[Any]]) -> None:
    assert data(target.read(written[0], ONLY, wanted=3)) == [b"0", b"1", b"2"]


def test_latest_begins_behind_what_is_there(target: Target, written: tuple[str, list[Any]]) -> None:
    name, _ = written
    iterator = target.iterator(name, ONLY, "LATEST")
    target.kinesis.put_record(StreamName=name, Data=b"new", PartitionKey="k")
    assert data(target.kinesis.get_records(ShardIterator=iterator)["Records"]) == [b"new"]


def test_at_and_after_a_sequence_number(target: Target, written: tuple[str, list[Any]]) -> None:
    name, answers = written
    middle = answers[1]["SequenceNumber"]
    at = target.read(name, ONLY, "AT_SEQUENCE_NUMBER", 2, StartingSequenceNumber=middle)
    after = target.read(name, ONLY, "AFTER_SEQUENCE_NUMBER", 1, StartingSequenceNumber=middle)
    assert (data(at), data(after)) == ([b"1", b"2"], [b"2"])


def test_at_a_timestamp_begins_at_the_first_that_arrived_then(target: Target, written: tuple[str, list[Any]]) -> None:
    name, _ = written
    middle = target.read(name, ONLY, wanted=3)[1]["ApproximateArrivalTimestamp"]
    assert data(target.read(name, ONLY, "AT_TIMESTAMP", 2, Timestamp=middle)) == [b"1", b"2"]


def test_a_sequence_number_of_another_shard_is_refused(target: Target) -> None:
    name = target.stream(2)
    number = target.kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k", ExplicitHashKey="0")
    with pytest.raises(ClientError) as error:
        target.iterator(name, "shardId-000000000001", "AT_SEQUENCE_NUMBER", StartingSequenceNumber=number["SequenceNumber"])
    assert code(error) == "InvalidArgumentException"


def test_a_forged_iterator_is_refused(target: Target) -> None:
    with pytest.raises(ClientError) as error:
        target.kinesis.get_records(ShardIterator="AAAAAAAAAAF-not-an-iterator")
    assert code(error) == "InvalidArgumentException"


def test_a_limit_bounds_an_answer_and_the_next_goes_on(target: Target, written: tuple[str, list[Any]]) -> None:
    name, _ = written
    first = target.kinesis.get_records(ShardIterator=target.iterator(name, ONLY), Limit=2)
    target.wait(READ_PACE_SECONDS)
    second = target.kinesis.get_records(ShardIterator=first["NextShardIterator"], Limit=2)
    assert (data(first["Records"]), data(second["Records"])) == ([b"0", b"1"], [b"2"])


def test_the_same_iterator_reads_the_same_again(target: Target, written: tuple[str, list[Any]]) -> None:
    iterator = target.iterator(written[0], ONLY)
    first = target.kinesis.get_records(ShardIterator=iterator)["Records"]
    target.wait(READ_PACE_SECONDS)
    assert data(target.kinesis.get_records(ShardIterator=iterator)["Records"]) == data(first)


def test_at_the_tip_nothing_is_behind(target: Target, written: tuple[str, list[Any]]) -> None:
    name, _ = written
    answer = target.kinesis.get_records(ShardIterator=target.iterator(name, ONLY, "LATEST"))
    assert (answer["Records"], answer["MillisBehindLatest"]) == ([], 0)
    assert answer["NextShardIterator"]


def test_five_reads_a_second_and_no_more(target: Target, written: tuple[str, list[Any]]) -> None:
    iterator = target.iterator(written[0], ONLY)

    def hammer() -> None:
        for _ in range(40):
            target.kinesis.get_records(ShardIterator=iterator)

    with pytest.raises(ClientError) as error:
        hammer()
    assert code(error) == "ProvisionedThroughputExceededException"


def test_records_carry_their_key_number_and_arrival(target: Target, written: tuple[str, list[Any]]) -> None:
    name, answers = written
    record = target.read(name, ONLY, wanted=3)[0]
    assert (record["PartitionKey"], record["SequenceNumber"]) == ("k", answers[0]["SequenceNumber"])
    assert record["ApproximateArrivalTimestamp"].timestamp() > 0
