"""From the books of a window to its verdict: the judge, and what has to be asked besides.

judge ─► missing? ask the exits for these events at any accept time ─► judge again
      └► more differs than a digest can name, and nothing more will come? the backup is read, and all is compared event by event
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from canary.ledger.books import Books, Holdings
from canary.ledger.exact import compare, is_beyond, known_by, of_findings, without_beyond
from canary.ledger.exits import Exit, Found, Located, Wanted
from canary.ledger.judge import BACKUP, Class, Finding, Verdict, judge
from canary.ledger.scan import Scanned, scan
from pipeline.backup.reader import Backup
from pipeline.errors import SpillwayError
from pipeline.ledger import tiers
from pipeline.ledger.identity import Elements
from pipeline.ledger.table import Table
from telemetry.log import Logger

BY_SCAN = "compared event by event with the backup"
# Events that are asked for singly, of one window.
ASKED_MAX = 400


@dataclass(frozen=True, slots=True)
class Case:
    """A window to be judged: what is known of it, and how long one may wait."""

    books: Books
    patient: bool
    backup_due: bool


@dataclass(frozen=True, slots=True)
class Heard:
    verdict: Verdict
    how: str = ""


class Court:
    """`streams`: of each door, the stream whose backup has what it took in."""

    def __init__(self, exits: Sequence[Exit], backup: Backup, streams: Mapping[str, str], log: Logger | None = None) -> None:
        self._exits, self._backup, self._streams, self._log = exits, backup, streams, log

    def hear(self, cases: Sequence[Case]) -> list[Heard]:
        heard: list[Heard] = []
        unnamed: list[tuple[int, Case]] = []
        for place, case in enumerate(cases):
            verdict, books = self._judged(case)
            heard.append(Heard(verdict))
            if not case.patient and case.backup_due and (is_beyond(verdict) or _backup_unknown(verdict)):
                unnamed.append((place, replace(case, books=books)))
        if unnamed:
            self._scan(unnamed, heard)
        return heard

    def _judged(self, case: Case) -> tuple[Verdict, Books]:
        verdict = judge(case.books, patient=case.patient, backup_due=case.backup_due)
        missing = [each for each in verdict.findings if each.kind in (Class.LATE, Class.LOST) and each.key is not None]
        if not missing or len(missing) > ASKED_MAX:
            return verdict, case.books
        books = self.with_elsewhere(case.books, missing)
        if books is case.books:
            return verdict, books
        return judge(books, patient=case.patient, backup_due=case.backup_due), books

    def with_elsewhere(self, books: Books, missing: Sequence[Finding]) -> Books:
        """The books, with missing events that lie at the exit under another accept time: they were sent before."""
        wanted = [Wanted(each.key, each.name) for each in missing if each.key is not None]
        located: dict[int, Located] = {}
        exits, grown = dict(books.exits), False
        # RDS first: it says where in the lake an event would lie.
        for exit in sorted(self._exits, key=lambda each: each.name != "rds"):
            if exit.name not in exits:
                continue
            try:
                found = exit.find(books.window.tenant, wanted, located)
            except SpillwayError as exc:
                self._say("an exit can't be asked for single events", exit.name, exc)
                continue
            located.update(found.located)
            lacking = _lacking(exits[exit.name], found)
            if len(lacking):
                exits[exit.name], grown = Holdings(Elements.joined([exits[exit.name].elements, lacking])), True
        return replace(books, exits=exits) if grown else books

    def _scan(self, unnamed: Sequence[tuple[int, Case]], heard: list[Heard]) -> None:
        try:
            scanned = scan(self._backup, self._streams, {case.books.window.start for _, case in unnamed})
        except SpillwayError as exc:
            self._say("the backup can't be read for an exact comparison", "backup", exc)
            return
        for place, case in unnamed:
            heard[place] = Heard(settled(case.books, heard[place].verdict, scanned), BY_SCAN)

    def _say(self, what: str, hop: str, exc: SpillwayError) -> None:
        if self._log is not None:
            self._log.warning(what, hop=hop, detail=f"{type(exc).__name__}: {exc}")


def settled(books: Books, verdict: Verdict, scanned: Scanned) -> Verdict:
    """The verdict, with an exact comparison in the place of what no digest could name."""
    window = books.window
    held = scanned.of(window)
    damaged = f"{len(scanned.damaged)} places of the backup are damaged" if scanned.damaged else ""
    first = tiers.ACKNOWLEDGED[window.door]
    if _backup_unknown(verdict) and not damaged:
        # What the auditor could not say the scan can.
        unaccounted = {tier: why for tier, why in books.unaccounted.items() if tier != BACKUP[window.door]}
        books = replace(books, tiers={**books.tiers, BACKUP[window.door]: Table.of(held.elements)}, unaccounted=unaccounted)
        verdict = judge(books, patient=False, backup_due=True)
    if not is_beyond(verdict):
        return verdict
    known = known_by(books.tiers.get(first, Table()), held)
    if first in books.unaccounted:
        known = replace(known, complete=False)
    if damaged:
        known = replace(known, complete=False, unbacked=frozenset())
    done = without_beyond(verdict, tuple(compare(books, known)))
    if known.complete:
        return done
    why = damaged or books.unaccounted.get(first) or "the backup differs too much from what was acknowledged"
    doubt = Finding(Class.UNKNOWN, "backup", f"the exact comparison does not know all that was acknowledged: {why}")
    return of_findings(done, (*done.findings, doubt))


def _backup_unknown(verdict: Verdict) -> bool:
    return any(each.kind is Class.UNKNOWN and each.hop.startswith("backup") for each in verdict.findings)


def _lacking(held: Holdings, found: Found) -> Elements:
    """Of what was found, the events of which the exit holds none under this window."""
    return found.elements.take(np.flatnonzero(~np.isin(found.elements.keys, held.elements.keys)))
