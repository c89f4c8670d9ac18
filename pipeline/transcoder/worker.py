"""The transcoder's processor: what a delivery of `web-events` becomes.

    open the frames ─► transcode ─► publish at the gRPC door, on the tenant's behalf ─► refusals to the dead letters

Rules. A lane (one tenant, one slice) is published in order, lanes side by side; so events of one subject keep their order unless
something is retried. `process` returns when each event is acknowledged by the door or kept as a dead letter, and not before;
what the door does not answer in time is an outage and raises, so that the shard stops and skips nothing (TRAPS 13).
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline import frame
from pipeline.consumer.batches import first_failure, open_payload
from pipeline.consumer.hop import DeliveryTelemetry, HopTelemetry
from pipeline.dead_letters.letters import CORRUPT, Letter, event_letter
from pipeline.dead_letters.writer import DeadLetters
from pipeline.errors import Corrupt, Unavailable
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger import tiers
from pipeline.ledger.tally import Seen, Tally
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected
from pipeline.transcoder.transcode import Types, transcode
from telemetry.metrics import CONSUMER_EVENTS, Metrics
from telemetry.tracing import Tracer

STAGE = "transcoder"
LANES_AT_ONCE_MAX = 8

# Blocks until every event has its answer, in order; raises Retryable if it can't have it in time.
Publish = Callable[[Sequence[CloudEvent], OnBehalf], list[Answer]]
Opened = tuple[StoredRecord, StoredBatch]


class Transcoder:
    """A `Processor`. `pool` is its own: publishing must not keep the leases' threads waiting."""

    def __init__(
        self,
        types: Types,
        publish: Publish,
        letters: DeadLetters,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
        tracer: Tracer | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`tracer` None: nothing is traced; `tally` None: no ledger is kept."""
        self._tally = tally
        self._types = types
        self._publish = publish
        self._letters = letters
        self._pool = pool
        self._delivered = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="delivered")
        self._dead = metrics.counter(CONSUMER_EVENTS, part=STAGE, outcome="dead_letter")
        self._hop = HopTelemetry(STAGE, metrics, tracer or Tracer.off())

    async def process(self, records: Sequence[StoredRecord]) -> None:
        with self._hop.delivery(records) as delivery:
            await self._deliver(records, delivery)

    async def _deliver(self, records: Sequence[StoredRecord], delivery: DeliveryTelemetry) -> None:
        lanes: dict[tuple[str, int], list[Opened]] = defaultdict(list)
        letters: list[Letter] = []
        read: list[Seen] = []
        for record in records:
            try:
                payload = frame.decode(record.data)
                batch = open_payload(payload)
            except Corrupt as exc:
                letters.append(Letter(STAGE, CORRUPT, str(exc), record))
            else:
                lanes[batch.tenant, batch.slice].append((record, batch))
                read.append(Seen.of(batch, payload))
        loop = asyncio.get_running_loop()
        work = [loop.run_in_executor(self._pool, self._lane, lane, delivery) for lane in lanes.values()]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        failure = first_failure(outcomes)
        if failure is not None:
            raise failure
        delivered = 0
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException)
            delivered += outcome[0]
            letters.extend(outcome[1])
        await self._letters.write(letters)
        delivery.dead(letters)
        if self._tally is not None:
            self._tally.note_seen(tiers.TRANSCODER_READ, read)
        self._delivered.inc(delivered)
        self._dead.inc(len(letters))

    def _lane(self, lane: Sequence[Opened], delivery: DeliveryTelemetry) -> tuple[int, list[Letter]]:
        """Publish one lane in order: how many events were acknowledged, and letters for all others."""
        delivered, letters = 0, list[Letter]()
        for record, batch in lane:
            kept = delivery.opened(record, batch)
            done = transcode(self._types, batch)
            letters += [event_letter(STAGE, exc.reason, str(exc), record, batch, index) for index, exc in done.refused]
            if not done.events:
                continue
            on_behalf = OnBehalf(batch.tenant, batch.accepted_at_unix_micros, batch.door)
            answers = self._publish([event for _, event in done.events], on_behalf)
            if kept:
                delivery.settled(kept, time.time_ns())
            for (index, _), answer in zip(done.events, answers, strict=True):
                match answer:
                    case Accepted(durable=True):
                        delivered += 1
                    case Rejected(reason, message):
                        letters.append(event_letter(STAGE, reason, message, record, batch, index))
                    case _:
                        raise Unavailable("the door did not acknowledge an event as stored")
        return delivered, letters
