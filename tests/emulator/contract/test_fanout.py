"""Enhanced fan-out through boto3's own event stream (TRAPS 15)."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .targets import Target
from .test_resharding import PARENT, put, split
from .test_streams import code

EVENTS_MAX = 20


@pytest.fixture
def consumer(target: Target) -> tuple[str, str]:
    """A stream of one shard and the ARN of an ACTIVE consumer of it."""
    name = target.stream(1)
    arn = target.summary(name)["StreamARN"]
    made = target.kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="contract")["Consumer"]
    for _ in range(60):
        found = target.kinesis.describe_stream_consumer(ConsumerARN=made["ConsumerARN"])["ConsumerDescription"]
        if found["ConsumerStatus"] == "ACTIVE":
            break
        target.wait(0.5)
    return name, made["ConsumerARN"]


def subscribe(target: Target, arn: str, kind: str = "TRIM_HORIZON", **more: Any) -> Any:
    start = {"Type": kind, **more}
    return target.kinesis.subscribe_to_shard(ConsumerARN=arn, ShardId=PARENT, StartingPosition=start)["EventStream"]


def events_until(stream: Any, wanted: int) -> list[dict[str, Any]]:
    """Events until they hold `wanted` records, or the shard ends."""
    found: list[dict[str, Any]] = []
    for event in stream:
        found.append(event["SubscribeToShardEvent"])
        records = sum(len(one["Records"]) for one in found)
        if records >= wanted or found[-1].get("ChildShards") or len(found) >= EVENTS_MAX:
            break
    stream.close()
    return found


def data(events: list[dict[str, Any]]) -> list[bytes]:
    return [record["Data"] for event in events for record in event["Records"]]


def test_a_consumer_is_registered_once_and_listed(target: Target, consumer: tuple[str, str]) -> None:
    name, arn = consumer
    stream_arn = target.summary(name)["StreamARN"]
    listed = target.kinesis.list_stream_consumers(StreamARN=stream_arn)["Consumers"]
    assert [(one["ConsumerName"], one["ConsumerARN"]) for one in listed] == [("contract", arn)]
    with pytest.raises(ClientError) as error:
        target.kinesis.register_stream_consumer(StreamARN=stream_arn, ConsumerName="contract")
    assert code(error) == "ResourceInUseException"


def test_a_subscription_pushes_what_is_there(target: Target, consumer: tuple[str, str]) -> None:
    name, arn = consumer
    put(target, name, "a", "b", "c")
    assert data(events_until(subscribe(target, arn), 3)) == [b"a", b"b", b"c"]


def test_a_second_subscription_within_five_seconds_is_refused(target: Target, consumer: tuple[str, str]) -> None:
    """TRAPS 15: also when the first connection is broken already."""
    name, arn = consumer
    put(target, name, "a")
    events_until(subscribe(target, arn), 1)
    with pytest.raises(ClientError) as error:
        subscribe(target, arn)
    assert code(error) == "ResourceInUseException"


def test_a_subscription_goes_on_from_its_continuation_number(target: Target, consumer: tuple[str, str]) -> None:
    """TRAPS 15."""
    name, arn = consumer
    put(target, name, "a", "b")
    events = events_until(subscribe(target, arn), 2)
    put(target, name, "c")
    target.wait(6)
    number = events[-1]["ContinuationSequenceNumber"]
    later = events_until(subscribe(target, arn, "AFTER_SEQUENCE_NUMBER", SequenceNumber=number), 1)
    assert (data(events), data(later)) == ([b"a", b"b"], [b"c"])


def test_the_last_event_of_a_closed_shard_names_its_children(target: Target, consumer: tuple[str, str]) -> None:
    name, arn = consumer
    put(target, name, "a")
    split(target, name)
    events = events_until(subscribe(target, arn), 99)
    assert data(events) == [b"a"]
    assert [child["ShardId"] for child in events[-1]["ChildShards"]] == ["shardId-000000000001", "shardId-000000000002"]


def test_a_consumer_that_was_deregistered_is_not_found(target: Target, consumer: tuple[str, str]) -> None:
    _, arn = consumer
    target.kinesis.deregister_stream_consumer(ConsumerARN=arn)
    target.wait(0.5)
    if target.name == "aws":
        target.wait(60)
    with pytest.raises(ClientError) as error:
        target.kinesis.describe_stream_consumer(ConsumerARN=arn)
    assert code(error) == "ResourceNotFoundException"
