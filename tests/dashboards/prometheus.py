"""Debian's Prometheus for a test: on a free port, over one file of targets, with all rules, ended by the test.

`promtool`, of the same package, checks rules and plays stories to them.
"""

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from alerts.rules import rules_text as alert_rules_text
from pipeline.stack.debian import Debian
from telemetry.recording import rules_text

READY_SECONDS_MAX, END_SECONDS_MAX, ASK_SECONDS_MAX = 60, 10, 10
PROMTOOL_SECONDS_MAX = 120
# Alerts are many, and nothing waits for them.
ALERTS_SECONDS = 2
SCRAPE_SECONDS = 1
# A scrape that misses says so at the moment when it began: until it has ended, that moment can still lose its gauges.
SETTLED_SECONDS = 2 * SCRAPE_SECONDS
_LONG_WINDOW = re.compile(r"\[\d+[mhd]:\d+[smh]\]")
CACHE = Path(__file__).parents[2] / ".cache"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """`at`: when it is asked of, in seconds since 1970; None: now."""

    url: str
    at: float | None = None

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The answer's series.

        Raises:
            ValueError: Prometheus refuses the query; its words.
        """
        when = {} if self.at is None else {"time": repr(self.at)}
        form = urllib.parse.urlencode({"query": expr, **when}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", form, timeout=ASK_SECONDS_MAX) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as exc:
            raise ValueError(json.load(exc)["error"]) from exc
        return found

    def settled(self) -> "Prometheus":
        """Asked of the latest moment whose answers don't change any more."""
        return replace(self, at=time.time() - SETTLED_SECONDS)


@contextmanager
def prometheus(folder: Path, targets: Path) -> Iterator[Prometheus]:
    """Scrapes the targets each second, and evaluates recording rules as often."""
    config, rules, alerts = folder / "prometheus.yml", folder / "recording.json", folder / "alerts.json"
    rules.write_text(rules_text(interval_seconds=SCRAPE_SECONDS))
    # Hours and days have not gone by yet: long windows look at what is there.
    alerts.write_text(_LONG_WINDOW.sub("[30s:1s]", alert_rules_text(ALERTS_SECONDS)))
    # JSON is YAML.
    told = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules), str(alerts)],
        "scrape_configs": [{"job_name": "spillway", "file_sd_configs": [{"files": [str(targets)]}]}],
    }
    config.write_text(json.dumps(told))
    url = f"http://127.0.0.1:{_free_port()}"
    command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={url.removeprefix('http://')}", "--enable-feature=exemplar-storage", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(url, process, folder / "log")
            yield Prometheus(url)
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def program(name: Literal["prometheus", "promtool"]) -> str:
    """Installed, or from the stack's cache."""
    return str(Debian(CACHE).prometheus().programs / name)


def promtool(*arguments: str) -> str:
    """What promtool complains of; empty if it is content."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=PROMTOOL_SECONDS_MAX, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Prometheus is not ready: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
