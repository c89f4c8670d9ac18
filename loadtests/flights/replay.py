"""Flights into both doors at once: half through the SDK to the gRPC door, half as CloudEvents JSON to the HTTP door.

Each door is driven by a thread of its own. What was acknowledged is known afterwards by id; nothing that the pipeline says
of itself is believed.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from canary.books import Books
from loadtests import http_sender
from loadtests.flights.events import SOURCE, FlightEvent
from pipeline.errors import DeadlineExceeded, InvalidEvent
from pipeline.sdk.client import Client, ClientOptions, Delivery
from pipeline.sdk.telemetry import Reports

# An answer that takes longer is no answer: the events stay unacknowledged in the books.
DEADLINE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Doors:
    grpc: str
    http: str
    key: str


def replay(
    events: Iterable[tuple[str, FlightEvent]],
    doors: Doors,
    *,
    events_per_second: float | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
    telemetry: Reports | None = None,
    on_progress: Callable[[Books], None] = lambda _: None,
) -> Books:
    """Send every (door, event) pair and wait for the answers. `events_per_second` is over both doors together; None: as they
    take it. `telemetry` is that of the SDK; None: what the environment says.

    `on_progress` is called about ten times a second, in the caller's thread.

    Raises:
        Exception: whatever ended a door's thread before its work was done.
    """
    books, halves = Books(), {"grpc": list[FlightEvent](), "http": list[FlightEvent]()}
    for door, event in events:
        halves[door].append(event)
    total = len(halves["grpc"]) + len(halves["http"])
    rates = {door: None if events_per_second is None else events_per_second * len(half) / total for door, half in halves.items()}
    failures: list[BaseException] = []
    jobs = [
        partial(_by_sdk, halves["grpc"], doors, books, rates["grpc"], deadline_seconds, telemetry),
        partial(_by_http, halves["http"], doors, books, rates["http"], deadline_seconds),
    ]
    threads = [threading.Thread(target=_noting_failures, args=(job, failures), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.05)
        threads[1].join(0.05)
        on_progress(books)
    if failures:
        raise failures[0]
    return books


def _noting_failures(job: Callable[[], None], failures: list[BaseException]) -> None:
    try:
        job()
    except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
        failures.append(exc)


def _by_sdk(
    events: list[FlightEvent],
    doors: Doors,
    books: Books,
    rate: float | None,
    deadline_seconds: float,
    telemetry: Reports | None,
) -> None:
    start = time.monotonic()
    sent: list[Delivery] = []
    client = Client(
        doors.grpc,
        doors.key,
        source=SOURCE,
        on_rejected=lambda *_: None,
        options=ClientOptions(block_seconds_max=deadline_seconds),
        telemetry=telemetry,
    )
    settled = 0
    try:
        for number, event in enumerate(events):
            if rate is not None:
                time.sleep(max(0.0, start + number / rate - time.monotonic()))
            books.attempt([event.id])
            sent.append(client.send(event.message(), subject=event.subject, id=event.id, time=event.time))
            while settled < len(sent) and sent[settled].done():
                _book(sent[settled], books)
                settled += 1
        for delivery in sent[settled:]:
            delivery.wait(max(0.0, start + deadline_seconds - time.monotonic()))
            _book(delivery, books)
    finally:
        with contextlib.suppress(DeadlineExceeded):  # what it gave up on is in the books as not acknowledged
            client.close(0.0)


def _book(delivery: Delivery, books: Books) -> None:
    if isinstance(delivery.error, InvalidEvent):
        books.refuse(delivery.id, delivery.error.reason)
    elif delivery.done() and delivery.error is None:
        books.acknowledge([delivery.id])


def _by_http(events: list[FlightEvent], doors: Doors, books: Books, rate: float | None, deadline_seconds: float) -> None:
    asyncio.run(
        http_sender.send(
            f"{doors.http}/v1/events",
            doors.key,
            (event.structured() for event in events),
            books,
            deadline_seconds=deadline_seconds,
            events_per_second=rate,
        )
    )
