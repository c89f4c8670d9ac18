"""Rejected events of a client with a spool: kept whole beside it, for the person who mends the producer.

One file per event in `rejected/`, a frame around `spillway.v1.DeadLetter` with stage "sdk". The name is made from the event's
identity, so that keeping it twice overwrites. It is on disk before the spool lets go of the event (TRAPS 6).
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline import frame
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import DeadLetter, StoredBatch
from pipeline.sdk.answers import Rejected
from pipeline.sdk.segment import sync_folder


class RejectedFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def bytes_used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.rejected"))

    def keep(self, event: CloudEvent, rejected: Rejected, now_unix_micros: int) -> int:
        """Write one event down; returns the bytes that it took."""
        self.folder.mkdir(exist_ok=True)
        letter = DeadLetter(
            stage="sdk",
            reason=rejected.reason,
            detail=rejected.message,
            dead_at_unix_micros=now_unix_micros,
            event=StoredBatch(events=[event]),
        )
        name = hashlib.blake2b(f"{len(event.source)} {event.source} {event.id}".encode(), digest_size=16).hexdigest()
        data = frame.encode(letter.SerializeToString())
        half = self.folder / f"{name}.half"
        with half.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.rename(self.folder / f"{name}.rejected")
        sync_folder(self.folder)
        return len(data)

    def read(self) -> Iterator[tuple[Path, DeadLetter]]:
        """What was kept. Raises: Corrupt: a file was damaged."""
        for path in sorted(self.folder.glob("*.rejected")):
            yield path, DeadLetter.FromString(frame.decode(path.read_bytes()))
