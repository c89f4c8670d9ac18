"""Whatever happens to a stream: what was acknowledged is read exactly once, in order, parents before children."""

from __future__ import annotations

import random
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.emulator import sequence
from pipeline.emulator.errors import AwsError
from pipeline.emulator.limits import HASH_SPACE, Limits
from pipeline.emulator.log import FileLog
from pipeline.emulator.model import Kinesis


class StreamMachine(RuleBasedStateMachine):
    """Puts, splits, merges, scalings, restarts and partial reads in any order, at a fifth of AWS's rates, so that they bite."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="emulator-laws-"))
        self.now_s = 1_800_000_000.0
        self.acknowledged: dict[str, list[tuple[int, bytes]]] = {}
        self.iterators: dict[str, str | None] = {}
        self.observed: dict[str, list[tuple[int, bytes]]] = {}
        self.written = 0
        self._open()
        self.kinesis.call("CreateStream", {"StreamName": "s", "ShardCount": 2})

    def _open(self) -> None:
        log = FileLog(self.folder, segment_bytes_max=2000)
        rates = Limits(enforced=True, scale=0.2)
        self.kinesis = Kinesis(lambda: self.now_s, random.Random(3), log=log, rates=rates)

    def teardown(self) -> None:
        self.read_everything()
        shutil.rmtree(self.folder)

    def _open_shards(self) -> list[Any]:
        return self.kinesis.streams["s"].open

    @rule(eighths=st.lists(st.integers(0, 7), min_size=1, max_size=6), times=st.integers(1, 60), size=st.integers(0, 99))
    def put(self, eighths: list[int], times: int, size: int) -> None:
        records = []
        for eighth in eighths * times:
            self.written += 1
            data = b"%d:" % self.written + b"." * size
            hashed = HASH_SPACE // 8 * eighth + self.written
            records.append({"Data": data, "PartitionKey": "é", "ExplicitHashKey": str(hashed)})
        results = self.kinesis.call("PutRecords", {"StreamName": "s", "Records": records})["Records"]
        self.kinesis.log.flush()
        for record, result in zip(records, results, strict=True):
            if "SequenceNumber" in result:
                number = int(result["SequenceNumber"])
                self.acknowledged.setdefault(result["ShardId"], []).append((number, record["Data"]))

    @rule(which=st.integers(0, 99), where=st.floats(0, 1))
    def split(self, which: int, where: float) -> None:
        shard = self._open_shards()[which % len(self._open_shards())]
        edge = shard.start + 1 + int((shard.end - shard.start - 1) * where)
        if shard.start < edge <= shard.end and len(self._open_shards()) < 20:
            request = {"StreamName": "s", "ShardToSplit": shard.id, "NewStartingHashKey": str(edge)}
            self.kinesis.call("SplitShard", request)

    @rule(which=st.integers(0, 99), swap=st.booleans())
    def merge(self, which: int, swap: bool) -> None:
        shards = self._open_shards()
        if len(shards) > 1:
            at = which % (len(shards) - 1)
            pair = [shards[at].id, shards[at + 1].id]
            one, other = reversed(pair) if swap else pair
            self.kinesis.call("MergeShards", {"StreamName": "s", "ShardToMerge": one, "AdjacentShardToMerge": other})

    @rule(count=st.integers(1, 12))
    def scale(self, count: int) -> None:
        request = {"StreamName": "s", "TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"}
        current = len(self._open_shards())
        if (current + 1) // 2 <= count <= current * 2 and len(self.kinesis.streams["s"].reshards_ms) < 10:
            self.kinesis.call("UpdateShardCount", request)
            assert len(self._open_shards()) == count

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        log = self.kinesis.log
        assert isinstance(log, FileLog)
        if not killed:
            self.kinesis.sweep()
        log.close()
        self._open()

    @rule(which=st.integers(0, 99), limit=st.integers(1, 30))
    def read(self, which: int, limit: int) -> None:
        shards = self.kinesis.streams["s"].shards
        shard = shards[which % len(shards)]
        self._read(shard.id, limit)

    def _read(self, shard_id: str, limit: int) -> bool:
        """One GetRecords on this shard's cursor; whether there may be more."""
        try:
            if shard_id not in self.iterators:
                request = {"StreamName": "s", "ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON"}
                self.iterators[shard_id] = self.kinesis.call("GetShardIterator", request)["ShardIterator"]
            iterator = self.iterators[shard_id]
            if iterator is None:
                return False
            answer = self.kinesis.call("GetRecords", {"ShardIterator": iterator, "Limit": limit})
        except AwsError as error:
            if error.code != "ProvisionedThroughputExceededException":
                raise
            return True
        for record in answer["Records"]:
            self.observed.setdefault(shard_id, []).append((int(record["SequenceNumber"]), record["Data"]))
        self.iterators[shard_id] = answer.get("NextShardIterator")
        if self.iterators[shard_id] is None:
            children = [shard for shard in self.kinesis.streams["s"].shards if f"shardId-{shard.index:012d}" != shard_id]
            index = int(shard_id[-12:])
            assert {child["ShardId"] for child in answer["ChildShards"]} == {
                child.id for child in children if index in child.parents
            }
        return bool(answer["MillisBehindLatest"] > 0)

    @invariant()
    def open_shards_cover_the_hash_space_once(self) -> None:
        edges = [(shard.start, shard.end) for shard in self._open_shards()]
        assert edges[0][0] == 0
        assert edges[-1][1] == HASH_SPACE - 1
        assert all(low[1] + 1 == high[0] for low, high in pairwise(edges))

    @invariant()
    def what_was_observed_is_a_prefix_of_what_was_acknowledged(self) -> None:
        for shard_id, found in self.observed.items():
            assert found == self.acknowledged.get(shard_id, [])[: len(found)]

    @invariant()
    def children_come_above_their_parents(self) -> None:
        for shard in self.kinesis.streams["s"].shards:
            for parent in shard.parents:
                above = self.kinesis.streams["s"].shards[parent].number(sequence.COUNTER_END, int(self.now_s * 1000))
                assert int(shard.number(0, 0)) > int(above)

    @rule()
    def read_everything(self) -> None:
        """The verdict: observed = acknowledged, per shard and in order."""
        for shard in self.kinesis.streams["s"].shards:
            while self._read(shard.id, 1000):
                self.now_s += 1.0
        assert self.observed == self.acknowledged
        numbers = [number for found in self.acknowledged.values() for number, _ in found]
        assert len(set(numbers)) == len(numbers)


StreamMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestStreams = StreamMachine.TestCase
