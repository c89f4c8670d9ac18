"""The real processes on the real path: web-events, transcoder, gRPC door, events, redactor, events-clean; dead letters."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from pipeline import frame
from pipeline.dead_letters.commands import dlq
from pipeline.event import explicit_hash_key, partition_key, slice_of, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.stack.launch import Stack

pytestmark = pytest.mark.stack

SECONDS_MAX = 60.0
SLICES = 16
PARTS = ("ministack", "emulator", "provision", "grpc", "transcoder", "redactor")


def until(true: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline, f"not within {SECONDS_MAX} s: {what()}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPILLWAY_REDACTION_KMS_KEY", "alias/spillway")
        with Stack.start(folder, free_ports=True, parts=PARTS) as started:
            for name, value in started.env().items():
                patch.setenv(name, value)
            yield started


def event(id: str, data: str = '{"city": "Montreal"}') -> CloudEvent:
    made = CloudEvent(id=id, source="/shop", spec_version="1.0", type="spillway.events.v1.ProfileChanged", text_data=data)
    made.attributes["datacontenttype"].ce_string = "application/json"
    made.attributes["subject"].ce_string = f"subject-{id}"
    made.attributes["time"].ce_timestamp.GetCurrentTime()
    return made


def record(one: CloudEvent) -> dict[str, Any]:
    slice = slice_of(partition_key(one), SLICES)
    batch = stored_batch(
        [one], tenant="acme", accepted_at_unix_micros=1_795_400_000_000_000, door="http", worker="t", slice=slice, slices=SLICES
    )
    return {
        "Data": frame.encode(batch.SerializeToString()),
        "PartitionKey": "k",
        "ExplicitHashKey": explicit_hash_key(slice, SLICES),
    }


def put(stream: str, records: list[dict[str, Any]]) -> None:
    for start in range(0, len(records), 500):
        answer = boto3.client("kinesis").put_records(StreamName=stream, Records=records[start : start + 500])
        assert 0 == answer["FailedRecordCount"]


class Tail:
    """All events of a stream, as they come, by id."""

    def __init__(self, stream: str) -> None:
        self.kinesis = boto3.client("kinesis")
        shards = self.kinesis.list_shards(StreamName=stream)["Shards"]
        self.iterators = [
            self.kinesis.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
                "ShardIterator"
            ]
            for shard in shards
        ]
        self.found: dict[str, list[tuple[StoredBatch, CloudEvent]]] = {}

    def read(self) -> dict[str, list[tuple[StoredBatch, CloudEvent]]]:
        for number, iterator in enumerate(self.iterators):
            answer = self.kinesis.get_records(ShardIterator=iterator)
            self.iterators[number] = answer["NextShardIterator"]
            for each in answer["Records"]:
                batch = StoredBatch.FromString(frame.decode(each["Data"]))
                for one in batch.events:
                    self.found.setdefault(one.id, []).append((batch, one))
        return self.found


def letters(prefix: str = "dead-letters/") -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="spillway", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def test_what_came_in_as_json_arrives_clean_and_typed_or_as_a_dead_letter(stack: Stack) -> None:
    good = [event(f"good-{number}") for number in range(100)]
    bad = [event(f"bad-{number}", data='{"no_such_field": 1}') for number in range(5)]
    tail = Tail("events-clean")
    put("web-events", [record(each) for each in [*good, *bad]] + [{"Data": b"garbage", "PartitionKey": "k"}])
    until(
        lambda: {each.id for each in good} <= set(tail.read()), lambda: stack.logs("transcoder", 20) + stack.logs("redactor", 20)
    )
    until(lambda: len(letters("dead-letters/transcoder/")) == 6, letters)
    batch, one = tail.found["good-7"][0]
    assert ("acme", "http", 1_795_400_000_000_000) == (batch.tenant, batch.door, batch.accepted_at_unix_micros)
    assert ProfileChanged(city="Montreal") == ProfileChanged.FromString(one.binary_data)
    assert "subject-good-7" == one.attributes["subject"].ce_string
    listed = CliRunner().invoke(dlq, ["count"])
    assert ["5  transcoder  unknown_field", "1  transcoder  corrupt"] == sorted(
        (line.strip() for line in listed.output.splitlines()[:-1]), reverse=True
    )
    still_wrong = CliRunner().invoke(dlq, ["redrive", "--reason", "unknown_field"])
    assert (1, "0 redriven, 5 still here") == (still_wrong.exit_code, still_wrong.output.splitlines()[-1])


@pytest.mark.parametrize("victim", ["transcoder", "redactor"])
@pytest.mark.slow
def test_a_worker_that_is_killed_under_load_loses_nothing(stack: Stack, victim: str) -> None:
    """TRAPS 13: acknowledged is a subset of delivered; what is delivered twice has the same id."""
    ids = [f"{victim}-{number}" for number in range(600)]
    records = [record(event(id)) for id in ids]
    tail = Tail("events-clean")
    restarts = stack.process(victim).restarts
    put("web-events", records[:300])
    stack.kill(victim, signal.SIGKILL)
    put("web-events", records[300:])
    until(lambda: set(ids) <= set(tail.read()), lambda: stack.logs(victim, 20))
    assert stack.process(victim).restarts > restarts


def test_a_shard_that_splits_under_the_workers_is_followed(stack: Stack) -> None:
    """TRAPS 14."""
    tail = Tail("events-clean")
    kinesis = boto3.client("kinesis")
    put("web-events", [record(event(f"before-{number}")) for number in range(50)])
    shard = kinesis.list_shards(StreamName="web-events")["Shards"][0]
    low, high = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
    kinesis.split_shard(StreamName="web-events", ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2))
    until(
        lambda: kinesis.describe_stream_summary(StreamName="web-events")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"
    )
    put("web-events", [record(event(f"after-{number}")) for number in range(50)])
    wanted = {f"{when}-{number}" for when in ("before", "after") for number in range(50)}
    until(lambda: wanted <= set(tail.read()), lambda: stack.logs("transcoder", 20))


def alone(module: str, folder: Path, **env: str) -> "subprocess.Popen[bytes]":
    """A worker with no store anywhere."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPILLWAY_"))}
    log = (folder / "log").open("wb")
    return subprocess.Popen([sys.executable, "-m", module], env={**kept, **nowhere, **env}, stderr=log, stdout=log)


def test_the_redactor_does_not_run_with_a_hole_in_the_policy(tmp_path: Path) -> None:
    """It fails closed, and names the field."""
    (tmp_path / "mine.proto").write_text('syntax = "proto3"; package mine.v1; message Seen { string who = 1; bytes photo = 2; }')
    process = alone("pipeline.redactor", tmp_path, SPILLWAY_PROTO_DIR=str(tmp_path))
    assert 78 == process.wait(SECONDS_MAX)
    assert "mine.v1.Seen.photo" in (tmp_path / "log").read_text()


def test_the_transcoder_does_not_run_without_a_key(tmp_path: Path) -> None:
    assert 78 == alone("pipeline.transcoder", tmp_path).wait(SECONDS_MAX)
    assert "SPILLWAY" not in (tmp_path / "log").read_text()
    assert "role service" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("module", ["pipeline.redactor", "pipeline.transcoder"])
def test_a_worker_starts_and_drains_with_nothing_up(tmp_path: Path, module: str) -> None:
    """TRAPS 11, 12."""
    process = alone(module, tmp_path, SPILLWAY_HEALTH_PORT="0", SPILLWAY_TRANSCODER_KEY="spw_x_y")
    try:
        until(lambda: b'"health_port": ' in (tmp_path / "log").read_bytes())
        port = int((tmp_path / "log").read_text().split('"health_port": ')[1].split(",")[0])
        assert 200 == urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(30)
    finally:
        process.kill()
        process.wait()
