"""The lake: one Delta table of all events, one atomic commit per micro-batch.

Rules.
- A batch is visible whole or not at all. The commit carries the query's id and the batch's number; a batch that is there
  already is not committed again (TRAPS 20). delta-rs does not look by itself: the check and the commit are made on the very
  same snapshot, with `max_commit_retries=0`, which makes the commit a compare-and-swap.
- Before each attempt every staged row is compared with the identities in its partition (tenant, type, date of event time). A
  row that is there already is dropped; one whose payload differs is a conflict and goes to the dead letters before the
  commit (TRAPS 22, 25). If somebody else committed meanwhile, all of that is done again on the new snapshot.
- The query's id is that of the checkpoint: with a new checkpoint everything is read again, and the comparison drops it.
- A new event type or field adds columns; a column whose type would change stops the query.

It is behind this small interface so that Iceberg on Glue can follow.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from pipeline.errors import InvalidSchema, Unavailable
from pipeline.etl.keys import Judgement, KeyCache, Keys, judge, repeated_within
from pipeline.etl.report import Conflict, StagedFile
from pipeline.etl.stage import COMMON_SCHEMA, PARTITION_COLUMNS, moment, write_file
from pipeline.etl.storage import Objects, delta_options

COMMITS_MAX = 12
CHECKPOINT_COMMITS = "50"
PROPERTIES = {"delta.checkpointInterval": CHECKPOINT_COMMITS, "delta.deletedFileRetentionDuration": "interval 7 days"}


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did. `version` is None when there was nothing to commit, or it was there already."""

    version: int | None = None
    rows: int = 0
    duplicates: int = 0
    conflicts: frozenset[Conflict] = frozenset()
    # This batch had been committed before: by this process, or by one that died right after.
    repeated: bool = False
    # Of the identities that were to be watched, those that the lake had already.
    known: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of the table."""

    path: str
    size_bytes: int
    rows: int
    tenant: str
    type: str
    date: str
    # None: the file has no statistics.
    time_min: datetime | None
    time_max: datetime | None


@dataclass(slots=True)
class _Listing:
    version: int
    by_partition: dict[tuple[str, str, str], list[DataFile]] = field(default_factory=dict)


class Lake:
    """One table. Not to be shared between threads."""

    def __init__(
        self, uri: str, region: str, *, objects: Objects | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        self.uri = uri
        self._options = dict(delta_options(uri, region) if options is None else options)
        self.objects = objects or Objects(uri, region)
        self._table: DeltaTable | None = None
        self._cache = KeyCache(self._read_keys)
        self._listing: _Listing | None = None

    def table(self) -> DeltaTable:
        """The table as it is now.

        Raises:
            Unavailable: it is not there, or the storage does not answer.
        """
        try:
            if self._table is None:
                self._table = DeltaTable(self.uri, storage_options=self._options)
            else:
                self._table.update_incremental()
        except (deltalake.exceptions.DeltaError, OSError) as exc:
            self._table = None
            raise Unavailable(f"the lake at {self.uri} can't be read: {exc}") from exc
        return self._table

    def exists(self) -> bool:
        """Raises: Unavailable."""
        try:
            return bool(DeltaTable.is_deltatable(self.uri, storage_options=self._options))
        except (deltalake.exceptions.DeltaError, OSError) as exc:
            raise Unavailable(f"the lake at {self.uri} can't be read: {exc}") from exc

    def has(self, app_id: str, batch: int) -> bool:
        """Whether this batch is committed."""
        last = self.table().transaction_version(app_id)
        return last is not None and last >= batch

    def ensure(self, structs: Mapping[str, pa.StructType]) -> None:
        """Make the table if there is none, and add the columns that it lacks.

        Raises:
            InvalidSchema: a column is there with another type.
        """
        wanted = [pa.field(name, kind) for name, kind in sorted(structs.items())]
        if not self.exists():
            self._create(pa.schema([*COMMON_SCHEMA, *wanted]))
        for _ in range(COMMITS_MAX):
            table = self.table()
            missing = _missing(pa.schema(table.schema().to_arrow()), wanted)
            if not missing:
                return
            try:
                table.alter.add_columns(deltalake.Schema.from_arrow(pa.schema(missing)).fields)
            except CommitFailedError:
                continue
            except (deltalake.exceptions.DeltaError, OSError) as exc:
                raise Unavailable(f"the columns of {self.uri} could not be added: {exc}") from exc
        raise Unavailable(f"the columns of {self.uri} could not be added in {COMMITS_MAX} attempts: others commit all the time")

    def _create(self, schema: pa.Schema) -> None:
        try:
            DeltaTable.create(
                self.uri,
                schema=schema,
                mode="ignore",
                partition_by=list(PARTITION_COLUMNS),
                storage_options=self._options,
                configuration=PROPERTIES,
            )
        except (deltalake.exceptions.DeltaError, OSError) as exc:
            raise Unavailable(f"the lake at {self.uri} could not be made: {exc}") from exc

    def commit(
        self,
        app_id: str,
        batch: int,
        files: Sequence[StagedFile],
        *,
        on_conflicts: Callable[[frozenset[Conflict]], None],
        before_commit: Callable[[], None] = lambda: None,
        watched: frozenset[bytes] = frozenset(),
    ) -> Committed:
        """Commit one micro-batch's staged files. `on_conflicts` is called before the commit, and must store what it is given.

        `watched`: identities of which the caller wants to know whether they are duplicates.

        Raises:
            Unavailable: the storage does not answer, or took none of `COMMITS_MAX` commits: others won, or the table asks for
                what this does not speak. Nothing is committed.
        """
        reported, refused = frozenset[Conflict](), ""
        for _ in range(COMMITS_MAX):
            table = self.table()
            last = table.transaction_version(app_id)
            if last is not None and last >= batch:
                return Committed(repeated=True)
            kept, duplicates, conflicts, known = self._judged(table, files, watched)
            if conflicts - reported:
                on_conflicts(conflicts)
                reported = conflicts
            if not kept:
                return Committed(None, 0, duplicates, conflicts, known=known)
            before_commit()
            version = table.version() + 1
            refused = self._swap(table, app_id, batch, kept)
            if not refused:
                for one in kept:
                    self._cache.put(one.path, Keys(one.keys, one.digests))
                return Committed(version, sum(one.rows for one in kept), duplicates, conflicts, known=known)
        raise Unavailable(f"{self.uri}: {COMMITS_MAX} commits in a row were not taken, the last one by: {refused}")

    def _swap(self, table: DeltaTable, app_id: str, batch: int, files: Sequence[StagedFile]) -> str:
        """Commit on exactly this snapshot; why not, if it may be taken on a newer one."""
        now_millis = int(datetime.now(UTC).timestamp() * 1000)
        try:
            table.create_write_transaction(
                [_add(one, now_millis) for one in files],
                "append",
                table.schema(),
                list(PARTITION_COLUMNS),
                commit_properties=CommitProperties(max_commit_retries=0, app_transactions=[Transaction(app_id, batch)]),
            )
        except CommitFailedError as exc:
            return str(exc) or "another commit"
        except (deltalake.exceptions.DeltaError, OSError) as exc:
            raise Unavailable(f"the commit to {self.uri} failed: {exc}") from exc
        return ""

    def _judged(
        self, table: DeltaTable, files: Sequence[StagedFile], watched: frozenset[bytes]
    ) -> tuple[list[StagedFile], int, frozenset[Conflict], frozenset[bytes]]:
        kept: list[StagedFile] = []
        repeated: set[bytes] = set()
        duplicates, conflicts = 0, set()
        all_keys = [Keys(one.keys, one.digests) for one in files]
        in_batch: list[Keys] = []
        repeats = repeated_within(all_keys)
        for one, new in zip(files, all_keys, strict=True):
            known = [self._cache.get(old.path) for old in self.files_with(table, one)]
            judged = judge(new, [*known, *in_batch])
            duplicates += len(judged.duplicates)
            conflicts |= {Conflict(new.key(row), new.digest(row)) for row in judged.conflicts}
            if watched:
                repeated |= watched.intersection(map(new.key, judged.duplicates))
            if repeats:
                in_batch.append(new)
            if len(judged.rows) < one.rows:
                kept.append(self._rewritten(one, new, judged) if judged.rows else one)
        return kept, duplicates, frozenset(conflicts), frozenset(repeated)

    def files_with(self, table: DeltaTable, staged: StagedFile) -> list[DataFile]:
        """Files of the partition whose event times overlap the staged ones: a duplicate has the same event time."""
        start, end = moment(staged.time_micros_min), moment(staged.time_micros_max)
        return [
            old
            for old in self.listing(table).get((staged.tenant, staged.type, staged.date), ())
            if old.time_min is None or old.time_max is None or (old.time_min <= end and old.time_max >= start)
        ]

    def _rewritten(self, staged: StagedFile, keys: Keys, judged: Judgement) -> StagedFile:
        """The staged file without the rows that must not be committed, under the name of its new content."""
        content = pq.read_table(pa.BufferReader(self.objects.get(staged.path)))
        keep = pa.array([row not in judged.rows for row in range(staged.rows)])
        table = content.filter(keep)
        rest = keys.without(judged.rows)
        micros = pc.cast(table["event_time"], pa.int64())
        return write_file(
            table,
            self.objects.put,
            tenant=staged.tenant,
            type=staged.type,
            date=staged.date,
            times=(pc.min(micros).as_py(), pc.max(micros).as_py()),
            keys=rest.keys,
            digests=rest.digests,
        )

    def listing(self, table: DeltaTable) -> Mapping[tuple[str, str, str], list[DataFile]]:
        """The table's files by partition."""
        if self._listing is None or self._listing.version != table.version():
            listing = _Listing(table.version())
            for one in data_files(table):
                listing.by_partition.setdefault((one.tenant, one.type, one.date), []).append(one)
            self._listing = listing
        return self._listing.by_partition

    def _read_keys(self, path: str) -> Keys:
        columns = ["event_key", "payload_digest"]
        content = pq.read_table(path, filesystem=self.filesystem(), columns=columns, partitioning=None)
        return Keys(*(b"".join(content[column].to_pylist()) for column in columns))

    def filesystem(self) -> Any:
        """The table's folder as Arrow sees it; paths are those of the table's log."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        return PyFileSystem(DeltaStorageHandler(self.uri, self._options))


def data_files(table: DeltaTable) -> Iterable[DataFile]:
    """Every file of this snapshot."""
    for add in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        yield DataFile(
            add["path"],
            add["size_bytes"],
            add["num_records"] or 0,
            add["partition.tenant"],
            add["partition.type"],
            add["partition.date"].isoformat(),
            add.get("min.event_time"),
            add.get("max.event_time"),
        )


def _add(staged: StagedFile, now_millis: int) -> AddAction:
    # Delta's statistics hold milliseconds: rounded outwards, so that no reader skips a file that it needs.
    low = moment(staged.time_micros_min // 1_000 * 1_000)
    high = moment(-(-staged.time_micros_max // 1_000) * 1_000)
    stats = {
        "numRecords": staged.rows,
        "minValues": {"event_time": _stat(low)},
        "maxValues": {"event_time": _stat(high)},
        "nullCount": {"event_time": 0, "event_key": 0},
    }
    partition = {"tenant": staged.tenant, "type": staged.type, "date": staged.date}
    return AddAction(staged.path, staged.size_bytes, partition, now_millis, True, json.dumps(stats))


def _stat(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _missing(existing: pa.Schema, wanted: Sequence[pa.Field]) -> list[pa.Field]:
    """The columns to be added: those that are not there, or lack a field."""
    found = []
    for new in wanted:
        if new.name not in existing.names or _lacks(existing.field(new.name).type, new.type, new.name):
            found.append(new)
    return found


def _lacks(old: pa.DataType, new: pa.DataType, path: str) -> bool:
    """Whether `old` must grow to hold `new`. Raises: InvalidSchema: it would have to change."""
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        known = {inner.name: inner.type for inner in old}
        grown = [inner.name not in known or _lacks(known[inner.name], inner.type, f"{path}.{inner.name}") for inner in new]
        return any(grown)
    if pa.types.is_list(old) and pa.types.is_list(new):
        return _lacks(old.value_type, new.value_type, f"{path}[]")
    if pa.types.is_map(old) and pa.types.is_map(new):
        return _lacks(old.item_type, new.item_type, f"{path}{{}}") or _lacks(old.key_type, new.key_type, f"{path}{{}}")
    if old != new:
        raise InvalidSchema(f"the lake's column {path} holds {old}; the deployed schema says {new}. Add a new field instead")
    return False
