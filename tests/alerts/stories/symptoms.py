"""What each symptom fires on by its deadline, and what looks like it and is not: the drills as Prometheus sees them."""

from dataclasses import replace

from telemetry import metrics as m
from telemetry.hops import EXITS
from tests.alerts.healthy import CALM, CANARY_RATE, le_of
from tests.alerts.story import (
    EVERY,
    GONE,
    PAGES,
    UP,
    Behaviour,
    Change,
    Climb,
    Fires,
    Frozen,
    Jump,
    Rate,
    Story,
    Then,
    Value,
    killed,
    restarted,
)  # fmt: skip

# The canary sees that a probe is overdue so long after the fault: measured 16 to 21 s on the live stack (canary/README.md).
SEEN_SECONDS = 18
# A round is sent each 5 s, and given up after 4: the first failure is counted so long after the fault, if a round was due then.
ANSWER_SECONDS = 5
# The ledger judges 90 s after a window's end, and waits 120 s more for what is late.
NAMED_SECONDS = 220


def arrivals(exit: str, behaviour: Behaviour) -> tuple[Change, ...]:
    return tuple(
        Change(m.CANARY_FRESHNESS_SECONDS, {"exit": exit}, behaviour, suffix) for suffix in ("_bucket", "_count", "_sum")
    )


def nothing_arrives(*exits: str, after: int = SEEN_SECONDS) -> tuple[Change, ...]:
    overdue = Then((after, Value(0)), (0, Climb(1, CANARY_RATE)))
    return tuple(
        change
        for exit in exits
        for change in (Change(m.CANARY_OVERDUE_EVENTS, {"exit": exit}, overdue), *arrivals(exit, Rate(0)))
    )


def arrives_after(exit: str, seconds: float, share: float = 1.0) -> tuple[Change, ...]:
    """That share of the probes takes so long; the others are as ever."""
    made = []
    for bucket in (*m.FRESHNESS_BUCKETS_SECONDS, float("inf")):
        fast = CANARY_RATE * (1 - share) if bucket >= 3 else 0.0
        slow = CANARY_RATE * share if bucket >= seconds else 0.0
        made.append(Change(m.CANARY_FRESHNESS_SECONDS, {"exit": exit, "le": le_of(bucket)}, Rate(fast + slow), "_bucket"))
    return tuple(made)


def late_for(exit: str, lasts_seconds: float, seconds: float, share: float) -> tuple[Change, ...]:
    """That share of the probes takes so long, and after a while none does."""
    return tuple(
        replace(late, behaviour=Then((lasts_seconds, late.behaviour), (0, usual.behaviour)))
        for late, usual in zip(arrives_after(exit, seconds, share), arrives_after(exit, seconds, 0.0), strict=True)
    )


def begins_late(exit: str, late_seconds: float = float("inf")) -> tuple[Change, ...]:
    """The canary restarts, and for so long finds late at this exit, and overdue after a first look, what was sent before."""
    away, look = 20, 10
    fast = Then((away, GONE), (late_seconds, Rate(0)), (0, Rate(CANARY_RATE)))
    buckets = [bucket for bucket in m.FRESHNESS_BUCKETS_SECONDS if bucket < 30]
    overdue = Then((away, GONE), (look, Value(0)), (late_seconds - look, Value(6)), (0, Value(0)))
    return (
        *restarted("canary", away, CALM),
        *(Change(m.CANARY_FRESHNESS_SECONDS, {"exit": exit, "le": le_of(each)}, fast, "_bucket") for each in buckets),
        Change(m.CANARY_OVERDUE_EVENTS, {"exit": exit, "door": "grpc"}, overdue),
    )


def can_not_look(exit: str) -> tuple[Change, ...]:
    return (
        Change(m.CANARY_LOOKED, {"exit": exit}, Frozen()),
        Change(m.CANARY_LOOKS, {"exit": exit, "outcome": "looked"}, Rate(0)),
        Change(m.CANARY_LOOKS, {"exit": exit, "outcome": "failed"}, Rate(0.3)),
        *arrivals(exit, Rate(0)),
    )


def can_not_write(exit: str) -> tuple[Change, ...]:
    return (
        Change(m.ETL_FAILURES, {"exit": exit}, Rate(0.1)),
        Change(m.ETL_LAST_BATCH, {"exit": exit}, Frozen()),
        Change(m.ETL_ROWS, {"exit": exit}, Rate(0)),
    )


def not_answered(door: str, share: float = 1.0, outcome: str = "unanswered") -> tuple[Change, ...]:
    """Of the rounds, from the first that is lost on."""
    bad = Then((ANSWER_SECONDS, Rate(0)), (0, Rate(CANARY_RATE * share)))
    good = Then((ANSWER_SECONDS, Rate(0)), (0, Rate(CANARY_RATE * (1 - share))))
    return (
        Change(m.CANARY_SENT, {"door": door, "outcome": outcome}, bad),
        Change(m.CANARY_SENT, {"door": door, "outcome": "accepted"}, good),
    )


def found(verdict: str, hop: str, events: int = 1, after: int = NAMED_SECONDS) -> tuple[Change, ...]:
    return (
        Change(m.LEDGER_FINDINGS, {"verdict": verdict, "hop": hop}, Then((after, Rate(0)), (0, Jump(events)))),
        stands(verdict, after=after),
    )


def stands(verdict: str, windows: int = 1, after: int = NAMED_SECONDS) -> Change:
    return Change(m.LEDGER_STANDING, {"verdict": verdict}, Then((after, Value(0)), (0, Value(windows))))


def convicted(check: str) -> Change:
    """A series that begins with its first conviction."""
    return Change(m.CANARY_CHECKS, {"check": check, "verdict": "convicted"}, Then((5, GONE), (0, Value(1))))


def canary_verdict(exit: str, verdict: str) -> Change:
    labels = {"exit": exit, "door": "grpc", "verdict": verdict}
    return Change(m.CANARY_VERDICTS, labels, Then((SEEN_SECONDS, GONE), (0, Value(1))))


def both_exit_pages(*exits: str, by: int | None = None) -> tuple[Fires, ...]:
    """Lost at once, and stale when it lasts."""
    lost = (Fires("CanaryLost", {"exit": exit}, by=by) for exit in exits)
    return (*lost, *(Fires("ExitStale", {"exit": exit}, by=200) for exit in exits))


QUIET: tuple[Story, ...] = (
    Story("the canary restarts", restarted("canary", 20, CALM), quiet=PAGES),
    Story(
        "the canary restarts, and finds late what was there before it looked",
        begins_late("redis", 10),
        quiet=PAGES,
    ),
    Story(
        "ledger and auditor restart",
        (*restarted("ledger", 30, CALM), *restarted("auditor", 30, CALM)),
        quiet=PAGES,
    ),
    Story(
        "one of two collectors is killed, and a round of probes with it",
        (*killed("grpc-1"), Change(m.CANARY_SENT, {"door": "grpc", "outcome": "unanswered"}, Jump(2))),
        quiet=PAGES,
    ),
    Story(
        "a rolling deploy of both doors: each collector is away for 20 s, and what it drains is sent again",
        (
            *restarted("grpc-1", 20, CALM),
            *restarted("http-1", 20, CALM),
            Change(m.DOOR_EVENTS, {"worker": "grpc-2", "status": "retry"}, Jump(8)),
        ),
        quiet=PAGES,
    ),
    Story(
        "a pause of 15 s in the ETL",
        (*nothing_arrives(*EXITS), Change(m.ETL_LAST_BATCH, {}, Frozen())),
        quiet=PAGES,
        fault_seconds=15,
        after_seconds=120,
    ),
    Story(
        # A flood against the schema, refusals for a moment, a quarter throttled and written at the second attempt, retries that
        # the exits leave out, dead letters, windows not known yet, checks that could not be made, a backup that comes in two
        # halves.
        "much that looks bad and is not",
        (
            Change(m.DOOR_EVENTS, {"door": "grpc", "status": "rejected"}, Rate(10)),
            Change(m.DOOR_REJECTIONS, {"door": "grpc", "reason": "rule"}, Rate(10)),
            Change(m.DOOR_EVENTS, {"status": "retry", "worker": "http-1"}, Then((5, Rate(10)), (0, Rate(0)))),
            Change(m.KINESIS_WRITE_RECORDS, {"stream": "events", "outcome": "throttled"}, Rate(2)),
            Change(m.ETL_ROWS, {"outcome": "duplicate"}, Rate(4)),
            Change(m.DEAD_LETTERS, {"stage": "redactor", "reason": "rule"}, Rate(2)),
            stands("LATE", 4, after=30),
            stands("UNKNOWN", 3, after=30),
            Change(m.LEDGER_WINDOWS, {"verdict": "UNKNOWN"}, Rate(0.01)),
            *(
                Change(m.CANARY_CHECKS, {"check": check, "verdict": "unknown"}, Rate(1 / 30))
                for check in ("personal_data", "refused_keys", "broken_event")
            ),
            Change(m.BACKUP_EVENTS, {}, Rate(5)),
        ),
        quiet=PAGES,
    ),
)

LOST_OR_SLOW: tuple[Story, ...] = (
    Story(
        "Redis takes no writes, and can be read",
        (*nothing_arrives("redis"), Change(m.ETL_FAILURES, {"exit": "redis"}, Rate(0.2))),
        fires=both_exit_pages("redis"),
        quiet=PAGES,
    ),
    Story(
        "Redis is killed: nobody can read it or write to it",
        (*can_not_look("redis"), *can_not_write("redis")),
        fires=both_exit_pages("redis"),
        quiet=PAGES,
    ),
    Story(
        "RDS is killed: the ledger can't look either, and that is no page of its own",
        (*can_not_look("rds"), *can_not_write("rds"), Change(m.LEDGER_SIGHT, {}, Value(0))),
        fires=both_exit_pages("rds"),
        quiet=PAGES,
    ),
    Story(
        "the ETL crashes again and again",
        (*nothing_arrives(*EXITS), *killed("etl")),
        fires=both_exit_pages(*EXITS),
        quiet=PAGES,
    ),
    Story(
        "files are written and not registered in the lake: the ETL sees nothing wrong",
        nothing_arrives("lake"),
        fires=both_exit_pages("lake"),
        quiet=PAGES,
    ),
    Story(
        "one shard of web-events is not consumed: some lanes stay away, the others arrive fresh",
        tuple(
            change
            for exit in EXITS
            for change in (
                Change(m.CANARY_OVERDUE_EVENTS, {"exit": exit, "door": "http"}, Then((23, Value(0)), (0, Climb(1, 0.2)))),
                Change(m.CANARY_FRESHNESS_SECONDS, {"exit": exit, "door": "http"}, Rate(0.2), "_count"),
            )
        ),
        fires=tuple(Fires("CanaryLost", {"exit": exit}, by=60) for exit in EXITS),
        quiet=PAGES,
    ),
    Story(
        "Redis is well, and the canary can't look at it",
        can_not_look("redis"),
        fires=(Fires("MonitorBlind", {"watcher": "canary:redis"}),),
        quiet=PAGES,
    ),
    Story(
        "reads of the stream are throttled: a sixth of the probes takes 20 s to the lake",
        (
            *arrives_after("lake", 20, 0.16),
            Change(m.CANARY_OVERDUE_EVENTS, {"exit": "lake"}, Then((20, Value(0)), (0, Value(1)))),
        ),
        fires=(Fires("CanarySlow", {"exit": "lake"}, by=150),),
        quiet=PAGES,
        fault_seconds=200,
    ),
    Story(
        "one shard of four is hot: a quarter of the probes takes 14 s to the lake, which is within its promise",
        arrives_after("lake", 15, 0.25),
        fires=(Fires("CanarySlow", {"exit": "lake"}),),
        quiet=PAGES,
    ),
    Story(
        "one batch takes nine seconds: 15 % of a minute's probes are late, and it is over",
        late_for("lake", 60, 15, 0.15),
        quiet=PAGES,
        fault_seconds=200,
    ),
    Story(
        "everything takes longer and longer to Redis",
        (*arrives_after("redis", 30), Change(m.CANARY_OVERDUE_EVENTS, {"exit": "redis"}, Then((20, Value(0)), (0, Value(6))))),
        fires=(Fires("CanarySlow", {"exit": "redis"}),),
        quiet=PAGES,
    ),
    Story(
        "the canary restarts while all is slow to Redis: that is told once what was there before is out of the window",
        begins_late("redis"),
        fires=(Fires("CanarySlow", {"exit": "redis"}, by=110),),
        quiet=PAGES,
    ),
    Story(
        "one of two HTTP collectors hangs: every second round gets no answer",
        not_answered("http", 0.5),
        fires=(Fires("CanarySlow", {"hop": "http-door"}, by=45),),
        quiet=PAGES,
    ),
)

DOORS: tuple[Story, ...] = (
    Story(
        "all gRPC collectors are killed",
        (*killed("grpc-1"), *killed("grpc-2"), *not_answered("grpc"), *nothing_arrives(*EXITS)),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "grpc-door"}), *both_exit_pages(*EXITS)),
        quiet=("AckedUnaccounted", "RedactionLeak", "MonitorBlind", "BackupGap"),
        fault_seconds=250,
    ),
    Story(
        "the HTTP door hangs, its ports open",
        not_answered("http"),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "http-door"}), Fires("CanarySlow", {"hop": "http-door"}, by=45)),
        quiet=PAGES,
    ),
    Story(
        "the HTTP door hangs and is back: its page goes on until the budget's windows can have joined in, so that it is one",
        not_answered("http"),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "http-door"}, still_after=60, over_after=100),),
        fault_seconds=60,
        after_seconds=100,
    ),
    Story(
        "the key is revoked: everything is refused",
        not_answered("grpc", outcome="rejected"),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "grpc-door"}), Fires("CanarySlow", {"hop": "grpc-door"}, by=45)),
        quiet=PAGES,
    ),
    Story(
        "three times as much as the door takes: two of three are told to come again",
        (
            Change(m.DOOR_EVENTS, {"door": "grpc", "status": "retry"}, Rate(40)),
            Change(m.CANARY_SENT, {"door": "grpc", "outcome": "unanswered"}, Rate(CANARY_RATE * 0.2)),
        ),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "grpc-door"}, by=60, over_after=390),),
        quiet=PAGES,
        after_seconds=390,
        fault_seconds=90,
    ),
)

FOUND: tuple[Story, ...] = (
    Story(
        "the ledger names two lost events",
        found("LOST", "redactor", 2),
        fires=(Fires("AckedUnaccounted", {"hop": "redactor"}),),
        quiet=PAGES,
    ),
    Story(
        "a loss that is named, and then the ledger dies: it is not forgotten",
        (*found("LOST", "rds", after=60), *killed("ledger")),
        fires=(Fires("MonitorBlind", {"watcher": "ledger"}),),
        quiet=("CorruptionDetected", "DuplicatesOverContract", "BackupGap"),
    ),
    Story(
        "an exit holds an event twice",
        found("DOUBLED", "lake"),
        fires=(Fires("DuplicatesOverContract", {"hop": "lake"}),),
        quiet=PAGES,
    ),
    Story(
        "the canary finds its probe twice",
        (canary_verdict("rds", "duplicated"),),
        fires=(Fires("DuplicatesOverContract", {"hop": "rds"}, by=60),),
        quiet=PAGES,
    ),
    Story(
        "the transcoder cuts a field off: the canary names it",
        (canary_verdict("lake", "corrupted"),),
        fires=(Fires("CorruptionDetected", {"hop": "lake"}),),
        quiet=PAGES,
    ),
    Story(
        "a backup object is damaged",
        (Change(m.BACKUP_DAMAGE, {"stream": "events"}, Jump(1)),),
        fires=(Fires("CorruptionDetected", {"hop": "backup"}, by=30),),
        quiet=PAGES,
    ),
    Story(
        "an exit holds what nobody sent",
        found("PHANTOM", "rds", after=60),
        fires=(Fires("CorruptionDetected", {"hop": "rds"}),),
        quiet=PAGES,
    ),
    Story(
        "personal data is found in an exit",
        (convicted("personal_data"),),
        fires=(Fires("RedactionLeak"),),
        quiet=PAGES,
    ),
    Story(
        "a key that was revoked is let in",
        (convicted("refused_keys"),),
        fires=(Fires("PromiseBroken", {"check": "refused_keys"}),),
        quiet=PAGES,
    ),
)

BACKUP: tuple[Story, ...] = (
    Story(
        "Firehose may not write to S3",
        (Change(m.BACKUP_EVENTS, {"stream": "events"}, Rate(0)),),
        fires=(Fires("BackupGap", {"stream": "events"}),),
        quiet=PAGES,
    ),
    Story(
        "the canary's probe of web-events is overdue in the backup",
        (Change(m.CANARY_OVERDUE_EVENTS, {"exit": "web-backup"}, Value(2)),),
        fires=(Fires("BackupGap", {"stream": "web-events"}, by=30),),
        quiet=PAGES,
    ),
    Story(
        "what was delivered is not in the backup: a gap, and no loss",
        found("LOST", "backup", after=60),
        fires=(Fires("BackupGap", {"stream": "events"}),),
        quiet=PAGES,
    ),
)

BLIND: tuple[Story, ...] = (
    Story(
        "Prometheus has lost all its targets",
        (Change(EVERY, {}, GONE),),
        fires=tuple(
            Fires("MonitorBlind", {"watcher": watcher}) for watcher in ("prometheus:targets", "canary", "ledger", "auditor")
        ),
    ),
    Story(
        "a stack that starts: whoever watches comes two minutes later",
        (Change(UP, {"process": "store"}, Value(1)), Change(UP, {"process": "grpc"}, Then((60, GONE), (0, Value(1))))),
        quiet=PAGES,
        before_seconds=0,
        fault_seconds=150,
        calm=(),
    ),
    Story(
        "the canary is killed",
        killed("canary"),
        fires=(Fires("MonitorBlind", {"watcher": "canary"}),),
        quiet=tuple(name for name in PAGES if name != "MonitorBlind"),
    ),
    Story(
        "the ledger can't look",
        (Change(m.LEDGER_SIGHT, {}, Value(0)),),
        fires=(Fires("MonitorBlind", {"watcher": "ledger:sight"}),),
        quiet=PAGES,
    ),
    Story(
        "the ledger judges nothing any more",
        (Change(m.LEDGER_JUDGED_AGE, {}, Climb(250, 1)),),
        fires=(Fires("MonitorBlind", {"watcher": "ledger:sight"}),),
        quiet=PAGES,
    ),
    Story(
        "the canary lives and sends nothing",
        (Change(m.CANARY_SENT, {}, Rate(0)), Change(m.CANARY_SENT, {"outcome": "held_back"}, Rate(0.4))),
        fires=(Fires("MonitorBlind", {"watcher": "canary:sends"}),),
        quiet=PAGES,
    ),
    Story(
        "the auditor is killed: what is in the backup is not known",
        killed("auditor"),
        fires=(Fires("MonitorBlind", {"watcher": "auditor"}),),
        quiet=PAGES,
    ),
    Story(
        "the auditor can't read: objects are there",
        (Change(m.BACKUP_EVENTS, {}, Rate(0)), Change(m.BACKUP_BEHIND_SECONDS, {}, Climb(3, 1))),
        fires=(Fires("MonitorBlind", {"watcher": "auditor:behind"}, by=250),),
        quiet=PAGES,
    ),
    Story(
        "nobody has looked for personal data for 20 minutes",
        (
            Change(m.CANARY_CHECKS, {"check": "personal_data", "verdict": "held"}, Rate(0)),
            Change(m.CANARY_CHECKS, {"check": "personal_data", "verdict": "unknown"}, Rate(1 / 30)),
        ),
        fires=(Fires("MonitorBlind", {"watcher": "canary:personal_data"}, by=1200 + 180),),
        quiet=("RedactionLeak",),
        step_seconds=30,
    ),
)

STORIES: tuple[Story, ...] = (*QUIET, *LOST_OR_SLOW, *DOORS, *FOUND, *BACKUP, *BLIND)
