"""The redactor's processor: what a delivery of `events` becomes.

    open the frames ─► redact ─► write to `events-clean` ─► refusals to the dead letters

Rules. `process` returns when each event is confirmed in `events-clean` or kept as a dead letter, and not before. A record that is
not confirmed is written again, the confirmed ones are not; after a bounded number of tries it raises and the shard stops
(TRAPS 1, 13). Dead letters hold personal data as `events` does: the whole original.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline import frame
from pipeline.consumer.batches import open_payload
from pipeline.consumer.hop import DeliveryTelemetry, HopTelemetry, Kept
from pipeline.dead_letters.letters import CORRUPT, Letter, event_letter
from pipeline.dead_letters.writer import DeadLetters
from pipeline.errors import Corrupt, Throttled, Unavailable
from pipeline.event import Record, StoredRecord
from pipeline.ledger import tiers
from pipeline.ledger.tally import Ahead, Seen, Tally
from pipeline.redaction.redact import ACTIONS
from pipeline.redactor.clean import Redacts, clean
from pipeline.streams.sink import NotWritten, Sink, Written
from telemetry.metrics import CONSUMER_EVENTS, REDACTED_FIELDS, Metrics
from telemetry.tracing import Tracer

STAGE = "redactor"
WRITE_SECONDS_MAX = 15.0
WRITE_TRIES_MAX = 3


@dataclass(slots=True)
class _Redacted:
    """What a delivery became. `kept` holds the traced events that passed, each with the place of its record in `records`.

    `seen` is what was read and what is clean, for the ledger; None if none is kept.
    """

    records: list[Record] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    kept: list[tuple[Kept, int]] = field(default_factory=list)
    seen: Ahead | None = None


class RedactorWorker:
    """A `Processor`. `pool` keeps the work of the processor off the thread that keeps the leases."""

    def __init__(
        self,
        redactor: Redacts,
        sink: Sink,
        letters: DeadLetters,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
        tracer: Tracer | None = None,
        clean_stream: str = "events-clean",
        tally: Tally | None = None,
    ) -> None:
        """`tracer` None: nothing is traced; `tally` None: no ledger is kept. `clean_stream`: what `sink` writes to, in spans."""
        self._redactor = redactor
        self._sink = sink
        self._letters = letters
        self._pool = pool
        self._clean_stream = clean_stream
        self._tally = tally
        self._delivered = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="delivered")
        self._dead = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="dead_letter")
        self._metrics = metrics
        for action in ACTIONS:  # shown from the start, as zero
            metrics.counter(REDACTED_FIELDS, action=action)
        self._hop = HopTelemetry(STAGE, metrics, tracer or Tracer.off())

    async def process(self, records: Sequence[StoredRecord]) -> None:
        with self._hop.delivery(records) as delivery:
            done = await asyncio.get_running_loop().run_in_executor(self._pool, self._redacted, records, delivery)
            began_ns = time.time_ns()
            written = await self._write(done.records)
            for kept, number in done.kept:
                delivery.wrote(kept, self._clean_stream, written[number][0], began_ns, written[number][1])
            await self._letters.write(done.letters)
            delivery.dead(done.letters)
        if self._tally is not None and done.seen is not None:
            self._tally.add(done.seen)
        self._delivered.inc(sum(record.events for record in done.records))
        self._dead.inc(len(done.letters))
        for action, count in done.changed.items():
            self._metrics.counter(REDACTED_FIELDS, action=action).inc(count)

    def _redacted(self, records: Sequence[StoredRecord], delivery: DeliveryTelemetry) -> _Redacted:
        out = _Redacted(seen=self._tally.ahead() if self._tally is not None else None)
        for record in records:
            try:
                payload = frame.decode(record.data)
                batch = open_payload(payload)
            except Corrupt as exc:
                out.letters.append(Letter(STAGE, CORRUPT, str(exc), record))
                continue
            # At once: what is redacted meanwhile takes its place in the core's cache.
            if out.seen is not None:
                out.seen.see(tiers.REDACTOR_READ, Seen.of(batch, payload))
            kept = delivery.opened(record, batch)
            cleaned = clean(self._redactor, batch)
            if kept:
                record_of = cleaned.record_of(len(batch.events))
                first = len(out.records)
                out.kept += [(each, first + record_of[each.index]) for each in kept if each.index in record_of]
            out.records += cleaned.records
            if out.seen is not None:
                for written in cleaned.records:
                    out.seen.see(tiers.REDACTOR_CLEAN, Seen.of(batch, frame.inside(written.data)))
            out.letters += [event_letter(STAGE, exc.reason, str(exc), record, batch, index) for index, exc in cleaned.refused]
            for action, count in cleaned.changed.items():
                out.changed[action] = out.changed.get(action, 0) + count
        return out

    async def _write(self, records: Sequence[Record]) -> list[tuple[Written, int]]:
        """Each record's confirmation, and when it came (nanoseconds since 1970).

        Raises: Throttled, Unavailable: not all of them are confirmed.
        """
        confirmed: dict[int, tuple[Written, int]] = {}
        missing: Sequence[int] = range(len(records))
        failed: list[NotWritten] = []
        for _ in range(WRITE_TRIES_MAX):
            if not missing:
                break
            outcomes = await self._sink.write([records[number] for number in missing], deadline_seconds=WRITE_SECONDS_MAX)
            if len(outcomes) != len(missing):
                raise Unavailable(f"{len(outcomes)} outcomes for {len(missing)} records: none is confirmed")
            now_ns = time.time_ns()
            failed = [outcome for outcome in outcomes if isinstance(outcome, NotWritten)]
            for number, outcome in zip(missing, outcomes, strict=True):
                if isinstance(outcome, Written):
                    confirmed[number] = (outcome, now_ns)
            missing = [number for number in missing if number not in confirmed]
        if missing:
            wait_seconds = max(outcome.retry_after_seconds for outcome in failed)
            kind = Throttled if all(outcome.throttled for outcome in failed) else Unavailable
            message = f"{len(missing)} of {len(records)} clean records are not confirmed: {failed[0].reason}"
            raise kind(message, retry_after_seconds=wait_seconds)
        return [confirmed[number] for number in range(len(records))]
