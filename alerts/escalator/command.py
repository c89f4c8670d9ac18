"""`spillway pages`: list, show, ack, resolve. Exit codes of `list`: 0 nothing is open, 1 pages are open, 2 not known."""

import getpass
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.escalator.words import utc

URL_VARIABLE, DEFAULT_URL = "SPILLWAY_ESCALATOR_URL", "http://127.0.0.1:9095"
TOKEN_VARIABLE = "SPILLWAY_ESCALATOR_TOKEN"
EXIT_OPEN, EXIT_UNKNOWN = 1, 2
ASK_SECONDS_MAX = 5.0
PIPED_CHARS = 190
_COLOURS = {"open": "bold red", "acknowledged": "yellow", "resolved": "green"}

_url = click.option("--url", help=f"The escalator. [default: {URL_VARIABLE}, else {DEFAULT_URL}]")
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_who = click.option("--who", default=getpass.getuser, show_default="your user", help="Who takes it.")


@click.group(invoke_without_command=True)
@click.pass_context
def pages(ctx: click.Context) -> None:
    """Who is paged, by what, and what comes next: list, show, acknowledge, resolve."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command)


@pages.command("list")
@click.option("--state", type=click.Choice(("open", "closed", "all")), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@_as_json
@_url
def list_command(state: str = "open", limit: int = 50, as_json: bool = False, url: str | None = None) -> None:
    """Pages, the newest first, with what comes next, and whether the path of a page works."""
    found, health = _ask(url, f"/api/pages?state={state}&limit={limit}"), _ask(url, "/api/health")
    if as_json:
        click.echo(json.dumps({**found, "health": health}, indent=1))
    else:
        _print_list(found["pages"], state)
        click.echo(health["said"])
    if any(page["state"] == "open" for page in found["pages"]):
        raise SystemExit(EXIT_OPEN)


@pages.command()
@click.argument("key")
@_as_json
@_url
def show(key: str, as_json: bool, url: str | None) -> None:
    """One page: the facts, the links, and everybody who was told."""
    _print_page(_ask(url, f"/api/pages/{urllib.parse.quote(key, safe='')}"), as_json)


@pages.command()
@click.argument("keys", nargs=-1, required=True)
@_who
@_as_json
@_url
def ack(keys: tuple[str, ...], who: str, as_json: bool, url: str | None) -> None:
    """Take a page: nobody else is told, and PagerDuty knows. Again, it changes nothing."""
    _act("acknowledge", keys, who, as_json, url)


@pages.command()
@click.argument("keys", nargs=-1, required=True)
@_who
@_as_json
@_url
def resolve(keys: tuple[str, ...], who: str, as_json: bool, url: str | None) -> None:
    """End a page by hand. If its alert still fires, the next message of Alertmanager opens a new one."""
    _act("resolve", keys, who, as_json, url)


def _act(action: str, keys: tuple[str, ...], who: str, as_json: bool, url: str | None) -> None:
    for key in keys:
        page = _ask(url, f"/api/pages/{urllib.parse.quote(key, safe='')}/{action}", {"who": who})
        if as_json:
            click.echo(json.dumps(page, indent=1))
        else:
            click.echo(f"{page['key']}: {page['state']}. Next: {page['next']}")


def _ask(url: str | None, path: str, body: Any = None) -> Any:
    where = (url or os.environ.get(URL_VARIABLE, "") or DEFAULT_URL).rstrip("/")
    headers = {"content-type": "application/json"}
    if token := os.environ.get(TOKEN_VARIABLE, ""):
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(where + path, data, headers), timeout=ASK_SECONDS_MAX) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as exc:
        raise click.ClickException(
            exc.read(1000).decode(errors="replace").strip() or f"the escalator answered {exc.code}"
        ) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        click.echo(
            f"UNKNOWN: the escalator at {where} does not answer ({reason}): run `spillway up`, or name it by --url", err=True
        )
        raise SystemExit(EXIT_UNKNOWN) from exc


def _print_list(found: list[dict[str, Any]], state: str) -> None:
    console = _console()
    if not found:
        console.print(f"No page is {state}." if state != "all" else "There was never a page.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("key", "state", "since", "what", "next"):
        table.add_column(title, overflow="fold")
    for page in found:
        state_text = Text(page["state"], style=_COLOURS.get(page["state"], ""))
        summary = page["annotations"].get("summary", page["alert"])
        table.add_row(page["key"], state_text, utc(page["starts_at"]), summary, page["next"])
    console.print(table)


def _print_page(page: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(page, indent=1))
        return
    console, said = _console(), page["annotations"]
    console.print(Text(f"{page['key']}: {page['state']}", style=_COLOURS.get(page["state"], "")))
    for name, text in (
        ("what", said.get("summary", "")), ("users feel", said.get("feels", "")), ("since", utc(page["starts_at"])),
        ("cause", said.get("cause", "")), ("hop", page["labels"].get("hop", "")), ("budget left", said.get("budget", "")),
        ("runbook", said.get("runbook", "")), ("dashboard", said.get("dashboard", "")), ("traces", said.get("trace", "")),
        ("policy", f"{page['policy']}, level {page['level']} of {page['levels']}, round {page['round']} of {page['rounds']}"),
        ("next", page["next"]),
    ):  # fmt: skip
        if text:
            console.print(Text(f"{name + ':':<13}{text}"))
    table = Table(box=None, pad_edge=False, title="told", title_justify="left")
    for title in ("at", "who", "channel", "what", "outcome"):
        table.add_column(title, overflow="fold")
    for told in page["notified"]:
        at = datetime.fromtimestamp(told["at"], UTC).strftime("%H:%M:%S UTC")
        outcome = f"{told['outcome']} {told['detail']}".strip()
        table.add_row(at, told["who"], told["channel"], f"{told['kind']} (level {told['level']})", Text(outcome))
    console.print(table)


def _console() -> Console:
    return Console(width=None if os.isatty(1) else PIPED_CHARS, highlight=False)


COMMANDS: tuple[click.Command, ...] = (pages,)
