"""Resharding: nothing of a parent is lost, and its end says where to go on (TRAPS 14)."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from .targets import Target
from .test_streams import HASH_SPACE, code

HALF = str(HASH_SPACE // 2)
PARENT = "shardId-000000000000"


def put(target: Target, name: str, *texts: str) -> None:
    for text in texts:
        target.kinesis.put_record(StreamName=name, Data=text.encode(), PartitionKey=text)


def split(target: Target, name: str, shard_id: str = PARENT, edge: str = HALF) -> None:
    target.kinesis.split_shard(StreamName=name, ShardToSplit=shard_id, NewStartingHashKey=edge)
    target.settle(name)


def everything(target: Target, name: str) -> dict[str, list[bytes]]:
    """Each shard's records, read to the end or the tip."""
    found = {}
    for shard in target.shards(name):
        found[shard["ShardId"]] = [record["Data"] for record in target.read(name, shard["ShardId"])]
    return found


def test_a_parent_is_readable_after_its_split(target: Target) -> None:
    name = target.stream(1)
    put(target, name, "a", "b", "c")
    split(target, name)
    assert everything(target, name)[PARENT] == [b"a", b"b", b"c"]


def test_what_comes_after_a_split_is_in_the_children(target: Target) -> None:
    name = target.stream(1)
    put(target, name, "before")
    split(target, name)
    put(target, name, "after-1", "after-2", "after-3")
    found = everything(target, name)
    assert found[PARENT] == [b"before"]
    children = sorted(data for shard_id, records in found.items() if shard_id != PARENT for data in records)
    assert children == [b"after-1", b"after-2", b"after-3"]


def test_the_lineage_of_a_split_is_listed(target: Target) -> None:
    name = target.stream(1)
    split(target, name)
    parent, low, high = target.shards(name)
    assert "EndingSequenceNumber" in parent["SequenceNumberRange"]
    assert [low.get("ParentShardId"), high.get("ParentShardId")] == [PARENT, PARENT]
    assert int(low["HashKeyRange"]["EndingHashKey"]) + 1 == int(high["HashKeyRange"]["StartingHashKey"]) == int(HALF)


def test_the_end_of_a_parent_names_its_children(target: Target) -> None:
    name = target.stream(1)
    put(target, name, "last")
    split(target, name)
    iterator = target.iterator(name, PARENT)
    records, children = [], None
    for _ in range(20):
        answer = target.kinesis.get_records(ShardIterator=iterator)
        records += [record["Data"] for record in answer["Records"]]
        if answer.get("NextShardIterator") is None:
            children = answer["ChildShards"]
            break
        iterator = answer["NextShardIterator"]
        target.wait(0.25)
    assert records == [b"last"]
    assert children is not None
    assert [child["ShardId"] for child in children] == ["shardId-000000000001", "shardId-000000000002"]
    assert [child["ParentShards"] for child in children] == [[PARENT], [PARENT]]


def test_a_childs_numbers_are_above_its_parents(target: Target) -> None:
    name = target.stream(1)
    last = int(target.kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")["SequenceNumber"])
    split(target, name)
    first = int(target.kinesis.put_record(StreamName=name, Data=b"y", PartitionKey="k")["SequenceNumber"])
    assert first > last


def test_a_merge_joins_two_neighbours(target: Target) -> None:
    name = target.stream(2)
    put(target, name, "a", "b", "c")
    target.kinesis.merge_shards(StreamName=name, ShardToMerge=PARENT, AdjacentShardToMerge="shardId-000000000001")
    target.settle(name)
    put(target, name, "d")
    child = next(shard for shard in target.shards(name) if "ParentShardId" in shard)
    assert (child["ParentShardId"], child["AdjacentParentShardId"]) == (PARENT, "shardId-000000000001")
    found = everything(target, name)
    assert found[child["ShardId"]] == [b"d"]
    assert sorted(data for records in found.values() for data in records) == [b"a", b"b", b"c", b"d"]


def test_a_closed_shard_is_not_split_again(target: Target) -> None:
    name = target.stream(1)
    split(target, name)
    with pytest.raises(ClientError) as error:
        target.kinesis.split_shard(StreamName=name, ShardToSplit=PARENT, NewStartingHashKey="7")
    assert code(error) == "InvalidArgumentException"


def test_an_edge_outside_the_shard_is_refused(target: Target) -> None:
    name = target.stream(2)
    with pytest.raises(ClientError) as error:
        target.kinesis.split_shard(StreamName=name, ShardToSplit=PARENT, NewStartingHashKey=str(HASH_SPACE - 1))
    assert code(error) == "InvalidArgumentException"


def test_a_count_is_reached_with_equal_shards(target: Target) -> None:
    name = target.stream(1)
    put(target, name, "a")
    target.kinesis.update_shard_count(StreamName=name, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    target.settle(name)
    shards = target.shards(name)
    still_open = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    ranges = [tuple(map(int, shard["HashKeyRange"].values())) for shard in still_open]
    assert sorted(ranges) == [(0, HASH_SPACE // 2 - 1), (HASH_SPACE // 2, HASH_SPACE - 1)]
    assert everything(target, name)[PARENT] == [b"a"]


def test_a_count_may_not_more_than_double(target: Target) -> None:
    name = target.stream(1)
    with pytest.raises(ClientError) as error:
        target.kinesis.update_shard_count(StreamName=name, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
    assert code(error) in ("LimitExceededException", "InvalidArgumentException")


def test_only_open_shards_are_at_latest(target: Target) -> None:
    name = target.stream(1)
    split(target, name)
    found = target.kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    assert [shard["ShardId"] for shard in found] == ["shardId-000000000001", "shardId-000000000002"]
