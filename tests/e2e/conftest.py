"""One whole stack of real processes for all end-to-end tests: doors, emulators, PostgreSQL, Redis, Spark.

It has a state folder and ports of its own and ends with the test process, however that ends. Each test sends as a tenant of
its own, so that no test sees another's events.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from loadtests.flights.events import FlightEvent
from loadtests.flights.proof import ExitResult, Target, Watcher, exits_of, judge
from loadtests.flights.replay import Books, Doors
from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.dead_letters.letters import PREFIX
from pipeline.doors.keys import add_key
from pipeline.stack.launch import Stack
from pipeline.stack.plan import StackSettings

DELIVERY_SECONDS_MAX = 150.0
POLL_SECONDS = 0.5
SAID_LINES = 8
# A verdict within a few seconds of the end of a window. What is late for these is lost for a moment, and OK when it comes.
QUICK_LEDGER = {
    "SPILLWAY_LEDGER_ROUND_SECONDS": "1",
    "SPILLWAY_LEDGER_DEADLINE_SECONDS": "3",
    "SPILLWAY_LEDGER_PATIENCE_SECONDS": "3",
    "SPILLWAY_LEDGER_BACKUP_DUE_SECONDS": "15",
    "SPILLWAY_LEDGER_AGAIN_SECONDS": "4",
}


@dataclass(frozen=True)
class Pipeline:
    """The running stack, as one tenant sees it."""

    stack: Stack
    env: dict[str, str]
    tenant: str
    key: str

    @property
    def doors(self) -> Doors:
        return Doors(self.env["SPILLWAY_COLLECTOR"], self.stack.endpoints["http"], self.key)

    @property
    def target(self) -> Target:
        return Target(self.env, self.doors, self.tenant)

    def results(self, events: Sequence[FlightEvent], books: Books) -> dict[str, ExitResult]:
        """Wait until every exit holds every acknowledged event, or the time is up, and judge each exit."""
        watchers = [Watcher(exit) for exit in exits_of(self.target, list(events))]
        deadline = time.monotonic() + DELIVERY_SECONDS_MAX
        while time.monotonic() < deadline:
            for watcher in watchers:
                watcher.look()
            if not any(watcher.missing(books.acknowledged) for watcher in watchers):
                break
            time.sleep(POLL_SECONDS)
        return {watcher.exit.name: judge(watcher, books) for watcher in watchers}


def wait_until(true: Callable[[], bool], what: str | Callable[[], str], seconds_max: float = DELIVERY_SECONDS_MAX) -> None:
    """Poll a live system with a deadline; says what did not come true."""
    deadline = time.monotonic() + seconds_max
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_SECONDS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure that can't be repeated at will has to explain itself: how the stack was, and what its processes complained of."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack") or getattr(getattr(item, "funcargs", {}).get("pipeline"), "stack", None)
    if report.failed and stack is not None:
        report.sections.append(("the stack", "\n".join(_state_of(stack))))
    return report


def _state_of(stack: Stack) -> Iterator[str]:
    for process in stack.processes():
        yield f"{process.name}: {process.state}, {process.restarts} restarts, last exit {process.last_exit or '-'}"
        complaints = [
            line for line in stack.logs(process.name) if '"warning"' in line or '"error"' in line or "Traceback" in line
        ]
        yield from (f"    {line[:500]}" for line in complaints[-SAID_LINES:])
    try:
        objects = S3Objects(boto3.client("s3", endpoint_url=stack.env()["AWS_ENDPOINT_URL"]), load(Settings, stack.env()).bucket)
        letters = Counter("/".join(stored.key.split("/")[1:3]) for stored in objects.list(PREFIX))
        yield f"dead letters: {dict(letters) or 'none'}"
    except Exception as exc:  # noqa: BLE001 - the test's own failure matters more
        yield f"dead letters could not be listed: {exc}"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    settings = StackSettings(firehose_buffer_seconds=2, scrape_seconds=2, trace_judge_seconds=90.0)
    with Stack.start(folder, free_ports=True, settings=settings, env=QUICK_LEDGER) as running:
        kept = dict(os.environ)
        os.environ.update(running.env())
        try:
            yield running
        finally:
            os.environ.clear()
            os.environ.update(kept)


@pytest.fixture
def pipeline(stack: Stack, request: pytest.FixtureRequest) -> Pipeline:
    """The stack with a tenant and key of this test alone; every process is ready before it begins."""
    stack.wait_all_ready(120.0)
    tenant = f"t-{abs(hash(request.node.nodeid)) % 10**8}"
    return Pipeline(stack, stack.env(), tenant, add_key(stack.folder.keys, tenant, "producer"))
