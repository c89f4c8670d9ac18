"""`python -m tests.console.weigh --console URL`: what each page weighs and how long it takes, with nothing in the cache.

Bytes as they came over the wire, with all panels of the page; milliseconds until the page has loaded, and until every panel in
sight is drawn: the least of the repeats, since other work on the machine only adds.
"""

import argparse
import sys
from collections.abc import Sequence

from tests.console.browser import BrowserMissing, run

PATHS = ("/", "/dashboards", "/d/spillway-hop-lake", "/d/spillway-delivery", "/d/spillway-capacity", "/d/spillway-cost",
         "/d/spillway-telemetry", "/traces", "/logs")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.console.weigh", description="Weight and time of the console's pages.")
    parser.add_argument("--console", default="http://127.0.0.1:8088", metavar="URL")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("paths", nargs="*", default=PATHS)
    chosen = parser.parse_args(arguments)
    try:
        found = run("weigh.mjs", console=chosen.console.rstrip("/"), paths=list(chosen.paths), repeats=chosen.repeats)
    except BrowserMissing as exc:
        print(exc, file=sys.stderr)
        return 1
    print("| page | requests | KB | loaded, ms | drawn, ms |\n| --- | --- | --- | --- | --- |")
    for each in found:
        times = f"{each['loadMillis']:.0f} | {each['drawnMillis']:.0f}"
        print(f"| `{each['path']}` | {each['requests']} | {each['bytes'] / 1000:.0f} | {times} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
