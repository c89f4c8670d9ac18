"""A stretch of accept times judged exactly, from the stores alone: what the backup holds against exits and dead letters.

No digest and no verdict is used, so this can be asked of a stretch that nobody kept a ledger of, as long as its backup is kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from canary.ledger.books import Books, Holdings, Window
from canary.ledger.exact import Known, compare, of_findings
from canary.ledger.exits import Exit
from canary.ledger.hearing import Court
from canary.ledger.judge import Class, Finding, Verdict
from canary.ledger.letters import LetterSource
from canary.ledger.scan import Scanned, scan
from pipeline.backup.reader import Backup
from pipeline.errors import SpillwayError
from pipeline.ledger.identity import Elements
from pipeline.ledger.tally import WINDOW_SECONDS

STRETCH_SECONDS = 12 * WINDOW_SECONDS
BACKED_UP = "backup"


@dataclass(frozen=True, slots=True)
class Stores:
    exits: Sequence[Exit]
    letters: LetterSource
    backup: Backup
    # Of each door, the stream whose backup has what it took in.
    streams: Mapping[str, str]


def verify(
    stores: Stores, start: int, end: int, told: Callable[[str, int, int], None] = lambda what, done, of: None
) -> Iterator[Verdict]:
    """A verdict for each window that begins from `start` up to `end` and of which any store holds something.

    Raises: Unavailable: the backup or the dead letters can't be read. An exit that can't be read makes its windows UNKNOWN.
    """
    starts = range(start, end, WINDOW_SECONDS)
    scanned = scan(stores.backup, stores.streams, starts, told=lambda done, of: told("objects of the backup", done, of))
    court = Court(stores.exits, stores.backup, stores.streams)
    for number, first in enumerate(range(start, end, STRETCH_SECONDS)):
        last = min(end, first + STRETCH_SECONDS)
        yield from _stretch(stores, court, scanned, first, last)
        told("stretches of the exits", number + 1, -(-(end - start) // STRETCH_SECONDS))


def _stretch(stores: Stores, court: Court, scanned: Scanned, start: int, end: int) -> Iterator[Verdict]:
    held: dict[str, dict[Window, Holdings]] = {}
    unread: dict[str, str] = {}
    for exit in stores.exits:
        try:
            held[exit.name] = exit.read(start, end)
        except SpillwayError as exc:
            unread[exit.name] = str(exc)
    windows = {window for window in scanned.holdings if start <= window.start < end}
    windows |= {window for of_exit in held.values() for window in of_exit}
    nothing = Holdings(Elements.none())
    for window in sorted(windows, key=lambda each: (each.start, each)):
        exits = {exit: of_exit.get(window, nothing) for exit, of_exit in held.items()}
        books = Books(window, {}, exits, stores.letters.of(window), unread)
        yield _verdict(court, books, scanned)


def _verdict(court: Court, books: Books, scanned: Scanned) -> Verdict:
    held = Holdings(scanned.of(books.window).once())
    known = Known(held.elements)
    found = list(compare(books, known))
    if any(each.kind is Class.LOST for each in found):
        books = court.with_elsewhere(books, [each for each in found if each.kind is Class.LOST])
        found = list(compare(books, known))
    findings = [_in_words(each) for each in found]
    for exit, why in books.unaccounted.items():
        findings.append(Finding(Class.UNKNOWN, exit, f"what {exit} holds is not known: {why}"))
    if scanned.damaged:
        detail = f"{len(scanned.damaged)} places of the backup are damaged: what was in them is not known"
        findings.append(Finding(Class.UNKNOWN, BACKED_UP, detail))
    return of_findings(Verdict(books.window, Class.OK, len(held.elements)), tuple(findings))


def _in_words(each: Finding) -> Finding:
    if each.kind is Class.PHANTOM:
        return replace(each, detail=f"{each.hop} holds it and the backup does not: no door wrote it, or the backup lacks it")
    if each.kind is Class.LOST:
        return replace(each, last_seen=BACKED_UP)
    return each
