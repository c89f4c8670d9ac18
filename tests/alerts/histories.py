"""Histories of an escalator, by chance, from a seed: alerts that come, flap and get lost, people who answer or do not, channels
that are ill, a process that is killed at any moment, a clock that is set.

The real engine and core run, on a store in memory that keeps what was committed and nothing else. Time is true time in seconds
from the history's begin; the engine sees a wall clock and a steady one that are made of it. What happened is written down as an
outsider sees it (`history_seen.py`), and `judge.py` convicts from that alone. What may happen: `history_plan.py`.
`python -m tests.alerts.histories --seed 7` tells one history.
"""

import argparse
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alerts.escalator.clock import Clock, Reading
from alerts.escalator.core import Turn, step
from alerts.escalator.engine import HEARTBEAT_SECONDS, Engine
from alerts.escalator.events import (
    Acknowledge,
    Closed,
    Event,
    Firing,
    Outcome,
    Record,
    ResolveByHand,
    Resolved,
    Tick,
    Verified,
    WatchdogHeard,
)
from alerts.escalator.policy import Policy, reaches_a_person
from alerts.escalator.state import BLIND, Note, Setup, State
from alerts.escalator.store import Memory, Sqlite
from tests.alerts.history_plan import CHANNELS, Ill, Kill, plan_of
from tests.alerts.history_seen import Attempt, Life, Seen
from tests.alerts.judge import judge

GROUP_SECONDS, VERIFY_SECONDS, WATCHDOG_SECONDS = 5.0, 60.0, 60.0
RESEND_SECONDS, PERSON_AGAIN_SECONDS, HANG_SECONDS = 7.0, 4.0, 8.0
LATENESS_SECONDS = 0.7


class Killed(BaseException):
    """SIGKILL."""


class _Store:
    """Kills before or after the nth commit of the real one."""

    def __init__(self, world: "World", kept: Memory | Sqlite) -> None:
        self._world, self._kept = world, kept
        self.commits = 0
        self.durable = False

    def load(self) -> tuple[State, Reading] | None:
        return self._kept.load()

    def is_closed(self, key: str) -> bool:
        page = self._kept.closed.get(key) if isinstance(self._kept, Memory) else self._kept.page(key)
        return page is not None and page.state == "resolved"

    def commit(self, before: State | None, after: State, history: Sequence[Record | Closed], reading: Reading) -> None:
        self.commits += 1
        self._world.maybe_kill("before", self.commits)
        self._kept.commit(before, after, history, reading)
        self.durable = True
        self._world.maybe_kill("after", self.commits)


class World:
    def __init__(self, seed: int, mutant: type[Turn] | None = None, store: Memory | Sqlite | None = None) -> None:
        self.plan, self.random = plan_of(seed)
        self.mutant = mutant
        self.now = 0.0
        tells = {name: frozenset(("trigger", "acknowledge", "resolve")) for name in CHANNELS[:3]} | {
            "log": frozenset(("trigger",))
        }
        late = 100.0 if self.plan.watchdog else 1e9
        self.setup = Setup({"default": self.plan.policy}, tells, "", late, 180.0 if self.plan.watchdog else 1e9, 0.0)  # type: ignore[arg-type]
        self.seen = Seen(self.plan, self.setup)
        self.store = _Store(self, store or Memory())
        self.engine: Engine | None = None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._kills = list(self.plan.kills)
        self._down = (1.0, False)
        self._generation = 0
        self._boot = 0
        self._wake_at = float("inf")
        self._in_flight: dict[str, Attempt] = {}
        self._last_sent: dict[str, bool] = {}
        self._marks: set[str] = set()

    # -- time

    def at(self, when: float, what: Callable[..., None], *data: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what, data))

    def wall(self) -> float:
        jumped = sum(by for when, by in self.plan.jumps if when <= self.now)
        return self.plan.wall_begin + self.now * (1 + self.plan.slew) + jumped

    def run(self) -> Seen:
        plan = self.plan
        self.at(0.0, self.start)
        for burst in plan.bursts:
            for when in (burst.at, burst.until, *([burst.joins_at] if burst.joins_at is not None else [])):
                self.at(when + GROUP_SECONDS, self.flush, burst.subject, 0)
        for kill in plan.kills:
            if kill.where == "time":
                self.at(kill.at, self.kill_now, kill)
        if plan.verifies:
            self.at(VERIFY_SECONDS, self.verify)
        if plan.watchdog:
            self.at(self.random.uniform(0, WATCHDOG_SECONDS), self.watchdog)
        while self._heap and self._heap[0][0] <= plan.ends_at:
            when, _, what, data = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            what(*data)
        self.now = plan.ends_at
        if self.seen.up and self.engine is not None:
            self.seen.up[-1][1] = self.now
        return self.seen

    # -- the process

    def start(self) -> None:
        clock = Clock(self.wall, lambda: self.now, f"boot {self._boot}")
        mutant = self.mutant
        try:
            engine = Engine(
                self.store, clock, self.setup, step=lambda state, event, now, setup: step(state, event, now, setup, mutant)
            )  # fmt: skip
        except Killed:
            self.observe(Tick())
            self.start_again()
            return
        self.engine = engine
        self.seen.up.append([self.now, self.now])
        self.observe(Tick())
        self.pump()

    def maybe_kill(self, where: str, number: int) -> None:
        for kill in self._kills:
            if kill.where == where and number >= kill.at and self.now < self.plan.busy_until:
                self._kills.remove(kill)
                self._set_down(kill)
                raise Killed

    def _set_down(self, kill: Kill) -> None:
        self._down = kill.down_seconds, kill.reboot
        self._boot += kill.reboot

    def kill_now(self, kill: Kill) -> None:
        if self.engine is not None:
            self._set_down(kill)
            self.die()

    def die(self) -> None:
        """What is under way may still arrive."""
        self.engine = None
        self._generation += 1
        self._wake_at = float("inf")
        self.seen.up[-1][1] = self.now
        self.seen.restarts += 1
        for attempt in self._in_flight.values():
            attempt.ends_at = self.now
            if attempt.taken and self.random.random() < 0.5:
                self.receive(attempt.note)
        self._in_flight.clear()
        self.observe(Tick())
        self.start_again()

    def start_again(self) -> None:
        self.at(max(self.now, min(self.now + self._down[0], self.plan.busy_until)) + 0.1, self.start)

    def apply(self, *events: Event) -> bool:
        """Whether who brought it hears that it is durable."""
        self.store.durable = False
        if self.engine is None:
            return False
        try:
            self.engine.apply(*events)
        except Killed:
            self.die()
            return False
        self.observe(events[0] if events else Tick())
        self.pump()
        return True

    def wake(self, generation: int, when: float) -> None:
        if generation == self._generation and when == self._wake_at:
            self._wake_at = float("inf")
            self.apply(Tick())

    def pump(self) -> None:
        engine = self.engine
        if engine is None:
            return
        for note in engine.take(lambda _: 99):
            self.send(note)
        # The service looks more often; where it matters how long the process was down, it must write the time now and then.
        wait = min(engine.wait_seconds(), HEARTBEAT_SECONDS) if self.plan.watchdog else engine.wait_seconds()
        when = self.now + max(0.02, wait) + self.random.random() * LATENESS_SECONDS
        if when < self._wake_at:
            self._wake_at = when
            self.at(when, self.wake, self._generation, when)

    # -- channels

    def send(self, note: Note) -> None:
        how = self.health(note.channel)
        seconds = HANG_SECONDS if how == "hang" else 0.0 if note.channel == "log" else self.random.uniform(0.05, 0.8)
        attempt = Attempt(self.now, note, self.now + seconds, how in ("ok", "lost"))
        self.seen.attempts.append(attempt)
        self._in_flight[note.id] = attempt
        self.at(attempt.ends_at, self.answered, self._generation, attempt, how)

    def health(self, channel: str) -> Ill:
        return next(
            (ill.how for ill in self.plan.illnesses if ill.channel == channel and ill.at <= self.now < ill.until), "ok"
        )  # fmt: skip

    def answered(self, generation: int, attempt: Attempt, how: Ill) -> None:
        if generation != self._generation or self.engine is None:
            return
        del self._in_flight[attempt.note.id]
        if attempt.taken:
            self.receive(attempt.note)
        result: Any = {"ok": "ok", "never": "refused"}.get(how, "retry")
        outcome = Outcome(attempt.note.id, attempt.note.channel, result, how, 0.0, self.random.random())
        self.store.durable = False
        try:
            if attempt.taken:
                self.maybe_kill("took", sum(each.taken for each in self.seen.attempts))
            self.engine.done(outcome)
        except Killed:
            self.die()
            if not self.store.durable:
                return
        attempt.result = result
        attempt.ends_at = self.now
        if self.engine is not None:
            self.observe(outcome)
            self.pump()

    def receive(self, note: Note) -> None:
        """As PagerDuty does: a trigger joins the open incident of its key or opens one; the rest of an unknown key is dropped."""
        if not reaches_a_person(note.channel):
            return
        incidents = self.seen.incidents.setdefault((note.channel, note.key), [])
        if note.kind == "trigger":
            if not incidents or incidents[-1] == "resolved":
                incidents.append("triggered")
            self.person(note)
        elif incidents and incidents[-1] != "resolved":
            incidents[-1] = "acknowledged" if note.kind == "acknowledge" else "resolved"

    def person(self, note: Note) -> None:
        if self.random.random() < self.plan.answers:
            event = (ResolveByHand if self.random.random() < 0.1 else Acknowledge)(note.key, note.who)
            self.at(self.now + self.random.uniform(1, self.plan.answer_seconds), self.answer, event)

    def answer(self, event: Event) -> None:
        if not self.apply(event) and self.now < self.plan.ends_at - 30:
            self.at(self.now + PERSON_AGAIN_SECONDS, self.answer, event)

    # -- Alertmanager

    def firing(self, subject: str, when: float | None = None) -> list[str]:
        when = self.now if when is None else when
        found = []
        for burst in self.plan.bursts:
            if burst.subject == subject and burst.at <= when < burst.until:
                found.append(f"{subject}/1")
                if burst.joins_at is not None and burst.joins_at <= when:
                    found.append(f"{subject}/2")
        return sorted(set(found))

    def flush(self, subject: str, again: int) -> None:
        """The group's state, as it is now; sent again until the escalator says that it has it."""
        if self._silenced(subject):
            self.at(self.now + 20.0, self.flush, subject, again)
            return
        members = self.firing(subject)
        if members:
            event: Event = Firing(
                subject, subject.partition("-")[0], {"severity": "page"}, {}, "default", self.wall(), tuple(members)
            )
        elif not self._last_sent.get(subject):
            return
        else:
            over = max(
                (burst for burst in self.plan.bursts if burst.subject == subject and burst.until <= self.now),
                key=lambda b: b.until,
            )
            if over.resolve_lost:
                self._last_sent[subject] = False
                return
            event = Resolved(subject)
        open_before = self._open(subject)
        blind = self._open(BLIND) is not None
        if not self.apply(event):
            if self.store.durable and (after := self._open(subject)) is not None:
                after.members |= set(members)
            self.at(self.now + RESEND_SECONDS, self.flush, subject, again)
            return
        self._last_sent[subject] = bool(members)
        self._check_flush(subject, open_before, blind, set(members))
        if members and again == 0:
            self.at(self.now + self.random.uniform(60, 300), self.flush, subject, 0)
        if self.random.random() < 0.1:
            self.at(self.now + self.random.uniform(0.1, 3), self.flush, subject, 1)

    def _check_flush(self, subject: str, before: Life | None, blind: bool, members: set[str]) -> None:
        after = self._open(subject)
        if members:
            if after is None:
                self.seen.complain(f"{self.now:.1f}: {subject} fires, and there is no page")
                return
            known = before.members if before else set()
            if before is after and after.acknowledged_at is not None and known and members - known:
                self.seen.complain(
                    f"{self.now:.1f}: {subject}: {members - known} joined an acknowledged page, and nobody is told"
                )
            after.members |= known | members
        if members or before is None:
            return
        stays = blind or (before.acknowledged_at is None and not self.plan.policy.stop_on_resolve)
        if stays and after is None:
            self.seen.complain(f"{self.now:.1f}: {subject} was closed though {'blind' if blind else 'nobody acknowledged'}")
        if not stays and after is not None:
            self.seen.complain(f"{self.now:.1f}: {subject} is over, and its page is not")

    def _open(self, subject: str) -> Life | None:
        return next((each for each in self.seen.lives.values() if each.subject == subject and each.closed_at is None), None)

    def _silenced(self, subject: str) -> bool:
        return any(name == subject and at <= self.now < until for name, at, until in self.plan.silences)

    def verify(self) -> None:
        subjects = {burst.subject for burst in self.plan.bursts}
        active = {member: self._silenced(subject) for subject in subjects for member in self.firing(subject)}
        if any(at <= self.now < until for at, until in self.plan.forgotten):
            active = {}
        mark = f"{self.now // WATCHDOG_SECONDS:08.0f}" if self.plan.watchdog and not self._away() else ""
        if (self.apply(Verified(active, mark)) or self.store.durable) and mark and mark not in self._marks:
            self._marks.add(mark)
            self.seen.renewed.append(self.now)
        self.at(self.now + VERIFY_SECONDS, self.verify)

    def _away(self) -> bool:
        return any(at <= self.now < until for at, until in self.plan.away)

    def watchdog(self) -> None:
        if not self._away() and (self.apply(WatchdogHeard()) or self.store.durable):
            self.seen.heard.append(self.now)
        self.at(self.now + WATCHDOG_SECONDS, self.watchdog)

    # -- what is seen from outside

    def observe(self, event: Event) -> None:
        """What the last commit left."""
        kept = self.store.load()
        if kept is None:
            return
        state = kept[0]
        for page in state.pages.values():
            life = self.seen.lives.get(page.key)
            if life is None:
                # In the place of one that ends just now: whoever was told of that knows its series.
                known = [each.members for each in self.seen.lives.values()
                         if each.subject == page.subject and each.closed_at in (None, self.now)]  # fmt: skip
                life = Life(page.key, page.subject, page.avoid, page.alert, self.now, members=set().union(*known))
                self.seen.lives[page.key] = life
            if (page.round, page.level) != life.at_step:
                for step_ in _between(life.at_step, (page.round, page.level), self.setup.policy_of(page)):
                    life.told_at[step_] = self.now
                life.at_step = (page.round, page.level)
            if page.state != "open" and life.acknowledged_at is None and page.acknowledged_at is not None:
                life.acknowledged_at = self.now
            if page.state == "resolved":
                self._close(life, event)
        for key, life in self.seen.lives.items():
            if life.closed_at is None and key not in state.pages:
                self._close(life, event)

    def _close(self, life: Life, event: Event) -> None:
        if life.closed_at is not None:
            return
        life.closed_at = self.now
        if not self.store.is_closed(life.key):
            self.seen.complain(f"{self.now:.1f}: {life.key} is gone, and history does not say that it is over")
        # Not if it began again a moment ago, and its message is still to come: that opens a new page.
        fires = self.firing(life.subject) and self.firing(life.subject, self.now - GROUP_SECONDS - RESEND_SECONDS)
        if isinstance(event, Verified) and fires and not self.plan.silences:
            self.seen.complain(f"{self.now:.1f}: {life.key} was closed by a look at Alertmanager though it fires")


def _between(before: tuple[int, int], after: tuple[int, int], policy: Policy) -> Iterator[tuple[int, int]]:
    count = len(policy.levels)
    number = (before[0] - 1) * count + before[1]
    while number < (after[0] - 1) * count + after[1]:
        number += 1
        yield (number - 1) // count + 1, (number - 1) % count + 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.alerts.histories", description="Tell one history, and judge it.")
    parser.add_argument("--seed", type=int, required=True)
    seen = World(parser.parse_args().seed).run()
    print(json.dumps({"plan": repr(seen.plan)}, indent=1))
    for attempt in seen.attempts:
        taken = "taken" if attempt.taken else "not"
        print(f"{attempt.at:9.2f} {attempt.ends_at:9.2f} {attempt.note.id:60} {taken:6} {attempt.result}")
    for life in seen.lives.values():
        print(life)
    print("up", seen.up)
    print("complaints:", judge(seen))


if __name__ == "__main__":
    main()
