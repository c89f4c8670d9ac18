"""Reading a shard: iterators and GetRecords.

Rules
- An iterator is a place in one shard, sealed with the time it was given out; it holds no state on the server, lives
  five minutes, and survives a restart.
- A place is a counter; a place whose record was trimmed reads from the oldest one kept.
- At the end of a closed shard NextShardIterator is null and ChildShards name where to go on: parents first (TRAPS 14).
- An answer holds at most 10,000 records and 10 MiB, and at least one record where there is one.
Source: GetShardIterator and GetRecords, Kinesis Data Streams API Reference.
"""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from . import chunk, limits, sequence
from .core import Core
from .errors import BadRequest, invalid, not_found, throttled
from .state import Json, Shard, Stream

TOKEN = struct.Struct("<IIQQI")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read found. `position` is the counter to go on from; `size_bytes` counts keys and data."""

    records: list[Json]
    position: int
    size_bytes: int


def seal(stream: Stream, shard: Shard, counter: int, now_ms: int) -> str:
    body = TOKEN.pack(stream.number, shard.index, counter, now_ms, 0)
    return urlsafe_b64encode(TOKEN.pack(stream.number, shard.index, counter, now_ms, binascii.crc32(body))).decode()


def unseal(core: Core, token: str) -> tuple[Stream, Shard, int]:
    """The place an iterator stands for. Raises: AwsError when it is forged, stale, or its stream is gone."""
    try:
        number, index, counter, given_ms, crc = TOKEN.unpack(urlsafe_b64decode(token))
    except (ValueError, struct.error) as exc:
        raise invalid("Invalid ShardIterator.") from exc
    if crc != binascii.crc32(TOKEN.pack(number, index, counter, given_ms, 0)):
        raise invalid("Invalid ShardIterator.")
    now_ms = core.now_ms()
    if now_ms - given_ms > limits.ITERATOR_LIFE_MS:
        raise BadRequest(
            "ExpiredIteratorException",
            f"Iterator expired. The iterator was created at time {given_ms} while right now it is {now_ms} which is "
            f"further in the future than the tolerated delay of {limits.ITERATOR_LIFE_MS} milliseconds.",
        )
    stream = core.by_number(number)
    if stream is None or core.streams.get(stream.name) is not stream:
        raise not_found("The stream of this ShardIterator is not found.")
    core.named(stream.name)
    return stream, stream.shards[index], counter


def locate(core: Core, stream: Stream, shard: Shard, kind: str, number: str | None, time_s: float | None) -> int:
    """The counter a starting position means, now. Raises: AwsError."""
    now_ms = core.now_ms()
    stream.trim(now_ms)
    if kind == "TRIM_HORIZON":
        return shard.trimmed
    if kind == "LATEST":
        return shard.next
    if kind == "AT_TIMESTAMP":
        if time_s is None:
            raise invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.")
        time_ms = int(time_s * 1000)
        if time_ms > now_ms:
            raise invalid(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
                f"timestampInMillis: {time_ms}, currentTimestampInMillis: {now_ms}"
            )
        return max(shard.trimmed, shard.counter_at(time_ms))
    if number is None:
        raise invalid(f"Must specify startingSequenceNumber parameter for iterator of type {kind}.")
    parts = sequence.parse(number)
    if parts is None or (parts.shard_index, parts.born_s) != (shard.index, shard.born_s):
        raise invalid(
            f"StartingSequenceNumber {number} used in GetShardIterator on shard {shard.id} in stream {stream.name} "
            f"under account {core.account} is invalid because it did not come from this stream."
        )
    return min(max(parts.counter + (kind == "AFTER_SEQUENCE_NUMBER"), 1), shard.next)


def read(core: Core, stream: Stream, shard: Shard, position: int, count_max: int, bytes_max: int) -> Batch:
    """Records from `position` on, within the bounds; at least one where there is one."""
    stream.trim(core.now_ms())
    position = max(position, shard.trimmed)
    records: list[Json] = []
    size = 0
    while position < shard.next and len(records) < count_max:
        at = shard.chunk_of(position)
        payload = core.log.read(shard.offsets[at], shard.sizes[at])
        head = chunk.decode_head(payload)
        base = int(shard.number(head.first, head.arrival_ms))
        skip = position - head.first
        for step, (key, data) in enumerate(chunk.decode(payload, skip), skip):
            bulk = len(data) + len(key)
            if len(records) >= count_max or (records and size + bulk > bytes_max):
                return Batch(records, position, size)
            record: Json = {
                "SequenceNumber": str(base + (step << 80)),
                "ApproximateArrivalTimestamp": head.arrival_ms / 1000,
                "Data": data,
                "PartitionKey": key,
            }
            if head.encrypted:
                record["EncryptionType"] = "KMS"
            records.append(record)
            size += bulk
            position += 1
    return Batch(records, position, size)


def behind_ms(shard: Shard, position: int, now_ms: int) -> int:
    """How far a reader at `position` is from the tip: the age of the next record it will meet."""
    at = shard.chunk_of(max(position, shard.trimmed))
    return max(1, now_ms - shard.arrivals[at]) if at < len(shard.arrivals) else 0


def child_shards(stream: Stream, shard: Shard) -> list[Json]:
    return [
        {
            "ShardId": child.id,
            "ParentShards": [f"shardId-{parent:012d}" for parent in child.parents],
            "HashKeyRange": {"StartingHashKey": str(child.start), "EndingHashKey": str(child.end)},
        }
        for child in stream.children(shard)
    ]


def ended(shard: Shard, position: int) -> bool:
    return shard.closed_ms is not None and position >= shard.next


def get_shard_iterator(core: Core, request: Json) -> Json:
    stream = core.readable(request)
    shard = core.shard(stream, request["ShardId"])
    now_ms = core.now_ms()
    gate = shard.gates.iterators
    if not gate.has(1, now_ms):
        raise throttled(f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {core.account}.")
    kind, number, time_s = request["ShardIteratorType"], request.get("StartingSequenceNumber"), request.get("Timestamp")
    counter = locate(core, stream, shard, kind, number, time_s)
    gate.take(1)
    return {"ShardIterator": seal(stream, shard, counter, now_ms)}


def get_records(core: Core, request: Json) -> Json:
    stream, shard, position = unseal(core, request["ShardIterator"])
    now_ms = core.now_ms()
    gates = shard.gates
    if not (gates.read_calls.has(1, now_ms) and gates.read_bytes.open(now_ms)):
        raise throttled(f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {core.account}.")
    gates.read_calls.take(1)
    count_max = request.get("Limit") or limits.GET_RECORDS_COUNT_MAX
    batch = read(core, stream, shard, position, count_max, limits.GET_RECORDS_BYTES_MAX)
    gates.read_bytes.took(batch.size_bytes)
    answer: Json = {"Records": batch.records, "MillisBehindLatest": behind_ms(shard, batch.position, now_ms)}
    if ended(shard, batch.position):
        answer["ChildShards"] = child_shards(stream, shard)
    else:
        answer["NextShardIterator"] = seal(stream, shard, batch.position, now_ms)
    return answer


OPERATIONS = {"GetShardIterator": get_shard_iterator, "GetRecords": get_records}
