"""`spillway trace` against a real store: whole, waiting, dead, a batch, unknown, and a store that is away."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from telemetry.otlp import LogLine
from telemetry.tracing import Tracer
from tests.explain.conftest import RealStore
from tests.explain.trail import SEQUENCE_NUMBER, Trail, batch_of


class Ran:
    def __init__(self, store: str | None, *words: str, folder: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SPILLWAY_", "AWS_"))}
        env |= {"SPILLWAY_STATE_DIR": str(folder)} | ({"SPILLWAY_STORE_URL": store} if store else {})
        command = [sys.executable, "spillway.py", "trace", *words]
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        self.code, self.out, self.err = run.returncode, run.stdout, run.stderr

    @property
    def rows(self) -> dict[str, list[str]]:
        table = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.out.splitlines()]
        return {cells[0]: cells[1:] for cells in table if len(cells) > 1}


def test_a_whole_trace_is_shown_hop_by_hop_with_its_log_lines(store: RealStore, tmp_path: Path) -> None:
    trail = Trail("whole").by_sdk().redacted().loaded().backed_up()
    store.takes(*trail.emitted)
    line = LogLine(time.time_ns(), "warning", "slow request", trail.trace.hex_id, {"tenant": "acme", "seconds": 7.5})
    store.takes_lines([line], "grpc-door")
    ran = Ran(store.url, trail.trace.hex_id, folder=tmp_path)
    assert (0, "") == (ran.code, ran.err)
    assert "Event whole, source /shop, tenant acme" in ran.out
    hops = ["sdk", "grpc-door", "write", "redactor", "backup", "lake", "commit", "rds", "redis"]
    assert hops == [name for name in ran.rows if name in hops]
    assert "passed" == ran.rows["redactor"][-1]
    assert f"written events-clean shardId-000000000001 {SEQUENCE_NUMBER}" in ran.out
    assert "Delivered everywhere in 2.00 s; slowest hop lake (80%: waited 1.00 s, took 600 ms)." in ran.out
    assert "slow request tenant=acme seconds=7.5" in ran.out
    # Piped: words and bars, no colours and no frames.
    assert not {"\x1b", "│", "─", "━"} & set(ran.out)


def test_a_program_gets_the_same_as_json(store: RealStore, tmp_path: Path) -> None:
    trail = Trail("for-programs").by_sdk().redacted().loaded()
    store.takes(*trail.emitted)
    ran = Ran(None, trail.trace.hex_id, "--json", "--store", store.url, folder=tmp_path)
    said = json.loads(ran.out)
    (event,) = said["events"]
    assert (0, "delivered", 2.0, {"hop": "lake", "share": 0.8}) == (ran.code, event["became"], event["seconds"], event["slowest"])
    redactor = next(step for step in event["hops"] if step["hop"] == "redactor")
    assert (0.21, 0.1, "redactor-1", "passed") == tuple(
        redactor[name] for name in ("waited_seconds", "took_seconds", "worker", "outcome")
    )
    assert [] == said["lines"]


def test_a_waiting_event_is_shown_with_what_the_hop_it_waits_for_said_last(store: RealStore, tmp_path: Path) -> None:
    now = time.time_ns()
    waiting, other = Trail("waiting"), Trail("other")
    for trail, hop, parent, ended_ns in (
        (waiting, "grpc-door", "", now - 20_000_000_000),
        (other, "redactor", "grpc-door", now - 90_000_000_000),
    ):
        Tracer(hop, f"{hop}-1", trail.emitted.append).event(trail.trace, hop, ended_ns - 1_000, ended_ns, parent=parent)
        store.takes(*trail.emitted)
    store.takes_lines([LogLine(now - 5_000_000_000, "warning", "stopped", "", {"detail": "KMS is away"})], "redactor")
    ran = Ran(store.url, waiting.trace.hex_id, folder=tmp_path)
    (said,) = [line for line in ran.out.splitlines() if line.startswith("Waits for redactor since 2")]
    assert said.rstrip().endswith(" up to 32.0 s is within limits.")
    (sign,) = [line for line in ran.out.splitlines() if line.startswith("The last span of any event at redactor is 9")]
    assert "s old. Its last warning, " in sign
    assert sign.rstrip().endswith("s ago: stopped: KMS is away.")


def test_a_dead_letter_is_shown_with_its_reason_and_the_command_that_mends_it(store: RealStore, tmp_path: Path) -> None:
    trail = Trail("dead").says("http-door", 0.0, 0.1, door__status="accepted")
    key = "dead-letters/transcoder/invalid_data/2026/11/25/web-events-shardId-000000000001-7-0"
    trail.says(
        "transcoder", 0.3, 0.35, "http-door", error="invalid_data", final="dead_letter", reason="invalid_data",
        dead_letter__key=key, waited_seconds=0.2,
    )  # fmt: skip
    store.takes(*trail.emitted)
    ran = Ran(store.url, trail.trace.hex_id, folder=tmp_path)
    assert "dead letter: invalid_data" == ran.rows["transcoder"][-1]
    assert "Died at transcoder: dead letter, invalid_data." in ran.out
    assert f"`spillway dlq redrive --key {key}`" in ran.out


def test_a_batchs_trace_shows_its_events_with_their_traces_and_fates(store: RealStore, tmp_path: Path) -> None:
    good, bad = Trail("of-batch-good").by_sdk().redacted().loaded(), Trail("of-batch-bad").by_sdk()
    emitted: list[ReadableSpan] = []
    batch = batch_of(emitted, "redactor", 0.3, 0.4, [good.trace, bad.trace], attributes={"messaging.batch.message_count": 9})
    bad.says("redactor", 0.3, 0.4, "grpc-door", error="poison", final="dead_letter", reason="poison", batch=batch)
    store.takes(*good.emitted, *bad.emitted, *emitted)
    ran = Ran(store.url, f"{batch.trace_id:032x}", folder=tmp_path)
    assert [good.trace.hex_id, "passed", "delivered"] == ran.rows["of-batch-good"]
    assert [bad.trace.hex_id, "dead letter: poison", "dead letter at redactor"] == ran.rows["of-batch-bad"]


def test_several_events_of_one_trace_have_a_block_each_and_the_producers_span_stands_apart(
    store: RealStore, tmp_path: Path
) -> None:
    context = "00-1bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    one, two = (Trail(id, traceparent=context).by_sdk().redacted().loaded() for id in ("several-1", "several-2"))
    store.takes(*one.emitted, *two.emitted)
    ran = Ran(store.url, context, folder=tmp_path)  # a whole `traceparent` will do
    assert ["Event several-1", "Event several-2"] == [
        line.split(",")[0] for line in ran.out.splitlines() if line.startswith("Event ")
    ]
    assert 2 == ran.out.count("Delivered everywhere in 2.00 s")


def test_a_trace_that_the_store_does_not_know_is_absent_and_says_why_that_may_be(store: RealStore, tmp_path: Path) -> None:
    ran = Ran(store.url, "0123456789abcdef0123456789abcdef", folder=tmp_path)
    assert (1, "") == (ran.code, ran.out)
    assert "has no span and no log line of trace 0123456789abcdef0123456789abcdef" in ran.err
    assert "not to be traced" in ran.err
    assert "spillway explain EVENT_ID" in ran.err


def test_a_trace_of_which_there_are_log_lines_alone_is_known(store: RealStore, tmp_path: Path) -> None:
    trace_id = "00000000000000000000000000c0ffee"
    store.takes_lines([LogLine(time.time_ns(), "warning", "dead letter", trace_id, {"reason": "poison"})], "redactor")
    ran = Ran(store.url, trace_id, folder=tmp_path)
    assert (0, True, True) == (ran.code, "No span of it, but log lines" in ran.out, "dead letter reason=poison" in ran.out)


def test_a_store_that_is_away_is_unknown_and_never_absent(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        ran = Ran(url, "0123456789abcdef0123456789abcdef", folder=tmp_path)
    assert (2, "") == (ran.code, ran.out)
    assert f"UNKNOWN: the trace store at {url} does not answer: Connection refused" == ran.err.strip()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["4bf92f35"], "the beginning of a trace id"),
        (["checkout-17"], "by an event's id ask `spillway explain`"),
        (["0" * 32], "is no trace id"),
        (["0123456789abcdef0123456789abcdef"], "no trace store is named"),
        (["0123456789abcdef0123456789abcdef", "--store", "localhost:4318"], "write it as http://127.0.0.1:4318"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_would_be_right(words: list[str], complaint: str, tmp_path: Path) -> None:
    ran = Ran(None, *words, folder=tmp_path)
    assert (2, "", True) == (ran.code, ran.out, complaint in " ".join(ran.err.split())), ran.err
