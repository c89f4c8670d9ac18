"""`python -m alerts`: what Prometheus and Alertmanager are told, both files of one set of alerts.

Files are replaced whole, so that nobody reads half of one; Prometheus and Alertmanager read them again on SIGHUP.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from alerts.routing import config_text
from alerts.rules import ALERTS, CONSOLE, INTERVAL_SECONDS, rules_text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m alerts", description="Make the alerts' rules and routes.")
    parser.add_argument("--rules", type=Path, required=True, metavar="FILE", help="for Prometheus, as one of its rule_files")
    parser.add_argument("--routes", type=Path, required=True, metavar="FILE", help="for Alertmanager, as its configuration")
    parser.add_argument(
        "--interval", type=int, default=INTERVAL_SECONDS, metavar="SECONDS", help="as often as Prometheus scrapes and evaluates"
    )
    parser.add_argument("--console", default=CONSOLE, metavar="URL", help="where links of alerts lead to")
    parser.add_argument("--escalator", default="http://127.0.0.1:9095", metavar="URL", help="whom Alertmanager tells")
    chosen = parser.parse_args(arguments)
    try:
        rules = rules_text(chosen.interval, chosen.console.rstrip("/"))
    except ValueError as exc:
        parser.error(str(exc))
    _replace(chosen.rules, rules)
    _replace(chosen.routes, config_text(chosen.escalator, ALERTS))
    return 0


def _replace(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}")
    beside.write_text(text)
    beside.replace(file)


if __name__ == "__main__":
    sys.exit(main())
