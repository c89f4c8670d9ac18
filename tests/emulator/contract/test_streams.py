"""Streams: their life, their shards' hash ranges, the errors of their names."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from .targets import Target

HASH_SPACE = 1 << 128


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_shards_share_the_whole_hash_space_equally(target: Target) -> None:
    shards = target.shards(target.stream(2))
    ranges = [tuple(map(int, shard["HashKeyRange"].values())) for shard in shards]
    assert sorted(ranges) == [(0, HASH_SPACE // 2 - 1), (HASH_SPACE // 2, HASH_SPACE - 1)]
    assert [shard["ShardId"] for shard in shards] == ["shardId-000000000000", "shardId-000000000001"]


def test_an_open_shard_has_no_ending_sequence_number(target: Target) -> None:
    shard = target.shards(target.stream(1))[0]
    assert list(shard["SequenceNumberRange"]) == ["StartingSequenceNumber"]


def test_a_summary_tells_the_defaults(target: Target) -> None:
    summary = target.summary(target.stream(2))
    found = (summary["OpenShardCount"], summary["RetentionPeriodHours"], summary["EncryptionType"])
    assert found == (2, 24, "NONE")


def test_a_name_is_taken_once(target: Target) -> None:
    name = target.stream(1)
    with pytest.raises(ClientError) as error:
        target.kinesis.create_stream(StreamName=name, ShardCount=1)
    assert code(error) == "ResourceInUseException"


@pytest.mark.parametrize("operation", ["describe_stream", "describe_stream_summary", "list_shards", "delete_stream"])
def test_a_stream_that_is_not_there_is_not_found(target: Target, operation: str) -> None:
    with pytest.raises(ClientError) as error:
        getattr(target.kinesis, operation)(StreamName="contract-never-made")
    assert code(error) == "ResourceNotFoundException"


def test_a_stream_is_found_by_its_arn(target: Target) -> None:
    name = target.stream(1)
    arn = target.summary(name)["StreamARN"]
    assert target.kinesis.describe_stream(StreamARN=arn)["StreamDescription"]["StreamName"] == name


def test_shards_are_listed_in_pages(target: Target) -> None:
    name = target.stream(2)
    first = target.kinesis.list_shards(StreamName=name, MaxResults=1)
    second = target.kinesis.list_shards(NextToken=first["NextToken"])
    found = [shard["ShardId"] for page in (first, second) for shard in page["Shards"]]
    assert found == ["shardId-000000000000", "shardId-000000000001"]
    assert "NextToken" not in second


def test_a_page_token_stands_alone(target: Target) -> None:
    name = target.stream(2)
    token = target.kinesis.list_shards(StreamName=name, MaxResults=1)["NextToken"]
    with pytest.raises(ClientError) as error:
        target.kinesis.list_shards(StreamName=name, NextToken=token)
    assert code(error) == "InvalidArgumentException"


def test_retention_has_bounds_and_directions(target: Target) -> None:
    name = target.stream(1)
    target.kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    target.settle(name)
    assert target.summary(name)["RetentionPeriodHours"] == 48
    with pytest.raises(ClientError) as error:
        target.kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=47)
    assert code(error) == "InvalidArgumentException"
    with pytest.raises(ClientError) as error:
        target.kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=23)
    assert code(error) == "InvalidArgumentException"


def test_tags_are_kept(target: Target) -> None:
    name = target.stream(1)
    target.kinesis.add_tags_to_stream(StreamName=name, Tags={"owner": "contract"})
    assert target.kinesis.list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "owner", "Value": "contract"}]
