"""Probes out: when a round is due, through which doors and onto which shards, and what the doors said.

Rules. One round at a time for each door, asked by a thread of its own: a door that hangs holds up nobody else. A probe is written
down before it is sent. What is under way is bounded: beyond `outstanding_max` probes nothing is sent, which is said and is no
green.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from canary.lanes import Door, Shard, Slot, cover
from canary.probes import Probe
from canary.send import ACCEPTED, REJECTED, UNANSWERED, Sends, Sent
from canary.settings import CanarySettings
from canary.state import Open, State
from canary.work import Workers
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

SHARDS_SECONDS = 60.0
SHARDS_WAIT_SECONDS = 5.0
OUTCOMES = (ACCEPTED, REJECTED, UNANSWERED, "held_back")
# Until the shards are known.
_ANY_SLOT = Slot(0)


@dataclass
class Voice:
    """How sending through one door goes."""

    door: Sends
    round: list[Open] = field(default_factory=list)
    future: "Future[list[Sent]] | None" = None
    # By slice: the last outcome.
    last: dict[int, tuple[Slot, str, str, float]] = field(default_factory=dict)


class Rounds:
    """Sends what is due; `opened` is what is under way, and gains what is sent."""

    def __init__(
        self,
        settings: CanarySettings,
        state: State,
        opened: dict[int, Open],
        doors: Sequence[Sends],
        shards: Callable[[], Mapping[str, Sequence[Shard]]],
        workers: Workers,
        metrics: Metrics,
        log: Logger,
        *,
        began: float,
        slices: int,
    ) -> None:
        self.voices = {door.door: Voice(door) for door in doors}
        self.slots: tuple[Slot, ...] = ()
        self.held_back_since = 0.0
        self.sent = 0
        self._settings, self._state, self._open = settings, state, opened
        self._shards, self._workers, self._metrics, self._log = shards, workers, metrics, log
        self._began, self._slices = began, slices
        self._stopping = False
        self._next_round = self._next_shards = float("-inf")
        self._mapping: Future[Mapping[str, Sequence[Shard]]] | None = None
        # From the start, as zero: the first failure is an increase already, and not a series that begins at one.
        for door in self.voices:
            for outcome in OUTCOMES:
                metrics.counter(m.CANARY_SENT, door=door, outcome=outcome)

    def step(self, now: float) -> None:
        self._know_shards(now)
        self._take_answers(now)
        # The first round waits a moment for the shards, so that it goes onto each.
        known = self.slots or now >= self._began + SHARDS_WAIT_SECONDS
        if known and not self._stopping and now >= self._next_round:
            self._next_round = now + self._settings.interval_seconds
            self._send_round(now)

    def stop(self) -> None:
        """What is open stays on disk, for the next life."""
        self._stopping = True

    @property
    def answered(self) -> bool:
        """No round is under way."""
        return all(voice.future is None for voice in self.voices.values())

    @property
    def answering(self) -> set[int]:
        """Numbers of the probes that a door has not answered yet."""
        return {one.probe.number for voice in self.voices.values() for one in voice.round}

    def _know_shards(self, now: float) -> None:
        if self._mapping is not None and self._mapping.done():
            try:
                self.slots = cover(self._mapping.result(), self._slices) or self.slots
            except Exception as exc:  # noqa: BLE001 - the last known map serves on
                self._log.warning("shards can't be listed", detail=f"{type(exc).__name__}: {exc}")
            self._mapping = None
        if self._mapping is None and now >= self._next_shards:
            self._next_shards = now + SHARDS_SECONDS
            self._mapping = self._workers.submit("shards", self._shards)

    def _send_round(self, now: float) -> None:
        slots = self.slots or (_ANY_SLOT,)
        free = [voice for voice in self.voices.values() if voice.future is None]
        for voice in self.voices.values():
            if voice.future is not None:
                self._metrics.counter(m.CANARY_SENT, door=voice.door.door, outcome="held_back").inc()
        each = max(1, self._settings.round_events_max // max(1, len(self.voices)))
        turn = self._state.next_turn
        # More shards than a round may have events: they take turns.
        chosen = [slots[(turn * each + at) % len(slots)] for at in range(min(each, len(slots)))]
        if len(self._open) + len(chosen) * len(free) > self._settings.outstanding_max:
            self.held_back_since = self.held_back_since or now
            for voice in free:
                self._metrics.counter(m.CANARY_SENT, door=voice.door.door, outcome="held_back").inc(len(chosen))
            return
        self.held_back_since = 0.0
        number = self._state.next_number
        rounds: list[tuple[Voice, list[Open]]] = []
        for voice in free:
            made = [Open(self._probe(number + at, voice.door.door, slot, now, turn), slot) for at, slot in enumerate(chosen)]
            number += len(made)
            rounds.append((voice, made))
        if not rounds:
            return
        self._state.begin(one for _, made in rounds for one in made)
        for voice, made in rounds:
            self._open.update((one.probe.number, one) for one in made)
            self.sent += len(made)
            voice.round = made
            voice.future = self._workers.submit(voice.door.door, _sending(voice.door, [one.probe for one in made]))

    def _probe(self, number: int, door: Door, slot: Slot, now: float, turn: int) -> Probe:
        return Probe(self._state.source, number, door, slot.slice, now, turn, self._state.ring, self._slices)

    def _take_answers(self, now: float) -> None:
        for voice in self.voices.values():
            if voice.future is None or not voice.future.done():
                continue
            try:
                answers = voice.future.result()
            except Exception as exc:  # noqa: BLE001 - a door that can't be asked has not acknowledged
                answers = [Sent("unanswered", f"{type(exc).__name__}: {exc}")] * len(voice.round)
            for one, answer in zip(voice.round, answers, strict=True):
                one.outcome, one.why = answer.outcome, answer.why
                voice.last[one.slot.slice] = (one.slot, answer.outcome, answer.why, now)
                self._metrics.counter(m.CANARY_SENT, door=voice.door.door, outcome=answer.outcome).inc()
            self._state.answered(voice.round)
            failed = [one for one in voice.round if not one.acknowledged]
            if failed:
                why = failed[0].why[:300]
                self._log.warning("probes were not acknowledged", door=voice.door.door, count=len(failed), detail=why)
            voice.future, voice.round = None, []


def _sending(door: Sends, round: Sequence[Probe]) -> Callable[[], list[Sent]]:
    return lambda: door.send(round)
