"""The redactor's processor: what a delivery of `events` becomes.

    open the frames ─► redact ─► write to `events-clean` ─► refusals to the dead letters

Rules. `process` returns when each event is confirmed in `events-clean` or kept as a dead letter, and not before. A record that is
not confirmed is written again, the confirmed ones are not; after a bounded number of tries it raises and the shard stops
(TRAPS 1, 13). Dead letters hold personal data as `events` does: the whole original.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.consumer.batches import open_batch
from pipeline.dead_letters.letters import CORRUPT, Letter, event_letter
from pipeline.dead_letters.writer import DeadLetters
from pipeline.errors import Corrupt, Throttled, Unavailable
from pipeline.event import Record, StoredRecord
from pipeline.redactor.clean import Redacts, clean
from pipeline.streams.sink import NotWritten, Sink
from telemetry.metrics import CONSUMER_EVENTS, REDACTED_FIELDS, Metrics

STAGE = "redactor"
WRITE_SECONDS_MAX = 15.0
WRITE_TRIES_MAX = 3


class RedactorWorker:
    """A `Processor`. `pool` keeps the work of the processor off the thread that keeps the leases."""

    def __init__(self, redactor: Redacts, sink: Sink, letters: DeadLetters, metrics: Metrics, pool: ThreadPoolExecutor) -> None:
        self._redactor = redactor
        self._sink = sink
        self._letters = letters
        self._metrics = metrics
        self._pool = pool
        self._delivered = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="delivered")
        self._dead = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="dead_letter")

    async def process(self, records: Sequence[StoredRecord]) -> None:
        clean_records, letters, changed = await asyncio.get_running_loop().run_in_executor(self._pool, self._redacted, records)
        await self._write(clean_records)
        await self._letters.write(letters)
        self._delivered.inc(sum(record.events for record in clean_records))
        self._dead.inc(len(letters))
        for action, count in changed.items():
            self._metrics.counter(REDACTED_FIELDS, action=action).inc(count)

    def _redacted(self, records: Sequence[StoredRecord]) -> tuple[list[Record], list[Letter], dict[str, int]]:
        out, letters, changed = list[Record](), list[Letter](), dict[str, int]()
        for record in records:
            try:
                batch = open_batch(record)
            except Corrupt as exc:
                letters.append(Letter(STAGE, CORRUPT, str(exc), record))
                continue
            cleaned = clean(self._redactor, batch)
            out += cleaned.records
            letters += [event_letter(STAGE, exc.reason, str(exc), record, batch, index) for index, exc in cleaned.refused]
            for action, count in cleaned.changed.items():
                changed[action] = changed.get(action, 0) + count
        return out, letters, changed

    async def _write(self, records: Sequence[Record]) -> None:
        """Raises: Throttled, Unavailable: not all of them are confirmed."""
        missing: Sequence[Record] = records
        failed: list[NotWritten] = []
        for _ in range(WRITE_TRIES_MAX):
            if not missing:
                return
            outcomes = await self._sink.write(missing, deadline_seconds=WRITE_SECONDS_MAX)
            if len(outcomes) != len(missing):
                raise Unavailable(f"{len(outcomes)} outcomes for {len(missing)} records: none is confirmed")
            failed = [outcome for outcome in outcomes if isinstance(outcome, NotWritten)]
            missing = [record for record, outcome in zip(missing, outcomes, strict=True) if isinstance(outcome, NotWritten)]
        if missing:
            wait_seconds = max(outcome.retry_after_seconds for outcome in failed)
            kind = Throttled if all(outcome.throttled for outcome in failed) else Unavailable
            message = f"{len(missing)} of {len(records)} clean records are not confirmed: {failed[0].reason}"
            raise kind(message, retry_after_seconds=wait_seconds)
