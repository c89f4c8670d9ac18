"""What became of a probe at an exit, judged from what looks at that exit saw of it. Pure: looks in, verdict out.

    delivered   there once, as it was sent, by its due time as far as anybody looked
    late        a look that began after the due time did not see it
    lost        acknowledged, and a look that began after the lost time did not see it; or it was there and is gone
    duplicated  there more often than once, where once is promised
    reordered   seen, after a look that saw a later one of its lane and not this one
    corrupted   there with another content than was sent; the fields are named
    phantom     there, and never sent
    unknown     nobody could look when it mattered, or the event was never acknowledged and never came

Rules. Each of these is told apart from the others: findings are a set, and the verdict is the worst of them. Absence counts
only in a look that worked, from the moment that it began; a look that failed says nothing (TRAPS 30). A deadline needs a look and
no later traffic, so the last event before silence is missed as surely as any other. What was not acknowledged was not
promised: it is never lost, and if it comes it is delivered. Order is no promise of the exits: to be reordered convicts nobody.
Times are seconds since 1970, of the canary's clock alone.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Verdict(StrEnum):
    """In the order of gravity, the worst first."""

    LOST = "lost"
    CORRUPTED = "corrupted"
    PHANTOM = "phantom"
    DUPLICATED = "duplicated"
    LATE = "late"
    UNKNOWN = "unknown"
    REORDERED = "reordered"
    WAITING = "waiting"
    DELIVERED = "delivered"


GRAVITY = {verdict: place for place, verdict in enumerate(Verdict)}
CONVICTING = frozenset({Verdict.LOST, Verdict.CORRUPTED, Verdict.PHANTOM, Verdict.DUPLICATED, Verdict.LATE})


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of nothing: UNKNOWN. A canary that never sent has shown nothing."""
    return min(verdicts, key=GRAVITY.__getitem__, default=Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Of one exit; seconds since the probe was sent."""

    due_seconds: float = 20.0
    lost_seconds: float = 120.0
    # Not seen and nobody could look: after so long that is the final word.
    blind_seconds: float = 900.0
    # After a deadline somebody must have looked within this, or nothing is known.
    look_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one exit says of one probe. `copies` None: it could not look."""

    began: float
    ended: float
    copies: int | None
    # Fields of the copy that are not as they were sent.
    differs: tuple[str, ...] = ()
    # A later probe of the same lane was there.
    overtaken: bool = False


@dataclass(frozen=True, slots=True)
class Sightings:
    """All looks so far, folded: what is kept on disk of one probe at one exit."""

    # The end of the first look that saw it, and the begin of the last one before that which did not.
    seen_at: float | None = None
    absent_at: float | None = None
    # It was there, and this look did not see it any more.
    gone_at: float | None = None
    # The begin of the last look that worked.
    looked_at: float | None = None
    copies: int = 0
    differs: tuple[str, ...] = ()
    overtaken: bool = False


NOTHING = Sightings()


def fold(known: Sightings, look: Look) -> Sightings:
    """Take one more look in. Looks come in the order of their begins; one that failed changes nothing."""
    if look.copies is None:
        return known
    now = replace(known, looked_at=look.began)
    if look.copies > 0:
        return replace(
            now,
            seen_at=look.ended if known.seen_at is None else known.seen_at,
            gone_at=None,
            copies=max(known.copies, look.copies),
            differs=tuple(sorted({*known.differs, *look.differs})),
        )
    if known.seen_at is None:
        return replace(now, absent_at=look.began, overtaken=known.overtaken or look.overtaken)
    return replace(now, gone_at=look.began if known.gone_at is None else known.gone_at)


@dataclass(frozen=True, slots=True)
class Judgement:
    findings: frozenset[Verdict]
    # Nothing that is still to come will be waited for.
    settled: bool
    # From sending to being seen; None: not seen, or nobody looked between the due time and the sighting.
    fresh_seconds: float | None = None
    differs: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst(self.findings)

    @property
    def convicts(self) -> bool:
        return not CONVICTING.isdisjoint(self.findings)


def judge(
    sent_at: float, acknowledged: bool, seen: Sightings, now: float, deadlines: Deadlines, *, once: bool = True
) -> Judgement:
    """`once`: this exit promises to hold one of each; the backup does not (Firehose repeats, TRAPS 27)."""
    due, lost, blind = (sent_at + seconds for seconds in (deadlines.due_seconds, deadlines.lost_seconds, deadlines.blind_seconds))
    if seen.seen_at is None:
        return _unseen(acknowledged, seen, now, due, lost, blind, deadlines.look_seconds)
    findings = set[Verdict]()
    late = acknowledged and seen.absent_at is not None and seen.absent_at >= due
    if late:
        findings.add(Verdict.LATE)
    if seen.gone_at is not None:
        findings.add(Verdict.LOST)
    if once and seen.copies > 1:
        findings.add(Verdict.DUPLICATED)
    if seen.differs:
        findings.add(Verdict.CORRUPTED)
    if seen.overtaken:
        findings.add(Verdict.REORDERED)
    # A second copy is waited for until the due time, if anybody can look then.
    settled = _looked(seen, due) or now >= blind
    timed = late or seen.seen_at <= due
    fresh_seconds = max(0.0, seen.seen_at - sent_at) if timed else None
    return Judgement(frozenset(findings or {Verdict.DELIVERED}), settled, fresh_seconds, seen.differs)


def _unseen(
    acknowledged: bool, seen: Sightings, now: float, due: float, lost: float, blind: float, look_seconds: float
) -> Judgement:
    if not acknowledged:
        over = _looked(seen, lost) or now >= blind
        return Judgement(frozenset({Verdict.UNKNOWN if over else Verdict.WAITING}), over)
    if _looked(seen, lost):
        return Judgement(frozenset({Verdict.LOST}), True)
    if _looked(seen, due):
        return Judgement(frozenset({Verdict.LATE}), now >= blind)
    # Nobody has looked since the due time: it is there, or it is not.
    verdict = Verdict.UNKNOWN if now >= due + look_seconds else Verdict.WAITING
    return Judgement(frozenset({verdict}), now >= blind)


def _looked(seen: Sightings, since: float) -> bool:
    return seen.looked_at is not None and seen.looked_at >= since


def phantoms(observed: Iterable[str], sent: Collection[str]) -> frozenset[str]:
    """What is there under the canary's name and was never sent by it."""
    return frozenset(observed) - frozenset(sent)


def differences(expected: dict[str, str], found: dict[str, str]) -> tuple[str, ...]:
    """Names of the fields that are not what they were, in order: changed, missing, or added."""
    return tuple(sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)))
