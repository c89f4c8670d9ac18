"""Ten thousand damaged requests and events at the live doors.

The law: accepted = delivered + dead-lettered, by identity and for each exit; nothing that was not accepted is anywhere; every
answer is one that the doors document; no process ends. What was accepted is known from the answers and from what was sent, read
here by other parsers than the doors'.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import HealthCheck, Phase, given, settings

from pipeline.event import data_bytes
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse
from tests.e2e.conftest import Pipeline, wait_until
from tests.e2e.evidence import Dead, Evidence, Identity, dead_before, let_in
from tests.e2e.mutants import Edits, damaged, many
from tests.e2e.raw_doors import (
    ANSWER_SECONDS_MAX,
    BATCHED,
    STRUCTURED,
    GrpcDoor,
    HttpAnswer,
    framed,
    json_event,
    post_in,
    protobuf_event,
    reason_of,
)

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

MUTATIONS = 10_000
# Of one example: events sent alone as JSON, JSON batches, Protobuf events in a sound batch, Protobuf batches damaged as a whole.
ALONE, BATCHES, EVENTS, BODIES = 36, 8, 40, 16
EVENTS_PER_BATCH = 4
PER_EXAMPLE = ALONE + BATCHES + EVENTS + BODIES
# At the end: events that are not damaged, and how many of them come twice with other content.
SOUND, CONFLICTS = 64, 8
OURS = ("grpc", "http", "transcoder", "redactor", "etl")
LATER = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@dataclass
class Ledger:
    """What was sent, and what the doors said of it."""

    # What was sent for each accepted event, by identity; more than once if two events came to have one identity.
    accepted: dict[Identity, list[bytes]] = field(default_factory=dict)
    # Answered "send again": stored or not.
    unclear: set[Identity] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    mutations: int = 0

    def accept(self, source: str, id: str, sent: bytes) -> None:
        self.accepted.setdefault((source, id), []).append(sent)


@dataclass
class Mutator:
    """Damages fresh events, sends them to the live doors, and books the answers."""

    pipeline: Pipeline
    grpc_door: GrpcDoor
    session: aiohttp.ClientSession
    runner: asyncio.Runner
    documented: frozenset[int]
    reasons: frozenset[str]
    ledger: Ledger = field(default_factory=Ledger)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))

    def send(self, changes: Sequence[Edits]) -> None:
        turn = iter(changes)
        alone = [self._json(next(turn), 1) for _ in range(ALONE)]
        batches = [self._json(next(turn), EVENTS_PER_BATCH) for _ in range(BATCHES)]
        events = [self._protobuf(next(turn), 1, whole=False) for _ in range(EVENTS)]
        bodies = [self._protobuf(next(turn), EVENTS_PER_BATCH, whole=True) for _ in range(BODIES)]
        calls = [(body, self.grpc_door.future(body)) for body in [b"".join(map(framed, events)), *bodies]]
        self.runner.run(self._post_all(alone, batches))
        for body, call in calls:
            self._book_grpc(body, call)
        self.ledger.mutations += PER_EXAMPLE

    def send_sound(self) -> set[Identity]:
        """Events for every slice, through both doors: what is read before them on their shard has been read when they are there.
        The first ones are sent again with other content: the identities of these conflicts are returned.
        """
        events = [json.dumps(json_event(next(self._numbers))).encode() for _ in range(SOUND)]
        self.runner.run(self._post_all([], [b"[" + b",".join(events) + b"]"]))
        sound = [protobuf_event(next(self._numbers)) for _ in range(SOUND)]
        others = [CloudEvent.FromString(event.SerializeToString()) for event in sound[:CONFLICTS]]
        for other in others:
            other.attributes["subject"].ce_string += "-again"
        for part in (sound, others):
            body = b"".join(framed(event.SerializeToString()) for event in part)
            self._book_grpc(body, self.grpc_door.future(body))
        return {(other.source, other.id) for other in others}

    def _json(self, changes: Edits, count: int) -> bytes:
        events: list[Any] = [json_event(next(self._numbers)) for _ in range(count)]
        # Compact JSON and the other kind take two ways through the door.
        separators = (",", ":") if changes[0].at % 2 else None
        sound = json.dumps(events[0] if count == 1 else events, separators=separators, ensure_ascii=False).encode()
        other = json.dumps(json_event(next(self._numbers))).encode()
        return damaged(sound, changes, other)

    def _protobuf(self, changes: Edits, count: int, *, whole: bool) -> bytes:
        encoded = [protobuf_event(next(self._numbers)).SerializeToString() for _ in range(count)]
        other = protobuf_event(next(self._numbers)).SerializeToString()
        return damaged(b"".join(map(framed, encoded)) if whole else encoded[0], changes, other)

    async def _post_all(self, alone: Sequence[bytes], batches: Sequence[bytes]) -> None:
        url, key = f"{self.pipeline.doors.http}/v1/events", self.pipeline.key
        work = [(STRUCTURED, body) for body in alone] + [(BATCHED, body) for body in batches]
        answers = await asyncio.gather(*(post_in(self.session, url, key, mode, body) for mode, body in work))
        for (mode, body), answer in zip(work, answers, strict=True):
            self._book_http(mode, body, answer)

    def _book_http(self, mode: str, body: bytes, answer: HttpAnswer) -> None:
        assert answer.status in self.documented, (answer, body)
        assert answer.status < 500 or (answer.status == 503 and "retry-after" in answer.headers), (answer, body)
        if "events" in answer.body:
            said = answer.body["events"]
        else:
            said = [{"reason": answer.body.get("reason"), "status": "refused", **answer.body}]
            if answer.status in (429, 503):
                said[0]["status"] = "retry"
        for event in said:
            assert event["status"] in ("accepted", "rejected", "retry") or answer.status in self.documented - {200, 202, 207}
            assert event["status"] == "accepted" or event["reason"] in self.reasons, event
            self.ledger.answers[f"http {answer.status} {event.get('reason') or 'accepted'}"] += 1
        if not any(event["status"] in ("accepted", "retry") for event in said):
            return
        # Something was taken: then the body is JSON, and as many events as answers.
        read = json.loads(body.decode())
        sent = read if mode == BATCHED else [read]
        assert len(sent) == len(said), (answer, body)
        for event, about in zip(sent, said, strict=True):
            if about["status"] == "accepted":
                assert event["id"] == about["id"]
                self.ledger.accept(event["source"], event["id"], body)
            elif about["status"] == "retry":
                self.ledger.unclear.add((event["source"], event["id"]))

    def _book_grpc(self, body: bytes, call: Any) -> None:
        try:
            response = PublishResponse.FromString(call.result())
        except grpc.RpcError as error:
            self._book_refusal(body, error)
            return
        sent = split(body)
        assert len(sent) == len(response.statuses), body
        reasons = {rejection.index: rejection.reason for rejection in response.rejections}
        for place, (event, status) in enumerate(zip(sent, response.statuses, strict=True)):
            assert status == EventStatus.EVENT_STATUS_ACCEPTED or reasons[place] in self.reasons
            self.ledger.answers[f"grpc {EventStatus.Name(status)} {reasons.get(place, '')}".rstrip()] += 1
            if status == EventStatus.EVENT_STATUS_ACCEPTED:
                read = CloudEvent.FromString(event)
                self.ledger.accept(read.source, read.id, event)
            elif status == EventStatus.EVENT_STATUS_RETRY and (identity := _identity(event)):
                self.ledger.unclear.add(identity)

    def _book_refusal(self, body: bytes, error: Any) -> None:
        code, reason = error.code(), reason_of(error)
        assert code is grpc.StatusCode.INVALID_ARGUMENT or code in LATER, (error, body)
        assert reason in self.reasons
        self.ledger.answers[f"grpc {code.name} {reason}"] += 1
        if code in LATER:
            self.ledger.unclear.update(identity for event in split(body) if (identity := _identity(event)))


def split(body: bytes) -> list[bytes]:
    """The encoded events of a CloudEventBatch, read as fields that nothing is known of."""
    fields: Any = UnknownFieldSet(Empty.FromString(body))
    return [bytes(found.data) for found in fields if (found.field_number, found.wire_type) == (1, 2)]


def _identity(encoded: bytes) -> Identity | None:
    try:
        event = CloudEvent.FromString(encoded)
    except Exception:  # noqa: BLE001 - what can't be read has no identity
        return None
    return event.source, event.id


@pytest.fixture
def mutator(pipeline: Pipeline) -> Iterator[Mutator]:
    let_in(pipeline)
    door = GrpcDoor(pipeline)
    with asyncio.Runner() as runner:
        session = runner.run(_session())
        try:
            document = runner.run(_document(session, pipeline))
            documented = frozenset(map(int, document["paths"]["/v1/events"]["post"]["responses"]))
            words = frozenset(document["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"])
            yield Mutator(pipeline, door, session, runner, documented, words)
        finally:
            runner.run(session.close())
            door.close()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX), connector=aiohttp.TCPConnector(limit=16)
    )


async def _document(session: aiohttp.ClientSession, pipeline: Pipeline) -> dict[str, Any]:
    async with session.get(f"{pipeline.doors.http}/openapi.json") as response:
        document: dict[str, Any] = await response.json()
        return document


def _lives(pipeline: Pipeline) -> dict[str, tuple[int | None, int]]:
    return {name: (pipeline.stack.process(name).pid, pipeline.stack.process(name).restarts) for name in OURS}


@pytest.mark.slow
def test_of_ten_thousand_mutations_every_accepted_one_is_delivered_or_dead_lettered_and_no_other(
    pipeline: Pipeline, mutator: Mutator
) -> None:
    before = _lives(pipeline)

    @settings(
        max_examples=MUTATIONS // PER_EXAMPLE,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(many(PER_EXAMPLE))
    def send(changes: Sequence[Edits]) -> None:
        mutator.send(changes)

    began = time.monotonic()
    send()
    print(f"sent in {time.monotonic() - began:.1f} s")
    conflicts = mutator.send_sound()
    ledger, evidence = mutator.ledger, Evidence(pipeline)
    assert ledger.mutations >= MUTATIONS
    accepted = set(ledger.accepted)

    def settled() -> bool:
        letters = evidence.letters()
        found = {"rds": evidence.rds(), "lake": evidence.lake()}
        dead = {exit: dead_before(exit, letters) for exit in found}
        return all(accepted <= set(rows) | set(dead[exit]) and conflicts <= set(dead[exit]) for exit, rows in found.items())

    wait_until(settled, "every accepted event is at each exit or in the dead letters")
    letters = evidence.letters()
    _report(ledger, evidence, letters)
    for exit, rows in (("rds", evidence.rds()), ("lake", evidence.lake())):
        dead = dead_before(exit, letters)
        assert set() == accepted - set(rows) - set(dead), f"{exit}: lost"
        assert set() == (set(rows) | set(dead)) - accepted - ledger.unclear, f"{exit}: there, but never accepted"
        assert {} == _both(rows, dead, ledger), f"{exit}: delivered, and dead for another reason than a conflict"
        assert {(identity, frozenset({"conflict"})) for identity in conflicts} == {
            (identity, frozenset(dead[identity])) for identity in conflicts & set(rows)
        }
        assert {} == {identity: count for identity, count in rows.items() if count > len(ledger.accepted.get(identity, ()))}
    assert [] == [letter.key for letter in letters if not _whole(letter, ledger)]
    # A law that holds of nothing holds for nothing: all three fates were met.
    fates = (len(evidence.rds()), len(letters), sum(ledger.answers.values()) - sum(map(len, ledger.accepted.values())))
    assert all(fate > 100 for fate in fates), fates
    assert before == _lives(pipeline)


def _both(rows: Counter[Identity], dead: dict[Identity, set[str]], ledger: Ledger) -> dict[Identity, set[str]]:
    """Delivered and dead at once: right for a conflict, and for an identity that came more than once."""
    return {
        identity: dead[identity] - {"conflict"}
        for identity in set(rows) & set(dead)
        if dead[identity] - {"conflict"} and len(ledger.accepted.get(identity, ())) < 2
    }


def _whole(letter: Dead, ledger: Ledger) -> bool:
    """The letter holds the data as it was sent. Past the transcoder JSON is Protobuf, and past the redactor it is redacted: what
    becomes of data there is judged elsewhere."""
    (event,) = letter.batch.events
    as_sent = letter.stage == "transcoder" or (letter.stage == "redactor" and letter.batch.door == "grpc")
    sent = ledger.accepted.get((event.source, event.id), [])
    return not as_sent or any(data_bytes(event) in one for one in sent) or (event.source, event.id) in ledger.unclear


def _report(ledger: Ledger, evidence: Evidence, letters: list[Dead]) -> None:
    """Shown by `pytest -rP`, and when the test fails."""
    print(f"mutations {ledger.mutations}, accepted identities {len(ledger.accepted)}, unclear {len(ledger.unclear)}")
    print(f"rds {len(evidence.rds())}, lake {len(evidence.lake())}, dead letters {len(letters)}")
    for (stage, reason), count in sorted(Counter((letter.stage, letter.reason) for letter in letters).items()):
        print(f"  dead letter  {stage:12} {reason:28} {count:6}")
    for answer, count in sorted(ledger.answers.items()):
        print(f"  answer       {answer:41} {count:6}")
