"""The checker is convicted or trusted here: every class of fault that is seeded must be named, and nothing else."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.reconcile import Reconciliation, Verdict, reconcile


def test_nothing_acknowledged_is_unknown_and_not_ok() -> None:
    assert reconcile([], [], []).verdict is Verdict.UNKNOWN
    assert reconcile(["a"], [], []).verdict is Verdict.UNKNOWN


def test_an_acknowledgement_without_an_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="never attempted"):
        reconcile([], ["a"], ["a"])


def test_a_loss_hidden_behind_a_duplicate_is_found() -> None:
    """TRAPS 28: the counts are equal, two acknowledged and two observed."""
    found = reconcile(["a", "b"], ["a", "b"], ["a", "a"])
    expected = Reconciliation(
        acknowledged=2, delivered=1, recovered=0, missing=frozenset({"b"}), duplicated={"a": 2}, unexpected=frozenset()
    )
    assert (expected, Verdict.LOST) == (found, found.verdict)


def test_an_unacknowledged_event_may_arrive_or_not() -> None:
    assert Verdict.OK is reconcile(["a", "b"], ["a"], ["a"]).verdict
    arrived = reconcile(["a", "b"], ["a"], ["a", "b"])
    assert (Verdict.OK, 1) == (arrived.verdict, arrived.recovered)


@given(
    st.sets(st.integers(0, 500), min_size=1),
    st.data(),
)
def test_every_seeded_fault_is_named_with_its_ids(attempted: set[int], data: st.DataObject) -> None:
    acknowledged = data.draw(st.sets(st.sampled_from(sorted(attempted)), min_size=1))
    lost = data.draw(st.sets(st.sampled_from(sorted(acknowledged))))
    arrived = sorted(attempted - lost)
    doubled = data.draw(st.sets(st.sampled_from(arrived))) if arrived else set()
    phantoms = data.draw(st.sets(st.integers(1000, 1010)))
    observed = data.draw(st.permutations([*arrived, *sorted(doubled), *sorted(phantoms)]))
    found = reconcile(attempted, acknowledged, observed)
    assert (lost, doubled, phantoms) == (set(found.missing), set(found.duplicated), set(found.unexpected))
    assert len(acknowledged) == found.delivered + len(found.missing)
    assert sum(Counter(observed).values()) == found.delivered + found.recovered + len(doubled) + len(phantoms)
