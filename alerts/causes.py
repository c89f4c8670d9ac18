"""What can be the cause of what users feel, K1 to K21 of the drill catalogue: tickets, and the words of a page's `cause`.

A cause never pages. `explains` names the symptoms that it can explain, as the catalogue's table has it; what a cause is seen by
is in `alerts.evidence`. A door that is full because Kinesis refuses is Kinesis' trouble (K3, not K2); an exit whose batches fail
together with all others is not that exit's (K12, not K15 and K16).
"""

from alerts import evidence as seen
from alerts.alert import Alert
from telemetry.hops import STREAM_RETENTION_HOURS

# Pages that burn the budget of freshness: whatever holds events up explains them too.
_SLOW = ("CanarySlow", "FreshnessFastBurn")


# A cause that is seen by one sign and then by another (a door is away, then has crashed) does not go in between.
KEEPS_SECONDS = 30


def _cause(
    name: str,
    id: str,
    expr: str,
    summary: str,
    feels: str,
    explains: tuple[str, ...],
    dashboard: str,
    *,
    within: int = 60,
    lasts: int = 0,
    hop: str = "",
    absence: str = "",
) -> Alert:
    return Alert(
        name=name,
        id=id,
        kind="cause",
        severity="ticket",
        expr=expr,
        summary=summary,
        feels=feels,
        within_seconds=within,
        for_seconds=lasts,
        keep_firing_seconds=KEEPS_SECONDS,
        hop=hop,
        explains=explains,
        absence=absence,
        dashboard=dashboard,
    )


# What it is seen by, and the figure.
_SIGN = "{{ $labels.sign }}: {{ $value | humanize }}"
# Templates can't subtract; Prometheus can.
_HOURS_LEFT = f'printf "{STREAM_RETENTION_HOURS} - %f / 3600" $value | query | first | value | printf "%.1f"'

CAUSES: tuple[Alert, ...] = (
    _cause(
        "CollectorDown", "K1", seen.collector_down(),
        "Collector {{ or $labels.worker $labels.process }}: " + _SIGN + ".",
        "a door's process is dead, hangs, or has just died and come back",
        ("CanaryLost", "CanarySlow", "IngestErrorsFastBurn"),
        "spillway-telemetry", within=30, lasts=10,
    ),
    _cause(
        "CollectorSaturated", "K2", seen.collector_saturated(),
        "Door {{ $labels.worker }} has more to do than it can: " + _SIGN + ".",
        "a door refuses or waits though its stream takes everything",
        ("IngestErrorsFastBurn", *_SLOW),
        "spillway-hop-grpc-door", lasts=15, absence="CollectorDown",
    ),
    _cause(
        "KinesisWriteThrottled", "K3", seen.kinesis_refuses(),
        "Stream {{ $labels.stream }}: {{ $value | humanizePercentage }} of a minute's attempts were {{ $labels.outcome }}.",
        "Kinesis takes not everything that is written: too much for its shards, or it is broken",
        ("IngestErrorsFastBurn", *_SLOW),
        "spillway-hop-kinesis", hop="kinesis", absence="CollectorDown",
    ),
    _cause(
        "HotShard", "K4", seen.shard_hot(),
        "Shard {{ $labels.shard }} of {{ $labels.stream }} is used to {{ $value | humanizePercentage }}, the others far less.",
        "one partition key has more than a shard takes: its events wait, all others pass",
        _SLOW,
        "spillway-hop-kinesis", lasts=10, hop="kinesis", absence="CollectorDown",
    ),
    _cause(
        "IteratorAgeHigh", "K5", seen.iterator_age(),
        "The {{ $labels.part }} is {{ $value | humanizeDuration }} behind, and loses records in {{ " + _HOURS_LEFT + " }} hours.",
        "a reader does not keep up, can't read, or is not there",
        ("CanaryLost", "ExitStale", "AckedUnaccounted", *_SLOW),
        "spillway-hop-redactor", absence="WorkerCrashLoop",
    ),
    _cause(
        "ShardStuck", "K6", seen.shard_stuck(),
        "The {{ $labels.part }} does not move on shard {{ $labels.shard }}: " + _SIGN + ".",
        "one shard's events wait while the others' pass",
        ("CanaryLost", *_SLOW),
        "spillway-hop-redactor", lasts=10, absence="WorkerCrashLoop",
    ),
    _cause(
        "CheckpointFailing", "K7", seen.leases_fail(),
        "The {{ $labels.part }} can't keep its place in the stream: " + _SIGN + ".",
        "leases can't be renewed or checkpoints not be written: work is done twice, or stops",
        ("DuplicatesOverContract", *_SLOW),
        "spillway-hop-redactor", absence="WorkerCrashLoop",
    ),
    _cause(
        "DeadLettersGrowing", "K8", seen.dead_letters(),
        "Dead letters of {{ $labels.stage }}: " + _SIGN + ".",
        "events can't go on; they are kept whole",
        ("CanarySlow",),
        "spillway-overview", absence="WorkerCrashLoop",
    ),
    _cause(
        "WorkerCrashLoop", "K9", seen.crash_loop(),
        "Worker {{ or $labels.worker $labels.process }}: " + _SIGN + ".",
        "a worker dies again and again, or does not come back",
        ("CanaryLost", "ExitStale", *_SLOW),
        "spillway-telemetry",
    ),
    _cause(
        "RedactionErrors", "K10", seen.redaction_fails(),
        "Redaction: " + _SIGN + "{{ with $labels.action }} ({{ . }}){{ end }}.",
        "events are held back because they can't be redacted, or a rule of the policy is gone",
        ("CanaryLost", "RedactionLeak", *_SLOW),
        "spillway-hop-redactor", hop="redactor",
    ),
    _cause(
        "FirehoseDeliveryFailing", "K11", seen.backup_late(),
        "Backup of {{ $labels.stream }}: no new object for {{ $value | humanizeDuration }}, though events were written.",
        "Firehose can't put objects, or nobody can see them; the stream still has the events",
        ("BackupGap",),
        "spillway-hop-backup", within=120, hop="backup", absence="WorkerCrashLoop",
    ),
    _cause(
        "EtlBatchFailed", "K12", seen.batch_failed(),
        "ETL{{ with $labels.exit }} of {{ . }}{{ end }}: " + _SIGN + ".",
        "a batch is done again, which changes nothing but takes time",
        ("ExitStale", *_SLOW),
        "spillway-hop-lake", absence="WorkerCrashLoop",
    ),
    _cause(
        "EtlBatchLate", "K13", seen.batch_late(),
        "The query of {{ $labels.exit }} has not ended a look at the stream for {{ $value | humanizeDuration }}.",
        "an exit's query hangs, is slow, or is not there",
        ("ExitStale", *_SLOW),
        "spillway-hop-lake", within=75, absence="WorkerCrashLoop",
    ),
    _cause(
        "PartitionNotRegistered", "K14", seen.lake_refuses(),
        "Lake: " + _SIGN + ".",
        "files are written and nobody sees them, or there are too many to read",
        ("ExitStale", *_SLOW),
        "spillway-hop-lake", hop="lake", absence="WorkerCrashLoop",
    ),
    _cause(
        "RedisErrors", "K15", seen.exit_fails("redis"),
        "Redis: " + _SIGN + ", and other exits work.",
        "Redis refuses, is full, or is not there",
        ("CanaryLost", "ExitStale", *_SLOW),
        "spillway-hop-redis", lasts=10, hop="redis", absence="WorkerCrashLoop",
    ),
    _cause(
        "RdsErrors", "K16", seen.exit_fails("rds"),
        "RDS: " + _SIGN + ", and other exits work.",
        "PostgreSQL refuses, is locked, or is not there",
        ("CanaryLost", "ExitStale", *_SLOW),
        "spillway-hop-rds", lasts=10, hop="rds", absence="WorkerCrashLoop",
    ),
    _cause(
        "SchemaRejects", "K17", seen.schema_rejects(),
        "{{ or $labels.door $labels.stage }}: " + _SIGN + ".",
        "a producer sends what no deployed schema allows; it is refused or kept as dead letters",
        (),
        "spillway-hop-http-door", absence="CollectorDown",
    ),
    _cause(
        "ClockSkew", "K18", seen.clock_skew(),
        "Worker {{ $labels.worker }}: " + _SIGN + ".",
        "a machine's clock is wrong: signatures are refused, accept times and freshness are not to be believed",
        ("IngestErrorsFastBurn", *_SLOW),
        "spillway-telemetry", lasts=15, absence="CollectorDown",
    ),
    _cause(
        "AccessDenied", "K19", seen.access_denied(),
        "{{ or $labels.process $labels.worker $labels.door }}{{ with $labels.service }} at {{ . }}{{ end }}: " + _SIGN + ".",
        "a key, a policy or credentials are not in force any more",
        ("IngestErrorsFastBurn", "CanaryLost", "BackupGap", *_SLOW),
        "spillway-telemetry", absence="CollectorDown",
    ),
    _cause(
        "TelemetryLoss", "K20", seen.telemetry_lost(),
        "{{ or $labels.worker $labels.process }}: " + _SIGN + ".",
        "who watches is not there or loses what it should see; events are not touched",
        ("MonitorBlind",),
        "spillway-telemetry", lasts=30, hop="telemetry",
    ),
    _cause(
        "PartialBatchFailure", "K21", seen.entries_fail(),
        "Stream {{ $labels.stream }}: {{ $value | humanize }} records a minute were refused in calls answered with 200.",
        "single records are sent again; whoever takes the 200 for all of them loses them",
        ("AckedUnaccounted",),
        "spillway-hop-kinesis", hop="kinesis", absence="CollectorDown",
    ),
)  # fmt: skip
