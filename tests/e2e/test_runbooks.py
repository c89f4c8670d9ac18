"""What runbooks tell somebody to look at runs on a live stack, and ends as its help says: all commands that only read.

What a reader fills in is filled in from the stack: an event that was acknowledged, a dead letter. What needs AWS or an open page,
or is about the machine itself, is left out.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import click
import pytest

from loadtests.flights.dataset import month
from loadtests.flights.events import by_door
from loadtests.flights.replay import replay
from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.dead_letters.letters import PREFIX
from pipeline.stack.plan import NAMES as PARTS
from spillway import _COMMANDS, main
from tests.alerts.runbook_words import CHECKS, EXAMPLES, VERIFY, Command, reads_only, runbooks
from tests.e2e.conftest import Pipeline, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.proof, pytest.mark.timeout(900)]

RUN_SECONDS_MAX = 120
FLIGHTS, FIRST = 10, 12_000
BROKEN = {"specversion": "1.0", "id": "runbook-broken", "source": "/runbooks", "type": "spillway.events.v1.ProfileChanged",
          "subject": "1", "time": "2026-01-01T00:00:00Z", "data": {"city": "Toronto", "colour": "no such field"}}  # fmt: skip
# Of AWS; of the machine itself; a shell's own.
LEFT_OUT = ("aws", "timedatectl", "date", "df", ".")
# Codes that are in no help.
UNTOLD = {"pages list": (1, 2)}
# Questions about what need not have happened here: empty is the right answer to these.
MAY_BE_EMPTY = re.compile(r" > 0$| == 0\)$|^ALERTS|rejections_total|_findings_total|verdict!=")


def commands() -> list[Command]:
    """Each once, of all runbooks."""
    found = {
        command.text: command
        for book in runbooks().values()
        for command in book.commands
        if command.section in (CHECKS, VERIFY) and reads_only(command) and _is_there(command)
    }
    return [found[text] for text in sorted(found)]


def _is_there(command: Command) -> bool:
    """What other parts bring is run once they are there."""
    words = command.words()
    if words[0] == "spillway":
        return words[1] in _COMMANDS and words[1:3] != ["pages", "show"]
    named = re.findall(r"/logs/([\w-]+)\.log", command.text)
    return words[0] not in LEFT_OUT and all(name in PARTS for name in named)


def ends_with(words: list[str]) -> set[int]:
    """The exit codes that its help speaks of."""
    command: click.Command = main
    said = ""
    for word in words:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is None:
            break
        command, said = found, f"{said} {found.help or ''}"
    about = re.findall(r"\b[Ee]xits? (?:code )?[012].*", " ".join(said.split()))
    return {0, *UNTOLD.get(" ".join(words), ()), *(int(code) for text in about for code in re.findall(r"\b[012]\b", text))}


def complaint(command: Command, env: dict[str, str], examples: dict[str, str]) -> str:
    """What went otherwise than it should; empty if nothing did."""
    words = command.words(examples)
    ours = words[0] == "spillway"
    argv = [sys.executable, "spillway.py", *words[1:]] if ours else ["sh", "-c", command.text]
    run = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    allowed = ends_with(words[1:]) if ours else {0}
    said = run.stdout + run.stderr
    if run.returncode not in allowed or "Traceback" in said or "Error: " in run.stderr:
        return f"{command.text}: exit {run.returncode} of {sorted(allowed)}: {said[-600:]}"
    # Who has nothing to complain of writes no line.
    if not said.strip() and words[1:3] != ["dlq", "list"] and words[0] != "tail":
        return f"{command.text}: says nothing"
    if command.query:
        answer = json.loads(run.stdout)
        if answer["status"] != "success" or not (answer["data"]["result"] or MAY_BE_EMPTY.search(command.query)):
            return f"{command.text}: {run.stdout[:300]}"
    return ""


def test_help_tells_the_exit_codes() -> None:
    assert [{0, 1}, {0, 1, 2}, {0, 1, 2}, {0}, {0, 1}] == [
        ends_with(words) for words in (["status"], ["canary", "status"], ["ledger", "missing"], ["lake"], ["backup", "verify"])
    ]


def test_everything_that_runbooks_say_to_look_at_runs(pipeline: Pipeline) -> None:
    env = {**os.environ, **pipeline.env}
    pairs = list(by_door(itertools.islice(month(), FIRST, FIRST + FLIGHTS)))
    began = datetime.now(UTC)
    # They need not have arrived: somebody looks because something is not well.
    assert len(pairs) == len(replay(pairs, pipeline.doors).acknowledged)
    examples = {
        **EXAMPLES,
        "EVENT_ID": pairs[0][1].id,
        "KEY": dead_letter(pipeline),
        "START": f"{began:%Y-%m-%dT%H:%M:%S}",
        "END": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
    }
    asked = commands()
    assert len(asked) > 60
    wrong = [(command, said) for command in asked if (said := complaint(command, env, examples))]

    def right() -> bool:
        """A rate needs two scrapes, a probe some time to arrive: asked again."""
        wrong[:] = [(command, said) for command, _ in wrong if (said := complaint(command, env, examples))]
        return not wrong

    wait_until(right, lambda: "\n".join(said for _, said in wrong))


def dead_letter(pipeline: Pipeline) -> str:
    """An event that the HTTP door takes and the transcoder can't: the key of its letter."""
    address = f"{pipeline.stack.endpoints['http']}/v1/events"
    head = {"authorization": f"Bearer {pipeline.key}", "content-type": "application/cloudevents+json"}
    post = ["curl", "-sf", address, *(word for name, value in head.items() for word in ("-H", f"{name}: {value}"))]
    subprocess.run([*post, "-d", json.dumps(BROKEN)], check=True, timeout=RUN_SECONDS_MAX, capture_output=True)
    objects = S3Objects(boto3.client("s3", endpoint_url=pipeline.env["AWS_ENDPOINT_URL"]), load(Settings, pipeline.env).bucket)

    def letters() -> Iterator[str]:
        return (stored.key for stored in objects.list(f"{PREFIX}transcoder/"))

    wait_until(lambda: any(letters()), "no dead letter of the transcoder")
    return next(letters())
