"""Identity and place of events."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import event
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent

text = st.text(max_size=20)
slice_counts = st.integers(1, 300)


@given(st.tuples(text, text, text), st.tuples(text, text, text))
def test_keys_are_equal_exactly_for_equal_identities(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (one == other) == (event.event_key(*one) == event.event_key(*other))


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    assert event.event_key("ab", "c", "d") != event.event_key("a", "bc", "d")


@given(text, slice_counts)
def test_a_key_lies_in_its_slice_of_the_hash_space(key: str, slices: int) -> None:
    import hashlib

    place = int.from_bytes(hashlib.md5(key.encode()).digest(), "big")
    number = event.slice_of(key, slices)
    start = int(event.explicit_hash_key(number, slices))
    end = int(event.explicit_hash_key(number + 1, slices)) if number + 1 < slices else event.HASH_SPACE
    assert start <= place < end


@given(slice_counts)
def test_slices_start_inside_the_hash_space_and_rise(slices: int) -> None:
    starts = [int(event.explicit_hash_key(number, slices)) for number in range(slices)]
    assert starts == sorted(set(starts))
    assert 0 == starts[0]
    assert starts[-1] < event.HASH_SPACE


def test_the_partition_key_is_the_extension_else_the_subject_else_the_id() -> None:
    with_all = CloudEvent(id="i")
    assert "i" == event.partition_key(with_all)
    with_all.attributes["subject"].ce_string = "s"
    assert "s" == event.partition_key(with_all)
    with_all.attributes["partitionkey"].ce_string = "p"
    assert "p" == event.partition_key(with_all)


def test_reading_an_absent_attribute_does_not_create_it() -> None:
    bare = CloudEvent(id="i")
    event.partition_key(bare)
    event.event_time_micros(bare)
    assert {} == dict(bare.attributes)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [("2013-01-01T00:00:00.000001Z", 1356998400000001), ("2013-01-01T01:00:00+01:00", 1356998400000000)],
)
def test_event_time_is_read_with_its_zone(given_text: str, expected: int) -> None:
    stamped = CloudEvent(id="i")
    stamped.attributes["time"].ce_string = given_text
    assert expected == event.event_time_micros(stamped)


@pytest.mark.parametrize("given_text", ["2013-01-01T00:00:00", "yesterday", ""])
def test_a_time_without_zone_or_sense_is_none(given_text: str) -> None:
    stamped = CloudEvent(id="i")
    stamped.attributes["time"].ce_string = given_text
    assert event.event_time_micros(stamped) is None


def test_micros_refuses_a_naive_moment() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        event.micros(datetime(2013, 1, 1))


def test_a_conflict_differs_from_a_duplicate_by_its_digest() -> None:
    """TRAPS 22."""
    first, retry, other = (CloudEvent(id="i", source="s", type="t", binary_data=data) for data in (b"1", b"1", b"2"))
    assert event.payload_digest(first) == event.payload_digest(retry)
    assert event.payload_digest(first) != event.payload_digest(other)
