"""A runbook, read as its reader would: steps, commands, questions to Prometheus, links. And what is wrong with it, in words.

A complaint says what to mend. Code with a space in it is a command; one word of code is a name. Commands are held to their own
parser, without being run: options, arguments, their kinds.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from alerts.rules import ALERTS
from pipeline.stack.plan import NAMES as PARTS
from spillway import main
from telemetry.metrics import CATALOGUE
from tests.dashboards.test_structure import complaints as wrong_names

FOLDER = Path(__file__).parents[2] / "alerts" / "runbooks"
BOARDS = Path(__file__).parents[2] / "dashboards" / "json"
HEADINGS = (
    "What users feel",
    "Check this first",
    "Likely causes",
    "Mend",
    "Verify with the ledger",
    "When to escalate",
)
CHECKS, CAUSES, VERIFY = "Check this first", "Likely causes", "Verify with the ledger"
TABLE_HEAD = ["cause", "how to tell", "mend"]
STEPS_MAX, CAUSES_MIN = 5, 3

# What a reader fills in, and an example of each.
EXAMPLES = {
    "EVENT_ID": "move-1",
    "TRACE_ID": "4bf92f3577b34da6a3ce929d0e0e4736",
    "START": "2026-11-26T01:00:00",
    "END": "2026-11-26T02:00:00",
    "KEY": "dead-letters/redactor/poison/2026/11/26/events-shardId-000000000000-1-0",
    "KEY_ID": "0123456789ab",
    "TENANT": "acme",
}
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]{2,}")

# What only reads; nothing else may stand under "Check this first". With an option: only with it.
READS = {
    **dict.fromkeys(("status", "doctor", "explain", "trace", "canary status", "ledger", "ledger missing", "ledger verify"), ""),
    **dict.fromkeys(("keys list", "dlq count", "dlq list", "dlq show", "backup ls", "backup verify", "backup cat"), ""),
    **dict.fromkeys(("lake", "lake query", "lake ddl", "pages list", "pages show", "slo"), ""),
    "lake vacuum": "--dry-run",
    "watch": "--once",
}
_READING_PROGRAMS = {".", "curl", "tail", "df", "date", "timedatectl"}
_PROGRAMS = {*_READING_PROGRAMS, "spillway", "aws", "touch", "rm", "psql"}
_AWS_READS = re.compile(r"aws \w+ (describe-|list-|get-|scan\b|ls\b)")
# What `. .spillway/env` sets, as far as runbooks use it.
SHELL = {"SPILLWAY_PROMETHEUS_URL", "SPILLWAY_STATE_DIR", "SPILLWAY_HTTP_PORT", "SPILLWAY_RDS_URL"}

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```\w*\n(.*?)^```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]\[]+)\]\(([^)\s]*)\)")
_STEP = re.compile(r"^(\d+)\. ")
_MARK = re.compile(r"^(\d+\. |- )")
_ASK = re.compile(r'curl -sG "\$SPILLWAY_PROMETHEUS_URL/api/v1/query" --data-urlencode \'query=([^\']+)\'')
_PART_FILE = re.compile(r"\$SPILLWAY_STATE_DIR/(?:logs/([\w-]+)\.log|hold/([\w-]+))")


@dataclass(frozen=True, slots=True)
class Command:
    """`before`: what stands before it in its item or paragraph."""

    section: str
    text: str
    before: str

    @property
    def query(self) -> str:
        """The question to Prometheus, if it is one."""
        asked = _ASK.fullmatch(self.text)
        return asked[1] if asked else ""

    def words(self, examples: Mapping[str, str] = EXAMPLES) -> list[str]:
        """As a shell would cut it, with examples for what the reader fills in."""
        return [examples.get(word, word) for word in shlex.split(self.text)]


@dataclass(frozen=True, slots=True)
class Runbook:
    name: str
    text: str

    @property
    def title(self) -> str:
        return self.text.splitlines()[0] if self.text else ""

    @property
    def first(self) -> str:
        """What stands between the title and the first section."""
        return _SECTION.split(self.text)[0].removeprefix(self.title).strip()

    @property
    def sections(self) -> list[tuple[str, str]]:
        parts = _SECTION.split(self.text)[1:]
        return [(heading, body.strip()) for heading, body in zip(parts[::2], parts[1::2], strict=True)]

    def section(self, heading: str) -> str:
        return dict(self.sections).get(heading, "")

    @property
    def steps(self) -> list[str]:
        return [item for item in items(self.section(CHECKS)) if _STEP.match(item)]

    @property
    def commands(self) -> list[Command]:
        found = []
        for heading, body in (("", self.first), *self.sections):
            for item in items(body):
                for code in _CODE.finditer(item):
                    lines = code[1].splitlines() if code[1] is not None else [code[2]]
                    found += [Command(heading, line, item[: code.start()]) for line in lines if _is_command(line)]
        return found

    @property
    def names(self) -> list[str]:
        """Code of one word: a metric, a label's value, a state."""
        return [code[2] for code in _CODE.finditer(self.text) if code[2] and not _is_command(code[2])]

    @property
    def links(self) -> list[str]:
        return [target for _, target in _LINK.findall(_CODE.sub("", self.text))]


def runbooks(folder: Path = FOLDER) -> dict[str, Runbook]:
    return {file.stem: Runbook(file.stem, file.read_text()) for file in sorted(folder.glob("*.md")) if file.stem != "README"}


def items(body: str) -> list[str]:
    """Items of lists, rows of tables and paragraphs, each on one line, in order."""
    found: list[str] = []
    fresh = True
    for line in body.splitlines():
        if not line.strip():
            fresh = True
        elif fresh or _MARK.match(line) or line.startswith("|"):
            found.append(line)
            fresh = line.startswith("|")
        else:
            found[-1] += f" {line.strip()}"
    return found


def _is_command(code: str) -> bool:
    return " " in code.strip() or code in _PROGRAMS


# -- complaints


def complaints(book: Runbook, alerts: frozenset[str]) -> list[str]:
    """All that is wrong with it; each says what and where."""
    return [f"{book.name}: {said}" for said in (*_shape(book), *_commands(book), *_names(book), *_links(book, alerts))]


def _shape(book: Runbook) -> Iterator[str]:
    if book.title != f"# {book.name}":
        yield f"begins with {book.title!r} and not with '# {book.name}'"
    if not book.first:
        yield "says nowhere what fired: a paragraph belongs below the title"
    headings = [heading for heading, _ in book.sections]
    if headings != list(HEADINGS):
        yield f"has the headings {headings}, not {list(HEADINGS)}"
    yield from (f"has nothing under '{heading}'" for heading, body in book.sections if not body)
    numbers = [int(step.partition(".")[0]) for step in book.steps]
    if not 1 <= len(numbers) <= STEPS_MAX or numbers != list(range(1, len(numbers) + 1)):
        yield f"has the steps {numbers}, not 1 to at most {STEPS_MAX}"
    for step in book.steps:
        if not any(_is_command(code[2] or "") for code in _CODE.finditer(step)) and not _LINK.search(step):
            yield f"has a step without a command or a page: {step[:60]}"
        if ":" not in _LINK.sub("", _CODE.sub("", step)) and " if " not in step.lower():
            yield f"has a step that does not say what is meant: {step[:60]}"
    rows = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in items(book.section(CAUSES)) if row[0] == "|"]
    if not rows or rows[0] != TABLE_HEAD:
        yield f"has a table of causes that does not begin with {TABLE_HEAD}"
    if len(rows) < CAUSES_MIN + 2:
        yield f"has less than {CAUSES_MIN} causes"
    yield from (f"has a row of {len(row)} cells: {row[0]}" for row in rows if len(row) != len(TABLE_HEAD) or not all(row))
    if not any(command.section == VERIFY and command.text.startswith("spillway ledger") for command in book.commands):
        yield "does not ask the ledger at the end"


def _commands(book: Runbook) -> Iterator[str]:
    if len(re.findall("`", book.text)) % 2:
        yield "has a backtick too many"
    for command in book.commands:
        try:
            words = command.words()
        except ValueError as exc:
            yield f"has a command that no shell takes, {exc}: {command.text}"
            continue
        yield from (f"{said}: {command.text}" for said in (*_program(command, words), *_inside(command)))


def _program(command: Command, words: list[str]) -> Iterator[str]:
    if words[0] not in _PROGRAMS:
        yield "has a command of no known program (quote what is none)"
    if words[0] == "spillway":
        yield from (f"has no example of {word} in runbook_words.EXAMPLES" for word in words if _PLACEHOLDER.fullmatch(word))
        yield from unparsable(words[1:])
    if words[0] == "aws" and "(AWS)" not in command.before:
        yield "has a command for AWS without '(AWS)' before it"
    if command.section == CHECKS and not reads_only(command):
        yield f"has a command under '{CHECKS}' that changes something"


def _inside(command: Command) -> Iterator[str]:
    """Questions, variables, files."""
    yield from wrong_names(command.query)
    if "query=" in command.text and not command.query:
        yield "has a question to Prometheus of another form than the others"
    for variable in re.findall(r"\$\{?(\w+)", command.text):
        if variable not in SHELL:
            yield f"uses ${variable}, which `. .spillway/env` does not set"
    for log, hold in _PART_FILE.findall(command.text):
        if (log or hold) not in PARTS:
            yield f"names a part {log or hold!r}, which the stack has not"


def _names(book: Runbook) -> Iterator[str]:
    known = {
        name for metric in CATALOGUE for name in (metric.name, *(f"{metric.name}_{end}" for end in ("bucket", "sum", "count")))
    }
    yield from (f"names {name}, which is no metric" for name in book.names if name.startswith("spillway_") and name not in known)


def _links(book: Runbook, alerts: frozenset[str]) -> Iterator[str]:
    for target in book.links:
        path, _, query = target.partition("?")
        asked = {pair.partition("=")[0] for pair in query.split("&") if pair}
        if target.startswith("https://"):
            continue
        if path.startswith("/runbooks/"):
            if path.removeprefix("/runbooks/") not in alerts:
                yield f"has a dead link, {target}: there is no such alert"
        elif path.startswith("/d/"):
            if not (BOARDS / f"{path.removeprefix('/d/')}.json").exists():
                yield f"has a dead link, {target}: there is no such dashboard"
        elif path not in PAGES or asked - PAGES[path]:
            yield f"has a dead link, {target}: the console has no such page"


def reads_only(command: Command) -> bool:
    words = command.words()
    if words[0] == "aws":
        return bool(_AWS_READS.match(command.text))
    if words[0] == "spillway":
        only_with = READS.get(path_of(words[1:]))
        return only_with is not None and (not only_with or only_with in words)
    return words[0] in _READING_PROGRAMS


# -- commands, held to their parsers


def path_of(words: list[str]) -> str:
    """The command's name without its words: "ledger verify"."""
    command: click.Command = main
    said: list[str] = []
    for word in words:
        found = _found(command, word)
        if found is None:
            break
        said.append(word)
        command = found
    return " ".join(said)


def unparsable(words: list[str]) -> list[str]:
    """What its parser complains of; nothing if it would run."""
    context = click.Context(main, info_name="spillway")
    command, rest = _found(main, words[0] if words else ""), words[1:]
    if command is None:
        return [f"there is no command `spillway {' '.join(words[:1])}`"]
    try:
        while True:
            context = command.make_context(command.name, rest, parent=context)
            left = [*context._protected_args, *context.args]
            if not isinstance(command, click.Group) or not left:
                return []
            _, command, rest = command.resolve_command(context, left)
            assert command is not None
    except click.MissingParameter as exc:
        # The stack's shell gives it.
        return [] if exc.param is not None and exc.param.envvar else [f"does not parse, {exc.format_message()}"]
    except click.ClickException as exc:
        return [f"does not parse, {exc.format_message()}"]


def _found(command: click.Command, word: str) -> click.Command | None:
    if not isinstance(command, click.Group):
        return None
    return command.get_command(click.Context(command), word)


# Pages of the console that runbooks lead to, and what may be asked of them.
PAGES: dict[str, set[str]] = {
    "/": set(),
    "/alerts": set(),
    "/canary": set(),
    "/ledger": set(),
    "/logs": {"q", "trace_id", "event_id", "level", "process", "since"},
    "/traces": {"of", "tenant", "hop", "status", "min_duration", "event_id", "q", "since", "start", "end"},
}


def alert_names() -> frozenset[str]:
    """Every alert, and what the escalator itself makes."""
    return frozenset(alert.name for alert in ALERTS) | {"TestPage", "PagerRefusing"}
