"""The real input: what it is, and that two independent ways lead to the same expected state."""

from collections import Counter
from datetime import datetime

import pytest

from canary.books import Books
from loadtests.flights.dataset import Flight, month
from loadtests.flights.events import FlightEvent, by_door, events_of
from loadtests.flights.expected import current_state
from loadtests.http_sender import _read_answers
from pipeline.schema.registry import Registry


@pytest.fixture(scope="module")
def flights() -> list[Flight]:
    return list(month())


def test_the_month_is_what_its_source_page_says(flights: list[Flight]) -> None:
    assert 27_004 == len(flights)
    assert {2013} == {flight.scheduled_departure.year for flight in flights}
    assert len(flights) == len({(f.carrier, f.flight, f.scheduled_departure) for f in flights})


def test_a_flight_lasts_longer_than_it_is_in_the_air(flights: list[Flight]) -> None:
    taxi_minutes = [
        (f.arrival - f.departure).total_seconds() / 60 - f.air_time_minutes
        for f in flights
        if f.arrival and f.departure and f.air_time_minutes
    ]
    assert (True, True) == (min(taxi_minutes) > 0, max(taxi_minutes) < 240)


def test_events_tell_each_flights_story_once(flights: list[Flight]) -> None:
    events = [event for flight in flights for event in events_of(flight)]
    departed, arrived = sum(f.departure is not None for f in flights), sum(f.arrival is not None for f in flights)
    kinds = {"Scheduled": len(flights), "Departed": departed, "Cancelled": len(flights) - departed, "Arrived": arrived}
    assert kinds == {
        kind.removeprefix("spillway.events.v1.Flight"): count for kind, count in Counter(e.type for e in events).items()
    }
    assert len(events) == len({event.id for event in events})


def test_both_doors_get_about_half_and_parts_of_one_planes_history(flights: list[Flight]) -> None:
    doors = [(door, event.subject) for door, event in by_door(flights)]
    share = sum(door == "grpc" for door, _ in doors) / len(doors)
    assert 0.45 < share < 0.55
    assert {"grpc", "http"} == {door for door, subject in doors if subject == "N14228"}


def test_the_two_forms_of_an_event_hold_the_same_message(flights: list[Flight]) -> None:
    import json

    registry = Registry.load()
    for event in (event for flight in flights[:500] for event in events_of(flight)):
        assert event.message() == registry.find(event.type).from_json(json.dumps(event.structured()["data"]))


def test_the_oracles_state_is_that_of_reading_the_events_one_by_one(flights: list[Flight]) -> None:
    sets = {"1-scheduled": _scheduled, "2-departed": _departed, "2-cancelled": _cancelled, "3-arrived": _arrived}
    state: dict[tuple[str, str], tuple[tuple[datetime, str], str]] = {}
    for flight in flights:
        for event in events_of(flight):
            for attribute, value in sets["-".join(event.id.split("-")[-2:])](event).items():
                key, order = (event.subject, attribute), (event.time, event.id)
                if key not in state or state[key][0] < order:
                    state[key] = (order, value)
    assert {key: value for key, (_, value) in state.items()} == current_state(flights)


def _scheduled(event: FlightEvent) -> dict[str, str]:
    return {"scheduled_flight": str(event.fields["flight"])}


def _departed(event: FlightEvent) -> dict[str, str]:
    return {"status": "departed", "flight": str(event.fields["flight"]), "airport": event.fields["origin"]}


def _cancelled(event: FlightEvent) -> dict[str, str]:
    return {"status": "cancelled", "flight": str(event.fields["flight"])}


def _arrived(event: FlightEvent) -> dict[str, str]:
    return {"status": "arrived", "flight": str(event.fields["flight"]), "airport": event.fields["destination"]}


def test_a_sender_books_only_what_was_answered_for_good() -> None:
    batch = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    books = Books()
    body = {
        "events": [
            {"id": "a", "status": "accepted"},
            {"id": "b", "status": "retry"},
            {"id": "c", "status": "rejected", "reason": "rule"},
        ]
    }
    assert [{"id": "b"}] == _read_answers(body, batch, books)
    assert ({"a"}, {"c": "rule"}) == (books.acknowledged, books.refused)


def test_a_sender_believes_no_answer_of_the_wrong_length() -> None:
    """TRAPS 1: a count mismatch fails all."""
    batch, books = [{"id": "a"}, {"id": "b"}], Books()
    assert batch == _read_answers({"events": [{"id": "a", "status": "accepted"}]}, batch, books)
    assert set() == books.acknowledged
