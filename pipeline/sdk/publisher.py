"""Publishing batches: everything gets its answer, or the caller is told by the deadline which did not.

Rules. Events keep their ids and their bytes over all attempts (TRAPS 3): they are encoded once. Only what is unanswered or
answered RETRY is sent again (TRAPS 1). An event is out of the hands of `publish` when it is ACCEPTED or REJECTED by name, never
before (TRAPS 5, 6). A request that is refused as malformed is halved until the one event that is the reason stands alone and
is rejected; its neighbours go through (TRAPS 9). The wait between attempts is full jitter plus what the collector asked for,
drawn on a budget over all calls; a breaker spares a collector that is down; one monotonic deadline ends it all.
With `fire-and-forget` nothing is sent again whose fate is unclear: at most once.

Thread-safe: many callers may publish at once; they share connection, budget and breaker, and nothing else.
"""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.errors import DeadlineExceeded, Permanent, Retryable, Throttled, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.sdk.answers import Accepted, Answer, Rejected, Retry, Unclear, read_answers
from pipeline.sdk.breaker import Breaker, BreakerLimits
from pipeline.sdk.retry import Backoff, BudgetSize, Clock, RetryBudget, SystemClock
from pipeline.sdk.transport import GrpcTransport, InvalidRequest, Metadata, Transport

__all__ = [
    "Accepted",
    "Answer",
    "ForkedProcess",
    "OnBehalf",
    "PublishIncomplete",
    "Publisher",
    "PublisherOptions",
    "Rejected",
    "Unclear",
]

# What proto/spillway/v1/collector.proto allows in one request.
REQUEST_EVENTS_MAX = 500
REQUEST_BYTES_MAX = 4 * 1024 * 1024 - 64 * 1024

DeliveryMode = Literal["guaranteed", "fire-and-forget"]


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Only for keys with the role "service": whose event it is, and when and where it was really accepted."""

    tenant: str
    accepted_at_unix_micros: int
    door: str

    def metadata(self) -> Metadata:
        return (
            ("spillway-tenant", self.tenant),
            ("spillway-accepted-at-micros", str(self.accepted_at_unix_micros)),
            ("spillway-door", self.door),
        )


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    # One attempt ends after this, however much of the deadline is left.
    attempt_seconds_max: float = 10.0
    request_events_max: int = REQUEST_EVENTS_MAX
    request_bytes_max: int = REQUEST_BYTES_MAX
    backoff: Backoff = field(default_factory=Backoff)
    budget: BudgetSize = field(default_factory=BudgetSize)
    breaker: BreakerLimits = field(default_factory=BreakerLimits)


class PublishIncomplete(DeadlineExceeded):
    """The deadline came first. `answers` holds, per event, its answer or None: not known to be stored; `attempts` how often it
    was sent."""

    def __init__(self, message: str, answers: tuple[Answer | None, ...], attempts: tuple[int, ...]) -> None:
        super().__init__(message)
        self.answers = answers
        self.attempts = attempts


class ForkedProcess(Permanent):
    """gRPC objects do not survive a fork: make the publisher or client in the child process."""


class Publisher:
    """Publishes to one collector with one API key."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        api_key: str = "",
        *,
        delivery: DeliveryMode = "guaranteed",
        tls: bool = False,
        options: PublisherOptions | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.options = options or PublisherOptions()
        self.delivery = delivery
        self.breaker = Breaker(self.options.breaker)
        self._transport = transport or GrpcTransport(target, tls=tls)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._budget = RetryBudget(self.options.budget, self._clock.monotonic())
        self._metadata: Metadata = (("authorization", f"Bearer {api_key}"), ("spillway-delivery", delivery))
        self._closed = threading.Event()
        self._pid = os.getpid()

    def publish(
        self, events: Sequence[CloudEvent], *, on_behalf: OnBehalf | None = None, deadline_seconds: float
    ) -> list[Answer]:
        """One answer per event, in order. Any number of events; they are cut into requests that the collector takes.

        Raises:
            PublishIncomplete: (a DeadlineExceeded) not everything was answered in time; it holds what was.
            Unavailable: the publisher was closed meanwhile.
            Refused: the key is unknown, revoked or may not do that. Nothing that is unanswered was stored.
            Permanent: the collector will never take such a call.
        """
        encoded = [event.SerializeToString() for event in events]
        return self.publish_encoded(encoded, on_behalf=on_behalf, deadline_seconds=deadline_seconds)

    def publish_encoded(
        self, encoded: Sequence[bytes], *, on_behalf: OnBehalf | None = None, deadline_seconds: float
    ) -> list[Answer]:
        """As `publish`, for events that are encoded already: the bytes are what is sent, at every attempt."""
        if os.getpid() != self._pid:
            raise ForkedProcess("this publisher was made before a fork; make one in the child process")
        metadata = self._metadata + (on_behalf.metadata() if on_behalf else ())
        call = _Call(self, encoded, metadata, self._clock.monotonic() + deadline_seconds)
        return call.run()

    def close(self) -> None:
        """End the calls under way; what they have not got answered is not known to be stored."""
        self._closed.set()
        if os.getpid() != self._pid:
            return
        if isinstance(self._clock, SystemClock):
            self._clock.wake()
        self._transport.close()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Call:
    """One `publish`: the answers so far, and what is still unanswered."""

    def __init__(self, publisher: Publisher, encoded: Sequence[bytes], metadata: Metadata, deadline: float) -> None:
        self._publisher = publisher
        self._options = publisher.options
        self._clock = publisher._clock
        self._encoded = encoded
        self._metadata = metadata
        self._deadline = deadline
        self._answers: list[Answer | None] = [self._too_large(event) for event in encoded]
        # Halved when the collector calls a request malformed, so that the culprit is found.
        self._events_max = self._options.request_events_max
        self._complaint = "nothing was tried before the deadline"
        self._hint_seconds: float | None = None
        # How often an event was sent in vain; most events never are.
        self._vain: dict[int, int] = {}

    def run(self) -> list[Answer]:
        failures = 0
        while (waiting := [index for index, answer in enumerate(self._answers) if answer is None]) != []:
            self._wait_for_breaker()
            self._hint_seconds = None
            self._round(waiting)
            left = sum(answer is None for answer in self._answers)
            failures = failures + 1 if left == len(waiting) else 1
            if left:
                self._wait_to_retry(failures)
        return [answer for answer in self._answers if answer is not None]

    def _round(self, waiting: Sequence[int]) -> None:
        """Send each unanswered event once, in requests; the first request that fails ends the round."""
        for indexes in self._requests(waiting):
            if self._clock.monotonic() >= self._deadline or not self._attempt(indexes):
                return

    def _attempt(self, indexes: Sequence[int]) -> bool:
        """One request. True if the collector answered it."""
        publisher, now = self._publisher, self._clock.monotonic()
        timeout_seconds = max(0.001, min(self._options.attempt_seconds_max, self._deadline - now))
        batch = encode_batch([self._encoded[index] for index in indexes])
        try:
            response = publisher._transport.publish(batch, self._metadata, timeout_seconds)
        except Throttled as exc:
            publisher.breaker.succeeded()
            self._complaint, self._hint_seconds = str(exc), exc.retry_after_seconds
            self._in_vain(indexes)
            return False
        except Retryable as exc:
            publisher.breaker.failed(self._clock.monotonic())
            self._complaint, self._hint_seconds = str(exc), exc.retry_after_seconds
            self._in_vain(indexes)
            self._give_up_if_at_most_once(indexes)
            return False
        except InvalidRequest as exc:
            publisher.breaker.succeeded()
            self._complaint = str(exc)
            self._in_vain(indexes)
            self._narrow(indexes)
            return True
        except Permanent:
            publisher.breaker.succeeded()
            raise
        publisher.breaker.succeeded()
        publisher._budget.succeeded(self._clock.monotonic())
        guaranteed = publisher.delivery == "guaranteed"
        for index, answer in zip(indexes, read_answers(response, len(indexes), guaranteed=guaranteed), strict=True):
            self._take(index, answer)
        return True

    def _take(self, index: int, answer: Accepted | Rejected | Retry) -> None:
        if not isinstance(answer, Retry):
            vain = self._vain.get(index, 0) if self._vain else 0
            self._answers[index] = replace(answer, attempts=vain + 1) if vain else answer
            return
        self._in_vain((index,))
        self._complaint = answer.message
        if answer.retry_after_seconds is not None:
            self._hint_seconds = max(self._hint_seconds or 0.0, answer.retry_after_seconds)
        self._give_up_if_at_most_once([index])

    def _in_vain(self, indexes: Sequence[int]) -> None:
        for index in indexes:
            self._vain[index] = self._vain.get(index, 0) + 1

    def _give_up_if_at_most_once(self, indexes: Sequence[int]) -> None:
        if self._publisher.delivery == "fire-and-forget":
            for index in indexes:
                self._answers[index] = Unclear(self._complaint)

    def _narrow(self, indexes: Sequence[int]) -> None:
        if len(indexes) == 1:
            self._answers[indexes[0]] = Rejected("invalid_request", self._complaint, self._vain[indexes[0]])
        else:
            self._events_max = max(1, min(self._events_max, len(indexes)) // 2)

    def _wait_for_breaker(self) -> None:
        while (wait_seconds := self._publisher.breaker.wait_seconds(self._clock.monotonic())) > 0.0:
            self._sleep(wait_seconds)

    def _wait_to_retry(self, failures: int) -> None:
        wait_seconds = self._options.backoff.delay_seconds(failures, self._publisher._rng, self._hint_seconds)
        self._sleep(max(wait_seconds, self._publisher._budget.take(self._clock.monotonic())))

    def _sleep(self, seconds: float) -> None:
        """Wait, until the deadline at most; then it is over. So a caller who calls again at once still makes no storm."""
        publisher, left_seconds = self._publisher, self._deadline - self._clock.monotonic()
        if not publisher._closed.is_set() and left_seconds > 0.0:
            self._clock.sleep(min(seconds, left_seconds))
        if publisher._closed.is_set():
            raise Unavailable("the publisher was closed")
        if seconds >= left_seconds:
            unanswered = sum(answer is None for answer in self._answers)
            message = f"{unanswered} of {len(self._answers)} events unanswered at the deadline; last: {self._complaint}"
            raise PublishIncomplete(message, tuple(self._answers), tuple(self._attempts()))

    def _attempts(self) -> Iterator[int]:
        for index, answer in enumerate(self._answers):
            yield self._vain.get(index, 0) if answer is None else answer.attempts

    def _requests(self, waiting: Sequence[int]) -> Iterator[list[int]]:
        request: list[int] = []
        request_bytes = 0
        for index in waiting:
            size = len(self._encoded[index]) + _ENTRY_OVERHEAD_BYTES
            if request and (len(request) >= self._events_max or request_bytes + size > self._options.request_bytes_max):
                yield request
                request, request_bytes = [], 0
            request.append(index)
            request_bytes += size
        if request:
            yield request

    def _too_large(self, event: bytes) -> Rejected | None:
        """gRPC would refuse it with RESOURCE_EXHAUSTED, which reads as "try later"; later it is as large."""
        size, limit = len(event) + _ENTRY_OVERHEAD_BYTES, self._options.request_bytes_max
        return Rejected("too_large", f"the event has {size} bytes, a request holds {limit}", 0) if size > limit else None


_ENTRY_OVERHEAD_BYTES = 6
_EVENTS_TAG = b"\x0a"


def encode_batch(encoded: Sequence[bytes]) -> bytes:
    """A CloudEventBatch of events that are encoded already: field 1, length-delimited, one after the other."""
    parts: list[bytes] = []
    for event in encoded:
        parts += (_EVENTS_TAG, _varint(len(event)), event)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
