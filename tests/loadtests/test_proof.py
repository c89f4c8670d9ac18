"""The verdict of a run: what makes it good, and everything that must not."""

from dataclasses import dataclass, field, replace

import pytest

from canary.books import Books
from canary.exits import Watcher
from canary.reconcile import Verdict
from loadtests.demo import EXIT_CONVICTED, EXIT_UNKNOWN, _exit_code
from loadtests.flights.proof import ExitResult, Proof, StateResult, _compare, judge


@dataclass
class FakeExit:
    name: str
    holds: list[str] = field(default_factory=list)
    broken: bool = False

    def observed(self) -> list[str]:
        if self.broken:
            raise ConnectionError("refused")
        return self.holds


def _books(sent: list[str], acknowledged: list[str]) -> Books:
    books = Books()
    books.attempt(sent)
    books.acknowledge(acknowledged)
    return books


def _result(exit: FakeExit, books: Books) -> ExitResult:
    watcher = Watcher(exit)
    watcher.look()
    return judge(watcher, books)


def _proof(*exits: FakeExit, sent: list[str], acknowledged: list[str], state: StateResult | None = None) -> Proof:
    books = _books(sent, acknowledged)
    results = tuple(_result(exit, books) for exit in exits)
    states = (state or StateResult("rds", 1, 1, ()),)
    return Proof(1, len(sent), len(acknowledged), books.refused, 1.0, results, states)


def test_a_run_in_which_everything_arrived_once_holds() -> None:
    proof = _proof(FakeExit("lake", ["a", "b"]), sent=["a", "b"], acknowledged=["a", "b"])
    assert (True, 0) == (proof.holds, _exit_code(proof))


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [(["a"], Verdict.LOST), (["a", "b", "b"], Verdict.DOUBLED), (["a", "b", "c"], Verdict.PHANTOM), (["a", "a"], Verdict.LOST)],
)
def test_a_fault_at_one_exit_convicts_the_run(holds: list[str], verdict: Verdict) -> None:
    proof = _proof(FakeExit("rds", ["a", "b"]), FakeExit("lake", holds), sent=["a", "b"], acknowledged=["a", "b"])
    assert (False, EXIT_CONVICTED, verdict) == (proof.holds, _exit_code(proof), proof.exits[1].verdict)


def test_the_backup_may_hold_an_event_twice_but_not_lack_it() -> None:
    twice = _proof(FakeExit("backup", ["a", "a"]), sent=["a"], acknowledged=["a"])
    lacking = _proof(FakeExit("backup", ["a", "a"]), sent=["a", "b"], acknowledged=["a", "b"])
    assert (True, False) == (twice.holds, lacking.holds)


def test_an_exit_that_cannot_be_read_makes_the_run_unknown_and_not_good() -> None:
    proof = _proof(FakeExit("lake", ["a"]), FakeExit("rds", broken=True), sent=["a"], acknowledged=["a"])
    assert (False, EXIT_UNKNOWN) == (proof.holds, _exit_code(proof))


def test_duplicates_that_may_still_come_make_the_run_unknown() -> None:
    settled = _proof(FakeExit("lake", ["a"]), sent=["a"], acknowledged=["a"])
    unsettled = replace(settled, unsettled="DeadlineExceeded: 3 of 32 marks are not at rds")
    assert (True, 0, False, EXIT_UNKNOWN) == (settled.holds, _exit_code(settled), unsettled.holds, _exit_code(unsettled))


def test_a_state_that_cannot_be_read_is_unknown_and_one_that_differs_convicts() -> None:
    unread, differing = StateResult("rds", 0, 0, ("could not be read",)), StateResult("rds", 2, 1, ("x",))
    proofs = [_proof(FakeExit("lake", ["a"]), sent=["a"], acknowledged=["a"], state=state) for state in (unread, differing)]
    assert [(False, EXIT_UNKNOWN), (False, EXIT_CONVICTED)] == [(proof.holds, _exit_code(proof)) for proof in proofs]


def test_an_empty_run_proves_nothing() -> None:
    """TRAPS 33: a run with zero requests must not pass."""
    proof = _proof(FakeExit("lake"), sent=[], acknowledged=[])
    assert (False, EXIT_UNKNOWN) == (proof.holds, _exit_code(proof))


def test_an_unacknowledged_event_is_no_loss_but_the_run_is_not_good() -> None:
    proof = _proof(FakeExit("lake", ["a"]), sent=["a", "b"], acknowledged=["a"])
    assert (False, Verdict.OK) == (proof.holds, proof.exits[0].verdict)


@pytest.mark.parametrize(
    ("found", "equal", "total"),
    [
        ({("p", "airport"): "JFK"}, 1, 1),
        ({("p", "airport"): "EWR"}, 0, 1),
        ({}, 0, 1),
        ({("p", "airport"): "JFK", ("q", "airport"): "JFK"}, 1, 2),
    ],
)
def test_states_are_compared_row_for_row_both_ways(found: dict[tuple[str, str], str], equal: int, total: int) -> None:
    result = _compare("rds", {("p", "airport"): "JFK"}, found)
    assert (equal, total, equal == total) == (result.equal, result.expected, result.holds)


def test_no_state_at_all_does_not_hold() -> None:
    assert not _compare("rds", {}, {}).holds
