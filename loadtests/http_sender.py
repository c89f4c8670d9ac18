"""CloudEvents to the HTTP door, as a careful client sends them: same ids on every attempt, until each event has its answer.

Only events that the door answered with "retry", or whose request failed as a whole, are sent again, after full jitter or the
door's own Retry-After; a deadline ends it.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import aiohttp
import orjson

from canary.books import Books

BATCH_EVENTS = 200
REQUESTS_IN_FLIGHT_MAX = 4
REQUEST_SECONDS_MAX = 20.0
BACKOFF_SECONDS_MAX = 2.0

Event = dict[str, Any]


async def send(
    url: str,
    key: str,
    events: Iterable[Event],
    books: Books,
    *,
    deadline_seconds: float,
    events_per_second: float | None = None,
    rng: random.Random | None = None,
    on_answers: Callable[[int], None] = lambda _: None,
) -> None:
    """Send all events in batches. What has no answer by the deadline stays unacknowledged in the books; nothing is raised for it.

    `events_per_second` spaces the batches by a fixed schedule (an open model: a slow answer does not slow the senders down,
    until all of `REQUESTS_IN_FLIGHT_MAX` requests wait).
    """
    rng = rng or random.Random()
    loop = asyncio.get_running_loop()
    start, sent = loop.time(), 0
    gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/cloudevents-batch+json"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)) as session:

        async def one(batch: Sequence[Event]) -> None:
            try:
                await _until_answered(session, url, batch, books, start + deadline_seconds, rng)
                on_answers(len(batch))
            finally:
                gate.release()

        async with asyncio.TaskGroup() as tasks:
            for batch in _batches(events):
                if events_per_second is not None:
                    await asyncio.sleep(max(0.0, start + sent / events_per_second - loop.time()))
                await gate.acquire()
                books.attempt(event["id"] for event in batch)
                sent += len(batch)
                tasks.create_task(one(batch))


def _batches(events: Iterable[Event]) -> Iterable[list[Event]]:
    batch: list[Event] = []
    for event in events:
        batch.append(event)
        if len(batch) == BATCH_EVENTS:
            yield batch
            batch = []
    if batch:
        yield batch


async def _until_answered(
    session: aiohttp.ClientSession, url: str, batch: Sequence[Event], books: Books, deadline: float, rng: random.Random
) -> None:
    loop, waiting, attempt = asyncio.get_running_loop(), list(batch), 0
    while waiting and loop.time() < deadline:
        waiting, hint_seconds = await _attempt(session, url, waiting, books)
        if waiting:
            attempt += 1
            backoff_seconds = rng.uniform(0.0, min(BACKOFF_SECONDS_MAX, 0.1 * 2.0**attempt))
            await asyncio.sleep(min(hint_seconds + backoff_seconds, max(0.0, deadline - loop.time())))


async def _attempt(session: aiohttp.ClientSession, url: str, batch: Sequence[Event], books: Books) -> tuple[list[Event], float]:
    """One request: what is still without an answer, and how long the door asks to wait."""
    try:
        async with session.post(url, data=orjson.dumps(batch)) as response:
            body = await response.read()
            if response.status != 207:
                if response.status < 500 and response.status != 429:
                    for event in batch:
                        books.refuse(event["id"], str(response.status))
                    return [], 0.0
                return list(batch), float(response.headers.get("Retry-After", "0") or 0)
    except (aiohttp.ClientError, TimeoutError):
        return list(batch), 0.0
    return _read_answers(orjson.loads(body), batch, books), 0.0


def _read_answers(body: dict[str, Any], batch: Sequence[Event], books: Books) -> list[Event]:
    """Book what was answered for good; what is left has to be sent again. Another number of answers than events: all of it."""
    answers = body["events"]
    if len(answers) != len(batch):
        return list(batch)
    books.acknowledge(event["id"] for event, answer in zip(batch, answers, strict=True) if answer["status"] == "accepted")
    for event, answer in zip(batch, answers, strict=True):
        if answer["status"] == "rejected":
            books.refuse(event["id"], answer["reason"])
    return [event for event, answer in zip(batch, answers, strict=True) if answer["status"] == "retry"]
