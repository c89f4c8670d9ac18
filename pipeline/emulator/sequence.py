"""Sequence numbers: decimal strings that rise within a shard and are met nowhere else in the stream.

Rules
- A number is, from its top: a version mark (4 bits), the shard's birth in seconds (36), the shard's low nibble (4),
  the record's counter (64), a zero byte (8), its arrival in seconds (36), the shard's index (32), the version (4).
  So it rises with the counter, a child's numbers are above its parents', and neighbours are far apart, as on AWS:
  a client that counts on `n + 1` fails here as it would there.
- Counter 0 is the shard's starting number and belongs to no record; a closed shard ends above all its records.
Source: Kinesis Data Streams API Reference, "SequenceNumberRange" (what the numbers promise); the layout is the one
that the numbers of AWS show, as written down by the kinesalite project.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 2
COUNTER_END = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Parts:
    """What a sequence number says: which shard (index and birth), and which record of it."""

    shard_index: int
    born_s: int
    counter: int


def head(shard_index: int, born_s: int) -> int:
    """The part that all numbers of a shard share, for `number`."""
    return ((VERSION << 40) | (born_s << 4) | (shard_index & 0xF)) << 144 | (shard_index << 4) | VERSION


def number(shard_head: int, counter: int, arrival_ms: int) -> int:
    return shard_head | (counter << 80) | ((arrival_ms // 1000) << 36)


def parse(text: str) -> Parts | None:
    """The parts of a number, or None where it cannot be one of ours."""
    if not (text.isascii() and text.isdigit() and len(text) <= 60):
        return None
    value = int(text)
    top = value >> 144
    index = (value >> 4) & 0xFFFFFFFF
    if top >> 40 != VERSION or value & 0xF != VERSION or top & 0xF != index & 0xF:
        return None
    return Parts(index, (top >> 4) & 0xFFFFFFFFF, (value >> 80) & 0xFFFFFFFFFFFFFFFF)
