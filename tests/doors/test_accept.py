"""The acceptance core: one decision per event, whatever the bytes."""

import contextlib

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.doors.accept import Acceptance, Accepted, Decision, Limits, Rejected
from pipeline.doors.reasons import Reason
from pipeline.doors.wire import split_batch, split_stream_request
from pipeline.errors import InvalidEvent
from pipeline.event import partition_key, slice_of
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.events.v1.acquisition_pb2 import OrderPlaced, PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import PublishStreamRequest
from pipeline.streams.batching import event_head

from .world import DATA, NOW_MICROS, PAGE, REGISTRY, SLICES, event

ACCEPT = Acceptance(REGISTRY.types, SLICES)
DAY_MICROS = 24 * 3600 * 1_000_000


def decide(made: CloudEvent, acceptance: Acceptance = ACCEPT) -> Decision:
    return acceptance.decide(made.SerializeToString(), NOW_MICROS)


def reason(made: CloudEvent) -> str:
    decision = decide(made)
    return decision.reason if isinstance(decision, Rejected) else "accepted"


def timed(micros: int) -> CloudEvent:
    made = event()
    made.attributes["time"].ce_timestamp.FromMicroseconds(micros)
    return made


def without(name: str) -> CloudEvent:
    made = event()
    del made.attributes[name]
    return made


def packed(type_url: str, value: bytes = DATA) -> CloudEvent:
    made = event(data=None)
    made.proto_data.CopyFrom(Any(type_url=type_url, value=value))
    return made


def texted() -> CloudEvent:
    made = event(data=None, datacontenttype="application/json")
    made.text_data = "{}"
    return made


def valueless() -> CloudEvent:
    made = event()
    made.attributes["empty"].SetInParent()
    return made


CASES = [
    ("accepted", event()),
    ("missing_attribute", event("")),
    ("missing_attribute", event(source="")),
    ("missing_attribute", event(type="")),
    ("missing_attribute", without("time")),
    ("spec_version", event(spec_version="0.3")),
    ("spec_version", event(spec_version="")),
    ("unknown_type", event(type="spillway.events.v1.Nothing")),
    ("unknown_type", event(type="spillway.events.v1.OrderLine")),
    ("bad_attribute", event("x" * 257)),
    ("bad_attribute", event(source="x" * 1025)),
    ("bad_attribute", event(type="x" * 257)),
    ("bad_attribute", event(subject="x" * 1025)),
    ("bad_attribute", event(partitionkey="x" * 257)),
    ("bad_attribute", event("a\x00b")),
    ("bad_attribute", event("a\nb")),
    ("bad_attribute", event(subject="a\x85b")),
    ("bad_attribute", event("a\ufffeb")),
    ("accepted", event("naïve \u00a0 \u2028 日本 🛩")),
    ("bad_attribute", event(Bad="x")),
    ("bad_attribute", event(id_="x")),
    ("bad_attribute", event(specversion="1.0")),
    ("bad_attribute", valueless()),
    ("missing_data", event(data=None)),
    ("accepted", event(type="spillway.events.v1.ProfileChanged", data=b"")),
    ("undecodable", event(data=b"\xff\xff\xff")),
    ("unknown_field", event(data=DATA + b"\xfa\x3f\x01x")),
    ("rule", event(data=b"")),
    ("rule", event(type="spillway.events.v1.OrderPlaced", data=OrderPlaced(order_id="1", currency="usd").SerializeToString())),
    ("data_content_type", event(datacontenttype="application/json")),
    ("data_content_type", texted()),
    ("accepted", event(datacontenttype="Application/X-Protobuf; charset=binary")),
    ("accepted", without("datacontenttype")),
    ("accepted", packed(f"type.googleapis.com/{PAGE}")),
    ("type_mismatch", packed("type.googleapis.com/spillway.events.v1.OrderPlaced")),
    ("type_mismatch", packed(PAGE)),
    ("undecodable", packed(f"x/{PAGE}", b"\xff")),
    ("event_too_large", event(data=bytes(2_000_000))),
    ("accepted", timed(NOW_MICROS + DAY_MICROS)),
    ("time_ahead", timed(NOW_MICROS + DAY_MICROS + 1)),
    ("accepted", timed(0)),
    ("bad_time", timed(-1)),
    ("accepted", event(time="2013-01-31T23:59:00Z")),
    ("accepted", event(time="2013-01-31T23:59:00.123456789+05:30")),
    ("bad_time", event(time="2013-01-31T23:59:00")),
    ("bad_time", event(time="2013-01-31")),
    ("bad_time", event(time="2013-02-31T23:59:00Z")),
    ("bad_time", event(time="yesterday")),
]


@pytest.mark.parametrize(("expected", "made"), CASES, ids=[f"{index}-{word}" for index, (word, _) in enumerate(CASES)])
def test_each_event_gets_its_reason(expected: str, made: CloudEvent) -> None:
    assert expected == reason(made)


def test_a_nanosecond_of_two_seconds_is_no_time() -> None:
    made = event()
    made.attributes["time"].ce_timestamp.nanos = 2_000_000_000
    assert "bad_time" == reason(made)


def test_what_came_right_is_stored_byte_for_byte() -> None:
    encoded = event(subject="u1").SerializeToString()
    decision = ACCEPT.decide(encoded, NOW_MICROS)
    assert Accepted(slice_of("u1", SLICES), encoded, PAGE) == decision


@pytest.mark.parametrize("made", [packed(f"type.googleapis.com/{PAGE}"), without("datacontenttype")])
def test_every_form_of_protobuf_is_stored_in_one_form(made: CloudEvent) -> None:
    decision = decide(made)
    assert isinstance(decision, Accepted)
    assert event() == CloudEvent.FromString(decision.encoded)


@given(st.text(min_size=1, max_size=20), st.text(min_size=0, max_size=20), st.text(min_size=0, max_size=20))
def test_the_slice_is_that_of_partition_key_then_subject_then_id(id: str, subject: str, key: str) -> None:
    made = event(id, subject=subject)
    if key:
        made.attributes["partitionkey"].ce_string = key
    decision = decide(made)
    if isinstance(decision, Accepted):
        assert slice_of(partition_key(made), SLICES) == decision.slice
        assert slice_of(key or subject or id, SLICES) == decision.slice


def named(attribute: str) -> CloudEvent:
    made = event()
    made.attributes[attribute].ce_string = "x"
    return made


SECRET = "jane.doe@example.com"


@pytest.mark.parametrize(
    "made",
    [
        event("x" * 300 + SECRET),
        event(type=SECRET),
        event(data=PageViewed(page_url=SECRET, ip_address=SECRET * 10).SerializeToString()),
        event(time=SECRET),
        event(datacontenttype=SECRET),
        named(SECRET),
        packed(SECRET),
    ],
)
def test_a_rejection_never_quotes_the_event(made: CloudEvent) -> None:
    decision = decide(made)
    assert isinstance(decision, Rejected)
    assert SECRET not in decision.message


@settings(max_examples=400)
@given(st.binary(max_size=300))
def test_any_bytes_get_one_decision(body: bytes) -> None:
    assert isinstance(ACCEPT.decide(body, NOW_MICROS), Accepted | Rejected)


GOOD_EVENTS = [event("a", subject="s").SerializeToString(), packed(f"x/{PAGE}").SerializeToString()]


@settings(max_examples=1000)
@given(st.sampled_from(GOOD_EVENTS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.booleans()), max_size=4))
def test_mutations_get_one_decision_and_what_is_accepted_can_be_read_again(
    encoded: bytes, edits: list[tuple[int, int, bool]]
) -> None:
    body = bytearray(encoded)
    for place, byte, insert in edits:
        at = place % len(body)
        body[at : at + (0 if insert else 1)] = bytes([byte])
    decision = ACCEPT.decide(bytes(body), NOW_MICROS)
    assert isinstance(decision, Accepted | Rejected)
    if isinstance(decision, Accepted):
        kept = CloudEvent.FromString(decision.encoded)
        assert kept.type in REGISTRY.types
        REGISTRY.types[kept.type].check(REGISTRY.types[kept.type].parse(kept.binary_data))
        assert "application/protobuf" == kept.attributes["datacontenttype"].ce_string


def test_a_batch_is_cut_into_the_events_that_were_put_in() -> None:
    events = [event("a"), event("b", subject="x"), event("c", data=b"x" * 1000)]
    body = CloudEventBatch(events=events).SerializeToString()
    assert events == [CloudEvent.FromString(encoded) for encoded in split_batch(body, 3)]


def test_one_undecodable_event_leaves_its_neighbours_alone() -> None:
    """TRAPS 9: a bad UTF-8 id makes the whole batch unreadable to the generated parser."""
    good, bad = event("good").SerializeToString(), b"\x0a\x02\xff\xfe"
    body = b"".join(event_head(len(part)) + part for part in (good, bad, good))
    with pytest.raises(Exception):  # noqa: B017 (what the trap is)
        CloudEventBatch.FromString(body)
    decisions = [ACCEPT.decide(encoded, NOW_MICROS) for encoded in split_batch(body, 500)]
    assert ["accepted", Reason.UNDECODABLE, "accepted"] == [getattr(decision, "reason", "accepted") for decision in decisions]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Reason.EMPTY_BATCH),
        (b"\x0a\x00" * 4, Reason.TOO_MANY_EVENTS),
        (b"\x0a\x05a", Reason.MALFORMED_REQUEST),
        (b"\x12\x01a", Reason.MALFORMED_REQUEST),
        (b"{}", Reason.MALFORMED_REQUEST),
    ],
)
def test_what_is_no_batch_is_refused_as_a_whole(body: bytes, expected: Reason) -> None:
    with pytest.raises(InvalidEvent) as raised:
        split_batch(body, 3)
    assert expected == raised.value.reason


@given(st.binary(max_size=60))
def test_any_bytes_are_a_batch_or_an_invalid_event(body: bytes) -> None:
    with contextlib.suppress(InvalidEvent):
        assert split_batch(body, 500)


def test_a_stream_request_is_cut_too() -> None:
    request = PublishStreamRequest(sequence=7, event=event("a"))
    sequence, encoded = split_stream_request(request.SerializeToString())
    assert (7, event("a")) == (sequence, CloudEvent.FromString(encoded))


def test_a_limit_is_a_setting() -> None:
    small = Acceptance(REGISTRY.types, SLICES, Limits(event_bytes=50))
    decision = decide(event(), small)
    assert isinstance(decision, Rejected)
    assert Reason.EVENT_TOO_LARGE == decision.reason
