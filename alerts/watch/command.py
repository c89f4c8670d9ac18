"""`spillway watch`: do the watchers watch? Exit codes: 0 OK, 1 blind, 2 unknown."""

import io
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.watch.judge import EXIT_CODES, Outcome, Report
from alerts.watch.service import Watch
from alerts.watch.settings import ADDRESSES, InvalidSetting, WatchSettings, load
from alerts.watch.strikes import Standing
from alerts.watch.tell import Tellers
from telemetry.log import configure
from telemetry.metrics import Metrics

COLOURS = {Outcome.OK: "green", Outcome.BLIND: "bold red", Outcome.UNKNOWN: "yellow"}
# Between the looks of `--once`: a process that is started again needs a moment.
AGAIN_SECONDS = 5.0
PIPED_CHARS = 160


@click.command(
    epilog="Where each answers: " + ", ".join(ADDRESSES.values()) + "; the local stack's, if none is set. "
    "Pages of its own: SPILLWAY_WATCH_PAGERDUTY_KEY (with SPILLWAY_WATCH_PAGERDUTY_URL for another than PagerDuty's), "
    "SPILLWAY_WATCH_WEBHOOK_URL; SPILLWAY_WATCH_SITE names this place in them."
)
@click.option("--once", is_flag=True, help="Look, once more if all is not well, and exit with the code. For cron.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each look.")
@click.option("--page", is_flag=True, help="Page by the watch's own channels, if they are set. Looking by hand pages nobody.")
@click.option("--every", "seconds", type=click.FloatRange(1, 3600), help="Seconds between looks. [default: 10]")
@click.option("--without", multiple=True, type=click.Choice(list(ADDRESSES)), help="What this place does not have. Repeatable.")
def watch(once: bool, as_json: bool, page: bool, seconds: float | None, without: tuple[str, ...]) -> None:
    """Do the watchers watch? Asks Prometheus, Alertmanager, the escalator, the canary, the ledger and the console.

    It needs neither Prometheus nor Alertmanager to say so, and pages over channels of its own: run it where the pipeline is not.

    \b
    OK       (exit code 0)  each of them answers and shows that it works: fresh evaluations, probes, rounds, a Watchdog heard
    BLIND    (exit code 1)  somebody does not, and what breaks now may go unnoticed: named, with the reason
    UNKNOWN  (exit code 2)  somebody has just begun, sees only in part, or is nowhere to be found: never as good as OK

    \b
    spillway watch                         look every 10 s, until Ctrl-C; the local stack runs the same as its process `watch`
    spillway watch --once                  one verdict, with its exit code
    * * * * *  spillway watch --once --page --json >> /var/log/spillway-watch.log     from cron, on another machine
    """
    try:
        settings = load()
    except InvalidSetting as exc:
        raise click.UsageError(str(exc)) from exc
    addresses = {watcher: where for watcher, where in settings.addresses.items() if watcher not in without}
    settings = replace(settings, addresses=addresses, every_seconds=seconds or settings.every_seconds)
    if addresses and not any(addresses.values()):
        raise click.UsageError("nobody to watch is named: run `spillway up`, or set " + ", ".join(ADDRESSES.values()))
    looking = _watch(settings, page)
    if once:
        sys.exit(_once(looking, as_json))
    with suppress(KeyboardInterrupt):
        looking.run(threading.Event(), lambda report: _show(report, as_json))
    sys.exit(EXIT_CODES[looking.latest.outcome] if looking.latest is not None else EXIT_CODES[Outcome.UNKNOWN])


def _watch(settings: WatchSettings, page: bool) -> Watch:
    # What a line would say stands in the report; that a page failed is worth one.
    log = configure("watch", stream=sys.stderr if page else io.StringIO())
    metrics = Metrics()
    return Watch(settings, metrics, log, Tellers.of(settings, metrics, log) if page else None)


def _once(looking: Watch, as_json: bool) -> int:
    """A first look that finds somebody blind is a strike; the second decides."""
    report = looking.step()
    while report.outcome is not Outcome.OK and _strikes(looking.standing) < looking.settings.strikes:
        time.sleep(AGAIN_SECONDS)
        report = looking.step()
        if report.outcome is Outcome.UNKNOWN:
            break
    _show(report, as_json)
    return EXIT_CODES[report.outcome]


def _strikes(standing: Standing) -> int:
    return max(standing.strikes.values(), default=0)


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.json()))
        return
    console = Console(width=None if os.isatty(1) else PIPED_CHARS, highlight=False)
    at = time.strftime("%H:%M:%S", time.gmtime(report.at))
    console.print(Text(f"{at} UTC  {report.outcome}: {report.sentence}", COLOURS[report.outcome]))
    table = Table(show_edge=False, show_header=False, box=None)
    for each in report.findings:
        table.add_row(each.watcher, Text(each.outcome, COLOURS[each.outcome]), each.words)
    console.print(table)


COMMANDS: tuple[click.Command, ...] = (watch,)
