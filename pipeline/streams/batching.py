"""What is to be written next: accepted events, in lanes, cut into records. Pure: no I/O, no clock of its own.

Rules
- A lane is the events of one tenant in one slice of the hash space, in the order of their arrival. It has at most one record in
  flight, so events of one subject are written in order as long as nothing has to be retried (TRAPS 2).
- A record takes a run of events of one origin (tenant, door, accept time) from the head of its lane, as many as fit.
- Events leave their request's account only by an outcome: `Written` of their own record, or not known to be stored. A record
  that failed stays at the head of its lane while a deadline in it lasts and the retry budget allows (TRAPS 6). It is sent again
  as it is, so that an event has one accept time even if the first attempt was stored after all (TRAPS 3).
- A throttled slice holds up nobody else: each lane has its own back-off (TRAPS 4).
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from pipeline import frame
from pipeline.event import Record, explicit_hash_key
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.streams.retry import Backoff, RetryBudget
from pipeline.streams.sink import NotWritten, Outcome, Written
from telemetry.tracing import Trace

EXPIRED = NotWritten("deadline")
GIVEN_UP = NotWritten("stopped")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much goes into one record and into one call."""

    record_payload_bytes: int = 1_000_000
    call_records: int = 500
    call_bytes: int = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """What the events of one record share, beside their slice. `accepted_at_unix_micros`: None for "when the record is made"."""

    tenant: str
    door: str
    accepted_at_unix_micros: int | None = None


class Request:
    """The account of one request: an outcome for each of its events. `on_settled` is called once, when the last is known."""

    __slots__ = (
        "_left",
        "accepted_at_unix_micros",
        "accepted_otherwise",
        "all_written",
        "attempts",
        "deadline",
        "on_settled",
        "origin",
        "outcomes",
        "settled_at",
        "submitted_at",
        "traces",
    )

    def __init__(
        self,
        origin: Origin,
        count: int,
        deadline: float,
        on_settled: Callable[["Request"], None],
        traces: Mapping[int, Trace] | None = None,
    ) -> None:
        self.origin = origin
        # Monotonic; after it nothing of this request is tried again.
        self.deadline = deadline
        self.outcomes: list[Outcome] = [EXPIRED] * count
        self.on_settled = on_settled
        # Of those events that are traced, by position.
        self.traces = traces
        # How often an event was tried, by position; not there: once, or never.
        self.attempts: dict[int, int] | None = None
        # Once settled, whether all of it is in the stream: so that nobody has to look at each outcome.
        self.all_written = True
        # The accept time of its first record; and of those events whose record has another, by position. 0: none was ever tried.
        self.accepted_at_unix_micros = 0
        self.accepted_otherwise: dict[int, int] | None = None
        # By `time.perf_counter`, of whoever submits.
        self.submitted_at = self.settled_at = 0.0
        self._left = count

    @property
    def settled(self) -> bool:
        return self._left == 0

    def fail(self, position: int, outcome: Outcome) -> None:
        """Settle one event as not known to be stored."""
        self.all_written = False
        self.settle(position, outcome)

    def settle(self, position: int, outcome: Outcome) -> None:
        self.outcomes[position] = outcome
        self._left -= 1
        if self._left == 0:
            self.on_settled(self)

    def stamp(self, position: int, accepted_at_unix_micros: int) -> None:
        """The accept time that this event's record bears."""
        if not self.accepted_at_unix_micros:
            self.accepted_at_unix_micros = accepted_at_unix_micros
        elif self.accepted_at_unix_micros != accepted_at_unix_micros:
            self.accepted_otherwise = self.accepted_otherwise or {}
            self.accepted_otherwise[position] = accepted_at_unix_micros


class Entry(NamedTuple):
    """One event on its way: which request it belongs to, its place there, and itself as Protobuf."""

    request: Request
    position: int
    encoded: bytes


@dataclass(slots=True)
class _Lane:
    tenant: str
    slice: int
    waiting: deque[Entry] = field(default_factory=deque)
    # Its last record, if that one failed and is to be sent again.
    unwritten: "Batch | None" = None
    failures: int = 0
    # Traced events may wait here; most of the time none do, and then nobody looks for them.
    traced: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """A record and the events in it."""

    record: Record
    entries: Sequence[Entry]
    lane: _Lane
    accepted_at_unix_micros: int
    # Which attempt this is, from 1.
    attempt: int = 1


class Lanes:
    """All events that are queued or in flight. `now` is monotonic, `now_micros` the wall clock."""

    def __init__(
        self,
        *,
        slices: int,
        worker: str,
        budget: RetryBudget,
        random: Random,
        bounds: Bounds = Bounds(),
        backoff: Backoff = Backoff(),  # noqa: B008
    ) -> None:
        self._slices, self._worker, self._bounds = slices, worker, bounds
        self._budget, self._backoff, self._random = budget, backoff, random
        self._lanes: dict[tuple[str, int], _Lane] = {}
        # Lanes with something to write and nothing in flight, longest waiting first; and those that wait after a failure.
        self._ready: deque[_Lane] = deque()
        self._resting: list[tuple[float, int, _Lane]] = []
        self._rests = 0

    @property
    def empty(self) -> bool:
        return not self._lanes

    def put(self, request: Request, slices: Sequence[int], encoded: Sequence[bytes]) -> None:
        """Queue all events of a request; `slices` and `encoded` by position."""
        tenant = request.origin.tenant
        for position, slice in enumerate(slices):
            lane = self._lanes.get((tenant, slice))
            if lane is None:
                lane = self._lanes[tenant, slice] = _Lane(tenant, slice)
                self._ready.append(lane)
            lane.waiting.append(Entry(request, position, encoded[position]))
        for position in request.traces or ():
            self._lanes[tenant, slices[position]].traced = True

    def take(self, now: float, now_micros: int) -> list[Batch]:
        """The records of the next call; empty if nothing is ready. Each must come back by `settle`."""
        while self._resting and self._resting[0][0] <= now:
            self._ready.append(heapq.heappop(self._resting)[2])
        batches: list[Batch] = []
        size = 0
        while self._ready and len(batches) < self._bounds.call_records:
            if batches and size + self._bounds.record_payload_bytes + frame.OVERHEAD_BYTES > self._bounds.call_bytes:
                break
            lane = self._ready.popleft()
            batch = self._due(lane, now, now_micros)
            if batch is None:
                del self._lanes[lane.tenant, lane.slice]
                continue
            batches.append(batch)
            size += len(batch.record.data) + len(batch.record.partition_key)
        return batches

    def settle(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """What became of a record that `take` gave out."""
        lane = batch.lane
        if isinstance(outcome, Written):
            lane.failures = 0
            self._budget.succeeded()
            if batch.attempt > 1:
                _say_attempts(batch)
            for entry in batch.entries:
                entry.request.settle(entry.position, outcome)
            if lane.waiting:
                self._ready.append(lane)
            else:
                del self._lanes[lane.tenant, lane.slice]
            return
        lane.failures += 1
        for entry in batch.entries:
            entry.request.outcomes[entry.position] = outcome  # the latest reason, should the deadline end it
        _say_attempts(batch)
        if self._budget.spend():
            lane.unwritten = batch
        else:
            _settle_as_is(batch.entries)
        self._rests += 1
        ready_at = now + self._backoff.delay_seconds(lane.failures, self._random)
        heapq.heappush(self._resting, (ready_at, self._rests, lane))

    def wake_at(self) -> float | None:
        """When a resting lane is next ready, if there is one."""
        return self._resting[0][0] if self._resting else None

    def give_up(self) -> int:
        """Settle all that is queued as not stored, and say how many events that were. What is in flight is left to `settle`."""
        count = 0
        for lane in list(self._lanes.values()):
            entries = [*(lane.unwritten.entries if lane.unwritten else ()), *lane.waiting]
            lane.unwritten = None
            lane.waiting.clear()
            for entry in entries:
                entry.request.fail(entry.position, GIVEN_UP)
            count += len(entries)
        return count

    def _due(self, lane: _Lane, now: float, now_micros: int) -> Batch | None:
        """The lane's next record: the one that failed, else a new one; None if all in it is past its deadline."""
        failed, lane.unwritten = lane.unwritten, None
        if failed is not None:
            alive = [entry for entry in failed.entries if entry.request.deadline > now]
            _settle_as_is([entry for entry in failed.entries if entry.request.deadline <= now])
            if alive:
                return Batch(failed.record, alive, lane, failed.accepted_at_unix_micros, failed.attempt + 1)
        while lane.waiting and lane.waiting[0].request.deadline <= now:
            _settle_as_is([lane.waiting.popleft()])
        return self._batch(lane, now_micros) if lane.waiting else None

    def _batch(self, lane: _Lane, now_micros: int) -> Batch:
        entries: list[Entry] = []
        parts: list[bytes] = []
        origin = lane.waiting[0].request.origin
        accepted_at = now_micros if origin.accepted_at_unix_micros is None else origin.accepted_at_unix_micros
        tail = batch_tail(origin, accepted_at, self._worker, lane.slice, self._slices)
        left = self._bounds.record_payload_bytes - len(tail)
        while lane.waiting:
            entry = lane.waiting[0]
            if entry.request.origin is not origin and entry.request.origin != origin:
                break
            head = event_head(len(entry.encoded))
            left -= len(head) + len(entry.encoded)
            if left < 0 and entries:
                break
            parts += (head, entry.encoded)
            entries.append(lane.waiting.popleft())
            if entry.request.accepted_at_unix_micros != accepted_at:
                entry.request.stamp(entry.position, accepted_at)
        parts.append(tail)
        record = Record(
            frame.encode(b"".join(parts)),
            partition_key=f"{lane.tenant}/{lane.slice}",
            explicit_hash_key=explicit_hash_key(lane.slice, self._slices),
            events=len(entries),
            trace_id=_trace_id(lane, entries) if lane.traced else "",
        )
        return Batch(record, entries, lane, accepted_at)


def _settle_as_is(entries: Sequence[Entry]) -> None:
    """With what is known of each: the reason of its last attempt, or that there was none."""
    for entry in entries:
        entry.request.fail(entry.position, entry.request.outcomes[entry.position])


def _say_attempts(batch: Batch) -> None:
    for entry in batch.entries:
        entry.request.attempts = entry.request.attempts or {}
        entry.request.attempts[entry.position] = batch.attempt


def _trace_id(lane: _Lane, entries: Sequence[Entry]) -> str:
    """The trace of one of these events that is kept, if any; and whether more such events wait in the lane."""
    lane.traced = any(entry.position in (entry.request.traces or ()) for entry in lane.waiting)
    for entry in entries:
        if entry.request.traces is not None and entry.position in entry.request.traces:
            return entry.request.traces[entry.position].hex_id
    return ""


def event_head(length: int) -> bytes:
    """What stands before an encoded event in an encoded StoredBatch: field 1, length-delimited, its length."""
    out = bytearray(b"\x0a")
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def batch_tail(origin: Origin, accepted_at_unix_micros: int, worker: str, slice: int, slices: int) -> bytes:
    """All of an encoded StoredBatch but its events. Concatenated encodings merge, so the two halves make one batch."""
    return StoredBatch(
        tenant=origin.tenant,
        accepted_at_unix_micros=accepted_at_unix_micros,
        door=origin.door,
        worker=worker,
        slice=slice,
        slices=slices,
    ).SerializeToString()
