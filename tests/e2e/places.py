"""Every place where personal data must not be, as bytes: exits, the clean stream, logs, names of objects, metrics."""

import urllib.request
from collections.abc import Iterator

import boto3
import psycopg
import redis
from botocore.config import Config
from psycopg import sql

from pipeline import frame
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from tests.e2e.conftest import Pipeline
from tests.e2e.evidence import Evidence

Place = tuple[str, bytes]
THROTTLED_READS_MAX = 12
READS_MAX = 1_000


def places(pipeline: Pipeline, evidence: Evidence) -> dict[str, bytes]:
    """By name; every part is read anew."""
    tenant = pipeline.tenant
    found: dict[str, list[bytes]] = {}
    for name, content in (
        *_lake(evidence),
        *_rds(pipeline),
        *_redis(pipeline),
        ("events-clean", stream("events-clean", tenant)),
        *_logs(pipeline),
        *_objects(evidence.settings.bucket),
        *_metrics(pipeline),
    ):
        found.setdefault(name, []).append(content)
    return {name: b"\n".join(parts) for name, parts in found.items()}


def _lake(evidence: Evidence) -> Iterator[Place]:
    for row in evidence.lake_rows():
        yield "lake", repr(row).encode()
    bucket = evidence.settings.bucket
    for key in _keys(bucket, "lake/events/_delta_log/"):
        if key.endswith(".json"):
            yield "lake log", boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()


def _rds(pipeline: Pipeline) -> Iterator[Place]:
    """All columns of all tables and views of ours as text."""
    with psycopg.connect(pipeline.env["SPILLWAY_RDS_URL"], connect_timeout=5) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT to_jsonb(row)::text FROM {} AS row").format(sql.Identifier(table))
            yield f"rds {table}", b"\n".join(row[0].encode() for row in connection.execute(query))


def _redis(pipeline: Pipeline) -> Iterator[Place]:
    client = redis.Redis.from_url(pipeline.env["SPILLWAY_REDIS_URL"], socket_timeout=10)
    try:
        for key in client.scan_iter(count=1_000):
            assert client.type(key) == b"hash", key
            yield "redis", key + b" " + repr(client.hgetall(key)).encode()
    finally:
        client.close()


def stream(name: str, tenant: str) -> bytes:
    """Every event of the tenant that is in the stream, as it is encoded."""
    # A shard gives five reads a second to all its readers together, and the ETL takes its share: being throttled is normal.
    kinesis = boto3.client("kinesis", config=Config(retries={"mode": "standard", "total_max_attempts": THROTTLED_READS_MAX}))
    found: list[bytes] = []
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        start = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        iterator: str | None = start["ShardIterator"]
        for _ in range(READS_MAX):
            if iterator is None:
                break
            answer = kinesis.get_records(
                StreamARN=kinesis.describe_stream(StreamName=name)["StreamDescription"]["StreamARN"], ShardIterator=iterator
            )
            for record in answer["Records"]:
                batch = StoredBatch.FromString(frame.decode(record["Data"]))
                if batch.tenant == tenant:
                    found.append(batch.SerializeToString())
            iterator = answer.get("NextShardIterator")
            if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                break
        else:
            raise AssertionError(f"{name}: not at its end after {READS_MAX} reads")
    return b"\n".join(found)


def _logs(pipeline: Pipeline) -> Iterator[Place]:
    for path in sorted((pipeline.stack.folder.path / "logs").rglob("*")):
        if path.is_file():
            yield f"log {path.name.split('.')[0]}", path.read_bytes()


def _keys(bucket: str, prefix: str = "") -> Iterator[str]:
    for page in boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", []))


def _objects(bucket: str) -> Iterator[Place]:
    """Names of all objects, and what the dead letters' say beside their bodies."""
    s3 = boto3.client("s3")
    for key in _keys(bucket):
        yield "object names", key.encode()
        if key.startswith("dead-letters/"):
            head = s3.head_object(Bucket=bucket, Key=key)
            yield "dead letters' metadata", repr((head["Metadata"], head.get("ContentType"))).encode()


def _metrics(pipeline: Pipeline) -> Iterator[Place]:
    for name, address in pipeline.stack.endpoints.items():
        if name.startswith("health:"):
            with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
                yield f"metrics {name.removeprefix('health:')}", answer.read()
