"""Where spans go by themselves, and that a backend which is away, slow or wrong costs no event and holds nobody up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import InvalidConfiguration
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client, SdkTelemetry
from pipeline.sdk.publisher import Publisher
from pipeline.sdk.spool import Spool
from pipeline.sdk.telemetry import END_SECONDS_MAX
from pipeline.sdk.transport import MemoryTransport
from telemetry.settings import TelemetrySettings
from tests.sdk.backend import Backend, collecting
from tests.sdk.collector import API_KEY, SmallCollector, serving

ROOT = Path(__file__).resolve().parents[2]
PAGE = PageViewed(page_url="https://example.com/")
OURS, OPENTELEMETRYS = "SPILLWAY_TELEMETRY_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
# A shared machine's own delays, on top of a bound.
SLACK_SECONDS = 3.0
# Far beyond any bound: who waited for the backend would be seen.
PATIENT = {"SPILLWAY_TELEMETRY_SHIP_TIMEOUT_SECONDS": "60"}


@pytest.fixture(autouse=True)
def _no_telemetry_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OURS, OPENTELEMETRYS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def backend() -> Iterator[Backend]:
    with collecting() as backend:
        yield backend


def client(transport: MemoryTransport, **settings: object) -> Client:
    return Client(source="/test", publisher=Publisher(transport=transport), **settings)  # type: ignore[arg-type]


def python(text: str, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    clean = {name: value for name, value in os.environ.items() if name not in (OURS, OPENTELEMETRYS)}
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean | {"PYTHONPATH": str(ROOT)} | env,
    )


# -- by itself


@pytest.mark.parametrize("variable", [OURS, OPENTELEMETRYS])
def test_a_client_ships_spans_where_the_environment_says(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, backend.url)
    with client(MemoryTransport()) as sending:
        sending.send(PAGE, id="a", canary="probe-1")
    # Closed: shipped.
    assert {"a"} == backend.event_ids()


def test_a_client_that_is_told_not_to_ships_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OURS, backend.url)
    with client(MemoryTransport(), telemetry=SdkTelemetry()) as sending:
        sending.send(PAGE, id="a", canary="probe-1")
    assert [] == backend.spans


def test_whoever_makes_telemetry_ends_it(backend: Backend) -> None:
    """So that two clients share one; the second still reports when the first is closed."""
    telemetry = SdkTelemetry.begin("checkout", settings=TelemetrySettings(otlp_endpoint=backend.url))
    for id in ("a", "b"):
        with client(MemoryTransport(), telemetry=telemetry) as sending:
            sending.send(PAGE, id=id, canary="probe-1")
    telemetry.end()
    assert {"a", "b"} == backend.event_ids()


def test_without_a_backend_no_thread_is_started_and_nothing_heavy_is_imported() -> None:
    text = """
import sys, threading
from pipeline.sdk.client import Client
heavy = [name for name in ("opentelemetry", "prometheus_client", "requests", "structlog") if name in sys.modules]
client = Client("127.0.0.1:9", "key")
heavy += [name for name in ("opentelemetry.sdk", "prometheus_client", "requests", "structlog") if name in sys.modules]
print(heavy, sorted(thread.name for thread in threading.enumerate() if "ship" in thread.name))
"""
    assert ("[] []\n", "") == python(text).communicate(timeout=60)


def test_a_wrong_setting_is_said_at_once_and_leaves_no_spool_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OURS, "http://127.0.0.1:9")
    monkeypatch.setenv("SPILLWAY_TELEMETRY_TRACE_SHARE", "much")
    with pytest.raises(InvalidConfiguration, match="TRACE_SHARE"):
        client(MemoryTransport(), spool=tmp_path)
    Spool(tmp_path).close()


def test_the_example_of_the_readme_runs(backend: Backend) -> None:
    readme = (ROOT / "pipeline" / "sdk" / "README.md").read_text()
    (example,) = (code for code in readme.split("```python\n")[1:] if code.startswith("telemetry = "))
    text = """
import sys, prometheus_client
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client, SdkTelemetry
from telemetry.metrics import Metrics
"""
    text += example.split("```")[0].replace('"127.0.0.1:50051"', "sys.argv[1]").replace('"spw_..."', "sys.argv[2]")
    text += "sys.stdout.write(prometheus_client.generate_latest(prometheus_client.REGISTRY).decode())"
    with serving(SmallCollector()) as collector:
        scraped, complaint = python(text, collector.target, API_KEY, **{OURS: backend.url}).communicate(timeout=60)
    assert "" == complaint
    assert 'spillway_sdk_events_total{outcome="accepted"} 2.0' in scraped.splitlines()
    assert collector.events[1].id in backend.event_ids()


# -- a backend that is away, or hangs


def refusing() -> str:
    """An address where nobody listens."""
    with collecting() as gone:
        return gone.url


@pytest.mark.parametrize("how", ["away", "hangs"])
def test_a_backend_holds_up_no_event_and_the_end_only_within_its_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with collecting(hangs=True) as hanging:
        wanted = {OURS: hanging.url if how == "hangs" else refusing(), "SPILLWAY_TELEMETRY_QUEUE_ITEMS_MAX": "100", **PATIENT}
        for name, value in wanted.items():
            monkeypatch.setenv(name, value)
        transport = MemoryTransport()
        sending = client(transport)
        for number in range(2_000):
            sending.send(PAGE, id=str(number), canary="probe-1")
        # Twenty times as many spans as the queue holds were offered while nobody took them.
        sending.flush(20.0)
        assert 2_000 == len(transport.acknowledged)
        began = time.monotonic()
        sending.close()
        assert time.monotonic() - began < END_SECONDS_MAX + SLACK_SECONDS
    assert ["not all spans could be shipped"] == [record.message[:30] for record in caplog.records]


# -- how a program ends

START = """
import sys
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client
PAGE = PageViewed(page_url="https://example.com/")
"""
FORGETS = START + "client = Client(*sys.argv[1:])\nfor n in range(700): client.send(PAGE, id=str(n), canary='probe')"
INTERRUPTED = (
    START
    + """
import signal
with Client(*sys.argv[1:]) as client:
    client.send(PAGE, id="a", canary="probe").result(20.0)
    print("sent", flush=True)
    signal.pause()
"""
)


def test_a_client_that_nobody_closed_ships_its_spans_at_the_end_of_the_program(backend: Backend) -> None:
    with serving(SmallCollector()) as collector:
        process = python(FORGETS, collector.target, API_KEY, **{OURS: backend.url})
        _, complaint = process.communicate(timeout=60)
        assert (0, "", 700) == (process.returncode, complaint, len(collector.ids))
    assert set(collector.ids) == backend.event_ids()


def test_ctrl_c_ships_them_too(backend: Backend) -> None:
    with serving(SmallCollector()) as collector:
        process = python(INTERRUPTED, collector.target, API_KEY, **{OURS: backend.url})
        assert process.stdout is not None
        assert "sent\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert (-signal.SIGINT, "KeyboardInterrupt") == (process.returncode, complaint.strip().splitlines()[-1])
    assert {"a"} == backend.event_ids()


@pytest.mark.parametrize("program", [FORGETS, INTERRUPTED], ids=["forgets", "ctrl-c"])
def test_a_program_ends_in_time_and_without_a_loss_though_the_backend_hangs(program: str) -> None:
    with collecting(hangs=True) as hanging, serving(SmallCollector()) as collector:
        process = python(program, collector.target, API_KEY, **{OURS: hanging.url, **PATIENT})
        if program is INTERRUPTED:
            assert process.stdout is not None
            assert "sent\n" == process.stdout.readline()
            process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, complaint = process.communicate(timeout=60)
        # With what it takes Python and gRPC to start, in one of the two.
        assert time.monotonic() - began < END_SECONDS_MAX + 10.0
        assert (700 if program is FORGETS else 1) == len(collector.ids)
    assert "not all spans could be shipped" in complaint
