"""`spillway slo`: the SLOs, what each allows, and what is left of its budget."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from alerts.nines import NINES, PERIODS, Budget, NoAnswer, budgets, downtime_seconds, per_cent, words
from alerts.slos import SLOS

PROMETHEUS = "http://127.0.0.1:9090"
UNKNOWN = "not known"
EXIT_SPENT, EXIT_UNKNOWN = 1, 2


@click.command()
@click.option(
    "--prometheus",
    default=PROMETHEUS,
    envvar="SPILLWAY_PROMETHEUS_URL",
    show_default=True,
    metavar="URL",
    help="Who knows what is left; empty: nobody is asked.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def slo(ctx: click.Context, prometheus: str, as_json: bool) -> None:
    """What is promised, what that allows, and how much of it is left.

    Exit code 0: every SLO has budget left. 1: one has spent it. 2: it is not known.
    """
    why = "" if prometheus else "nobody was asked"
    try:
        known = budgets(SLOS, prometheus)
    except NoAnswer as exc:
        known, why = budgets(SLOS), str(exc)
    if as_json:
        click.echo(json.dumps({"slos": [_as_json(each) for each in known], "nines": nines(), "unknown_because": why}, indent=1))
    else:
        # As wide as it needs where nobody sees the width: a pipe, a test.
        console = Console() if sys.stdout.isatty() else Console(width=160)
        console.print(_promised(known))
        console.print(_nines())
        if why:
            console.print(f"What is left is {UNKNOWN}: {why}", style="yellow", highlight=False)
    ctx.exit(_exit_code(known))


def nines() -> list[dict[str, Any]]:
    return [
        {"objective": objective, **{period: downtime_seconds(objective, seconds) for period, seconds in PERIODS.items()}}
        for objective in NINES
    ]


def _exit_code(known: Sequence[Budget]) -> int:
    if any(each.left is not None and each.left < 0 for each in known):
        return EXIT_SPENT
    return EXIT_UNKNOWN if any(each.left is None for each in known) else 0


def _as_json(budget: Budget) -> dict[str, Any]:
    promised = budget.slo
    return {
        "slo": promised.name, "title": promised.title, "objective": promised.objective, "days": promised.days,
        "owner": promised.owner, "policy": promised.policy, "runbook": promised.runbook,
        "budget_left": budget.left, "budget_left_seconds": budget.left_seconds, "burn_rate": budget.burn_rate,
    }  # fmt: skip


def _promised(known: Sequence[Budget]) -> Table:
    table = Table(title="What is promised", title_justify="left", caption_justify="left")
    for column in ("SLO", "promise", "objective", "window", "allows", "left", "burn rate", "owner"):
        table.add_column(column, justify="right" if column in ("objective", "allows", "left", "burn rate") else "left")
    for each in known:
        promised = each.slo
        allowed = words(downtime_seconds(promised.objective, promised.days * PERIODS["day"]))
        table.add_row(
            promised.name, promised.title, per_cent(promised.objective), f"{promised.days} days", allowed,
            _left(each), UNKNOWN if each.burn_rate is None else f"{each.burn_rate:.2f}", promised.owner,
        )  # fmt: skip
    return table


def _left(budget: Budget) -> str:
    if budget.left is None or budget.left_seconds is None:
        return UNKNOWN
    style = "green" if budget.left > 0.25 else "yellow" if budget.left > 0 else "red"
    return f"[{style}]{budget.left * 100:.1f} %, {words(budget.left_seconds)}[/{style}]"


def _nines() -> Table:
    table = Table(title="What nines allow", title_justify="left")
    table.add_column("objective", justify="right")
    for period in PERIODS:
        table.add_column(f"a {period}" if period != "30 days" else "in 30 days", justify="right")
    for objective in NINES:
        table.add_row(per_cent(objective), *(words(downtime_seconds(objective, seconds)) for seconds in PERIODS.values()))
    return table


COMMANDS: tuple[click.Command, ...] = (slo,)
