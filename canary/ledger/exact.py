"""Places compared event by event, where a digest names too few: what was acknowledged, the exits, the dead letters. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from canary.ledger.books import EXITS, Books, Holdings
from canary.ledger.judge import BACKUP, EVENTS_CLEAN, LINKS, ORDER, STAGES, UNREADABLE, Class, Finding, Verdict
from pipeline.ledger import tiers
from pipeline.ledger.identity import NAME_WORDS, Elements, Name, name_of
from pipeline.ledger.table import Table

# What the judge says of a difference that it can't decode.
BEYOND = "than a digest can name"


@dataclass(frozen=True, slots=True)
class Known:
    """Events that must be at every exit, and those that may be."""

    elements: Elements
    # What was left open at a door and is in the backup: it may be at an exit, and need not.
    also: frozenset[int] = frozenset()
    # Acknowledged, and not in the backup.
    unbacked: frozenset[int] = frozenset()
    # There may be more that was acknowledged.
    complete: bool = True


def is_beyond(verdict: Verdict) -> bool:
    """Whether a digest was too small for what differs."""
    return any(each.kind is Class.UNKNOWN and BEYOND in each.detail for each in verdict.findings)


def known_by(acknowledged: Table, backup: Holdings) -> Known:
    """What was acknowledged, from its digest and what the backup holds: the one can say how little it differs from the other."""
    # Each once: Firehose writes whole objects again when the bucket was away (TRAPS 27).
    once = backup.once()
    difference = (acknowledged - Table.of(once)).decode()
    held = frozenset(once.keys.tolist())
    # It is in the backup and nobody acknowledged it: it was left open at the door.
    also = frozenset(difference.surplus)
    lacks = [entry for entry in difference.missing.values() if entry.key not in held]
    sure = once.take(np.flatnonzero(~np.isin(once.keys, np.fromiter(also, np.uint64, len(also)))))
    names = [entry.name if entry.name is not None else np.zeros(NAME_WORDS, np.uint64) for entry in lacks]
    lacking = Elements(
        np.array([entry.key for entry in lacks], np.uint64),
        np.zeros(len(lacks), np.uint64),
        np.array(names, np.uint64).reshape(len(lacks), NAME_WORDS),
    )
    unbacked = frozenset(entry.key for entry in lacks)
    return Known(Elements.joined([sure, lacking]), also, unbacked, difference.complete)


def compare(books: Books, known: Known, *, patient: bool = False) -> Iterator[Finding]:
    """What is wrong at the exits that were read."""
    wanted = Holdings(known.elements)
    names = {int(key): row for row, key in enumerate(known.elements.keys.tolist())}
    missing: dict[int, list[str]] = {}
    for exit in EXITS:
        if exit not in books.exits:
            continue
        held = books.exits[exit]
        there = held.times()
        buried = {key for stage in STAGES[exit] if stage in books.dead for key in books.dead[stage].times()}
        for key in names:
            if key not in there and key not in buried:
                missing.setdefault(key, []).append(exit)
        for key, times in there.items():
            if times > 1:
                yield Finding(Class.DOUBLED, exit, f"{exit} holds it {times} times", key, _name(held, key), (exit,), exit)
            if known.complete and key not in names and key not in known.also:
                detail = f"{exit} holds it, and it was neither acknowledged nor is it in the backup"
                yield Finding(Class.PHANTOM, exit, detail, key, _name(held, key), (exit,), exit)
    kind = Class.LATE if patient else Class.LOST
    for key, exits in missing.items():
        hop, last = _blamed(books, tuple(exits))
        yield Finding(kind, hop, f"{' and '.join(exits)} did not get it", key, _name(wanted, key), tuple(exits), last)
    for key in known.unbacked - missing.keys():
        detail, hop = "acknowledged and delivered, and not in the backup", BACKUP[books.window.door].partition(":")[0]
        yield Finding(Class.LOST, hop, detail, key, _name(wanted, key), ("backup",), tiers.ACKNOWLEDGED[books.window.door])


def without_beyond(verdict: Verdict, findings: tuple[Finding, ...]) -> Verdict:
    """The verdict with what was found event by event in the place of what a digest could not name."""
    judged_so = {(each.kind, each.key, each.places) for each in findings}
    kept = tuple(
        each
        for each in verdict.findings
        if not (each.kind is Class.UNKNOWN and BEYOND in each.detail)
        and (each.kind, each.key, each.places) not in judged_so
        # One event's loss is told once: the exact comparison has the whole list of exits.
        and not (each.kind in (Class.LOST, Class.LATE) and any(each.key == other.key for other in findings))
    )
    return of_findings(verdict, kept + findings)


def of_findings(verdict: Verdict, findings: tuple[Finding, ...]) -> Verdict:
    kinds = {each.kind.value for each in findings} or {"OK"}
    return Verdict(verdict.window, Class(next(kind for kind in ORDER if kind in kinds)), verdict.events, findings)


def _blamed(books: Books, exits: tuple[str, ...]) -> tuple[str, str]:
    """The hop, and the last tier that saw it: the first link behind which more is missing than a digest can name."""
    if len(exits) < len(EXITS):
        return exits[0], tiers.REDACTOR_CLEAN
    last = tiers.ACKNOWLEDGED[books.window.door]
    for link in LINKS[books.window.door]:
        if {link.before, link.after} & set(books.unaccounted):
            continue
        difference = (books.tiers.get(link.before, Table()) - books.tiers.get(link.after, Table())).decode()
        if not difference.complete:
            return link.reader, link.before
        last = link.after
    return EVENTS_CLEAN, last


def _name(held: Holdings, key: int) -> Name:
    words = held.name(key)
    return UNREADABLE if words is None or not words.any() else name_of(words)
