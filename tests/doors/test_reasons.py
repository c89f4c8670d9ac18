"""One list of reason words: in code, in the README, and in what the schema raises."""

import re
from pathlib import Path

import pipeline.doors
from pipeline.doors.reasons import Reason, reason_of

README = Path(pipeline.doors.__file__).with_name("README.md")


def test_every_reason_word_is_explained_in_the_readme_and_no_other() -> None:
    table = re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE)
    assert [str(reason) for reason in Reason] == table


def test_every_word_that_the_schema_raises_is_ours() -> None:
    schema = Path(pipeline.doors.__file__).parents[1] / "schema"
    raised = {word for file in schema.glob("*.py") for word in re.findall(r'InvalidEvent\(\s*"(\w+)"', file.read_text())}
    assert raised
    assert set() == {word for word in raised if word not in set(Reason)}


def test_a_word_from_elsewhere_is_bounded() -> None:
    assert Reason.INVALID_DATA == reason_of("something else, with jane@example.com in it")
