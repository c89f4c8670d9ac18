"""One event's way: the hops that it must pass, what each said of it, and what the silence of the others means. Pure.

Rules.
- Which hops it must pass is what `telemetry.hops` expects; that it came by HTTP or from the SDK is known by such a span. What a
  part of a hop says (`grpc-door/write`), its hop says.
- A hop without a span is not therefore a hop that was not passed: if a later hop has the event, only the span is missing.
- Nobody promised whole traces of events that were not to be traced and were told of because they were slow: where such spans are,
  the silence of the other hops says nothing.
- What the sender says stands only until the gRPC door has taken the event: a sender that gave up may have been heard after all.
- How long an event waits is counted from the last sign before the hop, by the reader's clock; below zero is zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from telemetry.hops import BY_NAME, EXITS, HOPS, Hop, expected_hops
from telemetry.journey import Bar, Span, journey

# Less than this between two clocks is not worth a word.
SKEW_SECONDS_MIN = 0.001
SDK, BACKUP, GRPC_DOOR = "sdk", "backup", "grpc-door"
_HTTP = frozenset(("http-door", "transcoder", "backup/web-events"))


class State(Enum):
    """What is known of an event at one hop."""

    PASSED = "passed"
    # It did not work there, and a later hop has the event, or the hop tries again.
    FAILED = "failed"
    # The hop said that no later one will see it.
    ENDED = "ended"
    # No span, and the hop before it has the event.
    WAITS = "waits"
    # No span, and the hop before it has none either.
    LATER = "later"
    # No span, but a later hop has the event.
    MISSING = "missing"
    # It will not come: it ended before.
    NEVER = "never"
    # No span, and none was promised.
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Step:
    """One row: an event at a hop, or at a part of one."""

    hop: str
    state: State
    # None: the hop said nothing.
    span: Span | None = None
    waited_seconds: float = 0.0
    # It is a part of the hop above it.
    part: bool = False
    # So much earlier than the hop before it did it begin: at least so far apart are their clocks.
    skew_seconds: float = 0.0
    # If the event waits for this hop: since the last sign before it.
    since_seconds: float = 0.0

    @property
    def took_seconds(self) -> float:
        return self.span.seconds if self.span else 0.0

    @property
    def overdue(self) -> bool:
        """It waits for longer than the hop's limits allow."""
        return self.state is State.WAITS and self.since_seconds > patience_seconds(self.hop)


def patience_seconds(hop: str) -> float:
    """How long a hop may let an event wait and still be within its limits: as far behind as it may be, and as slow."""
    known = BY_NAME[hop]
    behind = (known.saturation.limit or 0.0) if known.saturation.unit == "seconds" else 0.0
    return behind + (known.latency.limit or 0.0)


@dataclass(frozen=True, slots=True)
class Path:
    """The hops that one event must pass, and what each said."""

    way: tuple[Hop, ...]
    # The hop before each, "" before the first.
    before: Mapping[str, str]
    # The hop's own span, where there is one.
    own: Mapping[str, Span]
    # All spans of a hop, with those of its parts.
    said: Mapping[str, Sequence[Span]]
    bars: Sequence[Bar]
    promised: bool
    now_ns: int

    @classmethod
    def of(cls, spans: Sequence[Span], now_ns: int) -> "Path":
        there = {span.hop for span in spans} | {span.base for span in spans}
        wanted = expected_hops(http=bool(there & _HTTP), sdk="sdk" in there)
        way = tuple(hop for hop in HOPS if hop.name in wanted)
        names = [hop.name for hop in way]
        said: dict[str, list[Span]] = {}
        for span in spans:
            # `backup/web-events` is a hop of its own beside the way, and no part of the backup of `events`.
            said.setdefault(span.hop if span.hop in _HTTP else span.base, []).append(span)
        return cls(
            way=way,
            # The backup has two streams before it: on the way is the one that comes last.
            before={hop.name: max((b for b in hop.after if b in names), key=names.index, default="") for hop in way},
            own={span.hop: span for span in spans},
            said=said,
            bars=journey(spans[0].trace_id, spans).bars,
            promised=not any(_unasked(span) for span in spans),
            now_ns=now_ns,
        )

    def upstream(self, hop: str) -> list[str]:
        """The hops before this one, the nearest first."""
        found = []
        while hop := self.before.get(hop, ""):
            found.append(hop)
        return found

    def reached(self, hop: str) -> bool:
        """Whether the event was at this hop: it said so, or a later one did."""
        return hop in self.said or any(hop in self.upstream(later) for later in self.said)

    def passed_on(self, hop: str) -> bool:
        return any(hop in self.upstream(later) for later in self.said)

    def chain(self, last: str) -> list[Span]:
        """The spans of the hops up to `last`, in the order of the path; all of them if there is none."""
        names = [*reversed(self.upstream(last)), last] if last else []
        return [self.own[name] for name in names if name in self.own] or [span for of in self.said.values() for span in of]

    def _since_seconds(self, hop: str) -> float:
        """Since a hop before this one last said something; without one, since anything was."""
        before = [span.ended_ns for name in self.upstream(hop) for span in self.said.get(name, ())]
        last_ns = max(before or [span.ended_ns for of in self.said.values() for span in of])
        return max(0.0, (self.now_ns - last_ns) / 1e9)

    def steps(self) -> Iterable[Step]:
        bars = {bar.span.hop: bar for bar in self.bars}
        for hop in self.way:
            yield self._step(hop.name, bars.pop(hop.name, None))
            for part in [name for name in bars if name.startswith(f"{hop.name}/")]:
                yield self._step(part, bars.pop(part))
        for name, bar in bars.items():
            yield self._step(name, bar)

    def _step(self, hop: str, bar: Bar | None) -> Step:
        if bar is None:
            state = self._without_span(hop)
            return Step(hop, state, since_seconds=self._since_seconds(hop) if state is State.WAITS else 0.0)
        span = bar.span
        state = State.ENDED if self.ended(hop) else State.FAILED if span.failed else State.PASSED
        return Step(hop, state, span, bar.waited_seconds, bar.depth > 0, self._skew_seconds(span))

    def _without_span(self, hop: str) -> State:
        if not self.promised:
            return State.SILENT
        if self.reached(hop):
            return State.MISSING
        if any(self.stopped(before) for before in self.upstream(hop)):
            return State.NEVER
        before = self.before[hop]
        return State.WAITS if not before or self.reached(before) else State.LATER

    def stopped(self, hop: str) -> bool:
        """It ended here, or failed here and no later hop has it."""
        failed = any(span.failed for span in self.said.get(hop, ()))
        return self.ended(hop) or (failed and not self.passed_on(hop))

    def ended(self, hop: str) -> bool:
        own, door = self.own.get(hop), self.own.get(GRPC_DOOR)
        taken = hop == SDK and door is not None and not door.failed
        return own is not None and bool(own.final) and not taken

    def _skew_seconds(self, span: Span) -> float:
        before = self.own.get(self.before.get(span.hop, ""))
        # The backup's span begins when the event was accepted, which for the transcoder's events was at the other door.
        if before is None or span.rebuilt or before.rebuilt or span.base == BACKUP:
            return 0.0
        seconds = (before.began_ns - span.began_ns) / 1e9
        return seconds if seconds >= SKEW_SECONDS_MIN else 0.0


def _unasked(span: Span) -> bool:
    """It, or the hop that had it rebuilt, was told of only because it was slow or failed."""
    return span.attributes.get("spillway.unplanned") == "true" or (span.rebuilt and span.base not in EXITS)
