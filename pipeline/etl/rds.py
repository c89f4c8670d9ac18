"""RDS (PostgreSQL 15): append-only history, and the current state of each subject folded from it.

Rules.
- One part of a micro-batch is one transaction: history, conflicts, state and watermark, all or none (TRAPS 23). Replayed, it
  changes nothing: history has the identity as its key, and only rows that were really added move the state, which only
  ever moves to a later (event time, event id).
- The watermark says how far each shard is in here. It is never a reason to skip: identity is what makes a replay harmless, and a
  stream that was made anew begins its numbers where it likes.
- Fence: each start of the query takes the next number; a transaction of an earlier start fails (TRAPS 16).
- Rows go in sorted by their key, so two parts can't wait for each other in a circle.
- PostgreSQL's text has no NUL: it becomes U+2400 here; the lake keeps it. Identity (event_key) is of the true text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pipeline.errors import LeaseLost, Unavailable
from pipeline.etl.decode import Dead, Decoded, Event, conflict
from pipeline.etl.fold import State, fold
from pipeline.etl.plain import as_json, plain, rfc3339, storable
from pipeline.event import BUSINESS_SQL

QUERY = "rds"
_FENCE_SHARD = "*"
_CONNECT_SECONDS = 5
# A lock or statement that takes longer fails the part, which is tried again.
_STATEMENT_MILLIS_MAX = 120_000
# A server that does not acknowledge what was sent is gone.
_SILENT_MILLIS_MAX = 20_000

SCHEMA_SQL = f"""
CREATE TABLE IF NOT EXISTS event_history (
    event_key bytea PRIMARY KEY,
    tenant text NOT NULL,
    source text NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    entity text NOT NULL,
    event_time timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    door text NOT NULL,
    data jsonb NOT NULL,
    payload_digest bytea NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS event_history_subject ON event_history (tenant, entity, subject, event_time);
CREATE INDEX IF NOT EXISTS event_history_accepted ON event_history USING brin (accepted_at) WITH (pages_per_range = 16);
CREATE TABLE IF NOT EXISTS subject_attribute (
    tenant text NOT NULL,
    entity text NOT NULL,
    subject text NOT NULL,
    attribute text NOT NULL,
    value text NOT NULL,
    event_time timestamptz NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    event_key bytea NOT NULL,
    PRIMARY KEY (tenant, entity, subject, attribute)
);
CREATE TABLE IF NOT EXISTS conflict (
    event_key bytea NOT NULL,
    payload_digest bytea NOT NULL,
    tenant text NOT NULL,
    source text NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    event_time timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    data jsonb NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_key, payload_digest)
);
CREATE TABLE IF NOT EXISTS watermark (
    query text NOT NULL,
    shard_id text NOT NULL,
    sequence_number numeric NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (query, shard_id)
);
CREATE OR REPLACE VIEW current_state AS
    SELECT tenant, entity, subject,
           jsonb_object_agg(attribute, value) AS state,
           max(event_time) AS updated_at
    FROM subject_attribute
    WHERE {BUSINESS_SQL}
    GROUP BY tenant, entity, subject;
CREATE OR REPLACE VIEW business_history AS SELECT * FROM event_history WHERE {BUSINESS_SQL};
"""
# Two applications that start together would both create the tables: the second waits.
_SCHEMA_LOCK = 0x5917_1A7

_STAGING_SQL = """
CREATE TEMP TABLE IF NOT EXISTS new_event (
    event_key bytea, tenant text, source text, event_id text, type text, subject text, entity text,
    event_time timestamptz, accepted_at timestamptz, door text, data jsonb, payload_digest bytea
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS new_attribute (
    tenant text, entity text, subject text, attribute text, value text, event_time timestamptz, event_id text, event_key bytea
) ON COMMIT DELETE ROWS;
"""
_INSERT_HISTORY = """
INSERT INTO event_history (event_key, tenant, source, event_id, type, subject, entity, event_time, accepted_at, door, data,
                           payload_digest)
SELECT event_key, tenant, source, event_id, type, subject, entity, event_time, accepted_at, door, data, payload_digest
FROM new_event ORDER BY event_key
ON CONFLICT (event_key) DO NOTHING
RETURNING event_key
"""
_FIND_CONFLICTS = """
SELECT new_event.event_key FROM new_event JOIN event_history USING (event_key)
WHERE event_history.payload_digest <> new_event.payload_digest
"""
_INSERT_CONFLICT = """
INSERT INTO conflict (event_key, payload_digest, tenant, source, event_id, type, subject, event_time, accepted_at, data)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
UPSERT_ATTRIBUTES = """
INSERT INTO subject_attribute AS kept (tenant, entity, subject, attribute, value, event_time, event_id, event_key)
SELECT tenant, entity, subject, attribute, value, event_time, event_id, event_key FROM new_attribute
ORDER BY tenant, entity, subject, attribute
ON CONFLICT (tenant, entity, subject, attribute) DO UPDATE
SET value = excluded.value, event_time = excluded.event_time, event_id = excluded.event_id, event_key = excluded.event_key
WHERE (excluded.event_time, excluded.event_id COLLATE "C", excluded.event_key)
    > (kept.event_time, kept.event_id COLLATE "C", kept.event_key)
"""
_UPSERT_WATERMARK = """
INSERT INTO watermark AS kept (query, shard_id, sequence_number, fence) VALUES (%s, %s, %s, %s)
ON CONFLICT (query, shard_id) DO UPDATE
SET sequence_number = greatest(kept.sequence_number, excluded.sequence_number), fence = excluded.fence, updated_at = now()
"""
_TAKE_FENCE = """
INSERT INTO watermark AS kept (query, shard_id, fence) VALUES (%s, %s, 1)
ON CONFLICT (query, shard_id) DO UPDATE SET fence = kept.fence + 1, updated_at = now() RETURNING fence
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one part's transaction did."""

    loaded: int
    duplicates: int
    # Conflicts, and events that PostgreSQL can't hold.
    dead: tuple[Dead, ...]
    # Identities that were there before.
    known: frozenset[bytes] = frozenset()


def connect(url: str) -> psycopg.Connection[Any]:
    """Raises: Unavailable."""
    try:
        return psycopg.connect(
            url,
            connect_timeout=_CONNECT_SECONDS,
            tcp_user_timeout=_SILENT_MILLIS_MAX,
            options=f"-c statement_timeout={_STATEMENT_MILLIS_MAX} -c timezone=UTC",
            application_name="spillway-etl",
        )
    except psycopg.OperationalError as exc:
        raise Unavailable(f"RDS: {_first_line(exc)}") from exc


def create_schema(connection: psycopg.Connection[Any]) -> None:
    """Idempotent; two may do it at once."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        connection.execute(sql.SQL(SCHEMA_SQL))


def take_fence(connection: psycopg.Connection[Any], query: str = QUERY) -> int:
    """The next number: whoever holds an earlier one can't commit any more. Waits for transactions under way."""
    with connection.transaction():
        row = connection.execute(_TAKE_FENCE, (query, _FENCE_SHARD)).fetchone()
    assert row is not None
    return int(row[0])


def begin(url: str, query: str = QUERY) -> int:
    """Make the schema and take the fence.

    Raises:
        Unavailable.
    """
    connection = connect(url)
    try:
        create_schema(connection)
        return take_fence(connection, query)
    except psycopg.Error as exc:
        raise Unavailable(f"RDS: {type(exc).__name__} {exc.sqlstate or ''}") from exc
    finally:
        connection.close()


def load(connection: psycopg.Connection[Any], decoded: Decoded, fence: int, query: str = QUERY) -> Loaded:
    """One part of a micro-batch, in one transaction.

    Raises:
        LeaseLost: a later start of this query has taken over.
        Unavailable: nothing of the part is in; or all of it, if the answer to the commit was lost.
    """
    try:
        with connection.transaction():
            _refuse_if_fenced(connection, query, fence)
            done = _load_storable(connection, decoded.events)
            _keep_conflicts(connection, decoded.conflicts)
            for shard_id, last in _last_by_shard(decoded):
                connection.execute(_UPSERT_WATERMARK, (query, shard_id, last, fence))
            return done
    except psycopg.Error as exc:
        # The server's text can quote a row: only its code goes on.
        raise Unavailable(f"RDS: {type(exc).__name__} {exc.sqlstate or ''}") from None


def _load_storable(connection: psycopg.Connection[Any], events: Sequence[Event]) -> Loaded:
    """Load what PostgreSQL takes; halve what it refuses until the event that it refuses is alone."""
    try:
        with connection.transaction():  # a savepoint: a refusal undoes this half only
            return load_events(connection, events)
    except psycopg.DataError as exc:
        if len(events) == 1:
            detail = f"PostgreSQL refuses its values ({exc.sqlstate})"
            return Loaded(0, 0, (Dead("unstorable", detail, events[0].record, events[0].place),))
    middle = len(events) // 2
    halves = [_load_storable(connection, half) for half in (events[:middle], events[middle:])]
    return Loaded(
        sum(half.loaded for half in halves),
        sum(half.duplicates for half in halves),
        halves[0].dead + halves[1].dead,
        halves[0].known | halves[1].known,
    )


def load_events(connection: psycopg.Connection[Any], events: Sequence[Event]) -> Loaded:
    """Events into history and state, in the transaction that is open."""
    if not events:
        return Loaded(0, 0, ())
    connection.execute(sql.SQL(_STAGING_SQL))
    _copy(connection, "new_event", map(_history_row, events))
    added = {bytes(row[0]) for row in connection.execute(_INSERT_HISTORY)}
    taken = [event for event in events if event.key in added]
    clashing: list[Event] = []
    known: frozenset[bytes] = frozenset()
    if len(taken) < len(events):
        known = frozenset(event.key for event in events if event.key not in added)
        clashes = {bytes(row[0]) for row in connection.execute(_FIND_CONFLICTS)}
        clashing = [event for event in events if event.key in clashes]
        _keep_conflicts(connection, clashing)
    upsert_state(connection, fold(taken))
    return Loaded(len(taken), len(events) - len(taken) - len(clashing), tuple(map(conflict, clashing)), known)


def _keep_conflicts(connection: psycopg.Connection[Any], clashing: Sequence[Event]) -> None:
    """In the order of their keys, as everything. One that PostgreSQL can't hold is in the dead letters alone."""
    rows = [_conflict_row(event) for event in sorted(clashing, key=lambda event: (event.key, event.digest))]
    for row in rows:
        try:
            with connection.transaction():
                connection.execute(_INSERT_CONFLICT, row)
        except psycopg.DataError:
            continue


def upsert_state(connection: psycopg.Connection[Any], state: State) -> None:
    """Move attributes to what is said later than what is there."""
    if state:
        connection.execute(sql.SQL(_STAGING_SQL))
        _copy(connection, "new_attribute", _attribute_rows(state))
        connection.execute(UPSERT_ATTRIBUTES)


def _refuse_if_fenced(connection: psycopg.Connection[Any], query: str, fence: int) -> None:
    """Holds the fence until the transaction ends: a taker waits for it."""
    row = connection.execute(
        "SELECT fence FROM watermark WHERE query = %s AND shard_id = %s FOR SHARE", (query, _FENCE_SHARD)
    ).fetchone()
    if row is None or int(row[0]) != fence:
        raise LeaseLost(f"the {query} query was started again elsewhere: this one holds fence {fence}, not {row and row[0]}")


def _last_by_shard(decoded: Decoded) -> Iterator[tuple[str, int]]:
    last: dict[str, int] = {}
    for record in decoded.records:
        last[record.shard_id] = max(last.get(record.shard_id, 0), int(record.sequence_number))
    yield from sorted(last.items())


def _copy(connection: psycopg.Connection[Any], table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
        for row in rows:
            copy.write_row(row)


def _history_row(event: Event) -> tuple[Any, ...]:
    return (
        event.key,
        storable(event.tenant),
        storable(event.source),
        storable(event.id),
        event.kind.name,
        storable(event.subject),
        event.kind.entity,
        rfc3339(event.time_micros),
        rfc3339(event.accepted_micros),
        storable(event.door),
        as_json(plain(event.message)),
        event.digest,
    )


def _conflict_row(event: Event) -> tuple[Any, ...]:
    row = _history_row(event)
    return (event.key, event.digest, *row[1:6], row[7], row[8], row[10])


def _attribute_rows(state: State) -> Iterator[tuple[Any, ...]]:
    for at, said in state.items():
        text = [storable(part) for part in (*at, said.value)]
        yield (*text, rfc3339(said.order.time_micros), storable(said.order.event_id.decode()), said.order.event_key)


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
