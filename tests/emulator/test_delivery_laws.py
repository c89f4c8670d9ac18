"""Whatever S3 does and whenever the emulator dies: every record is delivered at least once, none is skipped."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.emulator.delivery import Put
from pipeline.emulator.inprocess import World
from pipeline.emulator.limits import HASH_SPACE, Limits
from pipeline.emulator.log import FileLog

ROLE = "arn:aws:iam::000000000000:role/firehose"
OUTCOMES = st.sampled_from(["stored", "refused", "unclear"])


class DeliveryMachine(RuleBasedStateMachine):
    """Puts, splits, S3 that stores, refuses or stores and then fails, and kills at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="emulator-delivery-"))
        self.now_s = 1_800_000_000.0
        self.written: list[int] = []
        self.places: dict[int, tuple[int, int]] = {}
        self.stored: list[int] = []
        self.in_flight: Put | None = None
        self._open()
        self.world.kinesis.call("CreateStream", {"StreamName": "s", "ShardCount": 2})
        destination = {
            "RoleARN": ROLE,
            "BucketARN": "arn:aws:s3:::b",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "CompressionFormat": "UNCOMPRESSED",
        }
        request = {
            "DeliveryStreamName": "d",
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": self.world.kinesis.arn("s"), "RoleARN": ROLE},
            "ExtendedS3DestinationConfiguration": destination,
        }
        self.world.firehose.call("CreateDeliveryStream", request)

    def _open(self) -> None:
        log = FileLog(self.folder, segment_bytes_max=3000)
        self.world = World.of(lambda: self.now_s, random.Random(5), log=log, rates=Limits(enforced=False))

    def teardown(self) -> None:
        """The verdict, once S3 is well: everything has arrived."""
        for _ in range(200):
            self.step()
            self.s3_answers("stored")
            if set(self.stored) >= set(self.written):
                break
        shutil.rmtree(self.folder)
        assert set(self.stored) == set(self.written)

    @rule(count=st.integers(1, 20), seed=st.integers(0, 99))
    def put(self, count: int, seed: int) -> None:
        chance = random.Random(seed)
        records = []
        for _ in range(count):
            self.written.append(len(self.written))
            hashed = str(chance.randrange(HASH_SPACE))
            records.append({"Data": b"<%d>" % self.written[-1], "PartitionKey": "k", "ExplicitHashKey": hashed})
        results = self.world.kinesis.call("PutRecords", {"StreamName": "s", "Records": records})["Records"]
        self.world.kinesis.log.flush()
        shards = self.world.kinesis.streams["s"]
        counters = {shard.id: shard.next for shard in shards.shards}
        for number, result in reversed(list(zip(self.written[-count:], results, strict=True))):
            counters[result["ShardId"]] -= 1
            self.places[number] = (int(result["ShardId"][-12:]), counters[result["ShardId"]])

    @rule(which=st.integers(0, 9))
    def split(self, which: int) -> None:
        shards = self.world.kinesis.streams["s"].open
        shard = shards[which % len(shards)]
        edge = str((shard.start + shard.end) // 2)
        request = {"StreamName": "s", "ShardToSplit": shard.id, "NewStartingHashKey": edge}
        self.world.kinesis.call("SplitShard", request)

    @rule(outcomes=st.lists(OUTCOMES, min_size=1, max_size=4))
    def deliver(self, outcomes: list[str]) -> None:
        for outcome in outcomes:
            self.step()
            self.s3_answers(outcome)

    @rule()
    def step(self) -> None:
        if self.in_flight is None:
            self.now_s += 40.0
            self.in_flight = self.world.firehose.deliveries["d"].step()

    @rule(outcome=OUTCOMES)
    def s3_answers(self, outcome: str) -> None:
        put, self.in_flight = self.in_flight, None
        if put is None:
            return
        if outcome != "refused":
            self._store(put)
        delivery = self.world.firehose.deliveries["d"]
        if outcome == "stored":
            delivery.succeeded(put, len(put.body()))
        else:
            delivery.failed(outcome)

    def _store(self, put: Put) -> None:
        self.stored += [int(found) for found in re.findall(rb"<(\d+)>", put.body())]

    @rule(stored=st.booleans())
    def killed(self, stored: bool) -> None:
        """SIGKILL: what is in the kernel stays, an object under way may have arrived."""
        if self.in_flight is not None and stored:
            self._store(self.in_flight)
        self.in_flight = None
        log = self.world.kinesis.log
        assert isinstance(log, FileLog)
        log.close()
        self._open()

    @invariant()
    def the_position_is_never_ahead_of_what_is_stored(self) -> None:
        delivery = self.world.firehose.deliveries["d"]
        stored = set(self.stored)
        shards = self.world.kinesis.streams["s"].shards
        for number, (shard, counter) in self.places.items():
            if counter < delivery.position(shards[shard]):
                assert number in stored


DeliveryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestDelivery = DeliveryMachine.TestCase
