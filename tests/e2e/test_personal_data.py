"""Personal data goes in at both doors, in every place that a producer finds for it, and comes out nowhere."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
import redis
from google.protobuf.json_format import ParseDict

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1 import acquisition_pb2 as acquisition
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus
from tests.e2e.conftest import Pipeline, wait_until
from tests.e2e.evidence import Evidence, let_in
from tests.e2e.places import places, stream
from tests.e2e.raw_doors import BATCHED, STRUCTURED, GrpcDoor, framed, post
from tests.e2e.seeds import Person, leaks, not_found

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

SOURCE = "/tests/personal-data"
TIME = "2026-03-04T05:06:07Z"
PACKAGE = "spillway.events.v1."


@dataclass
class Case:
    """What is sent, and whose data is in it."""

    person: Person
    type: str
    data: dict[str, Any]
    attributes: dict[str, str] = field(default_factory=dict)

    def json(self, id: str) -> dict[str, Any]:
        base = {"specversion": "1.0", "id": id, "source": SOURCE, "type": PACKAGE + self.type, "time": TIME, "data": self.data}
        return base | self.attributes

    def protobuf(self, id: str) -> CloudEvent:
        message = ParseDict(self.data, getattr(acquisition, self.type)())
        event = CloudEvent(
            id=id, source=SOURCE, spec_version="1.0", type=PACKAGE + self.type, binary_data=message.SerializeToString()
        )
        event.attributes["time"].ce_timestamp.FromDatetime(datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
        for name, text in self.attributes.items():
            if name == "dataschema":
                event.attributes[name].ce_uri = text
            else:
                event.attributes[name].ce_string = text
        return event


def _lead() -> Case:
    who = Person()
    data = {
        "channel": "LEAD_CHANNEL_FORM",
        "full_name": who.say("name"),
        "email": who.say("email"),
        "phone": who.say("phone"),
        "message": who.text(),
        "campaign": f"from {who.say('email', 'base64')}",
        "interests": [who.say("email"), who.say("email", "base64"), who.say("phone", "percent"), "loans"],
    }
    return Case(who, "LeadSubmitted", data, {"subject": who.say("email")})


def _profile() -> Case:
    who = Person()
    data = {
        "city": f"Montreal {who.say('email', 'every byte percent')}",
        "country": "Canada",
        "street_address": who.say("street"),
        "birth_date": who.say("birth date"),
        "preferences": {"note": who.text(), who.say("email"): "a key", "token": who.hidden_text(), who.say("card"): "another"},
    }
    return Case(who, "ProfileChanged", data, {"subject": f"user/{who.say('phone')}", "partitionkey": who.say("email", "upper")})


def _order() -> Case:
    who = Person()
    lines = [{"sku": f"gift for {who.say('email')}", "quantity": 1, "unit_price_minor": "5"}]
    data = {
        "order_id": f"paid with {who.say('card')}",
        "currency": "EUR",
        "total_minor": "5",
        "card_number": who.say("card"),
        "lines": [*lines, {"sku": who.say("phone", "percent"), "quantity": 2}],
    }
    return Case(who, "OrderPlaced", data, {"subject": who.say("card"), "note": who.text(), "comexampleid": who.hidden_text()})


def _page() -> Case:
    who = Person()
    query = (
        f"mail={who.say('email', 'percent')}&ip={who.say('ipv4')}&t={who.say('email', 'base64')}&ph={who.say('phone', 'percent')}"
    )
    data = {
        "page_url": f"https://shop.example/thanks?{query}",
        "referrer": f"https://search.example/?q={who.say('card', 'percent')}%20{quote(who.text())}&{who.say('email')}",
        "user_agent": f"Mozilla/5.0 (compatible; {who.text()})",
        "ip_address": who.say("ipv6"),
    }
    attributes = {
        "subject": f"visitor-{who.say('ipv4')}",
        "traceparent": who.say("email"),
        "dataschema": f"/v/{who.say('email')}",
    }
    return Case(who, "PageViewed", data, attributes)


def _call() -> Case:
    who = Person()
    data = {
        "caller_number": who.say("phone"),
        "agent_id": who.say("email"),
        "outcome": "CALL_OUTCOME_ANSWERED",
        "duration_seconds": 60,
        "notes": f"{who.text()}\n{who.hidden_text()}",
    }
    return Case(who, "CallFinished", data, {"subject": f"tel:{who.say('phone')}"})


GOOD: dict[str, Callable[[], Case]] = {"lead": _lead, "profile": _profile, "order": _order, "page": _page, "call": _call}
STATEFUL = ("lead", "profile", "order", "call")


@pytest.fixture
def door(pipeline: Pipeline) -> Iterator[GrpcDoor]:
    let_in(pipeline)
    made = GrpcDoor(pipeline)
    yield made
    made.close()


def test_personal_data_that_was_taken_in_comes_out_nowhere(pipeline: Pipeline, door: GrpcDoor) -> None:
    cases = {f"{entry}-{name}": make() for entry in ("grpc", "http") for name, make in GOOD.items()}
    people = {name: case.person for name, case in cases.items()}
    by_grpc = [case.protobuf(name) for name, case in cases.items() if name.startswith("grpc")]
    by_http = [case.json(name) for name, case in cases.items() if name.startswith("http")]
    response = door.publish(b"".join(framed(event.SerializeToString()) for event in by_grpc))
    assert [EventStatus.EVENT_STATUS_ACCEPTED] * len(by_grpc) == list(response.statuses), response
    answer = post(pipeline, BATCHED, json.dumps(by_http).encode())
    assert ["accepted"] * len(by_http) == [event["status"] for event in answer.body["events"]], answer

    evidence = Evidence(pipeline)
    ids = {(SOURCE, name) for name in cases}
    wait_until(lambda: ids == set(evidence.rds()) == set(evidence.lake()), f"all are delivered; {evidence.letters()}")
    wait_until(lambda: len(_states(pipeline)) == 2 * len(STATEFUL), "the state of each subject is in Redis")
    everywhere = places(pipeline, evidence)
    assert {} == {name: found for name, content in everywhere.items() if (found := leaks(people, content))}
    _check_that_something_was_read(pipeline, everywhere, [name.encode() for name in cases])
    # The checker convicts: before redaction each word that was said is there, and is found.
    before = {name: stream(name, pipeline.tenant) for name in ("events", "web-events")}
    assert set() == not_found(people, b"\n".join(before.values()))
    for name, one in people.items():
        raw = before["web-events" if name.startswith("http") else "events"]
        assert {f"{name}: {kind}, {form}" for kind, form in one.said} <= leaks({name: one}, raw)


def _states(pipeline: Pipeline) -> set[bytes]:
    with redis.Redis.from_url(pipeline.env["SPILLWAY_REDIS_URL"], socket_timeout=10) as client:
        return set(client.scan_iter(match=f"state:{pipeline.tenant}:*", count=1_000))


def _check_that_something_was_read(pipeline: Pipeline, everywhere: dict[str, bytes], ids: list[bytes]) -> None:
    """TRAPS 30: a checker that read nothing has found nothing."""
    assert {} == {
        name: content[:50] for name, content in everywhere.items() if not content and not name.startswith(("rds", "log"))
    }
    for name in ("lake", "rds event_history", "events-clean"):
        assert [] == [id for id in ids if id not in everywhere[name]], name
    for name in ("rds subject_attribute", "rds current_state", "redis", "object names", "lake log"):
        assert pipeline.tenant.encode() in everywhere[name]
    ours = ("grpc", "http", "transcoder", "redactor", "etl")
    assert [] == [name for name in ours if b"spillway_" not in everywhere[f"metrics {name}"]]
    assert [] == [name for name in ours if not everywhere[f"log {name}"]]


@pytest.mark.slow
def test_personal_data_in_events_that_are_refused_is_in_no_answer_log_or_name(pipeline: Pipeline, door: GrpcDoor) -> None:
    """An answer may name the event by the id that its sender gave it; it quotes nothing else."""
    people: dict[str, Person] = {}
    answers = dict(_refused_by_http(pipeline, people)) | dict(_refused_by_grpc(door, people))
    assert {} == {name: found for name, said in answers.items() if (found := leaks(people, said))}
    doomed = _doomed(people)
    body = json.dumps(list(doomed.values())).encode()
    answer = post(pipeline, BATCHED, body)
    assert ["accepted"] * len(doomed) == [event["status"] for event in answer.body["events"]], answer
    by_grpc = {
        "grpc id": _with_identity(people, "grpc id", id=True),
        "grpc source": _with_identity(people, "grpc source", id=False),
    }
    response = door.publish(b"".join(framed(event.SerializeToString()) for event in by_grpc.values()))
    assert [EventStatus.EVENT_STATUS_ACCEPTED] * 2 == list(response.statuses)

    evidence = Evidence(pipeline)
    wait_until(lambda: len(evidence.letters()) == len(doomed) + len(by_grpc), "every one has its letter")
    letters = evidence.letters()
    assert Counter([reason for _, reason in DOOMED.values()] + ["personal_data_in_identity"] * 4) == Counter(
        letter.reason for letter in letters
    )
    assert {} == {letter.key: found for letter in letters if (found := leaks(people, letter.detail.encode()))}
    everywhere = places(pipeline, evidence)
    assert {} == {name: found for name, content in everywhere.items() if (found := leaks(people, content))}
    assert b"dead-letters/transcoder/wrong_type/" in everywhere["object names"]
    # The checker convicts: the letters' bodies hold everything whole, and everything is found in them.
    whole = b"\n".join(letter.batch.SerializeToString() for letter in letters)
    kept = {name: people[name] for name in (*doomed, *by_grpc)}
    assert set() == not_found(kept, whole)


def _http(people: dict[str, Person], name: str) -> tuple[Person, dict[str, Any]]:
    who = people[name] = Person()
    return who, {**Case(who, "ProfileChanged", {"preferences": {"note": who.text()}}).json(f"refused-{len(people)}")}


def _refused_by_http(pipeline: Pipeline, people: dict[str, Person]) -> Iterator[tuple[str, bytes]]:
    changes: dict[str, Callable[[Person, dict[str, Any]], object]] = {
        "type": lambda who, event: event.update(type=who.say("email")),
        "time": lambda who, event: event.update(time=who.say("birth date")),
        "name of an attribute": lambda who, event: event.update({who.say("email"): "x"}),
        "attribute": lambda who, event: event.update(subject={"mail": who.say("email")}),
        "specversion": lambda who, event: event.update(specversion=who.say("email")),
        "datacontenttype": lambda who, event: event.update(datacontenttype=who.say("email")),
        "long subject": lambda who, event: event.update(subject=who.say("email") * 60),
        "data": lambda who, event: event.update(data=[who.text()]),
        "id": lambda who, event: event.update(id=who.say("email"), data=7),
        "source": lambda who, event: event.update(source=f"\t{who.say('email')}"),
    }
    for name, change in changes.items():
        who, event = _http(people, name)
        change(who, event)
        for mode, body in ((STRUCTURED, json.dumps(event)), (BATCHED, json.dumps([event]))):
            answer = post(pipeline, mode, body.encode())
            said = [answer.body] if mode == STRUCTURED else answer.body["events"]
            assert all("reason" in about for about in said), (name, answer)
            # The id is the sender's own word for the event.
            yield f"http {mode}: {name}", repr((answer.headers, [{**about, "id": ""} for about in said])).encode()
    who, event = _http(people, "broken body")
    answers = {"broken body": post(pipeline, STRUCTURED, json.dumps(event).encode() + b"}")}
    who, event = _http(people, "twice")
    answers["twice"] = post(pipeline, STRUCTURED, json.dumps(event).encode().replace(b'"note"', b'"note": "", "note"'))
    who = people["key"] = Person()
    answers["key"] = post(pipeline, STRUCTURED, b"{}", f"spw_{who.say('email')}_x")
    who = people["delivery"] = Person()
    answers["delivery"] = post(pipeline, STRUCTURED, b"{}", **{"spillway-delivery": who.say("email")})
    who = people["content type"] = Person()
    answers["content type"] = post(pipeline, f"text/{who.say('email')}", b"{}")
    for name, answer in answers.items():
        assert 400 <= answer.status < 500, (name, answer)
        yield f"http {name}", repr(answer).encode()


def _refused_by_grpc(door: GrpcDoor, people: dict[str, Person]) -> Iterator[tuple[str, bytes]]:
    changes: dict[str, Callable[[Person, CloudEvent], object]] = {
        "type": lambda who, event: setattr(event, "type", who.say("email")),
        "time": lambda who, event: setattr(event.attributes["time"], "ce_string", who.say("birth date")),
        "name of an attribute": lambda who, event: setattr(event.attributes[who.say("email")], "ce_string", "x"),
        "undecodable": lambda who, event: setattr(event, "binary_data", who.text().encode()),
        "text": lambda who, event: setattr(event, "text_data", who.text()),
        "rule": lambda who, event: setattr(
            event, "binary_data", acquisition.ProfileChanged(birth_date=who.say("email")).SerializeToString()
        ),
        "proto_data": lambda who, event: setattr(event.proto_data, "type_url", who.say("email")),
        "subject": lambda who, event: setattr(event.attributes["subject"], "ce_string", f"\n{who.say('email')}"),
    }
    for name, change in changes.items():
        who = people[f"grpc {name}"] = Person()
        event = Case(who, "ProfileChanged", {"preferences": {"note": who.text()}}).protobuf(f"refused-{len(people)}")
        change(who, event)
        response = door.publish(framed(event.SerializeToString()))
        assert [EventStatus.EVENT_STATUS_REJECTED] == list(response.statuses), (name, response)
        yield f"grpc {name}", str(response).encode()
    who = people["grpc garbage"] = Person()
    yield "grpc garbage", repr(door.refusal(who.text().encode())).encode()
    who = people["grpc key"] = Person()
    yield "grpc key", repr(door.refusal(b"", f"spw_{who.say('email')}_x")).encode()


# What the HTTP door takes and the transcoder can't: the data by who says it, and the letter's reason.
DOOMED: dict[str, tuple[Callable[[Person], tuple[str, dict[str, Any]]], str]] = {
    "number": (lambda who: ("CallFinished", {"duration_seconds": who.say("phone")}), "wrong_type"),
    "enum": (lambda who: ("LeadSubmitted", {"channel": who.say("email")}), "wrong_type"),
    "time": (lambda who: ("OrderPlaced", {"promised_for": who.say("birth date")}), "wrong_type"),
    "object": (lambda who: ("ProfileChanged", {"city": {who.say("email"): who.say("card")}}), "wrong_type"),
    "map": (lambda who: ("ProfileChanged", {"preferences": {who.say("email"): [who.say("phone")]}}), "wrong_type"),
    "nested": (lambda who: ("OrderPlaced", {"lines": [{"sku": "x", "quantity": who.say("card")}]}), "wrong_type"),
    "name of a field": (lambda who: ("ProfileChanged", {who.say("email"): who.text()}), "unknown_field"),
    "nested name": (lambda who: ("OrderPlaced", {"lines": [{who.say("phone"): 1}]}), "unknown_field"),
    "rule": (lambda who: ("ProfileChanged", {"birth_date": who.say("email")}), "rule"),
}


def _doomed(people: dict[str, Person]) -> dict[str, dict[str, Any]]:
    events: dict[str, dict[str, Any]] = {}
    for name, (say, _) in DOOMED.items():
        who = people[f"doomed {name}"] = Person()
        type, data = say(who)
        events[f"doomed {name}"] = Case(who, type, data, {"note": who.say("ipv4")}).json(f"doomed-{len(people)}")
    for name in ("id", "source"):
        who = people[f"doomed {name}"] = Person()
        event = Case(who, "ProfileChanged", {"preferences": {"note": who.text()}}).json(f"doomed-{len(people)}")
        events[f"doomed {name}"] = {**event, name: f"/of/{who.say('email')}"}
    return events


def _with_identity(people: dict[str, Person], name: str, *, id: bool) -> CloudEvent:
    who = people[name] = Person()
    event = Case(who, "ProfileChanged", {"preferences": {"note": who.text()}}).protobuf(f"doomed-{len(people)}")
    if id:
        event.id = f"order of {who.say('email')}"
    else:
        event.source = f"/crm/{who.say('phone')}"
    return event
