"""Laws of the frame. TRAPS 10: Firehose joins records with nothing between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import frame
from pipeline.errors import Corrupt
from pipeline.frame import Damage, Payload

payload_lists = st.lists(st.binary(max_size=60), max_size=8)


@given(payload_lists)
def test_joined_records_split_again(payloads: list[bytes]) -> None:
    assert payloads == [part.data for part in frame.split(frame.join(payloads)) if isinstance(part, Payload)]


@given(st.binary(max_size=200))
def test_decode_undoes_encode(payload: bytes) -> None:
    assert payload == frame.decode(frame.encode(payload))


@given(payload_lists, st.data())
def test_a_flipped_bit_costs_one_frame_at_most_and_is_located(payloads: list[bytes], data: st.DataObject) -> None:
    joined = bytearray(frame.join([*payloads, b"last"]))
    position = data.draw(st.integers(0, len(joined) - 1))
    joined[position] ^= 1 << data.draw(st.integers(0, 7))
    found = list(frame.split(bytes(joined)))
    damage = [part for part in found if isinstance(part, Damage)]
    assert 1 == len(damage)
    assert damage[0].start <= position < damage[0].end
    assert len(payloads) == sum(isinstance(part, Payload) for part in found)


@given(payload_lists, st.data())
def test_a_truncated_object_gives_every_whole_frame_and_says_where_the_rest_was(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = frame.join(payloads)
    last = frame.encode(b"the one that is cut")
    kept = data.draw(st.integers(1, len(last) - 1))
    found = list(frame.split(whole + last[:kept]))
    assert payloads == [part.data for part in found if isinstance(part, Payload)]
    assert [(len(whole), len(whole) + kept)] == [(part.start, part.end) for part in found if isinstance(part, Damage)]


@given(
    payload_lists,
    st.binary(min_size=1, max_size=40).filter(lambda junk: frame.MAGIC not in junk and not frame.MAGIC.startswith(junk[-1:])),
)
def test_junk_between_frames_is_read_past(payloads: list[bytes], junk: bytes) -> None:
    found = list(frame.split(frame.join(payloads) + junk + frame.join(payloads)))
    assert payloads * 2 == [part.data for part in found if isinstance(part, Payload)]


@given(st.binary(max_size=300))
def test_every_byte_is_accounted_for(data: bytes) -> None:
    """Whatever the bytes: frames and damage cover them without gap or overlap."""
    position = 0
    for part in frame.split(data):
        start, end = (
            (part.start, part.end)
            if isinstance(part, Damage)
            else (part.offset, part.offset + len(part.data) + frame.OVERHEAD_BYTES)
        )
        assert position == start
        position = end
    assert len(data) == position


def test_a_payload_that_contains_the_magic_is_no_new_frame() -> None:
    payload = frame.encode(b"inner")
    assert [payload] == [part.data for part in frame.split(frame.encode(payload)) if isinstance(part, Payload)]


@pytest.mark.parametrize("data", [b"", frame.join([b"a", b"b"]), frame.encode(b"a")[:-1], frame.encode(b"a") + b"x"])
def test_a_record_must_hold_exactly_one_frame(data: bytes) -> None:
    with pytest.raises(Corrupt):
        frame.decode(data)
