"""The trace judge: is the trace of an event whole?

Rules.
- The spans of one event (trace, source, id) are judged once, so long after the first of them arrived that all must be there.
- Whole: a span of every hop that `telemetry.hops` expects of an event of its way; of one that ended early (a dead letter, a
  rejection), of every hop on the way to its end. Else partial, named by the first hop of the path that is missing.
- An event that nobody traced until it failed or was slow says so (`spillway.unplanned`, or a door's span that was rebuilt).
  Nobody promised that such a trace is whole: it counts only if it is.
- Batches have traces of their own, without an event: they are not judged.
- What arrives after the verdict changes nothing. After a restart the judge reads what it needs from the store; what was due
  before, or while the store was away, is not judged again.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from telemetry.hops import BY_NAME, HOPS, expected_hops
from telemetry.metrics import TRACES_JUDGED, Metrics
from telemetry.store.rows import SpanRow

# Events that await their verdict; past it the newest are not judged. About 500 bytes each.
WAITING_MAX = 100_000
JUDGED_MAX = 200_000
# Verdicts are remembered so many times `judge_seconds`, so that what is late does not begin a second case.
MEMORY_FACTOR = 10

_ORDER = tuple(hop.name for hop in HOPS if hop.traced != "never")
_HTTP = frozenset(("http-door", "transcoder"))
_DOORS = frozenset(("http-door", "grpc-door"))


class Event(NamedTuple):
    trace_id: bytes
    source: str
    id: str


class Seen(NamedTuple):
    """What the judge wants to know of a span of an event."""

    event: Event
    hop: str
    unplanned: bool
    final: bool

    @classmethod
    def of(cls, row: SpanRow) -> "Seen | None":
        """None if it is no event's span at a hop."""
        if not row.hop or not row.event_id:
            return None
        event = Event(row.trace_id, row.event_source or "", row.event_id)
        return cls(event, row.hop, bool(row.unplanned or (row.rebuilt and row.hop in _DOORS)), bool(row.final))

    @classmethod
    def since(cls, connection: sqlite3.Connection, seconds: float) -> Iterator[tuple["Seen", float]]:
        """The spans of events that arrived since then, by arrival, each with the time of it."""
        rows = connection.execute(
            "SELECT trace_id, event_source, event_id, hop, unplanned, rebuilt, final, arrived_s FROM spans"
            " WHERE id > coalesce((SELECT id FROM spans WHERE arrived_s < ? ORDER BY id DESC LIMIT 1), 0)"
            " AND event_id <> '' AND hop <> '' ORDER BY id",
            (int(seconds),),
        )
        for trace_id, source, id, hop, unplanned, rebuilt, final, arrived_s in rows:
            event = Event(trace_id, source or "", id)
            yield cls(event, hop, bool(unplanned or (rebuilt and hop in _DOORS)), bool(final)), float(arrived_s)


@dataclass(slots=True)
class _Case:
    since: float
    hops: set[str] = field(default_factory=set)
    ended_at: set[str] = field(default_factory=set)
    unplanned: bool = False


def missing_hop(hops: Iterable[str], ended_at: Iterable[str] = ()) -> str:
    """The first hop of the path whose span is missing; "" if the trace is whole. `ended_at`: hops that were its last."""
    there = set(hops)
    wanted = expected_hops(http=bool(there & _HTTP), sdk="sdk" in there)
    if ends := set(ended_at):
        wanted &= frozenset[str]().union(*map(_way_to, ends))
    return next((hop for hop in _ORDER if hop in wanted and hop not in there), "")


def _way_to(hop: str) -> frozenset[str]:
    """The hop and all that may lie before it."""
    before = BY_NAME[hop].after if hop in BY_NAME else ()
    return frozenset((hop,)).union(*map(_way_to, before))


class Judge:
    """Not thread-safe: it belongs to the writer. Times are seconds of one clock, the caller's."""

    def __init__(self, metrics: Metrics, judge_seconds: float) -> None:
        self._seconds = judge_seconds
        self._waiting: OrderedDict[Event, _Case] = OrderedDict()
        self._judged: OrderedDict[Event, float] = OrderedDict()
        self._whole = metrics.counter(TRACES_JUDGED, verdict="whole", missing="")
        self._partial = {hop: metrics.counter(TRACES_JUDGED, verdict="partial", missing=hop) for hop in _ORDER}

    @property
    def memory_seconds(self) -> float:
        return self._seconds * MEMORY_FACTOR

    def see(self, spans: Iterable[Seen], now: float) -> None:
        for event, hop, unplanned, final in spans:
            case = self._waiting.get(event)
            if case is None:
                if event in self._judged or len(self._waiting) >= WAITING_MAX:
                    continue
                case = self._waiting[event] = _Case(now)
            case.hops.add(hop)
            case.unplanned |= unplanned
            if final:
                case.ended_at.add(hop)

    def judge(self, now: float) -> None:
        """Pass the verdicts that are due."""
        for case in self._due(now):
            self._count(case)

    def restore(self, spans: Iterable[tuple[Seen, float]], now: float) -> None:
        """Take up after a restart: `spans` by arrival, from `memory_seconds` ago. Old verdicts are not counted again."""
        for span, arrived in spans:
            for _ in self._due(arrived):
                """Judged before the restart."""
            self.see((span,), arrived)
        for _ in self._due(now):
            """Due while the store was away."""

    def _due(self, now: float) -> Iterator[_Case]:
        """The cases that are due, which are closed by that; old verdicts are forgotten."""
        while self._waiting:
            event, case = next(iter(self._waiting.items()))
            if now - case.since < self._seconds:
                break
            del self._waiting[event]
            self._judged[event] = now
            yield case
        while self._judged:
            event, at = next(iter(self._judged.items()))
            if now - at < self.memory_seconds and len(self._judged) <= JUDGED_MAX:
                break
            del self._judged[event]

    def _count(self, case: _Case) -> None:
        missing = missing_hop(case.hops, case.ended_at)
        if not missing:
            self._whole.inc()
        elif not case.unplanned:
            self._partial[missing].inc()
