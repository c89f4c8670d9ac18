"""The canary at work: rounds of probes out, looks at the exits, verdicts, over and over.

    a round is due ─► written down ─► sent ─► answered ─┐
    a look is due  ─► what an exit holds ───────────────┴─► folded ─► judged ─► settled, counted, forgotten

Rules. `step` is called again and again by one thread and never waits: doors (`rounds.py`) and exits are asked by threads of their
own. What is under way is bounded: one look at a time for each exit. A look asks for what has not been seen, and once more for
what has, when its due time is over.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from canary.blame import exits_of
from canary.judge import CONVICTING, Judgement, Look, Verdict, differences, fold, judge
from canary.lanes import Door, Shard, Slot
from canary.looks import Exit, Held
from canary.probes import Probe, number_of
from canary.rounds import Rounds
from canary.send import Sends
from canary.settings import CanarySettings
from canary.state import Case, Open, State
from canary.work import Workers
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

JUDGE_SECONDS = 1.0
RECENT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Recent:
    """What was judged lately, settled or not."""

    probe: Probe
    slot: Slot
    exit: str
    verdict: Verdict
    fresh_seconds: float | None = None


@dataclass
class _Asking:
    """A look under way."""

    began: float
    wanted: list[Open]
    future: "Future[tuple[float, Held]]"


@dataclass
class Eye:
    """How looking at one exit goes."""

    exit: Exit
    asking: _Asking | None = None
    # Ends of the last look, and of the last that worked.
    ended: float = 0.0
    worked: float = 0.0
    # Why the last look failed, "" if it did not.
    blind: str = ""


class Canary:
    """One canary. Everything that it talks to is handed in; `step` drives it."""

    def __init__(
        self,
        settings: CanarySettings,
        state: State,
        doors: Sequence[Sends],
        exits: Sequence[Exit],
        shards: Callable[[], Mapping[str, Sequence[Shard]]],
        workers: Workers,
        metrics: Metrics,
        log: Logger,
        *,
        clock: Callable[[], float],
        slices: int = 16,
    ) -> None:
        self.settings, self.state, self.clock = settings, state, clock
        self.eyes = {exit.name: Eye(exit) for exit in exits}
        self.open: dict[int, Open] = {one.probe.number: one for one in state.open()}
        self.recent: deque[Recent] = deque(maxlen=RECENT_MAX)
        self.rounds = Rounds(settings, state, self.open, doors, shards, workers, metrics, log, began=clock(), slices=slices)
        self._workers, self._log, self._metrics = workers, log, metrics
        self._settled: dict[int, dict[str, Judgement]] = defaultdict(dict)
        self._next_judge = float("-inf")
        self._now: dict[tuple[int, str], Judgement] = {}
        # Of what is open, what was told as a case already.
        self._told: dict[tuple[int, str], set[Verdict]] = defaultdict(set)
        self._recent_seconds = settings.lately_seconds + max(settings.lost_seconds, settings.backup_lost_seconds)
        metrics.gauge(m.CANARY_PENDING_EVENTS).set_function(lambda: float(len(self.open)))
        # From the start, as zero: the first failure is an increase already, and not a series that begins at one.
        for exit in self.eyes:
            for outcome in ("looked", "failed"):
                metrics.counter(m.CANARY_LOOKS, exit=exit, outcome=outcome)

    def step(self) -> None:
        now = self.clock()
        self.rounds.step(now)
        for eye in self.eyes.values():
            self._take_look(eye, now)
            self._begin_look(eye, now)
        if now >= self._next_judge:
            self._next_judge = now + JUDGE_SECONDS
            self._judge_all(now)

    # -- looks

    def _begin_look(self, eye: Eye, now: float) -> None:
        if eye.asking is not None or now - eye.ended < self.settings.look_seconds:
            return
        wanted = [one for one in self.open.values() if self._is_wanted(one, eye.exit.name, now)]
        if wanted:
            eye.asking = _Asking(now, wanted, self._workers.submit(eye.exit.name, self._looking(eye.exit, wanted)))

    def _is_wanted(self, one: Open, exit: str, now: float) -> bool:
        if exit not in exits_of(one.probe.door) or exit in self._settled.get(one.probe.number, ()):
            return False
        seen, due = one.at(exit), one.probe.sent_at + self.settings.deadlines(exit).due_seconds
        return seen.seen_at is None or seen.gone_at is not None or now >= due

    def _looking(self, exit: Exit, wanted: Sequence[Open]) -> Callable[[], tuple[float, Held]]:
        probes = [one.probe for one in wanted]

        def look() -> tuple[float, Held]:
            held = exit.look(probes)
            return self.clock(), held

        return look

    def _take_look(self, eye: Eye, now: float) -> None:
        asking, name = eye.asking, eye.exit.name
        if asking is None:
            return
        if not asking.future.done():
            if now - asking.began > self.settings.look_seconds_max and not eye.blind:
                self._is_blind(eye, f"no answer in {self.settings.look_seconds_max:g} s")
            return
        eye.asking, eye.ended = None, now
        try:
            ended, held = asking.future.result()
        except Exception as exc:  # noqa: BLE001 - who can't look says so and judges nobody by it
            self._is_blind(eye, f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}")
            return
        if eye.blind:
            self._log.info("can look again", exit=name)
        eye.blind, eye.worked = "", ended
        self._metrics.counter(m.CANARY_LOOKS, exit=name, outcome="looked").inc()
        self._metrics.histogram(m.CANARY_LOOK_SECONDS, exit=name).observe(max(0.0, ended - asking.began))
        self._metrics.gauge(m.CANARY_LOOKED, exit=name).set(ended)
        self._fold(eye.exit, asking, ended, held)
        self._find_phantoms(name, held, now)

    def _is_blind(self, eye: Eye, why: str) -> None:
        if not eye.blind:
            self._log.warning("can't look", exit=eye.exit.name, detail=why)
        eye.blind = why
        self._metrics.counter(m.CANARY_LOOKS, exit=eye.exit.name, outcome="failed").inc()

    def _fold(self, exit: Exit, asking: _Asking, ended: float, held: Held) -> None:
        last_there: dict[tuple[Door, int], int] = {}
        for one in self.open.values():
            if one.probe.id in held:
                lane = (one.probe.door, one.probe.slice)
                last_there[lane] = max(last_there.get(lane, -1), one.probe.number)
        changed = []
        for one in asking.wanted:
            copies, before = held.get(one.probe.id, []), one.at(exit.name)
            expected = exit.expected(one.probe) if copies else {}
            differs = tuple(sorted({name for copy in copies for name in differences(expected, copy)}))
            overtaken = not copies and last_there.get((one.probe.door, one.probe.slice), -1) > one.probe.number
            one.seen[exit.name] = fold(before, Look(asking.began, ended, len(copies), differs, overtaken))
            if replace(one.seen[exit.name], looked_at=None) != replace(before, looked_at=None):
                changed.append(one)
                if before.seen_at is None and copies:
                    self._first_seen(one, exit.name)
        if changed:
            self.state.sighted(exit.name, changed)

    def _first_seen(self, one: Open, exit: str) -> None:
        judged = self._judged(one, exit, self.clock())
        if judged.fresh_seconds is not None and one.acknowledged:
            self._metrics.histogram(m.CANARY_FRESHNESS_SECONDS, exit=exit, door=one.probe.door).observe(
                judged.fresh_seconds, {"trace_id": one.probe.trace_id}
            )

    def _find_phantoms(self, exit: str, held: Held, now: float) -> None:
        for id in held:
            number = number_of(id, self.state.source)
            if number is None or number >= self.state.next_number:
                door = next(iter(held[id]), {}).get("door", "")
                case = Case(now, id, door, exit, Verdict.PHANTOM.value, "it was never sent, or was refused at the door")
                if self.state.case(case):
                    self._log.error("phantom", exit=exit, event_id=id, door=door)
                    self._metrics.counter(m.CANARY_VERDICTS, exit=exit, door=door, verdict=Verdict.PHANTOM.value).inc()

    # -- judged

    def _judged(self, one: Open, exit: str, now: float) -> Judgement:
        known = self._settled.get(one.probe.number, {}).get(exit)
        if known is not None:
            return known
        once, deadlines = self.eyes[exit].exit.once, self.settings.deadlines(exit)
        return judge(one.probe.sent_at, one.acknowledged, one.at(exit), now, deadlines, once=once)

    def judgement(self, one: Open, exit: str) -> Judgement:
        """As of the last time that all were judged."""
        return self._now.get((one.probe.number, exit)) or self._judged(one, exit, self.clock())

    def exits_of(self, one: Open) -> Iterable[str]:
        return (exit for exit in exits_of(one.probe.door) if exit in self.eyes)

    def _judge_all(self, now: float) -> None:
        self._now = {}
        overdue = {(exit, door): 0 for door in self.rounds.voices for exit in exits_of(door) if exit in self.eyes}
        answering = self.rounds.answering
        for one in list(self.open.values()):
            exits = list(self.exits_of(one))
            for exit in exits:
                judged = self._now[one.probe.number, exit] = self._judged(one, exit, now)
                missing = one.at(exit).seen_at is None and judged.verdict in (Verdict.LATE, Verdict.LOST)
                overdue[exit, one.probe.door] += missing
                if judged.convicts:
                    self._convict(one, exit, judged, now)
                known = self._settled.get(one.probe.number, ())
                if judged.settled and exit not in known and one.probe.number not in answering:
                    self._settle(one, exit, judged)
            if len(self._settled.get(one.probe.number, ())) == len(exits):
                settled = self._settled.pop(one.probe.number, {})
                self.state.settle(one, {exit: judged.verdict for exit, judged in settled.items()})
                del self.open[one.probe.number]
                for exit in exits:
                    self._told.pop((one.probe.number, exit), None)
        while self.recent and self.recent[0].probe.sent_at < now - self._recent_seconds:
            self.recent.popleft()
        for (exit, door), count in overdue.items():
            self._metrics.gauge(m.CANARY_OVERDUE_EVENTS, exit=exit, door=door).set(count)

    def _settle(self, one: Open, exit: str, judged: Judgement) -> None:
        self._settled[one.probe.number][exit] = judged
        self.recent.append(Recent(one.probe, one.slot, exit, judged.verdict, judged.fresh_seconds))
        for verdict in judged.findings:
            self._metrics.counter(m.CANARY_VERDICTS, exit=exit, door=one.probe.door, verdict=verdict.value).inc()

    def _convict(self, one: Open, exit: str, judged: Judgement, now: float) -> None:
        for verdict in (CONVICTING & judged.findings) - self._told[one.probe.number, exit]:
            self._told[one.probe.number, exit].add(verdict)
            detail = f"fields: {', '.join(judged.differs)}" if verdict is Verdict.CORRUPTED else ""
            case = Case(now, one.probe.id, one.probe.door, exit, verdict.value, detail)
            # In an outage all are late: the gauge and the strip tell that better than a line for each.
            if self.state.case(case) and verdict is not Verdict.LATE:
                self._log.error(
                    verdict.value,
                    exit=exit,
                    event_id=one.probe.id,
                    door=one.probe.door,
                    trace_id=one.probe.trace_id,
                    detail=detail,
                )
