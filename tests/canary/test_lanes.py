"""Lanes lie on every open shard with few slices; subjects stay on their slice; probes are known again by their ids."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from canary import probes
from canary.lanes import DOORS, Shard, cover, letters, number, subjects
from canary.probes import Probe, number_of
from pipeline.event import HASH_SPACE, explicit_hash_key, slice_of
from pipeline.gen.spillway.events.v1.acquisition_pb2 import OrderPlaced

SLICES = 16


@st.composite
def streams(draw: st.DrawFn) -> dict[str, list[Shard]]:
    """Each after splits of its own, at the borders of slices."""
    made = {}
    for stream in ("web-events", "events", "events-clean"):
        cuts = sorted(draw(st.sets(st.integers(1, SLICES - 1), max_size=SLICES - 1)))
        edges = [0, *(int(explicit_hash_key(cut, SLICES)) for cut in cuts), HASH_SPACE]
        pairs = itertools.pairwise(edges)
        made[stream] = [Shard(f"{stream}-{at}", first, last - 1) for at, (first, last) in enumerate(pairs)]
    return made


@given(streams())
def test_the_lanes_lie_on_every_open_shard_of_every_stream(found: dict[str, list[Shard]]) -> None:
    slots = cover(found, SLICES)
    every = {(stream, shard.id) for stream, shards in found.items() for shard in shards}
    assert every == {pair for slot in slots for pair in slot.shards}
    assert max(map(len, found.values())) <= len(slots) <= SLICES


def test_streams_that_are_cut_alike_need_a_lane_a_shard() -> None:
    shards = [Shard(str(at), HASH_SPACE * at // 4, HASH_SPACE * (at + 1) // 4 - 1) for at in range(4)]
    assert 4 == len(cover({"web-events": shards, "events": shards, "events-clean": shards}, SLICES))
    assert () == cover({}, SLICES)


def test_subjects_are_on_their_slice_and_no_two_rings_share_one() -> None:
    rings = [subjects(slice, SLICES, 64, f"{ring}-{door}") for slice in (0, 9) for ring in ("probe", "once") for door in DOORS]
    assert [0] * 4 + [9] * 4 == [next(iter({slice_of(subject, SLICES) for subject in ring})) for ring in rings]
    assert 64 * len(rings) == len({subject for ring in rings for subject in ring})


@given(st.integers(0, 1 << 70))
def test_letters_are_a_number_and_nothing_else_is(value: int) -> None:
    assert value == number(letters(value))
    assert None is number(letters(value) + "a")
    assert None is number("b" + letters(value))  # a zero in front is another text


def probe(value: int = 7, **changed: object) -> Probe:
    made = Probe("/canary/bcdf", value, "grpc", 3, 1_795_000_000.123456, turn=5)
    return replace(made, **changed)  # type: ignore[arg-type]


def test_an_id_is_known_again_under_its_own_source_alone() -> None:
    one = probe(12_345)
    assert (12_345, None, None) == (
        number_of(one.id, one.source), number_of(one.id, "/canary/other"), number_of("canary-bcdf-refused", one.source)
    )  # fmt: skip


def test_what_an_exit_must_hold_is_what_was_sent_in_every_field() -> None:
    one = probe()
    event = probes.protobuf(one)
    assert probes.payload(one) == OrderPlaced.FromString(event.binary_data)
    expected = probes.expected(one)
    assert ("canary", one.subject, "grpc", one.id) == (
        expected["tenant"], expected["subject"], expected["door"], expected["data.order_id"]
    )  # fmt: skip
    assert {"data.lines.0.sku", "data.lines.0.quantity", "data.promised_for", "data.total_minor"} < set(expected)
    # What was sent as JSON differs in form alone: proto3 leaves an empty field out.
    assert {"data.card_number"} == set(expected) - set(probes.expected_as_sent(one))


@given(st.integers(0, 1 << 40), st.sampled_from(DOORS), st.integers(0, SLICES - 1))
def test_nothing_of_a_probe_looks_like_personal_data(value: int, door: str, slice: int) -> None:
    """Else redaction would change it, and the canary would cry corrupted."""
    from telemetry.personal_data import mask

    one = probe(value, door=door, slice=slice)
    words = [one.id, one.source, one.subject, *(text for name, text in probes.expected(one).items() if "sku" in name)]
    assert words == [mask(word) for word in words]
