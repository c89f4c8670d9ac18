"""All stories, of all files in `tests/alerts/stories/`."""

import importlib
from pathlib import Path

from tests.alerts.story import Story

FILES = sorted(file.stem for file in (Path(__file__).parent / "stories").glob("*.py") if file.stem != "__init__")
STORIES: tuple[Story, ...] = tuple(
    story for file in FILES for story in importlib.import_module(f"tests.alerts.stories.{file}").STORIES
)
