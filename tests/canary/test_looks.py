"""What looks read of backup and doors, without a stack: copies, fields, phantoms, an answer per event."""

from datetime import UTC, datetime

import orjson

from canary import probes
from canary.judge import differences
from canary.looks import BackupLooks
from canary.probes import Probe
from canary.send import ACCEPTED, REJECTED, UNANSWERED, Sent, read_batch
from pipeline import frame
from pipeline.backup.objects import MemoryObjects
from pipeline.event import stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent

SOURCE = "/canary/bcdf"


def probe(number: int, sent_at: float, door: str = "grpc") -> Probe:
    return Probe(SOURCE, number, door, 3, sent_at, turn=number)  # type: ignore[arg-type]


def put(objects: MemoryObjects, name: str, *events: CloudEvent, tenant: str = "canary", door: str = "grpc") -> None:
    batch = stored_batch(events, tenant=tenant, accepted_at_unix_micros=1, door=door, worker="w", slice=3, slices=16)
    now = datetime.now(UTC)
    key = f"backup/events/{now:%Y/%m/%d/%H}/events-1-{now:%Y-%m-%d-%H-%M-%S}-00000000-0000-0000-0000-{name:0>12}"
    objects.put(key, frame.encode(batch.SerializeToString()), {})


def test_the_backup_is_read_once_and_remembered_for_the_last_look() -> None:
    """A probe that was seen is looked for again when its due time is over: it must still be there."""
    objects, now = MemoryObjects(), datetime.now(UTC).timestamp()
    exit = BackupLooks(objects, "events", SOURCE)
    first, second = probe(1, now - 60.0), probe(2, now)
    put(objects, "1", probes.protobuf(first))
    assert {first.id} == set(exit.look([first]))
    put(objects, "2", probes.protobuf(second), probes.protobuf(second))
    assert [1, 2] == [len(exit.look([second])[one.id]) for one in (first, second)]
    assert {first.id, second.id} == set(exit.look([first]))


def test_every_field_of_a_copy_is_compared_and_a_wrong_one_is_named() -> None:
    objects, now = MemoryObjects(), datetime.now(UTC).timestamp()
    exit, one = BackupLooks(objects, "events", SOURCE), probe(1, now)
    put(objects, "1", probes.protobuf(one))
    (copy,) = exit.look([one])[one.id]
    assert () == differences(exit.expected(one), copy)
    cut = probes.protobuf(one)
    order = probes.payload(one)
    order.lines[0].sku = order.lines[0].sku[:-1]
    cut.binary_data = order.SerializeToString()
    put(objects, "2", cut, tenant="acme")
    found = exit.look([one])[one.id]
    assert {(), ("data.lines.0.sku", "tenant")} == {differences(exit.expected(one), copy) for copy in found}


def test_what_lies_there_under_the_canarys_source_is_told_and_others_are_not() -> None:
    objects, now = MemoryObjects(), datetime.now(UTC).timestamp()
    exit, one = BackupLooks(objects, "events", SOURCE), probe(1, now)
    stranger, other = probes.protobuf(one), probes.protobuf(one)
    stranger.id, other.source = "canary-refused-x", "/shop"
    put(objects, "1", stranger, other)
    assert {"canary-refused-x"} == set(exit.look([one]))


def test_the_backup_of_web_events_holds_the_json_as_it_was_sent() -> None:
    objects, now = MemoryObjects(), datetime.now(UTC).timestamp()
    exit, one = BackupLooks(objects, "events", SOURCE, name="web-backup", as_sent=True), probe(1, now, "http")
    event = probes.protobuf(one)
    event.text_data = orjson.dumps(probes.json_event(one)["data"]).decode()
    put(objects, "1", event, door="http")
    (copy,) = exit.look([one])[one.id]
    assert () == differences(exit.expected(one), copy)


def test_an_event_is_acknowledged_by_its_own_entry_and_by_nothing_else() -> None:
    """TRAPS 1."""
    body = {"events": [{"status": "accepted"}, {"status": "rejected", "reason": "rule", "detail": "d"}, {"status": "queued"}]}
    assert [Sent(ACCEPTED), Sent(REJECTED, "rule: d"), Sent(UNANSWERED)] == read_batch(207, body, 3)
    assert [UNANSWERED] * 2 == [one.outcome for one in read_batch(200, {"events": [{"status": "accepted"}]}, 2)]
    assert [Sent(UNANSWERED, "HTTP 503 draining")] == read_batch(503, {"reason": "draining"}, 1)
    assert [Sent(UNANSWERED, "HTTP 500")] == read_batch(500, None, 1)
