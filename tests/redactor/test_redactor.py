"""The redactor's worker: everything that passes is clean and confirmed, the rest is kept, and without a key nothing passes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import frame
from pipeline.dead_letters.writer import MemoryDeadLetters
from pipeline.errors import InvalidEvent, Unavailable
from pipeline.event import Record, StoredRecord, explicit_hash_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import LeadSubmitted, ProfileChanged
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redacted, Redactor
from pipeline.redactor.clean import RECORD_BYTES_MAX, clean
from pipeline.redactor.worker import WRITE_TRIES_MAX, RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.streams.sink import MemorySink, NotWritten, Outcome
from telemetry.metrics import CONSUMER_EVENTS, Metrics

REGISTRY = Registry.load()


def event(id: str, message: object = None, type: str = "ProfileChanged") -> CloudEvent:
    data = (message or ProfileChanged(city="Montreal")).SerializeToString()  # type: ignore[attr-defined]
    return CloudEvent(id=id, source="/shop", spec_version="1.0", type=f"spillway.events.v1.{type}", binary_data=data)


def batch(*events: CloudEvent) -> StoredBatch:
    return StoredBatch(events=events, tenant="acme", accepted_at_unix_micros=5, door="grpc", worker="w", slice=3, slices=16)


def record(*events: CloudEvent) -> StoredRecord:
    return StoredRecord("events", "s0", "7", frame.encode(batch(*events).SerializeToString()), 1_795_400_000_000_000)


async def run(
    *records: StoredRecord, sink: MemorySink | None = None, keys: MemoryKeys | None = None
) -> tuple[MemorySink, MemoryDeadLetters, Metrics]:
    sink, letters, metrics = sink or MemorySink(), MemoryDeadLetters(), Metrics()
    with ThreadPoolExecutor(1) as pool:
        await RedactorWorker(Redactor(REGISTRY, keys or MemoryKeys()), sink, letters, metrics, pool).process(records)
    return sink, letters, metrics


def written(sink: MemorySink) -> list[StoredBatch]:
    return [StoredBatch.FromString(frame.decode(each.data)) for each in sink.records]


async def test_a_batch_passes_with_its_slice_tenant_and_accept_time_and_without_personal_data() -> None:
    lead = LeadSubmitted()
    text_fields = [field for field in lead.DESCRIPTOR.fields if field.type == field.TYPE_STRING and not field.is_repeated]
    for field in text_fields:
        setattr(lead, field.name, "ann.seed@example.com")
    sink, letters, _ = await run(record(event("e1", lead, "LeadSubmitted"), event("e2")))
    (clean_batch,) = written(sink)
    assert ["e1", "e2"] == [each.id for each in clean_batch.events]
    before = batch()
    del clean_batch.events[:]
    assert before == clean_batch
    assert b"ann.seed" not in sink.records[0].data
    assert (explicit_hash_key(3, 16), 2) == (sink.records[0].explicit_hash_key, sink.records[0].events)
    assert {} == letters.letters


async def test_accepted_is_delivered_plus_dead_lettered() -> None:
    """TRAPS 9, 17."""
    bad = CloudEvent(id="bad", source="/s", type="no.such.Type")
    garbage = StoredRecord("events", "s0", "8", b"garbage", 1_795_400_000_000_000)
    sink, letters, metrics = await run(record(event("e1"), bad, event("e2")), garbage)
    assert ["e1", "e2"] == [each.id for part in written(sink) for each in part.events]
    assert {("unknown_type", 1), ("corrupt", 0)} == {(letter.reason, letter.index) for letter in letters.letters.values()}
    assert 2 == metrics.value(CONSUMER_EVENTS, part="redactor", outcome="delivered")
    assert 2 == metrics.value(CONSUMER_EVENTS, part="redactor", outcome="dead_letter")


async def test_a_batch_of_which_nothing_passes_writes_no_record() -> None:
    sink, letters, _ = await run(record(CloudEvent(id="bad", source="/s", type="no.such.Type")))
    assert ([], 1) == (sink.records, len(letters.letters))


async def test_without_the_key_nothing_passes() -> None:
    sink = MemorySink()
    with pytest.raises(Unavailable):
        await run(record(event("e1")), sink=sink, keys=MemoryKeys(failure=Unavailable("KMS said no")))
    assert [] == sink.records


async def test_a_record_that_is_not_confirmed_is_written_again_alone() -> None:
    """TRAPS 1."""

    class Flaky(MemorySink):
        async def write(self, records: object, *, deadline_seconds: float) -> list[Outcome]:
            given: list[Record] = list(records)  # type: ignore[call-overload]
            calls.append(len(given))
            confirmed = await super().write(given[:1], deadline_seconds=deadline_seconds)
            return [*confirmed, *(NotWritten("throttled", throttled=True) for _ in given[1:])]

    calls: list[int] = []
    flaky = Flaky()
    await run(*[record(event(f"e{number}")) for number in range(3)], sink=flaky)
    assert [3, 2, 1] == calls
    assert ["e0", "e1", "e2"] == [each.id for part in written(flaky) for each in part.events]


async def test_a_record_that_is_never_confirmed_is_tried_a_bounded_number_of_times_and_then_stops_the_shard() -> None:
    """TRAPS 13."""

    class Refusing(MemorySink):
        async def write(self, records: object, *, deadline_seconds: float) -> list[Outcome]:
            calls.append(deadline_seconds)
            return [NotWritten("InternalFailure")]

    calls: list[float] = []
    with pytest.raises(Unavailable):
        await run(record(event("e1")), sink=Refusing())
    assert WRITE_TRIES_MAX == len(calls)


async def test_another_number_of_outcomes_confirms_nothing() -> None:
    """TRAPS 1."""

    class Short(MemorySink):
        async def write(self, records: object, *, deadline_seconds: float) -> list[Outcome]:
            return []

    with pytest.raises(Unavailable):
        await run(record(event("e1")), sink=Short())


class Grows:
    """A redaction that makes events `factor` times as large, refuses ids that start with "no", breaks on "boom"."""

    def __init__(self, bytes_each: int) -> None:
        self.bytes_each = bytes_each

    def redact(self, stored: StoredBatch) -> Redacted:
        out = StoredBatch()
        out.CopyFrom(stored)
        del out.events[:]
        refused = []
        for index, each in enumerate(stored.events):
            if each.id.startswith("boom"):
                raise ZeroDivisionError
            if each.id.startswith("no"):
                refused.append((index, InvalidEvent("rule", "")))
            else:
                out.events.append(CloudEvent(id=each.id, binary_data=bytes(self.bytes_each)))
        return Redacted(out, tuple(refused), {"mask": len(out.events)})


@given(
    st.lists(st.sampled_from(["yes", "no", "boom"]), min_size=1, max_size=20), st.sampled_from([1, 90_000, 400_000, 1_100_000])
)
def test_every_event_passes_or_is_refused_and_each_record_fits(kinds: list[str], bytes_each: int) -> None:
    """TRAPS 9: neither size nor a crash of one event touches its neighbours."""
    named = [f"{kind}{index}" for index, kind in enumerate(kinds)]
    done = clean(Grows(bytes_each), batch(*[event(id) for id in named]))
    passed = [each.id for made in done.records for each in StoredBatch.FromString(frame.decode(made.data)).events]
    too_large = bytes_each > RECORD_BYTES_MAX
    assert [id for id in named if id.startswith("yes") and not too_large] == passed
    reasons = {"no": "rule", "boom": "poison", "yes": "too_large"}
    expected = {(n, reasons[kind]) for n, kind in enumerate(kinds) if kind != "yes" or too_large}
    assert expected == {(index, exc.reason) for index, exc in done.refused}
    assert len(done.refused) == len(expected)
    assert [] == [made for made in done.records if len(made.data) + len(made.partition_key) > RECORD_BYTES_MAX]
    assert len(passed) == sum(made.events for made in done.records)
