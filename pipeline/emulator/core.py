"""The state all operations work on, its journal, and the hot path: records into shards.

Rules
- Time comes from `clock` (seconds since the epoch), chance from `random`; nothing else is read from outside.
- An operation changes the state and journals the change in the same breath; the edge answers after `log.flush()`.
- A record of a batch stands for itself: one throttled record says nothing about its neighbours (TRAPS 1, 9 are the
  clients' side of this).
- Arrival times of a shard never go back, even when the clock does.
Source: PutRecords and PutRecord, Kinesis Data Streams API Reference.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from hashlib import md5
from typing import Any

import orjson

from . import chunk, limits
from .errors import AwsError, BadRequest, invalid, not_found, throttled, validation
from .limits import Limits
from .log import CHECKPOINT, CHUNK, CONTROL, Log, MemoryLog
from .state import Json, Shard, Stream

Clock = Callable[[], float]
THROTTLED = "ProvisionedThroughputExceededException"


class Core:
    """Streams by name, over a log. `settle_ms` is how long creating, resharding and deleting take."""

    def __init__(
        self,
        clock: Clock,
        random: random_module.Random,
        *,
        log: Log | None = None,
        rates: Limits | None = None,
        region: str = "us-east-1",
        account: str = "000000000000",
        settle_ms: int = 0,
    ) -> None:
        self.clock = clock
        self.random = random
        self.log: Log = log or MemoryLog()
        self.rates = rates or Limits()
        self.region = region
        self.account = account
        self.settle_ms = settle_ms
        self.streams: dict[str, Stream] = {}
        self.deliveries: dict[str, Json] = {}
        self.listeners: list[Callable[[Shard], None]] = []
        self.next_number = 1
        self._by_number: dict[int, Stream] = {}
        self._recover()

    # -- time and names

    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    def arn(self, name: str) -> str:
        return f"arn:aws:kinesis:{self.region}:{self.account}:stream/{name}"

    def stream(self, request: Json) -> Stream:
        """The stream that `StreamARN` or `StreamName` names. Raises: AwsError."""
        arn, name = request.get("StreamARN"), request.get("StreamName")
        if arn:
            named = arn.split(":stream/", 1)[-1].split("/", 1)[0]
            if name and name != named:
                raise invalid(f"StreamName {name} does not match StreamARN {arn}.")
            name = named
        if not name:
            raise invalid("Either StreamName or StreamARN must be provided.")
        return self.named(name)

    def named(self, name: str) -> Stream:
        stream = self.streams.get(name)
        if stream is not None and stream.phase == "DELETING" and self.now_ms() >= stream.settles_ms:
            self.drop(stream)
            stream = None
        if stream is None:
            raise not_found(f"Stream {name} under account {self.account} not found.")
        return stream

    def readable(self, request: Json) -> Stream:
        """Like `stream`, for reads and writes: a stream that is still being created has no shards yet."""
        stream = self.stream(request)
        if stream.phase == "CREATING" and stream.status(self.now_ms()) == "CREATING":
            raise not_found(f"Stream {stream.name} under account {self.account} not found.")
        return stream

    def shard(self, stream: Stream, shard_id: str) -> Shard:
        shard = stream.shard(shard_id)
        if shard is None or shard not in stream.listed(self.now_ms()):
            raise not_found(f"Shard {shard_id} in stream {stream.name} under account {self.account} does not exist")
        return shard

    def by_number(self, number: int) -> Stream | None:
        return self._by_number.get(number)

    # -- journal

    def keep(self, stream: Stream) -> None:
        """Journal a stream's control state after a change."""
        self.streams[stream.name] = stream
        self._by_number[stream.number] = stream
        self.log.append(CONTROL, orjson.dumps({"stream": stream.to_json()}))
        for shard in stream.shards:
            self._tell(shard)

    def _tell(self, shard: Shard) -> None:
        for listener in self.listeners:
            listener(shard)

    def drop(self, stream: Stream) -> None:
        del self.streams[stream.name]
        del self._by_number[stream.number]
        self.log.append(CONTROL, orjson.dumps({"dropped": stream.name}))

    def keep_delivery(self, name: str, delivery: Json | None) -> None:
        """Journal a Firehose stream's whole state; None drops it."""
        if delivery is None:
            self.deliveries.pop(name, None)
        else:
            self.deliveries[name] = delivery
        self.log.append(CONTROL, orjson.dumps({"delivery": name, "state": delivery}))

    def _checkpoint(self) -> bytes:
        streams = [stream.to_json() for stream in self.streams.values()]
        return orjson.dumps({"streams": streams, "deliveries": self.deliveries, "next_number": self.next_number})

    def _recover(self) -> None:
        for entry in self.log.replay():
            if entry.kind == CHUNK:
                self._replay_chunk(entry.payload, (entry.offset, entry.size_bytes))
            else:
                self._replay_control(orjson.loads(entry.payload), whole=entry.kind == CHECKPOINT)
        if self.log.full():
            self.log.roll(self._checkpoint())

    def _replay_chunk(self, payload: bytes, place: tuple[int, int]) -> None:
        head = chunk.decode_head(payload)
        stream = self._by_number.get(head.stream_number)
        if stream is not None:
            stream.shards[head.shard_index].add_chunk(head.first, head.count, head.arrival_ms, place)

    def _replay_control(self, kept: Json, *, whole: bool) -> None:
        if whole:
            older, self.streams, self._by_number = self.streams, {}, {}
            self.deliveries, self.next_number = kept["deliveries"], kept["next_number"]
            for one in kept["streams"]:
                self._restore(one, older.get(one["name"]))
        elif "stream" in kept:
            self._restore(kept["stream"], self.streams.get(kept["stream"]["name"]))
        elif "dropped" in kept:
            gone = self.streams.pop(kept["dropped"])
            del self._by_number[gone.number]
        elif kept["state"] is None:
            self.deliveries.pop(kept["delivery"], None)
        else:
            self.deliveries[kept["delivery"]] = kept["state"]

    def _restore(self, kept: Json, older: Stream | None) -> None:
        stream = Stream.from_json(kept, self.rates)
        if older is not None and older.number == stream.number:
            stream.adopt_index(older)
        self.streams[stream.name] = stream
        self._by_number[stream.number] = stream
        self.next_number = max(self.next_number, stream.number + 1)

    def finish_deletions(self) -> None:
        now_ms = self.now_ms()
        for stream in list(self.streams.values()):
            if stream.phase == "DELETING" and now_ms >= stream.settles_ms:
                self.drop(stream)

    def sweep(self) -> int:
        """Trim by retention, begin a new segment when it is time, delete unwanted ones. How many bytes went."""
        self.finish_deletions()
        now_ms = self.now_ms()
        for stream in self.streams.values():
            stream.trim(now_ms)
        if self.log.full():
            self.log.roll(self._checkpoint())
        live = [shard.live_offset() for stream in self.streams.values() for shard in stream.shards]
        oldest = min((offset for offset in live if offset is not None), default=None)
        return self.log.drop_before(oldest if oldest is not None else 1 << 62)

    def measure(self, stream: Stream) -> Json:
        """A stream in figures, for the model's own metrics."""
        return {
            "status": stream.status(self.now_ms()),
            "open_shards": len(stream.open),
            "records_written": sum(shard.next - 1 for shard in stream.shards),
            "records_kept": sum(shard.next - shard.trimmed for shard in stream.shards),
            "shards": {shard.id: shard.next - 1 for shard in stream.shards},
        }

    # -- records in

    def append(self, stream: Stream, shard: Shard, records: list[tuple[bytes, bytes]], now_ms: int) -> int:
        """Write records to a shard, past all limits; the counter of the first."""
        first = shard.next
        arrival_ms = max(now_ms, shard.last_ms)
        head = chunk.ChunkHead(stream.number, shard.index, first, arrival_ms, stream.key_id is not None, len(records))
        place = self.log.append(CHUNK, chunk.encode(head, records))
        shard.add_chunk(first, len(records), arrival_ms, place)
        self._tell(shard)
        return first

    def put(self, stream: Stream, records: list[Json], now_ms: int) -> list[Json]:
        """Route, meter and write a checked batch; one result for each record, in its place."""
        groups: dict[int, list[int]] = {}
        keys: list[bytes] = []
        for position, record in enumerate(records):
            key = record["PartitionKey"].encode()
            keys.append(key)
            explicit = record.get("ExplicitHashKey")
            hashed = int(explicit) if explicit is not None else int.from_bytes(md5(key).digest(), "big")
            groups.setdefault(stream.route(hashed).index, []).append(position)
        results: list[Json] = [{} for _ in records]
        for index, positions in groups.items():
            shard = stream.shards[index]
            sized = [(at, len(keys[at]) + len(records[at]["Data"])) for at in positions]
            taken = self._admit(shard, sized, now_ms)
            if taken:
                first = self.append(stream, shard, [(keys[at], records[at]["Data"]) for at in taken], now_ms)
                base = int(shard.number(first, shard.last_ms))
                for step, at in enumerate(taken):
                    results[at] = {"SequenceNumber": str(base + (step << 80)), "ShardId": shard.id}
            if len(taken) < len(positions):
                failed = {"ErrorCode": THROTTLED, "ErrorMessage": self._over_rate(stream, shard)}
                for at in set(positions).difference(taken):
                    results[at] = failed
        return results

    def _over_rate(self, stream: Stream, shard: Shard) -> str:
        return f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {self.account}."

    @staticmethod
    def _admit(shard: Shard, sized: list[tuple[int, int]], now_ms: int) -> list[int]:
        """The positions that the shard's meters let through, each for itself."""
        meters = shard.gates
        total = sum(size for _, size in sized)
        if meters.write_records.has(len(sized), now_ms) and meters.write_bytes.has(total, now_ms):
            meters.write_records.take(len(sized))
            meters.write_bytes.take(total)
            return [at for at, _ in sized]
        taken: list[int] = []
        for at, size in sized:
            if meters.write_records.has(1, now_ms) and meters.write_bytes.has(size, now_ms):
                meters.write_records.take(1)
                meters.write_bytes.take(size)
                taken.append(at)
        return taken

    def put_records(self, request: Json) -> Json:
        records = request.get("Records")
        if not isinstance(records, list) or not 1 <= len(records) <= limits.PUT_RECORDS_COUNT_MAX:
            raise validation(
                "1 validation error detected: Value at 'records' failed to satisfy constraint: "
                f"Member must have length between 1 and {limits.PUT_RECORDS_COUNT_MAX}"
            )
        stream = self.readable(request)
        total = 0
        for position, record in enumerate(records, 1):
            total += check_record(record, stream, f"records.{position}.member")
        if total > limits.PUT_RECORDS_BYTES_MAX:
            raise invalid(f"Records size exceeds {limits.PUT_RECORDS_BYTES_MAX // limits.MIB} MiB limit")
        results = self.put(stream, records, self.now_ms())
        failed = sum("ErrorCode" in result for result in results)
        answer: Json = {"FailedRecordCount": failed, "Records": results}
        if stream.key_id is not None:
            answer["EncryptionType"] = "KMS"
        return answer

    def put_record(self, request: Json) -> Json:
        stream = self.readable(request)
        check_record(request, stream, "record")
        result = self.put(stream, [request], self.now_ms())[0]
        if "ErrorCode" in result:
            raise throttled(result["ErrorMessage"])
        return {**result, "EncryptionType": "KMS"} if stream.key_id is not None else result


def check_record(record: Any, stream: Stream, path: str) -> int:
    """Bytes of key and data of a sound record. Raises: AwsError, which fails the whole call, as on AWS."""
    if not isinstance(record, dict):
        raise BadRequest("SerializationException", f"{path} must be a structure")
    data, key, explicit = record.get("Data"), record.get("PartitionKey"), record.get("ExplicitHashKey")
    if not isinstance(data, bytes):
        raise _violation(path, "data", "Member must not be null")
    if not isinstance(key, str) or not 1 <= len(key) <= limits.PARTITION_KEY_CHARACTERS_MAX:
        raise _violation(path, "partitionKey", "Member must have length between 1 and 256")
    if explicit is not None and not _is_hash_key(explicit):
        raise invalid(
            f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {explicit}"
        )
    size = len(data) + (len(key) if key.isascii() else len(key.encode()))
    if size > stream.record_kib_max * 1024:
        raise _violation(path, "data", f"Member must have length less than or equal to {stream.record_kib_max * 1024}")
    return size


def _is_hash_key(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and int(value) < limits.HASH_SPACE


def _violation(path: str, member: str, rule: str) -> AwsError:
    return validation(f"1 validation error detected: Value at '{path}.{member}' failed to satisfy constraint: {rule}")
