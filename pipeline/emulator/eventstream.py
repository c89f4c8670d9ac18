"""`application/vnd.amazon.eventstream`: how SubscribeToShard's events travel.

Rules
- A message is total length, header length, CRC32 of these two, headers, payload, CRC32 of all before it; big-endian.
- A header is its name and a string (type 7). A JSON 1.1 stream begins with an `initial-response` event.
Source: Smithy specification, "Amazon Event Stream Specification"; AWS JSON 1.1 protocol, "Event streams".
"""

from __future__ import annotations

import struct
from binascii import crc32

STRING = 7


def message(kind: str, name: str, payload: bytes) -> bytes:
    """`kind` is event or exception, `name` its type."""
    headers = b"".join(
        _header(key, value)
        for key, value in (
            (":message-type", kind),
            (f":{kind}-type", name),
            (":content-type", "application/x-amz-json-1.1" if name == "initial-response" else "application/json"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = b"".join((prelude, struct.pack(">I", crc32(prelude)), headers, payload))
    return body + struct.pack(">I", crc32(body))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes((len(key),)) + key + bytes((STRING,)) + struct.pack(">H", len(text)) + text
