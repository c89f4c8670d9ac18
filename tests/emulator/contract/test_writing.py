"""Writing: routing, numbers, limits, and failures record by record."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .targets import Target
from .test_streams import HASH_SPACE, code

MIB = 1024 * 1024


def entries(count: int, size_bytes: int = 10, **more: Any) -> list[dict[str, Any]]:
    return [{"Data": b"%d" % at + b"." * size_bytes, "PartitionKey": f"k{at}", **more} for at in range(count)]


def test_a_record_goes_where_the_md5_of_its_key_says(target: Target) -> None:
    name = target.stream(2)
    keys = [f"key-{at}" for at in range(20)]
    answer = target.kinesis.put_records(StreamName=name, Records=[{"Data": b"x", "PartitionKey": key} for key in keys])
    upper = [int(hashlib.md5(key.encode()).hexdigest(), 16) >= HASH_SPACE // 2 for key in keys]
    assert [result["ShardId"] for result in answer["Records"]] == [f"shardId-{int(up):012d}" for up in upper]


def test_an_explicit_hash_key_overrides_the_partition_key(target: Target) -> None:
    name = target.stream(2)
    hashes = ["0", str(HASH_SPACE // 2 - 1), str(HASH_SPACE // 2), str(HASH_SPACE - 1)]
    records = [{"Data": b"x", "PartitionKey": "same", "ExplicitHashKey": one} for one in hashes]
    found = [one["ShardId"][-1] for one in target.kinesis.put_records(StreamName=name, Records=records)["Records"]]
    assert found == ["0", "0", "1", "1"]


def test_a_hash_key_outside_the_space_is_refused(target: Target) -> None:
    name = target.stream(1)
    with pytest.raises(ClientError) as error:
        target.kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k", ExplicitHashKey=str(HASH_SPACE))
    assert code(error) == "InvalidArgumentException"


def test_results_stand_in_the_order_of_the_request(target: Target) -> None:
    """TRAPS 1: results map to records by their place only."""
    name = target.stream(2)
    answer = target.kinesis.put_records(StreamName=name, Records=entries(30))
    numbers = {result["SequenceNumber"]: at for at, result in enumerate(answer["Records"])}
    found = {}
    for shard in target.shards(name):
        for record in target.read(name, shard["ShardId"]):
            found[record["SequenceNumber"]] = int(record["PartitionKey"][1:])
    assert found == numbers


def test_sequence_numbers_rise_within_a_shard_and_are_met_once(target: Target) -> None:
    name = target.stream(2)
    by_shard: dict[str, list[int]] = {}
    for _ in range(3):
        for result in target.kinesis.put_records(StreamName=name, Records=entries(10))["Records"]:
            by_shard.setdefault(result["ShardId"], []).append(int(result["SequenceNumber"]))
    assert all(numbers == sorted(numbers) for numbers in by_shard.values())
    every = [number for numbers in by_shard.values() for number in numbers]
    assert len(set(every)) == len(every) == 30


def test_one_put_after_another_keeps_their_order(target: Target) -> None:
    name = target.stream(1)
    for at in range(5):
        target.kinesis.put_record(StreamName=name, Data=b"%d" % at, PartitionKey="k")
    found = target.read(name, "shardId-000000000000", wanted=5)
    assert [record["Data"] for record in found] == [b"0", b"1", b"2", b"3", b"4"]


def test_five_hundred_and_one_records_are_refused_whole(target: Target) -> None:
    name = target.stream(1)
    with pytest.raises(ClientError) as error:
        target.kinesis.put_records(StreamName=name, Records=entries(501, 0))
    assert code(error) in ("ValidationException", "InvalidArgumentException")
    assert target.read(name, "shardId-000000000000") == []


def test_a_record_over_one_mebibyte_fails_the_whole_call(target: Target) -> None:
    """TRAPS 9: the client must sort out the one that is too large, or the batch shares its fate."""
    name = target.stream(1)
    records = [{"Data": b"small", "PartitionKey": "a"}, {"Data": b"x" * (MIB + 1), "PartitionKey": "b"}]
    with pytest.raises(ClientError) as error:
        target.kinesis.put_records(StreamName=name, Records=records)
    assert code(error) in ("ValidationException", "InvalidArgumentException")
    assert target.read(name, "shardId-000000000000") == []


def test_a_shard_over_its_rate_fails_single_records(target: Target) -> None:
    """TRAPS 1, 4: HTTP 200, some written, some not."""
    name = target.stream(1)
    answer = target.kinesis.put_records(StreamName=name, Records=entries(8, 300_000))
    failed = [result for result in answer["Records"] if "ErrorCode" in result]
    assert {result["ErrorCode"] for result in failed} == {"ProvisionedThroughputExceededException"}
    assert answer["FailedRecordCount"] == len(failed) > 0
    written = [result["SequenceNumber"] for result in answer["Records"] if "SequenceNumber" in result]
    found = target.read(name, "shardId-000000000000", wanted=len(written))
    assert [record["SequenceNumber"] for record in found] == written


def test_one_busy_shard_does_not_throttle_its_neighbour(target: Target) -> None:
    name = target.stream(2)
    low = entries(8, 300_000, ExplicitHashKey="0")
    high = entries(1, 10, ExplicitHashKey=str(HASH_SPACE - 1))
    results = target.kinesis.put_records(StreamName=name, Records=[*low, *high])["Records"]
    assert "SequenceNumber" in results[-1]
    assert any("ErrorCode" in result for result in results[:-1])


def test_a_single_put_over_the_rate_is_an_error(target: Target) -> None:
    name = target.stream(1)

    def hammer() -> None:
        for _ in range(40):
            target.kinesis.put_record(StreamName=name, Data=b"x" * 900_000, PartitionKey="k")

    with pytest.raises(ClientError) as error:
        hammer()
    assert code(error) == "ProvisionedThroughputExceededException"


def test_encryption_is_flagged_on_what_is_written_under_it(target: Target) -> None:
    name = target.stream(1)
    target.kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
    target.settle(name)
    assert target.summary(name)["EncryptionType"] == "KMS"
    answer = target.kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")
    assert answer["EncryptionType"] == "KMS"
    assert target.read(name, answer["ShardId"])[0]["EncryptionType"] == "KMS"
