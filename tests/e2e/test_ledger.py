"""The ledger over a whole live stack: what is well is OK, and what is taken away behind the pipeline's back is named."""

import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from click.testing import CliRunner

from canary.ledger.command import ledger
from canary.ledger.judge import Class
from canary.ledger.verdicts import Judged, Verdicts
from loadtests.flights.dataset import month
from loadtests.flights.events import by_door
from loadtests.flights.replay import Doors, replay
from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.doors.keys import add_key
from pipeline.ledger.identity import Name
from pipeline.stack.launch import Stack
from pipeline.stack.plan import StackSettings
from tests.e2e.conftest import Pipeline, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

VERDICT_SECONDS_MAX = 150.0
WRONG = (Class.LOST, Class.DOUBLED, Class.PHANTOM, Class.CORRUPT)
# Of the stack that is shared nobody waits for a verdict; these tests do, and want the patience of a real one.
SLOW_LEDGER = {
    "SPILLWAY_LEDGER_DEADLINE_SECONDS": "30",
    "SPILLWAY_LEDGER_PATIENCE_SECONDS": "90",
    "SPILLWAY_LEDGER_BACKUP_DUE_SECONDS": "60",
    "SPILLWAY_LEDGER_AGAIN_SECONDS": "10",
}


def rows_of(tenant: str, began: float) -> list[Judged]:
    """What the ledger wrote down of this tenant's windows."""
    return [row for row in every_row(began) if row.window.tenant == tenant]


def every_row(began: float) -> list[Judged]:
    verdicts = Verdicts(S3Objects(boto3.client("s3"), load(Settings).bucket))
    assert [] == verdicts.load(began - 60, time.time())
    return list(verdicts.rows.values())


def judged(tenant: str, began: float) -> Counter[str]:
    """Acknowledged events by the verdict of their window."""
    counts: Counter[str] = Counter()
    for row in rows_of(tenant, began):
        counts[row.kind.value] += row.events
    return counts


def taken_out_of_rds(tenant: str) -> tuple[str, str]:
    """Remove one event that was accepted at the gRPC door; its id, and its source.

    The newest: of a window that the ledger has closed nothing is looked at again. Of these the one with the longest name.
    """
    query = """DELETE FROM event_history WHERE event_key =
        (SELECT event_key FROM event_history WHERE tenant = %s AND door = 'grpc'
         ORDER BY date_trunc('second', accepted_at) DESC, length(event_id || source) DESC LIMIT 1) RETURNING event_id, source"""
    with psycopg.connect(os.environ["SPILLWAY_RDS_URL"], autocommit=True) as link:
        ((id, source),) = link.execute(query, (tenant,)).fetchall()
    return id, source


def is_name_of(name: Name, id: str, source: str) -> bool:
    """A digest has room for the beginning of a name; what it says of it is right, and says where it is cut."""
    return (name.id, name.source if name.source_is_whole else (name.source or "") + source[len(name.source or "") :]) == (
        id,
        source,
    )


def in_rds(tenant: str) -> int:
    with psycopg.connect(os.environ["SPILLWAY_RDS_URL"]) as link:
        return int(link.execute("SELECT count(*) FROM event_history WHERE tenant = %s", (tenant,)).fetchall()[0][0])


@pytest.mark.slow
def test_windows_are_ok_and_an_event_that_is_gone_from_rds_is_named_with_its_payload(pipeline: Pipeline) -> None:
    began = time.time()
    pairs = list(by_door(list(itertools.islice(month(), 9_000, 9_040))))
    books = replay(pairs, pipeline.doors)
    sent = len(books.acknowledged)
    wait_until(lambda: in_rds(pipeline.tenant) == sent, "all of it in RDS")
    id, source = taken_out_of_rds(pipeline.tenant)

    def found() -> list[Judged]:
        return [row for row in rows_of(pipeline.tenant, began) if row.kind is Class.LOST]

    wait_until(lambda: bool(found()), lambda: f"a loss: {judged(pipeline.tenant, began)}", VERDICT_SECONDS_MAX)
    wait_until(
        lambda: (
            {row.kind for row in rows_of(pipeline.tenant, began)} == {Class.OK, Class.LOST}
            and sum(judged(pipeline.tenant, began).values()) == sent
        ),
        lambda: f"verdicts on all: {judged(pipeline.tenant, began)}",
        VERDICT_SECONDS_MAX,
    )
    (row,) = found()
    assert [("LOST", "rds", True, ("rds",), "redactor:clean")] == [
        (each.kind.value, each.hop, is_name_of(each.name, id, source), each.places, each.last_seen) for each in row.findings
    ]
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began - 10))
    missing = CliRunner().invoke(ledger, ["missing", "--json", "--since", since])
    (said,) = [each for each in json.loads(missing.stdout) if each["tenant"] == pipeline.tenant]
    backup = Backup(S3Objects(boto3.client("s3"), load(Settings).bucket))
    (part,) = [
        part
        for part in backup.read(said["backup_key"])
        if getattr(part, "place", None) and part.place.offset == said["backup_offset"]
    ]
    assert (1, id) == (missing.exit_code, part.batch.events[said["backup_index"]].id)


def not_ok(began: float) -> list[Judged]:
    return [row for row in every_row(began) if row.kind is not Class.OK]


class Load:
    """Flights through both doors, until told to stop."""

    def __init__(self, stack: Stack, tenant: str) -> None:
        key = add_key(stack.folder.keys, tenant, "producer")
        self.doors = Doors(stack.env()["SPILLWAY_COLLECTOR"], stack.endpoints["http"], key)
        self.acknowledged = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for first in itertools.count(0, 100):
            if self._stop.wait(2.0):
                return
            pairs = list(by_door(list(itertools.islice(month(), first, first + 100))))
            self.acknowledged += len(replay(pairs, self.doors).acknowledged)

    def end(self) -> int:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.acknowledged


@pytest.fixture
def patient_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    settings = StackSettings(firehose_buffer_seconds=2)
    with Stack.start(tmp_path, free_ports=True, settings=settings, env=SLOW_LEDGER) as stack:
        for name, value in stack.env().items():
            monkeypatch.setenv(name, value)
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_restarts_of_the_ledger_and_a_bucket_that_is_away_for_two_minutes_raise_nothing(patient_stack: Stack) -> None:
    began, stack = time.time(), patient_stack
    load = Load(stack, "steady")
    # Of any tenant: the canary's events, too, are accounted for.
    wrong: dict[tuple[str, str], Judged] = {}

    def look() -> None:
        for row in every_row(began):
            if row.kind in WRONG:
                wrong.setdefault((str(row.window), row.kind.value), row)

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(2.0)
            try:
                look()
            except Exception:  # noqa: BLE001, S112 - the bucket is away
                continue

    wait(40.0)
    stack.kill("ledger", signal.SIGKILL)
    stack.wait_until("ledger", lambda each: each.restarts >= 1 and each.state == "ready", 60)
    wait(40.0)
    stack.kill("ministack", signal.SIGSTOP)
    try:
        time.sleep(120.0)
    finally:
        stack.kill("ministack", signal.SIGCONT)
    wait(60.0)
    acknowledged = load.end()

    def all_is_ok() -> bool:
        look()
        return judged("steady", began) == {"OK": acknowledged}

    wait_until(
        all_is_ok,
        lambda: f"{acknowledged} events in windows that are OK, not {judged('steady', began)}: {not_ok(began)}",
        240.0,
    )
    assert {} == wrong


EVENTS = 100_000
NAMED_SECONDS_MAX = 300.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_lost_in_a_hundred_thousand_is_named_within_five_minutes_of_its_deadline(patient_stack: Stack) -> None:
    began, stack, tenants = time.time(), patient_stack, ("many", "more")
    flights, acknowledged = list(month()), 0
    for tenant, some in zip(tenants, (flights, flights[: (EVENTS - 80_000) // 2]), strict=True):
        key = add_key(stack.folder.keys, tenant, "producer")
        time.sleep(2.0)
        doors = Doors(stack.env()["SPILLWAY_COLLECTOR"], stack.endpoints["http"], key)
        acknowledged += len(replay(list(by_door(some)), doors).acknowledged)
    sent_at = time.time()
    assert acknowledged >= EVENTS
    wait_until(lambda: in_rds("many") > 0, "something of it in RDS", 300.0)
    id, source = taken_out_of_rds("many")
    wait_until(lambda: sum(map(in_rds, tenants)) == acknowledged - 1, "all else in RDS", 300.0)
    deadline = sent_at + 10 + float(SLOW_LEDGER["SPILLWAY_LEDGER_DEADLINE_SECONDS"])

    def lost() -> list[tuple[str, bool]]:
        rows = [row for row in rows_of("many", began) if row.kind is Class.LOST]
        return [(each.hop, is_name_of(each.name, id, source)) for row in rows for each in row.findings]

    wait_until(
        lambda: lost() == [("rds", True)],
        lambda: f"{id} of {source} lost at RDS, not {rows_of('many', began)}",
        deadline + NAMED_SECONDS_MAX - time.time(),
    )
    wait_until(
        lambda: (
            sum((judged(tenant, began) for tenant in tenants), Counter()).total() == acknowledged
            and {row.kind for tenant in tenants for row in rows_of(tenant, began)} == {Class.OK, Class.LOST}
        ),
        lambda: f"all else is OK: {[judged(tenant, began) for tenant in tenants]}",
        240.0,
    )
