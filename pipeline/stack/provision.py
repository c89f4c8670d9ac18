"""`python -m pipeline.stack.provision`: make what the pipeline needs in AWS, and leave what is there.

The same function against the local stand-ins and against AWS; `AWS_ENDPOINT_URL` decides. Each step looks first and makes what is
missing, so it may run at every start, and after a stand-in lost what it had. What exists is not changed in ways that lose data:
shards are not merged, retention is only ever raised.

    KMS keys + aliases ─► bucket (versions, encryption, no public access, lifecycle) ─► streams (retention, encryption)
                    ─► lease table ─► Firehose of web-events and events to backup/<stream>/
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.config import Settings, load
from pipeline.errors import DeadlineExceeded
from telemetry.hops import STREAM_RETENTION_HOURS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import StreamDescriptionSummaryTypeDef
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

ACTIVE_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProvisionSettings:
    """What is made in AWS; `SPILLWAY_PROVISION_...`."""

    SECTION: ClassVar[str] = "provision"

    shards: int = 2
    # TRAPS: Firehose gives up at the stream's retention, so it is long.
    retention_hours: int = STREAM_RETENTION_HOURS
    lease_table: str = "spillway-leases"
    # Encrypts the raw streams and the bucket.
    kms_alias: str = "alias/spillway"
    # Encrypts the tenants' pseudonym keys; the redactor's setting `kms_key` names it. Of its own, to be disabled on its own.
    pseudonym_alias: str = "alias/spillway-pseudonym"
    # Firehose writes an object when either is reached. Source: AWS, Firehose, BufferingHints: 1-128 MB, 0-900 s.
    firehose_buffer_mib: int = 5
    firehose_buffer_seconds: int = 60
    # The role that Firehose reads the streams and writes the bucket with. The local stand-in takes any.
    firehose_role_arn: str = "arn:aws:iam::000000000000:role/spillway-firehose"
    # Whole events, before redaction: kept for disasters, and no longer.
    backup_days: int = 30
    # Older versions of objects, which is how long a deletion takes to be final.
    noncurrent_days: int = 7


@dataclass(frozen=True, slots=True)
class Clients:
    kinesis: "KinesisClient"
    firehose: "FirehoseClient"
    s3: "S3Client"
    dynamodb: "DynamoDBClient"
    kms: "KMSClient"

    @classmethod
    def from_environment(cls, region: str) -> "Clients":
        config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5})
        session = boto3.session.Session(region_name=region)
        return cls(
            kinesis=session.client("kinesis", config=config),
            firehose=session.client("firehose", config=config),
            s3=session.client("s3", config=config),
            dynamodb=session.client("dynamodb", config=config),
            kms=session.client("kms", config=config),
        )


def delivery_stream(stream: str) -> str:
    return f"{stream}-backup"


def provision(clients: Clients, settings: Settings, wanted: ProvisionSettings) -> list[str]:
    """Make what is missing; what was made, in words. Idempotent.

    Raises:
        DeadlineExceeded: a stream or table did not become active within `ACTIVE_SECONDS_MAX`.
        botocore.exceptions.ClientError: AWS said no; nothing made so far is taken back.
    """
    made: list[str] = []
    key_arn = _key(clients.kms, wanted.kms_alias, "Spillway: raw streams and bucket", made)
    _key(clients.kms, wanted.pseudonym_alias, "Spillway: pseudonym keys of tenants", made)
    _bucket(clients.s3, settings, wanted, key_arn, made)
    raw = (settings.web_stream, settings.events_stream)
    made += _streams(clients.kinesis, (*raw, settings.clean_stream), raw, wanted)
    _lease_table(clients.dynamodb, wanted, made)
    for stream in raw:
        _backup(clients, stream, settings, wanted, key_arn, made)
    for stream in raw:
        _backup_active(clients.firehose, delivery_stream(stream))
    return made


def _is(error: ClientError, *codes: str) -> bool:
    return error.response.get("Error", {}).get("Code") in codes


def _until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ACTIVE_SECONDS_MAX
    while not ready():
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{what} after {ACTIVE_SECONDS_MAX:.0f} s")
        time.sleep(POLL_SECONDS)


def _key(kms: "KMSClient", alias: str, description: str, made: list[str]) -> str:
    try:
        return kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]
    except ClientError as exc:
        if not _is(exc, "NotFoundException"):
            raise
    key = kms.create_key(Description=description)["KeyMetadata"]
    kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    made.append(f"KMS key {alias}")
    return key["Arn"]


def _bucket(s3: "S3Client", settings: Settings, wanted: ProvisionSettings, key_arn: str, made: list[str]) -> None:
    try:
        s3.head_bucket(Bucket=settings.bucket)
    except ClientError as exc:
        if not _is(exc, "404", "NoSuchBucket", "NotFound"):
            raise
        # Source: S3 CreateBucket: us-east-1 is the one region that must not be named.
        place: Any = (
            {} if settings.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
        )
        s3.create_bucket(Bucket=settings.bucket, **place)
        made.append(f"bucket {settings.bucket}")
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_public_access_block(
        Bucket=settings.bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_encryption(
        Bucket=settings.bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [
                {
                    "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_arn},
                    "BucketKeyEnabled": True,
                }
            ]
        },
    )
    s3.put_bucket_lifecycle_configuration(
        Bucket=settings.bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "backup-is-short-lived",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "backup/"},
                    "Expiration": {"Days": wanted.backup_days},
                },
                {
                    "ID": "deletions-become-final",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": wanted.noncurrent_days},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                },
            ]
        },
    )


def _streams(kinesis: "KinesisClient", streams: tuple[str, ...], raw: tuple[str, ...], wanted: ProvisionSettings) -> list[str]:
    """Each change makes a stream busy for a while, so each step is begun on all streams before any is waited for."""
    made: list[str] = []
    for stream in streams:
        try:
            kinesis.create_stream(StreamName=stream, ShardCount=wanted.shards, StreamModeDetails={"StreamMode": "PROVISIONED"})
            made.append(f"stream {stream} of {wanted.shards} shards")
        except ClientError as exc:
            if not _is(exc, "ResourceInUseException"):
                raise
    for summary in _active(kinesis, streams):
        if summary["RetentionPeriodHours"] < wanted.retention_hours:
            name = summary["StreamName"]
            kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=wanted.retention_hours)
    for summary in _active(kinesis, raw):
        if summary.get("EncryptionType", "NONE") == "NONE":
            kinesis.start_stream_encryption(StreamName=summary["StreamName"], EncryptionType="KMS", KeyId=wanted.kms_alias)
            made.append(f"encryption of {summary['StreamName']}")
    _active(kinesis, streams)
    return made


def _active(kinesis: "KinesisClient", streams: tuple[str, ...]) -> list["StreamDescriptionSummaryTypeDef"]:
    """Wait until nothing is being changed about these streams; what they are then."""

    def summary(stream: str) -> "StreamDescriptionSummaryTypeDef":
        return kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]

    for stream in streams:
        _until(lambda stream=stream: summary(stream)["StreamStatus"] == "ACTIVE", f"stream {stream} is not active")  # type: ignore[misc]
    return [summary(stream) for stream in streams]


def _lease_table(dynamodb: "DynamoDBClient", wanted: ProvisionSettings, made: list[str]) -> None:
    try:
        dynamodb.create_table(
            TableName=wanted.lease_table,
            KeySchema=[{"AttributeName": "lease_key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "lease_key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        made.append(f"lease table {wanted.lease_table}")
    except ClientError as exc:
        if not _is(exc, "ResourceInUseException"):
            raise
    _until(
        lambda: dynamodb.describe_table(TableName=wanted.lease_table)["Table"].get("TableStatus") == "ACTIVE",
        f"table {wanted.lease_table} is not active",
    )


def _backup(clients: Clients, stream: str, settings: Settings, wanted: ProvisionSettings, key_arn: str, made: list[str]) -> None:
    name = delivery_stream(stream)
    source = clients.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    date = "!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:dd}/"
    try:
        clients.firehose.create_delivery_stream(
            DeliveryStreamName=name,
            DeliveryStreamType="KinesisStreamAsSource",
            KinesisStreamSourceConfiguration={"KinesisStreamARN": source, "RoleARN": wanted.firehose_role_arn},
            ExtendedS3DestinationConfiguration={
                "RoleARN": wanted.firehose_role_arn,
                "BucketARN": f"arn:aws:s3:::{settings.bucket}",
                "Prefix": f"backup/{stream}/{date}!{{timestamp:HH}}/",
                "ErrorOutputPrefix": f"backup-failed/{stream}/!{{firehose:error-output-type}}/{date}",
                "BufferingHints": {
                    "SizeInMBs": wanted.firehose_buffer_mib,
                    "IntervalInSeconds": wanted.firehose_buffer_seconds,
                },
                "CompressionFormat": "GZIP",
                "EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": key_arn}},
            },
        )
        made.append(f"backup of {stream} by Firehose {name}")
    except ClientError as exc:
        if not _is(exc, "ResourceInUseException"):
            raise


def _backup_active(firehose: "FirehoseClient", name: str) -> None:
    def active() -> bool:
        description = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
        return description["DeliveryStreamStatus"] == "ACTIVE"

    _until(active, f"Firehose {name} is not active")


def main() -> int:
    settings = load(Settings)
    made = provision(Clients.from_environment(settings.region), settings, load(ProvisionSettings))
    print("made: " + ", ".join(made) if made else "everything was there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
