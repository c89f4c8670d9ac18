"""The ledger's page, over what the ledger really says on its health port."""

import json
import time
from typing import Any

import pytest

from dashboards.console.app import ConsoleSettings
from tests.console.asked import running, saying, serving
from tests.console.parsed import Parsed
from tests.ledger_service.world import SETTINGS, World

HOSTILE = "</td><script>alert(1)</script>"


async def page(**handlers: Any) -> Parsed:
    async with serving(**handlers) as ledger, running(ConsoleSettings("", "", ledger_url=ledger)) as asker:
        answer = await asker.get("/ledger")
    assert 200 == answer.status
    return Parsed(answer.text)


def said(*, lost: bool = False, written_at: float | None = None) -> dict[str, Any]:
    """What a ledger says that has judged one window."""
    world = World()
    world.run(10)
    window = world.window()
    world.see("a", HOSTILE, window=window)
    world.deliver("a", *([] if lost else [HOSTILE]), window=window)
    world.run(10 + SETTINGS.deadline_seconds + SETTINGS.patience_seconds + 20)
    told: dict[str, Any] = json.loads(world.service.told())
    return told | {"written_at": time.time() if written_at is None else written_at}


async def test_what_is_well_is_shown_by_tier_and_verdict() -> None:
    parsed = await page(**{"ledger.json": saying(said())})
    assert "Every event that was due is accounted for. Windows of the last hour: 1 OK." in parsed.words
    assert "12:00:10acmegrpc2222OK" in parsed.words
    assert [] == parsed.dangers()


async def test_what_is_lost_is_named_and_harms_no_reader() -> None:
    parsed = await page(**{"ledger.json": saying(said(lost=True))})
    assert "Not every acknowledged event is where it must be. Windows of the last hour: 1 LOST." in parsed.words
    assert HOSTILE in parsed.words
    assert [] == parsed.dangers()


async def test_a_ledger_that_fell_silent_is_unknown_whatever_it_said_last() -> None:
    parsed = await page(**{"ledger.json": saying(said(written_at=time.time() - 100))})
    assert "UNKNOWN: the ledger has judged nothing for 100 s" in parsed.words
    assert "accounted for" not in parsed.words


@pytest.mark.parametrize("answer", [{}, [], {"written_at": "x"}, {"written_at": 1, "counts": {}, "findings": [1], "windows": []}])
async def test_an_answer_that_is_none_is_unknown(answer: object) -> None:
    assert "UNKNOWN: the ledger's answer can't be read." in (await page(**{"ledger.json": saying(answer)})).words


async def test_a_ledger_that_is_away_or_not_there_is_unknown() -> None:
    """TRAPS 30."""
    assert "UNKNOWN: The ledger says 404" in (await page()).words
    async with running(ConsoleSettings("", "")) as asker:
        assert "UNKNOWN: The ledger is not configured" in Parsed((await asker.get("/ledger")).text).words
