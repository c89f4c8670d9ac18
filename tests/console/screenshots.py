"""`python -m tests.console.screenshots --console URL --out FOLDER`: pictures of every page of a running console.

Light and dark at 1440 pixels, and light at 400, each the whole page: overview with the hop map, two hops, delivery, capacity,
cost, telemetry, the list of dashboards, traces, one trace (the newest with a step of at least 10 s, unless `--trace` names
another; also with a span open), logs, alerts, SLOs, canary, ledger. Complaints of the browser are printed; there should be none.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.console.browser import FOLDER, BrowserMissing, prepare


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.console.screenshots", description="Pictures of a running console.")
    parser.add_argument("--console", default="http://127.0.0.1:8088", metavar="URL")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--token", default=os.environ.get("SPILLWAY_CONSOLE_TOKEN", ""))
    parser.add_argument("--trace", default="", help="the trace to show")
    parser.add_argument("--only", default="", help="names of pages, by comma: overview,trace")
    parser.add_argument("--views", default="", help="of light, dark and narrow, by comma")
    parser.add_argument("--small", action="store_true", help="small, and only what is seen first: as documents show them")
    chosen = parser.parse_args(arguments)
    try:
        environment = {**os.environ, "CHROMIUM": prepare()}
    except BrowserMissing as exc:
        print(exc, file=sys.stderr)
        return 1
    asked = {
        "console": chosen.console.rstrip("/"), "out": str(chosen.out.resolve()), "token": chosen.token, "trace": chosen.trace,
        "only": chosen.only, "views": chosen.views, "small": chosen.small,
    }  # fmt: skip
    return subprocess.run(["node", "screenshots.mjs", json.dumps(asked)], cwd=FOLDER, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
