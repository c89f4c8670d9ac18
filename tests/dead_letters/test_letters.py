"""Dead letters: whole, found again, written once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frame
from pipeline.backup.objects import MemoryObjects
from pipeline.dead_letters.letters import Letter, Place, decode, encode, event_letter, key_of, place_of
from pipeline.dead_letters.office import Office
from pipeline.dead_letters.writer import StoredDeadLetters, bury_at
from pipeline.errors import Corrupt, Unavailable
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected
from telemetry.metrics import DEAD_LETTERS, Metrics

ARRIVED = 1_767_225_599_999_999  # 2025-12-31T23:59:59.999999Z


def record(data: bytes = b"x") -> StoredRecord:
    return StoredRecord("web-events", "shardId-000000000007", "4968", data, ARRIVED)


def batch(*texts: str) -> StoredBatch:
    events = [
        CloudEvent(id=f"e{n}", source="/s", type="spillway.events.v1.ProfileChanged", text_data=text)
        for n, text in enumerate(texts)
    ]
    return StoredBatch(events=events, tenant="acme", accepted_at_unix_micros=5, door="http", slice=3, slices=16)


def test_the_key_is_the_place_where_the_event_was_read_under_its_day_of_arrival() -> None:
    letter = Letter("transcoder", "unknown_type", "no such type", record(), index=2)
    expected = "dead-letters/transcoder/unknown_type/2025/12/31/web-events-shardId-000000000007-4968-2"
    assert expected == key_of(letter)
    assert Place("transcoder", "unknown_type", "2025-12-31", "web-events-shardId-000000000007-4968-2") == place_of(expected)


@pytest.mark.parametrize("reason", ["", "Ann@Example.com", "../up", "a b", "x" * 65])
def test_a_reason_that_is_no_word_does_not_reach_the_key(reason: str) -> None:
    assert "dead-letters/redactor/other/" in key_of(Letter("redactor", reason, "", record()))


@given(st.binary(max_size=2000), st.text(max_size=50))
def test_a_letter_gives_back_the_whole_original(data: bytes, detail: str) -> None:
    letter = decode(encode(Letter("redactor", "corrupt", detail, record(data)), 1))
    assert (data, detail) == (letter.record, letter.detail)


@pytest.mark.parametrize(
    "size", [frame.PAYLOAD_BYTES_MAX - 1, frame.PAYLOAD_BYTES_MAX, frame.PAYLOAD_BYTES_MAX + frame.OVERHEAD_BYTES]
)
def test_the_largest_record_is_kept_whole(size: int) -> None:
    """TRAPS 17: never cut."""
    data = bytes(size)
    assert data == decode(encode(Letter("redactor", "corrupt", "", record(data)), 1)).record


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_letter_is_noticed(data: st.DataObject) -> None:
    body = bytearray(encode(Letter("redactor", "corrupt", "", record(b"payload")), 1))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Corrupt):
        decode(bytes(body))


def test_an_events_letter_holds_the_event_alone_with_its_tenant_and_accept_time() -> None:
    letter = decode(encode(event_letter("transcoder", "rule", "", record(), batch("one", "two"), 1), 9))
    assert (1, 9, "acme", 5, "http") == (
        letter.index,
        letter.dead_at_unix_micros,
        letter.event.tenant,
        letter.event.accepted_at_unix_micros,
        letter.event.door,
    )
    assert ["two"] == [event.text_data for event in letter.event.events]


async def test_writing_a_letter_again_replaces_it() -> None:
    objects, metrics = MemoryObjects(), Metrics()
    letters = StoredDeadLetters(objects, metrics, lambda: 1)
    for _ in range(2):
        await letters.write([event_letter("transcoder", "rule", "", record(), batch("one", "two"), n) for n in range(2)])
    assert {("transcoder", "rule"): 2} == Office(objects).counts()
    assert 4 == metrics.value(DEAD_LETTERS, stage="transcoder", reason="rule")


async def test_letters_that_cannot_be_written_raise_whether_one_or_many() -> None:
    """TRAPS 17."""
    letters = StoredDeadLetters(MemoryObjects(failure=Unavailable("away")), Metrics(), lambda: 1)
    for count in (1, 20):
        with pytest.raises(Unavailable):
            await letters.write([Letter("redactor", "corrupt", "", record(), index) for index in range(count)])
    with pytest.raises(Unavailable):
        await bury_at("redactor", letters)(record(), "poison", "")


async def test_neither_key_nor_metadata_hold_anything_of_the_payload() -> None:
    objects = MemoryObjects()
    await StoredDeadLetters(objects, Metrics(), lambda: 1).write(
        [
            event_letter(
                "transcoder", "ann@example.com", "ann@example.com", record(b"ann@example.com"), batch("ann@example.com"), 0
            )
        ]
    )
    assert "ann" not in str(objects.metadata)


async def redriven(text: str, answers: list[Answer]) -> tuple[list[tuple[list[CloudEvent], OnBehalf]], str, int]:
    """What was published, the refusal, and how many letters are left."""
    objects = MemoryObjects()
    await StoredDeadLetters(objects, Metrics(), lambda: 1).write(
        [event_letter("transcoder", "rule", "", record(), batch(text), 0)]
    )
    published: list[tuple[list[CloudEvent], OnBehalf]] = []

    def publish(events: object, on_behalf: OnBehalf) -> list[Answer]:
        published.append((list(events), on_behalf))  # type: ignore[call-overload]
        return answers

    (key,) = objects.bodies
    done = Office(objects).redrive(key, Registry.load(), publish)
    return published, done.refusal, len(objects.bodies)


async def test_a_redriven_event_goes_out_as_itself_and_its_letter_is_deleted() -> None:
    published, refusal, left = await redriven('{"city": "Toronto"}', [Accepted()])
    ((events, on_behalf),) = published
    assert ("e0", OnBehalf("acme", 5, "http")) == (events[0].id, on_behalf)
    assert ("", 0) == (refusal, left)


@pytest.mark.parametrize("answer", [Rejected("rule", "still wrong"), Accepted(durable=False)])
async def test_a_letter_that_is_not_acknowledged_stays(answer: Answer) -> None:
    _, refusal, left = await redriven('{"city": "Toronto"}', [answer])
    assert refusal
    assert 1 == left


async def test_a_letter_that_is_still_invalid_is_not_sent() -> None:
    published, refusal, left = await redriven('{"no_such_field": 1}', [])
    assert ([], 1) == (published, left)
    assert refusal


async def test_a_letter_whose_record_cannot_be_read_stays() -> None:
    objects = MemoryObjects()
    await bury_at("redactor", StoredDeadLetters(objects, Metrics(), lambda: 1))(record(b"garbage"), "corrupt", "")
    (key,) = objects.bodies
    done = Office(objects).redrive(key, Registry.load(), lambda events, by: [])
    assert done.refusal
    assert [key] == list(objects.bodies)
