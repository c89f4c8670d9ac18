"""Identities, tables and what a difference decodes to."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger.identity import (
    CONTENT_BYTES,
    IDENTITY_BYTES,
    Elements,
    Name,
    canonical,
    name_of,
    new_column,
    of_encoded,
    of_names,
)
from pipeline.ledger.table import CAPACITY, Table

# In C and in numpy; what is decoded is the same code.
both = pytest.mark.usefixtures("arithmetic")
TEXT = st.text(min_size=1, max_size=200)


def encoded(id: str, source: str = "/shop", data: str = "x") -> bytes:
    return CloudEvent(id=id, source=source, spec_version="1.0", type="t", text_data=data).SerializeToString()


def elements(*ids: str) -> Elements:
    return of_encoded([encoded(id) for id in ids])


def keys(found: Elements) -> list[int]:
    return [int(key) for key in found.keys]


@both
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20))
def test_an_event_has_one_key_whoever_sees_it(names: list[tuple[str, str]]) -> None:
    by_bytes = of_encoded([encoded(id, source) for source, id in names])
    by_name = of_names(names)
    assert keys(by_name) == keys(by_bytes)
    assert by_name.names.tolist() == by_bytes.names.tolist()
    assert len(set(names)) == len(set(keys(by_name)))


@both
def test_an_event_that_is_encoded_in_another_order_has_the_same_key() -> None:
    id, source = b"\x0a\x03abc", b"\x12\x05/shop"
    rest = b"\x1a\x031.0" + b"\x22\x01t"
    assert 1 == len(set(keys(of_encoded([id + source + rest, rest + source + id, source + id + rest]))))


@both
@settings(deadline=None)
@given(st.lists(st.tuples(st.permutations(range(4)), st.integers(0, 400), st.integers(0, 3)), min_size=1, max_size=8))
def test_an_event_of_any_order_and_length_that_ends_in_zeros_is_read_from_its_first_bytes(
    forms: list[tuple[list[int], int, int]],
) -> None:
    """Neighbours of all kinds in one column: what is longer than a row, what ends in zeros within it, what ends at its edge."""
    names, events = [], []
    for number, (order, size, zeros) in enumerate(forms):
        event = CloudEvent(id=f"id-{number}", source="/shop", spec_version="1.0", binary_data=b"x" * size + bytes(zeros))
        parts = [CloudEvent(**{field.name: value}).SerializeToString() for field, value in event.ListFields()]
        names.append((event.source, event.id))
        events.append(b"".join(parts[at] for at in order if at < len(parts)))
    assert keys(of_names(names)) == keys(of_encoded(events))
    apart = new_column(len(events))
    for one in events:
        apart.put([one])
    assert keys(of_names(names)) == keys(apart.take())


@both
@pytest.mark.parametrize("size", [127, 128, 253, 254, 255, 256, 382, 383])
def test_an_id_whose_length_takes_two_bytes_has_the_key_of_its_name(size: int) -> None:
    event = CloudEvent(id="x" * size, source="/shop", spec_version="1.0").SerializeToString()
    assert keys(of_names([("/shop", "x" * size)])) == keys(of_encoded([event]))


def test_ids_that_differ_in_any_one_place_have_other_keys() -> None:
    base = "0123456789" * 9
    ids = [base, *(base[:at] + "x" + base[at + 1 :] for at in range(len(base)))]
    assert len(ids) == len(set(keys(of_names([("/shop", id) for id in ids]))))


@pytest.mark.parametrize(
    ("id", "source", "read"),
    [
        ("a", "/shop", Name("a", "/shop")),
        ("5f0c6e1e-98c5-4a1b-9f0e-3d2b8f0b6a11", "/shop", Name("5f0c6e1e-98c5-4a1b-9f0e-3d2b8f0b6a11", "/shop")),
        ("a" * 40, "/a-long-source-of-events", Name("a" * 40, "/a-l", True, False)),
        ("b" * 90, "/shop", Name("b" * 46, None, False, False)),
    ],
)
def test_a_name_is_read_again_as_far_as_there_was_room(id: str, source: str, read: Name) -> None:
    assert read == name_of(of_names([(source, id)]).names[0])


def test_an_identity_that_is_too_long_ends_in_a_digest_and_keeps_its_beginning() -> None:
    long, other = canonical("/shop", "i" * 200), canonical("/shop", "i" * 201)
    assert (IDENTITY_BYTES, IDENTITY_BYTES) == (len(long), len(other))
    assert long[-16:] != other[-16:]


@both
@pytest.mark.parametrize("at_the_edge", [b"x", b"\0"])
def test_what_lies_beyond_a_row_is_in_the_checksum_whatever_the_row_ends_in(at_the_edge: bytes) -> None:
    events = []
    for last in (b"a", b"b"):
        bare = len(CloudEvent(id="a", source="/shop", binary_data=bytes(300)).SerializeToString()) - 300
        data = bytes(CONTENT_BYTES - 1 - bare) + at_the_edge
        events.append(CloudEvent(id="a", source="/shop", binary_data=data.ljust(299, b"x") + last).SerializeToString())
    one, other = events
    assert (one[:CONTENT_BYTES], at_the_edge[0]) == (other[:CONTENT_BYTES], one[CONTENT_BYTES - 1])
    assert 2 == len(set(of_encoded(events).contents.tolist()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (Name("a", "/shop"), "a of /shop"),
        (Name("a", "/a-l", True, False), "a of /a-l…"),
        (Name("b", None, False, False), "b…"),
        (Name(None, None, False, False), "(an id that can't be read)"),
    ],
)
def test_a_name_says_where_it_is_cut(name: Name, text: str) -> None:
    assert text == str(name)


@both
def test_a_difference_names_what_is_missing_and_what_is_too_much() -> None:
    mine, theirs = Table.of(elements("a", "b", "c", "twice", "twice")), Table.of(elements("b", "c", "twice", "d"))
    found = (mine - theirs).decode()
    assert found.complete
    said = {name_of(entry.name).id: entry.times for entry in found.entries if entry.name is not None}
    assert {"a": 1, "twice": 1, "d": -1} == said


@both
@pytest.mark.parametrize("times", [2, 3, 4, -2, -3, 6, 16, 32])
def test_an_event_that_differs_several_times_is_still_named(times: int) -> None:
    many = Table.of(elements(*["again"] * abs(times)))
    (entry,) = (many if times > 0 else Table() - many).decode().entries
    assert (keys(elements("again"))[0], times) == (entry.key, entry.times)
    if abs(times) <= 3:
        assert entry.name is not None
        assert "again" == name_of(entry.name).id


@both
def test_tables_add_up_over_instances_whatever_saw_what() -> None:
    ids = [f"event-{number}" for number in range(5000)]
    whole = Table.of(elements(*ids))
    parts = [Table.of(elements(*ids[start::7])) for start in range(7)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert whole.cells.tolist() == total.cells.tolist()
    assert 5000 == total.events


@both
def test_other_content_of_the_same_event_is_told_by_its_cells() -> None:
    ids = [f"event-{number}" for number in range(300)]
    mine = Table.of(of_encoded([encoded(id) for id in ids]))
    theirs = Table.of(of_encoded([encoded(id, data="y" if id == "event-7" else "x") for id in ids]))
    found = (mine - theirs).decode()
    assert ((), True) == (found.entries, found.complete)
    everyone = of_names([("/shop", id) for id in ids])
    assert keys(elements("event-7")) == found.altered_among(keys(everyone))


def test_as_many_as_it_says_are_named_and_far_more_are_not_but_it_says_so() -> None:
    random = np.random.default_rng(1)
    complete = 0
    for _ in range(50):
        ids = ["".join(random.choice(list(string.ascii_letters), 12)) for _ in range(CAPACITY)]
        found = Table.of(elements(*ids)).decode()
        assert set(ids) == {name_of(entry.name).id for entry in found.entries if entry.name is not None}
        complete += found.complete
    assert 50 == complete
    assert not Table.of(elements(*(f"event-{number}" for number in range(3 * CAPACITY)))).decode().complete


@given(st.sets(st.integers(0, 10_000), max_size=60), st.sets(st.integers(0, 10_000), max_size=60))
def test_the_difference_of_two_sets_is_their_difference(mine: set[int], theirs: set[int]) -> None:
    found = (Table.of(elements(*map(str, mine))) - Table.of(elements(*map(str, theirs)))).decode()
    assert found.complete
    assert {str(number) for number in mine - theirs} == {name_of(e.name).id for e in found.missing.values() if e.name is not None}
    assert {str(number) for number in theirs - mine} == {name_of(e.name).id for e in found.surplus.values() if e.name is not None}
