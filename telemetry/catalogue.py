"""`python -m telemetry.catalogue`: the signals of every hop and every metric, as the tables of telemetry/README.md.

The tables are made from `hops.py` and `metrics.py`; a test fails when the README holds others. `--write` makes it fresh.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from telemetry.hops import HOPS, Signal
from telemetry.metrics import CATALOGUE

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- made by `python -m telemetry.catalogue --write` -->", "<!-- end of what was made -->"


def tables() -> str:
    """Two tables in Markdown: the hops with their four signals and limits, and the metrics."""
    hops = [(f"`{hop.name}`", hop.takes, hop.gives, *(_signal(one) for one in hop.signals.values())) for hop in HOPS]
    metrics = [(f"`{one.name}`", one.kind, ", ".join(one.labels), one.help) for one in CATALOGUE]
    return "\n\n".join(
        (
            _table(("hop", "takes", "gives", "traffic", "errors", "latency", "saturation"), hops),
            _table(("metric", "kind", "labels", "what"), metrics),
        )
    )


def _signal(signal: Signal) -> str:
    """Its title and unit, and where it is too much."""
    limit = "" if signal.limit is None else f", limit {signal.limit:g}"
    return f"{signal.title} ({signal.unit}{limit})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def fresh(readme: str) -> str:
    """The README with these tables.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README.name} needs the lines {BEGIN} and {END}, in this order")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m telemetry.catalogue", description="The tables of telemetry/README.md.")
    parser.add_argument("--write", action="store_true", help="put them there; otherwise say whether they are (exit 1: no)")
    chosen = parser.parse_args(arguments)
    now = README.read_text()
    wanted = fresh(now)
    if chosen.write:
        README.write_text(wanted)
    elif now != wanted:
        print(f"{README} is stale: python -m telemetry.catalogue --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
