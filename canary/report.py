"""What the canary has to say, as one value: for the command, the console and whoever asks its port. Built in the canary's thread.

Rules. What is convicted stays so for as long as "lately" reaches, healed or not; what is UNKNOWN is never shown as held (TRAPS
30). The pattern of the newest probes names the hop (canary/blame.py). A strip has a letter per stretch of time: the worst that
happened to what was sent then, of both what is settled and what is under way.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from canary.blame import EXITS, Blame, Cell, State, Suspect, blame, exits_of
from canary.exits import percentile
from canary.judge import CONVICTING, GRAVITY, Verdict, worst
from canary.lanes import DOORS, Door
from canary.state import Case, Checked
from canary.watch import Canary, Recent

# Of strips, the newest last: by the minute and by five.
FINE_MINUTES, FINE_COUNT, COARSE_MINUTES = 1, 60, 5
LETTERS = {
    Verdict.DELIVERED: "d", Verdict.LATE: "l", Verdict.LOST: "x", Verdict.DUPLICATED: "2", Verdict.REORDERED: "r",
    Verdict.CORRUPTED: "c", Verdict.PHANTOM: "p", Verdict.UNKNOWN: "?", Verdict.WAITING: ".",
}  # fmt: skip
NOTHING_SENT = " "


class Outcome(StrEnum):
    HELD = "held"
    CONVICTED = "convicted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """One exit through one door, lately."""

    exit: str
    door: str
    verdict: str
    # Settled or visible by now; of these, those that came as they should.
    judged: int
    delivered: int
    waiting: int
    overdue: int
    oldest_overdue_seconds: float
    fresh_p50_seconds: float | None
    fresh_p99_seconds: float | None
    # Since the last look that worked; None: never.
    looked_seconds: float | None
    blind: str
    due_seconds: float
    # A letter per minute, and per five minutes; the newest last.
    fine: str = ""
    coarse: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    at: float
    source: str
    outcome: str
    sentence: str
    interval_seconds: float
    lately_seconds: float
    shards: int
    sent: int
    pending: int
    rows: tuple[Row, ...]
    blames: tuple[Blame, ...]
    doors: tuple[tuple[str, str], ...]
    cases: tuple[Case, ...]
    checks: tuple[Checked, ...]
    fine_minutes: int = FINE_MINUTES
    coarse_minutes: int = COARSE_MINUTES

    def json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(said: Mapping[str, Any]) -> Report:
    """The way back. Raises: KeyError, TypeError, ValueError: that is no report."""
    parts: dict[str, tuple[Any, ...]] = {
        "rows": tuple(Row(**row) for row in said["rows"]),
        "blames": tuple(
            Blame(tuple(Suspect(**one) for one in each["suspects"]), each["sentence"], each["failing"]) for each in said["blames"]
        ),
        "doors": tuple((str(door), str(words)) for door, words in said["doors"]),
        "cases": tuple(Case(**case) for case in said["cases"]),
        "checks": tuple(Checked(**check) for check in said["checks"]),
    }
    made = Report(**{**said, **parts})
    Outcome(made.outcome)
    return made


Strips = Mapping[tuple[str, str], tuple[str, str]]


def report(canary: Canary, checks: Sequence[Checked], drawn: Strips | None = None) -> Report:
    """`drawn`: strips of a moment ago, where drawing them each time would cost too much."""
    now = canary.clock()
    drawn = strips(canary, now) if drawn is None else drawn
    judged = list(_lately(canary, now))
    newest = _newest(judged)
    cells = [*_door_cells(canary), *_exit_cells(newest)]
    blames = blame(cells)
    rows = tuple(
        _row(canary, exit, door, judged, newest, drawn.get((exit, door), ("", "")), now)
        for exit in EXITS if exit in canary.eyes
        for door in DOORS if door in canary.rounds.voices and exit in exits_of(door)
    )  # fmt: skip
    cases = canary.state.cases()
    outcome = _outcome(canary, rows, judged, cells, checks, now)
    return Report(
        at=now,
        source=canary.state.source,
        outcome=outcome.value,
        sentence=_sentence(canary, outcome, rows, blames, checks, now),
        interval_seconds=canary.settings.interval_seconds,
        lately_seconds=canary.settings.lately_seconds,
        shards=len(canary.rounds.slots),
        sent=canary.rounds.sent,
        pending=len(canary.open),
        rows=rows,
        blames=blames,
        doors=tuple((door, _door_words(canary, door)) for door in canary.rounds.voices),
        cases=tuple(cases),
        checks=tuple(checks),
    )


def _lately(canary: Canary, now: float) -> Iterator[Recent]:
    """What was sent lately, or is under way, as it stands."""
    for one in canary.open.values():
        for exit in canary.exits_of(one):
            judgement = canary.judgement(one, exit)
            yield Recent(one.probe, one.slot, exit, judgement.verdict, judgement.fresh_seconds)
    for recent in canary.recent:
        if recent.probe.number not in canary.open and recent.probe.sent_at >= now - _window(canary, recent.exit):
            yield recent


def _window(canary: Canary, exit: str) -> float:
    """An exit that is slow by design still has its last probes in view."""
    return canary.settings.lately_seconds + canary.settings.deadlines(exit).lost_seconds


Newest = dict[tuple[Door, int, str], Recent]


def _newest(judged: Sequence[Recent]) -> Newest:
    """By lane and exit, the last probe of which something is known."""
    found: Newest = {}
    for one in judged:
        lane = (one.probe.door, one.slot.slice, one.exit)
        if one.verdict is not Verdict.WAITING and (lane not in found or found[lane].probe.number < one.probe.number):
            found[lane] = one
    return found


def _exit_cells(newest: Newest) -> Iterator[Cell]:
    for (door, _, exit), one in newest.items():
        state = State.FAILS if one.verdict in CONVICTING else State.UNKNOWN if one.verdict is Verdict.UNKNOWN else State.WORKS
        yield Cell(door, one.slot, exit, state)


def _door_cells(canary: Canary) -> Iterator[Cell]:
    for door, voice in canary.rounds.voices.items():
        for slot, outcome, _, _ in voice.last.values():
            yield Cell(door, slot, "", State.WORKS if outcome == "accepted" else State.FAILS)


def _row(
    canary: Canary, exit: str, door: Door, judged: Sequence[Recent], newest: Newest, drawn: tuple[str, str], now: float
) -> Row:
    ours = [one for one in judged if (one.exit, one.probe.door) == (exit, door)]
    known = [one for one in ours if one.verdict is not Verdict.WAITING]
    overdue = [one for one in known if one.verdict in (Verdict.LATE, Verdict.LOST) and one.fresh_seconds is None]
    fresh = [one.fresh_seconds for one in known if one.fresh_seconds is not None]
    eye = canary.eyes[exit]
    return Row(
        exit=exit,
        door=door,
        verdict=worst(one.verdict for (of_door, _, at), one in newest.items() if (of_door, at) == (door, exit)).value,
        judged=len(known),
        delivered=sum(one.verdict in (Verdict.DELIVERED, Verdict.REORDERED) for one in known),
        waiting=len(ours) - len(known),
        overdue=len(overdue),
        oldest_overdue_seconds=max((now - one.probe.sent_at for one in overdue), default=0.0),
        fresh_p50_seconds=percentile(fresh, 0.5),
        fresh_p99_seconds=percentile(fresh, 0.99),
        looked_seconds=now - eye.worked if eye.worked else None,
        blind=eye.blind,
        due_seconds=canary.settings.deadlines(exit).due_seconds,
        fine=drawn[0],
        coarse=drawn[1],
    )


def strips(canary: Canary, now: float) -> Strips:
    """By exit and door: a letter a minute, and a letter every five minutes."""
    last, coarse_count = int(now // 60), int(canary.settings.strip_hours * 60 / COARSE_MINUTES)
    by_minute: dict[tuple[str, str, int], Verdict] = {}

    def take(minute: int, exit: str, door: str, verdict: Verdict) -> None:
        known = by_minute.get((exit, door, minute))
        if known is None or GRAVITY[verdict] < GRAVITY[known]:
            by_minute[exit, door, minute] = verdict

    for minute, exit, door, verdict, _ in canary.state.strip(last - coarse_count * COARSE_MINUTES):
        take(minute, exit, door, verdict)
    for one in canary.open.values():
        for exit in canary.exits_of(one):
            take(int(one.probe.sent_at // 60), exit, one.probe.door, canary.judgement(one, exit).verdict)
    coarse: dict[tuple[str, str], dict[int, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    for (exit, door, minute), verdict in by_minute.items():
        coarse[exit, door][minute // COARSE_MINUTES].append(verdict)
    return {
        (exit, door): (
            "".join(_letter([by_minute[exit, door, m]] if (exit, door, m) in by_minute else []) for m in _last(last, FINE_COUNT)),
            "".join(_letter(cells.get(stretch, [])) for stretch in _last(last // COARSE_MINUTES, coarse_count)),
        )
        for (exit, door), cells in coarse.items()
    }


def _last(newest: int, count: int) -> range:
    return range(newest - count + 1, newest + 1)


def _letter(verdicts: Sequence[Verdict]) -> str:
    return LETTERS[worst(verdicts)] if verdicts else NOTHING_SENT


# -- in words


def _outcome(
    canary: Canary, rows: Sequence[Row], judged: Sequence[Recent], cells: Sequence[Cell], checks: Sequence[Checked], now: float
) -> Outcome:
    lately = now - canary.settings.lately_seconds
    if (
        any(cell.state is State.FAILS for cell in cells)
        or any(one.verdict in CONVICTING for one in judged)
        or any(case.at >= lately for case in canary.state.cases(1))
        or any(check.verdict == Outcome.CONVICTED for check in checks)
    ):
        return Outcome.CONVICTED
    blind = any(row.verdict == Verdict.UNKNOWN or row.blind for row in rows)
    unchecked = any(check.verdict == Outcome.UNKNOWN for check in checks)
    if not rows or blind or unchecked or canary.rounds.held_back_since:
        return Outcome.UNKNOWN
    return Outcome.HELD


def _sentence(
    canary: Canary, outcome: Outcome, rows: Sequence[Row], blames: Sequence[Blame], checks: Sequence[Checked], now: float
) -> str:
    said = [each.sentence for each in blames]
    said += [f"{check.name}: {check.sentence}" for check in checks if check.verdict == Outcome.CONVICTED]
    if outcome is Outcome.CONVICTED and not said:
        case = next(iter(canary.state.cases(1)), None)
        if case is not None:
            at = time.strftime("%H:%M:%S", time.gmtime(case.at))
            which = "that can be looked at " if any(row.blind for row in rows) else ""
            said.append(f"Every exit {which}delivers now; {case.event} was {case.verdict} at {case.exit} ({at} UTC).")
    blind = {row.exit: row.blind for row in rows if row.blind}
    said += [f"{exit} can't be looked at: {why}." for exit, why in blind.items()]
    if canary.rounds.held_back_since:
        said.append(f"No probe is sent since {now - canary.rounds.held_back_since:.0f} s: {len(canary.open)} are under way.")
    if outcome is Outcome.UNKNOWN:
        said += [f"{check.name} is not known: {check.sentence}" for check in checks if check.verdict == Outcome.UNKNOWN]
    silent = sorted({f"{row.exit} through {row.door}" for row in rows if row.verdict == Verdict.UNKNOWN and not row.blind})
    if silent and outcome is Outcome.UNKNOWN:
        said.append(f"Nothing is known yet of {', '.join(silent)}.")
    if said:
        return " ".join(said)
    known = sum(row.judged for row in rows)
    count, doors = len(canary.rounds.slots), len(canary.rounds.voices)
    shards = f"each of {count} shards" if count > 1 else "the one shard" if count else "one slice"
    return f"Every probe is where it should be: {known} sightings lately, through {doors} doors onto {shards}."


def _door_words(canary: Canary, door: Door) -> str:
    last = list(canary.rounds.voices[door].last.values())
    if not last:
        return "unknown: nothing was sent"
    bad = [(slot, outcome, why) for slot, outcome, why, _ in last if outcome != "accepted"]
    return "acknowledges" if not bad else f"{bad[0][1]}: {bad[0][2]}"
