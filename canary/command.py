"""`spillway canary`: once, run, status. Exit codes: 0 held, 1 convicted, 2 unknown."""

import io
import json
import os
import random
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import replace

import click
from rich.console import Console
from rich.live import Live

from canary.judge import Verdict
from canary.report import Outcome, Report, from_json
from canary.service import PATH, Service, service
from canary.settings import CanarySettings
from canary.show import EXIT_CODES, render, show
from canary.state import State
from pipeline.config import Settings, load
from telemetry.log import configure
from telemetry.metrics import Metrics
from telemetry.personal_data import mask

# Long enough that no second round begins.
ONE_ROUND_SECONDS = 86_400.0
ASK_SECONDS_MAX = 5.0
# A report that is older is one of a canary that hangs.
STALE_SECONDS = 30.0
PIPED_CHARS = 190
RINGS = 1 << 20
_WELL = (Verdict.DELIVERED, Verdict.REORDERED)


@click.group()
def canary() -> None:
    """Prove delivery from outside: send events, look for them at every exit, say which hop is to blame.

    Exit code 0: held, 1: convicted, 2: unknown (it could not look, or has shown nothing).
    """


@canary.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--checks/--no-checks", default=True, help="Also try what must not happen: it takes half a minute.  [default: yes]")
def once(as_json: bool, checks: bool) -> None:
    """One probe through each door onto each shard; wait until all is known.

    It keeps nothing and does not disturb the scheduled canary. A probe that does not come is waited for until it counts as lost.
    """
    settings = replace(load(CanarySettings), interval_seconds=ONE_ROUND_SECONDS, check_seconds=ONE_ROUND_SECONDS)
    running = _service(settings)
    began = time.monotonic()
    bound_seconds = settings.deadlines("backup").blind_seconds + settings.check_wait_seconds * 3

    def known(report: Report) -> bool:
        over = time.monotonic() - began > bound_seconds
        return over or (_all_known(running) and (not checks or running.checks.all_ran))

    running.checks.on = checks
    running.run(threading.Event(), known)
    report = running.report()
    running.close()
    _finish(report, as_json)


@canary.command("run")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="End after so many seconds. [default: until Ctrl-C]")
@click.option("--json", "as_json", is_flag=True, help="Only the last report, as JSON.")
def run_command(seconds: float | None, as_json: bool) -> None:
    """Probe again and again in this terminal, and watch; `spillway up` runs the same as a process of the stack."""
    running, stopping = _service(load(CanarySettings)), threading.Event()
    timer = threading.Timer(seconds, stopping.set) if seconds is not None else None
    if timer is not None:
        timer.start()
    with suppress(KeyboardInterrupt):
        if as_json or not os.isatty(1):
            running.run(stopping)
        else:
            with Live(console=_console(), auto_refresh=False) as live:

                def shown(report: Report) -> bool:
                    live.update(render(report), refresh=True)
                    return False

                running.run(stopping, shown)
    if timer is not None:
        timer.cancel()
    report = running.report()
    running.close()
    _finish(report, as_json)


@canary.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--url", help="The health port of the canary's process. [default: SPILLWAY_CANARY_URL]")
def status(as_json: bool, url: str | None) -> None:
    """What the scheduled canary knows: verdict, hop to blame, each exit's last hour, negative checks, cases by name."""
    where = url or load(CanarySettings).url
    if not where:
        raise click.UsageError("no canary is named: run `spillway up`, set SPILLWAY_CANARY_URL, or give --url http://HOST:PORT")
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{where.rstrip('/')}{PATH}", timeout=ASK_SECONDS_MAX) as answer:
            said = json.loads(answer.read())
        if not said:
            raise ValueError("it has just begun and knows nothing yet")
        report = from_json(said)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        click.echo(f"UNKNOWN: the canary at {where} says nothing that can be read: {exc}", err=True)
        raise SystemExit(EXIT_CODES[Outcome.UNKNOWN]) from exc
    if (old_seconds := time.time() - report.at) > STALE_SECONDS:
        text = f"The canary hangs: this is what it knew {old_seconds:.0f} s ago. {report.sentence}"
        report = replace(report, outcome=Outcome.UNKNOWN.value, sentence=text)
    _finish(report, as_json)


def _service(settings: CanarySettings) -> Service:
    """A canary of its own: its state is in memory, and its probes have a source and subjects of their own."""
    # What a line would say stands in the report.
    log = configure("canary", scrub=mask, stream=io.StringIO())
    state = State(None, ring="once", first_turn=random.SystemRandom().randrange(RINGS))
    return service(load(Settings), settings, state, Metrics(), log, time.time)


def _all_known(running: Service) -> bool:
    watched = running.canary
    if not watched.rounds.sent or not watched.rounds.answered:
        return False
    judged = ((watched.judgement(one, exit)) for one in watched.open.values() for exit in watched.exits_of(one))
    return all(one.settled or one.verdict in _WELL or (one.convicts and one.verdict is not Verdict.LATE) for one in judged)


def _console() -> Console:
    return Console(width=None if os.isatty(1) else PIPED_CHARS, highlight=False)


def _finish(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.json(), indent=1))
        raise SystemExit(EXIT_CODES[Outcome(report.outcome)])
    raise SystemExit(show(_console(), report))


COMMANDS: tuple[click.Command, ...] = (canary,)
