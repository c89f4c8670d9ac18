"""What only the clock can show: expiry, retention, rates, subscriptions, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.emulator.errors import AwsError
from pipeline.emulator.inprocess import World
from pipeline.emulator.limits import MIB, Limits
from pipeline.emulator.log import FileLog

from .conftest import Simulation

ONLY = "shardId-000000000000"
HOUR_S = 3600


@pytest.fixture
def stream(simulation: Simulation) -> Simulation:
    simulation.call("CreateStream", StreamName="s", ShardCount=1)
    return simulation


def put(simulation: Simulation, *texts: bytes) -> None:
    records = [{"Data": text, "PartitionKey": "k"} for text in texts]
    assert simulation.call("PutRecords", StreamName="s", Records=records)["FailedRecordCount"] == 0


def iterator(simulation: Simulation, kind: str = "TRIM_HORIZON", **more: Any) -> Any:
    answer = simulation.call("GetShardIterator", StreamName="s", ShardId=ONLY, ShardIteratorType=kind, **more)
    return answer["ShardIterator"]


def read(simulation: Simulation, at: Any = None) -> list[bytes]:
    answer: Any = simulation.call("GetRecords", ShardIterator=at or iterator(simulation))
    return [record["Data"] for record in answer["Records"]]


def refused(simulation: Simulation, operation: str, **request: Any) -> str:
    with pytest.raises(AwsError) as error:
        simulation.call(operation, **request)
    return error.value.code


def test_an_iterator_lives_five_minutes(stream: Simulation) -> None:
    given = iterator(stream)
    stream.clock.advance(300)
    assert read(stream, given) == []
    stream.clock.advance(0.001)
    assert refused(stream, "GetRecords", ShardIterator=given) == "ExpiredIteratorException"


def test_records_are_trimmed_when_their_retention_is_over(stream: Simulation) -> None:
    put(stream, b"old")
    stream.clock.advance(HOUR_S)
    put(stream, b"young")
    given = iterator(stream)
    stream.clock.advance(23 * HOUR_S + 1)
    assert read(stream) == [b"young"]
    assert refused(stream, "GetRecords", ShardIterator=given) == "ExpiredIteratorException"


def test_a_longer_retention_does_not_revive_what_is_gone(stream: Simulation) -> None:
    put(stream, b"gone")
    stream.clock.advance(24 * HOUR_S + 1)
    stream.call("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=48)
    assert read(stream) == []


def test_a_shorter_retention_gives_up_what_is_older(stream: Simulation) -> None:
    stream.call("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=48)
    put(stream, b"old")
    stream.clock.advance(30 * HOUR_S)
    assert read(stream) == [b"old"]
    stream.call("DecreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=24)
    assert read(stream) == []


def test_a_closed_shard_is_unlisted_after_its_retention(stream: Simulation) -> None:
    stream.call("SplitShard", StreamName="s", ShardToSplit=ONLY, NewStartingHashKey="7")
    assert len(stream.call("ListShards", StreamName="s")["Shards"]) == 3  # type: ignore[arg-type]
    stream.clock.advance(24 * HOUR_S + 1)
    assert [one["ShardId"][-1] for one in stream.call("ListShards", StreamName="s")["Shards"]] == ["1", "2"]  # type: ignore[index,attr-defined]
    assert refused(stream, "GetShardIterator", StreamName="s", ShardId=ONLY, ShardIteratorType="LATEST") == (
        "ResourceNotFoundException"
    )


def test_shards_are_filtered_by_a_time(stream: Simulation) -> None:
    stream.clock.advance(10)
    stream.call("SplitShard", StreamName="s", ShardToSplit=ONLY, NewStartingHashKey="7")
    stream.clock.advance(10)

    def at(kind: str, ago_s: float) -> list[str]:
        given = {"Type": kind, "Timestamp": datetime.fromtimestamp(stream.clock() - ago_s, UTC)}
        found: Any = stream.call("ListShards", StreamName="s", ShardFilter=given)["Shards"]
        return [one["ShardId"][-1] for one in found]

    assert (at("AT_TIMESTAMP", 15), at("AT_TIMESTAMP", 5)) == (["0"], ["1", "2"])
    assert (at("FROM_TIMESTAMP", 15), at("FROM_TIMESTAMP", 5)) == (["0", "1", "2"], ["1", "2"])


def test_time_does_not_run_back_within_a_shard(stream: Simulation) -> None:
    put(stream, b"a")
    stream.clock.advance(-100)
    put(stream, b"b")
    answer: Any = stream.call("GetRecords", ShardIterator=iterator(stream))
    first, second = answer["Records"]
    assert int(first["SequenceNumber"]) < int(second["SequenceNumber"])
    assert first["ApproximateArrivalTimestamp"] == second["ApproximateArrivalTimestamp"]


def rated(simulation: Simulation, scale: float = 1.0) -> Simulation:
    simulation.open(rates=Limits(scale=scale))
    simulation.call("CreateStream", StreamName="s", ShardCount=1)
    return simulation


def failures(simulation: Simulation, count: int, size: int) -> Any:
    records = [{"Data": b"x" * size, "PartitionKey": "k"} for _ in range(count)]
    return simulation.call("PutRecords", StreamName="s", Records=records)["FailedRecordCount"]


def test_a_shard_takes_a_thousand_records_a_second(simulation: Simulation) -> None:
    rated(simulation)
    assert [failures(simulation, 400, 1) for _ in range(3)] == [0, 0, 200]
    simulation.clock.advance(0.1)
    assert failures(simulation, 200, 1) == 100


def test_a_shard_takes_a_mebibyte_a_second(simulation: Simulation) -> None:
    rated(simulation)
    assert failures(simulation, 5, MIB // 4) == 2
    simulation.clock.advance(1)
    assert failures(simulation, 3, MIB // 4) == 0


def test_the_scale_multiplies_the_rates(simulation: Simulation) -> None:
    rated(simulation, scale=2)
    assert [failures(simulation, 500, 1) for _ in range(5)] == [0, 0, 0, 0, 500]


def test_a_large_record_empties_the_tank(simulation: Simulation) -> None:
    rated(simulation)
    simulation.call("UpdateMaxRecordSize", StreamARN=simulation.world.kinesis.arn("s"), MaxRecordSizeInKiB=4096)
    assert failures(simulation, 1, 4 * MIB - 1) == 0
    assert failures(simulation, 1, MIB - 1) == 1
    simulation.clock.advance(1)
    assert failures(simulation, 1, MIB - 1) == 0


def test_ten_mebibytes_read_block_the_shard_for_five_seconds(simulation: Simulation) -> None:
    rated(simulation)
    for _ in range(12):
        assert failures(simulation, 1, MIB - 1) == 0
        simulation.clock.advance(1)
    answer: Any = simulation.call("GetRecords", ShardIterator=iterator(simulation))
    assert len(answer["Records"]) == 10
    following = answer["NextShardIterator"]
    simulation.clock.advance(4.9)
    assert refused(simulation, "GetRecords", ShardIterator=following) == "ProvisionedThroughputExceededException"
    simulation.clock.advance(0.1)
    assert len(read(simulation, following)) == 2


def test_an_answer_holds_ten_thousand_records(stream: Simulation) -> None:
    for _ in range(21):
        put(stream, *[b"x"] * 500)
    answer: Any = stream.call("GetRecords", ShardIterator=iterator(stream))
    assert (len(answer["Records"]), len(read(stream, answer["NextShardIterator"]))) == (10_000, 500)


def test_a_subscription_ends_after_five_minutes_and_beats_until_then(stream: Simulation) -> None:
    """TRAPS 15."""
    arn = stream.world.kinesis.arn("s")
    consumer: Any = stream.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]
    start = {"ConsumerARN": consumer["ConsumerARN"], "ShardId": ONLY, "StartingPosition": {"Type": "LATEST"}}
    subscription = stream.world.kinesis.subscribe(start)
    beats = []
    for _ in range(600):
        stream.clock.advance(1)
        event = subscription.poll()
        if event is not None:
            beats.append((event["Records"], event["MillisBehindLatest"]))
        if subscription.over:
            break
    assert (len(beats), set(map(str, beats))) == (59, {"([], 0)"})
    assert subscription.over


def test_a_later_subscription_takes_over(stream: Simulation) -> None:
    arn = stream.world.kinesis.arn("s")
    consumer: Any = stream.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]
    start = {"ConsumerARN": consumer["ConsumerARN"], "ShardId": ONLY, "StartingPosition": {"Type": "LATEST"}}
    first = stream.world.kinesis.subscribe(start)
    stream.clock.advance(4.999)
    with pytest.raises(AwsError, match="ResourceInUseException"):
        stream.world.kinesis.subscribe(start)
    stream.clock.advance(0.001)
    second = stream.world.kinesis.subscribe(start)
    assert (first.poll(), first.taken_over, second.over) == (None, True, False)


def test_a_continuation_number_of_an_idle_shard_skips_nothing(stream: Simulation) -> None:
    arn = stream.world.kinesis.arn("s")
    consumer: Any = stream.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]
    request = {"ConsumerARN": consumer["ConsumerARN"], "ShardId": ONLY}
    subscription = stream.world.kinesis.subscribe({**request, "StartingPosition": {"Type": "LATEST"}})
    stream.clock.advance(5)
    event = subscription.poll()
    assert event is not None
    put(stream, b"next")
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        stream.clock.advance(5)
        start = {"Type": kind, "SequenceNumber": event["ContinuationSequenceNumber"]}
        again = stream.world.kinesis.subscribe({**request, "StartingPosition": start}).poll()
        assert again is not None
        assert [record["Data"] for record in again["Records"]] == [b"next"]


def test_what_is_not_modelled_says_so(stream: Simulation) -> None:
    assert refused(stream, "CreateQueue", StreamName="s") == "UnknownOperationException"
    assert refused(stream, "MakeCoffee") == "UnknownOperationException"


def test_a_wrong_shape_is_refused_as_aws_would(stream: Simulation) -> None:
    assert refused(stream, "CreateStream", StreamName="with space", ShardCount=1) == "ValidationException"
    assert refused(stream, "CreateStream", StreamName="t", ShardCount="1") == "SerializationException"
    assert refused(stream, "GetRecords", ShardIterator=iterator(stream), Limit=10_001) == "ValidationException"
    assert refused(stream, "SplitShard", StreamName="s") == "ValidationException"


def test_the_account_survives_a_restart(simulation: Simulation, tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes_max=500)
    simulation.open(log)
    simulation.call("CreateStream", StreamName="s", ShardCount=1, Tags={"a": "b"})
    put(simulation, b"one", b"two")
    given = iterator(simulation)
    arn = simulation.world.kinesis.arn("s")
    simulation.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")
    before = simulation.call("DescribeStreamSummary", StreamName="s")
    simulation.world.kinesis.sweep()
    log.close()
    simulation.open(FileLog(tmp_path))
    assert simulation.call("DescribeStreamSummary", StreamName="s") == before
    assert read(simulation, given) == [b"one", b"two"]
    put(simulation, b"three")
    assert read(simulation, given) == [b"one", b"two", b"three"]


def test_the_log_shrinks_with_retention_and_numbers_go_on(simulation: Simulation, tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes_max=10_000)
    simulation.open(log)
    simulation.call("CreateStream", StreamName="s", ShardCount=1)
    for _ in range(20):
        put(simulation, b"x" * 2000)
        simulation.world.kinesis.sweep()
    assert len(list(tmp_path.glob("*.log"))) > 3
    last: Any = simulation.call("PutRecord", StreamName="s", Data=b"last", PartitionKey="k")
    simulation.clock.advance(25 * HOUR_S)
    put(simulation, b"x" * 10_000)
    simulation.world.kinesis.sweep()
    simulation.world.kinesis.sweep()
    assert len(list(tmp_path.glob("*.log"))) <= 2
    log.close()
    simulation.open(FileLog(tmp_path))
    after: Any = simulation.call("PutRecord", StreamName="s", Data=b"after", PartitionKey="k")
    assert int(after["SequenceNumber"]) > int(last["SequenceNumber"])
    assert read(simulation) == [b"x" * 10_000, b"after"]


def test_partial_failures_leave_no_trace_of_the_failed(stream: Simulation) -> None:
    """TRAPS 1: acknowledged = readable, under injected failures."""
    world: World = stream.world
    client = world.client("kinesis")
    world.faults.add({"kind": "partial", "ratio": 0.5})
    records = [{"Data": b"%d" % at, "PartitionKey": "k"} for at in range(100)]
    answer = client.put_records(StreamName="s", Records=records)
    written = [one["Data"] for one, result in zip(records, answer["Records"], strict=True) if "ErrorCode" not in result]
    assert (100 - len(written), 0 < len(written) < 100) == (answer["FailedRecordCount"], True)
    world.faults.heal()
    assert read(stream) == written


def test_a_lost_reply_is_a_write_all_the_same(stream: Simulation) -> None:
    """TRAPS 3."""
    client = stream.world.client("kinesis")
    stream.world.faults.add({"kind": "reply_lost", "operation": "PutRecord", "seconds": 5})
    with pytest.raises(Exception, match="Connection was closed"):
        client.put_record(StreamName="s", Data=b"once", PartitionKey="k")
    stream.clock.advance(5)
    client.put_record(StreamName="s", Data=b"once", PartitionKey="k")
    assert read(stream) == [b"once", b"once"]
