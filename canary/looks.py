"""Looking for probes: what each exit holds of the canary, field by field, as cheaply as the exit allows.

Rules. A look asks only for what is waited for: by subject and time in RDS, by key in Redis, in files and objects that are new
since the last look in lake and backup. It answers for one moment: one version of the table, one statement, one transaction. An
exit that can't be read raises, and what it holds is then not known; it is never taken for empty. Whatever lies there under the
canary's source is told, sent or not: a phantom is nobody's answer otherwise. Each exit is asked by one thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

import orjson
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import redis
from google.protobuf.message import DecodeError

from canary import probes
from canary.probes import Fields, Probe
from pipeline import frame
from pipeline.backup.cursor import SWEEPS, Cursor
from pipeline.backup.gzip import plain as plain_bytes
from pipeline.backup.objects import NoSuchObject, Objects, Stored
from pipeline.backup.reader import PREFIX
from pipeline.etl.lake import Lake
from pipeline.etl.plain import plain, rfc3339
from pipeline.etl.redis_exit import state_key
from pipeline.event import data_bytes, event_time_micros, subject
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import OrderPlaced
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch

CONNECT_SECONDS_MAX = 3
ANSWER_MILLIS_MAX = 5_000
# In one look; the rest waits for the next.
OBJECTS_MAX = 200
# The canary waits for minutes, so a day back, as the auditor looks, is more than it needs.
_SWEEPS = SWEEPS[1:]
# An event's time is when it was sent: what is older than the oldest probe by more is no longer looked at.
BEFORE = timedelta(seconds=5)
# By event id, every copy that is there.
Held = dict[str, list[Fields]]


class Exit(Protocol):
    name: str
    # It promises to hold one of each.
    once: bool

    def look(self, wanted: Sequence[Probe]) -> Held:
        """Every copy of these probes, and of whatever else lies beside them under the canary's source.

        Raises:
            Exception: the exit could not be read; what it holds is not known.
        """
        ...

    def expected(self, probe: Probe) -> Fields:
        """What a copy must hold."""
        ...


@dataclass
class LakeLooks:
    """Rows of the table's current version. Files never change, so each is read once."""

    lake: Lake
    source: str
    name: str = "lake"
    once: bool = True
    _read: dict[str, list[tuple[str, Fields]]] = field(default_factory=dict)

    def look(self, wanted: Sequence[Probe]) -> Held:
        held: Held = {}
        if not self.lake.exists():
            return held
        paths = self._paths(_oldest(wanted))
        filesystem = self.lake.filesystem() if paths - self._read.keys() else None
        for path in paths - self._read.keys():
            self._read[path] = list(self._rows(path, filesystem))
        for path in self._read.keys() - paths:
            del self._read[path]
        for rows in self._read.values():
            for id, fields in rows:
                held.setdefault(id, []).append(fields)
        return held

    def _paths(self, oldest: datetime) -> set[str]:
        """Files of the canary's partition that can hold what is waited for."""
        files = pa.table(self.lake.table().get_add_actions(flatten=True))
        if not files.num_rows:
            return set()
        ours = pc.and_(pc.equal(files["partition.tenant"], probes.TENANT), pc.equal(files["partition.type"], probes.TYPE))
        if "max.event_time" in files.column_names:
            recent = pc.greater_equal(pc.cast(files["max.event_time"], pa.timestamp("us", "UTC")), pa.scalar(oldest))
            ours = pc.and_(ours, pc.fill_null(recent, True))
        return set(files.filter(ours)["path"].to_pylist())

    def _rows(self, path: str, filesystem: Any) -> Iterator[tuple[str, Fields]]:
        columns = ["event_id", "source", "subject", "event_time", "door", probes.STRUCT]
        table = pq.read_table(path, filesystem=filesystem, columns=columns, partitioning=None)
        partition = dict(part.split("=", 1) for part in path.split("/") if "=" in part)
        for row in table.to_pylist():
            if row["source"] == self.source:
                envelope = {name: row[name] for name in ("source", "subject", "event_time", "door")}
                tenant = partition.get("tenant", probes.TENANT)
                yield row["event_id"], _fields({"tenant": tenant, "type": probes.TYPE, **envelope}, row[probes.STRUCT] or {})

    def expected(self, probe: Probe) -> Fields:
        return probes.expected(probe)


@dataclass
class RdsLooks:
    """Rows of `event_history` on the canary's subjects, by the index that is there for them."""

    url: str
    source: str
    name: str = "rds"
    once: bool = True
    _connection: "psycopg.Connection[Any] | None" = field(default=None, repr=False)

    def look(self, wanted: Sequence[Probe]) -> Held:
        rings = {about for probe in wanted for about in probe.ring_subjects}
        query = (
            "SELECT event_id, tenant, source, type, subject, event_time, door, data FROM event_history"
            " WHERE tenant = %s AND entity = %s AND subject = ANY(%s) AND event_time >= %s AND source = %s"
        )
        try:
            if self._connection is None:
                self._connection = _connected(self.url)
            asked = (probes.TENANT, probes.ENTITY, sorted(rings), _oldest(wanted), self.source)
            rows = self._connection.execute(query, asked).fetchall()
        except psycopg.Error:
            self.close()
            raise
        held: Held = {}
        for id, tenant, source, type, about, time, door, data in rows:
            envelope = {"tenant": tenant, "source": source, "type": type, "subject": about, "event_time": time, "door": door}
            held.setdefault(id, []).append(_fields(envelope, data))
        return held

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def expected(self, probe: Probe) -> Fields:
        return probes.expected(probe)


def _connected(url: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS_MAX,
        tcp_user_timeout=ANSWER_MILLIS_MAX,
        options=f"-c statement_timeout={ANSWER_MILLIS_MAX} -c timezone=UTC",
        application_name="spillway-canary",
    )


@dataclass
class RedisLooks:
    """The state of each probe's own subject. Whose word stands is told by the token beside it, which ends with the event's
    key.
    """

    url: str
    name: str = "redis"
    once: bool = True
    _client: "redis.Redis | None" = field(default=None, repr=False)

    def look(self, wanted: Sequence[Probe]) -> Held:
        if self._client is None:
            seconds = ANSWER_MILLIS_MAX / 1_000
            self._client = redis.Redis.from_url(self.url, socket_timeout=seconds, socket_connect_timeout=CONNECT_SECONDS_MAX)
        with self._client.pipeline(transaction=True) as pipe:  # one moment, or a later probe could seem to overtake
            for probe in wanted:
                pipe.hgetall(state_key(probes.TENANT, probes.ENTITY, probe.subject))
            hashes = cast(list[dict[bytes, bytes]], pipe.execute())
        held: Held = {}
        for probe, state in zip(wanted, hashes, strict=True):
            key = probe.key.hex().encode()
            names = [name[1:] for name, token in state.items() if name.startswith(b"@") and token.endswith(key)]
            if names:
                held[probe.id] = [{name.decode(): state.get(name, b"").decode("utf-8", "replace") for name in names}]
        return held

    def expected(self, probe: Probe) -> Fields:
        return probes.expected_state(probe)


@dataclass
class BackupLooks:
    """Events in the objects of one stream's backup. Each object is read once; only batches that name the canary are opened."""

    objects: Objects
    stream: str
    source: str
    name: str = "backup"
    once: bool = False
    # Kept as they were sent: the backup of `web-events` holds JSON.
    as_sent: bool = False
    # What was read is remembered for longer than anything is waited for: an object is read once, a probe is looked for again.
    keep_seconds: float = 1_800.0
    _cursor: Cursor | None = None
    _swept_at: list[float] = field(default_factory=lambda: [0.0] * len(_SWEEPS))
    _held: list[tuple[datetime, str, Fields]] = field(default_factory=list)

    def look(self, wanted: Sequence[Probe]) -> Held:
        now, oldest = datetime.now(UTC), _oldest(wanted)
        self._held = [one for one in self._held if one[0] >= now - timedelta(seconds=self.keep_seconds)]
        unread = self._unread(now, oldest)
        for stored in unread[:OBJECTS_MAX]:
            self._read(stored)
        if len(unread) > OBJECTS_MAX:
            raise TimeoutError(f"{len(unread) - OBJECTS_MAX} objects of the backup are still to be read")
        held: Held = {}
        for _, id, fields in self._held:
            held.setdefault(id, []).append(fields)
        return held

    def _unread(self, now: datetime, oldest: datetime) -> list[Stored]:
        if self._cursor is None:
            self._cursor = Cursor(f"{PREFIX}{self.stream}/", oldest)
        due = (n for n, sweep in enumerate(_SWEEPS) if now.timestamp() - self._swept_at[n] >= sweep.every_seconds)
        number = next(due, len(_SWEEPS) - 1)
        found = self._cursor.unread(self.objects.list(self._cursor.prefix, self._cursor.list_after(_SWEEPS[number].back, now)))
        self._swept_at[number:] = [now.timestamp()] * (len(_SWEEPS) - number)
        return found

    def _read(self, stored: Stored) -> None:
        assert self._cursor is not None
        try:
            content = plain_bytes(self.objects.get(stored.key)).data
        except NoSuchObject:
            content = b""
        for part in frame.split(content):
            if isinstance(part, frame.Payload) and self.source.encode() in part.data:
                self._held += [(stored.modified_at, *one) for one in self._events(part.data)]
        self._cursor.read(stored)
        self._cursor.advance(())

    def _events(self, payload: bytes) -> Iterator[tuple[str, Fields]]:
        try:
            batch = StoredBatch.FromString(payload)
        except DecodeError:
            return
        for event in batch.events:
            if event.source == self.source:
                yield event.id, self._event(event, batch)

    def _event(self, event: CloudEvent, batch: StoredBatch) -> Fields:
        time = event_time_micros(event)
        envelope = {
            "tenant": batch.tenant,
            "source": event.source,
            "type": event.type,
            "subject": subject(event),
            "event_time": "" if time is None else rfc3339(time),
            "door": batch.door,
        }
        try:
            data = orjson.loads(data_bytes(event)) if self.as_sent else plain(OrderPlaced.FromString(data_bytes(event)))
        except (ValueError, DecodeError):
            data = {"unreadable": True}
        return _fields(envelope, data)

    def expected(self, probe: Probe) -> Fields:
        return probes.expected_as_sent(probe) if self.as_sent else probes.expected(probe)


def _fields(envelope: Mapping[str, Any], data: Any) -> Fields:
    return {name: probes.text(value) for name, value in envelope.items()} | probes.flat(data, "data.")


def _oldest(wanted: Sequence[Probe]) -> datetime:
    sent_at = min((probe.sent_at for probe in wanted), default=datetime.now(UTC).timestamp())
    return datetime.fromtimestamp(sent_at, UTC) - BEFORE
