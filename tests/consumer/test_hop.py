"""What workers say about events: the whole story of one delivery in spans, histograms and log lines."""

import io
import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import frame
from pipeline.backup.objects import MemoryObjects
from pipeline.consumer.hop import UNPLANNED_MAX, HopTelemetry
from pipeline.dead_letters.writer import StoredDeadLetters, bury_at
from pipeline.errors import Unavailable
from pipeline.event import Record, StoredRecord, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redactor
from pipeline.redactor.worker import RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected
from pipeline.streams.sink import MemorySink, NotWritten, Outcome
from pipeline.tracing import kept, kept_in
from pipeline.transcoder.worker import Transcoder
from telemetry import metrics as m
from telemetry.log import configure
from telemetry.metrics import Metrics
from telemetry.personal_data import mask
from telemetry.settings import TelemetrySettings
from telemetry.tracing import Tracer, trace_of

REGISTRY = Registry.load()
TYPE = "spillway.events.v1.ProfileChanged"
ACCEPTED_MICROS = 1_795_400_000_000_000
ARRIVED_MICROS = ACCEPTED_MICROS + 1_000_000
# Nothing by hash: only what is marked.
MARKED_ONLY = TelemetrySettings(trace_share=0.0)


def event(id: str, data: bytes | str | None = None, canary: bool = False) -> CloudEvent:
    made = CloudEvent(id=id, source="/shop", spec_version="1.0", type=TYPE)
    if isinstance(data, str):
        made.text_data = data
        made.attributes["datacontenttype"].ce_string = "application/json"
    else:
        made.binary_data = ProfileChanged(city="Montreal").SerializeToString() if data is None else data
    if canary:
        made.attributes["canary"].ce_boolean = True
    return made


def record(sequence: int, *events: CloudEvent, stream: str = "events", door: str = "grpc") -> StoredRecord:
    batch = stored_batch(
        events, tenant="acme", accepted_at_unix_micros=ACCEPTED_MICROS, door=door, worker="w", slice=3, slices=16
    )
    return StoredRecord(stream, "shardId-000000000001", str(sequence), frame.encode(batch.SerializeToString()), ARRIVED_MICROS)


class World:
    """A worker's surroundings in memory."""

    def __init__(self, part: str, settings: TelemetrySettings = MARKED_ONLY) -> None:
        self.spans: list[Any] = []
        self.metrics, self.log, self.sink = Metrics(), io.StringIO(), MemorySink()
        self.objects = MemoryObjects()
        self.tracer = Tracer(part, "w-1", self.spans.append, settings, scrub=mask)
        log = configure(part, scrub=mask, stream=self.log)
        self.letters = StoredDeadLetters(self.objects, self.metrics, lambda: 1, log)

    async def redact(self, *records: StoredRecord) -> None:
        with ThreadPoolExecutor(2) as pool:
            redactor = Redactor(REGISTRY, MemoryKeys())
            await RedactorWorker(redactor, self.sink, self.letters, self.metrics, pool, self.tracer).process(records)

    async def transcode(self, *records: StoredRecord, answer: Answer | Exception = Accepted()) -> None:  # noqa: B008
        def publish(events: Sequence[CloudEvent], on_behalf: OnBehalf) -> list[Answer]:
            if isinstance(answer, Exception):
                raise answer
            return [answer] * len(events)

        with ThreadPoolExecutor(4) as pool:
            await Transcoder(REGISTRY, publish, self.letters, self.metrics, pool, self.tracer).process(records)

    def of(self, id: str) -> dict[str, Any]:
        """The event's spans by hop."""
        mine = [span for span in self.spans if span.attributes.get("cloudevents.event_id") == id]
        return {span.attributes["spillway.hop"]: span for span in mine}

    @property
    def batches(self) -> list[Any]:
        return [span for span in self.spans if "spillway.batch.traced_events" in span.attributes]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["event"] == "dead letter"]


async def test_a_traced_event_has_a_span_at_the_redactor_and_one_of_its_write() -> None:
    world = World("redactor")
    await world.redact(record(7, event("plain")), record(8, event("plain2"), event("c", canary=True)))
    trace, spans = trace_of("/shop", "c"), world.of("c")
    assert {"redactor", "redactor/write"} == set(spans)
    hop, write = spans["redactor"], spans["redactor/write"]
    assert trace.span_id("grpc-door") == hop.parent.span_id
    assert trace.span_id("redactor") == hop.context.span_id == write.parent.span_id
    said = {
        "messaging.destination.name": "events",
        "messaging.destination.partition.id": "shardId-000000000001",
        "messaging.aws_kinesis.sequence_number": "8",
        "messaging.message.id": "c",
        "spillway.tenant": "acme",
        "cloudevents.event_type": TYPE,
    }
    assert said == {name: hop.attributes[name] for name in said}
    assert pytest.approx(hop.start_time / 1e9 - ARRIVED_MICROS / 1e6, abs=0.001) == hop.attributes["spillway.waited_seconds"]
    # The second record of the sink: the first holds the other event.
    assert ("events-clean", "2") == (
        write.attributes["messaging.destination.name"],
        write.attributes["messaging.aws_kinesis.sequence_number"],
    )
    (batch,) = world.batches
    assert [trace.span_id("redactor")] == [link.context.span_id for link in batch.links]
    assert [batch.context.span_id] == [link.context.span_id for link in hop.links]
    assert 3 == len(world.spans)


async def test_a_traced_event_has_a_span_at_the_transcoder() -> None:
    world = World("transcoder")
    await world.transcode(
        record(7, event("c", '{"city": "Montreal"}', canary=True), event("d", "{}"), stream="web-events", door="http")
    )
    trace = trace_of("/shop", "c")
    assert trace.span_id("http-door") == world.of("c")["transcoder"].parent.span_id
    assert {} == world.of("d")


async def test_a_delivery_without_a_traced_event_says_nothing_but_its_times() -> None:
    world = World("redactor")
    await world.redact(record(7, event("a")), record(8, event("b")))
    value = world.metrics.registry.get_sample_value
    assert [] == world.spans
    assert 1 == value(f"{m.CONSUMER_PROCESS_SECONDS.name}_count", {"part": "redactor"})
    assert 2 == value(f"{m.CONSUMER_WAIT_SECONDS.name}_count", {"part": "redactor"})


async def test_the_histograms_lead_to_the_trace() -> None:
    world = World("redactor")
    await world.redact(record(7, event("c", canary=True)))
    shown = world.metrics.exposition(openmetrics=True).decode().splitlines()
    wanted = f'trace_id="{trace_of("/shop", "c").hex_id}"'
    assert {m.CONSUMER_PROCESS_SECONDS.name, m.CONSUMER_WAIT_SECONDS.name} == {
        line.partition("_bucket")[0] for line in shown if wanted in line
    }


@pytest.mark.parametrize("canary", [True, False], ids=["traced", "unplanned"])
async def test_a_dead_letter_ends_its_trace_and_is_one_line_in_the_log(canary: bool) -> None:
    world = World("redactor")
    await world.redact(record(7, event("good"), event("bad", b"\xff\xff", canary=canary)))
    (key,) = world.objects.bodies
    trace = trace_of("/shop", "bad")
    span = world.of("bad")["redactor"]
    assert ("dead_letter", "undecodable", key) == tuple(
        span.attributes[name] for name in ("spillway.final", "spillway.reason", "spillway.dead_letter.key")
    )
    assert (trace.span_id("redactor"), trace.trace_id, "ERROR") == (
        span.context.span_id, span.context.trace_id, span.status.status_code.name,
    )  # fmt: skip
    # What the hops before it did not say is rebuilt only if nobody was to say it.
    assert (not canary) == ("grpc-door" in world.of("bad"))
    assert "redactor/write" not in world.of("bad")
    assert {} == world.of("good")
    (line,) = world.lines
    said = {
        "stage": "redactor", "reason": "undecodable", "event_id": "bad", "trace_id": trace.hex_id, "tenant": "acme",
        "key": key, "shard": "shardId-000000000001", "sequence_number": "7", "index": 1,
    }  # fmt: skip
    assert said == {name: line[name] for name in said}


async def test_a_refusal_by_the_door_ends_the_trace_as_well() -> None:
    world = World("transcoder")
    web = record(7, event("c", '{"city": "x"}', canary=True), stream="web-events", door="http")
    await world.transcode(web, answer=Rejected("rule", "no"))
    assert "rule" == world.of("c")["transcoder"].attributes["spillway.reason"]


async def test_an_id_with_personal_data_reaches_neither_log_nor_spans() -> None:
    world = World("redactor")
    await world.redact(record(7, event("ann.seed@example.com", canary=True)))
    assert 1 == len(world.lines)
    assert "ann.seed" not in world.log.getvalue() + str([dict(span.attributes) for span in world.spans])
    assert "personal_data_in_identity" == world.lines[0]["reason"]


async def test_a_flood_of_dead_letters_is_traced_within_the_bound() -> None:
    world = World("redactor", TelemetrySettings(trace_share=0.0, unplanned_spans_per_second_max=12.0))
    await world.redact(record(7, *[event(f"bad-{number}", b"\xff\xff") for number in range(100)]))
    assert 100 == world.metrics.value(m.CONSUMER_EVENTS, part="redactor", outcome="dead_letter")
    # The batch itself is not said: nothing in it was to be traced.
    assert 0 < len({span.context.trace_id for span in world.spans}) <= 4


async def test_a_record_that_can_not_be_read_is_a_line_without_an_event() -> None:
    world = World("redactor")
    await world.redact(StoredRecord("events", "shardId-000000000001", "9", b"garbage", ARRIVED_MICROS))
    (line,) = world.lines
    assert ("corrupt", "9", False) == (line["reason"], line["sequence_number"], "event_id" in line)
    assert [] == world.spans


async def test_a_record_that_is_buried_whole_ends_the_trace_of_each_of_its_events() -> None:
    world = World("redactor")
    hop = HopTelemetry("redactor", world.metrics, world.tracer)
    many = [event(f"e{number}") for number in range(20)]
    await bury_at("redactor", world.letters, hop.buried)(record(7, event("c", canary=True), *many), "poison", "")
    ended = [span for span in world.spans if span.attributes.get("spillway.final") == "dead_letter"]
    assert ["c", *[f"e{number}" for number in range(UNPLANNED_MAX)]] == [
        span.attributes["cloudevents.event_id"] for span in ended
    ]
    assert {"poison"} == {span.attributes["spillway.reason"] for span in ended}
    (line,) = world.lines
    assert ("poison", "c", 21) == (line["reason"], line["event_id"], line["events"])


async def test_a_delivery_that_fails_says_so_of_the_batch_and_nothing_of_its_events() -> None:
    """They are tried again."""
    world = World("transcoder")
    web = record(7, event("c", '{"city": "x"}', canary=True), stream="web-events", door="http")
    with pytest.raises(Unavailable):
        await world.transcode(web, answer=Unavailable("away"))
    (batch,) = world.batches
    assert ("Unavailable: away", "ERROR") == (batch.status.description, batch.status.status_code.name)
    assert {} == world.of("c")
    value = world.metrics.registry.get_sample_value
    assert 0 == value(f"{m.CONSUMER_PROCESS_SECONDS.name}_count", {"part": "transcoder"})


async def test_a_slow_delivery_is_traced_though_nobody_asked() -> None:
    world = World("redactor", TelemetrySettings(trace_share=0.0, slow_seconds=-1.0))
    await world.redact(record(7, event("a"), event("b")))
    assert {"grpc-door", "redactor"} == set(world.of("a"))
    assert world.of("a")["redactor"].attributes["spillway.slow"]
    assert 1 == len(world.batches)


async def test_the_write_that_is_told_is_the_one_that_was_confirmed() -> None:
    """TRAPS 1: the first record is confirmed at once, the second at the second try."""

    class Flaky(MemorySink):
        async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
            confirmed = await super().write(records[:1], deadline_seconds=deadline_seconds)
            return [*confirmed, *(NotWritten("throttled") for _ in records[1:])]

    world = World("redactor")
    world.sink = Flaky()
    await world.redact(record(7, event("c1", canary=True)), record(8, event("c2", canary=True)))
    numbers = [world.of(id)["redactor/write"].attributes["messaging.aws_kinesis.sequence_number"] for id in ("c1", "c2")]
    assert ["1", "2"] == numbers


async def test_without_a_tracer_the_same_events_pass() -> None:
    world = World("redactor")
    world.tracer = Tracer.off()
    await world.redact(record(7, event("c", canary=True), event("bad", b"\xff\xff")))
    assert ([], 1, 1) == (world.spans, len(world.sink.records), len(world.lines))


def test_an_idle_worker_shows_its_signals_as_zero() -> None:
    world = World("redactor")
    with ThreadPoolExecutor(1) as pool:
        RedactorWorker(Redactor(REGISTRY, MemoryKeys()), world.sink, world.letters, world.metrics, pool, world.tracer)
    shown = world.metrics.exposition().decode()
    for series in (
        f'{m.CONSUMER_EVENTS.name}{{outcome="dead_letter",part="redactor"}} 0.0',
        f'{m.CONSUMER_PROCESS_SECONDS.name}_count{{part="redactor"}} 0.0',
        f'{m.CONSUMER_WAIT_SECONDS.name}_count{{part="redactor"}} 0.0',
        f'{m.REDACTED_FIELDS.name}{{action="mask"}} 0.0',
    ):
        assert series in shown


CONTEXTS = st.one_of(
    st.none(),
    st.just("not a context"),
    st.builds(
        lambda low, flags: f"00-{'a' * 24}{low}-{'b' * 16}-{flags}",
        st.sampled_from(["00000000", "00000001", "1fffffff", "20000000", "FFFFFFFF", "ffffffff"]),
        st.sampled_from(["00", "01", "03", "0a", "FF"]),
    ),
)


@given(
    st.lists(st.tuples(CONTEXTS, st.booleans(), st.integers(0, 99)), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.125, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
)
def test_a_batch_is_judged_as_its_events_are(
    kinds: list[tuple[str | None, bool, int]], trace_share: float, flagged_share: float, canaries: bool
) -> None:
    """The short cut over the bytes changes no decision: or a trace would not be whole."""
    events = []
    for context, canary, number in kinds:
        one = event(f"{number}", canary=canary and canaries)
        if context is not None:
            one.attributes["traceparent"].ce_string = context
        events.append(one)
    batch = stored_batch(events, tenant="t", accepted_at_unix_micros=1, door="grpc", worker="w", slice=1, slices=16)
    tracer = Tracer("p", "w", lambda _: None, TelemetrySettings(trace_share=trace_share, flagged_share=flagged_share))
    one_by_one = [(index, trace) for index, one in enumerate(events) if (trace := kept(tracer, one)) is not None]
    assert one_by_one == kept_in(tracer, batch.SerializeToString(), batch)


def test_the_hash_keeps_some_and_not_all() -> None:
    """The law above would hold for a tracer that keeps nothing."""
    tracer = Tracer("p", "w", lambda _: None, TelemetrySettings(trace_share=0.5))
    batch = stored_batch(
        [event(f"{n}") for n in range(50)], tenant="t", accepted_at_unix_micros=1, door="grpc", worker="w", slice=1, slices=16
    )
    expected = [n for n in range(50) if zlib.crc32(b"%d" % n) < 1 << 31]
    assert expected == [index for index, _ in kept_in(tracer, batch.SerializeToString(), batch)]
    assert 0 < len(expected) < 50
