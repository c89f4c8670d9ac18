"""What became of each event of a trace, by its spans alone: delivered, dead, rejected, waiting. Pure.

Rules.
- An event is (source, id). Delivered is what all exits have, whatever else was said of it.
- A dead letter that was sent again goes through the gRPC door again. What the hops after it said before that is history.
- A moment belongs to the last hop of the path that is at work in it, else to the next one, which is waited for. So the shares of
  the hops add up to the whole, however their spans lie in each other and whatever their clocks say.
- An exit keeps the span of the event's first copy. If the hops before it tell of a later one, the times do not belong together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

from pipeline.explain.path import BACKUP, GRPC_DOOR, Path, State, Step
from telemetry.hops import EXITS, HOPS
from telemetry.journey import Span, one_each

# A gRPC door that saw the event so long after its end was sent it again; less may be clocks that differ.
SENT_AGAIN_SECONDS_MIN = 5.0
_ORDER = {hop.name: place for place, hop in enumerate(HOPS)}


class Became(Enum):
    DELIVERED = "delivered"
    DEAD_LETTER = "dead letter"
    REJECTED = "rejected"
    # By its sender: after its deadline, or before it began.
    GIVEN_UP = "given up"
    # Its sender was told to send it again.
    SEND_AGAIN = "to be sent again"
    # Sent fire-and-forget, and not written.
    LOST = "lost"
    FAILED = "failed"
    WAITS = "waits"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Share:
    """What one hop took of the whole way."""

    hop: str
    share: float
    waited_seconds: float
    took_seconds: float


@dataclass(frozen=True, slots=True)
class Fate:
    trace_id: str
    id: str
    source: str
    tenant: str
    type: str
    became: Became
    steps: tuple[Step, ...]
    # Where it waits, failed or ended; "" if it is delivered.
    at: str = ""
    # The reason word of the hop where it ended or failed.
    why: str = ""
    # From its first sign to the last exit, or to its last sign.
    seconds: float = 0.0
    slowest: Share | None = None
    # When it was dead-lettered and sent again: where that was.
    redriven_at: str = ""

    @property
    def exits(self) -> list[str]:
        """Where it is delivered."""
        return [step.hop for step in self.steps if step.hop in EXITS and step.state is State.PASSED]

    @property
    def sent_again(self) -> bool:
        """A copy was sent long after the first one."""
        return any(step.skew_seconds >= SENT_AGAIN_SECONDS_MIN for step in self.steps)

    def hops(self, state: State) -> list[str]:
        return [step.hop for step in self.steps if step.state is state and not step.part]

    def step(self, hop: str) -> Step | None:
        return next((step for step in self.steps if step.hop == hop), None)


def fates(spans: Iterable[Span], now_ns: int) -> list[Fate]:
    """The fate of every event that has a span, by its begin."""
    by_event: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        if span.event_id and span.hop:
            by_event.setdefault((span.source, span.event_id), []).append(span)
    return [fate_of(of_event, now_ns) for of_event in sorted(by_event.values(), key=lambda of: min(s.began_ns for s in of))]


def fate_of(spans: Sequence[Span], now_ns: int) -> Fate:
    """The fate of one event, of whose spans there is at least one."""
    spans, redriven_at = _since_redriven(one_each(spans))
    path = Path.of(spans, now_ns)
    steps = tuple(path.steps())
    became, at, why = _became(path, steps)
    chain = path.chain(_end_of_chain(path))
    began, ended = min(span.began_ns for span in chain), max(span.ended_ns for span in chain)
    return Fate(
        trace_id=spans[0].trace_id,
        id=spans[0].event_id,
        source=spans[0].source,
        tenant=_first(spans, "spillway.tenant"),
        type=_first(spans, "cloudevents.event_type"),
        became=became,
        steps=steps,
        at=at,
        why=why,
        seconds=(ended - began) / 1e9,
        slowest=max(shares(chain), key=lambda share: share.share, default=None),
        redriven_at=redriven_at,
    )


def shares(chain: Sequence[Span]) -> list[Share]:
    """What each hop took of the way; `chain` in the order of the path. They add up to 1, unless the whole took no time."""
    edges = sorted({at for span in chain for at in (span.began_ns, span.ended_ns)})
    whole = edges[-1] - edges[0] if edges else 0
    took, waited = [0] * len(chain), [0] * len(chain)
    for begin, end in pairwise(edges):
        at_work = [place for place, span in enumerate(chain) if span.began_ns <= begin < span.ended_ns]
        if at_work:
            took[at_work[-1]] += end - begin
        else:
            waited[next(place for place, span in enumerate(chain) if span.began_ns >= end)] += end - begin
    return [
        Share(span.base, (waited[place] + took[place]) / whole, waited[place] / 1e9, took[place] / 1e9)
        for place, span in enumerate(chain)
        if whole
    ]


def _since_redriven(spans: list[Span]) -> tuple[list[Span], str]:
    """Without the end that a redrive has overtaken, and the hop where that was.

    What the transcoder said stays, as a failure: no redrive goes there again. So do the exits that had the event before.
    """
    door = next((span for span in spans if span.hop == GRPC_DOOR), None)
    dead = [span for span in spans if span.final == "dead_letter"]
    if door is None or not dead or door.began_ns < max(span.ended_ns for span in dead) + SENT_AGAIN_SECONDS_MIN * 1e9:
        return spans, ""
    died_at = {span.base for span in dead}
    lived = []
    for span in spans:
        if span.base not in died_at:
            lived.append(span)
        elif _ORDER.get(span.base, len(_ORDER)) < _ORDER[GRPC_DOOR]:
            lived.append(replace(span, attributes={**span.attributes, "spillway.final": ""}))
    return lived, dead[-1].hop


_ENDS = {"dead_letter": Became.DEAD_LETTER, "rejected": Became.REJECTED}


def _became(path: Path, steps: Sequence[Step]) -> tuple[Became, str, str]:
    """What became of it, where, and why."""
    # An exit whose own span was lost, and not that of its commit, has the event.
    if all(step.state in (State.PASSED, State.MISSING) for step in steps if step.hop in EXITS):
        return Became.DELIVERED, "", ""
    ends = [step.span for step in steps if step.state is State.ENDED and step.span is not None]
    if ends:
        # Who buries an event knows more than who refused it to him; else the last hop knows most.
        last = next((span for span in ends if span.final == "dead_letter"), ends[-1])
        return _ENDS.get(last.final, Became.GIVEN_UP), last.hop, _why(last)
    for hop in reversed(path.way):
        if path.stopped(hop.name):
            return _stopped(path.said[hop.name], hop.name)
    if not path.promised:
        return Became.UNTOLD, "", ""
    # The backup waits in Firehose for minutes: it is what the event waits for only if nothing else is.
    waits = [step.hop for step in steps if step.state is State.WAITS]
    return Became.WAITS, min(waits, key=lambda hop: (hop == BACKUP, _ORDER[hop]), default=""), ""


def _stopped(said: Sequence[Span], hop: str) -> tuple[Became, str, str]:
    failed = next(span for span in said if span.failed)
    status = next((span.attributes["spillway.door.status"] for span in said if "spillway.door.status" in span.attributes), "")
    became = {"retry": Became.SEND_AGAIN, "queued": Became.LOST}.get(status, Became.FAILED)
    return became, hop, _why(failed)


def _end_of_chain(path: Path) -> str:
    """The hop whose way is measured: the exit that was last, else the last hop that said something. The backup only if alone."""
    exits = [name for name in EXITS if name in path.own]
    if exits:
        return max(exits, key=lambda name: path.own[name].ended_ns)
    hops = [hop.name for hop in path.way if hop.name in path.own]
    return next((name for name in reversed(hops) if name != BACKUP), hops[0] if hops else "")


def _why(span: Span) -> str:
    return span.attributes.get("spillway.reason") or span.error


def _first(spans: Sequence[Span], name: str) -> str:
    return next((span.attributes[name] for span in spans if span.attributes.get(name)), "")
