"""What is inside a compressed object, and how far it could be read. Pure.

Deflate can't be entered in the middle: after damage the rest of that member is gone. What came before it is not, to the byte,
and an object of several members (a joined one) is read on at the next member's magic. A check that fails at the end of a member
says that something in it is wrong, not where: its bytes are given out, and the frames' own checks locate it (pipeline/frame.py).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x1f\x8b\x08"
_GZIP_WINDOW_BITS = 31
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Damage:
    """Compressed bytes from `start` up to `end` that could not be read to their end, and why."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plain:
    """The bytes that could be read, joined, and the damage between or behind them."""

    data: bytes
    damage: tuple[Damage, ...]


def plain(body: bytes) -> Plain:
    """The content of an object; one that is not compressed is its own content."""
    if not body.startswith(MAGIC):
        return Plain(body, ())
    parts: list[bytes] = []
    damage: list[Damage] = []
    start: int | None = 0
    while start is not None and start < len(body):
        data, end, reason = _member(body, start)
        parts.append(data)
        if not reason:
            start = end
            if start < len(body) and not body.startswith(MAGIC, start):
                start, reason = body.find(MAGIC, end), "no compressed member"
                damage.append(Damage(end, start if start >= 0 else len(body), reason))
        else:
            following = body.find(MAGIC, start + 1)
            # A cut member runs into the next one before zlib notices: then the damage is the cut member's.
            broken_from = start if 0 <= following < end else end
            damage.append(Damage(broken_from, following if following >= 0 else len(body), reason))
            start = following
        start = None if start < 0 else start
    return Plain(b"".join(parts), tuple(damage))


def _member(body: bytes, start: int) -> tuple[bytes, int, str]:
    """What one member holds, where its reading ended, and what stopped it ("" if nothing did)."""
    reader = zlib.decompressobj(_GZIP_WINDOW_BITS)
    parts: list[bytes] = []
    for at, chunk in _chunks(body, start, _CHUNK_BYTES):
        try:
            parts.append(reader.decompress(chunk))
        except zlib.error:
            return _to_the_byte(body, start, at)
        if reader.eof:
            return b"".join(parts), at + len(chunk) - len(reader.unused_data), ""
    parts.append(reader.flush())
    return b"".join(parts), len(body), "truncated"


def _to_the_byte(body: bytes, start: int, chunk_start: int) -> tuple[bytes, int, str]:
    """The same again, byte by byte in the chunk that failed: zlib keeps nothing of a call that raises."""
    reader = zlib.decompressobj(_GZIP_WINDOW_BITS)
    parts = [reader.decompress(body[start:chunk_start])]
    for at in range(chunk_start, len(body)):
        try:
            parts.append(reader.decompress(body[at : at + 1]))
        except zlib.error as exc:
            return b"".join(parts), at, str(exc).rpartition(": ")[2]
    return b"".join(parts), len(body), "truncated"


def _chunks(body: bytes, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    for at in range(start, len(body), size):
        yield at, body[at : at + size]
