"""Writes the rules file: `python -m telemetry.recording --interval 5 --out rules.json`; without `--out`, prints it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from telemetry.recording.rules import INTERVAL_SECONDS, INTERVAL_SECONDS_MAX, rules_text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m telemetry.recording", description=__doc__)
    parser.add_argument(
        "--interval",
        type=int,
        default=INTERVAL_SECONDS,
        metavar="SECONDS",
        help=f"how often the recent groups are evaluated, 1 to {INTERVAL_SECONDS_MAX}; as often as Prometheus scrapes",
    )
    parser.add_argument("--out", type=Path, help="write here")
    chosen = parser.parse_args(arguments)
    try:
        text = rules_text(chosen.interval)
    except ValueError as exc:
        parser.error(str(exc))
    if chosen.out is None:
        sys.stdout.write(text)
    else:
        chosen.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
