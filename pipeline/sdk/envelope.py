"""Making the CloudEvent around a payload.

Rules. The id is made once, here, before the first attempt (TRAPS 3): a UUIDv7, so that ids sort by when they were made. The
time is the event's, not the sending's: now, unless the caller knows better. The trace context is the caller's, else that of
OpenTelemetry's current span if OpenTelemetry is installed; it rides in the event (TRAPS 31).
"""

import importlib
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from pipeline.errors import InvalidEvent
from pipeline.event import PROTOBUF_CONTENT_TYPE, micros
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent

# As in telemetry.tracing, which is not imported for one word: it brings OpenTelemetry's SDK.
CANARY = "canary"


def now_unix_micros() -> int:
    return time.time_ns() // 1_000


def uuid7(unix_millis: int, entropy: bytes) -> str:
    """A UUID of version 7 (RFC 9562) from a time and 10 random bytes."""
    return _head(unix_millis) + _tail(entropy)


def _head(unix_millis: int) -> str:
    stamp = f"{unix_millis & 0xFFFF_FFFF_FFFF:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-"


def _tail(entropy: bytes) -> str:
    chance = entropy.hex()
    return f"7{chance[:3]}-{'89ab'[entropy[9] & 3]}{chance[3:6]}-{chance[6:18]}"


_ENTROPY_BYTES = 10
_ENTROPY_TAKEN_AT_ONCE = 400
_NO_TAIL = b"\0" * 22


class IdSource:
    """Makes ids. Thread-safe; of one process: a forked child would make the same ones, so a client refuses to run there.

    The kernel's random bytes are fetched for many ids at once: a call for each would be a third of the cost of a send. So is the
    checksum by which an id is traced (telemetry.tracing): a CRC is affine, so that of an id is that of its head, which changes
    once a millisecond, and that of its tail, added without carry.
    """

    def __init__(self) -> None:
        # Tails with their checksums.
        self._tails: deque[tuple[str, int]] = deque()
        # The last head: its millisecond, its text, and what it adds to a tail's checksum.
        self._head = (-1, "", 0)

    def new(self, unix_micros: int) -> str:
        return self.new_with_checksum(unix_micros)[0]

    def new_with_checksum(self, unix_micros: int) -> tuple[str, int]:
        """An id, and `zlib.crc32` of it."""
        millis = unix_micros // 1_000
        known, head, added = self._head
        if known != millis:
            head = _head(millis)
            added = zlib.crc32(head.encode() + _NO_TAIL) ^ zlib.crc32(_NO_TAIL)
            self._head = (millis, head, added)
        while True:
            try:
                tail, checksum = self._tails.popleft()
                return head + tail, added ^ checksum
            except IndexError:
                fresh = os.urandom(_ENTROPY_BYTES * _ENTROPY_TAKEN_AT_ONCE)
                tails = (_tail(fresh[at : at + _ENTROPY_BYTES]) for at in range(0, len(fresh), _ENTROPY_BYTES))
                self._tails.extend((tail, zlib.crc32(tail.encode())) for tail in tails)


def envelope(
    *,
    id: str,
    source: str,
    type: str,
    data: bytes,
    time_unix_micros: int,
    subject: str = "",
    partition_key: str = "",
    traceparent: str = "",
    canary: str = "",
    extensions: Mapping[str, str] | None = None,
) -> CloudEvent:
    event = CloudEvent(id=id, source=source, spec_version="1.0", type=type, binary_data=data)
    attributes = event.attributes
    stamp = attributes["time"].ce_timestamp
    stamp.seconds, rest = divmod(time_unix_micros, 1_000_000)
    stamp.nanos = rest * 1_000
    attributes["datacontenttype"].ce_string = PROTOBUF_CONTENT_TYPE
    if subject:
        attributes["subject"].ce_string = subject
    if partition_key:
        attributes["partitionkey"].ce_string = partition_key
    if traceparent:
        attributes["traceparent"].ce_string = traceparent
    if canary:
        attributes[CANARY].ce_string = canary
    for name, value in (extensions or {}).items():
        if not (name.isascii() and name.isalnum() and name == name.lower()) or name in _ATTRIBUTES:
            raise InvalidEvent(
                "bad_extension",
                f"extension {name!r}: use lower-case letters and digits, and no name that `send` has an argument for",
            )
        attributes[name].ce_string = value
    return event


_ATTRIBUTES = frozenset(
    (
        "id",
        "source",
        "specversion",
        "type",
        "time",
        "subject",
        "datacontenttype",
        "dataschema",
        "partitionkey",
        "traceparent",
        CANARY,
        "data",
    )
)


def time_micros(moment: datetime | None) -> int:
    """Raises: InvalidEvent "bad_time": the moment has no time zone."""
    if moment is None:
        return now_unix_micros()
    try:
        return micros(moment)
    except ValueError as exc:
        raise InvalidEvent("bad_time", f"the event time {exc}; use datetime.now(UTC) or another aware datetime") from exc


TraceSource = Callable[[], str]


def no_trace() -> str:
    return ""


def opentelemetry_trace() -> TraceSource:
    """Where the current span's `traceparent` comes from: OpenTelemetry if it is installed, else nowhere."""
    try:
        trace = importlib.import_module("opentelemetry.trace")
    except ImportError:
        return no_trace

    def current() -> str:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    return current
