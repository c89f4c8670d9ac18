"""Runbooks: one an alert, of one shape, and everything in them that can be run, asked or followed exists."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dashboards.console.markdown import markdown
from dashboards.console.searches import Question, log_form
from pipeline.doors.settings import DoorSettings
from pipeline.etl.command import lake as lake_command
from pipeline.etl.lake import Lake
from pipeline.stack import prepare
from pipeline.stack.plan import StackSettings
from telemetry.settings import TelemetrySettings
from tests.alerts.runbook_words import PAGES, READS, SHELL, Runbook, alert_names, complaints, items, path_of, reads_only, runbooks
from tests.dashboards.prometheus import promtool

BOOKS = runbooks()
ALERTS = alert_names()
CONSOLE = Path(__file__).parents[2] / "dashboards" / "console"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert sorted(ALERTS) == sorted(BOOKS)


@pytest.mark.parametrize("name", sorted(BOOKS))
def test_a_runbook_is_of_the_shape_and_what_it_says_exists(name: str) -> None:
    assert [] == complaints(BOOKS[name], ALERTS)


def test_every_question_to_prometheus_is_one(tmp_path: Path) -> None:
    asked = [command.query for book in BOOKS.values() for command in book.commands if command.query]
    assert len(asked) > len(BOOKS)
    rules = [{"record": f"question:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "runbooks", "rules": rules}]}))
    assert "" == promtool("check", "rules", str(tmp_path / "rules.json"))


def test_a_question_that_is_none_is_seen(tmp_path: Path) -> None:
    wrong = [{"record": "question:0", "expr": "sum by (door (spillway_door_events_total)"}]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "runbooks", "rules": wrong}]}))
    assert "could not parse expression" in promtool("check", "rules", str(tmp_path / "rules.json"))


def test_every_question_to_the_lake_runs_on_a_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(f"file://{tmp_path}/events", "us-east-1")
    lake.ensure({})
    monkeypatch.setenv("SPILLWAY_ETL_LAKE_URI", lake.uri)
    asked = {command.text: command for book in BOOKS.values() for command in book.commands if "spillway lake" in command.text}
    ran = {text: CliRunner().invoke(lake_command, command.words()[2:]) for text, command in asked.items() if reads_only(command)}
    assert {} == {text: done.output for text, done in ran.items() if done.exit_code}
    assert 1 < sum("SELECT" in text for text in ran)


@pytest.mark.parametrize("name", sorted(BOOKS))
def test_the_console_shows_all_of_a_runbook(name: str) -> None:
    book = BOOKS[name]
    shown = markdown(book.text)
    said = book.commands, book.names
    assert sum(len(each) for each in said) == shown.count("<code>")
    assert len(book.links) == shown.count("<a ")
    assert (1, len(book.sections) + 1) == (shown.count("<table>"), len(re.findall("<h[23]>", shown)))
    listed = [item for _, body in book.sections for item in items(body) if re.match(r"\d+\. |- ", item)]
    assert len(listed) == shown.count("<li>")
    assert "`" not in shown


def test_runbooks_lead_to_pages_that_the_console_has() -> None:
    routes = set(re.findall(r'\b(?:Route|get)\("(/[^"{]*)"', "".join(file.read_text() for file in CONSOLE.glob("*.py"))))
    forms = {"/traces": set(Question.__dataclass_fields__), "/logs": set(re.findall(r'name="(\w+)"', log_form({})))}
    assert set() == set(PAGES) - routes
    assert [] == [(page, known - forms.get(page, set())) for page, known in PAGES.items() if known - forms.get(page, set())]


def test_runbooks_use_variables_that_the_stack_sets_and_settings_that_there_are() -> None:
    sets = Path(prepare.__file__).read_text()
    assert set() == {name for name in SHELL if f'"{name}"' not in sets}
    settings = {
        f"SPILLWAY_{section.SECTION}_{field}".upper()
        for section in (StackSettings, DoorSettings, TelemetrySettings)
        for field in section.__dataclass_fields__
    }
    # One that ends so is the beginning of several.
    used = {name for book in BOOKS.values() for name in re.findall(r"SPILLWAY_[A-Z_]+", book.text) if not name.endswith("_")}
    assert set() == {name for name in used if name not in settings and f'"{name}"' not in sets}


def test_what_only_reads_is_a_command_with_that_option() -> None:
    assert [] == [known for known, option in READS.items() if path_of([*known.split(), *option.split()]) != known]


# -- mutants

GOOD = BOOKS["CanaryLost"]
FIRST_CAUSE = "| a worker dies again and again |"


def without(heading: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"^## {heading}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)


def emptied(heading: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"(^## {heading}\n).*?(?=^## |\Z)", r"\1\n", text, flags=re.MULTILINE | re.DOTALL)


def instead(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return changed


def step(command: str) -> Callable[[str], str]:
    """Another first step."""
    return instead("`spillway canary status`: the first line names", f"{command}: the first line names")


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (without("Mend"), "has the headings"),
        (without("When to escalate"), "has the headings"),
        (instead("## Mend", "## How to mend"), "has the headings"),
        (emptied("Mend"), "has nothing under 'Mend'"),
        (emptied("What users feel"), "has nothing under 'What users feel'"),
        (instead("# CanaryLost", "# CanaryLate"), "begins with '# CanaryLate'"),
        (lambda text: "# CanaryLost\n\n" + text[text.index("## What") :], "says nowhere what fired"),
        (instead("2. `curl", "3. `curl"), "has the steps"),
        (instead("\n\n## Likely", "\n6. `spillway status`: one too many.\n\n## Likely"), "has the steps"),
        (instead("1. `spillway canary status`: the first line", "1. Think: the first line"), "a step without a command"),
        (lambda text: re.sub(r"(1\. `[^`]*`).*?\n2", r"\1\n2", text, flags=re.DOTALL), "does not say what is meant"),
        (instead("| cause | how to tell |", "| cause | who says so |"), "table of causes"),
        (instead(FIRST_CAUSE, f"{FIRST_CAUSE} one too many |"), "has a row of 4 cells"),
        (instead(FIRST_CAUSE, "| |"), "has a row of 3 cells"),
        (step("`spilway status`"), "no known program"),
        (step("`spillway state`"), "there is no command `spillway state`"),
        (step("`spillway canary state`"), "No such command 'state'"),
        (step("`spillway status --jason`"), "No such option '--jason'"),
        (step("`spillway explain`"), "Missing argument 'EVENT_ID'"),
        (step("`spillway explain EVENT_ID TENANT`"), "unexpected extra argument"),
        (step("`spillway explain EVENT_NAME`"), "no example of EVENT_NAME"),
        (step("`spillway dlq list --limit many`"), "'many' is not a valid integer"),
        (step("`spillway ledger verify --from START`"), "Missing option '--to'"),
        (step("`spillway ledger verify --from yesterday --to END`"), "'yesterday' does not match"),
        (step("`spillway pages open`"), "No such command 'open'"),
        (step("`spillway slo --all`"), "No such option '--all'"),
        (step("`spillway replay --stream events`"), "that changes something"),
        (step("`spillway lake compact`"), "that changes something"),
        (step("`spillway lake vacuum`"), "that changes something"),
        (step('`rm "$SPILLWAY_STATE_DIR/hold/etl"`'), "that changes something"),
        (step('(AWS) `aws kinesis delete-stream --stream-name events`'), "that changes something"),
        (step("`aws kinesis list-streams`"), "without '(AWS)' before it"),
        (step('`tail -n 5 "$SPILLWAY_FOLDER/x"`'), "uses $SPILLWAY_FOLDER"),
        (step('`tail -n 5 "$SPILLWAY_STATE_DIR/logs/collector.log"`'), "names a part 'collector'"),
        (step("`tail -n 5 'x`"), "no shell takes"),
        (instead("`redis`", "`redis"), "has a backtick too many"),
        (instead("spillway_canary_blamed_events", "spillway_canary_blame"), "no metric spillway_canary_blame"),
        (instead("max by (hop) (", "max by (shard) ("), "nothing has a label shard"),
        (instead("-sG", "-s"), "of another form"),
        (instead("names the hop", "names by `spillway_nothing_total` the hop"), "names spillway_nothing_total"),
        (instead("(/runbooks/RedisErrors)", "(/runbooks/RedisTrouble)"), "dead link, /runbooks/RedisTrouble"),
        (instead("(/runbooks/RedisErrors)", "(/d/spillway-hop-radis)"), "dead link, /d/spillway-hop-radis"),
        (instead("(/logs?level=error)", "(/lines)"), "dead link, /lines"),
        (instead("(/logs?level=error)", "(/logs?severity=error)"), "dead link, /logs?severity=error"),
        (lambda text: text.replace("spillway ledger", "spillway status"), "does not ask the ledger"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_runbook_is_seen(mutate: Callable[[str], str], expected: str) -> None:
    found = complaints(Runbook("CanaryLost", mutate(GOOD.text)), ALERTS)
    assert any(expected in said for said in found), found


def test_a_command_that_only_reads_is_told_from_its_neighbour() -> None:
    assert ["lake", "lake compact", "ledger verify"] == [
        path_of(words.split()) for words in ("lake --json", "lake compact", "ledger verify --from a --to b")
    ]


# -- AWS


def aws_commands() -> Iterator[tuple[str, list[str]]]:
    for book in BOOKS.values():
        for command in book.commands:
            words = command.words()
            if words[:1] == ["aws"] and words[1] != "s3":
                yield book.name, words


def aws_complaints(words: list[str], load: Callable[[str], Any]) -> list[str]:
    """Against the service's own description: is there such a call, are its options its fields, are those it needs there?"""
    from botocore import xform_name
    from botocore.exceptions import UnknownServiceError
    from botocore.model import ServiceModel

    _, service, call, *options = words
    try:
        model = ServiceModel(load({"s3api": "s3"}.get(service, service)))
    except UnknownServiceError:
        return [f"AWS has no service {service}"]
    calls = {xform_name(name, "-"): name for name in model.operation_names}
    if call not in calls:
        return [f"{service} has no call {call}"]
    shape = model.operation_model(calls[call]).input_shape
    fields = {f"--{xform_name(field, '-')}": field for field in shape.members} if shape else {}
    given = {option.removeprefix("--no-") if option.startswith("--no-") else option for option in options if option[:2] == "--"}
    needed = {f"--{xform_name(field, '-')}" for field in shape.required_members} if shape else set()
    return [f"{call} has no option {option}" for option in sorted(given - set(fields))] + [
        f"{call} needs {option}" for option in sorted(needed - given)
    ]


def test_every_call_of_aws_is_in_the_services_own_description_with_its_options() -> None:
    from functools import cache

    from botocore.loaders import Loader

    load = cache(lambda service: Loader().load_service_model(service, "service-2"))
    found = [(book, complaint) for book, words in aws_commands() for complaint in aws_complaints(words, load)]
    assert [] == found
    assert len(list(aws_commands())) > 20
    assert ["list-streams has no option --all"] == aws_complaints(["aws", "kinesis", "list-streams", "--all"], load)
    assert ["split-shard needs --new-starting-hash-key"] == aws_complaints(
        ["aws", "kinesis", "split-shard", "--stream-name", "STREAM", "--shard-to-split", "SHARD"], load
    )
    assert ["kinesis has no call split-stream"] == aws_complaints(["aws", "kinesis", "split-stream"], load)
