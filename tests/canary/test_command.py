"""`spillway canary status` and what a report is made of: its words, its exit codes, its way over the wire."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from canary.command import canary
from canary.report import Report, from_json, report
from canary.service import PATH
from canary.state import Checked
from telemetry.health import Health
from telemetry.metrics import Metrics
from tests.canary.world import World, canary_in, pass_time

CHECKS = (Checked("personal data", 1.0, "held", "none is anywhere."),)


def reported(world: World, seconds: float = 60.0) -> Report:
    """After so many seconds, which end now."""
    world = World(now=time.time() - seconds, faults=world.faults, blind=world.blind)
    made = canary_in(world)
    pass_time(world, made, seconds)
    return report(made, CHECKS)


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    health = Health(Metrics(), 0)
    health.add_page(PATH, lambda: body)
    try:
        yield f"http://127.0.0.1:{health.port}"
    finally:
        health.close()


def asked(body: bytes, *words: str) -> tuple[int, str]:
    with serving(body) as url:
        found = CliRunner().invoke(canary, ["status", "--url", url, *words])
    return found.exit_code, found.output


HELD = World()
LOSING = World(faults=[lambda probe, exit, copies: [] if exit == "rds" else copies])
BLIND = World(blind={"redis"})


@pytest.mark.parametrize(
    ("simulated", "code", "words"),
    [
        (HELD, 0, "HELD: Every probe is where it should be"),
        (LOSING, 1, "CONVICTED: RDS (rds): rds misses what came through both doors"),
        (BLIND, 2, "UNKNOWN: redis can't be looked at: ConnectionError: refused."),
    ],
)
def test_the_exit_code_and_the_first_words_say_how_it_is(simulated: World, code: int, words: str) -> None:
    body = json.dumps(reported(simulated).json()).encode()
    exit_code, text = asked(body)
    assert (code, True) == (exit_code, words in text), text
    assert ("web-backup", "personal data") == tuple(word for word in ("web-backup", "personal data") if word in text)
    exit_code, text = asked(body, "--json")
    assert (code, json.loads(body)) == (exit_code, json.loads(text))


def test_a_report_comes_over_the_wire_as_it_was() -> None:
    made = reported(LOSING)
    assert made == from_json(json.loads(json.dumps(made.json())))


def test_a_canary_that_is_away_hangs_or_says_nonsense_is_unknown() -> None:
    old = reported(HELD).json()
    code, text = asked(json.dumps({**old, "at": old["at"] - 600.0}).encode())
    assert (2, True) == (code, "UNKNOWN: The canary hangs: this is what it knew 6" in text)
    for body in (b"{}", b"nonsense", b'{"outcome": "held"}', json.dumps({**old, "outcome": "splendid"}).encode()):
        assert 2 == asked(body)[0], body
    away = CliRunner().invoke(canary, ["status", "--url", "http://127.0.0.1:1"])
    assert (2, True) == (away.exit_code, "UNKNOWN: the canary at http://127.0.0.1:1" in away.output)
