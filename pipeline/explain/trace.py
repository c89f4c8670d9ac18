"""`spillway trace TRACE_ID`."""

import json
import os
import time

import click
from rich.console import Console
from rich.text import Text

from pipeline.explain.as_json import trace_json
from pipeline.explain.settings import StoreAddress, store_at
from pipeline.explain.show import PIPED_CHARS, plain, show_trace
from pipeline.explain.told import of_trace
from telemetry.store_client import StoreError
from telemetry.tracing import parse_traceparent

EXIT_ABSENT, EXIT_UNKNOWN = 1, 2
TRACE_DIGITS = 32
# Tempo leaves out leading zeros; with so many digits an id is whole, and no beginning of one.
_DIGITS_MIN = 24


def _trace_id(_: click.Context, __: click.Parameter, text: str) -> str:
    context = parse_traceparent(text)
    if context is not None:
        return f"{context[0]:0{TRACE_DIGITS}x}"
    digits = text.lower()
    if not digits or set(digits) - set("0123456789abcdef") or len(digits) > TRACE_DIGITS or not int(digits, 16):
        raise click.BadParameter(
            f"{plain(text)!r} is no trace id, which is {TRACE_DIGITS} hexadecimal digits; by an event's id ask `spillway explain`"
        )
    if len(digits) < _DIGITS_MIN:
        raise click.BadParameter(
            f"{digits} is the beginning of a trace id at most: a store finds whole ones only, {TRACE_DIGITS} hexadecimal digits"
        )
    return digits.zfill(TRACE_DIGITS)


@click.command()
@click.argument("trace_id", callback=_trace_id)
@click.option("--store", help="Address of the trace store, or of a Tempo. [default: SPILLWAY_STORE_URL]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def trace(trace_id: str, store: str | None, as_json: bool) -> None:
    """Show the whole journey of a trace: the time at each hop, where it waits or died, and why.

    TRACE_ID is 32 hexadecimal digits, or a whole `traceparent`. Of a batch's trace its events are shown, with their traces.

    Exit code 0: found. 1: the store does not know this trace. 2: not known, since the store could not be asked.
    """
    asked = store_at(StoreAddress.of(store))
    try:
        told = of_trace(asked, trace_id, time.time())
    except StoreError as exc:
        click.echo(f"UNKNOWN: {plain(exc)}", err=True)
        raise SystemExit(EXIT_UNKNOWN) from exc
    if told is None:
        click.echo(_absent(trace_id, asked.url), err=True)
        raise SystemExit(EXIT_ABSENT)
    if as_json:
        click.echo(json.dumps(trace_json(told), indent=2))
        return
    console = Console(width=None if os.isatty(1) else PIPED_CHARS, highlight=False)
    console.print(Text.assemble("Trace ", (trace_id, "bold"), f" in the store at {plain(asked.url)}"))
    if not told.fates and not told.batches and not told.others:
        console.print("No span of it, but log lines: its event was not to be traced, or its spans are on their way.")
    show_trace(console, told)


def _absent(trace_id: str, url: str) -> str:
    return (
        f"The store at {plain(url)} has no span and no log line of trace {trace_id}.\n"
        "That may be because its event was not to be traced (about one in two thousand is, and all of the canary, failed, slow), "
        "because it is older than what the store keeps, because its spans are still on their way (some seconds), "
        "or because the id is another store's.\n"
        "Where the event itself is, `spillway explain EVENT_ID` says without any trace."
    )


COMMANDS: tuple[click.Command, ...] = (trace,)
