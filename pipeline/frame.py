"""The frame around every record: how joined records split again, and how damage is located.

Firehose joins records with nothing between them (TRAPS 10). A frame is

    magic "SPWY" · version u8 · flags u8 · reserved u16 · length u32 · header check u32 · payload · payload check u32

all little-endian; both checks are CRC32C, the header's over the 12 bytes before it, the payload's over the payload. The
header has its own check so that a flipped length is noticed at once instead of swallowing what follows. After damage the
reader looks for the next magic whose header check holds, so one bad frame costs one frame.

`split` is the law: split(join(frames)) gives the payloads back, whatever the chunks; of damaged bytes, every undamaged
frame and the byte range of everything else.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import google_crc32c

from pipeline.errors import Corrupt

MAGIC = b"SPWY"
VERSION = 1
_HEADER = struct.Struct("<4sBBHI")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
OVERHEAD_BYTES = HEADER_BYTES + _CHECK.size
# Kinesis takes 10 MiB at most in one record; a length beyond that is damage.
PAYLOAD_BYTES_MAX = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Payload:
    """One whole frame's content and where in the bytes its frame began."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from `start` up to `end` that are no whole frame, and why."""

    start: int
    end: int
    reason: str


def encode(payload: bytes) -> bytes:
    """Raises: ValueError: the payload is larger than a record can be."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a payload of {len(payload)} bytes does not fit a frame of at most {PAYLOAD_BYTES_MAX}")
    header = _HEADER.pack(MAGIC, VERSION, 0, 0, len(payload))
    return b"".join((header, _CHECK.pack(google_crc32c.value(header)), payload, _CHECK.pack(google_crc32c.value(payload))))


def decode(data: bytes) -> bytes:
    """The payload of a record that holds exactly one frame.

    Raises:
        Corrupt: it does not.
    """
    found = list(split(data))
    if len(found) == 1 and isinstance(found[0], Payload):
        return found[0].data
    damage = next((part for part in found if isinstance(part, Damage)), None)
    raise Corrupt(f"{damage.reason} at byte {damage.start}" if damage else f"{len(found)} frames where one was expected")


def inside(frame: bytes) -> memoryview:
    """The payload of what `encode` has just made, where it lies: nothing is checked."""
    return memoryview(frame)[HEADER_BYTES : -_CHECK.size]


def split(data: bytes) -> Iterator[Payload | Damage]:
    """The frames of joined records in order, with every stretch of damage between them."""
    position, damaged_from, reason = 0, None, ""
    while position < len(data):
        end, complaint = _whole_frame(data, position)
        if end is not None:
            if damaged_from is not None:
                yield Damage(damaged_from, position, reason)
                damaged_from = None
            yield Payload(position, data[position + HEADER_BYTES : end - _CHECK.size])
            position = end
            continue
        if damaged_from is None:
            damaged_from, reason = position, complaint
        following = data.find(MAGIC, position + 1)
        position = following if following >= 0 else len(data)
    if damaged_from is not None:
        yield Damage(damaged_from, len(data), reason)


def _whole_frame(data: bytes, start: int) -> tuple[int | None, str]:
    """Where the frame that starts here ends, or None and what is wrong with it."""
    header = data[start : start + _HEADER.size]
    if len(data) - start < HEADER_BYTES:
        return None, "truncated header"
    magic, version, _, _, length = _HEADER.unpack(header)
    if magic != MAGIC:
        return None, "no magic"
    if _CHECK.unpack_from(data, start + _HEADER.size)[0] != google_crc32c.value(header):
        return None, "header check failed"
    if version != VERSION:
        return None, f"unknown version {version}"
    end = start + HEADER_BYTES + length + _CHECK.size
    if length > PAYLOAD_BYTES_MAX or end > len(data):
        return None, "truncated payload"
    payload = data[start + HEADER_BYTES : end - _CHECK.size]
    if _CHECK.unpack_from(data, end - _CHECK.size)[0] != google_crc32c.value(payload):
        return None, "payload check failed"
    return end, ""


def join(payloads: Iterable[bytes]) -> bytes:
    """What Firehose makes of records with these payloads."""
    return b"".join(encode(payload) for payload in payloads)
