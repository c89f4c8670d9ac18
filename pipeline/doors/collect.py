"""One request's way through a door, whichever door it is.

    who is it ─► is there room ─► decide per event ─► queue ─► outcome per event ─► answer

Rules. The tenant comes from the key. Bytes in flight are bounded and are given back when the last event of the request is
settled, whoever is still waiting (TRAPS 8). An answer says ACCEPTED only for an event whose own record was confirmed (TRAPS 5).
Fire-and-forget is answered once queued; what it then loses is counted. What fails a whole request is `NotTaken`; each door
turns it into its own kind of status, once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pipeline.doors.accept import Acceptance, Accepted, Decision
from pipeline.doors.keys import KeyStore, is_tenant
from pipeline.doors.reasons import Reason
from pipeline.errors import SpillwayError
from pipeline.streams.batching import EXPIRED, GIVEN_UP, Origin, Request
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.sink import NotWritten, Outcome, Written
from telemetry.metrics import (
    DOOR_EVENTS,
    DOOR_IN_FLIGHT_BYTES,
    DOOR_LOST_EVENTS,
    DOOR_REJECTIONS,
    DOOR_REQUEST_SECONDS,
    Metrics,
)

DOORS = ("grpc", "http")
OVERLOADED_RETRY_SECONDS = 1.0
# A transcoder's clock may be this far ahead of ours.
_CLOCK_SKEW_MICROS = 60_000_000
_ON_BEHALF = ("spillway-tenant", "spillway-accepted-at-micros", "spillway-door")


class Status(IntEnum):
    """spillway.v1.EventStatus."""

    ACCEPTED = 1
    QUEUED = 2
    REJECTED = 3
    RETRY = 4


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


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose events these are, and what is asked for them."""

    origin: Origin
    guaranteed: bool


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
        self._bytes_max, self._tenant_bytes_max = bytes_max, tenant_bytes_max
        self._tenants: dict[str, int] = {}
        self.bytes = 0

    def take(self, tenant: str, size: int) -> "Hold | None":
        """A hold to be released once, or None if there is no room."""
        of_tenant = self._tenants.get(tenant, 0) + size
        if self.bytes + size > self._bytes_max or of_tenant > self._tenant_bytes_max:
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
    ) -> None:
        self.door, self.acceptance, self.clock_micros = door, acceptance, clock_micros
        self.draining = False
        self._keys, self._commit, self._in_flight = keys, commit, in_flight
        self._write_seconds = write_seconds
        self._metrics = metrics
        self._by_status: dict[int, Any] = {
            status: metrics.counter(DOOR_EVENTS, door=door, status=status.name.lower()) for status in Status
        }
        self._by_reason: dict[Reason, Any] = {}
        self._lost = metrics.counter(DOOR_LOST_EVENTS, door=door)
        self.request_seconds = metrics.histogram(DOOR_REQUEST_SECONDS, door=door)
        metrics.gauge(DOOR_IN_FLIGHT_BYTES, door=door).set_function(lambda: in_flight.bytes)

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
        return Caller(origin, delivery == "guaranteed")

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

    async def publish(self, caller: Caller, decisions: Sequence[Decision], hold: Hold, wait_seconds: float | None) -> Answer:
        """The answer, after at most `wait_seconds`. Leaving earlier does not stop the write."""
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
            value = self._answer(decisions, [] if request is None else list(request.outcomes))
        return value

    def submit(
        self, caller: Caller, decisions: Sequence[Decision], hold: Hold, answer: Callable[[Answer], None]
    ) -> Request | None:
        """Queue what was accepted. `answer` is called once: at once if nothing has to be waited for, else when all is settled."""
        hold.handed_over = True
        accepted = [decision for decision in decisions if isinstance(decision, Accepted)]
        if not accepted:
            hold.release()
            answer(self._answer(decisions, []))
            return None

        def settled(request: Request) -> None:
            hold.release()
            if caller.guaranteed:
                answer(self._answer(decisions, request.outcomes))
            else:
                self._lost.inc(sum(not isinstance(outcome, Written) for outcome in request.outcomes))

        request = self._commit.submit(
            caller.origin,
            [decision.slice for decision in accepted],
            [decision.encoded for decision in accepted],
            deadline_seconds=self._write_seconds,
            on_settled=settled,
        )
        if not caller.guaranteed:
            answer(self._answer(decisions, None))
        return request

    def _answer(self, decisions: Sequence[Decision], outcomes: Sequence[Outcome] | None) -> Answer:
        """`outcomes` by accepted event; None: they are queued and nobody waits."""
        stored = Status.QUEUED if outcomes is None else Status.ACCEPTED
        statuses: list[int] = []
        problems: list[Problem] = []
        position = 0
        for index, decision in enumerate(decisions):
            if isinstance(decision, Accepted):
                outcome = None if outcomes is None else outcomes[position]
                position += 1
                if not isinstance(outcome, NotWritten):
                    statuses.append(stored)
                    continue
                problems.append(_retry(index, outcome))
            else:
                problems.append(Problem(index, Status.REJECTED, decision.reason, decision.message))
                self._count_reason(decision.reason)
            statuses.append(problems[-1].status)
        rejected = sum(problem.status == Status.REJECTED for problem in problems)
        self._by_status[stored].inc(len(statuses) - len(problems))
        if problems:
            self._by_status[Status.REJECTED].inc(rejected)
            self._by_status[Status.RETRY].inc(len(problems) - rejected)
        return Answer(statuses, problems)

    def _count_reason(self, reason: Reason) -> None:
        counter = self._by_reason.get(reason)
        if counter is None:
            counter = self._by_reason[reason] = self._metrics.counter(DOOR_REJECTIONS, door=self.door, reason=str(reason))
        counter.inc()


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
