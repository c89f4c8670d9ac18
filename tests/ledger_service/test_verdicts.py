"""Verdicts as they lie in the bucket: read as they were written, by hour, and small."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.ledger.books import Window
from canary.ledger.judge import Class, Finding, Verdict
from canary.ledger.status import Progress, Speaker, Status, read_status, write_status
from canary.ledger.verdicts import FINDINGS_MAX, Judged, Verdicts, decode, encode, key_of
from pipeline.backup.objects import MemoryObjects
from pipeline.errors import Corrupt, Unavailable
from pipeline.ledger.identity import Name
from tests.ledger_service.world import NOON

word = st.text(string.ascii_letters, min_size=1, max_size=8)
starts = st.integers(0, 359).map(lambda number: NOON + number * 10)
windows = st.builds(Window, word, st.sampled_from(["http", "grpc"]), starts)
names = st.builds(Name, st.none() | st.text(max_size=9), st.none() | word, st.booleans(), st.booleans())
named = st.builds(
    Finding, st.sampled_from(Class), word, word, st.integers(0, 2**64 - 1), names, st.lists(word, max_size=2).map(tuple), word
)
unnamed = st.builds(Finding, st.sampled_from(Class), word, word)
judged = st.builds(
    Judged, windows, st.sampled_from([kind for kind in Class if kind is not Class.OK]), st.integers(0, 10**9),
    st.floats(0, 2e9, allow_nan=False), st.lists(named | unnamed, max_size=4).map(tuple), st.integers(0, 10), word | st.just(""),
)  # fmt: skip
fine = st.builds(Judged, windows, st.just(Class.OK), st.integers(0, 10**9), st.floats(0, 2e9, allow_nan=False))


@given(st.sets(starts, max_size=20), st.lists(judged | fine, max_size=4, unique_by=lambda row: row.window))
@settings(max_examples=30, deadline=None)
def test_verdicts_are_read_as_they_were_written(closed: set[int], rows: list[Judged]) -> None:
    read_closed, read = decode(encode(closed, rows))
    assert (closed, sorted(rows, key=repr)) == (read_closed, sorted(read, key=repr))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"version": 2, "closed": [], "ok": [], "windows": []}', b'{"version": 1}'])
def test_what_cannot_be_read_is_corrupt(body: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(body)


def test_findings_of_one_window_are_bounded_and_the_rest_counted() -> None:
    findings = tuple(Finding(Class.LOST, "lake", "gone", number) for number in range(FINDINGS_MAX + 7))
    row = Judged.of(Verdict(Window("acme", "grpc", NOON), Class.LOST, 9, findings), 1.0)
    assert (FINDINGS_MAX, 7) == (len(row.findings), row.beyond)


def test_an_hour_is_written_when_it_changed_and_only_then() -> None:
    objects = MemoryObjects()
    kept = Verdicts(objects)
    first, next_hour = Window("acme", "grpc", NOON + 3590), Window("acme", "grpc", NOON + 3600)
    for window in (first, next_hour):
        kept.put(Judged(window, Class.OK, 1, 1.0))
    kept.close(first.start)
    kept.save()
    assert ["ledger/verdicts/2026/11/25/12.json", "ledger/verdicts/2026/11/25/13.json"] == list(objects.bodies)
    objects.bodies.clear()
    kept.save()
    kept.put(Judged(next_hour, Class.LATE, 1, 2.0))
    kept.save()
    assert ["ledger/verdicts/2026/11/25/13.json"] == list(objects.bodies)


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    objects = MemoryObjects(failure=Unavailable("away"))
    kept = Verdicts(objects)
    kept.put(Judged(Window("acme", "grpc", NOON), Class.OK, 1, 1.0))
    with pytest.raises(Unavailable):
        kept.save()
    kept.forget(NOON + 7200)
    objects.failure = None
    kept.save()
    again = Verdicts(objects)
    assert [] == again.load(NOON, NOON + 10)
    assert [Window("acme", "grpc", NOON)] == list(again.rows)


def test_an_hour_that_cannot_be_read_is_said_and_hides_no_other() -> None:
    objects = MemoryObjects()
    kept = Verdicts(objects)
    kept.put(Judged(Window("acme", "grpc", NOON), Class.OK, 1, 1.0))
    kept.save()
    objects.put(key_of("2026/11/25/11"), b"{", {})
    again = Verdicts(objects)
    assert ["ledger/verdicts/2026/11/25/11.json: the verdicts can't be read"] == again.load(NOON - 100, NOON + 10)
    assert 1 == len(again.rows)


def test_the_status_is_read_as_it_was_written() -> None:
    objects = MemoryObjects()
    status = Status(1.5, NOON, [Progress("acme", "grpc", NOON, {"a": 1}, "OK")], [Speaker("grpc", "grpc-1", "b", 2.5, False)])
    write_status(objects, status)
    assert status == read_status(objects)
    objects.put("ledger/status.json", b"[]", {})
    with pytest.raises(Corrupt):
        read_status(objects)
