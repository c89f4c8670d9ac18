"""The transcoder: every event is acknowledged by the door or kept as a dead letter; its attributes survive."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frame
from pipeline.dead_letters.writer import MemoryDeadLetters
from pipeline.errors import InvalidEvent, Unavailable
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected, Unclear
from pipeline.transcoder.transcode import transcode, transcode_event
from pipeline.transcoder.worker import Transcoder
from telemetry.metrics import CONSUMER_EVENTS, Metrics

REGISTRY = Registry.load()
TYPE = "spillway.events.v1.ProfileChanged"


def event(id: str, data: str = '{"city": "Montreal"}', type: str = TYPE, content_type: str = "application/json") -> CloudEvent:
    made = CloudEvent(id=id, source="/shop", spec_version="1.0", type=type, text_data=data)
    made.attributes["datacontenttype"].ce_string = content_type
    made.attributes["subject"].ce_string = "10001"
    made.attributes["partitionkey"].ce_string = "p"
    made.attributes["time"].ce_timestamp.FromJsonString("2026-11-23T05:00:00.123456Z")
    made.attributes["traceparent"].ce_string = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    made.attributes["myextension"].ce_integer = 7
    return made


def record(sequence: int, *events: CloudEvent, tenant: str = "acme", slice: int = 1) -> StoredRecord:
    batch = StoredBatch(events=events, tenant=tenant, accepted_at_unix_micros=sequence, door="http", slice=slice, slices=16)
    return StoredRecord("web-events", "s0", str(sequence), frame.encode(batch.SerializeToString()), 1_795_400_000_000_000)


class Door:
    """The gRPC door as the transcoder sees it. `answers` maps an event's id to what it is answered; others are accepted."""

    def __init__(self, **answers: Answer | Exception) -> None:
        self.answers = answers
        self.published: list[tuple[str, OnBehalf]] = []

    def __call__(self, events: Sequence[CloudEvent], on_behalf: OnBehalf) -> list[Answer]:
        answers: list[Answer] = []
        for each in events:
            answer = self.answers.get(each.id, Accepted())
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
            self.published.append((each.id, on_behalf))
        return answers


async def run(door: Door, *records: StoredRecord) -> tuple[MemoryDeadLetters, Metrics]:
    letters, metrics = MemoryDeadLetters(), Metrics()
    with ThreadPoolExecutor(4) as pool:
        await Transcoder(REGISTRY, door, letters, metrics, pool).process(records)
    return letters, metrics


def test_only_data_and_its_content_type_change() -> None:
    before = event("e1")
    after = transcode_event(REGISTRY, before)
    assert ProfileChanged(city="Montreal") == ProfileChanged.FromString(after.binary_data)
    assert "application/protobuf" == after.attributes["datacontenttype"].ce_string
    after.text_data = before.text_data
    after.attributes["datacontenttype"].ce_string = "application/json"
    assert before == after


def test_an_event_that_is_protobuf_already_passes_as_it_is() -> None:
    before = event("e1", content_type="application/protobuf")
    before.binary_data = ProfileChanged(city="Toronto").SerializeToString()
    assert before == transcode_event(REGISTRY, before)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (event("e", data='{"city": "x", "no_such_field": 1}'), "unknown_field"),
        (event("e", data="{"), "bad_json"),
        (event("e", data='{"city": 7}'), "wrong_type"),
        (event("e", type="no.such.Type"), "unknown_type"),
        (event("e", content_type="text/plain"), "content_type"),
    ],
)
def test_what_cannot_be_transcoded_says_why(bad: CloudEvent, reason: str) -> None:
    """TRAPS 18."""
    with pytest.raises(InvalidEvent) as refused:
        transcode_event(REGISTRY, bad)
    assert reason == refused.value.reason


@settings(max_examples=50)
@given(st.permutations(["language", "currency", "theme", "newsletter", "time zone"]))
def test_transcoding_gives_the_same_bytes_however_the_json_was_ordered(keys: list[str]) -> None:
    """TRAPS 22: or a retry would look like a conflict."""
    data = json.dumps({"preferences": {key: key.upper() for key in keys}})
    expected = json.dumps({"preferences": {key: key.upper() for key in sorted(keys)}})
    first, second = (transcode_event(REGISTRY, event("e", text)).binary_data for text in (data, expected))
    assert first == second


@given(st.lists(st.sampled_from(["good", "bad_json", "rule", "breaks"]), max_size=12))
def test_every_event_is_transcoded_or_refused_whatever_its_neighbours_are(kinds: list[str]) -> None:
    """TRAPS 9."""

    class Types:
        def find(self, name: str) -> "Types":
            return self

        def from_json(self, data: bytes) -> Message:
            if data == b"breaks":
                raise ZeroDivisionError
            if data == b"bad_json":
                raise InvalidEvent("bad_json", "")
            return ProfileChanged(city=data.decode())

        parse = from_json

        def check(self, message: Message) -> None:
            if message == ProfileChanged(city="rule"):
                raise InvalidEvent("rule", "")

    done = transcode(Types(), StoredBatch(events=[event("e", data=kind) for kind in kinds]))
    assert [n for n, kind in enumerate(kinds) if kind == "good"] == [index for index, _ in done.events]
    expected = [(n, "poison" if kind == "breaks" else kind) for n, kind in enumerate(kinds) if kind != "good"]
    assert expected == [(index, exc.reason) for index, exc in done.refused]


async def test_each_batch_goes_out_on_behalf_of_its_tenant_with_its_accept_time() -> None:
    door = Door()
    await run(door, record(1, event("a"), tenant="acme"), record(2, event("b"), tenant="other"))
    assert {("a", OnBehalf("acme", 1, "http")), ("b", OnBehalf("other", 2, "http"))} == set(door.published)


async def test_events_of_one_slice_are_published_in_the_order_of_the_shard() -> None:
    """TRAPS 2."""
    door = Door()
    records = [record(number, event(f"{number % 3}-{number}"), slice=number % 3) for number in range(1, 60)]
    await run(door, *records)
    for slice in range(3):
        mine = [int(id.split("-")[1]) for id, _ in door.published if id.startswith(f"{slice}-")]
        assert sorted(mine) == mine
    assert 59 == len(door.published)


async def test_accepted_is_delivered_plus_dead_lettered() -> None:
    """TRAPS 9, 17."""
    door = Door(refused=Rejected("too_large", "too large"))
    bad = record(1, event("good"), event("bad", data="{"), event("refused"))
    garbage = StoredRecord("web-events", "s0", "2", b"garbage", 1_795_400_000_000_000)
    letters, metrics = await run(door, bad, garbage)
    found = {(letter.reason, letter.index): letter for letter in letters.letters.values()}
    assert {("bad_json", 1), ("too_large", 2), ("corrupt", 0)} == set(found)
    assert ["refused"] == [each.id for each in found["too_large", 2].original.events]  # type: ignore[union-attr]
    assert b"garbage" == found["corrupt", 0].record.data
    assert 1 == metrics.value(CONSUMER_EVENTS, part="transcoder", outcome="delivered")
    assert 3 == metrics.value(CONSUMER_EVENTS, part="transcoder", outcome="dead_letter")


@pytest.mark.parametrize("answer", [Unavailable("away"), Unclear("no answer"), Accepted(durable=False)])
async def test_what_is_not_acknowledged_raises_so_that_nothing_is_skipped(answer: Answer | Exception) -> None:
    """TRAPS 5, 13."""
    with pytest.raises(Unavailable):
        await run(Door(b=answer), record(1, event("a"), event("b")))


async def test_a_dead_letter_that_cannot_be_kept_raises() -> None:
    """TRAPS 17."""
    letters = MemoryDeadLetters(failure=Unavailable("the bucket is away"))
    with ThreadPoolExecutor(1) as pool, pytest.raises(Unavailable):
        await Transcoder(REGISTRY, Door(), letters, Metrics(), pool).process([record(1, event("bad", data="{"))])
