"""The trace judge: is the trace of an event whole?

Rules.
- The spans of one event (trace, source, id) are judged once, so long after the first of them arrived that all must be there.
- Whole: a span of every hop that `telemetry.hops` expects of an event of its way, or a span that says the event ended early
  (a dead letter, a rejection). Else partial, named by the first hop of the path that is missing.
- An event that nobody traced until it failed or was slow has rebuilt spans. Nobody promised that such a trace is whole: it counts
  only if it is.
- What arrives after the verdict changes nothing. After a restart the judge reads what it needs from the store.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from telemetry.hops import HOPS, expected_hops
from telemetry.metrics import TRACES_JUDGED, Metrics
from telemetry.store.rows import Seen

# Events that await their verdict; past it the newest are not judged. About 500 bytes each.
WAITING_MAX = 100_000
JUDGED_MAX = 200_000
# Verdicts are remembered so many times `judge_seconds`, so that what is late does not begin a second case.
MEMORY_FACTOR = 10

_Event = tuple[bytes, str, str]
_ORDER = tuple(hop.name for hop in HOPS if hop.traced != "never")
_HTTP = frozenset(("http-door", "transcoder"))


@dataclass(slots=True)
class _Case:
    since: float
    hops: set[str] = field(default_factory=set)
    rebuilt: bool = False
    final: bool = False


def missing_hop(hops: Iterable[str]) -> str:
    """The first hop of the path whose span is missing; "" if the trace is whole."""
    there = set(hops)
    wanted = expected_hops(http=bool(there & _HTTP), sdk="sdk" in there)
    return next((hop for hop in _ORDER if hop in wanted and hop not in there), "")


class Judge:
    """Not thread-safe: it belongs to the writer. Times are seconds of one clock, the caller's."""

    def __init__(self, metrics: Metrics, judge_seconds: float) -> None:
        self._seconds = judge_seconds
        self._waiting: OrderedDict[_Event, _Case] = OrderedDict()
        self._judged: OrderedDict[_Event, float] = OrderedDict()
        self._whole = metrics.counter(TRACES_JUDGED, verdict="whole", missing="")
        self._partial = {hop: metrics.counter(TRACES_JUDGED, verdict="partial", missing=hop) for hop in _ORDER}

    @property
    def memory_seconds(self) -> float:
        return self._seconds * MEMORY_FACTOR

    def see(self, spans: Iterable[Seen], now: float) -> None:
        for trace_id, source, event_id, hop, rebuilt, final in spans:
            event = (trace_id, source, event_id)
            case = self._waiting.get(event)
            if case is None:
                if event in self._judged or len(self._waiting) >= WAITING_MAX:
                    continue
                case = self._waiting[event] = _Case(now)
            case.hops.add(hop)
            case.rebuilt |= rebuilt
            case.final |= final

    def judge(self, now: float) -> None:
        """Pass the verdicts that are due."""
        while self._waiting:
            event, case = next(iter(self._waiting.items()))
            if now - case.since < self._seconds:
                break
            del self._waiting[event]
            self._judged[event] = now
            self._count(case)
        while self._judged:
            event, at = next(iter(self._judged.items()))
            if now - at < self.memory_seconds and len(self._judged) <= JUDGED_MAX:
                break
            del self._judged[event]

    def restore(self, spans: Iterable[tuple[Seen, float]], now: float) -> None:
        """Take up after a restart: `spans` by arrival, from `memory_seconds` ago. Old verdicts are not counted again."""
        for span, arrived in spans:
            self.see((span,), arrived)
        for event, case in list(self._waiting.items()):
            if now - case.since >= self._seconds:
                del self._waiting[event]
                self._judged[event] = case.since + self._seconds

    def _count(self, case: _Case) -> None:
        missing = "" if case.final else missing_hop(case.hops)
        if not missing:
            self._whole.inc()
        elif not case.rebuilt:
            self._partial[missing].inc()
