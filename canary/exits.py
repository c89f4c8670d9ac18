"""What each exit really holds, read through the exit's own public face: files of the lake, rows of RDS, hashes of Redis,
objects of the backup. Nothing that the pipeline counts of itself is used.

Every exit answers one question: which event ids of one tenant and source are there, with repetitions. `Watcher` asks
it again and again and notes when an id was first seen: that is what freshness is measured by.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import psycopg
import pyarrow.parquet as pq
import redis

from pipeline.backup.reader import Backup, Found
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.redis_exit import state_key


class Exit(Protocol):
    name: str

    def observed(self) -> Iterable[str]:
        """Event ids that are there now, each as often as it is there.

        Raises:
            Exception: the exit could not be read; what it holds is not known.
        """
        ...


@dataclass
class LakeExit:
    """Ids in the data files of the table's current version. Files never change, so each is read once."""

    lake: Lake
    tenant: str
    source: str
    name: str = "lake"
    _read: dict[str, list[str]] = field(default_factory=dict)

    def observed(self) -> Iterator[str]:
        if not self.lake.exists():
            return
        filesystem = self.lake.filesystem()
        for file in data_files(self.lake.table()):
            if file.tenant != self.tenant:
                continue
            if file.path not in self._read:
                rows = pq.read_table(file.path, filesystem=filesystem, columns=["event_id", "source"], partitioning=None)
                pairs = zip(rows["event_id"].to_pylist(), rows["source"].to_pylist(), strict=True)
                self._read[file.path] = [id for id, source in pairs if source == self.source]
            yield from self._read[file.path]


@dataclass
class RdsExit:
    """Rows of `event_history`."""

    url: str
    tenant: str
    source: str
    name: str = "rds"

    def observed(self) -> Iterator[str]:
        with psycopg.connect(self.url, connect_timeout=5) as connection:
            rows = connection.execute(
                "SELECT event_id FROM event_history WHERE tenant = %s AND source = %s", (self.tenant, self.source)
            )
            yield from (row[0] for row in rows)


@dataclass
class RedisExit:
    """Events whose say is in the state: every attribute that the event sets holds its word, or a later one's.

    `statements` maps an event id to the (subject, attribute, order token) that it must have led to. State keeps no history, so an
    event can't be doubled here.
    """

    url: str
    tenant: str
    entity: str
    statements: Mapping[str, Sequence[tuple[str, str, str]]]
    name: str = "redis"

    def observed(self) -> Iterator[str]:
        client = redis.Redis.from_url(self.url, socket_timeout=10, socket_connect_timeout=5)
        try:
            subjects = sorted({subject for said in self.statements.values() for subject, _, _ in said})
            with client.pipeline(transaction=False) as pipe:
                for subject in subjects:
                    pipe.hgetall(state_key(self.tenant, self.entity, subject))
                hashes = dict(zip(subjects, cast(list[dict[bytes, bytes]], pipe.execute()), strict=True))
        finally:
            client.close()
        for id, said in self.statements.items():
            if all(hashes[subject].get(b"@" + attribute.encode(), b"").decode() >= token for subject, attribute, token in said):
                yield id


@dataclass
class BackupExit:
    """Ids in the Firehose backup of one stream. At least once: Firehose may write an event twice, which is no fault here."""

    backup: Backup
    stream: str
    tenant: str
    source: str
    name: str = "backup"
    _read: dict[str, list[str]] = field(default_factory=dict)

    def observed(self) -> Iterator[str]:
        for stored in self.backup.objects(self.stream):
            if stored.key not in self._read:
                self._read[stored.key] = [
                    event.id
                    for part in self.backup.read(stored.key)
                    if isinstance(part, Found) and part.batch.tenant == self.tenant
                    for event in part.batch.events
                    if event.source == self.source
                ]
            yield from self._read[stored.key]


@dataclass
class Watcher:
    """Looks at one exit until everything that is expected is there, and remembers when each id was first seen."""

    exit: Exit
    first_seen: dict[str, float] = field(default_factory=dict)
    # Why the exit could not be read the last time; None if it could.
    blind: str | None = None

    def look(self) -> None:
        """One look. An exit that can't be read is blind, which is not the same as empty."""
        looked_at = time.time()
        try:
            for id in self.exit.observed():
                self.first_seen.setdefault(id, looked_at)
            self.blind = None
        except Exception as exc:  # noqa: BLE001 - kept and shown: whoever judges must say UNKNOWN
            self.blind = f"{type(exc).__name__}: {exc}"

    def missing(self, expected: Iterable[str]) -> int:
        return sum(id not in self.first_seen for id in expected)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of all values do not exceed; None of nothing. Source: nearest-rank method."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]
