"""A chunk: records that one call put on one shard, as they lie in the log.

Rules
- All records of a chunk share their arrival time and encryption; their counters follow each other.
- Layout: stream, shard, first counter, arrival in ms, flags, count; then (key length, data length) of each record;
  then key and data of each. Payload stays raw bytes: base64 lives on the wire only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD = struct.Struct("<IIQQBI")
ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """Where a chunk belongs. `first` is the counter of its first record."""

    stream_number: int
    shard_index: int
    first: int
    arrival_ms: int
    encrypted: bool
    count: int


def encode(head: ChunkHead, records: list[tuple[bytes, bytes]]) -> bytes:
    """`records` are (partition key, data)."""
    lengths: list[int] = []
    blobs: list[bytes] = []
    for key, data in records:
        lengths += (len(key), len(data))
        blobs += (key, data)
    flags = ENCRYPTED if head.encrypted else 0
    top = HEAD.pack(head.stream_number, head.shard_index, head.first, head.arrival_ms, flags, head.count)
    return b"".join((top, struct.pack(f"<{len(lengths)}I", *lengths), *blobs))


def decode_head(payload: bytes) -> ChunkHead:
    stream, shard, first, arrival_ms, flags, count = HEAD.unpack_from(payload)
    return ChunkHead(stream, shard, first, arrival_ms, bool(flags & ENCRYPTED), count)


def data_bytes(payload: bytes) -> int:
    """Bytes of keys and data in a chunk."""
    head = decode_head(payload)
    return len(payload) - HEAD.size - 8 * head.count


def decode(payload: bytes, skip: int) -> list[tuple[str, bytes]]:
    """The records from number `skip` on, as (partition key, data)."""
    count = decode_head(payload).count
    lengths = struct.unpack_from(f"<{2 * count}I", payload, HEAD.size)
    position = HEAD.size + 8 * count + sum(lengths[: 2 * skip])
    records: list[tuple[str, bytes]] = []
    for index in range(2 * skip, 2 * count, 2):
        middle = position + lengths[index]
        end = middle + lengths[index + 1]
        records.append((payload[position:middle].decode(), payload[middle:end]))
        position = end
    return records
