"""The canary's page: what its process says, in words and strips; and what does not answer is not green."""

import pytest

from dashboards.console.app import ConsoleSettings
from dashboards.console.canary_page import in_words, strip
from tests.canary.test_command import BLIND, HELD, LOSING, reported
from tests.canary.world import World
from tests.console.asked import running, saying, serving
from tests.console.parsed import Parsed

HOSTILE = "<script>alert(1)</script>\" onmouseover='x"


async def shown(body: object) -> Parsed:
    async with serving(canary=saying(body)) as url, running(ConsoleSettings("", "", canary_url=url)) as asker:
        answer = await asker.get("/canary")
    assert 200 == answer.status
    return Parsed(answer.text)


@pytest.mark.parametrize(
    ("simulated", "words"),
    [
        (HELD, "Everything that was sent is where it should be"),
        (LOSING, "RDS (rds): rds misses what came through both doors"),
        (BLIND, "can't: ConnectionError: refused"),
    ],
)
async def test_the_page_says_how_it_is_with_a_strip_for_each_exit_and_door(simulated: World, words: str) -> None:
    parsed = await shown(reported(simulated).json())
    assert (True, []) == (words in parsed.words, parsed.dangers())
    assert 9 == len([one for one in parsed.all("svg") if one.get("class") == "strip" and one.get("aria-label")])


async def test_a_canary_that_does_not_answer_is_not_green() -> None:
    async with running(ConsoleSettings("", "", canary_url="http://127.0.0.1:1")) as asker:
        text = (await asker.get("/canary")).text
    assert ("Whether everything is delivered is not known" in text, "state-ok" in text) == (True, False)
    for body in ({}, {"outcome": "held"}, "nonsense"):
        assert not list(one for one in (await shown(body)).all("section") if "state-ok" in one.get("class", ""))


async def test_a_canary_that_hangs_is_not_green_though_it_was() -> None:
    said = reported(HELD).json()
    parsed = await shown(said | {"at": said["at"] - 600.0})
    assert ("The canary hangs: this is what it knew 10" in parsed.words, "Not known" in parsed.words) == (True, True)


async def test_whatever_an_event_is_called_it_becomes_no_markup() -> None:
    said = reported(LOSING).json()
    said["sentence"] = said["cases"][0]["event"] = said["checks"][0]["sentence"] = HOSTILE
    assert [] == (await shown(said)).dangers()


def test_a_strip_is_told_in_words_with_its_hours() -> None:
    now = 1_795_651_200.0  # 2026-11-26 00:00:00 UTC
    assert "well for as long as anything was sent within 0.5 h" == in_words("  dddr", 5, now)
    assert "late 23:50–00:00, lost 00:00–00:05" == in_words("dllx", 5, now)
    assert "nothing was sent" == in_words("    ", 5, now)
    assert "nothing is known yet" == in_words("  ..", 5, now)
    assert "unknown 00:00–00:05" == in_words("ddd?", 5, now)
    assert 3 == strip("dd  lxx", 5, now).count("<rect")
