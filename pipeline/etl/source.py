"""`spillway-kinesis`: a Spark source of closed ranges (ranges.py has the rules; this file only fits them to Spark 4.2 and newer).

    spark.dataSource.register(KinesisSource)
    spark.readStream.format("spillway-kinesis").option("stream", "events-clean").option("region", "us-east-1").load()

Several queries of one application must not share a registered source: each takes `source_of(its name)`. Spark writes into the
source's environment, a plain HashMap, whenever a query begins to read (`PythonStreamingSourceRunner.init`, 4.3.0). Two that begin
at once corrupt it for the life of the JVM, and from then on no task can be deserialized (`OptionalDataException`).

A row is one Kinesis record. A batch holds at most `spanSeconds` of stream per shard, which bounds its bytes by what a shard
takes.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows

from pipeline.etl.kinesis import client
from pipeline.etl.ranges import Prober, Range, from_json, ranges, read_range, to_json

FORMAT = "spillway-kinesis"
SCHEMA = "stream string, shard_id string, sequence_number string, arrived_at_millis bigint, data binary"
ARROW_SCHEMA = pa.schema(
    [
        ("stream", pa.string()),
        ("shard_id", pa.string()),
        ("sequence_number", pa.string()),
        ("arrived_at_millis", pa.int64()),
        ("data", pa.binary()),
    ]
)
# A shard takes at most this many records a second. Source: Kinesis quotas.
_SHARD_RECORDS_PER_SECOND = 1_000


class KinesisSource(DataSource):
    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> str:
        return SCHEMA

    def streamReader(self, schema: Any) -> "KinesisReader":  # noqa: N802  (Spark's name)
        return KinesisReader(dict(self.options.items()))


def source_of(query: str) -> type[KinesisSource]:
    """A source for one query alone; its format is `format_of(query)`."""

    class OwnSource(KinesisSource):
        @classmethod
        def name(cls) -> str:
            return format_of(query)

    return OwnSource


def format_of(query: str) -> str:
    return f"{FORMAT}-{query}"


class ShardPart(InputPartition):
    """One shard's range, for one task."""

    def __init__(self, range: Range) -> None:
        self.range = range


class KinesisReader(DataSourceStreamReader):
    def __init__(self, options: MutableMapping[str, str]) -> None:
        lower = {key.lower(): value for key, value in options.items()}
        self._stream = lower["stream"]
        self._region = lower["region"]
        self._span_seconds = float(lower.get("spanseconds", "20"))
        self._prober: Prober | None = None

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802
        return {}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        return ReadMaxRows(int(self._span_seconds * _SHARD_RECORDS_PER_SECOND))

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        if self._prober is None:
            self._prober = Prober(client(self._region), self._stream)
        span_seconds = float("inf") if isinstance(limit, ReadAllAvailable) else self._span_seconds
        return to_json(self._prober.advance(from_json(start), span_seconds))

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[ShardPart]:
        return [ShardPart(part) for part in ranges(from_json(start), from_json(end))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, ShardPart)
        shard_id = partition.range.shard_id
        kinesis = client(self._region)
        try:
            for records in read_range(kinesis, self._stream, partition.range):
                columns = [
                    pa.array([self._stream] * len(records)),
                    pa.array([shard_id] * len(records)),
                    pa.array([record.sequence_number for record in records]),
                    pa.array([record.arrived_millis for record in records], pa.int64()),
                    pa.array([record.data for record in records], pa.binary()),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA)
        finally:
            kinesis.close()

    def stop(self) -> None:
        self._prober = None
