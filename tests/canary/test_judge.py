"""The judge tells every class from every other, by looks alone; and a judge that confuses two of them is found."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import pytest

from canary.judge import NOTHING, Judgement, Look, Sightings, Verdict, differences, fold, judge, phantoms, worst
from tests.canary.histories import DEADLINES, SENT_AT, History, history

HISTORIES = tuple(map(history, range(2_500)))


def look(at: float, copies: int | None, *differs: str, overtaken: bool = False) -> Look:
    return Look(SENT_AT + at, SENT_AT + at + 0.1, copies, differs, overtaken)


def judged(*looks: Look, now: float, acknowledged: bool = True, once: bool = True) -> Judgement:
    return judge(SENT_AT, acknowledged, reduce(fold, looks, NOTHING), SENT_AT + now, DEADLINES, once=once)


def one(verdict: Verdict) -> frozenset[Verdict]:
    return frozenset({verdict})


def test_a_probe_that_is_seen_before_its_due_time_is_delivered_and_as_fresh_as_the_look_that_saw_it() -> None:
    found = judged(look(1, 0), look(3, 1), now=4)
    assert (one(Verdict.DELIVERED), False, False) == (found.findings, found.settled, found.convicts)
    assert found.fresh_seconds == pytest.approx(3.1)
    assert judged(look(1, 0), look(3, 1), look(20, 1), now=21).settled


def test_the_last_probe_before_silence_is_missed_without_later_traffic() -> None:
    assert [Verdict.WAITING, Verdict.LATE, Verdict.LATE, Verdict.LOST] == [
        judged(*(look(at, 0) for at in range(1, int(until), 2)), now=until).verdict for until in (19.0, 24.0, 120.0, 125.0)
    ]


def test_late_and_lost_are_told_apart_and_what_was_late_can_still_come() -> None:
    found = judged(look(30, 0), look(60, 1), now=61)
    assert one(Verdict.LATE) == found.findings
    assert found.fresh_seconds == pytest.approx(60.1)


def test_who_could_not_look_says_unknown_and_neither_green_nor_lost() -> None:
    for now in (25.0, 500.0, 2_000.0):
        assert one(Verdict.UNKNOWN) == judged(*(look(at, None) for at in range(int(now))), now=now).findings
    assert judged(look(5, None), now=900.0).settled
    # It comes to light after the blindness: delivered, but when is not known, so nobody is blamed and no freshness is told.
    found = judged(look(2, 0), look(10, None), look(300, 1), now=301)
    assert (one(Verdict.DELIVERED), None) == (found.findings, found.fresh_seconds)


def test_a_canary_that_never_sends_is_unknown_and_not_green() -> None:
    assert Verdict.UNKNOWN == worst(())


def test_what_was_never_acknowledged_is_never_lost_and_may_come() -> None:
    assert one(Verdict.UNKNOWN) == judged(look(130, 0), now=131, acknowledged=False).findings
    assert one(Verdict.DELIVERED) == judged(look(30, 0), look(60, 1), now=61, acknowledged=False).findings


def test_to_be_reordered_is_neither_loss_nor_conviction() -> None:
    found = judged(look(2, 0, overtaken=True), look(4, 1), now=5)
    assert (one(Verdict.REORDERED), False) == (found.findings, found.convicts)


def test_what_was_there_and_is_gone_is_lost_until_it_is_there_again() -> None:
    assert one(Verdict.LOST) == judged(look(2, 1), look(4, 0), now=5).findings
    assert one(Verdict.DELIVERED) == judged(look(2, 1), look(4, 0), look(6, 1), now=7).findings


def test_the_backup_may_hold_two_copies_and_no_other_exit() -> None:
    looks = (look(2, 1), look(4, 2))
    assert (one(Verdict.DUPLICATED), one(Verdict.DELIVERED)) == (
        judged(*looks, now=5).findings,
        judged(*looks, now=5, once=False).findings,
    )


def test_corruption_is_told_field_by_field() -> None:
    expected = {"tenant": "canary", "lines.0.sku": "abcdef", "total_minor": "7"}
    assert () == differences(expected, dict(expected))
    truncated = expected | {"lines.0.sku": "abc"}
    assert ("lines.0.sku",) == differences(expected, truncated)
    swapped = {"tenant": "acme", "lines.0.sku": "abcdef", "card": "1"}
    assert ("card", "tenant", "total_minor") == differences(expected, swapped)
    found = judged(look(2, 1, *differences(expected, truncated)), now=3)
    assert (one(Verdict.CORRUPTED), ("lines.0.sku",)) == (found.findings, found.differs)


def test_a_phantom_is_what_was_never_sent() -> None:
    assert frozenset({"c"}) == phantoms(["a", "c", "c"], {"a", "b"})


# -- seeded histories: nothing is confused, and mutants are convicted

Fold = Callable[[Sightings, Look], Sightings]


def confusions(
    folding: Fold = fold, histories: Sequence[History] = HISTORIES[:500], **changed: object
) -> Counter[tuple[str, str]]:
    """What was expected and what was found instead, where they differ."""
    found: Counter[tuple[str, str]] = Counter()
    for made in histories:
        seen = reduce(folding, made.looks, NOTHING)
        deadlines = replace(DEADLINES, **changed)  # type: ignore[arg-type]
        findings = judge(SENT_AT, made.truth.acknowledged, seen, made.now, deadlines).findings
        if findings != made.expected:
            found[_names(made.expected), _names(findings)] += 1
    return found


def _names(verdicts: frozenset[Verdict]) -> str:
    return "+".join(sorted(verdicts))


def test_of_2500_seeded_histories_none_is_confused_and_every_class_occurs_often() -> None:
    assert Counter() == confusions(histories=HISTORIES)
    often = Counter(verdict for made in HISTORIES for verdict in made.expected)
    classes = set(Verdict) - {Verdict.PHANTOM}
    assert {} == {verdict: often[verdict] for verdict in classes if often[verdict] < 100}


def _blindness_is_absence(known: Sightings, new: Look) -> Sightings:
    return fold(known, replace(new, copies=0) if new.copies is None else new)


def _forgets_the_first_sighting(known: Sightings, new: Look) -> Sightings:
    return replace(fold(known, new), seen_at=new.ended if new.copies else None)


def _counts_one_copy(known: Sightings, new: Look) -> Sightings:
    return fold(known, replace(new, copies=min(new.copies, 1)) if new.copies is not None else new)


def _compares_nothing(known: Sightings, new: Look) -> Sightings:
    return fold(known, replace(new, differs=()))


def _believes_that_it_is_still_there(known: Sightings, new: Look) -> Sightings:
    return replace(fold(known, new), gone_at=None)


def _never_overtaken(known: Sightings, new: Look) -> Sightings:
    return fold(known, replace(new, overtaken=False))


@pytest.mark.parametrize(
    ("mutant", "confused"),
    [
        (_blindness_is_absence, ("unknown", "lost")),
        (_forgets_the_first_sighting, ("lost", "late")),
        (_counts_one_copy, ("duplicated", "delivered")),
        (_compares_nothing, ("corrupted", "delivered")),
        (_believes_that_it_is_still_there, ("lost", "delivered")),
        (_never_overtaken, ("reordered", "delivered")),
    ],
)
def test_a_judge_that_confuses_two_classes_is_convicted(mutant: Fold, confused: tuple[str, str]) -> None:
    assert confused in confusions(mutant)


def test_a_judge_with_other_deadlines_is_convicted() -> None:
    assert ("late", "waiting") in confusions(due_seconds=60.0)
    assert ("lost", "late") in confusions(lost_seconds=600.0)


def test_histories_are_the_same_again_from_their_seed() -> None:
    def again(made: History) -> tuple[object, ...]:
        return made.truth, made.looks, made.now, made.expected

    assert [again(history(seed)) for seed in range(50)] == [again(history(seed)) for seed in range(50)]
