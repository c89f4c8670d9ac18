"""Negative checks: what must not happen is tried, and must not happen.

    broken event     comes to the dead letters whole, with its reason, and to no exit; at the gRPC door it is rejected by name
    personal data    is in no exit, span, log line, metric label or name of a dead letter, in whatever form it went in
    refused keys     a revoked key, an unknown one, ours for another tenant: refused at both doors, told nothing, nothing stored
    old schema       what a program sends that was built with the first version of an event type is taken still

Rules. A check holds, convicts, or is unknown: a place that can't be read, or an event that did not come, proves nothing. One runs
at a time, in a thread of its own, and each has a deadline. The backup and `events` hold what was sent, by design; they are not
looked at for personal data. That a forgotten subject stays forgotten is to be checked when there is erasure.
"""

import random
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

import orjson

from canary import probes
from canary.judge import differences
from canary.lanes import letters
from canary.leaks import leaks, person
from canary.probes import flat
from canary.send import ACCEPTED, REJECTED, Sent
from canary.settings import CanarySettings
from canary.state import Checked, State
from canary.work import Workers
from pipeline.event import event_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import LEAD_CHANNEL_FORM, LeadSubmitted, OrderPlaced, ProfileChanged
from pipeline.sdk.envelope import envelope
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

# Longer than the ledger keeps windows in mind.
LETTER_SECONDS = 2 * 3600.0
HELD, CONVICTED, UNKNOWN = "held", "convicted", "unknown"
NAMES = ("broken event", "personal data", "refused keys", "old schema")
FIRST_SECONDS = 10.0
# One that is not known is tried again sooner.
AGAIN_SECONDS = 30.0
# As the first version of ProfileChanged had it, byte for byte: city = 1, country = 2.
OLD_PROFILE = b"\x0a\x07Toronto\x12\x06Canada"
OTHER_TENANT = "canary-other"
# After a refusal, so long until what was stored all the same would show.
STORED_SECONDS = 10.0
# What an answer that refuses may hold: words about the request, nothing about anybody's events.
_REFUSAL_FIELDS = frozenset(("type", "title", "status", "reason", "detail"))


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter: where it was, why, and the event's data."""

    key: str
    stage: str
    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a door said to a key: the reason word ("" if it took the event), and all of its answer."""

    reason: str
    answer: Mapping[str, Any]


class Places(Protocol):
    """What the checks ask. Everything may raise: then it is not known."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Places of `everywhere` that must have the events before anything is said."""
        ...

    def by_grpc(self, events: Sequence[CloudEvent]) -> list[Sent]: ...
    def by_http(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]: ...
    def refused_by_grpc(self, key: str, event: CloudEvent, tenant: str) -> Refusal: ...
    def refused_by_http(self, key: str, event: Mapping[str, Any], tenant: str) -> Refusal: ...

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """Rows of `event_history` by the event's key, whole."""
        ...

    def letter(self, id: str, since: float) -> Found | None:
        """The dead letter of an event that was sent at this time or later."""
        ...

    def remove_letter(self, key: str) -> None: ...

    def everywhere(self, source: str, ids: Sequence[str], subjects: Sequence[str], since: float) -> dict[str, bytes]:
        """By name of the place, what it holds of these events, or holds at all; an event's place is absent until all are there.

        Raises: Exception: a place can't be read.
        """
        ...


@dataclass
class Checks:
    """Runs them in turn, again and again; `step` never waits."""

    settings: CanarySettings
    state: State
    places: Places
    workers: Workers
    metrics: Metrics
    log: Logger
    clock: Callable[[], float]
    pause: Callable[[float], None]

    # Off: none runs, and nothing is said of them.
    on: bool = True

    def __post_init__(self) -> None:
        self._due = dict.fromkeys(NAMES, self.clock() + FIRST_SECONDS)
        self._running: tuple[str, Future[tuple[str, str]]] | None = None
        # When they were found, and their keys.
        self._letters: deque[tuple[float, str]] = deque()
        # From nothing to 1 is no increase to Prometheus; from 0 to 1 is.
        for name in NAMES:
            for verdict in (HELD, CONVICTED, UNKNOWN):
                self._count(name, verdict, 0)

    def step(self) -> None:
        now = self.clock()
        if not self.on:
            return
        if self._running is not None:
            name, future = self._running
            if not future.done():
                return
            self._running = None
            self._take(name, future, now)
        name = min(self._due, key=self._due.__getitem__)
        if now >= self._due[name]:
            self._due[name] = now + self.settings.check_seconds
            self._running = (name, self.workers.submit("checks", lambda: self.run(name)))

    @property
    def all_ran(self) -> bool:
        return {one.name for one in self.state.checks()} == set(NAMES)

    def results(self) -> list[Checked]:
        """The last of each; one that has not run, or not for long, is unknown."""
        if not self.on:
            return []
        now, known = self.clock(), {one.name: one for one in self.state.checks()}
        return [self._result(known.get(name), name, now) for name in NAMES]

    def _result(self, last: Checked | None, name: str, now: float) -> Checked:
        if last is None:
            return Checked(name, 0.0, UNKNOWN, "it has not run yet.")
        if now - last.at > 3 * self.settings.check_seconds:
            return Checked(name, last.at, UNKNOWN, f"it has not run for {now - last.at:.0f} s.")
        return last

    def _count(self, name: str, verdict: str, times: int) -> None:
        self.metrics.counter(m.CANARY_CHECKS, check=name.replace(" ", "_"), verdict=verdict).inc(times)

    def _take(self, name: str, future: "Future[tuple[str, str]]", now: float) -> None:
        try:
            verdict, sentence = future.result()
        except Exception as exc:  # noqa: BLE001 - what could not be looked at is not known
            verdict, sentence = UNKNOWN, f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}."
        self.state.check(Checked(name, now, verdict, sentence))
        self._count(name, verdict, 1)
        if verdict == UNKNOWN:
            self._due[name] = min(self._due[name], now + AGAIN_SECONDS)
        if verdict != HELD:
            say = self.log.error if verdict == CONVICTED else self.log.warning
            say("negative check", check=name, verdict=verdict, detail=sentence)

    def run(self, name: str) -> tuple[str, str]:
        """Verdict and sentence. Raises: Exception: it is not known."""
        run = {
            "broken event": self._broken_event,
            "personal data": self._personal_data,
            "refused keys": self._refused_keys,
            "old schema": self._old_schema,
        }[name]
        return run()

    # -- each of them

    def _broken_event(self) -> tuple[str, str]:
        since, (id, other) = self.clock(), self._ids("broken", 2)
        data = {"order_id": id, "currency": "EUR", "total_minor": "as much as you like", "lines": [{"sku": "b", "quantity": 1}]}
        unknown_field = OrderPlaced(order_id=other, currency="EUR").SerializeToString() + b"\xf8\x07\x01"
        rejected = self.places.by_grpc([self._protobuf(other, OrderPlaced.DESCRIPTOR.full_name, unknown_field)])[0]
        if rejected.outcome == ACCEPTED:
            return CONVICTED, "the gRPC door took an event that breaks its schema."
        if rejected.outcome != REJECTED:
            return UNKNOWN, f"the gRPC door did not answer: {rejected.why}"
        sent = self.places.by_http([self._json(id, OrderPlaced.DESCRIPTOR.full_name, data)])[0]
        if sent.outcome != ACCEPTED:
            return UNKNOWN, f"the HTTP door did not take the event: {sent.why}"
        letter = self._wait(lambda: self.places.letter(id, since))
        key = event_key(probes.TENANT, self.source, id)
        if self.places.rows([key]):
            return CONVICTED, "an event that breaks its schema is in RDS."
        if letter is None:
            return CONVICTED, f"an event that breaks its schema is not in the dead letters after {self._wait_seconds:.0f} s."
        self._remove_old_letters(letter.key)
        if letter.reason != "wrong_type":
            return CONVICTED, f"the dead letter gives the reason {letter.reason}, and wrong_type is the reason."
        if differs := differences(flat(data), flat(_json_object(letter.data))):
            return CONVICTED, f"the dead letter is not whole: {', '.join(differs)} differ."
        return HELD, f"came to the dead letters of {letter.stage} whole, as {letter.reason}; rejected by name at the gRPC door."

    def _remove_old_letters(self, newest: str) -> None:
        """Ours are nobody's work; but while the ledger may judge their windows, they are what accounts for their events."""
        now = self.clock()
        self._letters.append((now, newest))
        while self._letters[0][0] < now - LETTER_SECONDS:
            self.places.remove_letter(self._letters.popleft()[1])

    def _personal_data(self) -> tuple[str, str]:
        since, seeds = self.clock(), person(random.SystemRandom())
        ids = self._ids("person", 2)
        message = _lead(seeds)
        subjects = ("check-person-grpc", "check-person-http")
        data = message.SerializeToString()
        sent = self.places.by_grpc([self._protobuf(ids[0], LeadSubmitted.DESCRIPTOR.full_name, data, subjects[0])])
        sent += self.places.by_http([self._json(ids[1], LeadSubmitted.DESCRIPTOR.full_name, _lead_json(message), subjects[1])])
        if refused := next((one for one in sent if one.outcome != ACCEPTED), None):
            return UNKNOWN, f"a door did not take the event: {refused.why}"
        found: dict[str, bytes] = {}

        def all_there() -> bool:
            found.update(self.places.everywhere(self.source, ids, subjects, since))
            return all(name in found for name in self.places.wanted)

        there = self._wait(lambda: all_there() or None)
        if hits := leaks(seeds, found):
            words = sorted({f"{hit.kind} {hit.form} in {hit.place}" for hit in hits})
            return CONVICTED, f"personal data came out: {'; '.join(words[:5])}."
        if not there:
            missing = " and ".join(name for name in self.places.wanted if name not in found)
            return UNKNOWN, f"the events were not in {missing} after {self._wait_seconds:.0f} s; nothing came out elsewhere."
        return HELD, f"{len(seeds)} kinds in three forms went in at both doors, and none is in: {', '.join(sorted(found))}."

    def _refused_keys(self) -> tuple[str, str]:
        tries = [("an unknown key", f"spw_{letters(random.SystemRandom().getrandbits(40))}_{'x' * 32}", "", "unauthenticated"),
                 ("our key for another tenant", self.settings.key, OTHER_TENANT, "forbidden")]  # fmt: skip
        if self.settings.revoked_key:
            tries.append(("a revoked key", self.settings.revoked_key, "", "unauthenticated"))
        keys: list[bytes] = []
        for what, key, tenant, reason in tries:
            # Under the probes' own source: what is stored all the same is a phantom as well.
            for door in ("grpc", "http"):
                (id,) = self._ids("refused", 1)
                keys += [event_key(whose, self.state.source, id) for whose in (probes.TENANT, OTHER_TENANT)]
                said = self._try(door, key, id, tenant)
                if not said.reason:
                    return CONVICTED, f"the {door} door took an event of {what}."
                if said.reason != reason:
                    return UNKNOWN, f"the {door} door said {said.reason} to {what}, where {reason} was to come."
                if told := set(said.answer) - _REFUSAL_FIELDS:
                    return CONVICTED, f"the {door} door told {what} of {', '.join(sorted(told))}."
        self.pause(STORED_SECONDS)
        if self.places.rows(keys):
            return CONVICTED, "an event whose key was refused is in RDS."
        left_out = "" if self.settings.revoked_key else " No revoked key was given: that was left out."
        return HELD, f"{' and '.join(what for what, *_ in tries)} were refused at both doors and told nothing.{left_out}"

    def _try(self, door: str, key: str, id: str, tenant: str) -> Refusal:
        name, data = OrderPlaced.DESCRIPTOR.full_name, {"order_id": id, "currency": "EUR", "lines": [{"sku": "b", "quantity": 1}]}
        if door == "http":
            return self.places.refused_by_http(key, {**self._json(id, name, data), "source": self.state.source}, tenant)
        message = OrderPlaced(order_id=id, currency="EUR")
        message.lines.add(sku="b", quantity=1)
        event = self._protobuf(id, name, message.SerializeToString())
        event.source = self.state.source
        return self.places.refused_by_grpc(key, event, tenant)

    def _old_schema(self) -> tuple[str, str]:
        ids, name = self._ids("old", 2), ProfileChanged.DESCRIPTOR.full_name
        sent = self.places.by_grpc([self._protobuf(ids[0], name, OLD_PROFILE)])
        sent += self.places.by_http([self._json(ids[1], name, {"city": "Toronto", "country": "Canada"})])
        for door, one in zip(("gRPC", "HTTP"), sent, strict=True):
            if one.outcome == REJECTED:
                return CONVICTED, f"the {door} door rejects an event of the first version of {name}: {one.why}"
            if one.outcome != ACCEPTED:
                return UNKNOWN, f"the {door} door did not answer: {one.why}"
        keys = [event_key(probes.TENANT, self.source, id) for id in ids]
        rows = self._wait(lambda: found if len(found := self.places.rows(keys)) == len(keys) else None)
        if rows is None:
            return UNKNOWN, f"events of the first version are not in RDS after {self._wait_seconds:.0f} s."
        wrong = [row["data"] for row in rows.values() if (row["data"]["city"], row["data"]["country"]) != ("Toronto", "Canada")]
        if wrong:
            return CONVICTED, "an event of the first version came out with other values."
        return HELD, f"the first version of {name} is taken at both doors and came out as it was."

    # -- what they share

    @property
    def source(self) -> str:
        return f"/canary-checks/{self.state.source.rpartition('/')[2]}"

    @property
    def _wait_seconds(self) -> float:
        return self.settings.check_wait_seconds

    def _ids(self, what: str, count: int) -> list[str]:
        chance = random.SystemRandom()
        return [f"canary-{what}-{letters(chance.getrandbits(48) | 1 << 47)}" for _ in range(count)]

    def _wait(self, look: "Callable[[], Any]") -> Any:
        """What `look` finds, or None if it finds nothing within the deadline."""
        until = self.clock() + self._wait_seconds
        while (found := look()) is None and self.clock() < until:
            self.pause(1.0)
        return found

    def _protobuf(self, id: str, type: str, data: bytes, subject: str = "check") -> CloudEvent:
        micros = int(self.clock() * 1e6)
        return envelope(
            id=id, source=self.source, type=type, data=data, time_unix_micros=micros, subject=subject, canary=probes.MARK
        )

    def _json(self, id: str, type: str, data: Mapping[str, Any], subject: str = "check") -> dict[str, Any]:
        time = datetime.fromtimestamp(self.clock(), UTC).isoformat()
        return {"specversion": "1.0", "id": id, "source": self.source, "type": type, "subject": subject, "time": time,
                "canary": probes.MARK, "data": data}  # fmt: skip


def _lead(seeds: Mapping[str, str]) -> LeadSubmitted:
    """Each kind in its own field, and again as people and programs write it where it does not belong."""
    email = seeds["email"]
    said = f"Ring {seeds['phone']} or write to {email}; card {seeds['card']}, from {seeds['ip']}."
    hidden = f"ref={quote(email, safe='')} tok={b64encode(email.encode()).decode()}"
    phrase = b64encode(f'{{"user": "{email}"}}'.encode()).decode()
    return LeadSubmitted(
        channel=LEAD_CHANNEL_FORM,
        full_name=seeds["name"],
        email=email,
        phone=seeds["phone"],
        message=f"{said} {hidden} jwt={phrase}",
        campaign=f"from {b64encode(email.encode()).decode()}",
        interests=[email, "loans"],
    )


def _lead_json(message: LeadSubmitted) -> dict[str, Any]:
    return {
        "channel": "LEAD_CHANNEL_FORM", "full_name": message.full_name, "email": message.email, "phone": message.phone,
        "message": message.message, "campaign": message.campaign, "interests": list(message.interests),
    }  # fmt: skip


def _json_object(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except ValueError:
        return None
