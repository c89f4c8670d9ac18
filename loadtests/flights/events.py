"""Flights as events: scheduled, then departed or cancelled, then arrived; the subject is the plane by its tail number.

Ids are made from the flight, so that a second replay sends the same ids. A cancelled flight without a plane is its own
subject. What a flight never did (a diverted flight's arrival) is no event.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from loadtests.flights.dataset import Flight
from pipeline.gen.spillway.events.v1.flight_pb2 import FlightArrived, FlightCancelled, FlightDeparted, FlightScheduled

SOURCE = "/airlines/bts"


@dataclass(frozen=True, slots=True)
class FlightEvent:
    id: str
    subject: str
    time: datetime
    message_class: type[Message]
    # Field name to value; datetimes for timestamps.
    fields: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.message_class.DESCRIPTOR.full_name)

    def message(self) -> Message:
        return self.message_class(**self.fields)

    def structured(self) -> dict[str, Any]:
        """The event in CloudEvents' JSON format."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": SOURCE,
            "type": self.type,
            "subject": self.subject,
            "time": _rfc3339(self.time),
            "datacontenttype": "application/json",
            "data": {name: _rfc3339(value) if isinstance(value, datetime) else value for name, value in self.fields.items()},
        }


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def events_of(flight: Flight) -> Iterator[FlightEvent]:
    """The one to three events of a flight, in their order."""
    name = f"{flight.carrier}{flight.flight}-{flight.scheduled_departure:%Y%m%dT%H%M}"
    subject = flight.tail_number or f"{flight.carrier}{flight.flight}"
    leg = {
        "carrier": flight.carrier,
        "flight": flight.flight,
        "tail_number": flight.tail_number,
        "origin": flight.origin,
        "destination": flight.destination,
    }

    def event(phase: str, time: datetime, message_class: type[Message], **fields: Any) -> FlightEvent:
        known = {key: value for key, value in (leg | fields).items() if value is not None}
        return FlightEvent(f"{name}-{phase}", subject, time, message_class, known)

    scheduled = flight.scheduled_departure
    yield event("1-scheduled", scheduled, FlightScheduled, scheduled_departure=scheduled, distance_miles=flight.distance_miles)
    if flight.departure is None:
        yield event("2-cancelled", scheduled, FlightCancelled)
        return
    yield event(
        "2-departed", flight.departure, FlightDeparted, departed_at=flight.departure, delay_minutes=flight.departure_delay_minutes
    )
    if flight.arrival is not None:
        yield event(
            "3-arrived",
            flight.arrival,
            FlightArrived,
            arrived_at=flight.arrival,
            delay_minutes=flight.arrival_delay_minutes,
            air_time_minutes=flight.air_time_minutes,
        )


def by_door(flights: Iterable[Flight]) -> Iterator[tuple[str, FlightEvent]]:
    """Every event with the door it goes in at: flights alternate, so a plane's history comes through both."""
    for number, flight in enumerate(flights):
        for event in events_of(flight):
            yield ("grpc" if number % 2 == 0 else "http"), event
