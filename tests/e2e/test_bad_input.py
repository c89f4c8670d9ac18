"""Bad input at both doors: a clear answer or a whole dead letter, and never a neighbour's loss."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from pipeline.doors.keys import add_key, revoke_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.events.v1 import acquisition_pb2 as acquisition
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse
from tests.e2e.conftest import Pipeline, wait_until
from tests.e2e.evidence import KEY_SECONDS_MAX, Evidence, let_in
from tests.e2e.raw_doors import BATCHED, SOURCE, STRUCTURED, GrpcDoor, event_id, framed, json_event, post, protobuf_event

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

ACCEPTED, REJECTED = EventStatus.EVENT_STATUS_ACCEPTED, EventStatus.EVENT_STATUS_REJECTED


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    return let_in(pipeline)


@pytest.fixture
def door(pipeline: Pipeline) -> Iterator[GrpcDoor]:
    made = GrpcDoor(pipeline)
    yield made
    made.close()


def _rejections(response: PublishResponse) -> dict[int, tuple[int, str]]:
    return {rejection.index: (rejection.status, rejection.reason) for rejection in response.rejections}


def _without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


# -- each kind of bad request


_GOOD = json_event(1)
_LARGE = {**json_event(0), "data": {"channel": "LEAD_CHANNEL_FORM", "message": "x" * 2_000_000}}
HTTP_CASES: dict[str, tuple[str, bytes, int, str, str]] = {
    "broken JSON": (STRUCTURED, json.dumps(_GOOD).encode()[:-9], 400, "bad_json", "line 1, column"),
    "not UTF-8": (STRUCTURED, json.dumps(_GOOD).encode().replace(b"user", b"us\xffr"), 400, "bad_json", "UTF-8"),
    "a name twice": (STRUCTURED, json.dumps(_GOOD).encode().replace(b'"id"', b'"id": "a", "id"'), 400, "duplicate_key", "twice"),
    "unknown type": (STRUCTURED, json.dumps({**_GOOD, "type": "no.such.Event"}).encode(), 400, "unknown_type", "deployed here"),
    "missing id": (STRUCTURED, json.dumps(_without(_GOOD, "id")).encode(), 400, "missing_attribute", "`id` is missing"),
    "missing time": (STRUCTURED, json.dumps(_without(_GOOD, "time")).encode(), 400, "missing_attribute", "RFC 3339 with a zone"),
    "time of no zone": (
        STRUCTURED,
        json.dumps({**_GOOD, "time": "2026-03-04T05:06:07"}).encode(),
        400,
        "bad_time",
        "with a zone",
    ),
    "time ahead": (
        STRUCTURED,
        json.dumps({**_GOOD, "time": "2126-03-04T05:06:07Z"}).encode(),
        400,
        "time_ahead",
        "check your own",
    ),
    "missing data": (STRUCTURED, json.dumps(_without(_GOOD, "data")).encode(), 400, "missing_data", "has `{}`"),
    "an event of 2 MB": (STRUCTURED, json.dumps(_LARGE).encode(), 413, "event_too_large", "send a reference"),
    "a request of 5 MB": (STRUCTURED, b" " * 5_000_000, 413, "request_too_large", "at most 4194304 bytes"),
    "wrong content type": ("text/plain", json.dumps(_GOOD).encode(), 415, "content_type", f"send {STRUCTURED}, {BATCHED}"),
    "Protobuf at the HTTP door": ("application/protobuf", b"\x0a\x00", 415, "content_type", f"send {STRUCTURED}, {BATCHED}"),
    "empty batch": (BATCHED, b"[]", 400, "empty_batch", "no event"),
    "too many events": (BATCHED, json.dumps([_GOOD] * 501).encode(), 400, "too_many_events", "send more requests"),
    "one event as a batch": (BATCHED, json.dumps(_GOOD).encode(), 400, "malformed_request", "JSON array"),
    "nothing": (STRUCTURED, b"", 400, "bad_json", "not JSON"),
}


def test_the_http_door_refuses_with_a_status_a_reason_and_what_to_do(pipeline: Pipeline) -> None:
    expected, found = {}, {}
    for case, (content_type, body, status, reason, says) in HTTP_CASES.items():
        answer = post(pipeline, content_type, body)
        expected[case] = (status, reason, True, "application/problem+json")
        found[case] = (answer.status, answer.reason, says in answer.body["detail"], answer.headers["content-type"])
    assert expected == found


def test_neither_door_lets_in_a_wrong_or_a_revoked_key(pipeline: Pipeline, door: GrpcDoor) -> None:
    body, encoded = json.dumps(_GOOD).encode(), CloudEventBatch(events=[protobuf_event(1)]).SerializeToString()
    revoked = add_key(pipeline.stack.folder.keys, pipeline.tenant, "producer")
    wait_until(lambda: post(pipeline, STRUCTURED, b"{", revoked).status != 401, "the new key is known", KEY_SECONDS_MAX)
    assert revoke_key(pipeline.stack.folder.keys, revoked.split("_")[1], datetime.now(UTC))
    wait_until(lambda: post(pipeline, STRUCTURED, b"{", revoked).status == 401, "the key is refused", KEY_SECONDS_MAX)
    guessed = revoked.rsplit("_", 1)[0] + "_guessed"
    for key in ("", "nonsense", "spw_000000000000_secret", guessed, revoked):
        # The gRPC door is another process, which looks at the file once a second as well.
        wait_until(
            lambda key=key: _refused(door, encoded, key),  # type: ignore[misc]
            f"the gRPC door refuses {key[:4]!r}",
            KEY_SECONDS_MAX,
        )
        code, reason, message = door.refusal(encoded, key)
        assert (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated") == (code, reason)
        assert "authorization: Bearer spw_" in message
        answer = post(pipeline, STRUCTURED, body, key)
        assert (401, "unauthenticated", "Bearer") == (answer.status, answer.reason, answer.headers["www-authenticate"])
        assert "authorization: Bearer spw_" in answer.body["detail"]
    answer = post(pipeline, STRUCTURED, body, **{"spillway-tenant": "somebody-else"})
    assert (403, "forbidden") == (answer.status, answer.reason)


def _refused(door: GrpcDoor, body: bytes, key: str) -> bool:
    try:
        door.publish(body, key)
    except grpc.RpcError:
        return True
    return False


def test_the_grpc_door_refuses_a_bad_request_with_invalid_argument_a_reason_and_what_to_do(door: GrpcDoor) -> None:
    many = CloudEventBatch(events=[protobuf_event(1)] * 501).SerializeToString()
    assert {
        b"\xff\xff\xff": (grpc.StatusCode.INVALID_ARGUMENT, "malformed_request", True),
        b"\x12\x00": (grpc.StatusCode.INVALID_ARGUMENT, "malformed_request", True),
        b"": (grpc.StatusCode.INVALID_ARGUMENT, "empty_batch", True),
        many: (grpc.StatusCode.INVALID_ARGUMENT, "too_many_events", True),
        b"\x0a\x00" * 2_100_000: (grpc.StatusCode.INVALID_ARGUMENT, "request_too_large", True),
    } == {
        body: (code, reason, len(message) > 20)
        for body in (b"\xff\xff\xff", b"\x12\x00", b"", many, b"\x0a\x00" * 2_100_000)
        for code, reason, message in [door.refusal(body)]
    }


def test_bad_events_are_rejected_one_by_one_and_their_neighbours_are_delivered(pipeline: Pipeline, door: GrpcDoor) -> None:
    """TRAPS 9, 17, 18. At the HTTP door the data's own rules are the transcoder's: what breaks them is a dead letter, whole."""
    grpc_good, http_good = (
        [protobuf_event(number) for number in (100, 101, 102)],
        [json_event(number) for number in (103, 104, 105)],
    )
    bad = _bad_protobuf()
    events = [grpc_good[0], *bad.values(), grpc_good[1]]
    events.insert(3, grpc_good[2])
    encoded = b"".join(framed(event if isinstance(event, bytes) else event.SerializeToString()) for event in events)
    response = door.publish(encoded)
    expected = {events.index(event): (REJECTED, reason) for reason, event in bad.items()}
    assert expected == _rejections(response)
    assert [REJECTED if place in expected else ACCEPTED for place in range(len(events))] == list(response.statuses)
    assert all(len(rejection.message) > 20 for rejection in response.rejections)

    doomed = {reason: {**json_event(200 + number), "data": data} for number, (reason, data) in enumerate(_DOOMED.items())}
    refused = {
        "missing_attribute": _without(json_event(110), "id"),
        "unknown_type": {**json_event(111), "type": "no.such.Event"},
        "event_too_large": {**_LARGE, "id": event_id(112)},
        "bad_json": {**json_event(113), "data": [1]},
        "malformed_request": 7,
        "spec_version": {**json_event(114), "specversion": "0.3"},
        "data_content_type": {**json_event(115), "datacontenttype": "text/xml"},
        "bad_attribute": {**json_event(116), "Bad-Name": "x"},
    }
    batch = [http_good[0], *refused.values(), http_good[1], *doomed.values(), http_good[2]]
    answer = post(pipeline, BATCHED, json.dumps(batch).encode())
    assert 207 == answer.status
    assert [
        (
            next((word for word, event in refused.items() if event is sent), None),
            "rejected" if sent in refused.values() else "accepted",
        )
        for sent in batch
    ] == [(said.get("reason"), said["status"]) for said in answer.body["events"]]

    evidence = Evidence(pipeline)
    good = Counter({(SOURCE, event.id): 1 for event in grpc_good} | {(SOURCE, event["id"]): 1 for event in http_good})
    wait_until(lambda: len(evidence.letters()) == len(doomed), "each doomed event has its letter")
    wait_until(lambda: evidence.rds() >= good and evidence.lake() >= good, "the neighbours are delivered")
    assert (good, good) == (evidence.rds(), evidence.lake())
    letters = {letter.batch.events[0].id: letter for letter in evidence.letters()}
    assert {event["id"]: ("transcoder", reason.split(" ")[0]) for reason, event in doomed.items()} == {
        id: (letter.stage, letter.reason) for id, letter in letters.items()
    }
    for event in doomed.values():  # whole: every attribute, and the data as the text that it was sent as
        (original,) = letters[event["id"]].batch.events
        assert json.dumps(event["data"]) == original.text_data
        assert (event["id"], event["type"], event["subject"]) == (
            original.id,
            original.type,
            original.attributes["subject"].ce_string,
        )


# By the reason word of the letter and what is wrong; data of ProfileChanged or another of the four types by number.
_DOOMED: dict[str, Any] = {
    "unknown_field": {"campain": "a misspelt name", "channel": "LEAD_CHANNEL_FORM"},
    "wrong_type": {"city": 7},
    "rule": {"order_id": "", "currency": "euro"},
}


def _bad_protobuf() -> dict[str, CloudEvent | bytes]:
    """A bad event by the reason it is rejected for."""

    def changed(number: int, change: Callable[[CloudEvent], object]) -> CloudEvent:
        event = protobuf_event(number)
        change(event)
        return event

    def two_megabytes(event: CloudEvent) -> None:
        event.binary_data = acquisition.LeadSubmitted(message="x" * 2_000_000).SerializeToString()

    def text(event: CloudEvent) -> None:
        event.text_data = "{}"

    return {
        "missing_attribute": changed(120, lambda event: event.ClearField("id")),
        "unknown_type": changed(121, lambda event: setattr(event, "type", "no.such.Event")),
        "event_too_large": changed(124, two_megabytes),
        "undecodable": b"\xff\xff\xff",
        "rule": changed(126, lambda event: setattr(event, "binary_data", acquisition.OrderPlaced().SerializeToString())),
        "unknown_field": changed(127, lambda event: setattr(event, "binary_data", event.binary_data + b"\xf8\x07\x01")),
        "data_content_type": changed(128, text),
        "spec_version": changed(129, lambda event: setattr(event, "spec_version", "")),
        "bad_attribute": changed(130, lambda event: event.attributes["Bad-Name"].__setattr__("ce_string", "x")),
        "missing_data": changed(131, lambda event: event.ClearField("binary_data")),
    }
