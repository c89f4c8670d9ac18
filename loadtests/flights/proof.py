"""One run, proved: flights in at both doors, every acknowledged event looked for at every exit, every plane's state compared.

The exits are watched from before the first event on, by threads of their own, so that freshness is what an onlooker
measures: from the first attempt to send an event to the first look that shows it. The verdict comes from one last whole look
at each exit. What could not be read is UNKNOWN, and UNKNOWN is not good.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import boto3
import psycopg
import redis

from canary.books import Books
from canary.exits import BackupExit, Exit, LakeExit, RdsExit, RedisExit, Watcher, percentile
from canary.reconcile import Reconciliation, Verdict, reconcile
from loadtests import marks
from loadtests.flights.dataset import Flight
from loadtests.flights.events import SOURCE, FlightEvent, by_door
from loadtests.flights.expected import current_state
from loadtests.flights.replay import Doors, replay
from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.etl.fold import Order
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings
from pipeline.event import event_key, micros
from pipeline.schema.registry import Registry
from pipeline.sdk.telemetry import Reports

ENTITY = "plane"
LOOK_SECONDS = 0.5
MARKS_SECONDS = 120.0
# The backup may hold an event twice: Firehose promises no more than at least once.
AT_LEAST_ONCE_EXITS = frozenset({"backup"})


@dataclass(frozen=True, slots=True)
class ExitResult:
    name: str
    # None: the exit could not be read in the end.
    reconciliation: Reconciliation[str] | None
    # Events that were at the exit before this run sent them: of an earlier run.
    known_before: int
    freshness_seconds_p50: float | None
    freshness_seconds_p99: float | None
    blind: str | None = None

    @property
    def verdict(self) -> Verdict:
        if self.reconciliation is None:
            return Verdict.UNKNOWN
        found = self.reconciliation.verdict
        return Verdict.OK if found is Verdict.DOUBLED and self.name in AT_LEAST_ONCE_EXITS else found


@dataclass(frozen=True, slots=True)
class StateResult:
    """Current state at one exit against the oracle, attribute by attribute."""

    name: str
    expected: int
    equal: int
    # "(subject, attribute): expected, found", at most ten.
    examples: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.expected > 0 and self.equal == self.expected


@dataclass(frozen=True, slots=True)
class Proof:
    flights: int
    sent: int
    acknowledged: int
    refused: Mapping[str, str]
    send_seconds: float
    exits: tuple[ExitResult, ...]
    states: tuple[StateResult, ...]
    # Why nothing can be said of duplicates that may still be on their way; None if all that was sent has been seen.
    unsettled: str | None = None

    @property
    def holds(self) -> bool:
        everything_taken = self.acknowledged == self.sent and not self.refused and self.unsettled is None
        return everything_taken and all(e.verdict is Verdict.OK for e in self.exits) and all(s.holds for s in self.states)


@dataclass(frozen=True, slots=True)
class Target:
    """A stack and who sends to it. `env` is what the stack tells its clients."""

    env: Mapping[str, str]
    doors: Doors
    tenant: str
    # Of the SDK that sends; None: what the environment says.
    telemetry: Reports | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    # Events that are to be sent in all.
    total: int
    sent: int
    answered: int
    # Exit to how many events have been seen there.
    seen: Mapping[str, int]
    blind: Mapping[str, str]


Show = Callable[[Progress], None]


def prove(
    flights: Iterable[Flight],
    target: Target,
    *,
    events_per_second: float | None = None,
    deadline_seconds: float = 300.0,
    on_progress: Show = lambda _: None,
) -> Proof:
    """Send, watch until all is there or `deadline_seconds` after the last answer, let what is on its way arrive, and judge.

    An exit that is down is a finding, not an error: it comes back as UNKNOWN beside what the others hold.
    """
    flights = list(flights)
    events = list(by_door(flights))
    watchers = [Watcher(exit) for exit in exits_of(target, [event for _, event in events])]
    stop = threading.Event()
    threads = [threading.Thread(target=_watch, args=(watcher, stop), daemon=True, name=watcher.exit.name) for watcher in watchers]
    for watcher in watchers:
        watcher.look()
    for thread in threads:
        thread.start()
    try:
        start = time.monotonic()

        def show(books: Books) -> None:
            on_progress(_progress(len(events), books, watchers))

        books = replay(events, target.doors, events_per_second=events_per_second, telemetry=target.telemetry, on_progress=show)
        send_seconds = time.monotonic() - start
        deadline = time.monotonic() + deadline_seconds
        while any(watcher.missing(books.acknowledged) for watcher in watchers) and time.monotonic() < deadline:
            show(books)
            time.sleep(LOOK_SECONDS)
        show(books)
        unsettled = _let_duplicates_arrive(target, MARKS_SECONDS)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    return Proof(
        flights=len(flights),
        sent=len(events),
        acknowledged=len(books.acknowledged),
        refused=books.refused,
        send_seconds=send_seconds,
        exits=tuple(judge(watcher, books) for watcher in watchers),
        states=tuple(compare_states(current_state(flights), target)),
        unsettled=unsettled,
    )


def _let_duplicates_arrive(target: Target, deadline_seconds: float) -> str | None:
    """A second copy comes later than the first: wait until all that was sent has been seen by both exits, or say why not."""
    exits = (
        LakeExit(_lake(target), target.tenant, marks.SOURCE),
        RdsExit(target.env["SPILLWAY_RDS_URL"], target.tenant, marks.SOURCE),
    )
    try:
        ids = marks.send(target.doors, load(Settings, target.env).slices, deadline_seconds=deadline_seconds)
        for exit in exits:
            marks.wait(ids, exit, deadline_seconds=deadline_seconds)
    except Exception as exc:  # noqa: BLE001 - shown, and the run does not hold
        return f"{type(exc).__name__}: {exc}"
    return None


def _lake(target: Target) -> Lake:
    settings = load(Settings, target.env)
    return Lake(load(EtlSettings, target.env).lake(settings), settings.region)


def _watch(watcher: Watcher, stop: threading.Event) -> None:
    """Look again and again, at most a quarter of the time: the onlooker must not slow down what it looks at."""
    while not stop.is_set():
        start = time.monotonic()
        watcher.look()
        stop.wait(max(LOOK_SECONDS, 3 * (time.monotonic() - start)))


def _progress(total: int, books: Books, watchers: Sequence[Watcher]) -> Progress:
    return Progress(
        total=total,
        sent=len(books.attempted),
        answered=books.answered,
        seen={watcher.exit.name: len(watcher.first_seen) for watcher in watchers},
        blind={watcher.exit.name: watcher.blind for watcher in watchers if watcher.blind},
    )


def judge(watcher: Watcher, books: Books) -> ExitResult:
    waits = [watcher.first_seen[id] - books.attempted[id] for id in books.acknowledged if id in watcher.first_seen]
    fresh = [wait for wait in waits if wait > 0]
    try:
        found = reconcile(books.attempted, books.acknowledged, watcher.exit.observed())
        blind = None
    except Exception as exc:  # noqa: BLE001 - shown; an exit that can't be read is UNKNOWN
        found, blind = None, f"{type(exc).__name__}: {exc}"
    return ExitResult(watcher.exit.name, found, len(waits) - len(fresh), percentile(fresh, 0.5), percentile(fresh, 0.99), blind)


def exits_of(target: Target, events: list[FlightEvent]) -> list[Exit]:
    """The four places where an event must end up. boto3 and the lake find AWS in the environment of this process."""
    env, tenant = target.env, target.tenant
    settings = load(Settings, env)
    return [
        LakeExit(_lake(target), tenant, SOURCE),
        RdsExit(env["SPILLWAY_RDS_URL"], tenant, SOURCE),
        RedisExit(env["SPILLWAY_REDIS_URL"], tenant, ENTITY, _statements(events, tenant)),
        BackupExit(
            Backup(S3Objects(boto3.client("s3", region_name=settings.region), settings.bucket)),
            settings.events_stream,
            tenant,
            SOURCE,
        ),
    ]


def _statements(events: list[FlightEvent], tenant: str) -> dict[str, list[tuple[str, str, str]]]:
    """What each event must have said of its plane: (subject, attribute, order token)."""
    registry = Registry.load()
    found = {}
    for event in events:
        token = Order(micros(event.time), event.id.encode(), event_key(tenant, SOURCE, event.id)).token()
        found[event.id] = [(event.subject, rule.attribute, token) for rule in registry.find(event.type).state_rules]
    return found


def compare_states(expected: Mapping[tuple[str, str], str], target: Target) -> Iterable[StateResult]:
    """Row for row: every (plane, attribute) that is expected or found, in RDS and in Redis."""
    for name, read in (("rds", _rds_state), ("redis", _redis_state)):
        try:
            found = read(target)
        except Exception as exc:  # noqa: BLE001 - shown; a state that can't be read holds nothing
            yield StateResult(name, 0, 0, (f"could not be read: {type(exc).__name__}: {exc}",))
        else:
            yield _compare(name, expected, found)


def _compare(name: str, expected: Mapping[tuple[str, str], str], found: Mapping[tuple[str, str], str]) -> StateResult:
    differing = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    examples = tuple(f"{key}: {expected.get(key)!r} expected, {found.get(key)!r} found" for key in sorted(differing)[:10])
    total = len(expected.keys() | found.keys())
    return StateResult(name, total, total - len(differing), examples)


def _rds_state(target: Target) -> dict[tuple[str, str], str]:
    with psycopg.connect(target.env["SPILLWAY_RDS_URL"], connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT subject, key, value FROM current_state, jsonb_each_text(state) WHERE tenant = %s AND entity = %s",
            (target.tenant, ENTITY),
        )
        return {(subject, attribute): value for subject, attribute, value in rows}


def _redis_state(target: Target) -> dict[tuple[str, str], str]:
    client = redis.Redis.from_url(target.env["SPILLWAY_REDIS_URL"], socket_timeout=10, decode_responses=True)
    prefix = f"state:{target.tenant}:{ENTITY}:"
    try:
        keys = list(client.scan_iter(match=f"{prefix}*", count=1000))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            hashes = zip(keys, pipe.execute(), strict=True)
        return {
            (key.removeprefix(prefix), attribute): value
            for key, fields in hashes
            for attribute, value in fields.items()
            if not attribute.startswith("@")
        }
    finally:
        client.close()
