"""`spillway demo`: the main job on real input, and the verdict.

Starts the stack if it is not up, sends a month of real flights through both doors, watches all exits, and prints a table. It
can be run again: the same events change nothing, which is part of what it shows.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from canary.reconcile import Verdict
from loadtests.flights import dataset
from loadtests.flights import proof as proofs
from loadtests.flights.proof import ExitResult, Proof, Target
from loadtests.flights.replay import Doors
from loadtests.producer import watched
from pipeline.doors.keys import add_key
from pipeline.stack.launch import Stack
from pipeline.stack.secret import DEMO_TENANT

EXIT_CONVICTED, EXIT_UNKNOWN = 1, 2


@click.command()
@click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="State folder of the stack. [default: .spillway]",
)
@click.option("--free-ports", is_flag=True, help="Let a new stack choose ports that are free.")
@click.option("--all", "all_year", is_flag=True, help="All 336,776 flights of 2013 instead of January's 27,004.")
@click.option("--flights", "flights_max", type=click.IntRange(min=1), help="Only the first so many flights.")
@click.option(
    "--rate", type=click.FloatRange(min=1), help="Events a second over both doors. [default: as fast as they are taken]"
)
@click.option(
    "--exit",
    "exit_after",
    is_flag=True,
    help="Stop the stack afterwards; the exit code is the verdict: 0 held, 1 convicted, 2 unknown.",
)
def demo(
    state_dir: Path | None, free_ports: bool, all_year: bool, flights_max: int | None, rate: float | None, exit_after: bool
) -> None:
    """Send real flights in at both doors and prove that every acknowledged one came out at every exit.

    Flights of January 2013 out of New York: each is scheduled, departs or is cancelled, and arrives. Half of the events go to
    the gRPC door by the SDK, half as CloudEvents JSON to the HTTP door. Afterwards every event is looked for in the lake, RDS,
    Redis and the Firehose backup, and each plane's current state is compared with what DuckDB says it must be.
    """
    console = Console(width=None if sys.stdout.isatty() else 130)
    folder = state_dir or Path(os.environ.get("SPILLWAY_STATE_DIR", ".spillway"))
    stack = Stack.at(folder)
    if stack.running():
        stack.wait_all_ready(240.0, lambda line: console.print(f"  {line}", highlight=False))
    else:
        console.print("[bold]Starting the stack[/]", highlight=False)
        stack = Stack.start(
            folder, free_ports=free_ports, tied=exit_after, say=lambda line: console.print(f"  {line}", highlight=False)
        )
    try:
        flights = list(dataset.year() if all_year else dataset.month())[:flights_max]
        target = _target(stack, all_year=all_year, flights_max=flights_max)
        console.print(f"[bold]Sending the events of {len(flights):,} flights[/] as tenant {target.tenant}", highlight=False)
        with _bars(console) as show, watched(stack, "demo") as telemetry:
            target = replace(target, telemetry=telemetry)
            proof = proofs.prove(
                flights, target, events_per_second=rate, deadline_seconds=900.0 if all_year else 240.0, on_progress=show
            )
        console.print(_exits_table(proof))
        console.print(_states_table(proof))
        _say_verdict(console, proof)
    finally:
        if exit_after:
            stack.stop(lambda line: console.print(f"  {line}", highlight=False))
    if not exit_after:
        _say_where_things_are(console, stack)
    sys.exit(_exit_code(proof))


def _target(stack: Stack, *, all_year: bool, flights_max: int | None) -> Target:
    """Each data set is a tenant of its own, so that one run's events are no surprise to another's verdict."""
    env = stack.env()
    os.environ.update(env)
    tenant, key = DEMO_TENANT, env["SPILLWAY_DEMO_KEY"]
    if all_year or flights_max:
        tenant = f"{DEMO_TENANT}-{'year' if all_year else 'month'}-{flights_max or 'all'}"
        key = add_key(stack.folder.keys, tenant, "producer")
    return Target(env, Doors(env["SPILLWAY_COLLECTOR"], stack.endpoints["http"], key), tenant)


@contextmanager
def _bars(console: Console) -> Iterator[proofs.Show]:
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(now: proofs.Progress) -> None:
            for name, done in {"acknowledged": now.answered, **now.seen}.items():
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=now.total, note="")
                progress.update(
                    tasks[name], completed=done, note=f"[red]blind: {now.blind[name]}"[:60] if name in now.blind else ""
                )

        yield show


def _exits_table(proof: Proof) -> Table:
    table = Table(
        title=f"{proof.acknowledged:,} of {proof.sent:,} events acknowledged in {proof.send_seconds:.1f} s", title_justify="left"
    )
    for name in ("exit", "acknowledged", "delivered", "missing", "duplicated", "unexpected", "freshness p50", "p99", "verdict"):
        table.add_column(name, justify="left" if name in ("exit", "verdict") else "right", no_wrap=True)
    for one in proof.exits:
        table.add_row(one.name, *_numbers(one), _coloured(one.verdict), style="" if one.verdict is Verdict.OK else "bold")
    return table


def _numbers(one: ExitResult) -> tuple[str, ...]:
    found = one.reconciliation
    if found is None:
        return ("?",) * 7
    again = " (known before)" if one.known_before == found.delivered else ""
    return (
        f"{found.acknowledged:,}",
        f"{found.delivered:,}{again}",
        f"{len(found.missing):,}",
        f"{len(found.duplicated):,}",
        f"{len(found.unexpected):,}",
        _seconds(one.freshness_seconds_p50),
        _seconds(one.freshness_seconds_p99),
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _coloured(verdict: Verdict) -> str:
    return f"[{'green' if verdict is Verdict.OK else 'yellow' if verdict is Verdict.UNKNOWN else 'red'}]{verdict.value}[/]"


def _states_table(proof: Proof) -> Table:
    table = Table(title="Current state of every plane, row for row, beside DuckDB's over the same file", title_justify="left")
    for name in ("exit", "rows expected", "rows equal", "differing", "verdict"):
        table.add_column(name, justify="left" if name in ("exit", "verdict") else "right")
    for one in proof.states:
        verdict = "[green]EQUAL[/]" if one.holds else "[red]DIFFERS[/]" if one.expected else "[yellow]UNKNOWN[/]"
        table.add_row(one.name, f"{one.expected:,}", f"{one.equal:,}", f"{one.expected - one.equal:,}", verdict)
    return table


def _say_verdict(console: Console, proof: Proof) -> None:
    for state in proof.states:
        for example in state.examples:
            console.print(f"  {state.name}: {example}", style="red", highlight=False)
    for one in proof.exits:
        if one.blind:
            console.print(f"  {one.name} could not be read: {one.blind}", style="yellow", highlight=False)
        if one.reconciliation is not None and one.reconciliation.missing:
            console.print(f"  {one.name} lacks, among others: {', '.join(sorted(one.reconciliation.missing)[:5])}", style="red")
    if proof.unsettled is not None:
        console.print(f"  duplicates may still be on their way: {proof.unsettled}", style="yellow", markup=False, highlight=False)
    for id, reason in list(proof.refused.items())[:5]:
        console.print(f"  refused: {id}: {reason}", style="red", highlight=False)
    if proof.holds:
        console.print("[bold green]HELD[/]: every acknowledged event is at every exit; nothing is missing, doubled or wrong.")
    else:
        word = "UNKNOWN" if _exit_code(proof) == EXIT_UNKNOWN else "CONVICTED"
        console.print(f"[bold red]{word}[/]: see the rows above; `spillway explain EVENT_ID` says where an event is.")


def _exit_code(proof: Proof) -> int:
    if proof.holds:
        return 0
    verdicts = {one.verdict for one in proof.exits}
    if not verdicts <= {Verdict.OK, Verdict.UNKNOWN} or any(state.expected and not state.holds for state in proof.states):
        return EXIT_CONVICTED
    blind = Verdict.UNKNOWN in verdicts or proof.unsettled is not None or any(not state.expected for state in proof.states)
    return EXIT_UNKNOWN if blind else EXIT_CONVICTED


def _say_where_things_are(console: Console, stack: Stack) -> None:
    addresses: Mapping[str, str] = {name: address for name, address in stack.endpoints.items() if not name.startswith("health:")}
    console.print("\n[bold]The stack stays up:[/]", highlight=False)
    for name, address in addresses.items():
        console.print(f"  {name:<10} {address}", highlight=False)
    console.print(
        f"\n  open the console at {addresses['console']} for dashboards, traces and logs\n"
        f"\n  spillway status       its processes (logs in {stack.folder.path}/logs)\n"
        "  spillway explain ID   where one event is, such as UA1545-20130101T1015-3-arrived\n"
        "  spillway lake         tables and files of the lake\n"
        f"  . {stack.folder.env}   addresses and a demo key for your shell\n"
        "  spillway down         stop it",
        highlight=False,
    )


COMMANDS: tuple[click.Command, ...] = (demo,)
