"""Firehose: what lands in S3, under which name, and when (TRAPS 10, 27)."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.emulator import prefix
from pipeline.emulator.delivery import Delivery, StoreFailed, deliver_all
from pipeline.emulator.errors import AwsError
from pipeline.emulator.limits import MIB, Limits
from pipeline.emulator.log import FileLog
from pipeline.emulator.store import MemoryStore

from .conftest import Simulation

ROLE = "arn:aws:iam::000000000000:role/firehose"
T0_MS = 1_800_000_000_000  # 2027-01-15 08:00:00 UTC


class FlakyStore(MemoryStore):
    """Fails the puts whose outcome it is told: "refused" before storing, "unclear" after."""

    def __init__(self, *outcomes: str) -> None:
        super().__init__()
        self.outcomes = list(outcomes)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        outcome = self.outcomes.pop(0) if self.outcomes else "stored"
        if outcome != "refused":
            super().put(bucket, key, body)
        if outcome != "stored":
            raise StoreFailed(outcome)


def make(simulation: Simulation, *, source: bool = True, **config: Any) -> Delivery:
    if source and "s" not in simulation.world.kinesis.streams:
        simulation.call("CreateStream", StreamName="s", ShardCount=2)
    destination = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::bucket", **config}
    request: dict[str, Any] = {"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration": destination}
    if source:
        arn = simulation.world.kinesis.arn("s")
        request["DeliveryStreamType"] = "KinesisStreamAsSource"
        request["KinesisStreamSourceConfiguration"] = {"KinesisStreamARN": arn, "RoleARN": ROLE}
    simulation.world.firehose.call("CreateDeliveryStream", request)
    return simulation.world.firehose.deliveries["d"]


def put(simulation: Simulation, *datas: bytes) -> None:
    records = [{"Data": data, "PartitionKey": str(at)} for at, data in enumerate(datas)]
    simulation.call("PutRecords", StreamName="s", Records=records)


def hints(mebibytes: int, seconds: int) -> dict[str, int]:
    return {"SizeInMBs": mebibytes, "IntervalInSeconds": seconds}


def test_records_wait_for_the_interval_then_go_joined(simulation: Simulation) -> None:
    """TRAPS 10: with nothing between them."""
    delivery = make(simulation, BufferingHints=hints(5, 60))
    store = MemoryStore()
    put(simulation, *[b"record-%d" % at for at in range(10)])
    assert deliver_all(delivery, store) == []
    simulation.clock.advance(59)
    assert deliver_all(delivery, store) == []
    simulation.clock.advance(1)
    assert len(deliver_all(delivery, store)) == 1
    body = next(iter(store.objects.values()))
    assert sorted(re.findall(rb"record-\d", body)) == [b"record-%d" % at for at in range(10)]
    assert len(body) == 10 * len(b"record-0")


def test_a_full_buffer_goes_at_once(simulation: Simulation) -> None:
    delivery = make(simulation, BufferingHints=hints(1, 900))
    store = MemoryStore()
    put(simulation, *[b"x" * (MIB // 4)] * 9)
    assert len(deliver_all(delivery, store)) == 2
    assert [len(body) for body in store.objects.values()] == [MIB, MIB]


def test_nothing_written_is_nothing_delivered(simulation: Simulation) -> None:
    delivery = make(simulation)
    simulation.clock.advance(10_000)
    assert deliver_all(delivery, MemoryStore()) == []


def test_delivery_begins_at_latest_of_its_creation(simulation: Simulation) -> None:
    simulation.call("CreateStream", StreamName="s", ShardCount=2)
    put(simulation, b"before", b"before")
    delivery = make(simulation, BufferingHints=hints(1, 0))
    put(simulation, b"after")
    store = MemoryStore()
    deliver_all(delivery, store)
    assert list(store.objects.values()) == [b"after"]


def test_gzip_is_one_member_named_gz(simulation: Simulation) -> None:
    delivery = make(simulation, BufferingHints=hints(1, 0), CompressionFormat="GZIP")
    put(simulation, b"data")
    store = MemoryStore()
    (key,) = deliver_all(delivery, store)
    assert (key[-3:], gzip.decompress(store.objects["bucket", key])) == (".gz", b"data")


def test_an_object_is_named_as_aws_names_it(simulation: Simulation) -> None:
    delivery = make(simulation, BufferingHints=hints(1, 0), Prefix="backup/events/")
    put(simulation, b"x")
    (key,) = deliver_all(delivery, MemoryStore())
    assert re.fullmatch(r"backup/events/2027/01/15/08/d-1-2027-01-15-08-00-00-[0-9a-f-]{36}", key)


@pytest.mark.parametrize(
    ("pattern", "zone", "expected"),
    [
        ("", "", "2027/01/15/08/"),
        ("a/!{timestamp:yyyy-MM}/", "", "a/2027-01/"),
        ("y=!{timestamp:yyyy'-year-'dd}/", "", "y=2027-year-15/"),
        ("!{timestamp:HH/mm/ss}/", "Asia/Tokyo", "17/00/00/"),
    ],
)
def test_prefixes_are_evaluated(pattern: str, zone: str, expected: str) -> None:
    key = prefix.object_key(pattern, zone, "d", 1, T0_MS, "", random.Random(1))
    assert key[: key.index("d-1-")] == expected


def test_a_random_string_is_new_at_each_place() -> None:
    key = prefix.object_key("!{firehose:random-string}/!{firehose:random-string}/", "", "d", 1, 0, "", random.Random(1))
    first, second = key.split("/")[:2]
    assert (len(first), len(second), first == second) == (11, 11, False)


@pytest.mark.parametrize(
    "config",
    [
        {"Prefix": "!{timestamp:yyyy}/"},
        {"Prefix": "!{firehose:error-output-type}/", "ErrorOutputPrefix": "e/"},
        {"Prefix": "!{timestamp:qq}/", "ErrorOutputPrefix": "e/"},
        {"Prefix": "!{nonsense:yyyy}/", "ErrorOutputPrefix": "e/"},
        {"CompressionFormat": "Snappy"},
        {"ProcessingConfiguration": {"Enabled": True}},
        {"BufferingHints": {"SizeInMBs": 3}},
    ],
)
def test_what_cannot_be_delivered_is_refused_at_creation(simulation: Simulation, config: dict[str, Any]) -> None:
    with pytest.raises(AwsError, match="InvalidArgumentException"):
        make(simulation, **config)


def test_a_refused_put_is_tried_again_later_and_nothing_doubles(simulation: Simulation) -> None:
    delivery = make(simulation, BufferingHints=hints(1, 0))
    store = FlakyStore("refused", "refused")
    put(simulation, b"data")
    for _ in range(3):
        deliver_all(delivery, store)
        simulation.clock.advance(1.1)
    assert list(store.objects.values()) == [b"data"]
    assert delivery.metrics()["DeliveryToS3.Failed"] == 2


def test_an_unclear_failure_delivers_twice_under_two_names(simulation: Simulation) -> None:
    """TRAPS 27: it duplicates on retry."""
    delivery = make(simulation, BufferingHints=hints(1, 0))
    store = FlakyStore("unclear")
    put(simulation, b"data")
    deliver_all(delivery, store)
    simulation.clock.advance(1)
    deliver_all(delivery, store)
    assert list(store.objects.values()) == [b"data", b"data"]


def test_the_position_does_not_move_before_the_put_succeeded(simulation: Simulation) -> None:
    """TRAPS 13."""
    delivery = make(simulation, BufferingHints=hints(1, 0))
    put(simulation, b"data")
    before = dict(delivery.state["positions"])
    put_now = delivery.step()
    assert put_now is not None
    assert delivery.step() is None
    delivery.failed("S3 is down")
    assert delivery.state["positions"] == before
    simulation.clock.advance(1)
    again = delivery.step()
    assert again is not None
    delivery.succeeded(again, 4)
    assert delivery.state["positions"] != before


def test_backing_off_is_bounded(simulation: Simulation) -> None:
    delivery = make(simulation, BufferingHints=hints(1, 0))
    put(simulation, b"data")
    waits = []
    for _ in range(200):
        assert delivery.step() is not None
        delivery.failed("S3 is down")
        waits.append(delivery.retry_at_ms - simulation.world.kinesis.now_ms())
        simulation.clock.now_s = delivery.retry_at_ms / 1000 + 0.001
    assert 25_000 < max(waits) <= 30_001
    assert max(waits[:3]) <= 2_001


def test_it_gives_up_when_the_stream_no_longer_keeps_the_records(simulation: Simulation) -> None:
    """TRAPS 27: the loss is counted, not silent."""
    delivery = make(simulation, BufferingHints=hints(1, 0))
    put(simulation, b"old", b"old")
    assert delivery.step() is not None
    delivery.failed("S3 is down")
    assert delivery.metrics()["DeliveryToS3.DataFreshness"] < 1
    simulation.clock.advance(3600)
    assert delivery.metrics()["DeliveryToS3.DataFreshness"] == 3600
    put(simulation, b"young")
    simulation.clock.advance(23 * 3600 + 1)
    store = MemoryStore()
    deliver_all(delivery, store)
    assert list(store.objects.values()) == [b"young"]
    assert delivery.metrics()["records_lost"] == 2


def test_parents_are_delivered_before_children(simulation: Simulation) -> None:
    """TRAPS 14."""
    delivery = make(simulation, BufferingHints=hints(1, 0))
    put(simulation, *[b"p"] * 20)
    for shard in ("shardId-000000000000", "shardId-000000000001"):
        edge = simulation.world.kinesis.streams["s"].shard(shard)
        assert edge is not None
        simulation.call("SplitShard", StreamName="s", ShardToSplit=shard, NewStartingHashKey=str(edge.start + 1000))
    put(simulation, *[b"c"] * 20)
    store = MemoryStore()
    for _ in range(3):
        deliver_all(delivery, store)
    assert b"".join(store.objects.values()) == b"p" * 20 + b"c" * 20


def test_direct_puts_are_delivered(simulation: Simulation) -> None:
    delivery = make(simulation, source=False, BufferingHints=hints(1, 0))
    client = simulation.world.client("firehose")
    client.put_record(DeliveryStreamName="d", Record={"Data": b"one,"})
    answer = client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b"two,"}, {"Data": b"three"}])
    assert (answer["FailedPutCount"], len({one["RecordId"] for one in answer["RequestResponses"]})) == (0, 2)
    store = MemoryStore()
    deliver_all(delivery, store)
    assert list(store.objects.values()) == [b"one,two,three"]
    assert simulation.call("ListStreams")["StreamNames"] == []


def test_a_stream_as_source_takes_no_direct_puts(simulation: Simulation) -> None:
    make(simulation)
    with pytest.raises(AwsError, match="InvalidSourceException"):
        simulation.world.firehose.call("PutRecord", {"DeliveryStreamName": "d", "Record": {"Data": b"x"}})


def test_firehose_is_described_and_updated_through_boto3(simulation: Simulation) -> None:
    make(simulation, BufferingHints=hints(2, 30))
    client = simulation.world.client("firehose")
    found = client.describe_delivery_stream(DeliveryStreamName="d")["DeliveryStreamDescription"]
    destination = found["Destinations"][0]
    assert destination["ExtendedS3DestinationDescription"]["BufferingHints"] == hints(2, 30)
    update = {
        "DeliveryStreamName": "d",
        "CurrentDeliveryStreamVersionId": found["VersionId"],
        "DestinationId": destination["DestinationId"],
        "ExtendedS3DestinationUpdate": {"Prefix": "other/"},
    }
    client.update_destination(**update)
    with pytest.raises(client.exceptions.ConcurrentModificationException):
        client.update_destination(**update)
    after = client.describe_delivery_stream(DeliveryStreamName="d")["DeliveryStreamDescription"]
    assert (after["VersionId"], after["Destinations"][0]["ExtendedS3DestinationDescription"]["Prefix"]) == (
        "2",
        "other/",
    )
    client.delete_delivery_stream(DeliveryStreamName="d")
    assert client.list_delivery_streams()["DeliveryStreamNames"] == []


def test_it_reads_each_shard_once_a_second(simulation: Simulation) -> None:
    simulation.open(rates=Limits())
    delivery = make(simulation, BufferingHints=hints(1, 0))
    store = MemoryStore()
    for at in range(20):
        put(simulation, b"x")
        deliver_all(delivery, store)
        simulation.clock.advance(0.125)
        assert len(store.objects) == 1 + at // 8


def test_delivery_goes_on_after_a_restart(simulation: Simulation, tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    simulation.open(log)
    delivery = make(simulation, BufferingHints=hints(1, 0))
    store = MemoryStore()
    put(simulation, b"first")
    deliver_all(delivery, store)
    put(simulation, b"second")
    assert delivery.step() is not None
    log.close()
    simulation.open(FileLog(tmp_path))
    deliver_all(simulation.world.firehose.deliveries["d"], store)
    assert list(store.objects.values()) == [b"first", b"second"]
    assert simulation.world.firehose.deliveries["d"].metrics()["DeliveryToS3.Records"] == 2
