"""The numbers of AWS, each with the page it stands on, and the meters that hold callers to them.

Rules
- A rate is a token bucket that holds one second of its rate: a second's burst is allowed, then the rate.
- `Limits(scale=...)` multiplies the per-shard rates only; `Limits(enforced=False)` switches the rates off.
  Request and record sizes always hold: they are the shape of the API, not its capacity.
Source: Kinesis Data Streams Developer Guide, "Quotas and limits"; API Reference of the action named beside a number.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

# PutRecords, API Reference: 500 records, 10 MiB with partition keys.
PUT_RECORDS_COUNT_MAX = 500
PUT_RECORDS_BYTES_MAX = 10 * MIB
# "Handle large records": 1 MiB by default, settable to 10 MiB, data and partition key together.
RECORD_KIB_DEFAULT = 1024
PARTITION_KEY_CHARACTERS_MAX = 256
# "Quotas and limits": one shard takes 1 MB/s and 1,000 records/s, gives 2 MB/s in 5 transactions/s.
SHARD_WRITE_BYTES_PER_SECOND = MIB
SHARD_WRITE_RECORDS_PER_SECOND = 1000
SHARD_READ_BYTES_PER_SECOND = 2 * MIB
SHARD_READ_CALLS_PER_SECOND = 5
# GetRecords, API Reference.
GET_RECORDS_COUNT_MAX = 10_000
GET_RECORDS_BYTES_MAX = 10 * MIB
# GetShardIterator, API Reference: five a second per shard; an iterator lives five minutes.
SHARD_ITERATOR_CALLS_PER_SECOND = 5
ITERATOR_LIFE_MS = 300_000
# ListShards, API Reference: a token lives 300 seconds; 1,000 shards a page unless told.
LIST_TOKEN_LIFE_MS = 300_000
LIST_SHARDS_DEFAULT = 1000
# SubscribeToShard, API Reference: five minutes; no second call within five seconds of a successful one.
SUBSCRIPTION_LIFE_MS = 300_000
SUBSCRIPTION_GUARD_MS = 5_000
# No page names the size of an event or the pace of empty ones; these are ours, inside what clients must bear.
SUBSCRIPTION_EVENT_BYTES_MAX = MIB
SUBSCRIPTION_EVENT_RECORDS_MAX = 10_000
SUBSCRIPTION_HEARTBEAT_MS = 5_000
# RegisterStreamConsumer, API Reference.
CONSUMERS_PER_STREAM_MAX = 20
# "Quotas and limits": 24 hours to 365 days.
RETENTION_HOURS_DEFAULT = 24
RETENTION_HOURS_MAX = 8760
# UpdateShardCount, API Reference.
RESHARDS_PER_DAY_MAX = 10
SHARDS_PER_STREAM_MAX = 10_000
# "Quotas and limits": the default shard quota of most Regions.
SHARDS_PER_ACCOUNT_MAX = 1000
# CreateStream with on-demand mode starts with four shards ("Choose the data stream capacity mode").
ON_DEMAND_SHARDS = 4
HASH_SPACE = 1 << 128

# Firehose API Reference: PutRecord 1,000 KiB a record; PutRecordBatch 500 records and 4 MB.
FIREHOSE_RECORD_BYTES_MAX = 1000 * 1024
FIREHOSE_BATCH_COUNT_MAX = 500
FIREHOSE_BATCH_BYTES_MAX = 4 * MIB
# Firehose API Reference, BufferingHints: 5 MiB and 300 s unless told.
BUFFER_MIB_DEFAULT = 5
BUFFER_SECONDS_DEFAULT = 300
# Firehose Developer Guide, "Understand data delivery": direct puts are kept for 24 hours.
DIRECT_PUT_RETENTION_HOURS = 24
# Firehose Developer Guide, "Quota": GetRecords is called once a second for each shard of a source stream.
FIREHOSE_READS_PER_SECOND = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Per-shard rates: AWS's by default, `scale` times them, or none at all."""

    enforced: bool = True
    scale: float = 1.0

    def meter(self, per_second: float, burst: float | None = None) -> Meter:
        return Meter(per_second * self.scale, burst=burst, enforced=self.enforced)


class Meter:
    """A token bucket on the caller's clock (milliseconds). `burst` is its size; one second of rate by default."""

    __slots__ = ("_at_ms", "_level", "_per_ms", "_size", "enforced")

    def __init__(self, per_second: float, *, burst: float | None = None, enforced: bool = True) -> None:
        self._per_ms = per_second / 1000
        self._size = max(per_second, burst or 0.0)
        self._level = self._size
        self._at_ms: int | None = None
        self.enforced = enforced

    def has(self, amount: float, now_ms: int) -> bool:
        """Whether `amount` may be taken now. Does not take it."""
        if not self.enforced:
            return True
        if self._at_ms is not None and now_ms > self._at_ms:
            self._level = min(self._size, self._level + (now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms if self._at_ms is None else max(self._at_ms, now_ms)
        return amount <= self._level + 1e-9

    def take(self, amount: float) -> None:
        if self.enforced:
            self._level -= amount


class ReadMeter:
    """Bytes read from a shard: 2 MiB in a second; a larger answer blocks the shard until it is paid for.

    Source: GetRecords, API Reference: after 10 MiB, calls within the next 5 seconds throw; past the throughput,
    calls within the next 1 second throw.
    """

    __slots__ = ("_bytes", "_per_second", "_since_ms", "enforced")

    def __init__(self, per_second: float, *, enforced: bool) -> None:
        self._per_second = per_second
        self._since_ms = 0
        self._bytes = 0
        self.enforced = enforced

    def open(self, now_ms: int) -> bool:
        if not self.enforced:
            return True
        paid_ms = self._since_ms + max(1000.0, self._bytes / self._per_second * 1000)
        if now_ms >= paid_ms:
            self._since_ms, self._bytes = now_ms, 0
        return self._bytes < self._per_second

    def took(self, size_bytes: int) -> None:
        if self.enforced:
            self._bytes += size_bytes
