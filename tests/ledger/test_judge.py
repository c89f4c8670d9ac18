"""The verdict on a window: each fate alone, many at once, and what may not be said."""

from dataclasses import replace

import pytest

from canary.ledger.judge import Class, Verdict, judge
from pipeline.ledger import tiers
from tests.ledger.histories import FAULTS, HEALTHY, HTTP_FAULTS, HTTP_HEALTHY, Expected, Fate, History, seeded

QUICK_HISTORIES = 400


def said(verdict: Verdict) -> set[Expected]:
    return {(finding.kind.value, finding.hop, finding.name.id or "?") for finding in verdict.findings}


def among_neighbours(fate: Fate, door: str) -> History:
    return History(door, {**{f"neighbour-{number}": Fate.DELIVERED for number in range(50)}, "the-one": fate})


@pytest.mark.parametrize("fate", FAULTS)
def test_a_fault_is_convicted_with_its_class_its_hop_and_its_id(fate: Fate) -> None:
    books, expected = among_neighbours(fate, "grpc").tell()
    assert 1 == len(expected)
    assert expected == said(judge(books, patient=False))


@pytest.mark.parametrize("fate", HTTP_FAULTS)
def test_and_through_the_http_door(fate: Fate) -> None:
    books, expected = among_neighbours(fate, "http").tell()
    assert 1 == len(expected)
    assert expected == said(judge(books, patient=False))


@pytest.mark.parametrize("door", ["grpc", "http"])
@pytest.mark.parametrize("fate", HTTP_HEALTHY)
def test_what_is_only_odd_convicts_nobody(fate: Fate, door: str) -> None:
    if door == "grpc" and fate not in HEALTHY:
        pytest.skip("only what came by HTTP is transcoded")
    books, _ = among_neighbours(fate, door).tell()
    assert Class.OK is judge(books, patient=False).kind


def test_a_loss_behind_a_duplicate_is_found_though_the_counts_are_equal() -> None:
    history = History(fates={"a": Fate.DELIVERED, "lost": Fate.NOT_AT_LAKE, "doubled": Fate.TWICE_AT_LAKE})
    books, expected = history.tell()
    assert 3 == books.tiers[tiers.GRPC_ACKNOWLEDGED].events == len(books.exits["lake"].elements)
    assert expected == said(judge(books, patient=False))


def test_what_is_missing_is_late_as_long_as_there_is_patience() -> None:
    books, expected = History(fates={"a": Fate.DELIVERED, "b": Fate.NEVER_AT_ANY_EXIT}).tell(patient=True)
    verdict = judge(books, patient=True)
    assert {("LATE", "events-clean", "b")} == expected == said(verdict)
    assert Class.LATE is verdict.kind


def test_an_idle_window_is_fine() -> None:
    books, _ = History().tell()
    assert Class.OK is judge(books, patient=False).kind


@pytest.mark.parametrize("exit", ["lake", "rds"])
def test_an_exit_that_was_not_read_is_unknown_and_never_fine(exit: str) -> None:
    books, _ = History(fates={"a": Fate.DELIVERED}).tell()
    blind = replace(books, exits={name: held for name, held in books.exits.items() if name != exit})
    verdict = judge(blind, patient=False)
    assert [(Class.UNKNOWN, exit)] == [(finding.kind, finding.hop) for finding in verdict.findings]


def test_a_door_that_is_not_accounted_for_is_unknown_and_invents_no_phantoms() -> None:
    books, _ = History(fates={"a": Fate.DELIVERED, "b": Fate.DELIVERED}).tell()
    less, _ = History(fates={"a": Fate.DELIVERED}).tell()
    books = replace(
        books,
        tiers={**books.tiers, tiers.GRPC_ACKNOWLEDGED: less.tiers[tiers.GRPC_ACKNOWLEDGED]},
        unaccounted={tiers.GRPC_ACKNOWLEDGED: "grpc-1 died"},
    )
    assert [(Class.UNKNOWN, "grpc-door")] == [(f.kind, f.hop) for f in judge(books, patient=False).findings]


@pytest.mark.parametrize("tier", [tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN])
def test_a_tier_between_that_stops_reporting_makes_no_loss_and_hides_none(tier: str) -> None:
    books, expected = History(fates={"a": Fate.DELIVERED, "b": Fate.NOT_AT_RDS}).tell()
    deaf = replace(
        books, tiers={name: table for name, table in books.tiers.items() if name != tier}, unaccounted={tier: "silent"}
    )
    verdict = judge(deaf, patient=False)
    assert expected == said(verdict)
    assert f"{tier} is not accounted for: silent" in verdict.findings[0].detail


def test_a_tier_that_stops_reporting_and_is_not_noticed_is_convicted_not_passed_over() -> None:
    books, _ = History(fates={"a": Fate.DELIVERED}).tell()
    deaf = replace(books, tiers={name: table for name, table in books.tiers.items() if name != tiers.BACKUP_EVENTS})
    assert {("LOST", "backup", "a")} == said(judge(deaf, patient=False))


def test_a_tenant_that_was_swapped_is_lost_in_one_and_a_phantom_in_the_other() -> None:
    here, lost = History(fates={"a": Fate.DELIVERED, "b": Fate.DROPPED_BY_REDACTOR}, tenant="acme").tell()
    there, phantom = History(fates={"b": Fate.MADE_UP_BY_REDACTOR}, tenant="other").tell()
    (gone,), (strange,) = judge(here, patient=False).findings, judge(there, patient=False).findings[:1]
    assert (Class.LOST, Class.PHANTOM, gone.key) == (gone.kind, strange.kind, strange.key)
    assert (lost, phantom) == (said(judge(here, patient=False)), said(judge(there, patient=False)))


def test_more_than_a_digest_can_name_is_unknown_and_says_so() -> None:
    books, _ = History(fates={f"e{number}": Fate.NEVER_AT_ANY_EXIT for number in range(1000)}).tell()
    verdict = judge(books, patient=False)
    assert Class.UNKNOWN in {finding.kind for finding in verdict.findings}
    assert {"lake", "rds"} <= {
        finding.hop for finding in verdict.findings if "more events than a digest can name" in finding.detail
    }


@pytest.mark.parametrize("part", range(4))
def test_seeded_histories_are_judged_without_a_confusion(part: int) -> None:
    _judged(range(part * QUICK_HISTORIES // 4, (part + 1) * QUICK_HISTORIES // 4))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_seeded_histories_are_judged_without_a_confusion() -> None:
    _judged(range(10_000))


def _judged(seeds: range) -> None:
    for seed in seeds:
        history, patient = seeded(seed), seed % 5 == 0
        books, expected = history.tell(patient)
        assert expected == said(judge(books, patient=patient)), f"seed {seed}"
