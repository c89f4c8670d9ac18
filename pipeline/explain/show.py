"""Fates, batches and log lines as blocks of a terminal.

Rules. Everything that an event brought (ids, reasons, fields) is shown as plain text: no markup of it is read, and what is not
printable is written as an escape, so that no event can colour, move or hide anything in the reader's terminal. A bar's axis is
that of its block and ends with the last hop; the backup, which Firehose writes minutes later, is cut off there.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.explain.fate import SENT_AGAIN_SECONDS_MIN, Became, Fate
from pipeline.explain.path import BACKUP, State, Step
from pipeline.explain.told import Batch, LastSign, Told
from pipeline.explain.verdict import advice, outcome, seconds_text, sentence
from telemetry.journey import Span, journey
from telemetry.store_client import Line

# Blocks that are shown; --json has all.
EVENTS_MAX = 20
TEXT_CHARS_MAX = 300
SENTENCE_CHARS_MAX = 2_000
BAR_CHARS = 28
# On a terminal narrower than this a bar is half as long, and of a sequence number's 56 digits the last are shown.
WIDE_CHARS_MIN = 120
DIGITS_SHOWN = 8
# Where nobody looks, a row is one line.
PIPED_CHARS = 260
_MARKS = {"wait": ("·", "."), "work": ("█", "#"), "rebuilt": ("▒", "="), "beyond": ("→", ">")}
_STYLES = {State.ENDED: "red", State.FAILED: "red", State.WAITS: "yellow", State.MISSING: "yellow"}
_FATE_STYLES = {Became.DELIVERED: "green", Became.WAITS: "yellow", Became.UNTOLD: "yellow", Became.SEND_AGAIN: "yellow"}
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "red"}
_COUNTS = {
    "messaging.batch.message_count": "messages",
    "spillway.batch.records": "records",
    "spillway.etl.rows": "rows loaded",
    "spillway.etl.duplicates": "duplicates",
}
# Said elsewhere in a line's row.
_SAID_APART = frozenset(("part", "worker", "level", "event", "time", "trace_id"))


def plain(value: object, chars_max: int = TEXT_CHARS_MAX) -> str:
    """A text from outside, fit for a terminal."""
    text = str(value)
    cut = text if len(text) <= chars_max else text[:chars_max] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def clock(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def show_trace(console: Console, told: Told) -> None:
    """All that is known of one trace."""
    for fate in _most_telling(told.fates)[:EVENTS_MAX]:
        show_fate(console, fate, told.last_signs)
    if len(told.fates) > EVENTS_MAX:
        counts = {became: sum(fate.became is became for fate in told.fates) for became in Became}
        every = ", ".join(f"{count} {became.value}" for became, count in counts.items() if count)
        console.print(f"\n{len(told.fates)} events in all: {every}. Those that are not shown are in --json.")
    for batch in told.batches:
        show_batch(console, batch)
    if told.others:
        console.print("\nOther spans", style="bold")
        for span in told.others[:EVENTS_MAX]:
            console.print(
                Text(f"  {plain(span.name)}  {plain(span.worker)}  {seconds_text(span.seconds)}  {_failure(span)}".rstrip())
            )
    show_lines(console, told)


def show_fate(console: Console, fate: Fate, last_signs: Sequence[LastSign] = ()) -> None:
    console.print()
    console.print(_headline(fate), soft_wrap=True)
    console.print(_rows(console, fate))
    said = [Text(plain(sentence(fate), SENTENCE_CHARS_MAX), _FATE_STYLES.get(fate.became, "red"))]
    if fate.became is Became.WAITS:
        said += [Text(plain(sign.text, SENTENCE_CHARS_MAX)) for sign in last_signs if sign.hop == fate.at]
    said += [Text(plain(todo, SENTENCE_CHARS_MAX))] if (todo := advice(fate)) else []
    for text in said:
        console.print(text, soft_wrap=True)  # not broken up: commands in it are to be pasted


def show_batch(console: Console, batch: Batch) -> None:
    console.print()
    span = batch.span
    console.print(Text.assemble(("Batch ", "bold"), plain(span.name), f" at {plain(span.hop)}"))
    waited_seconds = journey(span.trace_id, [span]).bars[0].waited_seconds
    facts = [f"began {clock(span.began_ns)} UTC", f"took {seconds_text(span.seconds)}", plain(span.worker)]
    facts += [f"waited {seconds_text(waited_seconds)}"] if waited_seconds else []
    facts += [f"{plain(span.attributes[name])} {words}" for name, words in _COUNTS.items() if name in span.attributes]
    console.print(Text("  " + ", ".join(fact for fact in facts if fact)))
    if span.failed:
        console.print(Text(f"  {_failure(span)}", "red"))
    table = _table(console, "event", "trace", "here", "in the end")
    for linked in batch.linked:
        table.add_row(
            Text(plain(linked.event_id) or "?"),
            Text(linked.trace_id),
            Text(plain(linked.here)),
            Text(plain(linked.became), _FATE_STYLES.get(linked.fate.became, "red") if linked.fate else ""),
        )
    if batch.linked:
        console.print(table)
    traced = span.attributes.get("spillway.batch.traced_events", "")
    if traced.isdigit() and int(traced) > len(batch.linked):
        console.print(f"  {traced} of its events are traced; {len(batch.linked)} are linked.")


def show_lines(console: Console, told: Told) -> None:
    console.print()
    if told.lines_unknown:
        console.print(Text(f"Log lines: {plain(told.lines_unknown)}", "yellow"))
    elif not told.lines:
        console.print("Log lines: none")
    else:
        console.print("Log lines", style="bold")
        table = _table(console, "UTC", "level", "worker", "what", header=False)
        for line in told.lines:
            style = _LEVEL_STYLES.get(line.level, "")
            table.add_row(clock(line.time_ns), Text(plain(line.level), style), Text(plain(line.worker)), _words(line))
        console.print(table)


def _most_telling(fates: Iterable[Fate]) -> list[Fate]:
    """Those that are not delivered first; else as they began."""
    return sorted(fates, key=lambda fate: fate.became is Became.DELIVERED)


def _headline(fate: Fate) -> Text:
    parts = [("source", fate.source), ("tenant", fate.tenant), ("of", fate.type)]
    said = "".join(f", {name} {plain(value)}" for name, value in parts if value)
    return Text.assemble(("Event ", "bold"), (plain(fate.id), "bold"), said)


def _rows(console: Console, fate: Fate) -> Table:
    table = _table(console, "hop", "worker", "waited", "took", "", "outcome")
    wide = console.width >= WIDE_CHARS_MIN
    axis = Axis.of(fate, BAR_CHARS if wide else BAR_CHARS // 2)
    for step in fate.steps:
        name = f"  {step.hop.split('/', 1)[-1]}" if step.part else step.hop
        style = _STYLES.get(step.state, "" if step.span else "dim")
        span = step.span
        table.add_row(
            Text(plain(name), style),
            Text(plain(span.worker) if span else ""),
            Text(seconds_text(step.waited_seconds) if span and step.waited_seconds else ""),
            Text(seconds_text(step.took_seconds) if span else ""),
            Text(bar(step, axis, console.encoding), style),
            Text(plain(_outcome(step, wide)), style),
        )
    return table


def _outcome(step: Step, wide: bool) -> str:
    span = step.span
    if span is None:
        return _silence(step)
    words = [outcome(span, ended=step.state is State.ENDED)]
    if step.skew_seconds:
        why = "it was sent again" if step.skew_seconds >= SENT_AGAIN_SECONDS_MIN else "clocks differ, or it was sent twice"
        words.append(f"began {seconds_text(step.skew_seconds)} before the hop before it: {why}")
    said = ", ".join(word for word in words if word)
    sequence_number = span.attributes.get("messaging.aws_kinesis.sequence_number", "")
    cut = not wide and len(sequence_number) > DIGITS_SHOWN
    return said.replace(sequence_number, f"…{sequence_number[-DIGITS_SHOWN:]}") if cut else said


def _silence(step: Step) -> str:
    match step.state:
        case State.WAITS:
            overdue = ", overdue" if step.overdue else ""
            return f"waits for {step.hop}{overdue} (the event's last sign was {seconds_text(step.since_seconds)} ago)"
        case State.MISSING:
            return "missing: no span, though the event went on"
        case State.NEVER:
            return "never reached"
        case State.SILENT:
            return "says nothing: it was not to be traced"
    return "not yet"


class Axis:
    """The stretch of time that a block's bars share, in cells."""

    def __init__(self, began_ns: int, ended_ns: int, cells: int = BAR_CHARS) -> None:
        self._began_ns, self._whole_ns, self.cells = began_ns, max(1, ended_ns - began_ns), cells

    @classmethod
    def of(cls, fate: Fate, cells: int = BAR_CHARS) -> "Axis":
        steps = [step for step in fate.steps if step.span is not None]
        main = [step for step in steps if not step.hop.startswith(BACKUP)] or steps
        begins = [step.span.began_ns - int(step.waited_seconds * 1e9) for step in main if step.span]
        return cls(min(begins, default=0), max((step.span.ended_ns for step in main if step.span), default=0), cells)

    def cell(self, at_ns: float) -> int:
        return round((at_ns - self._began_ns) / self._whole_ns * self.cells)


def bar(step: Step, axis: Axis, encoding: str = "utf-8") -> str:
    """Waiting and work on the axis. Work has a cell at least; what lies beyond the axis ends in an arrow."""
    span = step.span
    if span is None:
        return ""
    mark = {name: pair[0 if encoding.lower().startswith("utf") else 1] for name, pair in _MARKS.items()}
    begin = min(max(0, axis.cell(span.began_ns)), axis.cells - 1)
    end = min(max(begin + 1, axis.cell(span.ended_ns)), axis.cells)
    waited_from = min(max(0, axis.cell(span.began_ns - step.waited_seconds * 1e9)), begin)
    cells = " " * waited_from + mark["wait"] * (begin - waited_from)
    cells += mark["rebuilt" if span.rebuilt else "work"] * (end - begin)
    return cells[:-1] + mark["beyond"] if axis.cell(span.ended_ns) > axis.cells else cells


def _table(console: Console, *columns: str, header: bool = True) -> Table:
    """Lines and colours for people; for a pipe words alone."""
    looks = box.SIMPLE_HEAD if console.is_terminal and header else None
    table = Table(box=looks, show_edge=False, show_header=header, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        numbers = column in ("waited", "took")
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers or column == "", overflow="fold")
    return table


def _words(line: Line) -> Text:
    fields = [
        f"{plain(name)}={plain(value)}"
        for name, value in line.fields.items()
        if name not in _SAID_APART and value not in ("", None)
    ]
    return Text.assemble((plain(line.event), "bold"), *[f" {field}" for field in fields])


def _failure(span: Span) -> str:
    return f"failed: {plain(span.error)}" if span.failed else ""
