"""From a stream to S3 objects: the delivery task of one Firehose stream, as a machine without I/O.

Rules
- `step` reads the source into a buffer and, when the buffer is full or old enough, gives one object to be put; the
  runner says `succeeded` or `failed`, and until then there is no other object. One buffer, so memory is bounded by
  SizeInMBs and one record.
- The position moves only on `succeeded`, to just behind what that object holds (TRAPS 13). Whatever dies, the records
  behind the position are read again: delivered at least once, doubled after an unclear failure, never skipped.
- Records lie in an object one after the other with nothing between them (TRAPS 10).
- A failure waits with full jitter, at most 30 s, and tries again under another name, as the real one does, until the
  source no longer keeps the records: then they are lost, counted and named in the metrics (TRAPS 27).
- A parent shard is read to its end before its children.
- Firehose calls GetRecords once a second per shard and shares the shard's 2 MB/s with the other readers.
Source: Firehose Developer Guide, "Understand data delivery in Amazon Data Firehose".
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import Protocol

from . import limits, prefix, reading
from .core import Core
from .state import Json, Shard, Stream

RETRY_FIRST_MS = 500
RETRY_MAX_MS = 30_000
# AWS names no level; 1 keeps the emulator off the cores that are being measured.
GZIP_LEVEL = 1


class StoreFailed(Exception):
    """A put did not succeed, or nobody knows whether it did: the object may or may not be there."""


class ObjectStore(Protocol):
    """Where objects go."""

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Store it whole. Raises: StoreFailed."""


@dataclass(frozen=True, slots=True)
class Put:
    """One object to be put. `ends` are the positions to move to afterwards, by shard index."""

    bucket: str
    key: str
    parts: list[bytes]
    compress: bool
    ends: dict[int, int]

    def body(self) -> bytes:
        """The object's bytes; slow for a large one, so call it off the event loop."""
        joined = b"".join(self.parts)
        return gzip.compress(joined, GZIP_LEVEL, mtime=0) if self.compress else joined


@dataclass(slots=True)
class Buffer:
    """Records read and not yet delivered. `opened_ms` is when the first came in, `oldest_ms` its arrival."""

    parts: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    opened_ms: int = 0
    oldest_ms: int = 0
    ends: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Grant:
    """One GetRecords, as a right to read up to `end`: its answer is read from the log as the buffer has room."""

    end: int
    bytes_left: int


class Delivery:
    """The task of one Firehose stream; its state is in the core's journal under its name."""

    def __init__(self, core: Core, name: str) -> None:
        self.core = core
        self.name = name
        self.buffer = Buffer()
        self._grants: dict[int, Grant] = {}
        self.in_flight: Put | None = None
        self.attempts_failed = 0
        self.puts_failed = 0
        self.retry_at_ms = 0
        self.last_error: str | None = None

    @property
    def state(self) -> Json:
        return self.core.deliveries[self.name]

    def _source(self) -> Stream | None:
        stream = self.core.streams.get(self.state["source"])
        return stream if stream is not None and stream.number == self.state["source_number"] else None

    def position(self, shard: Shard) -> int:
        """The first counter of a shard that is not known to be in S3."""
        return int(self.state["positions"].get(str(shard.index), 1))

    def step(self) -> Put | None:
        """One turn: the object to be put now, if there is one."""
        now_ms = self.core.now_ms()
        stream = self._source()
        if self.in_flight is not None or stream is None or now_ms < self.retry_at_ms:
            return None
        self._give_up_expired(stream, now_ms)
        hints = self.state["config"]["BufferingHints"]
        size_max = hints["SizeInMBs"] * limits.MIB
        self._fill(stream, size_max, now_ms)
        if not self.buffer.parts:
            return None
        old = now_ms - self.buffer.opened_ms >= hints["IntervalInSeconds"] * 1000
        if self.buffer.size_bytes < size_max and not old:
            return None
        self.in_flight = self._object()
        return self.in_flight

    def _give_up_expired(self, stream: Stream, now_ms: int) -> None:
        stream.trim(now_ms)
        lost = [shard for shard in stream.shards if self.position(shard) < shard.trimmed]
        if not lost:
            return
        state = self.state
        for shard in lost:
            state["totals"]["lost"] += shard.trimmed - self.position(shard)
            state["positions"][str(shard.index)] = shard.trimmed
        self.buffer = Buffer()
        self._grants.clear()
        self.core.keep_delivery(self.name, state)

    def _fill(self, stream: Stream, size_max: int, now_ms: int) -> None:
        for shard in stream.shards:
            at = self.buffer.ends.get(shard.index, self.position(shard))
            if at >= shard.next or not self._parents_read(stream, shard):
                continue
            grant = self._granted(shard, at, now_ms)
            while grant is not None and at < grant.end and self.buffer.size_bytes < size_max:
                room = min(size_max - self.buffer.size_bytes, grant.bytes_left)
                batch = reading.read(self.core, stream, shard, at, grant.end - at, room)
                shard.gates.read_bytes.took(batch.size_bytes)
                self._take(shard, batch, now_ms)
                at = batch.position
                grant.bytes_left -= batch.size_bytes
                if grant.bytes_left <= 0:
                    grant.end = at

    def _granted(self, shard: Shard, at: int, now_ms: int) -> Grant | None:
        """What the last GetRecords of this shard still holds, or a new one where AWS's pace allows it."""
        grant = self._grants.get(shard.index)
        if grant is not None and at < grant.end:
            return grant
        gates = shard.gates
        if not (gates.firehose.has(1, now_ms) and gates.read_calls.has(1, now_ms) and gates.read_bytes.open(now_ms)):
            return None
        gates.firehose.take(1)
        gates.read_calls.take(1)
        end = min(shard.next, at + limits.GET_RECORDS_COUNT_MAX)
        self._grants[shard.index] = Grant(end, limits.GET_RECORDS_BYTES_MAX)
        return self._grants[shard.index]

    def _parents_read(self, stream: Stream, shard: Shard) -> bool:
        for index in shard.parents:
            parent = stream.shards[index]
            if not reading.ended(parent, self.buffer.ends.get(index, self.position(parent))):
                return False
        return True

    def _take(self, shard: Shard, batch: reading.Batch, now_ms: int) -> None:
        buffer = self.buffer
        arrived_ms = int(batch.records[0]["ApproximateArrivalTimestamp"] * 1000)
        if not buffer.parts:
            buffer.opened_ms, buffer.oldest_ms = now_ms, arrived_ms
        buffer.oldest_ms = min(buffer.oldest_ms, arrived_ms)
        for record in batch.records:
            buffer.parts.append(record["Data"])
            buffer.size_bytes += len(record["Data"])
        buffer.ends[shard.index] = batch.position

    def _object(self) -> Put:
        state, config = self.state, self.state["config"]
        compress = config["CompressionFormat"] == "GZIP"
        extension = config.get("FileExtension") or (".gz" if compress else "")
        zone, version = config.get("CustomTimeZone", ""), state["version"]
        pattern, oldest_ms = config.get("Prefix", ""), self.buffer.oldest_ms
        key = prefix.object_key(pattern, zone, self.name, version, oldest_ms, extension, self.core.random)
        bucket = config["BucketARN"].rpartition(":")[2]
        return Put(bucket, key, self.buffer.parts, compress, dict(self.buffer.ends))

    def succeeded(self, put: Put, object_bytes: int) -> None:
        """The object is in S3: move the position behind it."""
        self.in_flight, self.attempts_failed, self.last_error = None, 0, None
        state = self.state
        totals = state["totals"]
        totals["objects"] += 1
        totals["object_bytes"] += object_bytes
        totals["records"] += len(put.parts)
        totals["bytes"] += self.buffer.size_bytes
        state["positions"].update({str(index): end for index, end in put.ends.items()})
        self.buffer = Buffer()
        self.core.keep_delivery(self.name, state)

    def failed(self, error: str) -> None:
        """The put failed, or nobody knows: keep the buffer and try again later under another name."""
        self.in_flight = None
        self.last_error = error
        self.puts_failed += 1
        ceiling_ms = min(RETRY_MAX_MS, RETRY_FIRST_MS << min(self.attempts_failed, 16))
        self.attempts_failed += 1
        self.retry_at_ms = self.core.now_ms() + int(self.core.random.uniform(0, ceiling_ms)) + 1

    def metrics(self) -> Json:
        """What CloudWatch would show, under its names. Source: "Monitor with CloudWatch metrics", Firehose guide."""
        stream, now_ms, state = self._source(), self.core.now_ms(), self.state
        shards = stream.shards if stream is not None else []
        waiting = [reading.behind_ms(shard, self.position(shard), now_ms) for shard in shards]
        read_at = [self.buffer.ends.get(shard.index, self.position(shard)) for shard in shards]
        ages = [reading.behind_ms(shard, at, now_ms) for shard, at in zip(shards, read_at, strict=True)]
        totals = state["totals"]
        return {
            "DeliveryToS3.DataFreshness": max(waiting, default=0) / 1000,
            "DeliveryToS3.Records": totals["records"],
            "DeliveryToS3.Bytes": totals["bytes"],
            "DeliveryToS3.Success": totals["objects"],
            "DeliveryToS3.Failed": self.puts_failed,
            "DeliveryToS3.ObjectBytes": totals["object_bytes"],
            "DataReadFromKinesisStream.IteratorAgeMilliseconds": max(ages, default=0),
            "records_lost": totals["lost"],
            "buffered_bytes": self.buffer.size_bytes,
            "source_found": stream is not None,
            "last_error": self.last_error,
        }


def deliver_all(delivery: Delivery, store: ObjectStore) -> list[str]:
    """Run the task in step with its store until nothing is due: for tests. The keys that were put."""
    keys: list[str] = []
    while (put := delivery.step()) is not None:
        try:
            body = put.body()
            store.put(put.bucket, put.key, body)
        except StoreFailed as error:
            delivery.failed(str(error))
        else:
            delivery.succeeded(put, len(body))
            keys.append(put.key)
    return keys
