"""The state every plane must be in, computed from the flights alone.

An oracle must not share code with what it judges: this is one DuckDB query over the flights' columns, without events, doors or
folds. For each plane and attribute the value of the latest event counts; of two at the same instant, the greater id.
"""

from collections.abc import Iterable
from dataclasses import asdict

import duckdb
import pyarrow as pa

from loadtests.flights.dataset import Flight

_STATE = """
WITH happened AS (
  SELECT coalesce(nullif(tail_number, ''), carrier || flight) AS subject, *,
         carrier || flight || '-' || strftime(scheduled_departure AT TIME ZONE 'UTC', '%Y%m%dT%H%M') AS name
  FROM flights
), facts AS (
  SELECT subject, scheduled_departure AS instant, name || '-1-scheduled' AS id, MAP {'scheduled_flight': flight::VARCHAR} AS sets
  FROM happened
  UNION ALL
  SELECT subject, scheduled_departure, name || '-2-cancelled', MAP {'status': 'cancelled', 'flight': flight::VARCHAR}
  FROM happened WHERE departure IS NULL
  UNION ALL
  SELECT subject, departure, name || '-2-departed', MAP {'status': 'departed', 'flight': flight::VARCHAR, 'airport': origin}
  FROM happened WHERE departure IS NOT NULL
  UNION ALL
  SELECT subject, arrival, name || '-3-arrived', MAP {'status': 'arrived', 'flight': flight::VARCHAR, 'airport': destination}
  FROM happened WHERE arrival IS NOT NULL
), attributes AS (
  SELECT subject, instant, id, unnest(map_entries(sets)) AS entry FROM facts
)
SELECT subject, entry.key AS attribute, arg_max(entry.value, (instant, id)) AS value
FROM attributes GROUP BY ALL ORDER BY ALL
"""


def current_state(flights: Iterable[Flight]) -> dict[tuple[str, str], str]:
    """(subject, attribute) to value, as text."""
    table = pa.Table.from_pylist([asdict(flight) for flight in flights])
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("flights", table)
    return {(subject, attribute): value for subject, attribute, value in connection.execute(_STATE).fetchall()}
