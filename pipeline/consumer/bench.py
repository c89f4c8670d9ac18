"""`python -m pipeline.consumer.bench`: CPU seconds per million events of the workers, beside what merely opening records costs.

Each row puts the same flight events, in records of so many events, through one processor with everything around it in memory: a
publisher that accepts, a sink that confirms. "open" is the floor, in the same run: the frame's checks and the parse of the batch.
The ratio to it holds where absolute figures do not. The reader around a processor costs per delivery, not per event, and is not
in these rows.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click

from pipeline import frame
from pipeline.consumer.batches import open_batch
from pipeline.dead_letters.writer import MemoryDeadLetters
from pipeline.event import StoredRecord, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.flight_pb2 import FlightDeparted
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redactor
from pipeline.redactor.worker import RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf
from pipeline.streams.sink import MemorySink
from pipeline.transcoder.transcode import transcode_event
from pipeline.transcoder.worker import Transcoder
from telemetry.metrics import Metrics

SIZES = (1, 10, 100, 500)
EVENTS = 10_000
Process = Callable[[Sequence[StoredRecord]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    part: str
    events_a_record: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def cpu_seconds_a_million(self) -> float:
        return self.cpu_seconds * 1_000_000 / EVENTS


def measure() -> Iterator[Row]:
    registry = Registry.load()
    with ThreadPoolExecutor(8) as pool:
        letters, metrics = MemoryDeadLetters(), Metrics()
        transcoder = Transcoder(registry, _accept, letters, metrics, pool)
        for size in SIZES:
            web = _records([_json_event(number) for number in range(EVENTS)], size)
            typed = _records([transcode_event(registry, _json_event(number)) for number in range(EVENTS)], size)
            redactor = RedactorWorker(Redactor(registry, MemoryKeys()), MemorySink(), letters, metrics, pool)
            yield _row("open", size, web, _open)
            yield _row("transcoder", size, web, transcoder.process)
            yield _row("redactor", size, typed, redactor.process)
        if letters.letters:
            raise click.ClickException("the bench's own events became dead letters: these figures are void")


def _row(part: str, size: int, records: Sequence[StoredRecord], process: Process) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(_deliver(records, process))
    return Row(part, size, time.perf_counter() - wall, time.process_time() - cpu)


async def _deliver(records: Sequence[StoredRecord], process: Process) -> None:
    """In deliveries of about a thousand events, as a busy subscription brings them."""
    step = max(1, 1000 * len(records) // EVENTS)
    for start in range(0, len(records), step):
        await process(records[start : start + step])


async def _open(records: Sequence[StoredRecord]) -> None:
    for record in records:
        open_batch(record)


def _accept(events: Sequence[CloudEvent], on_behalf: OnBehalf) -> list[Answer]:
    return [Accepted()] * len(events)


def _records(events: Sequence[CloudEvent], size: int) -> list[StoredRecord]:
    records: list[StoredRecord] = []
    for start in range(0, len(events), size):
        batch = stored_batch(
            events[start : start + size],
            tenant="bench",
            accepted_at_unix_micros=start,
            door="http",
            worker="bench",
            slice=(start // size) % 16,
            slices=16,
        )
        records.append(
            StoredRecord("web-events", "shardId-000000000000", str(start + 1), frame.encode(batch.SerializeToString()), 0)
        )
    return records


def _json_event(number: int) -> CloudEvent:
    data = json.dumps(
        {
            "carrier": "UA",
            "flight": 1 + number % 9000,
            "tail_number": f"N{number % 9999}",
            "origin": "EWR",
            "destination": "IAH",
            "departed_at": "2013-01-01T10:17:00Z",
            "delay_minutes": number % 90,
        }
    )
    event = CloudEvent(
        id=f"f{number}", source="/bench", spec_version="1.0", type=FlightDeparted.DESCRIPTOR.full_name, text_data=data
    )
    event.attributes["datacontenttype"].ce_string = "application/json"
    event.attributes["subject"].ce_string = f"N{number % 9999}"
    event.attributes["time"].ce_timestamp.seconds = 1_357_000_000 + number
    return event


@click.command()
def main() -> None:
    """Print one row per worker and record size."""
    click.echo(f"{'part':<12}{'events/record':>14}{'CPU s/M events':>16}{'x open':>8}{'events/s wall':>15}")
    floor = 0.0
    for row in measure():
        floor = row.cpu_seconds if row.part == "open" else floor
        ratio = row.cpu_seconds / max(floor, 1e-9)
        rate = EVENTS / row.wall_seconds
        click.echo(f"{row.part:<12}{row.events_a_record:>14}{row.cpu_seconds_a_million:>16.1f}{ratio:>8.1f}{rate:>15,.0f}")


if __name__ == "__main__":
    main()
