"""What a worker says about each delivery: two histograms, and the spans of the events that are traced.

    with hop.delivery(records) as delivery:
        kept = delivery.opened(record, batch)      for each batch, on whatever thread
        delivery.settled(kept, time.time_ns())     when its events were done with, if that is before the delivery's end
        delivery.wrote(kept_event, written, ...)   where this hop wrote it, if it did
        delivery.dead(letters)                     once they are stored

Rules
- For an event that is not traced nothing is done beyond the decision, which is made over its batch's bytes.
- Nothing is said of an event before its delivery is done: one that fails is tried again, and only its batch's span tells.
- An event's span reaches from the delivery's arrival to when the event was done with; how long it lay in the stream before is
  `spillway.waited_seconds`.
- An event that became a dead letter has `spillway.final`: no later hop will see it. If it was not to be traced, it is now, as are
  the first events of a delivery that took too long; both within the tracer's bound.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from opentelemetry.trace import SpanKind

from pipeline.consumer.batches import open_batch
from pipeline.dead_letters.letters import Letter, key_of, word
from pipeline.errors import Corrupt, SpillwayError
from pipeline.event import StoredRecord
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.streams.sink import Written
from pipeline.tracing import kept_in, unplanned
from telemetry.hops import BY_NAME
from telemetry.metrics import CONSUMER_PROCESS_SECONDS, CONSUMER_WAIT_SECONDS, Metrics
from telemetry.tracing import MESSAGING_SYSTEM, BatchSpan, Trace, Tracer, Value

# Events of one delivery that was too slow, and of one record that was buried whole, that are traced though nobody asked.
UNPLANNED_MAX = 8


@dataclass(eq=False, slots=True)
class Kept:
    """One event of a delivery that is traced. `ended_ns` 0: done with when its delivery was."""

    trace: Trace
    record: StoredRecord
    batch: StoredBatch
    index: int
    ended_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Write:
    kept: Kept
    stream: str
    written: Written
    began_ns: int
    ended_ns: int


class HopTelemetry:
    """What one part's processor says. `part` is the hop's name."""

    def __init__(self, part: str, metrics: Metrics, tracer: Tracer, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.part, self.tracer, self.clock_ns = part, tracer, clock_ns
        self.parent = BY_NAME[part].after[0]
        self.process_seconds = metrics.histogram(CONSUMER_PROCESS_SECONDS, part=part)
        self.wait_seconds = metrics.histogram(CONSUMER_WAIT_SECONDS, part=part)

    def delivery(self, records: Sequence[StoredRecord]) -> "DeliveryTelemetry":
        return DeliveryTelemetry(self, records, self.clock_ns())

    def buried(self, record: StoredRecord, reason: str, letter_key: str) -> None:
        """A whole record became one dead letter: the end of every event in it, if it can be opened."""
        if not self.tracer.on:
            return
        try:
            batch = open_batch(record)
        except Corrupt:
            return
        delivery = self.delivery([record])
        kept = delivery.opened(record, batch)
        traced = {each.index for each in kept}
        others = [index for index in range(len(batch.events)) if index not in traced][:UNPLANNED_MAX]
        for each in [*kept, *delivery.unplanned(record, batch, others)]:
            delivery.say_dead(each, reason, letter_key, None, delivery.began_ns)


@dataclass(slots=True)
class DeliveryTelemetry:
    """One delivery on its way through this hop; as a context manager it says at the end what there is to say."""

    hop: HopTelemetry
    records: Sequence[StoredRecord]
    began_ns: int
    kept: list[Kept] = field(default_factory=list)
    _events: int = 0
    _writes: list[_Write] = field(default_factory=list)
    _letters: list[Letter] = field(default_factory=list)

    def opened(self, record: StoredRecord, batch: StoredBatch) -> list[Kept]:
        """The events of this batch that are traced. From any thread."""
        self._events += len(batch.events)  # an attribute of a span, nothing is decided by it
        kept = [Kept(trace, record, batch, index) for index, trace in kept_in(self.hop.tracer, record.data, batch)]
        self.kept += kept
        return kept

    def settled(self, kept: Iterable[Kept], ended_ns: int) -> None:
        for each in kept:
            each.ended_ns = ended_ns

    def wrote(self, kept: Kept, stream: str, written: Written, began_ns: int, ended_ns: int) -> None:
        """This hop wrote the event to a stream, in the record that `written` names."""
        self._writes.append(_Write(kept, stream, written, began_ns, ended_ns))

    def dead(self, letters: Iterable[Letter]) -> None:
        """These are stored as dead letters."""
        self._letters += letters

    def __enter__(self) -> "DeliveryTelemetry":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        ended_ns = self.hop.clock_ns()
        seconds = (ended_ns - self.began_ns) / 1e9
        if exc is None:
            self._observe(seconds)
        if self.hop.tracer.on:
            slow = seconds > self.hop.tracer.slow_seconds
            batch_span = self._say_batch(ended_ns, _text(exc), slow)
            if exc is None:
                self._say_events(batch_span, ended_ns, slow)

    def _observe(self, seconds: float) -> None:
        traced = {id(each.record): {"trace_id": each.trace.hex_id} for each in self.kept}
        self.hop.process_seconds.observe(seconds, next(iter(traced.values()), None))
        for record in self.records:
            self.hop.wait_seconds.observe(self._waited_seconds(record), traced.get(id(record)) if traced else None)

    def _waited_seconds(self, record: StoredRecord) -> float:
        return max(0.0, self.began_ns / 1e9 - record.arrived_at_unix_micros / 1e6)

    def _say_batch(self, ended_ns: int, error: str, slow: bool) -> BatchSpan | None:
        """A span for what holds traced events, and, within the bound, for what failed or was slow."""
        hop = self.hop
        if not self.records or not (self.kept or ((error or slow) and hop.tracer.may_emit_unplanned())):
            return None
        first, last = self.records[0], self.records[-1]
        attributes: dict[str, Value] = {
            **_process(first),
            "messaging.batch.message_count": self._events,
            "spillway.batch.records": len(self.records),
            "spillway.batch.last_sequence_number": last.sequence_number,
            "spillway.waited_seconds": self._waited_seconds(first),
        }
        return hop.tracer.batch(
            f"process {first.stream}", hop.part, self.began_ns, ended_ns,
            members=[each.trace for each in self.kept], attributes=attributes, error=error,
        )  # fmt: skip

    def _say_events(self, batch_span: BatchSpan | None, ended_ns: int, slow: bool) -> None:
        letters = {(letter.record.sequence_number, letter.index): letter for letter in self._letters if letter.original}
        for each in self.kept:
            letter = letters.pop((each.record.sequence_number, each.index), None) if letters else None
            if letter is None:
                self._say(each, batch_span, each.ended_ns or ended_ns, {"spillway.slow": True} if slow else {})
            else:
                self.say_dead(each, word(letter.reason), key_of(letter), batch_span, ended_ns)
        for letter in letters.values():
            if letter.original is not None:
                for each in self.unplanned(letter.record, letter.original, [0]):
                    self.say_dead(each, word(letter.reason), key_of(letter), batch_span, ended_ns)
        for write in self._writes:
            self._say_write(write)
        if slow and not self.kept:
            self._say_slow(batch_span, ended_ns)

    def _say_slow(self, batch_span: BatchSpan | None, ended_ns: int) -> None:
        """The first events of a slow delivery in which none was to be traced. Opened once more: it is seldom."""
        dead = {(letter.record.sequence_number, letter.index) for letter in self._letters}
        for record in self.records[:1]:
            try:
                batch = open_batch(record)
            except Corrupt:
                return
            passed = [index for index in range(len(batch.events)) if (record.sequence_number, index) not in dead]
            for each in self.unplanned(record, batch, passed[:UNPLANNED_MAX]):
                self._say(each, batch_span, ended_ns, {"spillway.slow": True})

    def unplanned(self, record: StoredRecord, batch: StoredBatch, indexes: Iterable[int]) -> list[Kept]:
        """These events, as far as the second's budget goes; the hops before this one are said with them."""
        out: list[Kept] = []
        for index in indexes:
            trace = unplanned(self.hop.tracer, batch.events[index], batch, record)
            if trace is None:
                break
            out.append(Kept(trace, record, batch, index))
        return out

    def say_dead(self, kept: Kept, reason: str, letter_key: str, batch_span: BatchSpan | None, ended_ns: int) -> None:
        said: dict[str, Value] = {
            "spillway.final": "dead_letter",
            "spillway.reason": reason,
            "spillway.dead_letter.key": letter_key,
        }
        self._say(kept, batch_span, ended_ns, said, error=reason)

    def _say(self, kept: Kept, batch_span: BatchSpan | None, ended_ns: int, more: dict[str, Value], error: str = "") -> None:
        event, record = kept.batch.events[kept.index], kept.record
        attributes: dict[str, Value] = {
            **_process(record),
            "messaging.message.id": event.id,
            "cloudevents.event_type": event.type,
            "spillway.tenant": kept.batch.tenant,
            "spillway.waited_seconds": self._waited_seconds(record),
            **more,
        }
        self.hop.tracer.event(
            kept.trace, self.hop.part, self.began_ns, ended_ns,
            parent=self.hop.parent, name=f"process {record.stream}", attributes=attributes, batch=batch_span, error=error,
        )  # fmt: skip

    def _say_write(self, write: _Write) -> None:
        attributes: dict[str, Value] = {
            "messaging.system": MESSAGING_SYSTEM,
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": write.stream,
            "messaging.destination.partition.id": write.written.shard_id,
            "messaging.aws_kinesis.sequence_number": write.written.sequence_number,
            "messaging.message.id": write.kept.trace.id,
            "spillway.tenant": write.kept.batch.tenant,
        }
        self.hop.tracer.event(
            write.kept.trace, f"{self.hop.part}/write", write.began_ns, write.ended_ns,
            parent=self.hop.part, name=f"send {write.stream}", kind=SpanKind.PRODUCER, attributes=attributes,
        )  # fmt: skip


def _process(record: StoredRecord) -> dict[str, Value]:
    return {
        "messaging.system": MESSAGING_SYSTEM,
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": record.stream,
        "messaging.destination.partition.id": record.shard_id,
        "messaging.aws_kinesis.sequence_number": record.sequence_number,
    }


def _text(exc: BaseException | None) -> str:
    """Its type, and its words only if they are ours and so hold no payload."""
    if exc is None:
        return ""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, SpillwayError) else type(exc).__name__
