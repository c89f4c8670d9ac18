"""Tending the lake: small files joined, rows deleted, old files removed, manifests for Redshift Spectrum.

Rules. Readers work on a snapshot: a file leaves the table at once but its bytes only after the retention, which is longer than
any reader or writer runs. Compaction changes no row; if a delete got in between it gives way and is done another time.
A delete is a commit like any other, so a batch that was judged on an older snapshot is judged again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from deltalake.exceptions import CommitFailedError, DeltaError

from pipeline.errors import Unavailable
from pipeline.etl.lake import DataFile, Lake, data_files

SMALL_BYTES = 32 * 1024 * 1024
TARGET_BYTES = 128 * 1024 * 1024
# No batch takes this long from staging to commit.
_STRAYS_HOURS_MIN = 24
# How many partitions one micro-batch may wait for.
_CROWDED_MAX = 2

Partition = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class PartitionSize:
    """One partition of the table."""

    tenant: str
    type: str
    date: str
    files: int
    small_files: int
    rows: int
    size_bytes: int

    @property
    def debt(self) -> int:
        """How many files compaction would save."""
        return max(0, self.small_files - 1)


def partitions(lake: Lake) -> list[PartitionSize]:
    groups: dict[Partition, list[DataFile]] = {}
    for one in data_files(lake.table()):
        groups.setdefault((one.tenant, one.type, one.date), []).append(one)
    return [
        PartitionSize(
            *at,
            len(files),
            sum(1 for one in files if one.size_bytes < SMALL_BYTES),
            sum(one.rows for one in files),
            sum(one.size_bytes for one in files),
        )
        for at, files in sorted(groups.items())
    ]


def compact_crowded(lake: Lake, touched: Iterable[Partition], files_max: int) -> int:
    """Compact the most crowded of these partitions, a bounded number of them; how many small files the fullest had before."""
    listing = lake.listing(lake.table())
    small = {at: sum(1 for one in listing.get(at, ()) if one.size_bytes < SMALL_BYTES) for at in touched}
    crowded = sorted((at for at, count in small.items() if count >= files_max), key=lambda at: -small[at])[:_CROWDED_MAX]
    for at in crowded:
        compact(lake, at)
    return max(small.values(), default=0)


def compact(lake: Lake, partition: Partition) -> bool:
    """Join the small files of one partition. False if another commit got in between: nothing has changed then.

    Raises:
        Unavailable: the storage does not answer.
    """
    tenant, type_name, date = partition
    try:
        lake.table().optimize.compact(
            partition_filters=[("tenant", "=", tenant), ("type", "=", type_name), ("date", "=", date)],
            target_size=TARGET_BYTES,
            max_concurrent_tasks=1,
        )
    except CommitFailedError:
        return False
    except (DeltaError, OSError) as exc:
        raise Unavailable(f"compacting {lake.uri}: {exc}") from exc
    return True


def delete_rows(lake: Lake, predicate: str) -> int:
    """Delete the rows that this SQL condition holds for; how many. Their bytes go with the next vacuum.

    Raises:
        Unavailable: others won every attempt, or the storage does not answer.
    """
    try:
        return int(lake.table().delete(predicate)["num_deleted_rows"] or 0)
    except (DeltaError, OSError) as exc:
        raise Unavailable(f"deleting from {lake.uri}: {exc}") from exc


def vacuum(lake: Lake, retention_hours: int, *, dry_run: bool = False) -> list[str]:
    """Remove the bytes of files that left the table longer ago than the retention; their names.

    With a retention of a day or more, also files that no commit names: left by batches that died. With a shorter one those stay,
    since a batch under way may be about to commit them.
    """
    removed: list[str] = lake.table().vacuum(
        retention_hours=retention_hours,
        dry_run=dry_run,
        enforce_retention_duration=False,
        full=retention_hours >= _STRAYS_HOURS_MIN,
    )
    return removed


def manifests(lake: Lake) -> None:
    """Write `_symlink_format_manifest/`, which Redshift Spectrum reads instead of the table's log."""
    lake.table().generate()
