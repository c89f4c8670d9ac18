"""A real trace store, as a process, and what fills it: the real tracer and the real OTLP senders."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from telemetry.otlp import LogLine, log_sender, span_sender
from telemetry.store_client import TraceStore

BEGIN_SECONDS_MAX = 30.0
SEND_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class RealStore:
    url: str

    @property
    def client(self) -> TraceStore:
        return TraceStore(self.url)

    def takes(self, *spans: ReadableSpan) -> None:
        """Returns once they are in the file: the store answers no sooner."""
        assert span_sender(self.url, SEND_SECONDS_MAX)(spans)

    def takes_lines(self, lines: Sequence[LogLine], part: str, worker: str = "") -> None:
        assert log_sender(self.url, SEND_SECONDS_MAX, part, worker or f"{part}-1")(lines)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStore]:
    folder: Path = tmp_path_factory.mktemp("store")
    command = [sys.executable, "-m", "telemetry.store", "--folder", str(folder)]
    ports = ["--grpc-port", "0", "--http-port", "0", "--health-port", "0"]
    with open(folder / "log", "w+b") as log, subprocess.Popen([*command, *ports], stderr=log) as process:
        try:
            yield RealStore(f"http://127.0.0.1:{_http_port(folder / 'log', process)}")
        finally:
            process.terminate()


def _http_port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + BEGIN_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        for line in log.read_text().split("\n")[:-1]:  # the last one may be half written
            if line.startswith("{") and json.loads(line)["event"] == "serving":
                return int(json.loads(line)["http_port"])
        time.sleep(0.05)
    raise AssertionError(f"the store did not begin in {BEGIN_SECONDS_MAX} s: {log.read_text()}")
