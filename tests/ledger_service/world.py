"""A bucket, processes that report into it, exits and a ledger, under a clock that is set by hand."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from canary.ledger.books import Holdings, Window
from canary.ledger.exits import Found, Located, Wanted
from canary.ledger.hearing import Court
from canary.ledger.service import Service
from canary.ledger.settings import LedgerSettings
from canary.ledger.teller import Teller
from canary.ledger.verdicts import Verdicts
from pipeline import frame
from pipeline.backup.objects import MemoryObjects
from pipeline.backup.reader import Backup
from pipeline.dead_letters.letters import encode as encode_letter
from pipeline.dead_letters.letters import event_letter, key_of
from pipeline.errors import Unavailable
from pipeline.event import StoredRecord
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger import tiers
from pipeline.ledger.identity import Elements, of_encoded, of_names
from pipeline.ledger.recorder import Recorder
from pipeline.ledger.tally import WINDOW_SECONDS
from telemetry.log import configure
from telemetry.metrics import Metrics

NOON = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())
SETTINGS = LedgerSettings(deadline_seconds=30.0, patience_seconds=40.0, backup_due_seconds=60.0, again_seconds=20.0)
SOURCE = "/flights"
GRPC_PATH = (tiers.GRPC_ACKNOWLEDGED, tiers.REDACTOR_READ, tiers.REDACTOR_CLEAN, tiers.BACKUP_EVENTS)
PART_OF = {tier: part for part, of_part in tiers.OF_PART.items() for tier in of_part}
# A whole stack, by part.
PARTS = ("http", "grpc", "transcoder", "redactor", "auditor")


def encoded(id: str, data: bytes = b"x") -> bytes:
    return CloudEvent(id=id, source=SOURCE, type="t", spec_version="1.0", binary_data=data).SerializeToString()


@dataclass
class FakeExit:
    """What is there, by window."""

    name: str
    rows: dict[Window, list[str]] = field(default_factory=dict)
    failure: Exception | None = None
    reads: int = 0

    def read(self, start: int, end: int) -> dict[Window, Holdings]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return {
            window: Holdings(of_names((SOURCE, id) for id in ids))
            for window, ids in self.rows.items()
            if ids and start <= window.start < end
        }

    def find(self, tenant: str, wanted: Sequence[Wanted], hints: Mapping[int, Located]) -> Found:
        if self.failure is not None:
            raise self.failure
        ids = [id for window, ids in self.rows.items() if window.tenant == tenant for id in ids]
        elements = of_names((SOURCE, id) for id in ids)
        keys = np.array([each.key for each in wanted], np.uint64)
        return Found(elements.take(np.flatnonzero(np.isin(elements.keys, keys))))


class World:
    def __init__(self, settings: LedgerSettings = SETTINGS) -> None:
        self.now = float(NOON)
        self.settings = settings
        self.objects = MemoryObjects(now=lambda: datetime.fromtimestamp(self.now, UTC))
        self.lake, self.rds = FakeExit("lake"), FakeExit("rds")
        self.log = io.StringIO()
        self.recorders: dict[str, Recorder] = {}
        self.written_at = dict.fromkeys(PARTS, self.now)
        for part in PARTS:
            self.boot(part)
        self.start()

    def start(self) -> None:
        """A ledger of its own: only what is in the bucket goes on."""
        self.metrics = Metrics()
        teller = Teller(self.metrics, configure("ledger", stream=self.log))
        exits = (self.lake, self.rds)
        court = Court(exits, Backup(self.objects), {"http": "web-events", "grpc": "events"})
        self.service = Service(self.objects, exits, court, teller, self.settings, lambda: self.now)

    def boot(self, part: str) -> None:
        """A process of this part begins; one of before is gone without a word."""
        # Boots of one worker sort by their beginning.
        boot = f"{int(self.now * 1000):x}abcdef"
        self.recorders[part] = Recorder(part, f"{part}-1", self.objects, Metrics(), now=lambda: self.now, boot=boot)

    def end(self, part: str) -> None:
        """It ends in peace."""
        assert self.recorders.pop(part).write(last=True)

    def kill(self, part: str) -> None:
        del self.recorders[part]

    def window(self, door: str = "grpc", at: float | None = None, tenant: str = "acme") -> Window:
        seconds = int(self.now if at is None else at)
        return Window(tenant, door, seconds // WINDOW_SECONDS * WINDOW_SECONDS)

    def see(self, *ids: str, at: Sequence[str] = GRPC_PATH, window: Window | None = None) -> None:
        """These tiers see these events, accepted in this window, or now."""
        window = window or self.window()
        for tier in at:
            recorder = self.recorders.get(PART_OF[tier])
            if recorder is not None:
                micros = window.start * 1_000_000 + 5
                recorder.tally.note(tier, window.tenant, window.door, micros, [encoded(id) for id in ids])

    def deliver(self, *ids: str, window: Window | None = None, to: Sequence[str] = ("lake", "rds")) -> None:
        for exit in (self.lake, self.rds):
            if exit.name in to:
                exit.rows.setdefault(window or self.window(), []).extend(ids)

    def all_is_well(self, *ids: str, window: Window | None = None) -> Window:
        window = window or self.window()
        self.see(*ids, window=window)
        self.deliver(*ids, window=window)
        return window

    def bury(self, id: str, window: Window, stage: str = "redactor") -> str:
        batch = self.batch([id], window)
        record = StoredRecord("events", "shard-0", "1", frame.encode(batch.SerializeToString()), int(self.now * 1e6))
        letter = event_letter(stage, "poison", "why", record, batch, 0)
        self.objects.put(key_of(letter), encode_letter(letter, int(self.now * 1e6)), {})
        return key_of(letter)

    def back_up(self, *ids: str, window: Window, stream: str = "events") -> str:
        """Events of a window, in a backup object that is put now."""
        key = f"backup/{stream}/{datetime.fromtimestamp(self.now, UTC):%Y/%m/%d/%H}/object-{len(self.objects.bodies)}"
        self.objects.put(key, frame.encode(self.batch(ids, window).SerializeToString()), {})
        return key

    @staticmethod
    def batch(ids: Sequence[str], window: Window) -> StoredBatch:
        events = [CloudEvent.FromString(encoded(id)) for id in ids]
        return StoredBatch(
            events=events, tenant=window.tenant, door=window.door, accepted_at_unix_micros=window.start * 1_000_000 + 5, slices=16
        )

    def run(self, seconds: float, step: float = 5.0) -> None:
        """Time passes: processes report, the ledger has its rounds."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            for recorder in self.recorders.values():
                recorder.write()
            self.service.round()

    def away(self) -> None:
        self.objects.failure = Unavailable("away")

    def back(self) -> None:
        self.objects.failure = None

    # What the ledger says.

    @property
    def verdicts(self) -> Verdicts:
        """As whoever reads the bucket sees it."""
        known = Verdicts(self.objects)
        assert [] == known.load(NOON - 7200, self.now)
        return known

    def verdict(self, window: Window) -> str:
        row = self.verdicts.rows.get(window)
        return row.kind.value if row is not None else ""

    def told(self, window: Window) -> list[tuple[str, str, str | None]]:
        """(class, hop, event id) of what is found in a window."""
        row = self.verdicts.rows[window]
        return [(each.kind.value, each.hop, each.name.id) for each in row.findings]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["event"] == event]


def elements(*ids: str) -> Elements:
    return of_encoded([encoded(id) for id in ids])
