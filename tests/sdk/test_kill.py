"""Real processes, killed with SIGKILL while no collector is up: all that `send` returned from is sent once it is."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.collector import API_KEY, SmallCollector, serving

ROOT = Path(__file__).resolve().parents[2]
# How long there is no collector. `SPILLWAY_TEST_DOWN_SECONDS=60` is the long form.
DOWN_SECONDS = float(os.environ.get("SPILLWAY_TEST_DOWN_SECONDS", "2"))

PROGRAM = """
import sys, time
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client

target, key, spool, seconds, pause = *sys.argv[1:4], float(sys.argv[4]), float(sys.argv[5])
client = Client(target, key, spool=spool)
end = time.monotonic() + seconds
while time.monotonic() < end:
    print(client.send(PageViewed(page_url="https://example.com/"), subject="user-1").id, flush=True)
    time.sleep(pause)
print("flush", flush=True)
client.flush(60.0)
client.close()
print("done", flush=True)
"""


def program(target: str, spool: Path, seconds: float, pause_seconds: float = 0.001) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", PROGRAM, target, API_KEY, str(spool), str(seconds), str(pause_seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def promised_until_killed(process: "subprocess.Popen[str]", count: int) -> list[str]:
    """The ids that `send` returned, up to a SIGKILL after `count` of them."""
    assert process.stdout is not None
    ids = [process.stdout.readline().strip() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    # A line that the kill cut in two was not promised whole, but its event may well be in the spool.
    ids += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait(10)
    return ids


@pytest.mark.parametrize("down_seconds", [DOWN_SECONDS])
@pytest.mark.timeout(max(120.0, DOWN_SECONDS * 3))
def test_the_collector_is_down_and_the_process_is_killed_twice_in_between(tmp_path: Path, down_seconds: float) -> None:
    """TRAPS 3, 6: none lost, ids unchanged."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    pause_seconds = max(0.001, down_seconds / 6_000)
    count = int(down_seconds / 4 / pause_seconds)
    promised: list[str] = []
    for _ in range(2):
        promised += promised_until_killed(program(f"127.0.0.1:{port}", tmp_path, 600.0, pause_seconds), count)
    assert all(len(id) == 36 for id in promised)
    last = program(f"127.0.0.1:{port}", tmp_path, down_seconds / 2, pause_seconds)
    assert last.stdout is not None
    promised += iter(lambda: last.stdout.readline().strip(), "flush")  # type: ignore[union-attr]
    with serving(SmallCollector(), port) as collector:
        rest, _ = last.communicate(timeout=60)
    assert ("done\n", 0) == (rest, last.returncode)
    assert [] == sorted(set(promised) - set(collector.ids)), "promised, and lost"
    # At most the one that each kill cut off between the disk and the line on standard output.
    assert len(set(collector.ids) - set(promised)) <= 2
    assert [] == [path.name for path in tmp_path.iterdir() if path.name != "lock"]


def test_a_killed_process_amid_deliveries_loses_nothing_and_doubles_no_id(tmp_path: Path) -> None:
    """TRAPS 3: what the collector saw twice carries one id, so that every exit keeps one."""
    with serving(SmallCollector()) as collector:
        promised = promised_until_killed(program(collector.target, tmp_path, 600.0), 500)
        last = program(collector.target, tmp_path, 0.0)
        out, _ = last.communicate(timeout=60)
    assert "flush\ndone\n" == out
    assert set(promised) <= set(collector.ids)
    assert len(set(collector.ids)) - len(promised) <= 1
