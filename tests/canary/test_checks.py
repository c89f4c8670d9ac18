"""Negative checks: each holds where it should, convicts each mutant, and is unknown where nobody could look."""

import base64
import gzip
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from canary.checks import CONVICTED, HELD, LETTER_SECONDS, NAMES, UNKNOWN, Checks, Found, Refusal
from canary.leaks import Leak, leaks, person
from canary.ledger.settings import LedgerSettings
from canary.send import ACCEPTED, REJECTED, Sent
from canary.state import State
from canary.work import Inline
from pipeline.event import data_bytes, event_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import LeadSubmitted
from telemetry import metrics as m
from telemetry.metrics import Metrics
from tests.canary.world import SETTINGS, Quiet

# -- leaks

SEEDS = person(random.Random(1))
EMAIL = SEEDS["email"]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (f"to {EMAIL.upper()}!", "as it is"),
        (quote(f"<{EMAIL}>", safe=""), "percent-encoded"),
        ("".join(f"%{byte:02X}" for byte in EMAIL.encode()), "every byte percent-encoded"),
        (EMAIL.encode().hex(), "in hexadecimal"),
        (EMAIL.partition("@")[0], "local part"),
        *((base64.b64encode(b"{" * before + EMAIL.encode() + b"}}").decode(), "in base64") for before in range(6)),
        (base64.urlsafe_b64encode(b'{"u":"' + EMAIL.encode()).decode(), "in URL-safe base64"),
    ],
)
def test_personal_data_is_found_in_whatever_form(content: str, form: str) -> None:
    assert Leak("email", form, "log") in leaks(SEEDS, {"log": f"before {content} behind".encode()})


def test_a_number_is_found_by_its_digits_alone() -> None:
    digits = "".join(filter(str.isdigit, SEEDS["card"]))
    assert {Leak("card", form, "rds") for form in ("digits", "digits without a country")} == leaks(
        SEEDS, {"rds": digits.encode()}
    )


def test_nothing_is_found_where_nothing_is() -> None:
    other = person(random.Random(2))
    said = "\n".join(f"{value} {base64.b64encode(value.encode()).decode()}" for value in other.values())
    assert frozenset() == leaks(SEEDS, {"rds": said.encode(), "empty": b"", "noise": gzip.compress(said.encode())})


# -- checks


@dataclass
class FakePlaces:
    """A pipeline that does all of it right, but for what a test breaks."""

    wanted: tuple[str, ...] = ("lake", "rds", "redis", "spans")
    stored: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    letters: dict[str, Found] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    sent_data: list[str] = field(default_factory=list)
    # What a test breaks.
    buries: bool = True
    letter_reason: str = "wrong_type"
    cuts_letters: bool = False
    grpc_takes_all: bool = False
    leaking: str = ""
    lets_in: str = ""
    tells: Mapping[str, Any] = field(default_factory=dict)
    keeps_refused: bool = False
    rejects_old: bool = False
    arrives: bool = True
    away: str = ""

    def by_grpc(self, events: Sequence[CloudEvent]) -> list[Sent]:
        return [self._grpc(event) for event in events]

    def _grpc(self, event: CloudEvent) -> Sent:
        raw = data_bytes(event)
        if b"\xf8\x07\x01" in raw and not self.grpc_takes_all:
            return Sent(REJECTED, "unknown_field: ...")
        if self.rejects_old and "-old-" in event.id:
            return Sent(REJECTED, "rule: too old")
        self.sent_data.append(repr(MessageToDict(LeadSubmitted.FromString(raw))) if "-person-" in event.id else "")
        self._store(event.source, event.id, {"city": "Toronto", "country": "Canada"})
        return Sent(ACCEPTED)

    def by_http(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]:
        for event in events:
            if "-broken-" in event["id"]:
                data = orjson.dumps(event["data"])
                if self.buries:
                    letter = Found("k", "transcoder", self.letter_reason, data[:-40] + b'"}' if self.cuts_letters else data)
                    self.letters[event["id"]] = letter
                continue
            self._store(event["source"], event["id"], dict(event["data"]))
        return [Sent(ACCEPTED)] * len(events)

    def _store(self, source: str, id: str, data: dict[str, Any], tenant: str = "canary") -> None:
        if self.arrives:
            self.stored[event_key(tenant, source, id)] = {"data": data}

    def refused_by_grpc(self, key: str, event: CloudEvent, tenant: str) -> Refusal:
        return self._refusal("grpc", key, event.source, event.id, tenant)

    def refused_by_http(self, key: str, event: Mapping[str, Any], tenant: str) -> Refusal:
        return self._refusal("http", key, event["source"], event["id"], tenant)

    def _refusal(self, door: str, key: str, source: str, id: str, tenant: str) -> Refusal:
        what = "tenant" if tenant else "revoked" if key == "spw_r_x" else "unknown"
        if self.keeps_refused:
            self._store(source, id, {}, tenant or "canary")
        if self.lets_in == f"{door} {what}":
            return Refusal("", {})
        return Refusal("forbidden" if tenant else "unauthenticated", {"reason": "r", "detail": "d", **self.tells})

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        if self.away == "rds":
            raise ConnectionError("refused")
        return {key: self.stored[key] for key in keys if key in self.stored}

    def letter(self, id: str, since: float) -> Found | None:
        return self.letters.get(id)

    def remove_letter(self, key: str) -> None:
        self.removed.append(key)

    def everywhere(self, source: str, ids: Sequence[str], subjects: Sequence[str], since: float) -> dict[str, bytes]:
        if self.away in self.wanted:
            raise ConnectionError("refused")
        found = {name: b"redacted" for name in (*self.wanted, "log lines", "metric labels", "names of dead letters")}
        if not self.arrives:
            del found["lake"]
        if self.leaking:
            said = self.sent_data[-1]
            email = next(word for word in said.split("'") if "@mail-" in word)
            found[self.leaking] = base64.b64encode(b'{"user": "' + email.encode() + b'"}')
        return found


def checks_over(places: FakePlaces, **changed: Any) -> Checks:
    from dataclasses import replace

    clock = [1_795_000_000.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    settings = replace(SETTINGS, key="spw_ours_x", revoked_key=changed.get("revoked_key", "spw_r_x"))
    return Checks(settings, State(None), places, Inline(), Metrics(), Quiet(), lambda: clock[0], pause)  # type: ignore[arg-type]


def test_all_hold_where_all_is_right_and_letters_of_ours_are_taken_away_once_the_ledger_has_no_use_for_them() -> None:
    """Without its letter an event is lost to the ledger, as long as that keeps the event's window in mind."""
    places = FakePlaces()
    checks = checks_over(places)
    assert dict.fromkeys(NAMES, HELD) == {name: checks.run(name)[0] for name in NAMES}
    checks.pause(LedgerSettings().horizon_seconds)
    checks.run("broken event")
    assert [] == places.removed
    checks.pause(LETTER_SECONDS - LedgerSettings().horizon_seconds)
    checks.run("broken event")
    assert ["k"] == places.removed


MUTANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a broken event is dropped": ("broken event", {"buries": False}, "not in the dead letters"),
    "the reason is another": ("broken event", {"letter_reason": "poison"}, "wrong_type is the reason"),
    "the letter is cut": ("broken event", {"cuts_letters": True}, "not whole"),
    "the gRPC door checks nothing": ("broken event", {"grpc_takes_all": True}, "took an event that breaks its schema"),
    **{
        f"an address leaks through base64 into {place}": ("personal data", {"leaking": place}, f"email in base64 in {place}")
        for place in ("lake", "rds", "redis", "spans", "log lines", "metric labels", "names of dead letters")
    },
    **{
        f"the {door} door lets {whom} in": ("refused keys", {"lets_in": f"{door} {whom}"}, f"the {door} door took an event")
        for door in ("grpc", "http") for whom in ("unknown", "revoked", "tenant")
    },
    "a refusal tells of events": ("refused keys", {"tells": {"events": [1]}}, "told an unknown key of events"),
    "what was refused is stored": ("refused keys", {"keeps_refused": True}, "refused is in RDS"),
    "an old schema is rejected": ("old schema", {"rejects_old": True}, "rejects an event of the first version"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_convicted_and_told(name: str) -> None:
    check, broken, words = MUTANTS[name]
    verdict, sentence = checks_over(FakePlaces(**broken)).run(check)
    assert (CONVICTED, True) == (verdict, words in sentence), sentence
    assert not any(value in sentence for value in SEEDS.values())


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        ("personal data", {"arrives": False}),
        ("personal data", {"away": "redis"}),
        ("old schema", {"arrives": False}),
        ("old schema", {"away": "rds"}),
        ("refused keys", {"away": "rds"}),
    ],
)
def test_who_could_not_look_does_not_say_held(check: str, broken: dict[str, Any]) -> None:
    checks = checks_over(FakePlaces(**broken))
    _run_all(checks)
    assert UNKNOWN == {one.name: one.verdict for one in checks.results()}[check]


def test_a_check_that_never_ran_or_not_for_long_is_unknown() -> None:
    checks = checks_over(FakePlaces())
    assert {UNKNOWN} == {one.verdict for one in checks.results()}
    _run_all(checks)
    assert {HELD} == {one.verdict for one in checks.results()}
    checks.pause(10 * SETTINGS.check_seconds)
    assert {UNKNOWN} == {one.verdict for one in checks.results()}
    assert 1.0 == checks.metrics.value(m.CANARY_CHECKS, check="personal_data", verdict="held")


def test_without_a_revoked_key_that_part_is_left_out_and_said() -> None:
    verdict, sentence = checks_over(FakePlaces(), revoked_key="").run("refused keys")
    assert (HELD, True) == (verdict, "left out" in sentence)


def _run_all(checks: Checks) -> None:
    for _ in range(3 * len(NAMES)):
        checks.pause(11.0)
        checks.step()
