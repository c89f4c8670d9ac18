"""What users feel, S1 to S10 of the drill catalogue: these page.

- The canary is a user: what it does not get, users do not get. Its gauge of overdue probes tells of a dead exit in 20 s, while
  its verdict "lost" takes five minutes. It counts only as long as the canary can look.
- Lost or slow: nothing arrives any more, or some lanes' probes stay away while the others arrive fresh (a shard is stuck), is
  S1; everything arrives, and late, is S2.
- An exit that nobody can look at is dead if the ETL can't write to it either: two witnesses. If only the canary can't look, it
  is the canary that is blind: S10, no loss.
- What the ledger finds stands as long as it is in its horizon, an hour: a loss does not mend itself by being forgotten, nor by
  the ledger's death (`last_over_time`).
- Zero tolerance: S4, S5, S6, S8, S9 and PromiseBroken need a single event.

`$some`, `$scrapes`, `$interval`, `$stale`, `$backup...`: see `alerts.rules.at`.
"""

from alerts.alert import Alert
from alerts.burn import fires
from telemetry import metrics as m
from telemetry.hops import EXITS

_EXITS = "|".join(EXITS)
# A look each 2 s that may take 8 s, and a scrape: older, and the canary can't look.
LOOKED_SECONDS_MAX = 16
# An ETL query looks at the stream every few seconds.
BATCH_SECONDS_MAX = 16
# Two thirds of what the canary gives a probe until it is overdue. Quiet: 2 to 5 s.
SLOW_SECONDS = 10
# A minute has twelve rounds of probes. One batch that takes 9 s, as it may, holds up two of them at most, 17 %; a lane of four is
# 25 %. Fewer count only if it lasts for minutes.
FIFTH, TENTH = 0.2, 0.1
# Of probes: that many of a hundred not answered is a door that is away, and not a collector of several that was killed: of the
# four rounds in the shortest window that costs two at most.
AWAY_RATIO = 0.7
HUNG_RATIO = 0.25
# A minute's quantile, and two scrapes.
BEGUN_SECONDS = 75
# A door that refuses: of what it is asked, within the shortest window and within a minute, and so many events at least.
REFUSED_RATIO, REFUSED_RATIO_MINUTE, REFUSED_EVENTS_MIN = 0.25, 0.1, 10
# Beyond its longest batch; with evaluation it makes the two minutes of the catalogue.
STALE_SECONDS = 105
# The ledger judges a window 90 s after its end, and waits 120 s more while somebody lags.
JUDGED_SECONDS_MAX = 300


def _bad(metric: m.Metric, where: str, by: str, window: str) -> str:
    return f"sum by ({by}) (increase({metric.name}{{{where}}}[{window}]))"


def _hop_of(expr: str, label: str, suffix: str = "") -> str:
    """The series with the label `hop` made of another one."""
    return f'label_replace({expr}, "hop", "$1{suffix}", "{label}", "(.*)")'


def _any(*choices: str) -> str:
    return " or ".join(f"({choice})" for choice in choices)


_OF_EXITS = f'exit=~"{_EXITS}"'
_SENDS = f'sum(increase({m.CANARY_SENT.name}{{outcome="accepted"}}[$minute])) > 0'


def blind(seconds: int) -> str:
    """Exits that the canary can't look at, though it sent what should be there."""
    looked = f"time() - max by (exit) ({m.CANARY_LOOKED.name}{{{_OF_EXITS}}}) > {seconds}"
    failed = f'max by (exit) (increase({m.CANARY_LOOKS.name}{{{_OF_EXITS},outcome="failed"}}[$minute])) > 0'
    return f"({_any(looked, f'({failed}) unless on (exit) {m.CANARY_LOOKED.name}')}) and on () ({_SENDS})"


# S1

_OVERDUE = f"sum by (exit) ({m.CANARY_OVERDUE_EVENTS.name}{{{_OF_EXITS}}}) > 0"
# Longer overdue: not the tail of something that is over.
_STAY_AWAY = f"sum by (exit) (min_over_time({m.CANARY_OVERDUE_EVENTS.name}{{{_OF_EXITS}}}[$scrapes])) > 1"


def _slower(share: float, window: str) -> str:
    """More than this share of the probes that were seen."""
    seen = f"sum by (exit, le) (rate({m.CANARY_FRESHNESS_SECONDS.name}_bucket{{{_OF_EXITS}}}[{window}]))"
    return f"histogram_quantile({1 - share:g}, {seen}) > {SLOW_SECONDS}"


# Who comes late is not lost.
_TENTH = _slower(TENTH, "$minute")
_SEEN_LATE = f"(({_slower(FIFTH, '$minute')}) or (({_TENTH}) and on (exit) ({_slower(TENTH, '$minutes')})))"
# What a canary that has just begun anew finds was there before it looked: seen late, and not late; nor is what it finds lost.
_JUST_BEGUN = f'(time() - max({m.PROCESS_START.name}{{process="canary"}}) < {BEGUN_SECONDS})'
_LATE = f"({_SEEN_LATE}) unless on () {_JUST_BEGUN}"
# By door, or what still comes through the other would hide that a transcoder is away.
_NOTHING = (
    f"(sum by (exit, door) ({m.CANARY_OVERDUE_EVENTS.name}{{{_OF_EXITS}}}) > 0)"
    f" unless on (exit, door) (sum by (exit, door) (increase({m.CANARY_FRESHNESS_SECONDS.name}_count{{{_OF_EXITS}}}[$some])) > 0)"
)
_SOME_LANES = f"({_STAY_AWAY}) unless on (exit) ({_TENTH})"
_STUCK = f"time() - max by (exit) (last_over_time({m.ETL_LAST_BATCH.name}[1h])) > {BATCH_SECONDS_MAX}"
_FAILING = f"sum by (exit) (increase({m.ETL_FAILURES.name}[$minute])) > 0"
_DEAD = f"({blind(LOOKED_SECONDS_MAX)}) and on (exit) ({_any(_STUCK, _FAILING)})"
CANARY_LOST = (
    f"max by (exit) (((max by (exit) ({_NOTHING})) or on (exit) ({_SOME_LANES})) unless on (exit) ({blind(LOOKED_SECONDS_MAX)}))"
    f" or on (exit) max by (exit) ({_DEAD})"
)

# S2

_NOT_ANSWERED = 'outcome=~"unanswered|rejected"'


def _unanswered(window: str) -> str:
    bad, good = _bad(m.CANARY_SENT, _NOT_ANSWERED, "door", window), _bad(m.CANARY_SENT, 'outcome="accepted"', "door", window)
    return f"{bad} / (({bad} + ({good} or {bad} * 0)) > 0)"


_HUNG = f"({_unanswered('$half')} > {HUNG_RATIO}) and on (door) ({_unanswered('$minute')} > {HUNG_RATIO})"
CANARY_SLOW = _any(_hop_of(_LATE, "exit"), f"max by (hop) ({_hop_of(_HUNG, 'door', suffix='-door')})")

# S3: what shows in seconds, and the budget that burns fast.

_BAD_PROBES = f"{_bad(m.CANARY_SENT, _NOT_ANSWERED, 'door', '$scrapes')} > 0"
# Now or a scrape ago: one that restarts at once is none that is gone.
_ANY_UP = ('sum by (process) (up{process=~"grpc|http"}) > 0', 'sum by (process) (up{process=~"grpc|http"} offset $interval) > 0')
_UP = " or ".join(f"({_hop_of(each, 'process', suffix='-door')})" for each in _ANY_UP)
_NOBODY_UP = f"max by (hop) ({_hop_of(_BAD_PROBES, 'door', suffix='-door')}) unless on (hop) ({_UP})"
_MOST = f"{_unanswered('$scrapes')} > {AWAY_RATIO}"
_AWAY = f"max by (hop) ({_hop_of(_MOST, 'door', suffix='-door')})"


def _refused(window: str) -> str:
    asked = f"sum by (door) (increase({m.DOOR_EVENTS.name}[{window}]))"
    return f"{_bad(m.DOOR_EVENTS, _RETRY, 'door', window)} / ({asked} > 0)"


_RETRY = 'status="retry"'
_MANY = f"{_bad(m.DOOR_EVENTS, _RETRY, 'door', '$minute')} > {REFUSED_EVENTS_MIN}"
_REFUSES = (
    f"(({_refused('$scrapes')} > {REFUSED_RATIO}) and on (door) ({_refused('$minute')} > {REFUSED_RATIO_MINUTE}))"
    f" and on (door) ({_MANY})"
)
INGEST_FAST = _any(
    _NOBODY_UP,
    _AWAY,
    f"max by (hop) ({_hop_of(_REFUSES, 'door', suffix='-door')})",
    fires("IngestErrorsFastBurn", "page", "hop"),
)

# S4, S5, S9: what the ledger found and still holds.


def _found(verdicts: str, hops: str = "") -> str:
    """By hop: found within an hour, and windows of that verdict stand. A series that has just begun with it counts."""
    found = f'{m.LEDGER_FINDINGS.name}{{verdict=~"{verdicts}"{hops}}}'
    fresh = f"(sum by (hop) (increase({found}[1h])) > 0) or on (hop) (sum by (hop) ({found} unless {found} offset 1h) > 0)"
    return f'({fresh}) and on () (sum(last_over_time({m.LEDGER_STANDING.name}{{verdict=~"{verdicts}"}}[1h])) > 0)'


def _canary_found(verdicts: str) -> str:
    found = f'{m.CANARY_VERDICTS.name}{{verdict=~"{verdicts}"}}'
    fresh = f"(increase({found}[15m]) > 0) or ({found} unless {found} offset 15m) > 0"
    return f"max by (hop) ({_hop_of(f'sum by (exit) ({fresh})', 'exit')})"


_BACKUPS = "backup|backup/web-events"
_IN_BACKUP, _BEFORE_BACKUP = f',hop=~"{_BACKUPS}"', f',hop!~"{_BACKUPS}"'

# S6 and the other negative checks.


def _convicted(checks: str) -> str:
    found = f'{m.CANARY_CHECKS.name}{{check{checks},verdict="convicted"}}'
    return f"max by (check) ((increase({found}[15m]) > 0) or ({found} unless {found} offset 15m) > 0)"


# S7

_LIMIT = f"max by (exit) (last_over_time({m.ETL_BATCH_LIMIT_SECONDS.name}[6h]))"
_STALE = f"(time() - max by (exit) (last_over_time({m.ETL_LAST_BATCH.name}[6h]))) > on (exit) ({_LIMIT} + {STALE_SECONDS})"
# It writes, and nothing of it is to be seen: not registered, another place. Only while somebody looks.
_UNSEEN = (
    f"((sum by (exit) (increase({m.CANARY_FRESHNESS_SECONDS.name}_count{{{_OF_EXITS}}}[$stale])) == 0)"
    f" and on (exit) ({_OVERDUE})) unless on (exit) ({blind(LOOKED_SECONDS_MAX)})"
)
EXIT_STALE = f"max by (exit) (({_STALE}) or on (exit) ({_UNSEEN}))"

# S8

_BACKED_UP = f"sum by (stream) (increase({m.BACKUP_EVENTS.name}[$backup_all])) == 0"
_WRITTEN = (
    f'sum by (stream) (increase({m.KINESIS_WRITE_RECORDS.name}{{stream=~"web-events|events",outcome="written"}}'
    f"[$backup_before] offset $backup_ago)) > 0"
)
# Objects are there and not read yet: the auditor is late, or blind.
_UNREAD = f"max by (stream) ({m.BACKUP_BEHIND_SECONDS.name}) > 30"
_PROBES_NOT_BACKED_UP = f'sum by (exit) ({m.CANARY_OVERDUE_EVENTS.name}{{exit=~"backup|web-backup"}}) > 0'


def _stream_of(expr: str, label: str) -> str:
    """The series with the label `stream` for backup hops and exits."""
    events = f'label_replace({expr}, "stream", "events", "{label}", "backup")'
    return f'max by (stream) (label_replace({events}, "stream", "web-events", "{label}", "web-backup|backup/web-events"))'


BACKUP_GAP = _any(
    f"max by (stream) ((({_BACKED_UP}) and on (stream) ({_WRITTEN})) unless on (stream) ({_UNREAD}))",
    _stream_of(_PROBES_NOT_BACKED_UP, "exit"),
    _stream_of(_found("LOST", _IN_BACKUP), "hop"),
)

# S9

_DAMAGE = f"sum by (stream) (increase({m.BACKUP_DAMAGE.name}[1h])) > 0"
CORRUPTION = _any(
    _found("CORRUPT|PHANTOM"),
    _canary_found("corrupted|phantom"),
    f'max by (hop) (label_replace({_DAMAGE}, "hop", "backup", "", ""))',
)

# S10


def _watcher(expr: str, name: str) -> str:
    return f'label_replace({expr}, "watcher", "{name}", "", "")'


def _not_up(process: str) -> str:
    """Not there, or there and not answering."""
    up = f'max(up{{process="{process}"}}) > 0'
    return _watcher(f"absent({up})", process)


WATCHED = ("canary", "ledger", "auditor")
_SILENT = f'sum(increase({m.CANARY_SENT.name}{{outcome!="held_back"}}[$minute])) == 0'
_LEDGER_BLIND = (
    f"(max({m.LEDGER_SIGHT.name}) == 0 or max({m.LEDGER_JUDGED_AGE.name}) > {JUDGED_SECONDS_MAX})"
    ' unless on () (ALERTS{alertname="CanaryLost",alertstate="firing"})'
)
_CANARY_BLIND = f"({blind(30)}) unless on (exit) ({_any(_STUCK, _FAILING)})"
_NEVER_LOADED = " or ".join(
    _watcher(f'absent(last_over_time({m.ETL_LAST_BATCH.name}{{exit="{exit}"}}[6h]))', f"etl:{exit}") for exit in EXITS
)
_CHECK = f'sum(increase({m.CANARY_CHECKS.name}{{check="personal_data",verdict!="unknown"}}[20m])) == 0'
_AUDITOR_BLIND = f"max({m.BACKUP_BEHIND_SECONDS.name}) > 60"
# While a stack starts, whoever is to watch is not there yet. Then somebody was not scraped three minutes ago.
_STARTED = "count(up offset 3m) > 0"
_BLIND = " or ".join(
    (
        *(_not_up(process) for process in WATCHED),
        _watcher(_SILENT, "canary:sends"),
        _watcher(f"max({_LEDGER_BLIND})", "ledger:sight"),
        f'label_replace({_CANARY_BLIND}, "watcher", "canary:$1", "exit", "(.*)")',
        _NEVER_LOADED,
        _watcher(_CHECK, "canary:personal_data"),
        _watcher(_AUDITOR_BLIND, "auditor:behind"),
    )
)
MONITOR_BLIND = f"(max by (watcher) ({_BLIND}) and on () ({_STARTED})) or {_watcher('absent(up)', 'prometheus:targets')}"

SYMPTOMS: tuple[Alert, ...] = (
    Alert(
        "CanaryLost", "S1", "symptom", "page", CANARY_LOST,
        "What is acknowledged does not arrive at {{ $labels.exit }}: probes are overdue, or nobody can read and write it.",
        "events are accepted and are not to be found at this exit",
        within_seconds=30, slo="freshness-{exit}", absence="MonitorBlind", dashboard="spillway-canary",
        traces='{ status = error }',
    ),
    Alert(
        "CanarySlow", "S2", "symptom", "page", CANARY_SLOW,
        "{{ $labels.hop }} is slow: {{ if $labels.exit }}at least a tenth of the probes takes more than "
        "{{ $value | printf \"%.1f\" }} s"
        "{{ else }}{{ $value | humanizePercentage }} of the probes get no answer in time{{ end }}.",
        "events are at this exit later than usual, or a door answers only some senders in time",
        within_seconds=60, for_seconds=5, slo="freshness-{exit}", absence="MonitorBlind", dashboard="spillway-canary",
        traces='{ duration > 5s }',
    ),
    Alert(
        "IngestErrorsFastBurn", "S3", "symptom", "page", INGEST_FAST,
        "{{ $labels.hop }} does not take events: probes or users are not answered, or are asked to send again.",
        "senders get errors or no answer; SDKs keep events back in their spools",
        # The quick signs end at once, the budget's windows come and go: one page, not two.
        within_seconds=30, keep_firing_seconds=60, slo="{hop}-availability", absence="MonitorBlind",
        dashboard="spillway-overview", traces='{ status = error }',
    ),
    Alert(
        "AckedUnaccounted", "S4", "symptom", "page", _found("LOST", _BEFORE_BACKUP),
        "{{ $labels.hop }} lost {{ $value | printf \"%.0f\" }} acknowledged events within an hour: `spillway ledger missing`.",
        "data that users were promised is missing at an exit",
        within_seconds=300, slo="durability", absence="MonitorBlind", dashboard="spillway-ledger", policy="acknowledged",
    ),
    Alert(
        "DuplicatesOverContract", "S5", "symptom", "page", _any(_found("DOUBLED"), _canary_found("duplicated")),
        "{{ $labels.hop }} holds events more than once.",
        "sums and counts of this exit are too high",
        within_seconds=300, slo="correctness", absence="MonitorBlind", dashboard="spillway-ledger", policy="acknowledged",
    ),
    Alert(
        "RedactionLeak", "S6", "symptom", "page", _convicted('="personal_data"'),
        "Personal data that the canary sent was found where none may be. `spillway canary status` says where.",
        "personal data of users may lie in exits, logs or traces",
        within_seconds=60, hop="redactor", absence="MonitorBlind", dashboard="spillway-canary", policy="acknowledged",
    ),
    Alert(
        "ExitStale", "S7", "symptom", "page", EXIT_STALE,
        "{{ $labels.exit }} has had nothing new for more than two minutes.",
        "readers of this exit see old data",
        within_seconds=140, slo="freshness-{exit}", absence="MonitorBlind", dashboard="spillway-delivery",
    ),
    Alert(
        "BackupGap", "S8", "symptom", "page", BACKUP_GAP,
        "What is written to {{ $labels.stream }} does not come into the backup.",
        "nothing yet; what is lost behind the stream now can't be brought back after the stream's retention",
        within_seconds=180, hop="backup", slo="backup-coverage", absence="MonitorBlind", dashboard="spillway-hop-backup",
    ),
    Alert(
        "CorruptionDetected", "S9", "symptom", "page", CORRUPTION,
        "Events at {{ $labels.hop }} are not what was sent.",
        "readers see wrong values, or events that nobody sent",
        within_seconds=120, slo="correctness", absence="MonitorBlind", dashboard="spillway-ledger", policy="acknowledged",
    ),
    Alert(
        "MonitorBlind", "S10", "symptom", "page", MONITOR_BLIND,
        "Nobody watches: {{ $labels.watcher }}.",
        "nothing that is known; what is green now may not be",
        within_seconds=180, for_seconds=90, hop="telemetry", absence="Watchdog", dashboard="spillway-telemetry",
    ),
    Alert(
        "PromiseBroken", "", "symptom", "page", _convicted('!="personal_data"'),
        "A negative check was convicted: {{ $labels.check }}. `spillway canary status` says by what.",
        "a broken event was not put aside, a refused key was let in, or an old client is not understood any more",
        within_seconds=60, hop="grpc-door", absence="MonitorBlind", dashboard="spillway-canary", policy="acknowledged",
    ),
)  # fmt: skip
