"""Compared event by event: exact whatever the numbers, and what is not known said so."""

from hypothesis import given, settings
from hypothesis import strategies as st

from canary.ledger.books import Books, Holdings, Window
from canary.ledger.exact import compare, is_beyond, known_by
from canary.ledger.hearing import settled
from canary.ledger.judge import Class, judge
from canary.ledger.scan import Scanned
from pipeline.backup.reader import Damaged
from pipeline.ledger import tiers
from pipeline.ledger.identity import Elements, of_names
from pipeline.ledger.table import Table
from tests.ledger_service.world import SOURCE

WINDOW = Window("acme", "grpc", 1_000_000)
N = 1_200


def some(*ids: str) -> Elements:
    return of_names((SOURCE, id) for id in ids)


def numbered(numbers: range | set[int] | list[int]) -> Elements:
    return some(*(f"e{number}" for number in numbers))


def books(acknowledged: Elements, lake: Elements, rds: Elements, backup: Elements | None = None, **unaccounted: str) -> Books:
    tables = {
        tiers.GRPC_ACKNOWLEDGED: Table.of(acknowledged),
        tiers.REDACTOR_READ: Table.of(acknowledged),
        tiers.REDACTOR_CLEAN: Table.of(acknowledged),
        tiers.BACKUP_EVENTS: Table.of(acknowledged if backup is None else backup),
    }
    return Books(WINDOW, tables, {"lake": Holdings(lake), "rds": Holdings(rds)}, {}, unaccounted)


def scanned(elements: Elements) -> Scanned:
    return Scanned({WINDOW: Holdings(elements)}, objects=1)


@given(
    lost=st.sets(st.integers(0, N - 1), min_size=400, max_size=600),
    doubled=st.sets(st.integers(0, N - 1), max_size=5),
    phantoms=st.integers(0, 5),
    unbacked=st.sets(st.integers(0, N - 1), max_size=5),
)
@settings(max_examples=5, deadline=None)
def test_every_loss_double_and_phantom_is_named_however_many_they_are(
    lost: set[int], doubled: set[int], phantoms: int, unbacked: set[int]
) -> None:
    everything = set(range(N))
    lake = Elements.joined(
        [numbered(everything - lost), numbered(doubled - lost), some(*(f"p{number}" for number in range(phantoms)))]
    )
    case = books(numbered(everything), lake, numbered(everything), numbered(everything - unbacked))
    first = judge(case, patient=False)
    assert is_beyond(first)
    done = settled(case, first, scanned(numbered(everything - unbacked)))
    assert {f"e{number}" for number in lost} == {each.name.id for each in done.of(Class.LOST) if each.places == ("lake",)}
    assert {f"e{number}" for number in unbacked - lost} == {
        each.name.id for each in done.of(Class.LOST) if each.places == ("backup",)
    }
    assert {f"e{number}" for number in doubled - lost} == {each.name.id for each in done.of(Class.DOUBLED)}
    assert {f"p{number}" for number in range(phantoms)} == {each.name.id for each in done.of(Class.PHANTOM)}
    assert () == done.of(Class.UNKNOWN)
    assert Class.LOST is done.kind


def test_what_was_left_open_at_the_door_need_not_arrive_and_is_no_phantom_if_it_does() -> None:
    known = known_by(Table.of(some("a", "b")), Holdings(some("a", "b", "open", "other")))
    assert (set(some("a", "b").keys.tolist()), True) == (set(known.elements.keys.tolist()), known.complete)
    case = books(some("a", "b"), some("a", "b", "open"), some("a", "b"))
    assert [] == list(compare(case, known))


def test_what_firehose_wrote_twice_is_acknowledged_once() -> None:
    known = known_by(Table.of(some("a")), Holdings(some("a", "a", "a")))
    assert some("a").keys.tolist() == known.elements.keys.tolist()


def test_what_only_the_digest_knows_is_looked_for_with_its_name() -> None:
    known = known_by(Table.of(some("a", "b")), Holdings(some("a")))
    (finding,) = compare(books(some("a", "b"), some("a"), some("a", "b")), known)
    assert (Class.LOST, "lake", "b") == (finding.kind, finding.hop, finding.name.id)


def test_a_backup_that_differs_too_much_leaves_a_doubt() -> None:
    case = books(numbered(range(N)), numbered(range(500)), numbered(range(N)))
    done = settled(case, judge(case, patient=False), scanned(numbered(range(500, 1_000))))
    named = {each.name.id for each in done.of(Class.LOST) if "lake" in each.places}
    # What is neither acknowledged nor in the backup, as far as one can tell, is no phantom: one can't tell.
    assert () == done.of(Class.PHANTOM)
    # And some that only the digest knows.
    assert {f"e{number}" for number in range(500, 1_000)} <= named <= {f"e{number}" for number in range(500, N)}
    assert [
        "the exact comparison does not know all that was acknowledged: the backup differs too much from what was acknowledged"
    ] == [each.detail for each in done.of(Class.UNKNOWN)]


def test_a_damaged_backup_leaves_a_doubt_and_no_phantom() -> None:
    case = books(numbered(range(N)), numbered(range(500, N)), numbered(range(N)))
    damaged = scanned(numbered(range(1_000)))
    damaged.damaged.append(Damaged("k", 0, 10, "flipped"))
    done = settled(case, judge(case, patient=False), damaged)
    assert (500, 0) == (len(done.of(Class.LOST)), len(done.of(Class.PHANTOM)))
    assert ["the exact comparison does not know all that was acknowledged: 1 places of the backup are damaged"] == [
        each.detail for each in done.of(Class.UNKNOWN)
    ]


def test_the_hop_to_blame_is_the_first_behind_which_too_much_is_missing() -> None:
    everything, few = numbered(range(N)), numbered(range(1_000))
    case = books(everything, few, few)
    case = Books(WINDOW, {**case.tiers, tiers.REDACTOR_CLEAN: Table.of(few)}, case.exits)
    done = settled(case, judge(case, patient=False), scanned(everything))
    assert {("redactor", ("lake", "rds"), tiers.REDACTOR_READ)} == {
        (each.hop, each.places, each.last_seen) for each in done.findings
    }


def test_what_the_auditor_could_not_say_the_scan_can() -> None:
    case = books(some("a", "b"), some("a", "b"), some("a", "b"), **{tiers.BACKUP_EVENTS: "auditor-1 fell silent"})
    first = judge(case, patient=False)
    assert Class.UNKNOWN is first.kind
    assert Class.OK is settled(case, first, scanned(some("a", "b"))).kind
    (lacking,) = settled(case, first, scanned(some("a"))).findings
    assert (Class.LOST, "backup", "b") == (lacking.kind, lacking.hop, lacking.name.id)


def test_a_backup_that_firehose_wrote_twice_is_whole() -> None:
    """TRAPS 27: after the bucket was away it writes whole objects again."""
    everything, twice = numbered(range(N)), Elements.joined([numbered(range(N)), numbered(range(N))])
    case = books(everything, everything, everything, twice)
    first = judge(case, patient=False)
    assert Class.UNKNOWN is first.kind
    assert Class.OK is settled(case, first, scanned(twice)).kind
