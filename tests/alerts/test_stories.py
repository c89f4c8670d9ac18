"""Every story of `tests/alerts/stories/`, played to the rules as they are delivered."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.alerts.healthy import CALM
from tests.alerts.story import Fires, Story, Value, play, without_others
from tests.alerts.told import STORIES


def _chosen(request: pytest.FixtureRequest) -> list[Story]:
    """Of the stories, those that run, so that all are played at once."""
    told = [getattr(item, "callspec", None) for item in request.session.items]
    names = {each.params["story"].name for each in told if each is not None and "story" in each.params}
    return [story for story in STORIES if story.name in names]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, str]:
    return play([without_others(story) for story in _chosen(request)], CALM, tmp_path_factory.mktemp("stories"))


@pytest.fixture(scope="module")
def found_of_all(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, str]:
    return play(_chosen(request), CALM, tmp_path_factory.mktemp("stories"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", [each for each in STORIES if not each.budgets], ids=lambda story: story.name)
def test_it_fires_in_time(story: Story, found: dict[str, str]) -> None:
    assert "" == found[story.name]


@pytest.mark.proof
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_it_fires_in_time_and_nothing_else_does(story: Story, found_of_all: dict[str, str]) -> None:
    assert "" == found_of_all[story.name]


def test_names_of_stories_differ() -> None:
    assert sorted({story.name for story in STORIES}) == sorted(story.name for story in STORIES)


# The player is a checker: it has to convict.

REDIS = next(story for story in STORIES if story.name == "Redis takes no writes, and can be read")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(REDIS, changes=()), "exp"),
        (replace(REDIS, fires=(Fires("CanaryLost", {"exit": "lake"}),)), "lake"),
        (replace(REDIS, fires=(Fires("CanaryLost", {"exit": "redis"}, by=15),)), "2m40s"),
        (replace(REDIS, fires=(), quiet=("CanaryLost",)), "CanaryLost"),
        (replace(REDIS, fires=(Fires("CanaryLost", {"exit": "redis"}, over_after=0),)), "CanaryLost"),
        (replace(REDIS, fires=(Fires("CanaryLost", {"exit": "redis"}, still_after=60),), after_seconds=60), "CanaryLost"),
    ],
    ids=["never fires", "another label", "too late", "fires and should not", "is not over", "is over too soon"],
)
def test_a_story_that_goes_otherwise_is_convicted(wrong: Story, said: str, tmp_path: Path) -> None:
    assert said in play([wrong], CALM, tmp_path)[wrong.name]


def test_an_alert_that_fired_before_the_fault_is_convicted(tmp_path: Path) -> None:
    ill = tuple(each if each.metric != "spillway_canary_overdue_events" else replace(each, behaviour=Value(1)) for each in CALM)
    assert "CanaryLost" in play([REDIS], ill, tmp_path)[REDIS.name]


def test_an_alert_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no alert is called Nonsense"):
        play([replace(REDIS, quiet=("Nonsense",))], CALM, tmp_path)
