"""Marks: events that say "everything before me has been seen".

Readers take a shard in order. Marks are sent through both doors after everything else, one for each slice of the hash space,
hence for each shard; when an exit holds them all, it has dealt with all that was sent before them. Only then is "no duplicate"
a finding and not just an early look.
"""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from itertools import count

from canary.books import Books
from canary.exits import Exit
from loadtests import http_sender
from loadtests.flights.replay import Doors
from pipeline.errors import DeadlineExceeded
from pipeline.event import slice_of
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.sdk.client import Client

SOURCE = "/spillway/marks"
POLL_SECONDS = 0.5


def send(doors: Doors, slices: int, *, deadline_seconds: float) -> frozenset[str]:
    """Send a mark for each slice through each door and return their ids.

    Raises:
        DeadlineExceeded: a door did not acknowledge them in time.
    """
    subjects = _a_subject_for_each_slice(slices)
    books = Books()
    with Client(doors.grpc, doors.key, source=SOURCE) as client:
        for delivery in [client.send(ProfileChanged(city="Mark"), subject=subject) for subject in subjects]:
            delivery.result(deadline_seconds)
            books.acknowledge([delivery.id])
    events = [_structured(subject) for subject in subjects]
    asyncio.run(http_sender.send(f"{doors.http}/v1/events", doors.key, events, books, deadline_seconds=deadline_seconds))
    if len(books.acknowledged) != 2 * slices:
        raise DeadlineExceeded(
            f"{2 * slices - len(books.acknowledged)} marks were not acknowledged: {books.refused or 'no answer'}"
        )
    return frozenset(books.acknowledged)


def wait(ids: frozenset[str], exit: Exit, *, deadline_seconds: float) -> None:
    """Until the exit holds them all.

    Raises:
        DeadlineExceeded: it does not.
    """
    deadline = time.monotonic() + deadline_seconds
    while missing := ids - set(exit.observed()):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{len(missing)} of {len(ids)} marks are not at {exit.name} after {deadline_seconds} s")
        time.sleep(POLL_SECONDS)


def _a_subject_for_each_slice(slices: int) -> list[str]:
    found: dict[int, str] = {}
    for number in count():
        subject = f"mark-{number}"
        found.setdefault(slice_of(subject, slices), subject)
        if len(found) == slices:
            return list(found.values())
    raise AssertionError("unreachable")


def _structured(subject: str) -> http_sender.Event:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": SOURCE,
        "type": ProfileChanged.DESCRIPTOR.full_name,
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "data": {"city": "Mark"},
    }
