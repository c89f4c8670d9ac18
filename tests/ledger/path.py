"""The path of events in one process: real doors, transcoder, redactor, auditor and decoder, each with its tally, around streams
in memory. At every seam a mutant may put its hand in.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path as FilePath
from random import Random

import structlog

from canary.ledger.books import Books, Holdings, Window
from canary.ledger.judge import Verdict, judge
from pipeline import frame
from pipeline.backup.auditor import Auditor, sources
from pipeline.backup.objects import MemoryObjects
from pipeline.config import Settings
from pipeline.dead_letters.letters import Letter, original_of
from pipeline.dead_letters.writer import MemoryDeadLetters
from pipeline.doors.accept import Acceptance
from pipeline.doors.collect import Caller, Collector, InFlight
from pipeline.doors.keys import KeyStore
from pipeline.etl.decode import decode
from pipeline.event import Record, StoredRecord, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger.identity import of_names
from pipeline.ledger.tally import Digest, Slot, Tally, window_of
from pipeline.raw import raw_events
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redacted, Redactor
from pipeline.redactor.worker import RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected
from pipeline.streams.batching import Lanes, Origin, event_head
from pipeline.streams.group_commit import GroupCommit
from pipeline.streams.retry import Backoff, RetryBudget
from pipeline.streams.sink import MemorySink, Outcome, Written
from pipeline.transcoder.worker import Transcoder
from telemetry.log import configure
from telemetry.metrics import Metrics
from telemetry.tracing import Tracer

REGISTRY = Registry.load()
AT_MICROS = 1_795_000_003_000_000
SLICES = 4
TYPE = "spillway.events.v1.ProfileChanged"

# (tenant, door, window, source, id) of one row at an exit.
Row = tuple[str, str, int, str, str]


def passes(value: list[Record]) -> list[Record]:
    return value


def rows_pass(rows: list[Row]) -> list[Row]:
    return rows


def batch_passes(batch: StoredBatch) -> StoredBatch:
    return batch


def letter_passes(letters: Sequence[Letter]) -> Sequence[Letter]:
    return letters


@dataclass
class Hands:
    """What a mutant does at each seam. By default nothing."""

    # What the stream really stores of what it confirms.
    web: Callable[[list[Record]], list[Record]] = passes
    events: Callable[[list[Record]], list[Record]] = passes
    clean: Callable[[list[Record]], list[Record]] = passes
    # What a worker is given of what the stream holds.
    to_transcoder: Callable[[list[Record]], list[Record]] = passes
    to_redactor: Callable[[list[Record]], list[Record]] = passes
    to_etl: Callable[[list[Record]], list[Record]] = passes
    # What Firehose makes of a stream.
    to_backup: Callable[[list[Record]], list[Record]] = passes
    # What the redactor and the transcoder make of what they read.
    redacts: Callable[[StoredBatch], StoredBatch] = batch_passes
    publishes: Callable[[list[CloudEvent]], list[CloudEvent]] = lambda events: events
    behalf: Callable[[OnBehalf], OnBehalf] = lambda on_behalf: on_behalf
    letters: Callable[[Sequence[Letter]], Sequence[Letter]] = letter_passes
    # What the exits hold.
    lake: Callable[[list[Row]], list[Row]] = rows_pass
    rds: Callable[[list[Row]], list[Row]] = rows_pass
    # Tiers that stop to report.
    deaf: frozenset[str] = frozenset()


class _Stream(MemorySink):
    """Confirms all of it and stores what the hand leaves."""

    def __init__(self, hand: Callable[[list[Record]], list[Record]]) -> None:
        super().__init__()
        self._hand = hand

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        outcomes = await super().write(records, deadline_seconds=deadline_seconds)
        return outcomes

    def _write(self, record: Record) -> Outcome:
        if record.partition_key in self.refuse:
            return self.refuse[record.partition_key]
        self.records += self._hand([record])
        return Written("shardId-000000000000", str(len(self.records)))


class _Letters(MemoryDeadLetters):
    def __init__(self, hand: Callable[[Sequence[Letter]], Sequence[Letter]]) -> None:
        super().__init__()
        self._hand = hand

    async def write(self, letters: Sequence[Letter]) -> None:
        await super().write(list(self._hand(letters)))


class _Redacts:
    """A real redactor behind a mutant's hand. It never asks for keys here."""

    def __init__(self, hand: Callable[[StoredBatch], StoredBatch]) -> None:
        self._redactor, self._hand = Redactor(REGISTRY, MemoryKeys()), hand

    def redact(self, batch: StoredBatch) -> Redacted:
        done = self._redactor.redact(batch)
        return Redacted(self._hand(done.clean), done.refused, done.changed)


@dataclass
class Path:
    hands: Hands = field(default_factory=Hands)
    # The doors' clock.
    at_micros: int = AT_MICROS

    def __post_init__(self) -> None:
        self.web, self.events, self.clean = (_Stream(hand) for hand in (self.hands.web, self.hands.events, self.hands.clean))
        self.letters = _Letters(self.hands.letters)
        self.tallies: list[Tally] = []
        self._http, self._grpc = self._door("http", self.web), self._door("grpc", self.events)

    # -- in

    async def grpc(self, *events: CloudEvent, tenant: str = "acme", at: int = 0, guaranteed: bool = True) -> list[int]:
        """Statuses, by event."""
        encoded = [event.SerializeToString() for event in events]
        decisions = [self._grpc.acceptance.decide(one, self.at_micros) for one in encoded]
        caller = Caller(Origin(tenant, "grpc", at or None), guaranteed)
        hold = self._grpc.admit(caller, sum(map(len, encoded)))
        return list((await self._grpc.publish(caller, decisions, hold, None)).statuses)

    async def http(self, *events: CloudEvent, tenant: str = "acme", at: int = 0) -> list[int]:
        decisions = [self._http.acceptance.decide_json(event, self.at_micros) for event in events]
        caller = Caller(Origin(tenant, "http", at or None), True)
        hold = self._http.admit(caller, 1000)
        return list((await self._http.publish(caller, decisions, hold, None)).statuses)

    # -- on

    async def flow(self) -> None:
        """Everything that is in the streams, to the exits and the backup."""
        await self.transcode(self.hands.to_transcoder(self.web.records))
        await self.redact(self.hands.to_redactor(self.events.records))
        self._back_up()

    async def transcode(self, records: Sequence[Record]) -> None:
        loop = asyncio.get_running_loop()

        def publish(events: Sequence[CloudEvent], on_behalf: OnBehalf) -> list[Answer]:
            sent = asyncio.run_coroutine_threadsafe(
                self._published(self.hands.publishes(list(events)), self.hands.behalf(on_behalf)), loop
            ).result(10)
            return [*sent, *[Accepted()] * (len(events) - len(sent))][: len(events)]

        with ThreadPoolExecutor(2) as pool:
            worker = Transcoder(REGISTRY, publish, self.letters, Metrics(), pool, tally=self._tally())
            await worker.process(_read("web-events", records))

    async def redact(self, records: Sequence[Record]) -> None:
        with ThreadPoolExecutor(1) as pool:
            redacts = _Redacts(self.hands.redacts)
            worker = RedactorWorker(redacts, self.clean, self.letters, Metrics(), pool, tally=self._tally())
            for record in _read("events", records):
                await worker.process([record])

    async def _published(self, events: Sequence[CloudEvent], behalf: OnBehalf) -> list[Answer]:
        decisions = [self._grpc.acceptance.decide(event.SerializeToString(), self.at_micros) for event in events]
        caller = Caller(Origin(behalf.tenant, behalf.door, behalf.accepted_at_unix_micros), True)
        answer = await self._grpc.publish(caller, decisions, self._grpc.admit(caller, 1000), None)
        problems = {problem.index: problem for problem in answer.problems}
        return [
            Rejected(str(problems[index].reason), problems[index].message) if index in problems else Accepted()
            for index in range(len(events))
        ]

    def _back_up(self) -> None:
        objects, log = MemoryObjects(), configure("auditor", stream=StringIO())
        now = self.at_micros / 1e6 + 60
        hour = datetime.fromtimestamp(now, UTC)
        for stream, sink in (("web-events", self.web), ("events", self.events)):
            body = b"".join(record.data for record in self.hands.to_backup(sink.records))
            if body:
                name = f"{stream}-1-{hour:%Y-%m-%d-%H-%M-%S}-00000000-0000-4000-8000-000000000000"
                objects.put(f"backup/{stream}/{hour:%Y/%m/%d/%H}/{name}", body, {})
        auditor = Auditor(
            objects, sources(Settings()), Metrics(), log, Tracer.off(), now_seconds=lambda: now, tally=self._tally()
        )  # fmt: skip
        auditor.round()

    # -- out

    def rows(self) -> list[Row]:
        """What the ETL makes of `events-clean`: each identity once."""
        decoded = decode(_read("events-clean", self.hands.to_etl(self.clean.records)), REGISTRY.find)
        return [(e.tenant, e.door, window_of(e.accepted_micros), e.source, e.id) for e in decoded.events]

    def books(self) -> list[Books]:
        digests: dict[Slot, Digest] = defaultdict(Digest)
        for tally in self.tallies:
            for slot, digest in tally.take().digests.items():
                if slot.tier not in self.hands.deaf:
                    digests[slot].merge(digest)
        rows = self.rows()
        exits = {"lake": self.hands.lake(list(rows)), "rds": self.hands.rds(list(rows))}
        windows = {Window(slot.tenant, slot.door, slot.window) for slot in digests}
        windows |= {Window(*row[:3]) for held in exits.values() for row in held}
        return [
            Books(
                window,
                {slot.tier: digest.table() for slot, digest in digests.items() if Window(*slot[1:]) == window},
                {exit: _held(row[3:] for row in held if Window(*row[:3]) == window) for exit, held in exits.items()},
                self._dead(window),
            )
            for window in sorted(windows)
        ]

    def verdicts(self) -> list[Verdict]:
        return [judge(books, patient=False) for books in self.books()]

    def _dead(self, window: Window) -> dict[str, Holdings]:
        stages: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for letter in self.letters.letters.values():
            batch = original_of(letter)
            if batch is not None and Window(batch.tenant, batch.door, window_of(batch.accepted_at_unix_micros)) == window:
                stages[letter.stage] += [(event.source, event.id) for event in batch.events]
        return {stage: _held(names) for stage, names in stages.items()}

    def _tally(self) -> Tally:
        self.tallies.append(Tally())
        return self.tallies[-1]

    def _door(self, door: str, sink: _Stream) -> Collector:
        metrics = Metrics()
        lanes = Lanes(
            slices=SLICES, worker="w", budget=RetryBudget(time.monotonic), random=Random(1),
            backoff=Backoff(floor_seconds=0.001, base_seconds=0.002, cap_seconds=0.01),
        )  # fmt: skip
        return Collector(
            door=door,
            acceptance=Acceptance(REGISTRY.types, SLICES),
            keys=KeyStore(FilePath("no-keys"), clock=time.monotonic, log=structlog.get_logger(), metrics=metrics, door=door),
            commit=GroupCommit(sink, lanes, clock=time.monotonic, clock_micros=lambda: self.at_micros),
            in_flight=InFlight(10_000_000, 10_000_000),
            clock_micros=lambda: self.at_micros,
            write_seconds=2.0,
            metrics=metrics,
            tally=self._tally(),
        )


def event(id: str, *, source: str = "/shop", city: str = "Toronto", json: bool = False, subject: str = "") -> CloudEvent:
    made = CloudEvent(id=id, source=source, spec_version="1.0", type=TYPE)
    made.attributes["time"].ce_timestamp.FromMicroseconds(AT_MICROS - 1_000_000)
    made.attributes["subject"].ce_string = subject or id
    if json:
        made.text_data = f'{{"city": "{city}"}}'
        made.attributes["datacontenttype"].ce_string = "application/json"
    else:
        made.binary_data = ProfileChanged(city=city).SerializeToString()
        made.attributes["datacontenttype"].ce_string = "application/protobuf"
    return made


def rewritten(record: Record, change: Callable[[bytes], list[bytes]], tenant: str = "") -> list[Record]:
    """A record with other events in it, each as its bytes; none at all if nothing is left."""
    payload = frame.decode(record.data)
    events = [new for raw in raw_events(payload) for new in change(raw)]
    batch = StoredBatch.FromString(payload)
    head = b"".join(event_head(len(raw)) + raw for raw in events)
    tail = with_events(batch, [], tenant).SerializeToString()
    return [Record(frame.encode(head + tail), record.partition_key, record.explicit_hash_key, len(events))] if events else []


def with_events(batch: StoredBatch, events: Iterable[CloudEvent], tenant: str = "") -> StoredBatch:
    return stored_batch(
        events,
        tenant=tenant or batch.tenant,
        accepted_at_unix_micros=batch.accepted_at_unix_micros,
        door=batch.door,
        worker=batch.worker,
        slice=batch.slice,
        slices=batch.slices,
    )


def _read(stream: str, records: Sequence[Record]) -> list[StoredRecord]:
    return [StoredRecord(stream, "s0", str(number), record.data, AT_MICROS) for number, record in enumerate(records)]


def _held(names: Iterable[tuple[str, str]]) -> Holdings:
    return Holdings(of_names(list(names)))
