"""A start pages nobody: `python -m alerts.quiet_start`, once Alertmanager is ready.

    a silence of everything for a while ─► Prometheus is told where Alertmanager is

What has just begun is late and without history for a minute or two, and the rules say so. In this order no alert reaches
Alertmanager before the silence. It is seen where silences are, ends by itself, and the watch says UNKNOWN as long as it lasts.
What still fires then is told. The dead man's switch and test pages are not silenced.
"""

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alerts.routing import TEST_PAGE
from alerts.watchdog import WATCHDOG

ASK_SECONDS_MAX = 10.0
BY = "spillway up"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def silence(now: float, seconds: float) -> dict[str, Any]:
    """In the form of Alertmanager's API, version 2."""
    everything = {"name": "alertname", "value": f"{WATCHDOG}|{TEST_PAGE}", "isRegex": True, "isEqual": False}
    return {
        "matchers": [everything],
        "startsAt": _time(now),
        "endsAt": _time(now + seconds),
        "createdBy": BY,
        "comment": "The stack has just started.",
    }


def introduction(alertmanager: str) -> str:
    """In the form of Prometheus' `file_sd`."""
    return json.dumps([{"targets": [urlsplit(alertmanager).netloc]}])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m alerts.quiet_start", description="Keep a start from paging.")
    parser.add_argument("--alertmanager", default="http://127.0.0.1:9093", metavar="URL")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long nobody is paged; 0: not at all")
    parser.add_argument("--introduce", type=Path, required=True, metavar="FILE", help="by which Prometheus finds Alertmanager")
    chosen = parser.parse_args(arguments)
    if chosen.seconds > 0:
        _post(f"{chosen.alertmanager}/api/v2/silences", silence(time.time(), chosen.seconds))
    beside = chosen.introduce.with_name(f".{chosen.introduce.name}")
    beside.write_text(introduction(chosen.alertmanager))
    beside.replace(chosen.introduce)
    return 0


def _post(url: str, body: dict[str, Any]) -> None:
    """Raises: OSError: Alertmanager does not take it."""
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST")
    with _DIRECT.open(asked, timeout=ASK_SECONDS_MAX):
        return


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main())
