"""What each cause fires on by its deadline, and what looks like it and is not.

A story names all other causes as quiet. Played are those that read a series that it changes: what reads none of them sees the
healthy pipeline, and there nothing fires.
"""

from dataclasses import replace

from alerts.causes import CAUSES
from telemetry import metrics as m
from tests.alerts.healthy import CALM
from tests.alerts.story import (
    BY_NAME,
    GONE,
    UP,
    Change,
    Climb,
    Clock,
    Fires,
    Frozen,
    Jump,
    Rate,
    Series,
    Story,
    Then,
    Value,
    deadline_of,
    killed,
    restarted,
)

ALL = tuple(alert.name for alert in CAUSES)
DOORS = ("grpc-1", "grpc-2", "http-1", "http-2")
HOT, COLD = "shardId-000000000000", "shardId-000000000001"


def others(*names: str) -> tuple[str, ...]:
    """All causes but these."""
    return tuple(name for name in ALL if name not in names)


def crashes(worker: str, *ups: int) -> tuple[Change, ...]:
    """A worker that is up again at once, so often: its supervisor counts, its start moves, and `up` never falls."""
    counted = [(seconds, Value(number)) for number, seconds in enumerate(ups)] + [(0, Value(len(ups)))]
    started = [(seconds, Value(-5000.0 + number)) for number, seconds in enumerate(ups)] + [(0, Value(-5000.0 + len(ups)))]
    return Change(m.PROCESS_CRASHES, {"worker": worker}, Then(*counted)), Change(
        m.PROCESS_START, {"worker": worker}, Then(*started)
    )


def idle(share: float) -> tuple[Series, ...]:
    """The same pipeline with less traffic: every counter of it grows by so much of what it did."""
    return tuple(
        replace(each, behaviour=Rate(each.behaviour.per_second * share))
        if isinstance(each.behaviour, Rate) and each.metric != m.PROCESS_CPU_SECONDS.name
        else each
        for each in CALM
    )


def redeployed(*workers: str) -> tuple[Change, ...]:
    """A clean restart: away for a scrape, another start, no crash."""
    return tuple(
        change
        for worker in workers
        for change in (
            *restarted(worker, 5, CALM),
            Change(m.CONSUMER_PROGRESS, {"worker": worker}, Then((20, GONE), (0, Clock(1)))),
            Change(m.ETL_LAST_BATCH, {"worker": worker}, Then((30, GONE), (0, Clock(2)))),
        )
    )


LOOK_ALIKES = (
    Story("nothing happens, with the canary's own broken events and refused keys", (), quiet=ALL, fault_seconds=200),
    Story("an idle night, with hardly more than the canary", (), quiet=ALL, fault_seconds=120, calm=idle(0.02)),
    Story("ten times the traffic", (), quiet=ALL, fault_seconds=120, calm=idle(10.0)),
    Story(
        "a rolling deployment of everything, one after the other",
        redeployed(*DOORS, "transcoder", "redactor", "etl", "auditor", "canary", "ledger"),
        quiet=ALL,
    ),
    Story(
        "one record of a quiet night fails once",
        (
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "failed", "worker": "grpc-1"}, Jump(1)),
            Change(m.KINESIS_WRITE_ENTRY_FAILURES, {"stream": "events", "worker": "grpc-1"}, Jump(1)),
        ),
        quiet=ALL,
        calm=idle(0.02),
    ),
    Story(
        "two leases move to a new worker",
        (Change(m.CONSUMER_FAILURES, {"part": "redactor", "kind": "lost"}, Jump(2)),),
        quiet=ALL,
    ),
    Story(
        "a shard is split: the parent ends, its readers go with it",
        (
            Change(m.KINESIS_SHARD_RECORDS, {"stream": "events", "shard": HOT}, Frozen()),
            Change(m.KINESIS_WRITE_BYTES, {"stream": "events", "shard": HOT}, Frozen()),
            Change(m.CONSUMER_PROGRESS, {"part": "redactor", "shard": HOT}, Then((5, Clock(1)), (0, GONE))),
            Change(m.CONSUMER_BEHIND_SECONDS, {"part": "redactor", "shard": HOT}, Then((5, Value(0)), (0, GONE))),
        ),
        quiet=ALL,
    ),
    Story(
        "300 ms more on the way to the doors",
        (
            Change(m.DOOR_IN_FLIGHT_BYTES, {}, Value(900_000)),
            Change(m.DOOR_QUEUE_AGE_SECONDS, {}, Value(0.4)),
            Change(m.DOOR_REQUEST_SECONDS, {"le": "0.25"}, Rate(0), "_bucket"),
        ),
        quiet=ALL,
    ),
    Story(
        "the trace store restarts within a scrape, and what came meanwhile is lost",
        (
            *redeployed("store"),
            Change(m.TELEMETRY_ITEMS, {"outcome": "failed"}, Jump(40)),
        ),
        quiet=ALL,
    ),
    Story("an event comes after hours of nothing, and is in the backup soon", (
        Change(m.KINESIS_SHARD_RECORDS, {"stream": "web-events"}, Jump(1)),
        Change(m.BACKUP_NEWEST, {"stream": "web-events"}, Then((10, Frozen()), (10, Clock(3)), (0, Frozen()))),
    ), quiet=ALL, calm=tuple(
        replace(each, behaviour=Rate(0)) if each.metric == m.KINESIS_SHARD_RECORDS.name
        else replace(each, behaviour=Value(-9000)) if each.metric == m.BACKUP_NEWEST.name else each
        for each in CALM
    )),
    Story(
        "a batch of the ETL takes forty seconds",
        (Change(m.ETL_LAST_BATCH, {"exit": "lake"}, Then((40, Frozen()), (0, Clock(2)))),),
        quiet=ALL,
    ),
)  # fmt: skip

COLLECTORS = (
    Story(
        "one of two collectors is killed and stays away",
        killed("grpc-1"),
        (Fires("CollectorDown", {"worker": "grpc-1", "hop": "grpc-door"}),),
        others("CollectorDown"),
    ),
    Story(
        "one of two collectors is killed and is back before anybody looks",
        crashes("grpc-1", 5),
        (Fires("CollectorDown", {"worker": "grpc-1", "hop": "grpc-door"}),),
        others("CollectorDown"),
    ),
    Story(
        "all collectors are killed",
        tuple(change for worker in DOORS for change in killed(worker)),
        (Fires("CollectorDown", {"hop": "grpc-door"}), Fires("CollectorDown", {"hop": "http-door"})),
        others("CollectorDown"),
    ),
    Story(
        "Prometheus has no target of the HTTP door",
        tuple(Change("", {"worker": worker}, GONE) for worker in ("http-1", "http-2")),
        (Fires("CollectorDown", {"process": "http", "hop": "http-door"}),),
        others("CollectorDown"),
    ),
    Story(
        "a door has too many bytes in flight",
        (Change(m.DOOR_IN_FLIGHT_BYTES, {"worker": "grpc-1"}, Value(60e6)),),
        (Fires("CollectorSaturated", {"door": "grpc", "hop": "grpc-door", "worker": "grpc-1"}),),
        others("CollectorSaturated"),
    ),
    Story(
        "three times of what a door can do: it refuses",
        (Change(m.DOOR_REJECTIONS, {"reason": "overloaded", "door": "http"}, Rate(50)),),
        (Fires("CollectorSaturated", {"door": "http", "hop": "http-door"}),),
        others("CollectorSaturated"),
    ),
    Story(
        "a door uses the one core that it can",
        (Change(m.PROCESS_CPU_SECONDS, {"worker": "grpc-2"}, Rate(0.99)),),
        (Fires("CollectorSaturated", {"door": "grpc", "hop": "grpc-door", "worker": "grpc-2"}),),
        others("CollectorSaturated"),
    ),
    Story(
        "a fifth of the events at a door break their schema",
        (Change(m.DOOR_REJECTIONS, {"reason": "rule", "door": "grpc"}, Rate(5)),),
        (Fires("SchemaRejects", {"door": "grpc", "hop": "grpc-door"}),),
        others("SchemaRejects"),
    ),
    Story(
        "a slow sender and three requests that are too large",
        (
            Change(m.DOOR_REJECTIONS, {"reason": "request_too_large", "worker": "http-1"}, Jump(3)),
            Change(m.DOOR_REJECTIONS, {"reason": "body_timeout", "worker": "http-2"}, Jump(1)),
        ),
        (Fires("SchemaRejects", {"door": "http", "hop": "http-door"}),),
        others("SchemaRejects"),
    ),
    Story(
        "a schema that the transcoder does not know: a reason that was never counted before",
        (Change(m.DEAD_LETTERS, {"stage": "transcoder", "reason": "bad_json", "worker": "transcoder"}, Value(25)),),
        (Fires("SchemaRejects", {"hop": "transcoder"}), Fires("DeadLettersGrowing", {"hop": "transcoder"})),
        others("SchemaRejects", "DeadLettersGrowing"),
    ),
    Story(
        "a producer's key is revoked and it goes on sending",
        (Change(m.DOOR_REJECTIONS, {"reason": "unauthenticated", "worker": "grpc-1"}, Rate(4)),),
        (Fires("AccessDenied", {"door": "grpc", "hop": "grpc-door"}),),
        others("AccessDenied"),
    ),
    Story(
        "the bucket's policy denies a door its ledger",
        (Change(m.AWS_FAILURES, {"process": "http", "service": "s3", "kind": "denied"}, Rate(0.1)),),
        (Fires("AccessDenied", {"process": "http", "service": "s3", "hop": "http-door"}),),
        others("AccessDenied"),
    ),
    Story(
        "a clock is five minutes fast",
        (Change(m.AWS_CLOCK_SKEW_SECONDS, {"worker": "grpc-1"}, Value(299.6)),),
        (Fires("ClockSkew", {"worker": "grpc-1", "hop": "grpc-door"}),),
        others("ClockSkew"),
    ),
    Story(
        "a clock is slow, and AWS takes signatures for expired",
        (
            Change(m.AWS_CLOCK_SKEW_SECONDS, {"worker": "redactor"}, Value(-900)),
            Change(m.AWS_FAILURES, {"worker": "redactor", "service": "s3", "kind": "clock"}, Rate(0.2)),
        ),
        (Fires("ClockSkew", {"worker": "redactor", "hop": "redactor"}),),
        others("ClockSkew"),
    ),
)

STREAMS = (
    Story(
        "a quarter of the writes is throttled",
        (
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "throttled"}, Rate(0.8)),
            Change(m.KINESIS_WRITE_ENTRY_FAILURES, {"stream": "events"}, Rate(0.8)),
        ),
        (
            Fires("KinesisWriteThrottled", {"stream": "events", "outcome": "throttled", "hop": "kinesis"}),
            Fires("PartialBatchFailure", {"stream": "events"}),
        ),
        others("KinesisWriteThrottled", "PartialBatchFailure"),
    ),
    Story(
        "Kinesis answers 500 to everything in a quiet night: the doors fill, and are not to blame",
        (
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "written"}, Rate(0)),
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "failed"}, Rate(0.3)),
            Change(m.DOOR_IN_FLIGHT_BYTES, {"door": "grpc"}, Then((60, Climb(2e4, 1e6)), (0, Value(64e6)))),
            Change(m.DOOR_QUEUE_AGE_SECONDS, {"door": "grpc"}, Then((20, Value(0.5)), (0, Value(8)))),
        ),
        (Fires("KinesisWriteThrottled", {"stream": "events", "outcome": "failed", "hop": "kinesis"}),),
        others("KinesisWriteThrottled"),
        calm=idle(0.02),
    ),
    Story(
        "one record of many fails always",
        (
            Change(m.KINESIS_WRITE_ENTRY_FAILURES, {"stream": "events", "worker": "grpc-1"}, Rate(0.1)),
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "failed", "worker": "grpc-1"}, Rate(0.1)),
        ),
        (Fires("PartialBatchFailure", {"stream": "events", "hop": "kinesis"}),),
        others("PartialBatchFailure"),
    ),
    Story(
        "one partition key fills its shard",
        (Change(m.KINESIS_WRITE_BYTES, {"stream": "events", "shard": HOT}, Rate(520_000)),),
        (Fires("HotShard", {"stream": "events", "shard": HOT, "hop": "kinesis"}),),
        others("HotShard"),
    ),
    Story(
        "all shards are full alike: none is hot",
        (Change(m.KINESIS_WRITE_BYTES, {"stream": "events"}, Rate(520_000)),),
        quiet=("HotShard",),
    ),
    Story(
        "a reader gets throttled and falls behind",
        (Change(m.CONSUMER_BEHIND_SECONDS, {"part": "redactor", "shard": HOT}, Climb(0, 1)),),
        (Fires("IteratorAgeHigh", {"part": "redactor", "hop": "redactor"}),),
        others("IteratorAgeHigh"),
    ),
    Story(
        "one shard stops, and says no more",
        (Change(m.CONSUMER_PROGRESS, {"part": "redactor", "shard": HOT}, Frozen()),),
        (
            Fires("ShardStuck", {"part": "redactor", "shard": HOT, "hop": "redactor"}),
            Fires("IteratorAgeHigh", {"part": "redactor"}),
        ),
        others("ShardStuck", "IteratorAgeHigh"),
    ),
    Story(
        "one shard is never taken by anybody",
        (
            Change(m.CONSUMER_PROGRESS, {"part": "transcoder", "shard": COLD}, GONE),
            Change(m.CONSUMER_BEHIND_SECONDS, {"part": "transcoder", "shard": COLD}, GONE),
        ),
        (Fires("ShardStuck", {"part": "transcoder", "shard": COLD, "hop": "transcoder"}),),
        others("ShardStuck"),
    ),
    Story(
        "the lease table is denied: nobody can checkpoint",
        (
            Change(m.AWS_FAILURES, {"process": "redactor", "service": "dynamodb", "kind": "denied"}, Rate(0.7)),
            Change(m.CONSUMER_BEHIND_SECONDS, {"part": "redactor", "shard": "none"}, Climb(0, 1)),
        ),
        (
            Fires("CheckpointFailing", {"part": "redactor", "hop": "redactor"}),
            Fires("AccessDenied", {"process": "redactor", "service": "dynamodb"}),
            Fires("IteratorAgeHigh", {"part": "redactor"}),
        ),
        others("CheckpointFailing", "AccessDenied", "IteratorAgeHigh"),
    ),
    Story(
        "two workers own one lease and take it from each other",
        (Change(m.CONSUMER_FAILURES, {"part": "transcoder", "kind": "lost"}, Rate(0.2)),),
        (Fires("CheckpointFailing", {"part": "transcoder", "hop": "transcoder"}),),
        others("CheckpointFailing"),
    ),
)

WORKERS = (
    Story(
        "a record kills the transcoder three times and is buried",
        (
            *crashes("transcoder", 5, 20, 35),
            Change(m.DEAD_LETTERS, {"stage": "transcoder", "reason": "poison"}, Then((45, Value(0)), (0, Value(1)))),
        ),
        (
            Fires("WorkerCrashLoop", {"worker": "transcoder", "hop": "transcoder"}),
            Fires("DeadLettersGrowing", {"hop": "transcoder"}),
        ),
        others("WorkerCrashLoop", "DeadLettersGrowing"),
    ),
    Story(
        "the redactor dies at once after each start: what it last said goes on",
        killed("redactor"),
        (
            Fires("WorkerCrashLoop", {"worker": "redactor", "hop": "redactor"}),
            Fires("IteratorAgeHigh", {"part": "redactor", "hop": "redactor"}),
            Fires("RedactionErrors", {"hop": "redactor"}),
        ),
        others("WorkerCrashLoop", "IteratorAgeHigh", "RedactionErrors"),
    ),
    Story(
        "the transcoder crashes once: its supervisor has it back",
        crashes("transcoder", 5),
        quiet=ALL,
    ),
    Story(
        "workers restart often where no supervisor tells of crashes",
        (Change(m.PROCESS_START, {"worker": "auditor"}, Then((10, Value(1)), (20, Value(2)), (20, Value(3)), (0, Value(4)))),),
        (Fires("WorkerCrashLoop", {"worker": "auditor", "hop": "backup"}),),
        others("WorkerCrashLoop"),
    ),
    Story(
        "Prometheus has no target of the ETL",
        (Change("", {"worker": "etl"}, GONE),),
        (Fires("WorkerCrashLoop", {"process": "etl"}),),
        others("WorkerCrashLoop", "EtlBatchLate"),
    ),
    Story(
        "the key service is away",
        (Change(m.AWS_FAILURES, {"service": "kms", "kind": "unavailable"}, Rate(0.2)),),
        (Fires("RedactionErrors", {"hop": "redactor"}),),
        others("RedactionErrors"),
    ),
    Story(
        "the key is disabled",
        (Change(m.AWS_FAILURES, {"service": "kms", "kind": "denied"}, Rate(0.2)),),
        (Fires("RedactionErrors", {"hop": "redactor"}), Fires("AccessDenied", {"service": "kms", "hop": "redactor"})),
        others("RedactionErrors", "AccessDenied"),
    ),
    Story(
        "a deployment takes a rule out of the policy",
        (*redeployed("redactor"), Change(m.REDACTION_RULES, {"action": "mask"}, Then((5, GONE), (0, Value(3))))),
        (Fires("RedactionErrors", {"action": "mask", "hop": "redactor"}),),
        others("RedactionErrors"),
    ),
    Story(
        "a deployment adds a rule",
        (*redeployed("redactor"), Change(m.REDACTION_RULES, {"action": "mask"}, Then((5, GONE), (0, Value(5))))),
        quiet=ALL,
    ),
)

EXITS = (
    Story(
        "Firehose can't put objects",
        (Change(m.BACKUP_NEWEST, {"stream": "events"}, Frozen()),),
        (Fires("FirehoseDeliveryFailing", {"stream": "events", "hop": "backup"}),),
        others("FirehoseDeliveryFailing"),
    ),
    Story(
        "nothing is written, so nothing is backed up",
        (
            Change(m.KINESIS_SHARD_RECORDS, {"stream": "web-events"}, Frozen()),
            Change(m.BACKUP_NEWEST, {"stream": "web-events"}, Then((10, Clock(4)), (0, Frozen()))),
        ),
        quiet=ALL,
    ),
    Story(
        "the driver is killed in a batch, and is back at once",
        crashes("etl", 10),
        (Fires("EtlBatchFailed", {"sign": "crashes of the ETL in two minutes"}),),
        others("EtlBatchFailed"),
    ),
    Story(
        "the stream can't be read: all exits fail, and none of them is to blame",
        (Change(m.ETL_FAILURES, {}, Rate(0.05)),),
        tuple(Fires("EtlBatchFailed", {"exit": exit}) for exit in ("lake", "rds", "redis")),
        others("EtlBatchFailed"),
    ),
    Story(
        "a checkpoint is lost: everything is read again",
        (
            Change(m.ETL_ROWS, {"exit": "rds", "outcome": "duplicate"}, Rate(900)),
            Change(m.ETL_ROWS, {"exit": "rds", "outcome": "loaded"}, Rate(5)),
        ),
        (Fires("EtlBatchFailed", {"exit": "rds"}),),
        others("EtlBatchFailed"),
    ),
    Story(
        "the lake's query hangs",
        (Change(m.ETL_LAST_BATCH, {"exit": "lake"}, Frozen()),),
        (Fires("EtlBatchLate", {"exit": "lake", "hop": "lake"}),),
        others("EtlBatchLate"),
    ),
    Story(
        "the ETL is away: what it last said goes on",
        killed("etl"),
        (
            *(Fires("EtlBatchLate", {"exit": exit}) for exit in ("lake", "rds", "redis")),
            Fires("WorkerCrashLoop", {"worker": "etl"}),
        ),
        others("EtlBatchLate", "WorkerCrashLoop"),
    ),
    Story(
        "the lake's files are written and not committed",
        (
            Change(m.LAKE_REFUSALS, {"kind": "not_registered"}, Rate(0.05)),
            Change(m.ETL_FAILURES, {"exit": "lake"}, Rate(0.05)),
        ),
        (Fires("PartitionNotRegistered", {"hop": "lake"}), Fires("EtlBatchFailed", {"exit": "lake"})),
        others("PartitionNotRegistered", "EtlBatchFailed"),
    ),
    Story(
        "small files come faster than they are joined",
        (Change(m.LAKE_SMALL_FILES, {}, Value(140)),),
        (Fires("PartitionNotRegistered", {"hop": "lake"}),),
        others("PartitionNotRegistered"),
    ),
    Story(
        "Redis is killed",
        (
            Change(m.ETL_FAILURES, {"exit": "redis"}, Rate(0.1)),
            Change(m.CANARY_LOOKS, {"exit": "redis", "outcome": "failed", "worker": "canary"}, Rate(0.4)),
        ),
        (Fires("RedisErrors", {"exit": "redis", "hop": "redis"}), Fires("EtlBatchFailed", {"exit": "redis"})),
        others("RedisErrors", "EtlBatchFailed"),
    ),
    Story(
        "Redis can be written and not be read",
        (Change(m.CANARY_LOOKS, {"exit": "redis", "outcome": "failed", "worker": "canary"}, Rate(0.4)),),
        (Fires("RedisErrors", {"exit": "redis", "hop": "redis"}),),
        others("RedisErrors"),
    ),
    Story(
        "RDS is read-only, Redis is away as well",
        (
            Change(m.ETL_FAILURES, {"exit": "rds"}, Rate(0.1)),
            Change(m.ETL_FAILURES, {"exit": "redis"}, Rate(0.1)),
        ),
        (
            Fires("RdsErrors", {"exit": "rds", "hop": "rds"}),
            Fires("RedisErrors", {"exit": "redis", "hop": "redis"}),
            Fires("EtlBatchFailed", {"exit": "rds"}),
            Fires("EtlBatchFailed", {"exit": "redis"}),
        ),
        others("RdsErrors", "RedisErrors", "EtlBatchFailed"),
    ),
)

WATCHERS = (
    Story(
        "the canary is dead",
        killed("canary"),
        (Fires("TelemetryLoss", {"worker": "canary", "hop": "telemetry"}),),
        others("TelemetryLoss"),
    ),
    Story(
        "the ledger is blind",
        (Change(m.LEDGER_SIGHT, {}, Value(0)),),
        (Fires("TelemetryLoss", {"process": "ledger"}),),
        others("TelemetryLoss"),
    ),
    Story(
        "the trace store takes nothing",
        (Change(m.TELEMETRY_ITEMS, {"process": "redactor", "outcome": "failed"}, Rate(2)),),
        (Fires("TelemetryLoss", {"process": "redactor"}),),
        others("TelemetryLoss"),
    ),
    Story(
        "Prometheus has no target of the ledger",
        (Change("", {"worker": "ledger"}, GONE), Change(UP, {"worker": "ledger"}, GONE)),
        (Fires("TelemetryLoss", {"process": "ledger"}),),
        others("TelemetryLoss"),
    ),
)


def shortly(story: Story) -> Story:
    """With what it must prove, and no more."""
    changed = {series for change in story.changes for series in _touched(change)}
    quiet = tuple(name for name in story.quiet if not changed or any(each in BY_NAME[name].expr for each in changed))
    lasts = story.fault_seconds or max((deadline_of(each) for each in story.fires), default=120)
    return replace(story, quiet=quiet, before_seconds=60, fault_seconds=lasts)


def _touched(change: Change) -> set[str]:
    """The metrics that it changes."""
    return {each.metric for each in CALM if each.has("", change.labels)} if not change.series else {change.series}


STORIES: tuple[Story, ...] = tuple(shortly(story) for story in (*LOOK_ALIKES, *COLLECTORS, *STREAMS, *WORKERS, *EXITS, *WATCHERS))
