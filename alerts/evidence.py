"""What each cause is seen by: the expressions of K1 to K21, made of the catalogue's metrics.

- A figure means the same in every line of an alert, or the label `sign` says what it is: the words before the figure.
- A thing that is looked at through one process is not silent when that process is gone: either the last that it said goes on
  (`last_over_time`), or `absence` in `alerts.causes` names the alert that fires then. A target that Prometheus does not even know
  is `absent(up)`.
- Counters that are shown from the start as zero can be asked for an increase. Dead letters have reasons that are not: their sums
  are compared with those a minute before as well, so that a first burst counts.
- No series keeps a label `kind`: every alert has one of its own, so two series would become one.
- What the canary does on purpose (a broken event and six refused keys each five minutes) is below every bound.
- On AWS: a worker of ECS that dies comes back under another name, so `crashes` stays 0 there and `up` tells; Firehose's buffer
  is longer than here, and `BACKUP_LATE_SECONDS` has to be its interval and a minute and a half.
"""

from collections.abc import Mapping

from telemetry import metrics as m
from telemetry.hops import BY_NAME, EXITS
from telemetry.metrics import Metric
from telemetry.recording import golden

DOORS, WORKERS = "grpc|http", "transcoder|redactor|etl|auditor"
WORKERS_WITH_A_STREAM = ("transcoder", "redactor")
# Restarting takes a worker of ours some seconds; a JVM under load half a minute.
AWAY_SECONDS = 30
# A door is one Python process: about one core is all that it can use.
CPU_CORES_MAX = 0.9
IN_FLIGHT_MAX = 0.8
QUEUE_AGE_SECONDS_MAX = 2
# Of a minute's attempts at a stream; and so many, or a single record of a quiet night would count.
NOT_WRITTEN_SHARE_MAX, NOT_WRITTEN_MAX = 0.05, 4
SHARD_USE_MAX, SHARD_USE_IDLE = 0.8, 0.01
BEHIND_SECONDS_MAX = 30
# Idle shards get a delivery every 5 s.
STUCK_SECONDS = 30
LEASE_FAILURES_MAX = 2
# Lost leases of a minute: one or two at a deployment are how workers share.
LEASES_LOST_MAX = 2
DEAD_LETTERS_MAX = 10
# Firehose's buffer of 5 s, the auditor's round, and what a put may be tried again for.
BACKUP_LATE_SECONDS = 90
REPEATED_ROWS_MAX, REPEATED_SHARE_MAX = 100, 0.5
BATCH_LATE_SECONDS = 60
LAKE_SMALL_FILES_MAX = 100
# At a door, or at a worker, in a minute.
SCHEMA_REJECTS_MAX, SCHEMA_REJECTS_SHARE_MAX, BAD_REQUESTS_MAX = 10, 0.02, 2
CLOCK_SKEW_SECONDS_MAX = 5
# The canary's own are three at each door, all at once, each five minutes.
REFUSED_KEYS_MAX = 10
ENTRY_FAILURES_MAX = 2

# Words of `pipeline.doors.reasons` and of dead letters: the event is not as its schema has it; the request is none.
SCHEMA_REASONS = (
    "missing_attribute|bad_attribute|spec_version|bad_time|unknown_type|missing_data|data_content_type|type_mismatch"
    "|event_too_large|too_large|undecodable|unknown_field|wrong_type|rule|bad_json|duplicate_key|invalid_data|unconvertible"
)
REQUEST_REASONS = "empty_batch|too_many_events|request_too_large|malformed_request|body_timeout"


def _where(**labels: str) -> str:
    """Selectors; a value that begins with `~` is a regular expression, with `!` a negation."""
    operators = {"~": "=~", "!": "!="}
    parts = [f'{name}{operators.get(value[0], "=")}"{value.lstrip("~!")}"' for name, value in labels.items()]
    return "{" + ",".join(parts) + "}" if parts else ""


def _grown(metric: Metric, by: str, window: str = "1m", **labels: str) -> str:
    return f"sum by ({by}) (increase({metric.name}{_where(**labels)}[{window}]))"


def _now(metric: Metric, by: str, of: str = "max", **labels: str) -> str:
    return f"{of} by ({by}) ({metric.name}{_where(**labels)})"


def _named(expr: str, label: str, value: str, source: str = "", pattern: str = "") -> str:
    """With a label: fixed, or made of another one."""
    return f'label_replace({expr}, "{label}", "{value}", "{source}", "{pattern}")'


def _signs(said: Mapping[str, str], *hop_labels: str) -> str:
    """One of these expressions; the label `sign` says which, in words before its figure. These labels tell the hop."""
    signs = " or ".join(_named(expr, "sign", words) for words, expr in said.items())
    for label in hop_labels:
        signs = _at_hop(signs, label)
    return signs


def _at_hop(expr: str, label: str) -> str:
    """With the hop that the label's value stands for: of a part or a stage the same, of a door or its process the door's."""
    named = _named(expr, "hop", "$1", label, "(?:etl-)?(transcoder|redactor|lake|rds|redis)")
    if label in ("door", "process"):
        named = _named(named, "hop", "$1-door", label, f"({DOORS})")
    return _named(named, "hop", "backup", label, "auditor") if label == "process" else named


def _away(processes: str) -> str:
    """Workers that did not answer a single scrape for so long, and were to be scraped then already."""
    up = f'up{{process=~"{processes}"}}'
    never = f"max by (process, worker) (max_over_time({up}[{AWAY_SECONDS}s])) == 0"
    return f"({never}) and on (process, worker) (max by (process, worker) ({up} offset {AWAY_SECONDS}s) == 0)"


def _unknown(processes: str) -> str:
    """Parts that Prometheus has no target of."""
    return " or ".join(f'absent(up{{process="{process}"}})' for process in processes.split("|"))


def _crashes(processes: str, window: str) -> str:
    return _grown(m.PROCESS_CRASHES, "process, worker", window, process=f"~{processes}")


def kinesis_refuses(**labels: str) -> str:
    """Streams that a share of the attempts at was not confirmed, by outcome: throttled or failed."""
    bad = _grown(m.KINESIS_WRITE_RECORDS, "stream, outcome", outcome="!written", **labels)
    share = f"{bad} / on (stream) group_left () {_grown(m.KINESIS_WRITE_RECORDS, 'stream', **labels)}"
    return f"({share} > {NOT_WRITTEN_SHARE_MAX}) and on (stream, outcome) ({bad} > {NOT_WRITTEN_MAX})"


def collector_saturated() -> str:
    taken, limit = (_now(metric, "door, worker") for metric in (m.DOOR_IN_FLIGHT_BYTES, m.DOOR_IN_FLIGHT_LIMIT_BYTES))
    full = _signs(
        {
            "share of the bytes that may be in flight": f"{taken} / {limit} > {IN_FLIGHT_MAX}",
            "requests refused as overloaded": f"{_grown(m.DOOR_REJECTIONS, 'door, worker', '$scrapes', reason='overloaded')} > 0",
            "seconds that the oldest event waits": f"{_now(m.DOOR_QUEUE_AGE_SECONDS, 'door, worker')} > {QUEUE_AGE_SECONDS_MAX}",
        }
    )
    # Doors whose stream refuses are full because of it, and nothing is wrong with them.
    streams = {door: BY_NAME[f"{door}-door"].gives for door in DOORS.split("|")}
    waits = " or ".join(
        _named(f"count by (stream) ({kinesis_refuses(stream=stream)})", "door", door) for door, stream in streams.items()
    )
    cores = f'max by (process, worker) (rate({m.PROCESS_CPU_SECONDS.name}{{process=~"{DOORS}"}}[30s])) > {CPU_CORES_MAX}'
    of_cpu = _signs({"CPU cores": _named(cores, "door", "$1", "process", "(.*)")})
    return _at_hop(f"(({full}) unless on (door) ({waits})) or {of_cpu}", "door")


def shard_hot() -> str:
    """A shard near its limits that carries more than twice of what the others do on average."""

    def share(metric: Metric, limit: int) -> str:
        return f"(sum by (stream, shard) (rate({metric.name}[30s])) / {limit})"

    size = share(m.KINESIS_WRITE_BYTES, golden.SHARD_BYTES_PER_SECOND)
    records = share(m.KINESIS_SHARD_RECORDS, golden.SHARD_RECORDS_PER_SECOND)
    use = f"(({size} >= {records}) or {records})"
    # Closed shards carry nothing and count for nothing.
    busy = f"({use} > {SHARD_USE_IDLE})"
    others = f"clamp_min(count by (stream) ({busy}) - 1, 1)"
    more = f"({use} * on (stream) group_left () ({others} + 2)) > on (stream) group_left () (2 * sum by (stream) ({busy}))"
    return f"({use} > {SHARD_USE_MAX}) and ({more})"


def iterator_age() -> str:
    """How old the oldest record is, at most, that a part has not read. A part without a living worker has what it said last."""
    behind = f'max by (part, shard) ({m.CONSUMER_BEHIND_SECONDS.name}{{shard!="none"}})'
    of_shard = f"({behind} + on (part, shard) (time() - {_now(m.CONSUMER_PROGRESS, 'part, shard')}))"
    blind = _now(m.CONSUMER_BEHIND_SECONDS, "part", shard="none")
    last = f"time() - max by (part) (last_over_time({m.CONSUMER_PROGRESS.name}[1h]))"
    age = f"max by (part) ({of_shard} or {blind} or (({last}) unless on (part) {_now(m.CONSUMER_PROGRESS, 'part')}))"
    return _at_hop(f"{age} > {BEHIND_SECONDS_MAX}", "part")


def shard_stuck() -> str:
    """Shards that a worker holds and does not move, and those that are written to and that nobody holds."""
    still = f"time() - {_now(m.CONSUMER_PROGRESS, 'part, shard')} > {STUCK_SECONDS}"
    written = " or ".join(
        _named(f"{_grown(m.KINESIS_SHARD_RECORDS, 'shard', '$scrapes', stream=BY_NAME[part].takes)} > 0", "part", part)
        for part in WORKERS_WITH_A_STREAM
    )
    held = f"max by (part, shard) (last_over_time({m.CONSUMER_PROGRESS.name}[{STUCK_SECONDS}s]))"
    # With no worker at all it is that worker who is missed, not the shard's reader.
    lives = _now(m.CONSUMER_BEHIND_SECONDS, "part", shard="none")
    return _signs(
        {
            "seconds since its reader moved": still,
            "records written lately, and no reader": f"(({written}) unless on (part, shard) {held}) and on (part) {lives}",
        },
        "part",
    )


def leases_fail() -> str:
    refused = _grown(m.AWS_FAILURES, "process", service="dynamodb", process=f"~{'|'.join(WORKERS_WITH_A_STREAM)}")
    return _signs(
        {
            "failed calls to the lease table in a minute": _named(
                f"{refused} > {LEASE_FAILURES_MAX}", "part", "$1", "process", "(.*)"
            ),
            "leases lost in a minute": f"{_grown(m.CONSUMER_FAILURES, 'part', kind='lost')} > {LEASES_LOST_MAX}",
        },
        "part",
    )


def _letters(window: str, **labels: str) -> str:
    """Dead letters of a window by stage, also those of a reason that is counted for the first time."""
    letters, none = f"{m.DEAD_LETTERS.name}{_where(**labels)}", f"sum by (stage) ({m.DEAD_LETTERS.name} offset {window}) * 0"
    before = f"(sum by (stage) ({letters} offset {window}) or {none})"
    # After a restart it is less than before, and the increase is what counts.
    return f"((sum by (stage) ({letters}) - {before}) > 0 or {_grown(m.DEAD_LETTERS, 'stage', window, **labels)})"


def dead_letters() -> str:
    return _signs(
        {
            "records in 5 minutes that break their reader or are damaged": f"{_letters('5m', reason='~poison|corrupt')} > 0",
            "dead letters in a minute": f"{_letters('1m')} > {DEAD_LETTERS_MAX}",
        },
        "stage",
    )


def crash_loop() -> str:
    starts = f'sum by (process, worker) (changes({m.PROCESS_START.name}{{process=~"{WORKERS}"}}[5m]))'
    return _signs(
        {
            "crashes in two minutes": f"{_crashes(WORKERS, '2m')} > 1.5",
            "restarts in five minutes": f"{starts} > 2.5",
            "scrapes answered in half a minute": _away(WORKERS),
            "targets missing in Prometheus": _unknown(WORKERS),
        },
        "process",
    )


def redaction_fails() -> str:
    keys = _grown(m.AWS_FAILURES, "process", process="redactor", service="kms")
    stops = _grown(m.CONSUMER_FAILURES, "part", part="redactor", kind="permanent")
    rules = _now(m.REDACTION_RULES, "action", "min")
    before = f"max by (action) (max_over_time({m.REDACTION_RULES.name}[1h]))"
    return _signs(
        {
            "failed calls to the key service in a minute": f"{keys} > 0",
            "stops in a minute that need a person": f"{stops} > 0",
            "rules of the policy now, fewer than in the last hour": f"{rules} < on (action) {before}",
            "scrapes answered in half a minute": _away("redactor"),
            "targets missing in Prometheus": _unknown("redactor"),
        }
    )


def backup_late() -> str:
    since = f"time() - {_now(m.BACKUP_NEWEST, 'stream')} > {BACKUP_LATE_SECONDS}"
    # Written after the newest object could have held it.
    window = BACKUP_LATE_SECONDS // 3
    written = f"sum by (stream) (increase({m.KINESIS_SHARD_RECORDS.name}[{window}s] offset {BACKUP_LATE_SECONDS - window}s)) > 0"
    return f"({since}) and on (stream) ({written})"


def batch_failed() -> str:
    again = _grown(m.ETL_ROWS, "exit", outcome="duplicate")
    rows = _grown(m.ETL_ROWS, "exit", outcome="~loaded|duplicate")
    mostly = f"{again} > {REPEATED_SHARE_MAX} * {rows}"
    return _signs(
        {
            "failed batches in two minutes": f"{_grown(m.ETL_FAILURES, 'exit', '2m')} > 0",
            "crashes of the ETL in two minutes": f"{_crashes('etl', '2m')} > 0",
            "rows in a minute that were there already": f"({again} > {REPEATED_ROWS_MAX}) and ({mostly})",
        }
    )


def exit_fails(exit: str) -> str:
    """Its batches fail, or the canary can't read it, while another exit's do not and another exit can be read.

    If all fail together, it is what they have in common: the stream, Spark, or the canary.
    """
    others = [other for other in EXITS if other != exit]
    failed = {name: f"({_grown(m.ETL_FAILURES, 'exit', exit=name)} > 0)" for name in EXITS}
    unread = {name: f"({_grown(m.CANARY_LOOKS, 'exit', exit=name, outcome='failed')} > 1)" for name in EXITS}

    def alone(seen: Mapping[str, str]) -> str:
        return f"{seen[exit]} unless on () ({' and on () '.join(seen[other] for other in others)})"

    return _signs({"failed batches in a minute": alone(failed), "failed looks of the canary in a minute": alone(unread)})


def lake_refuses() -> str:
    return _signs(
        {
            "batches in two minutes that the table did not take, since they are not registered":
                f"{_grown(m.LAKE_REFUSALS, 'process', '2m', kind='not_registered')} > 0",
            "batches in two minutes that the table did not take, since a column would change":
                f"{_grown(m.LAKE_REFUSALS, 'process', '2m', kind='schema')} > 0",
            "small files in one partition": f"{_now(m.LAKE_SMALL_FILES, 'process')} > {LAKE_SMALL_FILES_MAX}",
        }
    )  # fmt: skip


def schema_rejects() -> str:
    events, requests = (_grown(m.DOOR_REJECTIONS, "door", reason=f"~{reasons}") for reasons in (SCHEMA_REASONS, REQUEST_REASONS))
    dead = _letters("1m", reason=f"~{SCHEMA_REASONS}")
    share = f"{events} / on (door) ({_grown(m.DOOR_EVENTS, 'door')} > 0) > {SCHEMA_REJECTS_SHARE_MAX}"
    return _signs(
        {
            "events in a minute that break their schema": f"({events} > {SCHEMA_REJECTS_MAX}) and on (door) ({share})",
            "requests in a minute that are none": f"{requests} > {BAD_REQUESTS_MAX}",
            "dead letters in a minute that break their schema": f"{dead} > {SCHEMA_REJECTS_MAX}",
        },
        "door",
        "stage",
    )


def clock_skew() -> str:
    return _signs(
        {
            "seconds from AWS's clock": f"abs({_now(m.AWS_CLOCK_SKEW_SECONDS, 'process, worker')}) > {CLOCK_SKEW_SECONDS_MAX}",
            "signatures in a minute that are out of date": f"{_grown(m.AWS_FAILURES, 'process, worker', kind='clock')} > 0",
        },
        "process",
    )


def access_denied() -> str:
    return _signs(
        {
            "calls in a minute that AWS denied": f"{_grown(m.AWS_FAILURES, 'process, service', kind='denied')} > 0",
            "requests in a minute with a key that is not in force":
                f"{_grown(m.DOOR_REJECTIONS, 'door', reason='~unauthenticated|forbidden')} > {REFUSED_KEYS_MAX}",
            "keys files that can be read": f"{_now(m.DOOR_KEYS_USABLE, 'door, worker', 'min')} == 0",
        },
        "door",
        "process",
    )  # fmt: skip


def telemetry_lost() -> str:
    watchers = f"{DOORS}|{WORKERS}"
    return _signs(
        {
            "spans and lines lost lately": f"{_grown(m.TELEMETRY_ITEMS, 'process', '$scrapes', outcome='~dropped|failed')} > 0",
            "spans and lines refused lately": f"{_grown(m.STORE_ITEMS, 'process', '$scrapes', outcome='refused')} > 0",
            "answers": f'max by (process, worker) (up{{process!~"{watchers}"}}) == 0',
            "ledgers that see all": f"{_now(m.LEDGER_SIGHT, 'process', 'min')} == 0",
            "targets missing in Prometheus": _unknown("canary|ledger|store"),
        }
    )


def collector_down() -> str:
    away = f'max by (process, worker) (up{{process=~"{DOORS}"}}) == 0'
    return _signs(
        {
            "answers": away,
            "crashes in a minute": f"{_crashes(DOORS, '1m')} > 0",
            "targets missing in Prometheus": _unknown(DOORS),
        },
        "process",
    )


def batch_late() -> str:
    return f"time() - max by (exit) (last_over_time({m.ETL_LAST_BATCH.name}[1h])) > {BATCH_LATE_SECONDS}"


def entries_fail() -> str:
    return f"{_grown(m.KINESIS_WRITE_ENTRY_FAILURES, 'stream')} > {ENTRY_FAILURES_MAX}"
