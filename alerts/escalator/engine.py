"""The mind with a memory: events in, committed state out. No thread, no network: the service and the simulator run it.

Rules.
- Events that come together are applied together and committed once. Who asked gets an answer after the commit.
- If the disk refuses, the state goes on in memory and people are told all the same; what was not committed is committed with the
  next. Whoever brought the event hears that it is not durable, and brings it again: events may come any number of times.
- A note is taken to be sent only from the present state, and no second one of the same page and channel while one is under way.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

from alerts.escalator.clock import Clock, Reading, since
from alerts.escalator.core import step
from alerts.escalator.due import next_at, sendable
from alerts.escalator.events import Action, Closed, Event, Outcome, PostTest, Record, Restarted, Said, Stepped, Tick
from alerts.escalator.state import Note, Setup, State, begin
from alerts.escalator.store import Store

# So often the time is written though nothing happened: a restart knows how long it was down to that.
HEARTBEAT_SECONDS = 5.0

Step = Callable[[State, Event, float, Setup], tuple[State, tuple[Action, ...]]]


class NotDurable(Exception):
    """It is applied, but the disk refused: bring it again. `actions` are to be done all the same."""

    def __init__(self, why: str, actions: Sequence[Action]) -> None:
        super().__init__(why)
        self.actions = actions


class Engine:
    """Thread-safe. `step` is the core's; the simulator's mutants bring their own."""

    def __init__(self, store: Store, clock: Clock, setup: Setup, *, step: Step = step) -> None:
        """Begin where the last process ended."""
        self.setup = setup
        self.lock = threading.RLock()
        self.not_durable = ""
        self._store, self._clock, self._step = store, clock, step
        self._busy: dict[str, tuple[str, str]] = {}
        self._history: list[Record | Closed] = []
        self.reading, _ = clock.read()
        kept = store.load()
        self._committed: State | None = kept[0] if kept else None
        self._committed_at = 0.0
        self.state = kept[0] if kept else begin(self.reading.wall, setup)
        self.first_actions: Sequence[Action] = ()
        if kept:
            began = since(kept[1], self.reading)
            self.first_actions = self._run([Restarted(began.down_seconds, began.stepped_seconds)], self.reading)
        self._commit(self.reading)

    def apply(self, *events: Event) -> list[Action]:
        """What is to be done by the caller, once this has returned: post test pages, write lines.

        Raises:
            NotDurable: all is applied, but not committed.
        """
        with self.lock:
            reading, stepped = self._clock.read()
            self.reading = reading
            before = self.state
            actions = self._run([*([Stepped(stepped)] if stepped else []), *events], reading)
            due = abs(reading.steady - self._committed_at) >= HEARTBEAT_SECONDS
            if self.state is not before or self._history or due or self.not_durable:
                self._commit(reading)
            wanted: list[Action] = [each for each in actions if isinstance(each, PostTest | Said)]
            if self.not_durable:
                raise NotDurable(self.not_durable, wanted)
            return wanted

    def tick(self) -> list[Action]:
        """Raises: NotDurable."""
        return self.apply(Tick())

    def take(self, free: Callable[[str], int]) -> list[Note]:
        """Notes to send now, at most `free(channel)` of each channel. `done` must follow for each."""
        with self.lock:
            found: list[Note] = []
            counts: dict[str, int] = {}
            for note in sendable(self.state, self.now(), self._busy.values()):
                left = counts.setdefault(note.channel, free(note.channel))
                if left > 0:
                    counts[note.channel] = left - 1
                    self._busy[note.id] = (note.key, note.channel)
                    found.append(note)
            return found

    def done(self, outcome: Outcome) -> list[Action]:
        """Raises: NotDurable."""
        with self.lock:
            self._busy.pop(outcome.note, None)
            return self.apply(outcome)

    def wait_seconds(self) -> float:
        """How long nothing is due."""
        with self.lock:
            return max(0.0, next_at(self.state, self.setup, self._busy.values()) - self.now())

    def now(self) -> float:
        """As the due times in the state mean it: by the steady clock since the last reading that was applied."""
        reading = self.reading
        return reading.wall + (self._clock.steady() - reading.steady)

    def _run(self, events: Iterable[Event], reading: Reading) -> list[Action]:
        done: list[Action] = []
        for event in events:
            self.state, actions = self._step(self.state, event, reading.wall, self.setup)
            done += actions
        self._history += [each for each in done if isinstance(each, Record | Closed)]
        return done

    def _commit(self, reading: Reading) -> None:
        try:
            self._store.commit(self._committed, self.state, self._history, reading)
        except Exception as exc:  # noqa: BLE001 - whatever the disk says, people must be told
            self.not_durable = f"{type(exc).__name__}: {exc}"
            return
        self.not_durable = ""
        self._committed, self._history = self.state, []
        self._committed_at = reading.steady
