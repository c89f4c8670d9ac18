"""A console over something to look at: the stand-in pipeline, Debian's Prometheus, a real trace store with real traces.

    python -m tests.console.live            # until Ctrl-C; prints the console's address

Metrics are the stand-in's; traces and log lines are told by `journeys.py` through the real tracer and senders; exemplars of the
stand-in's histograms name traces that the store has. `live()` tells the courses of `KNOWN` once. By hand, more follow: some every
second, now and then a slow one or a dead letter, so that charts have something to show after a quarter of an hour.
"""

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telemetry.metrics import Metric
from tests.console.journeys import Course, Teller, Told, by_metric
from tests.dashboards.prometheus import Prometheus, prometheus
from tests.dashboards.stand_in import StandIn, stand_in

ROOT = Path(__file__).parents[2]
# A busy machine takes its time to import.
READY_SECONDS_MAX, END_SECONDS_MAX = 60.0, 10.0
SPIKE_SECONDS = 95.0
HOSTILE_ID = "<img src=x onerror=\"document.title='broken'\">'\"&"
TRACEPARENT = "00-00000000000000000000000000feed01-00000000000000a1-01"
KNOWN: dict[str, Course] = {
    "usual": Course("019ab0c4-7d00-7a11-8000-000000000001"),
    # What the latency panels of the lake show as a spike.
    "slow": Course("019ab0c4-7d00-7a11-8000-000000000002", load_seconds=SPIKE_SECONDS, clean_seconds=1.6, tenant="globex"),
    "dead": Course("019ab0c4-7d00-7a11-8000-000000000003", ended_at="redactor", reason="rule", rebuilt=False),
    "rejected": Course("019ab0c4-7d00-7a11-8000-000000000004", ended_at="grpc-door", reason="unknown_type"),
    "web": Course("019ab0c4-7d00-7a11-8000-000000000005", by_http=True, source="/shop/page", traceparent=TRACEPARENT),
    # Another event of the same page view.
    "web too": Course("019ab0c4-7d00-7a11-8000-000000000006", by_http=True, source="/shop/page", traceparent=TRACEPARENT,
                      door_seconds=0.03),
    "hostile": Course(HOSTILE_ID, source="javascript:alert(1)", tenant="</script><b>", more={"note": "<b onclick='x'>&amp;"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Live:
    console: str
    prometheus: Prometheus
    store: str
    told: Mapping[str, Told]


@contextmanager
def live(folder: Path, *, trouble: float = 0.0, moving: bool = False) -> Iterator[Live]:
    seen = _Seen()
    with store(folder / "store") as store_url, stand_in(trouble=trouble, observed=seen.take) as pipeline:
        teller = Teller(store_url)
        told = {name: teller.tell(course) for name, course in KNOWN.items()}
        seen.put([each for name, each in told.items() if name != "hostile"])
        targets = _targets(folder, pipeline)
        (folder / "prometheus").mkdir()
        with (
            prometheus(folder / "prometheus", targets / "stack.json") as server,
            console(folder, server.url, store_url, targets) as url,
            _more(teller, seen) if moving else _nothing(),
        ):
            yield Live(url, server, store_url, told)


class _Seen:
    """What histograms are still to see, until they are scraped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, str]]] = {}

    def put(self, told: Sequence[Told]) -> None:
        with self._lock:
            for key, values in by_metric(told).items():
                self._waiting.setdefault(key, []).extend(values)

    def take(self, metric: Metric, labels: Mapping[str, str]) -> Sequence[tuple[float, str]]:
        with self._lock:
            return self._waiting.pop((metric.name, tuple(sorted(labels.items()))), [])


def _targets(folder: Path, pipeline: StandIn) -> Path:
    targets = folder / "targets"
    targets.mkdir(exist_ok=True)
    pipeline.write_targets(targets / "stack.json")
    return targets


@contextmanager
def store(folder: Path) -> Iterator[str]:
    http, grpc, health = (_free_port() for _ in range(3))
    command = ["telemetry.store", "--folder", str(folder), "--http-port", str(http), "--grpc-port", str(grpc)]
    with process([*command, "--health-port", str(health)], f"http://127.0.0.1:{http}/ready", folder.with_suffix(".log")):
        yield f"http://127.0.0.1:{http}"


@contextmanager
def console(folder: Path, prometheus_url: str, store_url: str, targets: Path | None = None, *more: str) -> Iterator[str]:
    port, health = _free_port(), _free_port()
    command = ["dashboards.console", "--port", str(port), "--health-port", str(health)]
    command += ["--prometheus", prometheus_url, "--store", store_url, *(["--targets", str(targets)] if targets else []), *more]
    url = f"http://127.0.0.1:{port}"
    with process(command, f"{url}/healthz", folder / f"console-{port}.log"):
        yield url


@contextmanager
def process(module: Sequence[str], ready_url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m ...` until the block ends."""
    with log.open("wb") as written:
        running = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, stdout=written, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(ready_url, running, log)
            yield running
        finally:
            running.terminate()
            try:
                running.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _wait_until_ready(url: str, running: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < ends and running.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _more(teller: Teller, seen: _Seen) -> Iterator[None]:
    """Tell a few courses every second, until the block ends."""
    stopping = threading.Event()

    def go_on() -> None:
        chance = random.Random(7)
        for second in range(1, 1 << 30):
            seen.put([teller.tell(_course(chance, second)) for _ in range(2)])
            if stopping.wait(1.0):
                return

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(END_SECONDS_MAX)


def _course(chance: random.Random, second: int) -> Course:
    def about(seconds: float, spread: float = 0.4) -> float:
        return seconds * chance.lognormvariate(0, spread)

    slow = 300 < second % 600 < 345
    ends = chance.random()
    return Course(
        id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        type=f"spillway.events.v1.{chance.choice(('PageViewed', 'OrderPlaced', 'FlightDeparted'))}",
        tenant=chance.choice(("acme", "acme", "globex")),
        by_http=chance.random() < 0.3,
        door_seconds=about(0.02),
        write_seconds=about(0.009),
        stream_seconds=about(0.15),
        redact_seconds=about(0.015),
        clean_seconds=about(1.2),
        load_seconds=about(70.0 if slow else 3.0),
        backup_seconds=about(60.0, 0.1),
        ended_at="redactor" if ends < 0.02 else "grpc-door" if ends < 0.04 else "",
        reason=("rule" if ends < 0.02 else "unknown_type") if ends < 0.04 else "",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A console over a stand-in pipeline, with traces and log lines.")
    parser.add_argument("--trouble", type=float, default=0.0, help="of the stand-in's usual pace of errors")
    chosen = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with (
        tempfile.TemporaryDirectory(prefix="spillway-console-") as folder,
        live(Path(folder), trouble=chosen.trouble, moving=True) as now,
    ):
        print(f"console {now.console}  prometheus {now.prometheus.url}  store {now.store}", flush=True)
        print("\n".join(f"{name:9} {now.console}/trace/{each.trace_id}" for name, each in now.told.items()), flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
