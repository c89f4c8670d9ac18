"""A segment: what one process saw since its last one, as an object in the bucket. Pure.

    ledger/digests/yyyy/MM/dd/HH/<worker>/<boot>-<number>

Rules
- Numbers of one boot have no holes, and the last says that it is the last. A hole, or an end without a last one, means that what
  was seen then is not accounted for.
- A segment says what time it reaches to: what the process saw until then is in this one and those before. An idle process writes
  empty ones, since silence must not look like idleness.
- Its bytes are frames (pipeline/frame.py), a head and one for each digest, so that damage is noticed.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import orjson

from pipeline import frame
from pipeline.errors import Corrupt
from pipeline.ledger.identity import NAME_WORDS, Elements
from pipeline.ledger.table import CELLS, PART_CELLS, PARTS, WORDS, Table
from pipeline.ledger.tally import WINDOW_SECONDS, Digest, Slot

PREFIX = "ledger/digests/"
VERSION = 1
# Of the geometry that both sides must share.
_GEOMETRY = [WINDOW_SECONDS, PARTS, PART_CELLS, WORDS]
_ELEMENT_WORDS = 2 + NAME_WORDS
_COMPRESSION = 1
_KEY = re.compile(r"ledger/digests/\d{4}/\d\d/\d\d/\d\d/(?P<worker>[^/]+)/(?P<boot>[0-9a-z]+)-(?P<number>\d+)\Z")


@dataclass(frozen=True, slots=True)
class Segment:
    """Times are seconds since 1970, by the process's clock."""

    part: str
    worker: str
    boot: str
    # From 0 for each boot.
    number: int
    began_at: float
    reaches_to: float
    # The process ended in peace, and has nothing more to say.
    last: bool = False
    digests: Mapping[Slot, Digest] = field(default_factory=dict)
    # Windows of which this process dropped something.
    incomplete: Sequence[int] = ()

    @property
    def key(self) -> str:
        return f"{PREFIX}{hour_of(self.reaches_to)}/{self.worker}/{self.boot}-{self.number:08d}"


@dataclass(frozen=True, slots=True)
class Place:
    """What a segment's key says."""

    worker: str
    boot: str
    number: int


def hour_of(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y/%m/%d/%H}"


def place_of(key: str) -> Place | None:
    found = _KEY.match(key)
    return Place(found["worker"], found["boot"], int(found["number"])) if found else None


def encode(segment: Segment) -> bytes:
    head = {
        "version": VERSION,
        "geometry": _GEOMETRY,
        "part": segment.part,
        "worker": segment.worker,
        "boot": segment.boot,
        "number": segment.number,
        "began_at": segment.began_at,
        "reaches_to": segment.reaches_to,
        "last": segment.last,
        "digests": len(segment.digests),
        "incomplete": sorted(segment.incomplete),
    }
    parts = [_part(slot, digest) for slot, digest in segment.digests.items()]
    return frame.join([orjson.dumps(head), *parts])


def decode(body: bytes) -> Segment:
    """Raises: Corrupt: it is damaged, or of a geometry that can't be added to ours."""
    parts = []
    for part in frame.split(body):
        if isinstance(part, frame.Damage):
            raise Corrupt(f"the segment is damaged: {part.reason} at byte {part.start}")
        parts.append(part.data)
    try:
        head = orjson.loads(parts[0])
        if head["version"] != VERSION or head["geometry"] != _GEOMETRY:
            raise Corrupt(f"a segment of version {head['version']} and geometry {head['geometry']} can't be added to ours")
        if head["digests"] != len(parts) - 1:
            raise Corrupt(f"{len(parts) - 1} digests where {head['digests']} were written")
        return Segment(
            head["part"],
            head["worker"],
            head["boot"],
            head["number"],
            head["began_at"],
            head["reaches_to"],
            head["last"],
            dict(_digest(part) for part in parts[1:]),
            tuple(head["incomplete"]),
        )
    except (IndexError, KeyError, TypeError, ValueError, zlib.error) as exc:
        raise Corrupt("the segment is whole but can't be read") from exc


def _part(slot: Slot, digest: Digest) -> bytes:
    blobs = [] if digest.tabled is None else [digest.tabled.cells]
    listed = Elements.joined(digest.listed)
    if len(listed):
        blobs.append(np.column_stack((listed.keys, listed.contents, listed.names)))
    head = {"slot": list(slot), "table": digest.tabled is not None, "listed": len(listed)}
    raw = b"".join(np.ascontiguousarray(blob, "<u8").tobytes() for blob in blobs)
    return orjson.dumps(head) + b"\n" + zlib.compress(raw, _COMPRESSION)


def _digest(part: bytes) -> tuple[Slot, Digest]:
    head, _, body = part.partition(b"\n")
    said = orjson.loads(head)
    words = np.frombuffer(zlib.decompress(body), "<u8").astype(np.uint64)
    in_table = CELLS * WORDS if said["table"] else 0
    rows = words[in_table:].reshape(said["listed"], _ELEMENT_WORDS)
    digest = Digest()
    if said["table"]:
        digest.tabled = Table(words[:in_table].reshape(CELLS, WORDS).copy())
    if len(rows):
        digest.listed.append(Elements(rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2:].copy()))
    return Slot(*said["slot"]), digest
