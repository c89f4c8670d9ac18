"""Events on their way, as the pipeline's processes would tell them: spans and log lines by the real tracer and senders.

A `Course` says how long each hop took with one event and how it ended. `Teller.tell` emits what every process would have said of
it, and returns what the histograms saw, so that an exemplar of the stand-in leads to a trace that is there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from telemetry import metrics as m
from telemetry.metrics import Metric
from telemetry.otlp import LogLine, log_sender, span_sender
from telemetry.tracing import BatchSpan, Trace, Tracer, Value, trace_of

SHIP_SECONDS_MAX = 10.0
SHARD = "shardId-000000000001"
WORKERS = {
    "sdk": "shop-backend-1",
    "http": "http-1",
    "transcoder": "transcoder-1",
    "grpc": "grpc-1",
    "redactor": "redactor-1",
    "etl": "etl-1",
    "auditor": "auditor-1",
}
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Course:
    """What happened to one event; all times in seconds."""

    id: str
    source: str = "/shop/checkout"
    type: str = "spillway.events.v1.OrderPlaced"
    tenant: str = "acme"
    traceparent: str = ""
    by_http: bool = False
    door_seconds: float = 0.018
    write_seconds: float = 0.011
    stream_seconds: float = 0.12
    redact_seconds: float = 0.014
    clean_seconds: float = 0.9
    load_seconds: float = 2.2
    backup_seconds: float = 60.0
    # Where and why it ended early: "grpc-door" (rejected), "redactor" or "lake" (dead letter).
    ended_at: str = ""
    reason: str = ""
    # The redactor had said nothing: its span is rebuilt from the event's times.
    rebuilt: bool = False
    # More attributes of the redactor's span.
    more: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A course that was told: its trace, and what the histograms saw of it."""

    trace_id: str
    observed: tuple[tuple[Metric, Mapping[str, str], float], ...] = ()


class Teller:
    """All processes of a pipeline in one."""

    def __init__(self, store_url: str) -> None:
        self._spans: list[ReadableSpan] = []
        self._tracers = {part: Tracer(part, worker, self._spans.append) for part, worker in WORKERS.items()}
        self._send_spans = span_sender(store_url, SHIP_SECONDS_MAX)
        self._send_lines = {part: log_sender(store_url, SHIP_SECONDS_MAX, part, worker) for part, worker in WORKERS.items()}

    def tell(self, course: Course, began: float | None = None) -> Told:
        """Emit the spans and lines of this course. `began` is when the door answered; by default so that all of it is past."""
        past = 1.0 + _seconds_to_last_exit(course)
        told = _Telling(self._tracers, course, time.time() - past if began is None else began).told()
        assert self._send_spans(self._spans), "the store did not take the spans"
        self._spans.clear()
        for part, lines in told.lines.items():
            assert self._send_lines[part](lines), "the store did not take the lines"
        return Told(told.trace.hex_id, tuple(told.observed))


def _seconds_to_last_exit(course: Course) -> float:
    on_the_way = course.stream_seconds * (2 if course.by_http else 1) + course.redact_seconds + course.clean_seconds
    return max(on_the_way + course.load_seconds, course.backup_seconds)


class _Telling:
    """One course, hop after hop; `at_ns` is how far it has come."""

    def __init__(self, tracers: Mapping[str, Tracer], course: Course, began: float) -> None:
        self._tracers, self._course = tracers, course
        self.trace: Trace = trace_of(course.source, course.id, course.traceparent)
        self.lines: dict[str, list[LogLine]] = {}
        self.observed: list[tuple[Metric, Mapping[str, str], float]] = []
        self._accepted_ns = self._at_ns = int(began * NS)
        self._written_ns = 0

    def told(self) -> "_Telling":
        course = self._course
        if course.by_http:
            self._door("http", parent="")
            self._worker("transcoder", "web-events", "http-door", course.redact_seconds)
            self._door("grpc", parent="transcoder")
        else:
            self._sdk()
            self._door("grpc", parent="sdk")
        if course.ended_at == "grpc-door":
            return self
        self._backup()
        self._worker("redactor", "events", "grpc-door", course.redact_seconds)
        if course.ended_at != "redactor":
            for exit, share in (("redis", 0.3), ("rds", 0.6), ("lake", 1.0)):
                self._exit(exit, share)
        return self

    def _sdk(self) -> None:
        seconds = self._course.door_seconds * 1.4
        began_ns = self._accepted_ns - int(seconds * 0.2 * NS)
        self._event("sdk", "sdk", began_ns, began_ns + int(seconds * NS), name="send", kind=SpanKind.PRODUCER,
                    attributes={"spillway.outcome": "accepted"})  # fmt: skip
        self.observed.append((m.SDK_SEND_SECONDS, {}, seconds))

    def _door(self, door: str, parent: str) -> None:
        course, hop, stream = self._course, f"{door}-door", "web-events" if door == "http" else "events"
        ended = course.ended_at == hop
        began_ns, ended_ns = self._at_ns, self._at_ns + int(course.door_seconds * NS)
        batch = self._tracers[door].batch(
            f"accept {stream}", hop, began_ns, ended_ns, members=[self.trace], kind=SpanKind.SERVER,
            attributes={"messaging.batch.message_count": 100, "spillway.tenant": course.tenant},
        )  # fmt: skip
        said: dict[str, Value] = {"spillway.door.status": "rejected" if ended else "accepted"}
        if ended:
            said |= {"spillway.final": "rejected", "spillway.reason": course.reason}
            self._line(door, began_ns, "warning", "event rejected", reason=course.reason, tenant=course.tenant)
        self._event(
            door, hop, began_ns, ended_ns, parent=parent, name=f"accept {stream}", kind=SpanKind.SERVER,
            attributes=self._messaging(stream, "accept") | said, batch=batch, error=course.reason if ended else "",
        )  # fmt: skip
        self.observed.append((m.DOOR_REQUEST_SECONDS, {"door": door}, course.door_seconds))
        if course.door_seconds > 0.5:
            self._line(door, ended_ns, "warning", "slow request", seconds=round(course.door_seconds, 3), events=100)
        if not ended:
            self._write(door, hop, stream, began_ns + int(0.2 * course.door_seconds * NS))
        self._at_ns = ended_ns

    def _write(self, part: str, hop: str, stream: str, began_ns: int) -> None:
        self._written_ns = began_ns + int(self._course.write_seconds * NS)
        self._event(part, f"{hop}/write", began_ns, self._written_ns, parent=hop, name=f"send {stream}", kind=SpanKind.PRODUCER,
                    attributes=self._messaging(stream, "PutRecords") | {"spillway.attempts": 1})  # fmt: skip
        self.observed.append((m.KINESIS_WRITE_SECONDS, {"stream": stream}, self._course.write_seconds))

    def _worker(self, part: str, stream: str, parent: str, seconds: float) -> None:
        course, waited = self._course, self._course.stream_seconds
        began_ns = self._at_ns + int(waited * NS)
        ended_ns = began_ns + int(seconds * NS)
        dead = course.ended_at == part
        said: dict[str, Value] = {"spillway.waited_seconds": waited, **course.more}
        if course.rebuilt:
            said["spillway.rebuilt"] = True
        if dead:
            key = f"dead-letters/{part}/{course.reason}/2026/11/25/{course.id[:8]}"
            said |= {"spillway.final": "dead_letter", "spillway.reason": course.reason, "spillway.dead_letter.key": key}
            self._line(part, ended_ns, "warning", "an event went to the dead letters", reason=course.reason, key=key,
                       shard_id=SHARD, tenant=course.tenant)  # fmt: skip
        self._event(part, part, began_ns, ended_ns, parent=parent, name=f"process {stream}",
                    attributes=self._messaging(stream, "process") | said, error=course.reason if dead else "")  # fmt: skip
        self.observed.append((m.CONSUMER_PROCESS_SECONDS, {"part": part}, seconds))
        self.observed.append((m.CONSUMER_WAIT_SECONDS, {"part": part}, waited))
        if seconds > 1.0:
            self._line(
                part, ended_ns, "warning", "a delivery took long", seconds=round(seconds, 3), stream=stream, shard_id=SHARD
            )
        if part == "redactor" and not dead:
            self._write(part, part, "events-clean", ended_ns - int(seconds / 2 * NS))
        self._at_ns = ended_ns

    def _exit(self, exit: str, share: float) -> None:
        course = self._course
        began_ns = self._at_ns + int(course.clean_seconds * NS)
        ended_ns = began_ns + int(course.load_seconds * share * NS)
        dead = course.ended_at == exit
        freshness = (ended_ns - self._accepted_ns) / NS
        said: dict[str, Value] = {"spillway.waited_seconds": course.clean_seconds, "spillway.etl.batch": 4711}
        if dead:
            said |= {"spillway.final": "dead_letter", "spillway.reason": course.reason}
            self._line("etl", ended_ns, "warning", "an event went to the dead letters", reason=course.reason, batch=4711)
        else:
            said |= {"spillway.outcome": "loaded", "spillway.freshness_seconds": freshness}
            self.observed.append((m.ETL_FRESHNESS_SECONDS, {"exit": exit}, freshness))
            self.observed.append((m.ETL_BATCH_SECONDS, {"exit": exit}, course.load_seconds * share))
        self._event(
            "etl", exit, began_ns, ended_ns, parent="redactor", name="process events-clean",
            attributes=self._messaging("events-clean", "process") | said, error=course.reason if dead else "",
        )  # fmt: skip
        if course.load_seconds > 10.0 and exit == "lake":
            self._line("etl", ended_ns, "warning", "a micro-batch took long", exit=exit, seconds=round(course.load_seconds, 1),
                       batch=4711, rows=18_214)  # fmt: skip
        if exit == "lake" and not dead:
            staged_ns = began_ns + (ended_ns - began_ns) * 3 // 5
            self._event("etl", "lake/stage", began_ns, staged_ns, parent="lake", name="stage Parquet", kind=SpanKind.INTERNAL)
            self._event("etl", "lake/commit", staged_ns, ended_ns, parent="lake", name="commit Delta", kind=SpanKind.CLIENT,
                        attributes={"spillway.lake.version": 128})  # fmt: skip

    def _backup(self) -> None:
        ended_ns = self._accepted_ns + int(self._course.backup_seconds * NS)
        said: dict[str, Value] = {"aws.s3.bucket": "spillway", "aws.s3.key": "backup/events/2026/11/25/21/events-1-0007.gz"}
        self._event("auditor", "backup", self._accepted_ns, ended_ns, parent="grpc-door", name="process backup/events",
                    attributes=said | {"spillway.tenant": self._course.tenant})  # fmt: skip
        self.observed.append((m.BACKUP_FRESHNESS_SECONDS, {"stream": "events"}, self._course.backup_seconds))

    # -- in the words of the tracer and of the log

    def _event(
        self, part: str, hop: str, began_ns: int, ended_ns: int, *, parent: str = "", name: str,
        kind: SpanKind = SpanKind.CONSUMER, attributes: Mapping[str, Value] | None = None, batch: BatchSpan | None = None,
        error: str = "",
    ) -> None:  # fmt: skip
        self._tracers[part].event(
            self.trace,
            hop,
            began_ns,
            ended_ns,
            parent=parent,
            name=name,
            kind=kind,
            attributes=attributes,
            batch=batch,
            error=error,
        )

    def _messaging(self, stream: str, operation: str) -> dict[str, Value]:
        return {
            "messaging.system": "aws_kinesis",
            "messaging.operation.name": operation,
            "messaging.destination.name": stream,
            "messaging.destination.partition.id": SHARD,
            "messaging.message.id": self._course.id,
            "cloudevents.event_type": self._course.type,
            "spillway.tenant": self._course.tenant,
        }

    def _line(self, part: str, at_ns: int, level: str, event: str, **fields: object) -> None:
        said = {"part": part, "worker": WORKERS[part], "event_id": self._course.id, **fields}
        self.lines.setdefault(part, []).append(LogLine(at_ns, level, event, self.trace.hex_id, said))


def by_metric(told: Sequence[Told]) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, str]]]:
    """(metric, labels) -> the (value, trace id) that it saw."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, str]]] = {}
    for each in told:
        for metric, labels, value in each.observed:
            found.setdefault((metric.name, tuple(sorted(labels.items()))), []).append((value, each.trace_id))
    return found
