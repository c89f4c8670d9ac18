"""Histories of one window: what befell each event, what every tier, exit and letter then holds, and what has to be said of it.

Nothing here knows how the judge judges: a fate says where an event is, and who is to blame for it by the story that was told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from canary.ledger.books import Books, Holdings, Window
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger import tiers
from pipeline.ledger.identity import of_encoded, of_names
from pipeline.ledger.table import Table

SOURCE = "/shop"
# While no more than these differ otherwise, an altered event is told apart.
ALTERED_NAMED_MAX = 20
FIRST = {"grpc": tiers.GRPC_ACKNOWLEDGED, "http": tiers.HTTP_ACKNOWLEDGED}
OPEN = {"grpc": tiers.GRPC_UNCERTAIN, "http": tiers.HTTP_UNCERTAIN}
BACKUPS = {"grpc": [tiers.BACKUP_EVENTS], "http": [tiers.BACKUP_WEB, tiers.BACKUP_EVENTS]}
# In the order of the path.
PATH = {
    "grpc": [tiers.GRPC_ACKNOWLEDGED, tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN],
    "http": [
        tiers.HTTP_ACKNOWLEDGED,
        tiers.TRANSCODER_READ,
        tiers.GRPC_ACKNOWLEDGED,
        tiers.REDACTOR_READ,
        tiers.REDACTOR_CLEAN,
    ],
}


class Fate(Enum):
    """What befell an event. In brackets: the verdict and the hop that this calls for."""

    DELIVERED = "delivered"
    # -- healthy, however odd
    SENT_TWICE = "its client sent it twice, and both were acknowledged"
    WRITTEN_UNCONFIRMED = "written, but the confirmation was lost, and the client did not come again"
    TRIED_IN_VAIN = "tried, not written, not confirmed"
    WRITTEN_TWICE = "the door wrote it again after a time-out, and both are there"
    BACKED_UP_TWICE = "Firehose repeated itself"
    DEAD_AT_REDACTOR = "a dead letter of the redactor's"
    DEAD_AT_ETL = "a dead letter of every exit's"
    # -- not healthy
    NEVER_WRITTEN = "acknowledged and never written [LOST, the door]"
    SKIPPED = "written, and the next worker passed over it [LOST, that worker]"
    DROPPED_BY_REDACTOR = "read and not written on [LOST, redactor]"
    NEVER_AT_ANY_EXIT = "clean, and at no exit [LOST, events-clean]"
    NOT_AT_LAKE = "[LOST, lake]"
    NOT_AT_RDS = "[LOST, rds]"
    NOT_BACKED_UP = "[LOST, the backup]"
    DOUBLED_BY_REDACTOR = "read once, written twice [DOUBLED, redactor]"
    TWICE_AT_LAKE = "[DOUBLED, lake]"
    TWICE_AT_RDS = "[DOUBLED, rds]"
    MADE_UP_BY_REDACTOR = "nobody sent it, the redactor wrote it [PHANTOM, redactor]"
    MADE_UP_AT_LAKE = "nobody sent it, the lake has it [PHANTOM, lake]"
    ALTERED_ON_THE_WAY = "other bytes were read than written [CORRUPT, who read them]"
    ALTERED_IN_BACKUP = "[CORRUPT, the backup]"
    # -- through the HTTP door only
    DEAD_AT_TRANSCODER = "a dead letter of the transcoder's"
    DROPPED_BY_TRANSCODER = "read and not published [LOST, transcoder]"


HEALTHY = (
    Fate.SENT_TWICE,
    Fate.WRITTEN_UNCONFIRMED,
    Fate.TRIED_IN_VAIN,
    Fate.WRITTEN_TWICE,
    Fate.BACKED_UP_TWICE,
    Fate.DEAD_AT_REDACTOR,
    Fate.DEAD_AT_ETL,
)
FAULTS = tuple(
    fate for fate in Fate if fate not in (Fate.DELIVERED, *HEALTHY, Fate.DEAD_AT_TRANSCODER, Fate.DROPPED_BY_TRANSCODER)
)
HTTP_HEALTHY, HTTP_FAULTS = (*HEALTHY, Fate.DEAD_AT_TRANSCODER), (*FAULTS, Fate.DROPPED_BY_TRANSCODER)

# (class, hop, id)
Expected = tuple[str, str, str]


@dataclass
class History:
    """Events of one window and their fates."""

    door: str = "grpc"
    fates: dict[str, Fate] = field(default_factory=dict)
    tenant: str = "acme"

    def tell(self, patient: bool = False) -> tuple[Books, set[Expected]]:
        """The books of it, and what must be said, no less and no more. Patient, what is missing is only late."""
        story = _Story(self.door)
        for id, fate in self.fates.items():
            story.add(id, fate)
        expected = {("LATE" if patient and kind == "LOST" else kind, hop, id) for kind, hop, id in story.expected}
        return story.books(Window(self.tenant, self.door, 1_700_000_000)), expected


class _Story:
    def __init__(self, door: str) -> None:
        self.door = door
        self.tiers: dict[str, list[bytes]] = {}
        self.exits: dict[str, list[str]] = {"lake": [], "rds": []}
        self.dead: dict[str, list[str]] = {}
        self.expected: set[Expected] = set()

    def add(self, id: str, fate: Fate) -> None:  # noqa: C901 - one case a fate is the plainest way to tell them
        door, path, backups = self.door, PATH[self.door], BACKUPS[self.door]
        reader = "redactor" if door == "grpc" else "transcoder"
        first, rest = path[0], path[1:]
        times = 2 if fate in (Fate.SENT_TWICE, Fate.WRITTEN_TWICE) else 1
        acknowledged = 2 if fate is Fate.SENT_TWICE else 1
        until = len(rest)
        match fate:
            case Fate.TRIED_IN_VAIN:
                self._see([OPEN[door]], id)
                return
            case Fate.WRITTEN_UNCONFIRMED:
                self._see([OPEN[door]], id)
                acknowledged = 0
            case Fate.WRITTEN_TWICE:
                self._see([OPEN[door]], id)
            case Fate.NEVER_WRITTEN:
                self._see([first], id)
                self._say("LOST", f"{door}-door", id)
                return
            case Fate.SKIPPED:
                self._see([first, backups[0]], id)
                self._say("LOST", reader, id)
                return
            case Fate.DEAD_AT_TRANSCODER | Fate.DROPPED_BY_TRANSCODER:
                self._see([first, tiers.TRANSCODER_READ, tiers.BACKUP_WEB], id)
                if fate is Fate.DEAD_AT_TRANSCODER:
                    self.dead.setdefault("transcoder", []).append(id)
                else:
                    self._say("LOST", "transcoder", id)
                return
            case Fate.MADE_UP_BY_REDACTOR:
                self._see([tiers.REDACTOR_CLEAN], id)
                self._arrive(id, "lake", "rds")
                self._say("PHANTOM", "redactor", id)
                return
            case Fate.MADE_UP_AT_LAKE:
                self._arrive(id, "lake")
                self._say("PHANTOM", "lake", id)
                return
            case Fate.DEAD_AT_REDACTOR | Fate.DROPPED_BY_REDACTOR:
                until -= 1
        self._see([first] * acknowledged, id)
        altered = {Fate.ALTERED_ON_THE_WAY: rest[0], Fate.ALTERED_IN_BACKUP: backups[0]}.get(fate)
        for place in (*rest[:until], *backups):
            for _ in range(times):
                self._see([place], id, content="other" if place == altered else "")
        if altered:
            self._say("CORRUPT", reader if altered == rest[0] else altered.partition(":")[0], id)
        match fate:
            case Fate.BACKED_UP_TWICE:
                self._see([backups[0]], id)
            case Fate.NOT_BACKED_UP:
                self.tiers[backups[0]].remove(_encoded(id))
                self._say("LOST", backups[0].partition(":")[0], id)
            case Fate.DOUBLED_BY_REDACTOR:
                self._see([tiers.REDACTOR_CLEAN], id)
                self._say("DOUBLED", "redactor", id)
            case Fate.DEAD_AT_REDACTOR:
                self.dead.setdefault("redactor", []).append(id)
                return
            case Fate.DROPPED_BY_REDACTOR:
                self._say("LOST", "redactor", id)
                return
            case Fate.DEAD_AT_ETL:
                self.dead.setdefault("etl-lake", []).append(id)
                self.dead.setdefault("etl-rds", []).append(id)
                return
            case Fate.NEVER_AT_ANY_EXIT:
                self._say("LOST", "events-clean", id)
                return
            case Fate.NOT_AT_LAKE | Fate.NOT_AT_RDS:
                missing, there = ("lake", "rds") if fate is Fate.NOT_AT_LAKE else ("rds", "lake")
                self._arrive(id, there)
                self._say("LOST", missing, id)
                return
            case Fate.TWICE_AT_LAKE | Fate.TWICE_AT_RDS:
                exit = "lake" if fate is Fate.TWICE_AT_LAKE else "rds"
                self._arrive(id, exit)
                self._say("DOUBLED", exit, id)
        self._arrive(id, "lake", "rds")

    def books(self, window: Window) -> Books:
        return Books(
            window,
            {tier: Table.of(of_encoded(encoded)) for tier, encoded in self.tiers.items()},
            {exit: holdings(ids) for exit, ids in self.exits.items()},
            {stage: holdings(ids) for stage, ids in self.dead.items()},
        )

    def _see(self, places: Sequence[str], id: str, content: str = "") -> None:
        for place in places:
            self.tiers.setdefault(place, []).append(_encoded(id, content))

    def _arrive(self, id: str, *exits: str) -> None:
        for exit in exits:
            self.exits[exit].append(id)

    def _say(self, kind: str, hop: str, id: str) -> None:
        self.expected.add((kind, hop, id))


def holdings(ids: Sequence[str]) -> Holdings:
    return Holdings(of_names([(SOURCE, id) for id in ids]))


def _encoded(id: str, content: str = "") -> bytes:
    return CloudEvent(id=id, source=SOURCE, spec_version="1.0", type="x", text_data=content or "as sent").SerializeToString()


def seeded(seed: int) -> History:
    """A history by chance: mostly delivered, some odd, some wrong; now and then many at once, or none at all."""
    random = Random(seed)
    door = random.choice(("grpc", "http"))
    odd, wrong = (HEALTHY, FAULTS) if door == "grpc" else (HTTP_HEALTHY, HTTP_FAULTS)
    events = random.choice((0, 1, 2, 5, 20, 60, 300))
    share_odd, share_wrong = random.choice((0.0, 0.1, 0.5)), random.choice((0.0, 0.0, 0.02, 0.3))
    # Altered events are found by what is left of contents: few at a time, while not many differ otherwise.
    faults_max, altered_max = 40, 2 if events * (share_odd + share_wrong) <= ALTERED_NAMED_MAX else 0
    history = History(door)
    for number in range(events):
        fate, chance = Fate.DELIVERED, random.random()
        if chance < share_wrong and faults_max:
            fate = random.choice(wrong)
            faults_max -= 1
            if fate in (Fate.ALTERED_ON_THE_WAY, Fate.ALTERED_IN_BACKUP):
                fate = fate if altered_max else Fate.DELIVERED
                altered_max = max(0, altered_max - 1)
        elif chance < share_wrong + share_odd:
            fate = random.choice(odd)
        history.fates[f"{seed}-{number}-{random.getrandbits(64):016x}"] = fate
    return history
