"""`spillway up`, `down`, `status`, `doctor`: the stack as its user meets it."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.config import Settings, load
from pipeline.errors import SpillwayError
from pipeline.stack.doctor import findings
from pipeline.stack.errors import AlreadyUp
from pipeline.stack.launch import READY_SECONDS_MAX, Stack
from pipeline.stack.plan import NAMES, PARTS, StackSettings, wanted_ports
from pipeline.stack.prepare import cache_dir, prepare

EXIT_NOT_UP = 1
FOREGROUND_POLL_SECONDS = 0.2

_COLOURS = {
    "ready": "green",
    "done": "green",
    "ok": "green",
    "will fetch": "cyan",
    "starting": "yellow",
    "waiting": "yellow",
    "stopping": "yellow",
    "held": "yellow",
    "unready": "red",
    "backoff": "red",
    "failed": "red",
    "missing": "red",
}


def _state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--state",
        "state_dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        help="State folder of the stack: another folder is another stack. [default: SPILLWAY_STATE_DIR, else .spillway]",
    )(command)


def _plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What we raise on purpose is told in words; anything else is a bug and keeps its trace."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except SpillwayError as exc:
            raise click.ClickException(str(exc)) from exc

    return run


def _folder(state_dir: Path | None) -> Path:
    return state_dir if state_dir is not None else load(Settings).state_dir


def _part_names(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise click.BadParameter(f"there is no part {unknown[0]!r}; there are: {', '.join(NAMES)}")
    return names or NAMES


@click.command(
    epilog="Ports are fixed; SPILLWAY_STACK_GRPC_PORT and its like, or [stack] in spillway.toml, set others. "
    "Parts, in the order of the path: " + ", ".join(NAMES) + "."
)
@_state_option
@click.option("--free-ports", is_flag=True, help="Take ports that are free; the same again next time, if they still are.")
@click.option("--parts", callback=_part_names, default="", help="Only these parts, with commas between. [default: all]")
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, then drain; Ctrl-C again ends at once.")
@click.option("--ready-seconds", default=READY_SECONDS_MAX, show_default=True, help="How long all may take to be ready.")
@_plain_errors
def up(state_dir: Path | None, free_ports: bool, parts: tuple[str, ...], foreground: bool, ready_seconds: float) -> None:
    """Start the pipeline on this machine, and return when all of it is ready.

    What is missing (PostgreSQL, Redis, ministack) is fetched into .cache, never installed. Everything that is kept
    lies in the state folder; `. .spillway/env` points clients and the AWS command line at this stack.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}")

    try:
        made = prepare(_folder(state_dir), free_ports=free_ports, parts=parts, say=say)
    except AlreadyUp as exc:
        click.echo(str(exc))
        return
    stack = Stack(made.folder, made.endpoints, made.ports)
    with _ended_by_signals(stack) as ended:
        stack.launch(tied=foreground)
        try:
            stack.wait_all_ready(ready_seconds, say)
        except BaseException:
            stack.stop(say)
            raise
        _show(stack)
        click.echo(f"\nFor clients: . {stack.folder.env}")
        while foreground and not ended() and stack.running():
            time.sleep(FOREGROUND_POLL_SECONDS)
        if foreground:
            stack.stop(say)
        else:
            stack.leave_running()


@contextmanager
def _ended_by_signals(stack: Stack) -> Iterator[Callable[[], bool]]:
    """SIGTERM ends like Ctrl-C. A second signal, while draining, is passed on and so ends all at once."""
    count = 0

    def asked(*_: object) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise KeyboardInterrupt
        stack.signal(signal.SIGTERM)

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count > 0
    except KeyboardInterrupt:
        click.echo("\nending")
        stack.stop(lambda text: click.echo(text))
        sys.exit(128 + signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@_state_option
@_plain_errors
def down(state_dir: Path | None) -> None:
    """Drain and end everything of a state folder, in the order of the path: the doors first.

    Works as well when the supervisor has died; what it may have left is found by pid and start time. Stored events stay.
    """
    stack = Stack.at(_folder(state_dir))
    was_up = stack.running()
    strays = stack.stop(lambda text: click.echo(text))
    click.echo("down" if was_up else "was not up" + (f"; ended {strays} stray processes" if strays else ""))


@click.command()
@_state_option
@click.option("--json", "as_json", is_flag=True, help="For programs: endpoints and processes as one JSON object.")
@_plain_errors
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show each process: what it does, its state, pid, restarts, address and log. Exits 0 if all is ready, else 1."""
    stack = Stack.at(_folder(state_dir))
    rows = stack.processes()
    if as_json:
        up_now = stack.running()
        click.echo(json.dumps({"up": up_now, "endpoints": stack.endpoints, "processes": [asdict(row) for row in rows]}, indent=1))
    elif not rows:
        click.echo(f"no stack was ever up in {stack.folder.path}; start one by `spillway up`")
    else:
        _show(stack)
        if not stack.running():
            click.echo("\nThe stack is down; start it by `spillway up`.")
    if not stack.running() or not all(row.up for row in rows):
        sys.exit(EXIT_NOT_UP)


def _show(stack: Stack) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("process", "what", "state", "pid", "restarts", "last exit", "address"):
        table.add_column(heading, overflow="fold")
    for row in stack.processes():
        state = f"[{_COLOURS.get(row.state, 'dim')}]{row.state}"
        pid = "" if row.pid is None else str(row.pid)
        table.add_row(row.name, row.about, state, pid, str(row.restarts), row.last_exit, row.address)
    Console().print(table)
    click.echo(f"\nLogs: {stack.folder.logs}/<process>.log")


@click.command()
@_plain_errors
def doctor() -> None:
    """Tell what this machine lacks for a local stack, and how to get it. Exits 1 if something is missing."""
    found = findings(cache_dir(os.environ), wanted_ports(PARTS, load(StackSettings)))
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "verdict", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(each.what, f"[{_COLOURS[each.verdict]}]{each.verdict}", each.detail, each.remedy)
    Console().print(table)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    if any(each.verdict == "missing" for each in found):
        sys.exit(EXIT_NOT_UP)


COMMANDS: tuple[click.Command, ...] = (up, down, status, doctor)
