"""What a stream is: its shards, their records' places in the log, its consumers and settings.

Rules
- A shard's index only grows; its closed parents stay until the retention period after closing has passed.
- Records are never held here: a shard knows its chunks by (first counter, arrival, offset, size), 28 bytes each.
- Trimming follows the clock and never goes back: a longer retention does not revive what a shorter one gave up.
- `to_json` is what the journal keeps; the chunk index is rebuilt from the chunks themselves.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

from . import limits, sequence
from .limits import Limits, Meter, ReadMeter

Json = dict[str, Any]
HOUR_MS = 3_600_000
FORGET_CHUNKS_BATCH = 1024


@dataclass(slots=True)
class Gates:
    """The meters of one shard."""

    write_bytes: Meter
    write_records: Meter
    read_calls: Meter
    read_bytes: ReadMeter
    iterators: Meter
    firehose: Meter

    @classmethod
    def of(cls, rates: Limits, record_kib_max: int) -> Gates:
        burst = record_kib_max * 1024
        return cls(
            rates.meter(limits.SHARD_WRITE_BYTES_PER_SECOND, burst),
            rates.meter(limits.SHARD_WRITE_RECORDS_PER_SECOND),
            rates.meter(limits.SHARD_READ_CALLS_PER_SECOND),
            ReadMeter(limits.SHARD_READ_BYTES_PER_SECOND * rates.scale, enforced=rates.enforced),
            rates.meter(limits.SHARD_ITERATOR_CALLS_PER_SECOND),
            rates.meter(limits.FIREHOSE_READS_PER_SECOND),
        )


@dataclass(slots=True)
class Shard:
    """One shard. `parents` are (parent, adjacent parent); `next` is the counter the next record gets."""

    index: int
    start: int
    end: int
    born_ms: int
    born_s: int
    gates: Gates
    parents: tuple[int, ...] = ()
    closed_ms: int | None = None
    next: int = 1
    trimmed: int = 1
    last_ms: int = 0
    firsts: array[int] = field(default_factory=lambda: array("Q"))
    arrivals: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))

    @property
    def id(self) -> str:
        return f"shardId-{self.index:012d}"

    @property
    def head(self) -> int:
        return sequence.head(self.index, self.born_s)

    def number(self, counter: int, arrival_ms: int) -> str:
        return str(sequence.number(self.head, counter, arrival_ms))

    def add_chunk(self, first: int, count: int, arrival_ms: int, place: tuple[int, int]) -> None:
        self.firsts.append(first)
        self.arrivals.append(arrival_ms)
        self.offsets.append(place[0])
        self.sizes.append(place[1])
        self.next = first + count
        self.last_ms = arrival_ms

    def trim(self, horizon_ms: int) -> None:
        """Give up the records that arrived before `horizon_ms`."""
        gone = bisect_left(self.arrivals, horizon_ms)
        if gone:
            self.trimmed = max(self.trimmed, self.firsts[gone] if gone < len(self.firsts) else self.next)
        if gone and (gone >= FORGET_CHUNKS_BATCH or gone == len(self.firsts)):
            for column in (self.firsts, self.arrivals, self.offsets, self.sizes):
                del column[:gone]

    def live_offset(self) -> int | None:
        """Where the oldest chunk that may still be read lies in the log; None without one."""
        at = self.chunk_of(self.trimmed)
        return self.offsets[at] if at < len(self.offsets) else None

    def chunk_of(self, counter: int) -> int:
        """The position, in the index, of the chunk that holds `counter`, or of the first one behind it."""
        if counter >= self.next:
            return len(self.firsts)
        return max(0, bisect_right(self.firsts, counter) - 1)

    def counter_at(self, time_ms: int) -> int:
        """The first record that arrived at or after `time_ms`."""
        at = bisect_left(self.arrivals, time_ms)
        return self.firsts[at] if at < len(self.firsts) else self.next

    def describe(self) -> Json:
        numbers = {"StartingSequenceNumber": self.number(0, self.born_s * 1000)}
        if self.closed_ms is not None:
            numbers["EndingSequenceNumber"] = self.number(sequence.COUNTER_END, self.closed_ms)
        out: Json = {
            "ShardId": self.id,
            "HashKeyRange": {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)},
            "SequenceNumberRange": numbers,
        }
        for key, parent in zip(("ParentShardId", "AdjacentParentShardId"), self.parents, strict=False):
            out[key] = f"shardId-{parent:012d}"
        return out

    def to_json(self) -> Json:
        return {
            "index": self.index,
            "start": str(self.start),
            "end": str(self.end),
            "born_ms": self.born_ms,
            "born_s": self.born_s,
            "parents": list(self.parents),
            "closed_ms": self.closed_ms,
            "next": self.next,
            "trimmed": self.trimmed,
            "last_ms": self.last_ms,
        }

    @classmethod
    def from_json(cls, kept: Json, gates: Gates) -> Shard:
        fields = {**kept, "start": int(kept["start"]), "end": int(kept["end"]), "parents": tuple(kept["parents"])}
        return cls(gates=gates, **fields)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A registered enhanced fan-out consumer."""

    name: str
    arn: str
    created_ms: int

    def describe(self) -> Json:
        return {
            "ConsumerName": self.name,
            "ConsumerARN": self.arn,
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": self.created_ms / 1000,
        }


@dataclass(slots=True)
class Stream:
    """One stream. Until `settles_ms` its status is `phase`; then it is ACTIVE, or gone when it was DELETING."""

    number: int
    name: str
    arn: str
    created_ms: int
    mode: str = "PROVISIONED"
    retention_hours: int = limits.RETENTION_HOURS_DEFAULT
    record_kib_max: int = limits.RECORD_KIB_DEFAULT
    key_id: str | None = None
    phase: str = "CREATING"
    settles_ms: int = 0
    hidden: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    reshards_ms: list[int] = field(default_factory=list)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)
    open: list[Shard] = field(default_factory=list)
    open_starts: list[int] = field(default_factory=list)

    def status(self, now_ms: int) -> str:
        """The status of DescribeStream; once settled it stays so, even if the clock is set back."""
        if self.phase != "DELETING" and now_ms >= self.settles_ms:
            self.phase = "ACTIVE"
        return self.phase

    def horizon_ms(self, now_ms: int) -> int:
        return now_ms - self.retention_hours * HOUR_MS

    def trim(self, now_ms: int) -> None:
        horizon = self.horizon_ms(now_ms)
        for shard in self.shards:
            if shard.arrivals and shard.arrivals[0] < horizon:
                shard.trim(horizon)

    def listed(self, now_ms: int) -> list[Shard]:
        """The shards that are open, or whose retention since closing has not passed."""
        horizon = self.horizon_ms(now_ms)
        return [shard for shard in self.shards if shard.closed_ms is None or shard.closed_ms >= horizon]

    def shard(self, shard_id: str) -> Shard | None:
        tail = shard_id.removeprefix("shardId-")
        if not (tail.isascii() and tail.isdigit()) or int(tail) >= len(self.shards):
            return None
        return self.shards[int(tail)]

    def children(self, shard: Shard) -> list[Shard]:
        return [child for child in self.shards if shard.index in child.parents]

    def add_shard(self, start: int, end: int, now_ms: int, rates: Limits, parents: tuple[int, ...] = ()) -> Shard:
        """Open a shard. Its birth second is above its parents', so that its numbers are above theirs."""
        born_s = max([now_ms // 1000, *(self.shards[parent].born_s + 1 for parent in parents)])
        gates = Gates.of(rates, self.record_kib_max)
        shard = Shard(len(self.shards), start, end, now_ms, born_s, gates, parents)
        self.shards.append(shard)
        return shard

    def reroute(self) -> None:
        """Recompute the routing table; call after any change of the set of open shards."""
        self.open = sorted((shard for shard in self.shards if shard.closed_ms is None), key=lambda shard: shard.start)
        self.open_starts = [shard.start for shard in self.open]

    def route(self, hash_key: int) -> Shard:
        return self.open[bisect_right(self.open_starts, hash_key) - 1]

    def to_json(self) -> Json:
        return {
            "number": self.number,
            "name": self.name,
            "arn": self.arn,
            "created_ms": self.created_ms,
            "mode": self.mode,
            "retention_hours": self.retention_hours,
            "record_kib_max": self.record_kib_max,
            "key_id": self.key_id,
            "phase": self.phase,
            "settles_ms": self.settles_ms,
            "hidden": self.hidden,
            "tags": self.tags,
            "reshards_ms": self.reshards_ms,
            "consumers": [[one.name, one.arn, one.created_ms] for one in self.consumers.values()],
            "shards": [shard.to_json() for shard in self.shards],
        }

    @classmethod
    def from_json(cls, kept: Json, rates: Limits) -> Stream:
        rest = {key: value for key, value in kept.items() if key not in ("consumers", "shards")}
        stream = cls(**rest)
        stream.consumers = {one[0]: Consumer(*one) for one in kept["consumers"]}
        gates = Gates.of
        stream.shards = [Shard.from_json(one, gates(rates, stream.record_kib_max)) for one in kept["shards"]]
        stream.reroute()
        return stream

    def adopt_index(self, older: Stream) -> None:
        """Take the chunk indexes that `older`, this stream before a change, has built up."""
        for mine, theirs in zip(self.shards, older.shards, strict=False):
            mine.firsts, mine.arrivals = theirs.firsts, theirs.arrivals
            mine.offsets, mine.sizes = theirs.offsets, theirs.sizes
            mine.next, mine.last_ms = max(mine.next, theirs.next), max(mine.last_ms, theirs.last_ms)
            mine.trimmed = max(mine.trimmed, theirs.trimmed)
