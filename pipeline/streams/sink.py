"""The port through which records are written, and its in-memory twin.

An outcome belongs to the record at the same index. Only `Written` is an acknowledgement; anything else means: not known to be
stored. A sink never raises for a record's fate and never answers with another number of outcomes than it got records.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.event import Record


@dataclass(frozen=True, slots=True)
class Written:
    """Kinesis confirmed this record by its own sequence number."""

    shard_id: str
    sequence_number: str


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Not known to be stored, after all retries that the deadline allowed. `throttled`: the stream asked for less."""

    reason: str
    throttled: bool = False
    retry_after_seconds: float = 1.0


Outcome = Written | NotWritten


class Sink(Protocol):
    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        """Write records of any number; `deadline_seconds` from now is when the last attempt must have ended."""
        ...


async def attempt(sink: Sink, records: Sequence[Record], seconds: float) -> list[Outcome]:
    """One write; a sink that answers with another number of outcomes has confirmed nothing."""
    outcomes = await sink.write(records, deadline_seconds=seconds)
    if len(outcomes) != len(records):
        return [NotWritten(f"{len(outcomes)} outcomes for {len(records)} records")] * len(records)
    return outcomes


@dataclass
class MemorySink:
    """Keeps what is written. `refuse` maps a partition key to the outcome it gets instead."""

    records: list[Record] = field(default_factory=list)
    refuse: dict[str, NotWritten] = field(default_factory=dict)

    async def write(self, records: Sequence[Record], *, deadline_seconds: float) -> list[Outcome]:
        return [self._write(record) for record in records]

    def _write(self, record: Record) -> Outcome:
        if record.partition_key in self.refuse:
            return self.refuse[record.partition_key]
        self.records.append(record)
        return Written("shardId-000000000000", str(len(self.records)))
