"""How a program ends: forgetting `close`, and Ctrl-C, lose nothing in silence."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.sdk.spool import Spool
from tests.sdk.collector import API_KEY, SmallCollector, serving

ROOT = Path(__file__).resolve().parents[2]
START = """
import sys
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client
PAGE = PageViewed(page_url="https://example.com/")
"""


def program(text: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", START + text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_client_that_nobody_closed_delivers_at_the_end_of_the_program() -> None:
    with serving(SmallCollector()) as collector:
        process = program(
            "def main():\n client = Client(*sys.argv[1:])\n for n in range(700): client.send(PAGE, id=str(n))\nmain()",
            collector.target,
            API_KEY,
        )
        _, complaint = process.communicate(timeout=60)
    assert (0, "") == (process.returncode, complaint)
    assert [str(number) for number in range(700)] == collector.ids


def test_ctrl_c_ends_a_waiting_sender_at_once_and_the_spool_keeps_its_events(tmp_path: Path) -> None:
    process = program(
        """
with Client("127.0.0.1:9", "key", spool=sys.argv[1]) as client:
    for n in range(10): client.send(PAGE, id=str(n))
    print("sent", flush=True)
    client.flush(600.0)
""",
        str(tmp_path),
    )
    assert process.stdout is not None
    assert "sent\n" == process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=20)
    assert (-signal.SIGINT, "KeyboardInterrupt") == (process.returncode, complaint.strip().splitlines()[-1])
    with Spool(tmp_path) as spool:
        assert 10 == spool.pending_count


def test_without_a_spool_what_is_lost_at_the_end_of_the_program_is_said() -> None:
    process = program(
        """
from pipeline.sdk.client import ClientOptions
client = Client("127.0.0.1:9", "key", options=ClientOptions(exit_seconds_max=0.2))
client.send(PAGE, id="mine")
"""
    )
    _, complaint = process.communicate(timeout=60)
    assert "event mine of type spillway.events.v1.PageViewed was not delivered" in complaint
    assert "1 events were not acknowledged" in complaint
