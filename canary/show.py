"""A report for the terminal: a row per exit and door, its last hour as a strip, what must not happen, and cases by name."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from canary.report import Outcome, Report

COLOURS = {Outcome.HELD: "green", Outcome.CONVICTED: "bold red", Outcome.UNKNOWN: "yellow"}
EXIT_CODES = {Outcome.HELD: 0, Outcome.CONVICTED: 1, Outcome.UNKNOWN: 2}
# By letter of a strip: how it is drawn. A delivered minute is low, so that the others stand out.
_DRAWN = {
    "d": ("▂", "green"), "r": ("▂", "green"), ".": ("·", "dim"), "?": ("?", "yellow"), "l": ("▄", "yellow"), "2": ("▆", "red"),
    "c": ("█", "red"), "p": ("█", "magenta"), "x": ("█", "bold red"), " ": (" ", ""),
}  # fmt: skip
_VERDICTS = {"delivered": "green", "reordered": "green", "waiting": "dim", "unknown": "yellow", "late": "yellow"}
CASES_SHOWN = 10


def render(report: Report) -> Group:
    outcome = Outcome(report.outcome)
    parts: list[Any] = [Text(f"{outcome.value.upper()}: {report.sentence}", COLOURS[outcome]), _rows(report), _checks(report)]
    if report.cases:
        parts.append(_cases(report))
    doors = "; ".join(f"{door} door {words}" for door, words in report.doors)
    about = f"{report.sent} probes sent, {report.pending} under way, every {report.interval_seconds:g} s; {doors}."
    return Group(*parts, Text(about, "dim"))


def show(console: Console, report: Report) -> int:
    """Print it; returns the exit code."""
    console.print(render(report), soft_wrap=False)
    return EXIT_CODES[Outcome(report.outcome)]


def _rows(report: Report) -> Table:
    table = Table(show_edge=False)
    for column, side in (("exit", "left"), ("door", "left"), ("now", "left"), ("delivered", "right"), ("p50", "right"),
                         ("p99", "right"), ("due", "right"), ("last hour, a minute each", "left")):  # fmt: skip
        table.add_column(column, justify="right" if side == "right" else "left", no_wrap=True)
    for row in report.rows:
        now = Text(row.verdict, _VERDICTS.get(row.verdict, "red"))
        if row.overdue:
            now.append(f", {row.overdue} overdue {row.oldest_overdue_seconds:.0f} s")
        if row.blind:
            now = Text(f"can't look: {row.blind[:60]}", "yellow")
        delivered = f"{row.delivered} of {row.judged}"
        fresh = [_seconds(row.fresh_p50_seconds), _seconds(row.fresh_p99_seconds), f"{row.due_seconds:.0f} s"]
        table.add_row(row.exit, row.door, now, delivered, *fresh, strip(row.fine))
    return table


def strip(letters: str) -> Text:
    drawn = Text()
    for letter in letters:
        sign, style = _DRAWN.get(letter, ("?", "yellow"))
        drawn.append(sign, style)
    return drawn


def _checks(report: Report) -> Table:
    table = Table(show_edge=False)
    for column in ("must not happen", "", "what was seen"):
        table.add_column(column, overflow="fold")
    for check in report.checks:
        table.add_row(check.name, Text(check.verdict, COLOURS.get(Outcome(check.verdict), "")), check.sentence)
    return table


def _cases(report: Report) -> Table:
    table = Table(show_edge=False)
    for column in ("when (UTC)", "event", "door", "exit", "verdict", ""):
        table.add_column(column, overflow="fold")
    for case in report.cases[:CASES_SHOWN]:
        at = datetime.fromtimestamp(case.at, UTC).strftime("%H:%M:%S")
        table.add_row(at, case.event, case.door, case.exit, Text(case.verdict, _VERDICTS.get(case.verdict, "red")), case.detail)
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
