"""The collector is away, and the producer is killed meanwhile: what the SDK took is delivered once it is back, with its ids."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import Pipeline, wait_until
from tests.e2e.evidence import Evidence, let_in
from tests.e2e.producer import PAGE

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

OUTAGE_SECONDS_MAX = 60.0
PER_SECOND = 40.0
SOURCE = "/tests/outage"
DOOR_SECONDS_MAX = 60.0
# After the door is back.
SENT_SECONDS_MAX = 90.0


# A minute is the promise; the short one is for every day.
@pytest.mark.slow
@pytest.mark.parametrize("outage_seconds", [8.0, OUTAGE_SECONDS_MAX])
def test_what_the_sdk_took_while_the_collector_was_away_is_all_delivered_though_it_was_killed_meanwhile(
    pipeline: Pipeline, tmp_path: Path, outage_seconds: float
) -> None:
    """TRAPS 3: the ids are those that `send` returned before the kill."""
    stack, journal = let_in(pipeline).stack, tmp_path / "journal"
    half = int(outage_seconds * PER_SECOND / 2)
    stack.hold("grpc")
    try:
        stack.wait_until("grpc", lambda process: process.state == "held", DOOR_SECONDS_MAX, "held")
        began = time.monotonic()
        # The first would go on for longer than the outage: it does not end by itself.
        first = _producer(pipeline, tmp_path, first=0, count=10 * half)
        try:
            _wait_for_lines(first, journal, half)
            os.kill(first.pid, signal.SIGKILL)
            assert -signal.SIGKILL == first.wait(10)
        finally:
            _end(first)
        before_the_kill = _lines(journal)
        assert half <= len(before_the_kill) < 10 * half
        second = _producer(pipeline, tmp_path, first=10 * half, count=half)
        try:
            _wait_for_lines(second, journal, len(before_the_kill) + half)
            rest_seconds = began + outage_seconds - time.monotonic()
            wait_until(lambda: time.monotonic() >= began + outage_seconds, "the outage is over", rest_seconds + 5.0)
            assert "held" == stack.process("grpc").state
            assert (Counter(), None) == (Evidence(pipeline).rds(), second.poll())
            stack.release("grpc")
            stack.wait_ready("grpc", DOOR_SECONDS_MAX)
            assert 0 == second.wait(SENT_SECONDS_MAX), (tmp_path / "log").read_text()
        finally:
            _end(second)
    finally:
        stack.release("grpc")
        stack.wait_ready("grpc", DOOR_SECONDS_MAX)

    promised = _lines(journal)
    assert (len(before_the_kill) + half, before_the_kill) == (len(promised), promised[: len(before_the_kill)])
    evidence = Evidence(pipeline)
    ids = {(SOURCE, id) for id, _ in promised}

    def missing() -> str:
        letters = [(letter.reason, letter.identities) for letter in evidence.letters()]
        return f"all is delivered: not in rds {ids - set(evidence.rds())}, in the lake {ids - set(evidence.lake())}; {letters}"

    wait_until(lambda: ids <= set(evidence.rds()) and ids <= set(evidence.lake()), missing)
    for exit, content in (("rds", _rds(pipeline)), ("lake", _lake(evidence))):
        assert Counter() == Counter(promised) - content, f"{exit}: lost, or under another id"
        assert {} == {one: count for one, count in content.items() if count > 1}, f"{exit}: doubled"
        # Spooled, and killed before the journal had its line: taken, if not promised.
        assert (content - Counter(promised)).total() <= 1, exit
    assert [] == evidence.letters()
    print(f"outage {time.monotonic() - began:.0f} s in all, {len(before_the_kill)} before the kill, {half} after it")


def _producer(pipeline: Pipeline, folder: Path, *, first: int, count: int) -> "subprocess.Popen[bytes]":
    words = {
        "target": pipeline.doors.grpc,
        "key": pipeline.key,
        "source": SOURCE,
        "spool": folder / "spool",
        "journal": folder / "journal",
        "first": first,
        "count": count,
        "per-second": PER_SECOND,
        "close-seconds": OUTAGE_SECONDS_MAX + SENT_SECONDS_MAX,
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", "tests.e2e.producer", *options], stdout=log, stderr=log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait(10)


def _lines(journal: Path) -> list[tuple[str, str]]:
    """(id, number of the page), in the order of sending."""
    if not journal.exists():
        return []
    words = [line.split(" ") for line in journal.read_text().splitlines()]
    return [(id, number) for id, number in words]


def _wait_for_lines(process: "subprocess.Popen[bytes]", journal: Path, count: int) -> None:
    def there() -> bool:
        assert process.poll() is None, f"the producer ended: {process.returncode}"
        return len(_lines(journal)) >= count

    wait_until(there, f"{count} lines in the journal", OUTAGE_SECONDS_MAX + 60.0)


def _rds(pipeline: Pipeline) -> Counter[tuple[str, str]]:
    with psycopg.connect(pipeline.env["SPILLWAY_RDS_URL"], connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT event_id, data->>'page_url' FROM event_history WHERE tenant = %s AND source = %s", (pipeline.tenant, SOURCE)
        )
        return Counter((id, url.removeprefix(PAGE)) for id, url in rows)


def _lake(evidence: Evidence) -> Counter[tuple[str, str]]:
    rows = [row for row in evidence.lake_rows() if row["source"] == SOURCE]
    return Counter((row["event_id"], row["spillway_events_v1_page_viewed"]["page_url"].removeprefix(PAGE)) for row in rows)
