"""`buf` finds style and breakage in proto/."""

import shutil

import pytest

from pipeline.schema.compile import PROTO_DIR
from pipeline.schema.lint import BASELINE, complaints

FLIGHT = "spillway/events/v1/flight.proto"


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(PROTO_DIR, tmp_path / "proto")
    return tmp_path / "proto"


def edit(folder, path, old, new):
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))


def test_the_schema_is_in_style_and_breaks_nothing_that_is_deployed():
    assert [] == complaints()


def test_a_renumbered_field_is_refused(copied):
    edit(copied, FLIGHT, "uint32 distance_miles = 7;", "uint32 distance_miles = 8;")
    found = complaints(copied, BASELINE)
    assert any('"7"' in line and "distance_miles" in line for line in found), found


def test_a_deleted_field_and_a_deleted_file_are_refused(copied):
    edit(copied, FLIGHT, "  uint32 distance_miles = 7;\n", "")
    (copied / "spillway" / "v1" / "collector.proto").unlink()
    found = complaints(copied, BASELINE)
    assert any("distance_miles" in line for line in found), found
    assert any("collector.proto" in line for line in found), found


def test_a_new_field_is_no_breakage(copied):
    edit(copied, FLIGHT, "uint32 distance_miles = 7;", "uint32 distance_miles = 7;\n  uint32 seats = 8;")
    assert [] == complaints(copied, BASELINE)


def test_bad_style_is_named_with_its_line(copied):
    edit(copied, FLIGHT, "uint32 distance_miles = 7;", "uint32 distanceMiles = 7;")
    assert any(line.startswith(f"proto/{FLIGHT}:") and "snake_case" in line for line in complaints(copied, BASELINE))


def test_a_schema_that_breaks_the_baseline_is_not_accepted(copied, tmp_path):
    baseline = tmp_path / "baseline.binpb"
    assert [] == complaints(copied, baseline, accept=True)
    kept = baseline.read_bytes()
    edit(copied, FLIGHT, "uint32 distance_miles = 7;", "string distance_miles = 7;")
    assert [] != complaints(copied, baseline, accept=True)
    assert kept == baseline.read_bytes()


def test_a_missing_baseline_is_no_silent_pass(copied, tmp_path):
    assert any("--accept" in line for line in complaints(copied, tmp_path / "none.binpb"))
