"""The verdict on one window. Pure.

    acknowledged ─┬─► read by the next worker ─► ... ─► clean ─► each exit          and each event is named, with the hop to blame
                  └─► backup

Rules
- The promise is judged between the door and each exit: what was acknowledged is there, or in the dead letters. The tiers between
  them only say where it went missing; a tier that is not accounted for makes the answer less precise, not wrong.
- A digest tells which events two places hold differently often. Whether one is really missing is asked of the exit itself: what
  the client or a worker sent twice is acknowledged twice and delivered once, as it should be.
- Missing is LATE until the patience is over, and LOST then.
- An event at an exit that no door ever tried to write is a PHANTOM. One that was tried and not confirmed is not.
- An exit holds an event once, or it is DOUBLED. Within the redactor, what it read is what it wrote, as often.
- What a reader saw with other bytes than the door wrote is CORRUPT.
- A difference beyond what a digest can name is LATE, too, while there is patience, and then UNKNOWN until somebody compares the
  events themselves (exact.py).
- What could not be seen is UNKNOWN: never OK.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from canary.ledger.books import EXITS, Books, Holdings, Window
from pipeline.ledger import tiers
from pipeline.ledger.identity import Elements, Name, Words, name_of
from pipeline.ledger.table import Difference, Table

# Verdicts, the worst first.
ORDER = ("LOST", "CORRUPT", "PHANTOM", "DOUBLED", "UNKNOWN", "LATE", "OK")
UNREADABLE = Name(None, None, False, False)


class Class(Enum):
    OK = "OK"
    LATE = "LATE"
    LOST = "LOST"
    DOUBLED = "DOUBLED"
    PHANTOM = "PHANTOM"
    CORRUPT = "CORRUPT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Finding:
    """One event, or (key None) something that can't be named, that is not as it should be."""

    kind: Class
    # The hop to blame, as `telemetry.hops` names it, or the stream between two.
    hop: str
    detail: str
    key: int | None = None
    name: Name = UNREADABLE
    # Where it is missing, doubled or a phantom: exits, or "backup".
    places: tuple[str, ...] = ()
    # The last tier that saw it.
    last_seen: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    window: Window
    kind: Class
    # Acknowledged, with repetitions.
    events: int
    findings: tuple[Finding, ...] = ()

    def of(self, kind: Class) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind is kind)


@dataclass(frozen=True, slots=True)
class _Link:
    """From one tier to the next: who is to blame if it goes missing there."""

    before: str
    after: str
    # If the backup has it, it was in the stream and the reader passed over it; if not, the writer never wrote it.
    writer: str
    reader: str
    backup: str = ""
    # What the hop itself puts aside.
    stage: str = ""


_FROM_GRPC = (
    _Link(tiers.GRPC_ACKNOWLEDGED, tiers.REDACTOR_READ, "grpc-door", "redactor", backup=tiers.BACKUP_EVENTS),
    _Link(tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN, "redactor", "redactor", stage="redactor"),
)
_FROM_HTTP = (
    _Link(tiers.HTTP_ACKNOWLEDGED, tiers.TRANSCODER_READ, "http-door", "transcoder", backup=tiers.BACKUP_WEB),
    _Link(tiers.TRANSCODER_READ, tiers.GRPC_ACKNOWLEDGED, "transcoder", "transcoder", stage="transcoder"),
    *_FROM_GRPC,
)
LINKS = {"grpc": _FROM_GRPC, "http": _FROM_HTTP}
BACKUP = {"grpc": tiers.BACKUP_EVENTS, "http": tiers.BACKUP_WEB}
# Whose letters an event may be among that never came to the exit.
STAGES = {"lake": ("transcoder", "redactor", "etl-lake"), "rds": ("transcoder", "redactor", "etl-rds")}
EVENTS_CLEAN = "events-clean"


def judge(books: Books, *, patient: bool, backup_due: bool = True) -> Verdict:
    """`patient`: what is missing may still come. `backup_due`: the backup should hold it all by now."""
    findings = tuple(_Judge(books, patient, backup_due).findings())
    kinds = {finding.kind.value for finding in findings} or {"OK"}
    acknowledged = books.tiers.get(tiers.ACKNOWLEDGED[books.window.door])
    return Verdict(
        books.window,
        Class(next(kind for kind in ORDER if kind in kinds)),
        acknowledged.events if acknowledged is not None else 0,
        findings,
    )


class _Judge:
    def __init__(self, books: Books, patient: bool, backup_due: bool) -> None:
        self._books, self._patient, self._backup_due = books, patient, backup_due
        self._door = books.window.door
        self._first = tiers.ACKNOWLEDGED[self._door]
        self._links = LINKS[self._door]
        self._differences: dict[tuple[str, str], Difference] = {}
        # Phantoms.
        self._strange: set[int] = set()

    def findings(self) -> Iterator[Finding]:
        yield from self._unseen()
        missing: dict[int, list[str]] = {}
        names: dict[int, Name] = {}
        for exit in EXITS:
            if exit in self._books.exits:
                yield from self._at(exit, missing, names)
        for key, exits in missing.items():
            yield self._gone(key, names[key], tuple(exits))
        yield from self._doubled_within()
        yield from self._altered()
        if self._backup_due:
            yield from self._not_backed_up(missing)

    def _unseen(self) -> Iterator[Finding]:
        for exit in EXITS:
            if exit not in self._books.exits:
                why = self._books.unaccounted.get(exit, "it was not read")
                yield Finding(Class.UNKNOWN, exit, f"what {exit} holds is not known: {why}")
        if self._first in self._books.unaccounted:
            why = self._books.unaccounted[self._first]
            yield Finding(Class.UNKNOWN, self._first.partition(":")[0], f"not all of what the door acknowledged is known: {why}")

    def _at(self, exit: str, missing: dict[int, list[str]], names: dict[int, Name]) -> Iterator[Finding]:
        held = self._books.exits[exit]
        there = held.times()
        letters = [self._books.dead[stage] for stage in STAGES[exit] if stage in self._books.dead]
        buried = {key for letter in letters for key in letter.times()}
        settled = _union(held, letters)
        gone = (self._tier(self._first) - settled).decode()
        if not gone.complete:
            yield self._beyond(exit, f"{exit} differs from what was acknowledged in more events than a digest can name")
        for key, entry in gone.missing.items():
            if key not in there and key not in buried:
                missing.setdefault(key, []).append(exit)
                names[key] = _name(entry.name)
        for key, times in there.items():
            if times > 1:
                yield Finding(
                    Class.DOUBLED, exit, f"{exit} holds it {times} times", key, _name(held.name(key)), (exit,), last_seen=exit
                )
        yield from self._phantoms(exit, held, settled)

    def _phantoms(self, exit: str, held: Holdings, settled: Table) -> Iterator[Finding]:
        if self._first in self._books.unaccounted or tiers.UNCERTAIN[self._door] in self._books.unaccounted:
            return
        tried = self._tier(self._first) + self._tier(tiers.UNCERTAIN[self._door])
        beyond = (tried - settled).decode()
        for key in beyond.surplus:
            name = held.name(key)
            if name is not None:
                self._strange.add(key)
                detail = f"{exit} holds it, and no door ever tried to write it"
                yield Finding(Class.PHANTOM, self._first_seen(key) or exit, detail, key, _name(name), (exit,), last_seen=exit)

    def _gone(self, key: int, name: Name, exits: tuple[str, ...]) -> Finding:
        """Who let it go: the first link that it does not pass; behind the last, the exits, or what is before all of them."""
        kind = Class.LATE if self._patient else Class.LOST
        last, doubt = self._first, ""
        for link in self._links:
            if link.after in self._books.unaccounted:
                doubt = f"; {link.after} is not accounted for: {self._books.unaccounted[link.after]}"
                continue
            difference = self._difference(last, link.after, link.stage)
            if not difference.complete:
                doubt = f"; between {last} and {link.after} more differs than a digest can name"
                continue
            if key in difference.missing:
                hop = link.writer if last == link.before and self._never_written(link, key) else link.reader
                return Finding(kind, hop, f"{last} saw it, {link.after} did not{doubt}", key, name, exits, last)
            last = link.after
        hop = exits[0] if len(exits) < len(EXITS) else EVENTS_CLEAN
        return Finding(kind, hop, f"{last} saw it, {' and '.join(exits)} did not{doubt}", key, name, exits, last)

    def _never_written(self, link: _Link, key: int) -> bool:
        """Whether the stream's backup lacks it as well."""
        if not link.backup or not self._backup_due or link.backup in self._books.unaccounted:
            return not link.backup
        return key in self._difference(link.before, link.backup).missing

    def _first_seen(self, key: int) -> str:
        """The hop at which a phantom shows first: the first tier that has it more often than the one before."""
        for link in self._links:
            if {link.before, link.after} & set(self._books.unaccounted):
                continue
            if key in self._difference(link.before, link.after, link.stage).surplus:
                in_stream = link.backup and key in self._difference(link.before, link.backup).surplus
                return link.writer if in_stream else link.reader
        return ""

    def _doubled_within(self) -> Iterator[Finding]:
        if {tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN} & set(self._books.unaccounted):
            return
        for key, entry in self._difference(tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN, "redactor").surplus.items():
            if key not in self._strange:
                detail = f"the redactor wrote it {-entry.times} times more often than it read it"
                yield Finding(Class.DOUBLED, "redactor", detail, key, _name(entry.name), (), tiers.REDACTOR_CLEAN)

    def _altered(self) -> Iterator[Finding]:
        """Bytes that changed between a door and who read them."""
        known = {key for held in (*self._books.exits.values(), *self._books.dead.values()) for key in held.times()}
        for link in self._links:
            if not link.backup:
                continue
            for after, hop in ((link.after, link.reader), (link.backup, _backup_hop(link.backup))):
                if {link.before, after} & set(self._books.unaccounted) or (after == link.backup and not self._backup_due):
                    continue
                difference = self._difference(link.before, after)
                if difference.altered:
                    yield from self._named(difference, known, hop, f"{after} saw other bytes than {link.before} wrote")

    def _named(self, difference: Difference, known: Collection[int], hop: str, detail: str) -> Iterator[Finding]:
        altered = difference.altered_among(known)
        for key in altered:
            yield Finding(Class.CORRUPT, hop, detail, key, self._name_at_exits(key))
        if not altered:
            yield Finding(Class.CORRUPT, hop, detail)

    def _not_backed_up(self, missing: Collection[int]) -> Iterator[Finding]:
        after = BACKUP[self._door]
        if after in self._books.unaccounted:
            yield Finding(Class.UNKNOWN, _backup_hop(after), f"the backup is not known: {self._books.unaccounted[after]}")
            return
        difference = self._difference(self._first, after)
        if not difference.complete:
            yield self._beyond("backup", "the backup differs from what was acknowledged in more events than a digest can name")
        for key, entry in difference.missing.items():
            if key not in missing:
                detail = "acknowledged and delivered, and not in the backup"
                kind = Class.LATE if self._patient else Class.LOST
                yield Finding(kind, _backup_hop(after), detail, key, _name(entry.name), ("backup",), self._first)

    def _beyond(self, hop: str, detail: str) -> Finding:
        return Finding(Class.LATE if self._patient else Class.UNKNOWN, hop, detail)

    def _name_at_exits(self, key: int) -> Name:
        held = (each.name(key) for each in (*self._books.exits.values(), *self._books.dead.values()))
        return _name(next((name for name in held if name is not None), None))

    def _tier(self, name: str) -> Table:
        return self._books.tiers.get(name) or Table()

    def _difference(self, before: str, after: str, stage: str = "") -> Difference:
        """What one tier has and the next lacks, but for what was put aside in between."""
        known = self._differences.get((before, after))
        if known is None:
            table = self._tier(before) - self._tier(after)
            letters = self._books.dead.get(stage)
            if letters is not None:
                table = table - Table.of(letters.once())
            known = self._differences[before, after] = table.decode()
        return known


def _union(held: Holdings, letters: Iterable[Holdings]) -> Table:
    return Table.of(Holdings(Elements.joined([held.elements, *(letter.elements for letter in letters)])).once())


def _backup_hop(tier: str) -> str:
    return tier.partition(":")[0]


def _name(words: Words | None) -> Name:
    return UNREADABLE if words is None else name_of(words)
