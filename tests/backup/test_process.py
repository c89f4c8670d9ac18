"""The backup that our Firehose model writes, read, verified and played again by the commands."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from pipeline import frame
from pipeline.backup.commands import backup, replay_command
from pipeline.backup.objects import MemoryObjects, NoSuchObject, Objects, S3Objects, Stored
from pipeline.backup.reader import Backup, Found
from pipeline.errors import Unavailable
from pipeline.event import event_key, explicit_hash_key, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.stack.launch import Stack
from pipeline.stack.plan import StackSettings
from telemetry.metrics import BACKUP_AUDIT_FAILURES, BACKUP_BEHIND_SECONDS, BACKUP_EVENTS

SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = StackSettings(firehose_buffer_seconds=1)
    parts = ("ministack", "emulator", "provision")
    with (
        pytest.MonkeyPatch.context() as patch,
        Stack.start(tmp_path_factory.mktemp("stack"), free_ports=True, parts=parts, settings=settings) as started,
    ):
        for name, value in started.env().items():
            patch.setenv(name, value)
        yield started


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def payload(number: int) -> bytes:
    event = CloudEvent(id=f"e{number}", source="/s", type="t", binary_data=b"%d" % number)
    batch = stored_batch(
        [event], tenant="acme", accepted_at_unix_micros=number, door="grpc", worker="w", slice=number % 16, slices=16
    )
    return batch.SerializeToString()


def stream_payloads() -> list[bytes]:
    kinesis, found = boto3.client("kinesis"), []
    for shard in kinesis.list_shards(StreamName="events")["Shards"]:
        iterator = kinesis.get_shard_iterator(StreamName="events", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
        found += [frame.decode(record["Data"]) for record in answer["Records"]]
    return sorted(found, key=lambda each: StoredBatch.FromString(each).accepted_at_unix_micros)


@pytest.mark.stack
def test_what_firehose_wrote_is_whole_found_and_played_again_unchanged(stack: Stack) -> None:
    """TRAPS 10, 25."""
    written = [payload(number) for number in range(100)]
    records = [
        {"Data": frame.encode(each), "PartitionKey": "k", "ExplicitHashKey": explicit_hash_key(number % 16, 16)}
        for number, each in enumerate(written)
    ]
    assert 0 == boto3.client("kinesis").put_records(StreamName="events", Records=records)["FailedRecordCount"]
    run = CliRunner().invoke
    until(lambda: " 100 records, 100 events, 0 damaged" in run(backup, ["verify"]).output)
    source = Backup(S3Objects(boto3.client("s3"), "spillway"))
    (place,) = source.find(event_key("acme", "/s", "e42"), ["events", "web-events"])
    assert "1 events" in run(backup, ["cat", place.place.key]).output
    replayed = run(replay_command, ["--stream", "events"])
    assert (0, "100 records, 100 events into events") == (replayed.exit_code, replayed.output.partition(" in ")[0])
    assert [each for each in written for _ in range(2)] == stream_payloads()


@pytest.mark.stack
def test_a_damaged_object_is_named_by_verify(stack: Stack) -> None:
    """TRAPS 10."""
    body = bytearray(frame.join(payload(number) for number in range(3)))
    body[-1] ^= 1
    boto3.client("s3").put_object(Bucket="spillway", Key="backup/web-events/2026/11/23/05/broken", Body=bytes(body))
    result = CliRunner().invoke(backup, ["verify", "--stream", "web-events"])
    assert 1 == result.exit_code
    assert "DAMAGED backup/web-events/2026/11/23/05/broken: bytes" in result.output
    assert "2 records, 2 events, 1 damaged ranges" in result.output


@pytest.mark.stack
def test_verifying_nothing_is_not_a_pass(stack: Stack) -> None:
    """TRAPS 30."""
    assert 1 == CliRunner().invoke(backup, ["verify", "--stream", "no-such-stream"]).exit_code


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.stack)])
def objects(request: pytest.FixtureRequest) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    request.getfixturevalue("stack")
    return S3Objects(boto3.client("s3"), "spillway")


def test_objects_are_put_replaced_listed_in_order_and_deleted(objects: Objects) -> None:
    for key in ("t/b", "t/a", "u/c"):
        objects.put(key, b"first", {"stage": "x"})
    objects.put("t/a", b"second!", {})
    assert b"second!" == objects.get("t/a")
    assert [Stored("t/a", 7), Stored("t/b", 5)] == list(objects.list("t/"))
    assert [Stored("t/b", 5)] == list(objects.list("t/", after="t/a"))
    assert [] == list(objects.list("t/", after="t/b"))
    ages = [datetime.now(UTC) - stored.modified_at for stored in objects.list("t/")]
    assert [True, True] == [abs(age) < timedelta(minutes=1) for age in ages]
    objects.delete("t/a")
    objects.delete("t/a")
    assert [Stored("t/b", 5)] == list(objects.list("t/"))
    with pytest.raises(NoSuchObject):
        objects.get("t/a")


def test_a_bucket_that_cannot_be_reached_is_unavailable() -> None:
    from botocore.config import Config

    closed = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:1", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )  # fmt: skip
    for call in (lambda o: o.get("k"), lambda o: list(o.list("k")), lambda o: o.put("k", b"", {}), lambda o: o.delete("k")):
        with pytest.raises(Unavailable):
            call(S3Objects(closed, "spillway"))


class Process:
    """The auditor as a process of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            settings = {"SPILLWAY_HEALTH_PORT": "0", "SPILLWAY_AUDITOR_ROUND_SECONDS": "0.2"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.backup.auditor"], env={**os.environ, **settings, **env}, stderr=log, stdout=log
            )
        try:
            until(lambda: b'"health_port": ' in self.log.read_bytes())
        except BaseException:
            self.process.kill()
            raise
        self.port = int(self.log.read_text().split('"health_port": ')[1].split(",")[0])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def value(self, series: str) -> float:
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(series + " ")]
        return float(lines[0].rpartition(" ")[2])

    def drain(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()


def test_the_auditor_starts_and_drains_with_nothing_up(tmp_path: Path) -> None:
    """TRAPS 11, 12."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    auditor = Process(tmp_path, **nowhere, AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")
    try:
        assert "ready\n" == auditor.get("/readyz")
        until(lambda: auditor.value(BACKUP_AUDIT_FAILURES.name) >= 2)
    finally:
        code = auditor.drain()
    assert 0 == code


@pytest.mark.stack
def test_the_auditor_reads_what_firehose_writes_once_and_goes_on_after_a_restart(stack: Stack, tmp_path: Path) -> None:
    def put(first: int) -> None:
        records = [
            {"Data": frame.encode(payload(number)), "PartitionKey": "k", "ExplicitHashKey": "0"}
            for number in range(first, first + 50)
        ]
        assert 0 == boto3.client("kinesis").put_records(StreamName="web-events", Records=records)["FailedRecordCount"]

    series = f'{BACKUP_EVENTS.name}{{stream="web-events"}}'
    auditor = Process(tmp_path)
    try:
        put(0)
        until(lambda: auditor.value(series) >= 50)
        first = auditor.value(series)
    finally:
        code = auditor.drain()
    assert 0 == code
    put(50)
    source = Backup(S3Objects(boto3.client("s3"), "spillway"))
    until(lambda: sum(isinstance(part, Found) for part in source.batches("web-events")) >= first + 50)
    again = Process(tmp_path)
    try:
        until(lambda: again.value(series) >= 50)
        assert 0 == again.value(f'{BACKUP_BEHIND_SECONDS.name}{{stream="web-events"}}')
        assert 50 == again.value(series)
    finally:
        again.drain()
