"""The escalator at work: threads around the engine.

One thread wakes when something is due and hands out notes; each channel has threads of its own, so that one that hangs holds up
no other; one asks Alertmanager what it has and posts test pages. Rules.
- Each of them survives whatever it meets: it says so in a line and goes on.
- At most `SENDERS_PER_CHANNEL` messages of a channel are under way; what they can't take waits in the outbox, on disk.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from alerts.escalator import heard
from alerts.escalator.alertmanager import Alertmanager, Unanswered
from alerts.escalator.channels import Channel, Sent
from alerts.escalator.channels.patience import Patience
from alerts.escalator.due import deadman_due_at
from alerts.escalator.engine import Engine, NotDurable
from alerts.escalator.events import Acknowledge, Action, Event, Outcome, PathTestPosted, PostTest, ResolveByHand, Said, Verified
from alerts.escalator.intake import events_of
from alerts.escalator.links import Link, LinkAction, sign
from alerts.escalator.naming import Naming, nobody
from alerts.escalator.policy import reaches_a_person
from alerts.escalator.settings import EscalatorSettings
from alerts.escalator.state import Channel as Fares
from alerts.escalator.state import Note, Page
from alerts.escalator.store import Sqlite
from alerts.escalator.words import message, next_words
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

SENDERS_PER_CHANNEL = 4
# Something new may be due: it is looked for so often, whatever was computed.
WAIT_SECONDS_MAX, WAIT_SECONDS_MIN = 0.25, 0.02
FORGET_SECONDS = 3600.0
END_SECONDS_MAX = 8.0
STATES = {"open": ("open", "acknowledged"), "closed": ("resolved",), "all": ("open", "acknowledged", "resolved")}


class Service:
    def __init__(
        self, engine: Engine, store: Sqlite, channels: Mapping[str, Channel], alertmanager: Alertmanager,
        settings: EscalatorSettings, secret: bytes, metrics: Metrics, log: Logger, naming: Naming = nobody,
    ) -> None:  # fmt: skip
        self.engine, self.secret, self.settings = engine, secret, settings
        self._store, self._channels, self._alertmanager = store, channels, alertmanager
        self._metrics, self._log, self._naming = metrics, log, naming
        self._ends, self._wake = threading.Event(), threading.Event()
        self._pools = {name: ThreadPoolExecutor(SENDERS_PER_CHANNEL, f"to-{name}") for name in channels}
        self._patience = {name: Patience() for name in channels}
        # Held under the engine's lock.
        self._under_way = dict.fromkeys(channels, 0)
        self._random = random.Random()
        self._threads = [
            threading.Thread(target=self._every_due, name="due", daemon=True),
            threading.Thread(target=self._every_verify, name="verify", daemon=True),
        ]
        self._posting = ThreadPoolExecutor(1, "test-page")
        self._count()

    def begin(self) -> None:
        self._do(self.engine.first_actions)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """What is under way may end; what waits is on disk."""
        self._ends.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(END_SECONDS_MAX)
        for pool in (*self._pools.values(), self._posting):
            pool.shutdown(wait=False, cancel_futures=True)

    # -- what is asked

    def take(self, body: Any) -> None:
        """A message of Alertmanager's, durable when this returns.

        Raises:
            InvalidMessage: it is none.
            NotDurable: the disk refused; it is applied all the same.
        """
        self._apply(*events_of(body))

    def hear(self, body: bytes) -> None:
        """A message of PagerDuty's webhook.

        Raises:
            InvalidMessage: it is none.
            NotDurable: the disk refused; it is applied all the same.
        """
        self._apply(*heard.events_of(body))

    def act(self, action: LinkAction, key: str, who: str) -> Page | None:
        """Acknowledge or resolve; again, it changes nothing. None: there is no such page.

        Raises:
            NotDurable: the disk refused.
        """
        if self.page(key) is None:
            return None
        self._apply(Acknowledge(key, who) if action == "acknowledge" else ResolveByHand(key, who))
        return self.page(key)

    def page(self, key: str) -> Page | None:
        with self.engine.lock:
            return self.engine.state.pages.get(key) or self._store.page(key)

    def pages(self, states: str, limit: int) -> list[dict[str, Any]]:
        with self.engine.lock:
            return [self.shown(page) for page in self._store.pages(STATES[states], limit)]

    def shown(self, page: Page) -> dict[str, Any]:
        """A page as the API shows it."""
        with self.engine.lock:
            told = self._store.told(page.key)
        policy = self.engine.setup.policy_of(page)
        notified = [
            {
                "at": each.at, "level": each.note.level, "round": each.note.round, "who": each.note.who, "kind": each.note.kind,
                "channel": each.note.channel, "outcome": each.outcome, "detail": each.detail, "attempts": each.note.attempts,
            }
            for each in told
        ]  # fmt: skip
        return {
            "key": page.key, "alert": page.alert, "labels": dict(page.labels), "annotations": dict(page.annotations),
            "state": page.state, "starts_at": page.starts_at, "opened_at": page.opened_at,
            "acknowledged_at": page.acknowledged_at, "acknowledged_by": page.acknowledged_by or None,
            "resolved_at": page.resolved_at, "resolved_by": page.resolved_by or None, "policy": policy.name,
            "level": page.level, "levels": len(policy.levels), "round": page.round, "rounds": page.last_round,
            "next_at": page.due_at, "next": next_words(page, self.engine.setup), "series": len(page.members),
            "notified": notified,
        }  # fmt: skip

    def now(self) -> float:
        return self.engine.now()

    def health(self) -> dict[str, Any]:
        with self.engine.lock:
            state, now, setup = self.engine.state, self.engine.now(), self.engine.setup
        deadman, test = state.deadman, state.test
        seen = deadman.heard_at is not None
        channels = [
            {
                "name": name, "state": self._fares(name), "last_ok_at": fares.last_ok_at, "last_error": fares.last_error or None,
                "reaches_a_person": reaches_a_person(name),
            }
            for name in self._channels
            for fares in [state.channels.get(name, Fares())]
        ]  # fmt: skip
        created = [note.created_at for note in state.outbox.values()]
        return {
            "now": now,
            "deadman": {
                "state": ("late" if seen else "never") if deadman.late or not seen else "ok",
                "seen_at": deadman.heard_at, "due_at": deadman_due_at(deadman, setup), "renewed_at": deadman.mark_at,
            },
            "test_page": {
                "state": "failed" if test.state == "late" and test.error else "ok" if test.state == "waiting" and test.returned_at
                else "never" if test.state == "waiting" else test.state,
                "sent_at": test.sent_at, "returned_at": test.returned_at, "seconds": test.seconds,
                "pager_seconds": test.pager_seconds, "next_at": test.next_at, "error": test.error or None,
            },
            "channels": channels,
            "outbox": {"pending": len(created), "oldest_at": min(created, default=None)},
            "durable": not self.engine.not_durable,
            "said": self._sentence(),
        }  # fmt: skip

    def _fares(self, name: str) -> str:
        fares = self.engine.state.channels.get(name, Fares())
        return "refusing" if fares.refusing else "untried" if fares.last_ok_at is None else "ok"

    def _sentence(self) -> str:
        """What matters most, first."""
        deadman, test = self.engine.state.deadman, self.engine.state.test
        reaching = [name for name in self._channels if reaches_a_person(name)]
        refusing = [name for name in reaching if self._fares(name) == "refusing"]
        fares = self.engine.state.channels
        failing = [name for name in reaching if name not in refusing and fares.get(name, Fares()).failures]
        untried = [name for name in reaching if name not in failing and self._fares(name) == "untried"]
        said = []
        if self.engine.not_durable:
            said.append(f"The disk refuses ({self.engine.not_durable}): pages go out, but a restart would forget them.")
        if deadman.late:
            said.append("The monitoring is blind: Watchdog does not arrive or is not renewed.")
        elif deadman.heard_at is None:
            said.append("Watchdog was not heard yet.")
        if refusing:
            said.append(f"Refusing pages: {', '.join(refusing)}.")
        if failing:
            said.append(f"Not taking pages at the moment: {', '.join(failing)}.")
        if test.state == "late":
            said.append("The last test page did not come back.")
        if not reaching:
            said.append(
                "No pager is configured: pages stand in the console and the log and reach nobody; set SPILLWAY_ESCALATOR_..."
            )
        if not said and untried:
            said.append(f"Pages go to {', '.join(reaching)}; not tried yet: {', '.join(untried)}.")
        return " ".join(said) or f"The path of a page works; pages go to {', '.join(reaching)}."

    def link(self, key: str, action: LinkAction, who: str, opened_at: float) -> str:
        expires_at = opened_at + self.settings.link_hours * 3600
        return f"{self.settings.links}/l/{sign(Link(key, action, who, expires_at), self.secret)}"

    # -- threads

    def _every_due(self) -> None:
        forget_at = 0.0
        while not self._ends.is_set():
            with self._survive("escalator can't go on, tries again"):
                self._wake.wait(min(WAIT_SECONDS_MAX, max(WAIT_SECONDS_MIN, self.engine.wait_seconds())))
                self._wake.clear()
                try:
                    self._apply()
                finally:
                    # A disk that refuses keeps no page back.
                    self._hand_out()
                if self.engine.now() >= forget_at:
                    forget_at = self.engine.now() + FORGET_SECONDS
                    with self.engine.lock:
                        self._store.forget(self.engine.now())

    def _hand_out(self) -> None:
        with self.engine.lock:
            for note in self.engine.take(self._free):
                self._under_way[note.channel] += 1
                self._pools[note.channel].submit(self._send, note)

    def _every_verify(self) -> None:
        answers = True
        while not self._ends.wait(self.settings.verify_seconds):
            with self._survive("what Alertmanager has is not known"):
                try:
                    found: Verified = self._alertmanager.alerts()
                    answers = True
                except Unanswered as exc:
                    if answers:
                        self._log.warning("Alertmanager does not say what it has", error=str(exc))
                    answers = False
                    continue
                self._apply(found)

    def _free(self, channel: str) -> int:
        return SENDERS_PER_CHANNEL - self._under_way.get(channel, SENDERS_PER_CHANNEL)

    def _send(self, note: Note) -> None:
        sent = self._patience[note.channel].send(lambda: self._sent(note))
        self._metrics.counter(m.ESCALATOR_NOTIFICATIONS, channel=note.channel, outcome=sent.result).inc()
        outcome = Outcome(note.id, note.channel, sent.result, sent.detail, sent.retry_after_seconds, self._random.random())
        with self._survive("an outcome is not durable"):
            self._carry_out(lambda: self.engine.done(outcome))
        with self.engine.lock:
            self._under_way[note.channel] -= 1
        self._wake.set()
        if sent.result != "ok":
            self._log.warning("channel did not take a message", channel=note.channel, note=note.id, detail=sent.detail)

    def _sent(self, note: Note) -> Sent:
        page = None if note.kind == "test" else self.page(note.key)
        if note.kind != "test" and page is None:
            return Sent("refused", "its page is gone")
        links, events = ("", ""), ""
        if page is not None:
            links = tuple(self.link(page.key, action, note.who, page.opened_at) for action in ("acknowledge", "resolve"))  # type: ignore[assignment]
            events = self._naming(page) if note.kind == "trigger" else ""
        return self._channels[note.channel].send(message(note, page, self.engine.setup, *links, events))

    def _apply(self, *events: Event) -> None:
        self._carry_out(lambda: self.engine.apply(*events) if events else self.engine.tick())
        if events:
            self._wake.set()

    def _carry_out(self, change: Callable[[], Sequence[Action]]) -> None:
        """Raises: NotDurable: what it wants done is done all the same."""
        try:
            self._do(change())
        except NotDurable as exc:
            self._do(exc.actions)
            raise

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Said):
                self._log.info(action.event, **action.facts)
            elif isinstance(action, PostTest):
                self._posting.submit(self._post_test, action.id)

    def _post_test(self, number: int) -> None:
        error, now = "", self.engine.now()
        try:
            self._alertmanager.post_test(number, now, self.settings.test_late_seconds, self.engine.setup.console)
        except Unanswered as exc:
            error = str(exc)
        with self._survive("a test page's posting is not durable"):
            self._apply(PathTestPosted(number, error))

    @contextlib.contextmanager
    def _survive(self, what: str) -> Any:
        try:
            yield
        except NotDurable as exc:
            self._log.error("the disk refuses: a restart would forget this", error=str(exc))
            self._ends.wait(WAIT_SECONDS_MAX)
        except Exception:  # noqa: BLE001 - a thread that ended would tell nobody any more
            self._log.exception(what)
            self._ends.wait(WAIT_SECONDS_MAX)

    def _count(self) -> None:
        gauge = self._metrics.gauge
        for kind in ("open", "acknowledged"):
            gauge(m.ESCALATOR_PAGES, state=kind).set_function(lambda kind=kind: self._pages_in(kind))  # type: ignore[misc]
        gauge(m.ESCALATOR_OUTBOX_AGE).set_function(self._outbox_age)
        gauge(m.ESCALATOR_DEADMAN_AGE).set_function(self._deadman_age)
        gauge(m.ESCALATOR_TEST_SECONDS).set_function(lambda: self.engine.state.test.seconds or 0.0)
        if not any(map(reaches_a_person, self._channels)):
            gauge(m.ESCALATOR_CHANNEL_USABLE, channel="none").set(0)
        for name in self._channels:
            for outcome in ("ok", "retry", "refused"):
                self._metrics.counter(m.ESCALATOR_NOTIFICATIONS, channel=name, outcome=outcome)
            if reaches_a_person(name):
                refuses = gauge(m.ESCALATOR_CHANNEL_USABLE, channel=name)
                refuses.set_function(lambda name=name: float(self._fares(name) != "refusing"))  # type: ignore[misc]

    def _pages_in(self, kind: str) -> float:
        return float(sum(page.state == kind for page in self.engine.state.pages.values()))

    def _outbox_age(self) -> float:
        created = [note.created_at for note in self.engine.state.outbox.values()]
        return max(0.0, self.engine.now() - min(created)) if created else 0.0

    def _deadman_age(self) -> float:
        deadman = self.engine.state.deadman
        times = [at for at in (deadman.heard_at, deadman.mark_at) if at is not None]
        return max(0.0, self.engine.now() - min(times, default=deadman.since))
