"""The laws of the current state."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.etl.fold import Attribute, Order, State, fold, say
from tests.etl.events import arrived, moved, read

orders = st.builds(
    Order,
    st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    st.text(max_size=5).map(str.encode),
    st.binary(min_size=2, max_size=2),
)
histories = st.lists(
    st.builds(
        moved,
        st.sampled_from(["a", "aa", "b", "é"]),
        at=st.sampled_from([1.0, 2.0, 2.5]),
        who=st.sampled_from(["1", "2"]),
        city=st.sampled_from(["", "Montreal", "Toronto", "New York"]),
        country=st.sampled_from(["", "CA", "US"]),
    ),
    max_size=10,
)


@given(histories, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_state(history: list, rng: random.Random) -> None:
    """TRAPS 2: commutative and idempotent. The identities are made unique first: a conflict is not the fold's affair."""
    events = list({event.key: event for event in read(*history)}.values())
    shuffled = [*events, *events]
    rng.shuffle(shuffled)
    assert fold(events) == fold(shuffled)


@given(histories, st.integers(0, 10))
def test_folding_in_two_parts_is_folding_at_once(history: list, cut: int) -> None:
    events = read(*history)
    state: State = dict(fold(events[:cut]))
    say(state, fold(events[cut:]).items())
    assert fold(events) == state


@given(orders, orders)
def test_tokens_compare_as_orders_do(left: Order, right: Order) -> None:
    assert (left < right, left == right) == (left.token() < right.token(), left.token() == right.token())


def test_user_10001_moved_montreal_toronto_new_york():
    history = [
        moved("3", at=30, city="New York"),
        moved("1", at=10, city="Montreal", country="CA"),
        moved("2", at=20, city="Toronto"),
    ]
    state = {at.attribute: said.value for at, said in fold(read(*history)).items()}
    assert {"city": "New York", "country": "CA"} == state


def test_constants_and_fields_make_the_state_of_a_plane():
    state = fold(read(arrived("a", plane="N7", to="LAX")))
    said = {at.attribute: one.value for at, one in state.items()}
    assert {"status": "arrived", "airport": "LAX", "flight": "1"} == said
    assert {("acme", "plane", "N7")} == {(at.tenant, at.entity, at.subject) for at in state}


def test_tenants_do_not_meet():
    state = fold([*read(moved("1", at=1, city="X"), tenant="a"), *read(moved("1", at=1, city="Y"), tenant="b")])
    assert {"a": "X", "b": "Y"} == {at.tenant: one.value for at, one in state.items()}
    assert Attribute("a", "customer", "10001", "city") in state


def test_an_event_without_subject_says_nothing_of_state():
    assert {} == fold(read(moved("1", at=1, who="", city="X")))
