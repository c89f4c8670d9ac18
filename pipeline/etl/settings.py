"""Settings of the ETL and its exits: sections `etl`, `rds` and `redis` (pipeline/config.py maps them to the environment)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.config import Settings

Exit = Literal["lake", "rds", "redis"]


@dataclass(frozen=True, slots=True)
class EtlSettings:
    SECTION: ClassVar[str] = "etl"

    # Which exits this application loads.
    exits: tuple[Exit, ...] = ("lake", "rds", "redis")
    # How often each query looks for new records. Three queries share a shard's 5 reads a second.
    trigger_seconds: float = 2.0
    # At most this many seconds of stream, per shard, in one micro-batch: a shard takes 1 MB and 1,000 records a second, so
    # 20 are at most 20 MB and 20,000 records per shard.
    batch_span_seconds: float = 20.0
    # A folder, or a URI that the cluster can write to (s3://... on EMR); by default `etl/checkpoints` in the state folder.
    checkpoint_dir: str = ""
    # The lake table; by default s3://<bucket>/lake/events.
    lake_uri: str = ""
    # Spark's master. Empty: as spark-submit says, for EMR and Databricks. Six threads on two cores: two per exit, so that an
    # exit that hangs does not hold the threads of the others; four attempts per task.
    master: str = "local[6,4]"
    # A failed query waits this long at most before it starts again; full jitter below.
    restart_seconds_max: float = 30.0
    # A partition with this many small files is compacted by the lake query itself, between two batches.
    compact_files: int = 24
    # Rows that nobody has removed a snapshot of for this long may go physically: longer than any reader runs.
    vacuum_retention_hours: int = 168

    def checkpoints(self, shared: Settings) -> str:
        return self.checkpoint_dir or str((Path(shared.state_dir) / "etl" / "checkpoints").resolve())

    def lake(self, shared: Settings) -> str:
        return self.lake_uri or f"s3://{shared.bucket}/lake/events"


@dataclass(frozen=True, slots=True)
class RdsSettings:
    SECTION: ClassVar[str] = "rds"

    # postgresql://user@host:port/database
    url: str = "postgresql://spillway@127.0.0.1:5432/spillway"


@dataclass(frozen=True, slots=True)
class RedisSettings:
    SECTION: ClassVar[str] = "redis"

    # redis://host:port/0, rediss:// for TLS
    url: str = "redis://127.0.0.1:6379/0"
