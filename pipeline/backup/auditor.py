"""`python -m pipeline.backup.auditor`: reads each new object of the backup once, as soon as it is there, and says what it found.

    list what is new ─► read it, every byte ─► count, time, trace ─► remember that it was read

Rules
- A backup that nobody has read is a hope. Everything in an object is an event or damage, and damage is named by key and place.
- It holds nothing up and changes nothing: when it is away, events and their backup go on, and it catches up.
- It starts without the bucket being up (TRAPS 12); a round that fails is counted and tried again, each stream for itself.
- Where it is lies in the bucket (`ledger/auditor/<stream>.json`). After a crash it may read objects again: a span has the same id
  again, and counters are looked at as rates.
- Events that are played again (`spillway replay`) come into the backup with their old accept times, and so look late here.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import ClassVar

import boto3
from botocore.config import Config
from prometheus_client import Counter, Histogram

from pipeline.backup.cursor import SWEEPS, Cursor
from pipeline.backup.objects import NoSuchObject, Objects, S3Objects, Stored
from pipeline.backup.reader import PREFIX, Backup, Damaged, Found
from pipeline.config import Settings, load
from pipeline.errors import Corrupt, Permanent, Retryable, SpillwayError
from pipeline.ledger import recorder
from pipeline.ledger.recorder import Recorder
from pipeline.ledger.tally import Seen, Tally
from pipeline.streams.aws_failures import AwsFailures
from pipeline.tracing import kept_in
from telemetry import metrics as m
from telemetry.log import Logger, configure
from telemetry.metrics import Metrics
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings
from telemetry.tracing import BatchSpan, Trace, Tracer, Value

PART = "auditor"
CURSORS = "ledger/auditor/"
CALLS = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
EXIT_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
# In one round, of one stream; the others wait for the next, and while so many wait nothing is listed.
OBJECTS_MAX = 100
# Longer without a look at the bucket, and it is taken to hold something unread.
LOOK_SECONDS_MAX = 30.0
SHIP_SECONDS_MAX = 1.5


@dataclass(frozen=True, slots=True)
class AuditorSettings:
    SECTION: ClassVar[str] = "auditor"

    round_seconds: float = 2.0
    # The first time ever it begins so far back, and not with the first object that was ever written.
    begin_hours: float = 24.0
    # How often it writes down where it is.
    save_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """A stream, and how its backup is called in traces."""

    stream: str
    hop: str
    parent: str


@dataclass(slots=True)
class _State:
    """Of one stream. Times are seconds since 1970."""

    source: Source
    objects_whole: Counter
    events: Counter
    damage: Counter
    freshness: Histogram
    looked_at: float
    # When the newest object was put; of none that is known, when the auditor began.
    newest_at: float
    cursor: Cursor | None = None
    swept_at: list[float] = field(default_factory=lambda: [float("-inf")] * len(SWEEPS))
    saved_at: float = 0.0
    changed: bool = False
    # What is known and not read, by key.
    unread: dict[str, Stored] = field(default_factory=dict)


class Auditor:
    """Reads the backup of these streams. `bucket` is its name in spans."""

    def __init__(
        self,
        objects: Objects,
        sources: Iterable[Source],
        metrics: Metrics,
        log: Logger,
        tracer: Tracer,
        *,
        bucket: str = "",
        settings: AuditorSettings = AuditorSettings(),
        now_seconds: Callable[[], float] = time.time,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally
        self._objects, self._backup, self._bucket = objects, Backup(objects), bucket
        self._log, self._tracer, self._settings, self._now = log, tracer, settings, now_seconds
        self._failures = metrics.counter(m.BACKUP_AUDIT_FAILURES)
        self._states = [
            _State(
                source,
                metrics.counter(m.BACKUP_OBJECTS, stream=source.stream),
                metrics.counter(m.BACKUP_EVENTS, stream=source.stream),
                metrics.counter(m.BACKUP_DAMAGE, stream=source.stream),
                metrics.histogram(m.BACKUP_FRESHNESS_SECONDS, stream=source.stream),
                looked_at=now_seconds(),
                newest_at=now_seconds(),
            )
            for source in sources
        ]
        for state in self._states:
            gauge = metrics.gauge(m.BACKUP_BEHIND_SECONDS, stream=state.source.stream)
            gauge.set_function(partial(self._behind_seconds, state))
            metrics.gauge(m.BACKUP_NEWEST, stream=state.source.stream).set_function(partial(_newest_at, state))

    def run(self, stopping: threading.Event) -> None:
        """Rounds until told to stop; then where it is is written down."""
        while not stopping.is_set():
            self.round(stopping.is_set)
            stopping.wait(self._settings.round_seconds)
        self.save()

    def round(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Look once, and read what is new. Between objects `stop` is asked."""
        for state in self._states:
            try:
                self._look(state, stop)
                self._save_if_due(state)
            except SpillwayError as exc:
                self._failed(state, "the backup can't be looked at", exc)

    def save(self) -> None:
        for state in self._states:
            try:
                self._save(state)
            except SpillwayError as exc:
                self._failed(state, "the auditor's place can't be written down", exc)

    def _look(self, state: _State, stop: Callable[[], bool]) -> None:
        cursor = state.cursor = state.cursor or self._cursor(state.source)
        if len(state.unread) < OBJECTS_MAX:
            self._list(state, cursor)
        try:
            for stored in sorted(state.unread.values(), key=lambda each: each.modified_at)[:OBJECTS_MAX]:
                if stop():
                    break
                if self._read(state, stored):
                    cursor.read(stored)
                    del state.unread[stored.key]
                    state.changed = True
        finally:
            cursor.advance(state.unread.values())

    def _list(self, state: _State, cursor: Cursor) -> None:
        now = self._now()
        due = (n for n, sweep in enumerate(SWEEPS) if now - state.swept_at[n] >= sweep.every_seconds)
        number = next(due, len(SWEEPS) - 1)  # a clock may be set back
        after = cursor.list_after(SWEEPS[number].back, datetime.fromtimestamp(now, UTC))
        for stored in cursor.unread(self._objects.list(cursor.prefix, after)):
            state.unread[stored.key] = stored
            state.newest_at = max(state.newest_at, stored.modified_at.timestamp())
        state.looked_at = now
        state.swept_at[number:] = [now] * (len(SWEEPS) - number)  # a deep one does what a shallow one does

    def _read(self, state: _State, stored: Stored) -> bool:
        """Whether there is nothing more to be read in it."""
        try:
            self._audit(state, stored)
        except NoSuchObject:
            self._log.warning("a backup object went before it was read", stream=state.source.stream, key=stored.key)
            self._failures.inc()
        except Retryable:
            raise  # the bucket is away: so are the others
        except Exception as exc:  # noqa: BLE001 - one object that breaks the reader must not hide the others; it stays unread, and says so
            self._failed(state, "a backup object can't be read", exc, key=stored.key)
            return False
        return True

    def _audit(self, state: _State, stored: Stored) -> None:
        source, put_at = state.source, stored.modified_at.timestamp()
        events = damaged = 0
        kept: list[tuple[Found, int, Trace]] = []
        seen: list[Seen] = []
        for part in self._backup.read(stored.key):
            if isinstance(part, Damaged):
                damaged += 1
                self._say_damage(source, part)
                continue
            events += len(part.batch.events)
            seen.append(Seen.of(part.batch, part.payload))
            traced = kept_in(self._tracer, part.payload, part.batch)
            kept += [(part, index, trace) for index, trace in traced]
            fresh_seconds = max(0.0, put_at - part.batch.accepted_at_unix_micros / 1e6)
            state.freshness.observe(fresh_seconds, {"trace_id": traced[0][1].hex_id} if traced else None)
        if kept or damaged:
            self._say_spans(source, stored, events, damaged, kept)
        if self._tally is not None:
            self._tally.note_seen(f"{source.hop}:read", seen)
        state.events.inc(events)
        state.damage.inc(damaged)
        if not damaged:
            state.objects_whole.inc()

    def _say_damage(self, source: Source, damage: Damaged) -> None:
        self._log.error(
            "backup damaged", hop=source.hop, stream=source.stream, key=damage.key,
            offset=damage.start, end=damage.end, compressed=damage.compressed, detail=damage.reason,
        )  # fmt: skip

    def _say_spans(self, source: Source, stored: Stored, events: int, damaged: int, kept: list[tuple[Found, int, Trace]]) -> None:
        put_ns = int(stored.modified_at.timestamp() * 1e9)
        where: dict[str, Value] = {"aws.s3.bucket": self._bucket, "aws.s3.key": stored.key}
        if not kept and not self._tracer.may_emit_unplanned():
            return
        began_ns = min((found.batch.accepted_at_unix_micros * 1_000 for found, _, _ in kept), default=put_ns)
        batch_span = self._tracer.batch(
            f"process {PREFIX}{source.stream}", source.hop, began_ns, put_ns,
            members=[trace for _, _, trace in kept],
            attributes={**where, "messaging.batch.message_count": events, "spillway.backup.damaged": damaged},
            error="damaged" if damaged else "",
        )  # fmt: skip
        for found, index, trace in kept:
            self._say_event(source, found, index, trace, put_ns, where, batch_span)

    def _say_event(
        self, source: Source, found: Found, index: int, trace: Trace, put_ns: int, where: Mapping[str, Value],
        batch_span: BatchSpan | None,
    ) -> None:  # fmt: skip
        batch, event = found.batch, found.batch.events[index]
        attributes: dict[str, Value] = {
            **where,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": source.stream,
            "messaging.message.id": event.id,
            "cloudevents.event_type": event.type,
            "spillway.tenant": batch.tenant,
            "spillway.backup.offset": found.place.offset,
            "spillway.backup.index": index,
        }
        self._tracer.event(
            trace, source.hop, batch.accepted_at_unix_micros * 1_000, put_ns,
            parent=source.parent, name=f"process {PREFIX}{source.stream}", attributes=attributes, batch=batch_span,
        )  # fmt: skip

    def _behind_seconds(self, state: _State) -> float:
        now = self._now()
        blind_seconds = now - state.looked_at
        oldest_at = min((stored.modified_at.timestamp() for stored in list(state.unread.values())), default=now)
        known_seconds = max(0.0, now - oldest_at)
        return max(known_seconds, blind_seconds if blind_seconds > LOOK_SECONDS_MAX else 0.0)

    def _cursor(self, source: Source) -> Cursor:
        prefix = f"{PREFIX}{source.stream}/"
        begin = datetime.fromtimestamp(self._now(), UTC) - timedelta(hours=self._settings.begin_hours)
        try:
            return Cursor.from_json(prefix, self._objects.get(_cursor_key(source)))
        except NoSuchObject:
            return Cursor(prefix, begin)
        except Corrupt as exc:
            self._log.warning("the auditor begins anew", stream=source.stream, detail=str(exc))
            return Cursor(prefix, begin)

    def _save_if_due(self, state: _State) -> None:
        if self._now() - state.saved_at >= self._settings.save_seconds:
            self._save(state)

    def _save(self, state: _State) -> None:
        if state.cursor is not None and state.changed:
            self._objects.put(_cursor_key(state.source), state.cursor.to_json(), {})
            state.saved_at, state.changed = self._now(), False

    def _failed(self, state: _State, what: str, exc: Exception, key: str = "") -> None:
        self._failures.inc()
        text = f"{type(exc).__name__}: {exc}" if isinstance(exc, SpillwayError) else type(exc).__name__
        self._log.warning(what, hop=state.source.hop, stream=state.source.stream, key=key, detail=text)


def _newest_at(state: _State) -> float:
    return state.newest_at


def _cursor_key(source: Source) -> str:
    return f"{CURSORS}{source.stream}.json"


def sources(settings: Settings) -> tuple[Source, ...]:
    return (
        Source(settings.web_stream, "backup/web-events", "http-door"),
        Source(settings.events_stream, "backup", "grpc-door"),
    )


def run() -> int:
    """Be the auditor until told to stop; return the exit code."""
    log, telemetry = configure(PART, scrub=mask), None
    try:
        settings, own, telling = load(Settings), load(AuditorSettings), load(TelemetrySettings)
        worker = settings.worker or f"{PART}-{os.getpid()}"
        telemetry = Telemetry.begin(PART, worker, telling, health_port=settings.health_port, scrub=mask)
        log = telemetry.log
        _serve(telemetry, settings, own)
    except Permanent as exc:
        log.error("refused to run", kind=type(exc).__name__, detail=str(exc))
        print(f"{PART}: {exc}", file=sys.stderr)
        return EXIT_CONFIGURATION
    finally:
        if telemetry is not None:
            telemetry.end(SHIP_SECONDS_MAX)
    return 0


def _serve(telemetry: Telemetry, settings: Settings, own: AuditorSettings) -> None:
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        telemetry.set_ready(False)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    aws = AwsFailures(telemetry.metrics, ("s3",))
    objects = S3Objects(aws.watched(boto3.client("s3", region_name=settings.region, config=CALLS)), settings.bucket)
    bucket = S3Objects(aws.watched(boto3.client("s3", region_name=settings.region, config=recorder.CALLS)), settings.bucket)
    ledger = Recorder.begin(PART, telemetry.worker, bucket, telemetry.metrics, telemetry.log)
    auditor = Auditor(
        objects, sources(settings), telemetry.metrics, telemetry.log, telemetry.tracer, bucket=settings.bucket, settings=own,
        tally=ledger.tally,
    )  # fmt: skip
    telemetry.set_ready(True)
    telemetry.log.info("started", health_port=telemetry.health.port if telemetry.health else None)
    auditor.run(stopping)
    ledger.end()
    telemetry.log.info("stopped", drained=True)


if __name__ == "__main__":
    sys.exit(run())
