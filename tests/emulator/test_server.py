"""The served model as a process: it dies without losing what it acknowledged, and delivers to a real HTTP S3."""

from __future__ import annotations

import gzip
import http.server
import json
import resource
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from pipeline.emulator.__main__ import EXIT_LOG_FAILED
from pipeline.emulator.process import Served

pytestmark = pytest.mark.stack
WAIT_SECONDS_MAX = 20.0
ONLY = "shardId-000000000000"


def eventually(found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as it is true, within the deadline."""
    deadline_s = time.monotonic() + WAIT_SECONDS_MAX
    while not (value := found()):
        assert time.monotonic() < deadline_s, "the deadline has passed"
        time.sleep(0.05)
    return value


def client(server: Served, service: str = "kinesis") -> Any:
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def http_call(server: Served, method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


class Bucket:
    """An S3 that takes PUTs: `failing` makes it refuse them, a cleared `open` makes it hold them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = False
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def take(self, path: str, body: bytes) -> int:
        self.asked += 1
        self.open.wait(WAIT_SECONDS_MAX)
        if self.failing:
            return 503
        self.objects[path] = body
        return 200


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.send_response(made.take(self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    yield made
    made.open.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def served(tmp_path: Path, bucket: Bucket) -> Iterator[Served]:
    server = Served(tmp_path, "--limits", "off", "--settle-ms", "0")
    server.start()
    yield server
    server.kill()


def put_until_dead(kinesis: Any, acknowledged: list[str], name: str) -> None:
    """Put batches, noting what was acknowledged, until the connection breaks."""
    number = 0
    while True:
        records = [{"Data": b"%s-%d" % (name.encode(), number + at), "PartitionKey": "k"} for at in range(20)]
        try:
            answer = kinesis.put_records(StreamName="s", Records=records)
        except Exception:  # noqa: BLE001 - any break of the connection ends the writing
            return
        assert answer["FailedRecordCount"] == 0
        acknowledged += [record["Data"].decode() for record in records]
        number += 20


def read_all(kinesis: Any) -> list[str]:
    iterator = kinesis.get_shard_iterator(StreamName="s", ShardId=ONLY, ShardIteratorType="TRIM_HORIZON")
    cursor, found = iterator["ShardIterator"], []
    while True:
        answer = kinesis.get_records(ShardIterator=cursor)
        found += [record["Data"].decode() for record in answer["Records"]]
        if answer["MillisBehindLatest"] == 0:
            return found
        cursor = answer["NextShardIterator"]


def test_sigkill_loses_nothing_acknowledged(served: Served) -> None:
    client(served).create_stream(StreamName="s", ShardCount=1)
    acknowledged: list[str] = []
    for round_ in ("one", "two"):
        sure: list[str] = []
        writer = threading.Thread(target=put_until_dead, args=(client(served), sure, round_))
        writer.start()
        eventually(lambda sure=sure: len(sure) >= 400)
        served.kill()
        writer.join(WAIT_SECONDS_MAX)
        acknowledged += sure
        served.start()
        found = read_all(client(served))
        assert len(set(found)) == len(found)
        assert [text for text in found if text in set(acknowledged)] == acknowledged


def test_a_disk_that_is_full_ends_the_server_and_acknowledges_nothing_more(served: Served) -> None:
    kinesis = client(served)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    resource.prlimit(served.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    acknowledged: list[str] = []
    put_until_dead(kinesis, acknowledged, "full")
    assert served.wait() == EXIT_LOG_FAILED
    served.start()
    found = read_all(client(served))
    assert len(acknowledged) > 0
    assert found[: len(acknowledged)] == acknowledged


def back_up(served: Served) -> Any:
    """A stream `s` of one shard and a Firehose `d` that backs it up every second; the Kinesis client."""
    kinesis, firehose = client(served), client(served, "firehose")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    role = "arn:aws:iam::000000000000:role/firehose"
    firehose.create_delivery_stream(
        DeliveryStreamName="d",
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": arn, "RoleARN": role},
        ExtendedS3DestinationConfiguration={
            "RoleARN": role,
            "BucketARN": "arn:aws:s3:::spillway",
            "Prefix": "backup/s/",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1},
            "CompressionFormat": "GZIP",
        },
    )
    return kinesis


def test_firehose_delivers_to_s3_and_metrics_tell(served: Served, bucket: Bucket) -> None:
    kinesis = back_up(served)
    bucket.failing = True
    kinesis.put_records(StreamName="s", Records=[{"Data": b"%d;" % at, "PartitionKey": "k"} for at in range(100)])

    def metrics() -> Any:
        return http_call(served, "GET", "/_model/metrics")["firehose"]["d"]

    assert "503" in eventually(lambda: metrics()["last_error"])
    assert metrics()["DeliveryToS3.Records"] == 0
    served.kill()
    served.start()
    bucket.failing = False
    eventually(lambda: metrics()["DeliveryToS3.Records"] == 100)
    (path,) = bucket.objects
    assert path.startswith("/spillway/backup/s/20")
    assert gzip.decompress(bucket.objects[path]) == b"".join(b"%d;" % at for at in range(100))
    assert metrics()["DeliveryToS3.DataFreshness"] == 0


def test_a_slow_s3_holds_nobody_up_and_a_deletion_during_a_put_harms_nobody(served: Served, bucket: Bucket) -> None:
    kinesis = back_up(served)
    bucket.open.clear()
    kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    eventually(lambda: bucket.asked == 1)
    began_s = time.monotonic()
    kinesis.put_record(StreamName="s", Data=b"y", PartitionKey="k")
    assert time.monotonic() - began_s < 1
    client(served, "firehose").delete_delivery_stream(DeliveryStreamName="d")
    bucket.open.set()
    eventually(lambda: len(bucket.objects) == 1)
    assert http_call(served, "GET", "/_model/metrics")["firehose"] == {}
    assert read_all(kinesis) == ["x", "y"]
    assert served.stop() == 0


def test_a_subscription_is_pushed_what_comes_later(served: Served) -> None:
    kinesis, writer = client(served), client(served)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    start = {"Type": "LATEST"}
    stream = kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=ONLY, StartingPosition=start)["EventStream"]
    for at in range(3):
        writer.put_record(StreamName="s", Data=b"%d" % at, PartitionKey="k")
    found: list[bytes] = []
    began_s = time.monotonic()
    for event in stream:
        found += [record["Data"] for record in event["SubscribeToShardEvent"]["Records"]]
        if len(found) == 3:
            break
    stream.close()
    assert found == [b"0", b"1", b"2"]
    assert time.monotonic() - began_s < 4, "pushed, not found at the next heartbeat"


def test_a_silent_subscription_is_open_and_says_nothing(served: Served) -> None:
    """TRAPS 15: a half-open stream shows only as silence."""
    kinesis = client(served)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    arn = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    http_call(served, "POST", "/_model/faults", {"kind": "silence", "stream": "s", "seconds": 1})
    began_s = time.monotonic()
    start = {"Type": "TRIM_HORIZON"}
    stream = kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=ONLY, StartingPosition=start)["EventStream"]
    assert time.monotonic() - began_s < 0.9
    event = next(iter(stream))
    stream.close()
    assert [record["Data"] for record in event["SubscribeToShardEvent"]["Records"]] == [b"x"]
    assert time.monotonic() - began_s > 0.9


def test_faults_are_leased_and_healed_over_http(served: Served) -> None:
    kinesis = client(served)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    http_call(served, "POST", "/_model/faults", {"kind": "error", "operation": "PutRecord", "seconds": 30})
    with pytest.raises(ClientError, match="InternalFailure"):
        kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    http_call(served, "POST", "/_model/faults", {"kind": "reply_lost", "operation": "GetRecords"})
    assert len(http_call(served, "GET", "/_model/faults")) == 2
    iterator = kinesis.get_shard_iterator(StreamName="s", ShardId=ONLY, ShardIteratorType="LATEST")["ShardIterator"]
    with pytest.raises(ConnectionClosedError):
        kinesis.get_records(ShardIterator=iterator)
    assert http_call(served, "DELETE", "/_model/faults") == []
    kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    http_call(served, "POST", "/_model/faults", {"kind": "latency", "latency_ms": 300, "seconds": 0.6})
    began_s = time.monotonic()
    kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    assert time.monotonic() - began_s >= 0.3
    assert eventually(lambda: http_call(served, "GET", "/_model/faults") == [])


def test_an_unsigned_or_unreadable_call_is_refused_in_aws_shape(served: Served) -> None:
    target = {"X-Amz-Target": "Kinesis_20131202.ListStreams"}
    for headers, body, expected in (
        (target, {}, "MissingAuthenticationTokenException"),
        ({**target, "Authorization": "x"}, [], "SerializationException"),
        ({"X-Amz-Target": "Kinesis_20131202.Nothing", "Authorization": "x"}, {}, "UnknownOperationException"),
        ({**target, "Authorization": "x", "Content-Type": "application/x-amz-cbor-1.1"}, {}, "SerializationException"),
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            http_call(served, "POST", "/", body, **headers)
        assert (error.value.code, json.loads(error.value.read())["__type"]) == (400, expected)


def test_sigterm_is_a_clean_end(served: Served) -> None:
    assert served.stop() == 0
