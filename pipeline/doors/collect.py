"""One request's way through a door, whichever door it is.

    who is it ─► is there room ─► decide per event ─► queue ─► outcome per event ─► answer

Rules. The tenant comes from the key. Bytes in flight are bounded and are given back when the last event of the request is
settled, whoever is still waiting (TRAPS 8). An answer says ACCEPTED only for an event whose own record was confirmed (TRAPS 5).
Fire-and-forget is answered once queued; what it then loses is counted. What fails a whole request is `NotTaken`; each door
turns it into its own kind of status, once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipeline.doors.accept import Acceptance, Accepted, Decision
from pipeline.doors.keys import KeyStore, is_tenant
from pipeline.doors.reasons import Reason, Status
from pipeline.doors.spans import Answered, DoorSpans, Writes
from pipeline.errors import SpillwayError
from pipeline.ledger import tiers
from pipeline.ledger.tally import Tally
from pipeline.streams.batching import EXPIRED, GIVEN_UP, Origin, Request
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.sink import NotWritten, Written
from telemetry.log import Logger
from telemetry.metrics import (
    DOOR_EVENTS,
    DOOR_IN_FLIGHT_BYTES,
    DOOR_IN_FLIGHT_LIMIT_BYTES,
    DOOR_LOST_EVENTS,
    DOOR_QUEUE_AGE_SECONDS,
    DOOR_REJECTIONS,
    DOOR_REQUEST_SECONDS,
    DOOR_TENANT_EVENTS,
    Metrics,
)
from telemetry.tracing import TRACEPARENT_ATTRIBUTE, parse_traceparent

DOORS = ("grpc", "http")
OVERLOADED_RETRY_SECONDS = 1.0
# Tenants that are counted apart, the first so many; those beyond are one, "other".
TENANT_LABELS_MAX = 100
# Looks at a queue that changes under the eye, before it is called empty.
_LOOKS_MAX = 5
_STREAMS = {"grpc": "events", "http": "web-events"}
# A transcoder's clock may be this far ahead of ours.
_CLOCK_SKEW_MICROS = 60_000_000
_ON_BEHALF = ("spillway-tenant", "spillway-accepted-at-micros", "spillway-door")


class NotTaken(SpillwayError):
    """The whole request is not taken."""

    def __init__(self, reason: Reason, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the event at `index` is not stored, or not known to be."""

    index: int
    status: Status
    reason: Reason
    message: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One status per event of the request, in its order, and a problem for each that is not ACCEPTED or QUEUED."""

    statuses: Sequence[int]
    problems: Sequence[Problem] = ()
    # How many of the problems are rejections.
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose events these are, and what is asked for them."""

    origin: Origin
    guaranteed: bool
    # The request's own trace context, if it says "sampled": a `traceparent` for its events that carry none.
    context: str = ""


_RETRY_MESSAGES = {
    Reason.THROTTLED: "the stream asks for less: send the event again, with the same id",
    Reason.UNAVAILABLE: "the stream could not be written: send the event again, with the same id",
    Reason.DEADLINE: "the write was not confirmed in time and may have happened: send the event again, with the same id",
    Reason.DRAINING: "this process stops: send the event again, with the same id",
    Reason.OVERLOADED: "too much is in flight here: send the event again, with the same id",
}


class InFlight:
    """Bytes taken in and not yet settled, of all and of each tenant."""

    def __init__(self, bytes_max: int, tenant_bytes_max: int) -> None:
        self.bytes_max, self._tenant_bytes_max = bytes_max, tenant_bytes_max
        self._tenants: dict[str, int] = {}
        self.bytes = 0

    def take(self, tenant: str, size: int) -> "Hold | None":
        """A hold to be released once, or None if there is no room."""
        of_tenant = self._tenants.get(tenant, 0) + size
        if self.bytes + size > self.bytes_max or of_tenant > self._tenant_bytes_max:
            return None
        self.bytes += size
        self._tenants[tenant] = of_tenant
        return Hold(self, tenant, size)

    def give_back(self, tenant: str, size: int) -> None:
        self.bytes -= size
        left = self._tenants[tenant] - size
        if left:
            self._tenants[tenant] = left
        else:
            del self._tenants[tenant]


@dataclass(slots=True)
class Hold:
    """Some bytes in flight. Releasing twice is releasing once."""

    _in_flight: InFlight
    _tenant: str
    _size: int
    _held: bool = field(default=True)
    # Set when the collector has taken it over: it is released there, whoever leaves.
    handed_over: bool = field(default=False)

    def release(self) -> None:
        if self._held:
            self._held = False
            self._in_flight.give_back(self._tenant, self._size)


class Collector:
    """What both doors share."""

    def __init__(
        self,
        *,
        door: str,
        acceptance: Acceptance,
        keys: KeyStore,
        commit: GroupCommit,
        in_flight: InFlight,
        clock_micros: Callable[[], int],
        write_seconds: float,
        metrics: Metrics,
        log: Logger | None = None,
        stream: str = "",
        tally: Tally | None = None,
    ) -> None:
        """`acceptance` brings the tracer; `stream` is the one that `commit` writes to, for the names of spans; `tally` None: no
        ledger is kept."""
        self.door, self.acceptance, self.clock_micros = door, acceptance, clock_micros
        self.draining = False
        self._keys, self._commit, self._in_flight = keys, commit, in_flight
        self._write_seconds = write_seconds
        self._metrics = metrics
        self._by_status: dict[int, Any] = {
            status: metrics.counter(DOOR_EVENTS, door=door, status=status.name.lower()) for status in Status
        }
        self._by_reason: dict[Reason, Any] = {
            reason: metrics.counter(DOOR_REJECTIONS, door=door, reason=str(reason)) for reason in Reason
        }
        self._lost = metrics.counter(DOOR_LOST_EVENTS, door=door)
        self.request_seconds = metrics.histogram(DOOR_REQUEST_SECONDS, door=door)
        metrics.gauge(DOOR_IN_FLIGHT_BYTES, door=door).set_function(lambda: in_flight.bytes)
        metrics.gauge(DOOR_IN_FLIGHT_LIMIT_BYTES, door=door).set(in_flight.bytes_max)
        metrics.gauge(DOOR_QUEUE_AGE_SECONDS, door=door).set_function(self._oldest_seconds)
        # Requests with events that are not yet written, in the order of their arrival.
        self._unsettled: dict[Request, None] = {}
        self._tally = tally
        self._acknowledged, self._uncertain = tiers.ACKNOWLEDGED.get(door, ""), tiers.UNCERTAIN.get(door, "")
        self._tenants: set[str] = set()
        self._by_tenant: dict[tuple[str, str], Any] = {}
        self._counting = metrics.on
        self._tracer_on = acceptance.tracer.on
        self._later = acceptance.tracer.later
        self._spans = DoorSpans(door, stream or _STREAMS.get(door, door), acceptance.tracer, log)

    def identify(self, metadata: Mapping[str, str]) -> Caller:
        """Raises: NotTaken: the key is not known or revoked, or the metadata asks for what it may not have."""
        key = self._keys.find(metadata.get("authorization", ""))
        if key is None:
            raise NotTaken(Reason.UNAUTHENTICATED, "give a key in force: `authorization: Bearer spw_...`")
        delivery = metadata.get("spillway-delivery", "guaranteed")
        if delivery not in ("guaranteed", "fire-and-forget"):
            raise NotTaken(Reason.BAD_METADATA, "`spillway-delivery` is guaranteed or fire-and-forget")
        origin = Origin(key.tenant, self.door)
        if any(name in metadata for name in _ON_BEHALF):
            if key.role != "service":
                raise NotTaken(
                    Reason.FORBIDDEN, "only a key of role service may act for a tenant: leave out spillway-tenant and its kin"
                )
            origin = self._on_behalf(key.tenant, metadata)
        traceparent = metadata.get(TRACEPARENT_ATTRIBUTE, "")
        return Caller(origin, delivery == "guaranteed", sampled(traceparent) if traceparent else "")

    def _on_behalf(self, own_tenant: str, metadata: Mapping[str, str]) -> Origin:
        tenant = metadata.get("spillway-tenant", own_tenant)
        door = metadata.get("spillway-door", self.door)
        at = metadata.get("spillway-accepted-at-micros")
        if not is_tenant(tenant) or door not in DOORS:
            raise NotTaken(Reason.BAD_METADATA, "`spillway-tenant` must name a tenant and `spillway-door` be grpc or http")
        if at is None:
            return Origin(tenant, door)
        if not (at.isascii() and at.isdigit() and len(at) < 19 and 0 < int(at) <= self.clock_micros() + _CLOCK_SKEW_MICROS):
            raise NotTaken(Reason.BAD_METADATA, "`spillway-accepted-at-micros` must be microseconds since 1970, not ahead of now")
        return Origin(tenant, door, int(at))

    def admit(self, caller: Caller, size: int) -> Hold:
        """Raises: NotTaken: too much is in flight."""
        hold = self._in_flight.take(caller.origin.tenant, size)
        if hold is None:
            raise NotTaken(
                Reason.OVERLOADED,
                "too much is in flight here: wait, then send again",
                retry_after_seconds=OVERLOADED_RETRY_SECONDS,
            )
        return hold

    async def publish(
        self, caller: Caller, decisions: Sequence[Decision], hold: Hold, wait_seconds: float | None, began: float | None = None
    ) -> Answer:
        """The answer, after at most `wait_seconds`. Leaving earlier does not stop the write.

        `began`: when the request arrived, by `time.perf_counter`; now, if it is not given.
        """
        began = time.perf_counter() if began is None else began
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer | None] = loop.create_future()

        def answer(value: Answer | None) -> None:
            if not answered.done():
                answered.set_result(value)

        request = self.submit(caller, decisions, hold, answer)
        wait_seconds = self._write_seconds if wait_seconds is None else min(wait_seconds, self._write_seconds)
        alarm = loop.call_later(max(0.0, wait_seconds), answer, None)
        try:
            value = await answered
        finally:
            alarm.cancel()
        if value is None:
            value = self._answer(decisions, request)
        exemplar = self.told(caller, decisions, value, began, request)
        self.request_seconds.observe(time.perf_counter() - began, exemplar)
        return value

    def submit(
        self, caller: Caller, decisions: Sequence[Decision], hold: Hold, answer: Callable[[Answer], None]
    ) -> Request | None:
        """Queue what was accepted. `answer` is called once: at once if nothing has to be waited for, else when all is settled."""
        hold.handed_over = True
        accepted = [decision for decision in decisions if isinstance(decision, Accepted)]
        if not accepted:
            hold.release()
            answer(self._answer(decisions, None))
            return None
        slices, encoded, types, traces = zip(*accepted, strict=True)

        def settled(request: Request) -> None:
            request.settled_at = time.perf_counter()
            del self._unsettled[request]
            hold.release()
            self._count_stored(caller.origin.tenant, types, request)
            # Before the answer: an acknowledgement that no ledger knows is one that nobody can miss.
            if self._tally is not None:
                self._account(self._tally, caller.origin, encoded, request)
            if caller.guaranteed:
                answer(self._answer(decisions, request))
            elif not request.all_written:
                self._lost.inc(sum(not isinstance(outcome, Written) for outcome in request.outcomes))
            if request.traces:
                self._later(partial(self._spans.written, Writes.of(request, request.traces)))

        request = self._commit.submit(
            caller.origin,
            slices,
            encoded,
            deadline_seconds=self._write_seconds,
            on_settled=settled,
            traces={at: trace for at, trace in enumerate(traces) if trace is not None} if any(traces) else None,
        )
        request.submitted_at = time.perf_counter()
        self._unsettled[request] = None
        if not caller.guaranteed:
            answer(self._answer(decisions, None))
        return request

    def told(
        self, caller: Caller, decisions: Sequence[Decision], answer: Answer, began: float, request: Request | None
    ) -> dict[str, str] | None:
        """Have the spans made of what was just answered, if there is cause; an exemplar, if an event of it is traced."""
        if not self._tracer_on:
            return None
        ended = time.perf_counter()
        if request is not None and not answer.rejected:
            traces = request.traces or {}  # all were accepted: their positions are those of the decisions
        else:
            traces = {index: decision.trace for index, decision in enumerate(decisions) if decision.trace is not None}
        if not traces and not answer.rejected and ended - began <= self._spans.slow_seconds:
            return None
        reasons = {problem.index: str(problem.reason) for problem in answer.problems}
        if answer.rejected or ended - began > self._spans.slow_seconds:
            every, statuses = dict(enumerate(decisions)), dict(enumerate(answer.statuses))
            of = Answered(caller.origin, len(decisions), every, statuses, traces, reasons, began, ended, request)
            asyncio.get_running_loop().call_soon(self._spans.answered, of)
        else:
            own, statuses = {at: decisions[at] for at in traces}, {at: answer.statuses[at] for at in traces}
            self._later(
                partial(
                    self._spans.answered, Answered(caller.origin, len(decisions), own, statuses, traces, reasons, began, ended)
                )
            )
        return {"trace_id": next(iter(traces.values())).hex_id} if traces else None

    def refused(self, problem: NotTaken) -> None:
        """Count a whole request that was not taken."""
        self._by_reason[problem.reason].inc()

    def _answer(self, decisions: Sequence[Decision], request: Request | None) -> Answer:
        """`request` None: what was accepted is queued and nobody waits."""
        stored = Status.QUEUED if request is None else Status.ACCEPTED
        if len(decisions) == (len(request.outcomes) if request and request.settled and request.all_written else -1):
            self._by_status[stored].inc(len(decisions))
            return Answer([stored] * len(decisions))
        statuses: list[int] = []
        problems: list[Problem] = []
        position = 0
        for index, decision in enumerate(decisions):
            if isinstance(decision, Accepted):
                outcome = None if request is None else request.outcomes[position]
                position += 1
                if not isinstance(outcome, NotWritten):
                    statuses.append(stored)
                    continue
                problems.append(_retry(index, outcome))
            else:
                problems.append(Problem(index, Status.REJECTED, decision.reason, decision.message))
                self._by_reason[decision.reason].inc()
            statuses.append(problems[-1].status)
        rejected = sum(problem.status == Status.REJECTED for problem in problems)
        self._by_status[stored].inc(len(statuses) - len(problems))
        if problems:
            self._by_status[Status.REJECTED].inc(rejected)
            self._by_status[Status.RETRY].inc(len(problems) - rejected)
        return Answer(statuses, problems, rejected)

    def _count_stored(self, tenant: str, types: Sequence[str], request: Request) -> None:
        if not self._counting:
            return
        if not request.all_written:
            types = [type for type, outcome in zip(types, request.outcomes, strict=True) if isinstance(outcome, Written)]
        while types:
            type = types[0]
            count = types.count(type)
            counter = self._by_tenant.get((tenant, type)) or self._of_tenant(tenant, type)
            counter.inc(count)
            if count == len(types):
                return
            types = [other for other in types if other != type]

    def _account(self, tally: Tally, origin: Origin, encoded: Sequence[bytes], request: Request) -> None:
        """What was confirmed, and what may be in the stream though it was not, or more often than once."""
        if request.all_written and request.accepted_otherwise is None and request.attempts is None:
            tally.note(self._acknowledged, origin.tenant, origin.door, request.accepted_at_unix_micros, encoded)
            return
        otherwise, attempts = request.accepted_otherwise or {}, request.attempts or {}
        for position, outcome in enumerate(request.outcomes):
            tries = attempts.get(position, int(isinstance(outcome, Written)))
            if not tries:
                continue
            at = otherwise.get(position, request.accepted_at_unix_micros)
            one = encoded[position : position + 1]
            if isinstance(outcome, Written):
                tally.note(self._acknowledged, origin.tenant, origin.door, at, one)
                tries -= 1
            if tries:
                tally.note(self._uncertain, origin.tenant, origin.door, at, [*one] * tries)

    def _of_tenant(self, tenant: str, type: str) -> Any:
        """Types are those of the registry; of tenants the first so many have their own name."""
        if tenant not in self._tenants and len(self._tenants) >= TENANT_LABELS_MAX:
            label = "other"
        else:
            self._tenants.add(tenant)
            label = tenant
        counter = self._metrics.counter(DOOR_TENANT_EVENTS, door=self.door, tenant=label, type=type)
        if label == tenant:
            self._by_tenant[tenant, type] = counter
        return counter

    def _oldest_seconds(self) -> float:
        """How long the oldest event that is not yet written has waited. Asked by a scrape, from another thread."""
        for _ in range(_LOOKS_MAX):
            try:
                oldest = next(iter(self._unsettled), None)
            except RuntimeError:  # it changed meanwhile: look again
                continue
            return 0.0 if oldest is None else max(0.0, time.perf_counter() - oldest.submitted_at)
        return 0.0


def sampled(traceparent: str) -> str:
    """The context if it is one and says "sampled", as it may be stored in events; else empty."""
    context = parse_traceparent(traceparent)
    if context is None or not context[2]:
        return ""
    return f"00-{context[0]:032x}-{context[1]:016x}-01"


def retry_problem(index: int, reason: Reason, retry_after_seconds: float) -> Problem:
    return Problem(index, Status.RETRY, reason, _RETRY_MESSAGES[reason], retry_after_seconds)


def _retry(index: int, outcome: NotWritten) -> Problem:
    if outcome.throttled:
        reason = Reason.THROTTLED
    elif outcome is EXPIRED:
        reason = Reason.DEADLINE
    elif outcome is GIVEN_UP:
        reason = Reason.DRAINING
    else:
        reason = Reason.UNAVAILABLE
    return retry_problem(index, reason, outcome.retry_after_seconds)
