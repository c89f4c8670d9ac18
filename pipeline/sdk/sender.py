"""The background half of a client: one thread that takes events from the outbox, publishes them and tells what became of them.

    submit ──► outbox ──► take a batch ──► publish ──► tell the deliveries ──► settle
                 ▲                            │
                 └── still held until here ◄──┘

Rules. One batch at a time, so the order of events is that of `submit` as long as nothing had to be retried (TRAPS 2). An event
leaves the outbox only when its fate is final (TRAPS 6): accepted; rejected, and kept in the rejected folder if there is one;
without a spool also when its time is over; in a spool it stays until it is answered, whatever that takes. Every fate that is
not "accepted" is counted and told, never silent; so is what has to be given up on at `close` without a spool.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakValueDictionary

from pipeline.errors import DeadlineExceeded, InvalidEvent, Permanent, Retryable, SpillwayError, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.sdk.answers import Accepted, Answer, Rejected, Unclear
from pipeline.sdk.delivery import Delivery, Stats
from pipeline.sdk.fates import Counts
from pipeline.sdk.outbox import BufferFull, Outbox
from pipeline.sdk.publisher import PublishIncomplete
from pipeline.sdk.report import Kept, Report
from pipeline.sdk.segment import Entry

LOG = logging.getLogger("spillway.sdk")

OnRejected = Callable[[CloudEvent, SpillwayError], None]
KeepRejected = Callable[[CloudEvent, Rejected], None]


class PublishesEncoded(Protocol):
    def publish_encoded(self, encoded: Sequence[bytes], *, deadline_seconds: float) -> list[Answer]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SenderOptions:
    # How long the first event of a batch waits for company.
    linger_seconds: float = 0.005
    batch_events_max: int = 500
    batch_bytes_max: int = 1024 * 1024
    # Without a spool: an event that is not answered in this time after `send` is given up on, and that is told.
    delivery_seconds_max: float = 120.0
    # With a spool: one call to the publisher; then the next.
    publish_seconds_max: float = 30.0
    # With a spool: how long to wait after the key was refused.
    refused_pause_seconds: float = 10.0
    # How often an idle sender looks whether the spool is to be synced.
    idle_seconds: float = 0.5


class ClientClosed(Permanent):
    """The client is closed, or its sender has died: make a new one."""


def log_rejected(event: CloudEvent, error: SpillwayError) -> None:
    """What is done about an undelivered event unless the caller knows better. No payload in a log."""
    LOG.warning("event %s of type %s was not delivered: %s", event.id, event.type, error)


class Sender:
    """Thread-safe. `start` it once."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: PublishesEncoded,
        options: SenderOptions,
        *,
        durable_outbox: bool,
        on_rejected: OnRejected = log_rejected,
        keep_rejected: KeepRejected | None = None,
        report: Report | None = None,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._options = options
        self._durable = durable_outbox
        self._on_rejected = on_rejected
        self._keep_rejected = keep_rejected
        self._report = report
        # From and to: a moment of `submit` that the report need not be told of. Without a report: any.
        self._marked = (float("-inf"), float("inf")) if report is None else (0.0, 0.0)
        # By number, how often events in flight have been sent in vain.
        self._attempts: dict[int, int] = {}
        lock = threading.RLock()
        # There is something to do for the sender; something is settled, for everybody else.
        self._work, self.settled = threading.Condition(lock), threading.Condition(lock)
        # With a spool there may be millions: a delivery that the caller let go of needs no answer.
        self._deliveries: MutableMapping[int, Delivery] = WeakValueDictionary() if durable_outbox else {}
        recovered = outbox.pending_count
        self._stats = Stats(recovered=recovered)
        self._sent = 0
        self._unread_count = recovered
        self._oldest_unread_at = 0.0
        self._flushing = 0
        self._closing = False
        self._stop = threading.Event()
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="spillway-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def stats(self) -> Stats:
        with self.settled:
            return replace(self._stats, sent=self._sent, pending=self._outbox.pending_count)

    def submit(self, id: str, encoded: bytes, block_seconds_max: float, kept: Kept | None = None) -> Delivery:
        """Hold one event for sending; if there is no room, wait so long for it. `kept`: it is traced.

        Raises:
            BufferFull: there is still no room.
            SpoolFailed: the disk did not take it.
            ClientClosed: nobody would send it.
        """
        now = time.monotonic()
        delivery = Delivery(id, self.settled, now)
        with self.settled:
            number = self._append(encoded, now + block_seconds_max)
            self._deliveries[number] = delivery
            marked_from, marked_to = self._marked
            if kept is not None or not marked_from <= now < marked_to:
                assert self._report is not None
                self._marked = self._report.held(number, now, kept)
            self._sent += 1
            self._unread_count += 1
            if self._unread_count == 1:
                self._oldest_unread_at = now
            if self._unread_count in (1, self._options.batch_events_max):
                self._work.notify()
        return delivery

    def _append(self, encoded: bytes, deadline: float) -> int:
        while True:
            if self._closing or self._death is not None:
                raise ClientClosed("this client is closed" if self._closing else f"the sender died of {self._death!r}")
            try:
                return self._outbox.append(encoded)
            except BufferFull:
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0.0:
                    raise
                self.settled.wait(min(left_seconds, 1.0))

    def flush(self, timeout_seconds: float) -> None:
        """Block until nothing is pending.

        Raises:
            DeadlineExceeded: something still is.
            ClientClosed: the sender died.
        """
        deadline = time.monotonic() + timeout_seconds
        with self.settled:
            self._flushing += 1
            self._work.notify()
            try:
                while (pending := self._outbox.pending_count) > 0:
                    if self._death is not None:
                        raise ClientClosed(f"the sender died of {self._death!r}")
                    left_seconds = deadline - time.monotonic()
                    if left_seconds <= 0.0:
                        raise DeadlineExceeded(f"{pending} events are not acknowledged after {timeout_seconds} s")
                    self.settled.wait(min(left_seconds, 1.0))
            finally:
                self._flushing -= 1

    def close(self, join_seconds_max: float) -> int:
        """Stop now; returns how many events were given up on (with a durable outbox none: they stay in it)."""
        with self.settled:
            self._closing = True
            self._stop.set()
            self._work.notify()
        self._publisher.close()
        if self._thread.is_alive():
            self._thread.join(join_seconds_max)
        given_up = 0 if self._durable else self._give_up_the_rest()
        if self._report is not None:
            self._report.closed()
        self._outbox.close()
        return given_up

    def _give_up_the_rest(self) -> int:
        error = ClientClosed("the client was closed before the event was acknowledged")
        with self.settled:
            left = list(self._in_flight)
            while entries := self._outbox.take(self._options.batch_events_max, self._options.batch_bytes_max):
                left += entries
            counts = self._finish(left, [error] * len(left))
        self._say(left, [error] * len(left), None, counts)
        return len(left)

    # The thread.

    _in_flight: Sequence[Entry] = ()
    _disk_trouble = False

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._in_flight = self._in_flight or self._next_batch()
                if self._in_flight:
                    self._in_flight = self._send(self._in_flight)
        except BaseException as exc:  # told to everybody who waits, then to threading's hook
            with self.settled:
                self._death = exc
                self.settled.notify_all()
            raise

    def _next_batch(self) -> list[Entry]:
        """Wait for work, then a little for company. Empty: look again."""
        options = self._options
        with self._work:
            if not self._unread_count:
                self._work.wait(options.idle_seconds)
                self._outbox.sync_if_due()
            while 0 < self._unread_count < options.batch_events_max and not self._flushing and not self._closing:
                left_seconds = self._oldest_unread_at + options.linger_seconds - time.monotonic()
                if left_seconds <= 0.0:
                    break
                self._work.wait(left_seconds)
            if not self._unread_count or self._closing:
                return []
            batch = self._outbox.take(options.batch_events_max, options.batch_bytes_max)
            # Damage on disk can make fewer of them than were counted.
            self._unread_count = max(0, self._unread_count - len(batch)) if batch else 0
            self._oldest_unread_at = time.monotonic()
            if self._report is not None and batch:
                self._report.needed_from(batch[0].number)
            return batch

    def _send(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        """One call to the publisher; returns what is still to be sent."""
        try:
            answers: Sequence[Answer | None] = self._publisher.publish_encoded(
                [entry.event for entry in batch], deadline_seconds=self._seconds_left(batch)
            )
        except PublishIncomplete as exc:
            return self._settle(batch, exc.answers, exc)
        except Retryable:  # closed meanwhile: `close` knows what to do with what is in flight
            self._stop.wait(self._options.idle_seconds)
            return batch
        except Permanent as exc:
            return self._refused(batch, exc)
        return self._settle(batch, answers, None)

    def _seconds_left(self, batch: Sequence[Entry]) -> float:
        if self._durable:
            return self._options.publish_seconds_max
        oldest = self._deliveries[batch[0].number].submitted_at
        return max(1.0, oldest + self._options.delivery_seconds_max - time.monotonic())

    def _settle(
        self, batch: Sequence[Entry], answers: Sequence[Answer | None], late: PublishIncomplete | None
    ) -> Sequence[Entry]:
        finished: list[Entry] = []
        outcomes: list[Accepted | SpillwayError] = []
        kept: list[Entry] = []
        self._disk_trouble = False
        for entry, answer in zip(batch, answers, strict=True):
            outcome = self._outcome(entry, answer, late)
            if outcome is None:
                kept.append(entry)
            else:
                finished.append(entry)
                outcomes.append(outcome)
        with self.settled:
            self._in_flight = kept
            counts = self._finish(finished, outcomes)
        if self._report is not None and counts.accepted < len(batch):
            self._add_attempts(batch, answers, late)
        self._say(finished, outcomes, self._attempts, counts)
        if self._attempts:
            self._attempts = {entry.number: self._attempts.get(entry.number, 0) for entry in kept}
        if self._disk_trouble:
            self._stop.wait(self._options.refused_pause_seconds)
        return kept

    def _add_attempts(self, batch: Sequence[Entry], answers: Sequence[Answer | None], late: PublishIncomplete | None) -> None:
        """Of what is not accepted, how often it was sent."""
        for place, (entry, answer) in enumerate(zip(batch, answers, strict=True)):
            if not isinstance(answer, Accepted):
                sent = answer.attempts if answer is not None else late.attempts[place] if late is not None else 0
                self._attempts[entry.number] = self._attempts.get(entry.number, 0) + sent

    def _outcome(self, entry: Entry, answer: Answer | None, late: DeadlineExceeded | None) -> Accepted | SpillwayError | None:
        """What is final about an event; None: it stays."""
        match answer:
            case Accepted():
                return answer
            case Rejected(reason, message):
                return InvalidEvent(reason, message) if self._kept_rejected(entry, answer) else None
            case Unclear(message):
                return Unavailable(f"not known to be delivered, and not sent again: {message}")
            case None:
                return None if self._durable else late

    def _kept_rejected(self, entry: Entry, rejected: Rejected) -> bool:
        """False: the rejected folder did not take it, so it stays in the spool."""
        if self._keep_rejected is not None:
            try:
                self._keep_rejected(CloudEvent.FromString(entry.event), rejected)
            except OSError as exc:
                LOG.error("a rejected event could not be kept, and is tried again: %s", exc)
                self._disk_trouble = True
                return False
        return True

    def _finish(self, entries: Sequence[Entry], outcomes: Sequence[Accepted | SpillwayError]) -> Counts:
        """Under the lock: settle, count, and wake whoever waits."""
        if not entries:
            return Counts()
        try:
            self._outbox.settle([entry.number for entry in entries])
        except Retryable as exc:
            LOG.warning("%s; after a crash these are sent once more, with the same ids", exc)
        accepted = rejected = unclear = undelivered = 0
        for entry, outcome in zip(entries, outcomes, strict=True):
            delivery = self._deliveries.pop(entry.number, None)
            if delivery is not None:
                delivery._settle(outcome)
            accepted += isinstance(outcome, Accepted)
            rejected += isinstance(outcome, InvalidEvent)
            unclear += isinstance(outcome, Unavailable)
            undelivered += not isinstance(outcome, Accepted | InvalidEvent | Unavailable)
        stats = self._stats
        self._stats = replace(
            stats,
            accepted=stats.accepted + accepted,
            rejected=stats.rejected + rejected,
            unclear=stats.unclear + unclear,
            undelivered=stats.undelivered + undelivered,
        )
        self.settled.notify_all()
        return Counts(accepted, rejected, unclear, undelivered)

    def _refused(self, batch: Sequence[Entry], error: Permanent) -> Sequence[Entry]:
        """The call as such is refused (the key). Without a spool that is final; with one the events wait for a better key."""
        if not self._durable:
            with self.settled:
                self._in_flight = ()
                counts = self._finish(batch, [error] * len(batch))
            self._say(batch, [error] * len(batch), None, counts)
            return ()
        LOG.error("%s; the events stay in the spool and are tried again in %s s", error, self._options.refused_pause_seconds)
        with self.settled:
            for entry in batch:
                delivery = self._deliveries.pop(entry.number, None)
                if delivery is not None:
                    delivery._settle(error)
            self.settled.notify_all()
        self._stop.wait(self._options.refused_pause_seconds)
        return batch

    def _say(
        self,
        entries: Sequence[Entry],
        outcomes: Sequence[Accepted | SpillwayError],
        attempts: Mapping[int, int] | None,
        counts: Counts,
    ) -> None:
        """Not under the lock: what became of these events, to telemetry and, where it is an error, to the caller."""
        if self._report is not None and entries:
            try:
                self._report.finished(entries, outcomes, attempts, counts)
            except Exception:  # a fault of telemetry must not stop the events
                LOG.exception("what became of %d events could not be reported", len(entries))
        if counts.accepted == len(entries):
            return
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, SpillwayError):
                self._tell(CloudEvent.FromString(entry.event), outcome)

    def _tell(self, event: CloudEvent, error: SpillwayError) -> None:
        try:
            self._on_rejected(event, error)
        except Exception:  # the caller's code: its fault must not stop the events of others
            LOG.exception("on_rejected raised for event %s, which was not delivered: %s", event.id, error)
