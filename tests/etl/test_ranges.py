"""Closed ranges on the exact model of Kinesis: every record in exactly one batch, whatever the stream does meanwhile."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.emulator.inprocess import World
from pipeline.etl.kinesis import At, Page, Read, Shard
from pipeline.etl.ranges import Gap, Position, Prober, Range, from_json, ranges, read_range, to_json

STREAM = "events-clean"
HOUR = 3600.0


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ModelKinesis:
    """The model as the source sees it."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.api: Any = World.of(self.clock, random.Random(1)).client("kinesis")
        self.api.create_stream(StreamName=STREAM, ShardCount=1)
        self.clock.now += 1
        self.written: list[bytes] = []

    def put(self, key: int) -> None:
        data = f"record {len(self.written)}".encode()
        self.api.put_record(StreamName=STREAM, Data=data, PartitionKey="k", ExplicitHashKey=str(key))
        self.written.append(data)

    def split(self) -> None:
        shards = self._open()
        low, high = (int(shards[0]["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
        self.api.split_shard(StreamName=STREAM, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str((low + high) // 2))
        self.clock.now += 1

    def merge(self) -> None:
        first, second = sorted(self._open(), key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))[:2]
        self.api.merge_shards(StreamName=STREAM, ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"])
        self.clock.now += 1

    def _open(self) -> list[Any]:
        shards = self.api.list_shards(StreamName=STREAM)["Shards"]
        return [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]

    def shards(self, stream: str) -> list[Shard]:
        return [
            Shard(one["ShardId"], tuple(one[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in one))
            for one in self.api.list_shards(StreamName=stream)["Shards"]
        ]

    def iterator(self, stream: str, shard_id: str, at: At) -> str:
        how: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if at.at_millis is not None:
            how = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at.at_millis / 1000}
        elif at.after:
            how = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": at.after}
        return str(self.api.get_shard_iterator(StreamName=stream, ShardId=shard_id, **how)["ShardIterator"])

    def read(self, iterator: str, limit: int) -> Page:
        while True:
            try:
                answer = self.api.get_records(ShardIterator=iterator, Limit=limit)
                break
            except self.api.exceptions.ProvisionedThroughputExceededException:
                self.clock.now += 0.3
        records = [
            Read(one["SequenceNumber"], round(one["ApproximateArrivalTimestamp"].timestamp() * 1000), one["Data"])
            for one in answer["Records"]
        ]
        return Page(records, answer.get("NextShardIterator"), answer["MillisBehindLatest"])

    def retention_seconds(self, stream: str) -> float:
        return 24 * HOUR


@dataclass
class Query:
    """What Spark does with a source: log the end, run the batch, begin the next where it ended."""

    kinesis: ModelKinesis
    span_seconds: float = 5.0
    offset: dict[str, Position] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.prober = Prober(self.kinesis, STREAM, clock=self.kinesis.clock)

    def batch(self) -> bool:
        """One micro-batch, which is read twice, as after a crash; whether there was one."""
        end = from_json(to_json(self.prober.advance(self.offset, self.span_seconds)))
        parts = ranges(self.offset, end)
        first = [self.data(part) for part in parts]
        assert first == [self.data(part) for part in parts]
        self.seen.extend(data for part in first for data in part)
        self.order.extend(part.shard_id for part in parts)
        moved, self.offset = end != self.offset, end
        return moved

    def data(self, part: Range) -> list[bytes]:
        return [record.data for page in read_range(self.kinesis, STREAM, part) for record in page]

    def drain(self) -> None:
        for _ in range(60):
            self.kinesis.clock.now += 11
            if not self.batch():
                return
        raise AssertionError("never at the end")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2**128 - 1)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 30.0])),
        st.tuples(st.sampled_from(["split", "merge", "batch", "restart"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_every_record_is_in_exactly_one_batch(todo: Sequence[tuple[str, Any]]) -> None:
    """TRAPS 13, 14, 19: over any puts, splits, merges, restarts and re-read batches."""
    kinesis = ModelKinesis()
    query = Query(kinesis)
    for what, value in todo:
        match what:
            case "put":
                kinesis.put(value)
            case "wait":
                kinesis.clock.now += value
            case "split" if len(kinesis._open()) < 4:
                kinesis.split()
            case "merge" if len(kinesis._open()) > 1:
                kinesis.merge()
            case "batch":
                query.batch()
            case "restart":
                query.restart()
    query.drain()
    assert sorted(kinesis.written) == sorted(query.seen)


def test_parents_come_before_their_children():
    """TRAPS 14."""
    kinesis = ModelKinesis()
    query = Query(kinesis)
    for round in range(3):
        for _ in range(5):
            kinesis.put(round * 2**126)
        kinesis.split()
    query.drain()
    parents = {shard.id: shard.parents for shard in kinesis.shards(STREAM)}
    for at, shard in enumerate(query.order):
        assert not set(parents[shard]) & set(query.order[at + 1 :])
    assert sorted(kinesis.written) == sorted(query.seen)


def test_an_idle_query_keeps_its_offset_so_that_spark_runs_nothing():
    kinesis = ModelKinesis()
    query = Query(kinesis)
    kinesis.put(1)
    query.drain()
    for _ in range(5):
        kinesis.clock.now += 2
        assert not query.batch()


def test_the_start_is_the_oldest_record_however_often_it_is_asked():
    """`initialOffset` is called again on a restart before the first commit: LATEST would lose what came between."""
    kinesis = ModelKinesis()
    kinesis.put(1)
    for _ in range(2):
        query = Query(kinesis)
        query.drain()
        assert kinesis.written == query.seen


def test_a_batch_holds_a_bounded_span_of_the_stream():
    kinesis = ModelKinesis()
    for _ in range(100):
        kinesis.put(1)
        kinesis.clock.now += 1.0
    query = Query(kinesis, span_seconds=10)
    sizes = []
    while query.batch():
        sizes.append(len(query.seen) - sum(sizes))
        kinesis.clock.now += 2
    assert (100, True) == (sum(sizes), max(sizes) <= 17)


def test_what_was_trimmed_before_it_was_read_is_a_gap():
    kinesis = ModelKinesis()
    query = Query(kinesis)
    kinesis.put(1)
    query.drain()
    kinesis.put(1)
    kinesis.clock.now += 25 * HOUR
    with pytest.raises(Gap, match="restore it from the backup"):
        query.batch()


def test_a_batch_whose_records_are_gone_when_it_is_read_again_is_a_gap():
    kinesis = ModelKinesis()
    for _ in range(3):
        kinesis.put(1)
        kinesis.clock.now += HOUR
    query = Query(kinesis, span_seconds=1e9)
    (part,) = ranges({}, query.prober.advance({}, 1e9))
    kinesis.put(1)
    kinesis.clock.now += 22.5 * HOUR  # the first two are trimmed, the last is there
    with pytest.raises(Gap, match="its start was trimmed"):
        query.data(part)
    kinesis.clock.now += 5 * HOUR
    with pytest.raises(Gap):
        query.data(part)


def test_an_idle_shard_is_no_gap_after_days():
    kinesis = ModelKinesis()
    query = Query(kinesis)
    kinesis.put(1)
    query.drain()
    for _ in range(80):
        kinesis.clock.now += HOUR
        query.batch()
    kinesis.put(2)
    query.drain()
    assert kinesis.written == query.seen


def test_equal_offsets_are_equal_texts():
    left = {"b": Position("2"), "a": Position("1")}
    assert list(to_json(left)) == list(to_json(dict(reversed(left.items())))) == ["a", "b"]
