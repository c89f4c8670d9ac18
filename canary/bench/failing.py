"""What the canary costs when everything fails: its own process with as many probes under way as it may have.

    refuse         doors and exits refuse connections
    hang           they take connections and never answer
    hold nothing   they answer, acknowledge all and hold nothing; in memory, so that it is without the exits' own work

And how often a round knocks at a door that is there and refuses every request.
"""

import itertools
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path

import click
import grpc

from canary.lanes import DOORS, Door, Slot
from canary.looks import Exit, Held
from canary.probes import Fields, Probe
from canary.report import Report
from canary.send import ACCEPTED, GrpcSender, HttpSender, Sends, Sent
from canary.service import service
from canary.settings import CanarySettings
from canary.state import Open, State
from canary.watch import Canary
from canary.work import Threads
from pipeline.config import Settings, load
from pipeline.doors.grpc_door import SERVICE
from telemetry.log import configure
from telemetry.metrics import Metrics

FAILURES = ("refuse", "hang", "hold nothing")
_SOURCE = "/canary/bench"
_START_SECONDS_MAX = 60.0
_WARM_SECONDS = 5.0
# What is under way was sent over this time before.
_OPEN_SECONDS = 240.0
# And so many rounds are still to be sent.
_ROUNDS_LEFT = 20


def cpu_when_all(failure: str, settings: CanarySettings, slots: Sequence[Slot], seconds: float) -> float:
    """CPU of its process, of a core."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        if failure == "hang":
            listener.listen(512)  # it takes connections, and nobody ever reads them
        process = context.Process(
            target=_failing, args=(settings, slots, failure, listener.getsockname()[1], seconds, theirs), daemon=True
        )
        process.start()
        try:
            if not ours.poll(_START_SECONDS_MAX + seconds):
                raise click.ClickException("the canary of the benchmark said nothing")
            return float(ours.recv())
        finally:
            process.terminate()
            process.join(10)


@dataclass
class _Nothing:
    """An exit that answers and holds nothing."""

    name: str
    once: bool = True

    def look(self, wanted: Sequence[Probe]) -> Held:
        return {}

    def expected(self, probe: Probe) -> Fields:
        return {}


@dataclass
class _Deaf:
    """A door that acknowledges, and nothing follows from it."""

    door: Door

    def send(self, round: Sequence[Probe]) -> list[Sent]:
        return [Sent(ACCEPTED)] * len(round)


def _failing(settings: CanarySettings, slots: Sequence[Slot], failure: str, port: int, seconds: float, pipe: Connection) -> None:
    at = f"127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{at}", "AWS_ENDPOINT_URL_KINESIS": f"http://{at}", "AWS_ACCESS_KEY_ID": "bench"}
    os.environ |= {"AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true", "SPILLWAY_STORE_URL": f"http://{at}"}
    os.environ |= {"SPILLWAY_RDS_URL": f"postgresql://bench@{at}/bench", "SPILLWAY_REDIS_URL": f"redis://{at}/0"}
    to = replace(settings, grpc_target=at, http_url=f"http://{at}", prometheus_url=f"http://{at}")
    log = configure("canary", scrub=lambda text: text, stream=StringIO())
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder) / "probes.sqlite")
        _fill(state, to, slots)
        running = service(load(Settings), to, state, Metrics(), log, time.time)
        if failure == "hold nothing":
            doors: list[Sends] = [_Deaf(door) for door in DOORS]
            exits: list[Exit] = [_Nothing(name) for name in running.canary.eyes]
            running.checks.on = False
            running.canary = Canary(
                to, state, doors, exits, lambda: {}, Threads(), Metrics(), log, clock=time.time, slices=load(Settings).slices
            )
        began, measured = time.monotonic(), list[tuple[float, float]]()

        def seen(_: Report) -> bool:
            now = time.monotonic()
            if now >= began + _WARM_SECONDS:
                measured.append((now, time.process_time()))
            return now >= began + _WARM_SECONDS + seconds

        running.run(threading.Event(), seen)
        (from_at, from_cpu), (to_at, to_cpu) = measured[0], measured[-1]
        pipe.send((to_cpu - from_cpu) / (to_at - from_at))
    os._exit(0)  # threads that hang are not waited for


def _fill(state: State, settings: CanarySettings, slots: Sequence[Slot]) -> None:
    """As many probes under way as there may be, but for a few rounds that are still to be sent."""
    now, rounds = time.time(), settings.outstanding_max // (len(slots) * len(DOORS)) - _ROUNDS_LEFT
    for turn in range(rounds):
        sent_at = now - _OPEN_SECONDS * (rounds - turn) / rounds
        lanes = itertools.product(DOORS, slots)
        numbers = itertools.count(state.next_number)
        made = [Open(Probe(state.source, next(numbers), door, slot.slice, sent_at, turn), slot, ACCEPTED) for door, slot in lanes]
        state.begin(made)
        state.answered(made)


def knocks(settings: CanarySettings) -> Mapping[Door, int]:
    """Requests of one round at doors that are there and refuse every request."""
    counts: Counter[Door] = Counter()

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            counts["http"] += 1
            self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None: ...

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        counts["grpc"] += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "refused")

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    grpc_server = grpc.server(ThreadPoolExecutor(2))
    method = {"Publish": grpc.unary_unary_rpc_method_handler(refuse)}
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, method),))
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    senders = (
        GrpcSender(f"127.0.0.1:{grpc_port}", "bench", deadline_seconds=settings.door_seconds_max),
        HttpSender(f"http://127.0.0.1:{http_server.server_port}", "bench", deadline_seconds=settings.door_seconds_max),
    )
    for sender in senders:
        sender.send([Probe(_SOURCE, 0, sender.door, 0, time.time(), 0)])
        sender.close()
    http_server.shutdown()
    grpc_server.stop(0)
    return counts
