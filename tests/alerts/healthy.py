"""A healthy pipeline, as Prometheus sees it: two collectors at each door, steady traffic, a canary, a ledger, all exits fresh.

Rates are those of a quiet hour: 40 events a second at the gRPC door, 10 at the HTTP door, and the canary's 0.4 through each.
"""

from collections.abc import Iterator, Mapping

from telemetry import metrics as m
from telemetry.hops import EXITS
from tests.alerts.story import UP, Behaviour, Clock, Rate, Series, Value, series

DOORS: Mapping[str, float] = {"grpc": 40.4, "http": 10.4}
STREAMS: Mapping[str, float] = {"web-events": 10.4, "events": 50.8, "events-clean": 50.8}
SHARDS = ("shardId-000000000000", "shardId-000000000001")
READERS = {"transcoder": "web-events", "redactor": "events"}
CANARY_RATE = 0.4
LEDGER_VERDICTS = ("OK", "LATE", "LOST", "DOUBLED", "PHANTOM", "CORRUPT", "UNKNOWN")
CONVICTING = ("LOST", "CORRUPT", "PHANTOM", "DOUBLED")
LEDGER_HOPS = ("transcoder", "redactor", "rds", "lake", "backup", "backup/web-events", "events-clean", "grpc-door", "http-door")
CHECKS = ("broken_event", "personal_data", "refused_keys", "old_schema")
FRESH_SECONDS = 3.0
OUTCOMES = ("accepted", "rejected", "unanswered", "held_back")
CANARY_EXITS = {"grpc": ("lake", "rds", "redis", "backup"), "http": ("lake", "rds", "redis", "backup", "web-backup")}
WORKERS = {
    "grpc": ("grpc-1", "grpc-2"), "http": ("http-1", "http-2"), "transcoder": ("transcoder",), "redactor": ("redactor",),
    "etl": ("etl",), "auditor": ("auditor",), "canary": ("canary",), "ledger": ("ledger",), "store": ("store",),
    "console": ("console",),
}  # fmt: skip


def of(process: str, worker: str, metric: m.Metric | str, behaviour: Behaviour, suffix: str = "", **labels: str) -> Series:
    """A series as it is scraped from this process."""
    scraped = {"job": "spillway", "instance": f"{worker}:1", "process": process, "worker": worker}
    return series(metric, {**scraped, **labels}, behaviour, suffix)


def le_of(bucket: float) -> str:
    """The label of a bucket, as it is exposed."""
    return "+Inf" if bucket == float("inf") else f"{bucket:g}" if bucket % 1 else f"{bucket:.1f}"


def histogram(process: str, worker: str, metric: m.Metric, per_second: float, seconds: float, **labels: str) -> Iterator[Series]:
    """So many observations a second of about that size each."""
    for bucket in (*metric.buckets, float("inf")):
        grows = Rate(per_second if bucket >= seconds else 0.0)
        yield of(process, worker, metric, grows, "_bucket", le=le_of(bucket), **labels)
    yield of(process, worker, metric, Rate(per_second), "_count", **labels)
    yield of(process, worker, metric, Rate(per_second * seconds), "_sum", **labels)


def _doors() -> Iterator[Series]:
    for door, rate in DOORS.items():
        for worker in WORKERS[door]:
            each = rate / len(WORKERS[door])
            for status in ("accepted", "queued", "rejected", "retry"):
                yield of(door, worker, m.DOOR_EVENTS, Rate(each if status == "accepted" else 0.0), door=door, status=status)
            for reason in (
                "rule",
                "unknown_type",
                "throttled",
                "overloaded",
                "draining",
                "unavailable",
                "deadline",
                "time_ahead",
            ):
                yield of(door, worker, m.DOOR_REJECTIONS, Rate(0), door=door, reason=reason)
            yield from histogram(door, worker, m.DOOR_REQUEST_SECONDS, each / 10, 0.02, door=door)
            yield of(door, worker, m.DOOR_LOST_EVENTS, Rate(0), door=door)
            yield of(door, worker, m.DOOR_KEYS_USABLE, Value(1), door=door)
            yield of(door, worker, m.DOOR_IN_FLIGHT_BYTES, Value(20_000), door=door)
            yield of(door, worker, m.DOOR_IN_FLIGHT_LIMIT_BYTES, Value(64_000_000), door=door)
            yield of(door, worker, m.DOOR_QUEUE_AGE_SECONDS, Value(0.01), door=door)
            yield from _writes(door, worker, "web-events" if door == "http" else "events", each)


def _writes(process: str, worker: str, stream: str, rate: float) -> Iterator[Series]:
    for outcome in ("written", "throttled", "failed"):
        written = Rate(rate / 10 if outcome == "written" else 0.0)
        yield of(process, worker, m.KINESIS_WRITE_RECORDS, written, stream=stream, outcome=outcome)
    yield from histogram(process, worker, m.KINESIS_WRITE_SECONDS, rate / 10, 0.02, stream=stream)
    for shard in SHARDS:
        yield of(process, worker, m.KINESIS_WRITE_BYTES, Rate(rate * 400), stream=stream, shard=shard)
        yield of(process, worker, m.KINESIS_SHARD_RECORDS, Rate(rate / 20), stream=stream, shard=shard)


def _readers() -> Iterator[Series]:
    for part, stream in READERS.items():
        rate = STREAMS[stream]
        yield of(part, part, m.CONSUMER_RECORDS, Rate(rate / 10), part=part)
        for outcome in ("delivered", "dead_letter"):
            yield of(part, part, m.CONSUMER_EVENTS, Rate(rate if outcome == "delivered" else 0.0), part=part, outcome=outcome)
        for kind in ("failed", "lost", "buried", "vanished", "blind", "subscription_lost", "busy", "downstream", "permanent",
                     "poison", "unavailable"):  # fmt: skip
            yield of(part, part, m.CONSUMER_FAILURES, Rate(0), part=part, kind=kind)
        yield of(part, part, m.CONSUMER_BEHIND_SECONDS, Value(0), part=part, shard="none")
        for shard in SHARDS:
            yield of(part, part, m.CONSUMER_BEHIND_SECONDS, Value(0), part=part, shard=shard)
            yield of(part, part, m.CONSUMER_PROGRESS, Clock(1), part=part, shard=shard)
        yield from histogram(part, part, m.CONSUMER_PROCESS_SECONDS, rate / 10, 0.05, part=part)
        yield from histogram(part, part, m.CONSUMER_WAIT_SECONDS, rate / 10, 0.4, part=part)
        for reason in ("rule", "unknown_type", "poison"):
            yield of(part, part, m.DEAD_LETTERS, Rate(0), stage=part, reason=reason)
    for action in ("drop", "mask", "pseudonymise", "generalise"):
        yield of("redactor", "redactor", m.REDACTED_FIELDS, Rate(5), action=action)
    yield from _writes("redactor", "redactor", "events-clean", STREAMS["events-clean"])


def _exits() -> Iterator[Series]:
    for exit in EXITS:
        for outcome in ("loaded", "duplicate", "conflict", "dead"):
            loaded = Rate(STREAMS["events-clean"] if outcome == "loaded" else 0.0)
            yield of("etl", "etl", m.ETL_ROWS, loaded, exit=exit, outcome=outcome)
        for reason in ("conflict", "undecodable"):
            yield of("etl", "etl", m.DEAD_LETTERS, Rate(0), stage=f"etl-{exit}", reason=reason)
        yield of("etl", "etl", m.ETL_FAILURES, Rate(0), exit=exit)
        yield from histogram("etl", "etl", m.ETL_BATCH_SECONDS, 0.4, 1.0, exit=exit)
        yield from histogram("etl", "etl", m.ETL_FRESHNESS_SECONDS, STREAMS["events-clean"], FRESH_SECONDS, exit=exit)
        yield of("etl", "etl", m.ETL_BATCH_LIMIT_SECONDS, Value(20), exit=exit)
        yield of("etl", "etl", m.ETL_LAST_BATCH, Clock(2), exit=exit)
        yield of("etl", "etl", m.ETL_INPUT_RATE, Value(5), exit=exit)
        yield of("etl", "etl", m.ETL_PROCESSING_RATE, Value(12), exit=exit)


def _backup() -> Iterator[Series]:
    for stream in ("web-events", "events"):
        yield of("auditor", "auditor", m.BACKUP_OBJECTS, Rate(0.1), stream=stream)
        yield of("auditor", "auditor", m.BACKUP_EVENTS, Rate(STREAMS[stream]), stream=stream)
        yield of("auditor", "auditor", m.BACKUP_DAMAGE, Rate(0), stream=stream)
        yield of("auditor", "auditor", m.BACKUP_BEHIND_SECONDS, Value(3), stream=stream)
        yield from histogram("auditor", "auditor", m.BACKUP_FRESHNESS_SECONDS, STREAMS[stream], 7.0, stream=stream)
    yield of("auditor", "auditor", m.BACKUP_AUDIT_FAILURES, Rate(0))


def _canary() -> Iterator[Series]:
    for door, exits in CANARY_EXITS.items():
        for outcome in OUTCOMES:
            sent = Rate(CANARY_RATE if outcome == "accepted" else 0.0)
            yield of("canary", "canary", m.CANARY_SENT, sent, door=door, outcome=outcome)
        for exit in exits:
            yield of("canary", "canary", m.CANARY_OVERDUE_EVENTS, Value(0), exit=exit, door=door)
            yield of("canary", "canary", m.CANARY_VERDICTS, Rate(CANARY_RATE), exit=exit, door=door, verdict="delivered")
            seconds = 8.0 if exit.endswith("backup") else FRESH_SECONDS
            yield from histogram("canary", "canary", m.CANARY_FRESHNESS_SECONDS, CANARY_RATE, seconds, exit=exit, door=door)
    for exit in CANARY_EXITS["http"]:
        for outcome in ("looked", "failed"):
            yield of("canary", "canary", m.CANARY_LOOKS, Rate(0.4 if outcome == "looked" else 0.0), exit=exit, outcome=outcome)
        yield of("canary", "canary", m.CANARY_LOOKED, Clock(2), exit=exit)
        yield from histogram("canary", "canary", m.CANARY_LOOK_SECONDS, 0.4, 0.05, exit=exit)
    for hop in ("http-door", "transcoder", "grpc-door", "redactor", "etl", "lake", "rds", "redis", "backup", "web-backup"):
        yield of("canary", "canary", m.CANARY_BLAMED_EVENTS, Value(0), hop=hop)
    for check in CHECKS:
        yield of("canary", "canary", m.CANARY_CHECKS, Rate(1 / 300), check=check, verdict="held")
    yield of("canary", "canary", m.CANARY_PENDING_EVENTS, Value(12))


def _ledger() -> Iterator[Series]:
    for verdict in LEDGER_VERDICTS:
        yield of("ledger", "ledger", m.LEDGER_WINDOWS, Rate(0.4 if verdict == "OK" else 0.0), verdict=verdict)
        yield of("ledger", "ledger", m.LEDGER_STANDING, Value(1400 if verdict == "OK" else 0), verdict=verdict)
    for verdict in CONVICTING:
        for hop in LEDGER_HOPS:
            yield of("ledger", "ledger", m.LEDGER_FINDINGS, Rate(0), verdict=verdict, hop=hop)
    yield of("ledger", "ledger", m.LEDGER_ACCOUNTED, Rate(STREAMS["events"]))
    yield of("ledger", "ledger", m.LEDGER_JUDGED_AGE, Value(95))
    yield of("ledger", "ledger", m.LEDGER_SIGHT, Value(1))
    yield of("ledger", "ledger", m.LEDGER_UNREADABLE, Value(0))


# What is not for users, and tells of causes.
WRITERS = {"web-events": "http", "events": "grpc", "events-clean": "redactor"}
AWS_CALLERS = {
    "grpc": ("s3", "kinesis"), "http": ("s3", "kinesis"), "auditor": ("s3",), "transcoder": ("s3", "dynamodb", "kinesis"),
    "redactor": ("s3", "dynamodb", "kinesis", "kms"),
}  # fmt: skip


def _processes() -> Iterator[Series]:
    for process, workers in WORKERS.items():
        for worker in workers:
            if process not in ("store", "console"):
                yield of(process, worker, m.PROCESS_START, Value(-5000))
                yield of(process, worker, m.PROCESS_CRASHES, Value(0))
                yield of(process, worker, m.PROCESS_CPU_SECONDS, Rate(0.2))
            for service in AWS_CALLERS.get(process, ()):
                for kind in ("denied", "throttled", "unavailable", "clock"):
                    yield of(process, worker, m.AWS_FAILURES, Rate(0), service=service, kind=kind)
            if process in AWS_CALLERS:
                yield of(process, worker, m.AWS_CLOCK_SKEW_SECONDS, Value(0.3))


def _refusals() -> Iterator[Series]:
    for stream, process in WRITERS.items():
        for worker in WORKERS[process]:
            yield of(process, worker, m.KINESIS_WRITE_ENTRY_FAILURES, Rate(0), stream=stream)
    for door in DOORS:
        for worker in WORKERS[door]:
            # The canary's own: a broken event, and keys that are to be refused.
            for reason, every in (("unknown_field", 300), ("unauthenticated", 100), ("forbidden", 300)):
                yield of(door, worker, m.DOOR_REJECTIONS, Rate(0.5 / every), door=door, reason=reason)
            for reason in ("request_too_large", "malformed_request", "body_timeout", "not_found"):
                yield of(door, worker, m.DOOR_REJECTIONS, Rate(0), door=door, reason=reason)
    yield of("transcoder", "transcoder", m.DEAD_LETTERS, Rate(1 / 300), stage="transcoder", reason="wrong_type")
    for part in READERS:
        yield of(part, part, m.DEAD_LETTERS, Rate(0), stage=part, reason="corrupt")
    for exit in EXITS:
        yield of("etl", "etl", m.DEAD_LETTERS, Rate(0), stage=f"etl-{exit}", reason="corrupt")


def _evidence() -> Iterator[Series]:
    for action, rules in (("drop", 3), ("mask", 4), ("pseudonymise", 2), ("generalise", 2), ("scan", 2)):
        yield of("redactor", "redactor", m.REDACTION_RULES, Value(rules), action=action)
    for kind in ("not_registered", "schema"):
        yield of("etl", "etl", m.LAKE_REFUSALS, Rate(0), kind=kind)
    yield of("etl", "etl", m.LAKE_SMALL_FILES, Value(12))
    for stream in ("web-events", "events"):
        yield of("auditor", "auditor", m.BACKUP_NEWEST, Clock(4), stream=stream)


def _telemetry() -> Iterator[Series]:
    for process, workers in WORKERS.items():
        for worker in workers:
            yield of(process, worker, UP, Value(1))
            if process in ("store", "console"):
                continue
            for signal in ("spans", "logs"):
                for outcome in ("shipped", "dropped", "failed"):
                    shipped = Rate(1 if outcome == "shipped" else 0)
                    yield of(process, worker, m.TELEMETRY_ITEMS, shipped, signal=signal, outcome=outcome)
                yield of(process, worker, m.TELEMETRY_QUEUE_ITEMS, Value(2), signal=signal)
    for signal in ("spans", "logs"):
        for outcome in ("stored", "refused", "expired"):
            yield of("store", "store", m.STORE_ITEMS, Rate(10 if outcome == "stored" else 0), signal=signal, outcome=outcome)
    yield of("store", "store", m.STORE_BYTES, Value(2e8))
    yield of("store", "store", m.STORE_LIMIT_BYTES, Value(2e9))
    yield of("store", "store", m.DISK_USED_BYTES, Value(2e10))
    yield of("store", "store", m.DISK_SIZE_BYTES, Value(1e11))
    yield of("store", "store", m.TRACES_JUDGED, Rate(0.5), verdict="whole", missing="")


CALM: tuple[Series, ...] = (
    *_doors(), *_readers(), *_exits(), *_backup(), *_canary(), *_ledger(), *_telemetry(),
    *_processes(), *_refusals(), *_evidence(),
)  # fmt: skip
