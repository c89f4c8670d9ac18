"""Which hop is to blame: told by the pattern of what fails over doors, shards and exits. Pure.

Rules. Each cell, a door by a shard by an exit, is a way past known hops (telemetry.hops). A hop, at one shard or as a whole, is
suspect if every way that fails goes past it and no way that works does; of the suspects the first on the path explains most and
is named, and with it those that the pattern can't tell from it. The narrower explanation wins only if the wider one is
contradicted. What nobody could look at speaks neither for nor against a hop. If no single hop explains all, there are several
faults, and each is told by the way that it explains.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from canary.lanes import DOORS, Door, Slot
from telemetry.hops import BY_NAME, HOPS

WEB_BACKUP = "web-backup"
# More would not be read.
SHARDS_NAMED_MAX = 2
EXITS = ("lake", "rds", "redis", "backup", WEB_BACKUP)
# The stream that a hop reads, or writes; its shard is where the hop may be stuck.
_STREAM_OF = {"http-door": "web-events", "transcoder": "web-events", "grpc-door": "events", "redactor": "events",
              "backup": "events", WEB_BACKUP: "web-events", "etl": "events-clean"}  # fmt: skip
_TITLES = {WEB_BACKUP: "Firehose backup of web-events", "etl": "ETL", "backup": "Firehose backup of events"}
_ORDER: dict[str, float] = {hop.name: place for place, hop in enumerate(HOPS)}
_ORDER |= {"etl": _ORDER["redactor"] + 0.5, "backup": len(HOPS), WEB_BACKUP: len(HOPS) + 1}


class State(StrEnum):
    WORKS = "works"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Cell:
    """What probes of one lane told of one exit lately. An exit of "" is the door itself: whether it acknowledged them."""

    door: Door
    slot: Slot
    exit: str
    state: State


@dataclass(frozen=True, slots=True)
class Suspect:
    """A hop; at one shard of its stream, or as a whole ("")."""

    hop: str
    shard: str = ""

    @property
    def words(self) -> str:
        title = _TITLES.get(self.hop) or BY_NAME[self.hop].title
        return f"{title} ({self.hop})" + (f" at {self.shard} of {_STREAM_OF[self.hop]}" if self.shard else "")


@dataclass(frozen=True, slots=True)
class Blame:
    """`suspects`: those that the pattern can't tell apart, in the order of the path; several blames are several faults."""

    suspects: tuple[Suspect, ...]
    sentence: str
    # Cells that it explains.
    failing: int = 0


def way(door: Door, exit: str) -> tuple[str, ...]:
    """The hops that a probe passes from its door to an exit, in order."""
    if door == "http" and exit in ("", WEB_BACKUP):
        return ("http-door", *([WEB_BACKUP] if exit else []))
    start = ("http-door", "transcoder", "grpc-door") if door == "http" else ("grpc-door",)
    if exit == "":
        return start
    return (*start, "backup") if exit == "backup" else (*start, "redactor", "etl", exit)


def exits_of(door: Door) -> tuple[str, ...]:
    return EXITS if door == "http" else EXITS[:-1]


def hops() -> tuple[str, ...]:
    """Every hop that can be named."""
    return tuple(dict.fromkeys(hop for door in DOORS for exit in exits_of(door) for hop in way(door, exit)))


def _past(cell: Cell) -> frozenset[Suspect]:
    found = set[Suspect]()
    for hop in way(cell.door, cell.exit):
        found.add(Suspect(hop))
        shard = cell.slot.shard(_STREAM_OF.get(hop, ""))
        if shard:
            found.add(Suspect(hop, shard))
    return frozenset(found)


def blame(cells: Sequence[Cell]) -> tuple[Blame, ...]:
    """One blame for each fault that the pattern needs; none if nothing fails."""
    failing = [cell for cell in cells if cell.state is State.FAILS]
    working = frozenset(suspect for cell in cells if cell.state is State.WORKS for suspect in _past(cell))
    found: list[Blame] = []
    while failing:
        explained = {suspect: [cell for cell in failing if suspect in _past(cell)] for suspect in _all(failing) - working}
        if not explained:
            sentence = f"{_cells(failing)}, now and then, where others come through: no single hop explains it."
            found.append(Blame((), sentence, len(failing)))
            break
        most = max(len(of) for of in explained.values())
        first = min((each for each in explained if len(explained[each]) == most), key=_place_on_the_path)
        of = explained[first]
        # At a single shard the whole hop would do as well: then there is no reason to name the shard.
        alike = [suspect for suspect in explained if explained[suspect] == of]
        wide = [suspect for suspect in alike if not suspect.shard]
        named = sorted(wide or alike, key=_place_on_the_path)
        found.append(Blame(tuple(named), _sentence(named, of, cells), len(of)))
        failing = [cell for cell in failing if cell not in of]
    return tuple(found)


def _place_on_the_path(suspect: Suspect) -> tuple[float, str]:
    return _ORDER[suspect.hop], suspect.shard


def _all(cells: Iterable[Cell]) -> frozenset[Suspect]:
    return frozenset(suspect for cell in cells for suspect in _past(cell))


def _sentence(named: Sequence[Suspect], failing: Sequence[Cell], cells: Sequence[Cell]) -> str:
    blamed = " or ".join(suspect.words for suspect in named)
    blind = sorted({cell.exit for cell in cells if cell.state is State.UNKNOWN and cell.exit}, key=_place)
    unknown = [f"of {_and(blind)} nothing is known"] if blind else []
    contrast = _contrast(failing, [cell for cell in cells if cell.state is State.WORKS and cell.exit])
    return f"{blamed}: {'; '.join([_cells(failing), *contrast, *unknown])}."


def _contrast(failing: Sequence[Cell], working: Sequence[Cell]) -> list[str]:
    """What does come through, by what it differs in: the door, the shard, the exit."""
    exits = {cell.exit for cell in failing}
    beside = [cell for cell in working if cell.exit in exits]
    doors = sorted({cell.door for cell in beside} - {cell.door for cell in failing})
    shards = sorted({_shard(cell) for cell in beside} - {_shard(cell) for cell in failing} - {""})
    others = sorted({cell.exit for cell in working} - exits, key=_place)
    told = [f"what came through the {door} door is there" for door in doors]
    told += [f"what goes by {_and(shards)} is there"] if shards else []
    told += [f"{_and(others)} {'have' if len(others) > 1 else 'has'} all of it"] if others else []
    return told or ["nothing comes through anywhere"]


def _cells(cells: Sequence[Cell]) -> str:
    doors, exits = sorted({cell.door for cell in cells}), sorted({cell.exit for cell in cells}, key=_place)
    shards = sorted({_shard(cell) for cell in cells} - {""})
    through = "both doors" if len(doors) == len(DOORS) else f"the {doors[0]} door"
    at = [exit for exit in exits if exit]
    if not at:
        return f"{through} {'acknowledges' if len(doors) == 1 else 'acknowledge'} nothing"
    on = f" on {_and(shards)}" if 0 < len(shards) <= SHARDS_NAMED_MAX else ""
    return f"{_and(at)} {'miss' if len(at) > 1 else 'misses'} what came through {through}{on}"


def _shard(cell: Cell) -> str:
    return cell.slot.shard("events")


def _place(exit: str) -> int:
    return EXITS.index(exit) if exit in EXITS else -1


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
