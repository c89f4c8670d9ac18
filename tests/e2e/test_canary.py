"""The canary on a live stack: it finds everything through each door, onto each shard, at each exit; and it finds what is broken.

The session's stack runs one as a process of its own. What tests before this one broke, it may still hold against the pipeline: so
the tests here ask how it is now.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from canary.blame import EXITS
from canary.lanes import DOORS
from pipeline.config import Settings, load
from pipeline.consumer.dynamodb import DynamoLeases
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings
from pipeline.stack.launch import Stack
from pipeline.stack.provision import delivery_stream
from tests.e2e.conftest import Pipeline, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(600)]

LANES = {(exit, door) for exit in EXITS for door in DOORS} - {("web-backup", "grpc")}
WELL_SECONDS_MAX = 120.0
# The promises.
TOTAL_LOSS_SECONDS_MAX, STUCK_SHARD_SECONDS_MAX = 30.0, 60.0
AWAY_SECONDS = 120.0
NEVER = {"lost", "duplicated", "corrupted", "phantom"}
WELL = {"delivered", "reordered"}
NO_BUCKET = "arn:aws:s3:::spillway-there-is-no-such-bucket"
# As a table is after another writer has put it to a use that ours does not know: anybody may read it, and ours may not write.
READ_ONLY_PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["identityColumns"]}


def said(stack: Stack) -> dict[str, Any]:
    """What the stack's canary knows; nothing while it is away."""
    try:
        with urllib.request.urlopen(f"{stack.endpoints['health:canary']}/canary", timeout=5.0) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except OSError:
        return {}


def verdicts(stack: Stack) -> dict[tuple[str, str], str]:
    return {(row["exit"], row["door"]): row["verdict"] for row in said(stack).get("rows", ())}


def well(stack: Stack) -> bool:
    found = verdicts(stack)
    return found.keys() == LANES and set(found.values()) <= WELL


def blamed(stack: Stack) -> list[set[str]]:
    return [{suspect["hop"] for suspect in blame["suspects"]} for blame in said(stack).get("blames", ())]


def convictions(stack: Stack, since: float) -> set[tuple[str, str]]:
    """(exit, verdict) of what was found since then, but for what was only late."""
    return {(case["exit"], case["verdict"]) for case in said(stack).get("cases", ()) if case["at"] >= since} & {
        (exit, verdict) for exit in EXITS for verdict in NEVER
    }


def seconds_until(true: Callable[[], bool], seconds_max: float, what: Callable[[], str]) -> float:
    began = time.monotonic()
    wait_until(true, what, seconds_max)
    return time.monotonic() - began


def told(stack: Stack) -> str:
    found = said(stack)
    return f"{found.get('outcome')}: {found.get('sentence')} {verdicts(stack)}"


@pytest.fixture
def canary(pipeline: Pipeline) -> Iterator[Stack]:
    """The stack, once its canary is well; and well again afterwards."""
    stack = pipeline.stack
    wait_until(lambda: well(stack), lambda: f"the canary is well: {told(stack)}", WELL_SECONDS_MAX)
    yield stack
    wait_until(lambda: well(stack), lambda: f"the canary is well again: {told(stack)}", WELL_SECONDS_MAX)


@pytest.mark.slow
def test_every_probe_is_delivered_at_every_exit_through_both_doors_and_onto_every_shard(
    canary: Stack, pipeline: Pipeline
) -> None:
    patient = {"SPILLWAY_CANARY_DUE_SECONDS": "60", "SPILLWAY_CANARY_BACKUP_DUE_SECONDS": "60"}
    command = [sys.executable, "spillway.py", "canary", "once", "--json", "--no-checks"]
    run = subprocess.run(
        command, env=os.environ | pipeline.env | patient, capture_output=True, text=True, timeout=200, check=False
    )
    found = json.loads(run.stdout)
    assert (0, "held", 2) == (run.returncode, found["outcome"], found["shards"]), run.stderr
    assert dict.fromkeys(LANES, (2, 2, "delivered")) == {
        (row["exit"], row["door"]): (row["judged"], row["delivered"], row["verdict"]) for row in found["rows"]
    }
    assert 4 == found["sent"]
    # The scheduled one has tried by now what must not happen.
    wait_until(lambda: {"held"} == {one["verdict"] for one in said(canary)["checks"]}, lambda: str(said(canary)["checks"]), 90.0)


# -- broken, one thing at a time; minutes long


@contextmanager
def redis_takes_no_writes(stack: Stack) -> Iterator[None]:
    with redis.Redis.from_url(stack.env()["SPILLWAY_REDIS_URL"], socket_timeout=10) as client:
        client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        try:
            yield
        finally:
            client.execute_command("CLIENT", "UNPAUSE")


@contextmanager
def rds_takes_no_writes(stack: Stack) -> Iterator[None]:
    with psycopg.connect(stack.env()["SPILLWAY_RDS_URL"], connect_timeout=5) as connection:
        connection.execute("LOCK TABLE event_history IN EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def lake_takes_no_writes(stack: Stack) -> Iterator[None]:
    """The three queries of the ETL are apart, so that this one fails alone; the table can be read as before."""
    shared = load(Settings, stack.env())
    lake = Lake(load(EtlSettings, stack.env()).lake(shared), shared.region)
    before = protocol(lake)
    put_protocol(lake, READ_ONLY_PROTOCOL)
    try:
        yield
    finally:
        put_protocol(lake, before)


def protocol(lake: Lake) -> dict[str, Any]:
    now = lake.table().protocol()
    lists = {"writerFeatures": now.writer_features, "readerFeatures": now.reader_features}
    versions = {"minReaderVersion": now.min_reader_version, "minWriterVersion": now.min_writer_version}
    return versions | {name: features for name, features in lists.items() if features is not None}


def put_protocol(lake: Lake, wanted: dict[str, Any]) -> None:
    """As the table's next version; whoever else makes that one first is let go before."""
    bucket, _, folder = lake.uri.removeprefix("s3://").partition("/")
    s3, body = boto3.client("s3"), json.dumps({"protocol": wanted}).encode()
    while True:
        key = f"{folder}/_delta_log/{lake.table().version() + 1:020}.json"
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "PreconditionFailed":
                raise
        else:
            return


@contextmanager
def backup_of_events_has_no_bucket(stack: Stack) -> Iterator[None]:
    with firehose_without_a_bucket(load(Settings, stack.env()).events_stream):
        yield


@contextmanager
def backup_of_web_events_has_no_bucket(stack: Stack) -> Iterator[None]:
    with firehose_without_a_bucket(load(Settings, stack.env()).web_stream):
        yield


@contextmanager
def firehose_without_a_bucket(stream: str) -> Iterator[None]:
    """Its objects are refused, and it keeps its place in the stream; what is in the bucket can be read as before."""
    name, firehose = delivery_stream(stream), boto3.client("firehose")

    def deliver_to(bucket_arn: str) -> str:
        """Returns where it delivered to before."""
        now = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
        firehose.update_destination(
            DeliveryStreamName=name,
            CurrentDeliveryStreamVersionId=now["VersionId"],
            DestinationId=now["Destinations"][0]["DestinationId"],
            ExtendedS3DestinationUpdate={"BucketARN": bucket_arn},
        )
        return now["Destinations"][0]["ExtendedS3DestinationDescription"]["BucketARN"]

    before = deliver_to(NO_BUCKET)
    try:
        yield
    finally:
        deliver_to(before)


@contextmanager
def etl_is_away(stack: Stack) -> Iterator[None]:
    stack.hold("etl")
    try:
        yield
    finally:
        stack.release("etl")
        stack.wait_ready("etl", 180.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "exits", "hops"),
    [
        (redis_takes_no_writes, {"redis"}, {"redis"}),
        (rds_takes_no_writes, {"rds"}, {"rds"}),
        (lake_takes_no_writes, {"lake"}, {"lake"}),
        (backup_of_events_has_no_bucket, {"backup"}, {"backup"}),
        (backup_of_web_events_has_no_bucket, {"web-backup"}, {"web-backup"}),
        (etl_is_away, {"lake", "rds", "redis"}, {"redactor", "etl"}),
    ],
)
def test_total_loss_at_an_exit_is_reported_within_30_seconds_of_that_exit_alone_and_the_hop_is_named(
    canary: Stack, fault: Callable[[Stack], Any], exits: set[str], hops: set[str]
) -> None:
    began = time.time()
    with fault(canary):
        missing = {(exit, door): "late" for exit, door in LANES if exit in exits}

        def reported() -> bool:
            now = verdicts(canary)
            unwell = {lane: verdict for lane, verdict in now.items() if verdict not in WELL}
            return (LANES, missing, [hops]) == (now.keys(), unwell, blamed(canary))

        took = seconds_until(reported, TOTAL_LOSS_SECONDS_MAX, lambda: told(canary))
        print(f"{sorted(exits)}: reported after {took:.1f} s: {said(canary).get('sentence')}")
    healed = seconds_until(lambda: well(canary), WELL_SECONDS_MAX, lambda: told(canary))
    print(f"{sorted(exits)}: well again {healed:.1f} s after the heal")
    assert set() == convictions(canary, began)


@pytest.mark.slow
def test_an_exit_that_is_down_is_unknown_within_30_seconds_and_nothing_is_called_lost(canary: Stack) -> None:
    began = time.time()
    canary.hold("redis")
    try:

        def reported() -> bool:
            rows = [row for row in said(canary).get("rows", ()) if row["exit"] == "redis"]
            return bool(rows) and all(row["blind"] and row["verdict"] == "unknown" for row in rows)

        took = seconds_until(reported, TOTAL_LOSS_SECONDS_MAX, lambda: told(canary))
        print(f"Redis down: unknown after {took:.1f} s: {said(canary).get('sentence')}")
    finally:
        canary.release("redis")
        canary.wait_ready("redis", 60.0)
    wait_until(lambda: well(canary), lambda: told(canary), WELL_SECONDS_MAX)
    assert set() == convictions(canary, began)


@contextmanager
def zombie_on_a_shard(stack: Stack) -> Iterator[str]:
    """Holds the redactor's lease of one shard of `events`, and reads nothing."""
    leases = DynamoLeases(boto3.client("dynamodb"), "redactor", load(Settings, stack.env()).events_stream)
    seen = next(lease for lease in asyncio.run(leases.all()) if not lease.ended)
    held = None
    while held is None:
        seen = next(lease for lease in asyncio.run(leases.all()) if lease.shard_id == seen.shard_id)
        held = asyncio.run(leases.take(seen, "zombie"))
    ended = threading.Event()

    def live_on() -> None:
        while not ended.wait(1.0):
            asyncio.run(leases.renew(held))

    thread = threading.Thread(target=live_on, daemon=True)
    thread.start()
    try:
        yield seen.shard_id
    finally:
        ended.set()
        thread.join(10)


@pytest.mark.slow
def test_a_single_stuck_shard_is_reported_within_60_seconds_and_named(canary: Stack) -> None:
    with zombie_on_a_shard(canary) as shard:
        want = [{"hop": "redactor", "shard": shard}]

        def reported() -> bool:
            return any(want[0] in blame["suspects"] for blame in said(canary).get("blames", ()))

        took = seconds_until(reported, STUCK_SHARD_SECONDS_MAX, lambda: told(canary))
        sentence = said(canary)["sentence"]
    print(f"{shard} stuck: reported after {took:.1f} s: {sentence}")


@pytest.mark.slow
def test_a_kill_of_the_canary_forgets_nothing_and_raises_no_false_alarm(canary: Stack) -> None:
    began, before = time.time(), said(canary)
    for _ in range(3):
        canary.kill("canary", signal.SIGKILL)
        canary.wait_ready("canary", 60.0)
        time.sleep(8.0)  # the machine's clock is what passes here: probes are to be under way at the next kill
    wait_until(lambda: well(canary), lambda: told(canary), WELL_SECONDS_MAX)
    after = said(canary)
    assert (before["source"], set()) == (after["source"], convictions(canary, began))


@pytest.mark.slow
def test_s3_away_for_two_minutes_is_unknown_and_raises_no_false_loss(canary: Stack) -> None:
    began = time.time()
    canary.hold("ministack")
    try:

        def blind() -> bool:
            rows = {row["exit"]: row for row in said(canary).get("rows", ())}
            return all(rows[exit]["blind"] and rows[exit]["verdict"] == "unknown" for exit in ("lake", "backup", "web-backup"))

        took = seconds_until(blind, 60.0, lambda: told(canary))
        wait_until(lambda: time.time() >= began + AWAY_SECONDS, "two minutes have passed", AWAY_SECONDS + 5.0)
        assert blind()
    finally:
        canary.release("ministack")
        canary.wait_ready("ministack", 60.0)
    caught_up = seconds_until(lambda: well(canary), 240.0, lambda: told(canary))
    assert set() == convictions(canary, began), told(canary)
    print(f"S3 away: unknown after {took:.1f} s; well again {caught_up:.1f} s after it came back")
