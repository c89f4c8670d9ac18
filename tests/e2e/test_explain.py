"""`spillway explain`: where an event is, whichever way it went."""

import itertools
import os
import subprocess
import sys
import urllib.request

import orjson
import pytest

from canary.reconcile import Verdict
from loadtests.flights.dataset import month
from loadtests.flights.events import by_door
from loadtests.flights.replay import replay
from tests.e2e.conftest import Pipeline, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(300)]


def _explain(pipeline: Pipeline, *words: str) -> tuple[int, str]:
    command = [sys.executable, "spillway.py", "explain", *words]
    run = subprocess.run(command, env=os.environ | pipeline.env, capture_output=True, text=True, timeout=120, check=False)
    return run.returncode, run.stdout + run.stderr


def _places(text: str) -> dict[str, str]:
    """Place to what was said of it, from the table's rows."""
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
    return {row[0]: row[1] for row in rows if row[0]}


@pytest.mark.slow
def test_a_delivered_event_is_found_at_every_place_on_its_way(pipeline: Pipeline) -> None:
    pairs = list(by_door(itertools.islice(month(), 9_000, 9_010)))
    events = [event for _, event in pairs]
    books = replay(pairs, pipeline.doors)
    assert {Verdict.OK} == {result.verdict for result in pipeline.results(events, books).values()}
    door_of = {event.id: door for door, event in pairs}
    for door, web in (("grpc", {}), ("http", {"web-events": "found", "web backup": "found"})):
        id = next(event.id for event in events if door_of[event.id] == door)

        def explained(id: str = id, web: dict[str, str] = web) -> bool:
            # The backup of web-events is none of the exits that were waited for.
            code, text = _explain(pipeline, id, "--tenant", pipeline.tenant)
            always = {
                "events": "found",
                "backup": "found",
                "events-clean": "found",
                "lake": "found",
                "rds": "found",
                "redis": "found",
            }
            return (0, web | always | {"dead letters": "absent"}, True) == (code, _places(text), "Delivered." in text)

        wait_until(explained, f"a whole journey of {id}", 30.0)


@pytest.mark.slow
def test_the_event_that_has_the_last_word_is_named_in_redis(pipeline: Pipeline) -> None:
    flight = next(itertools.islice(month(), 9_200, 9_201))
    pairs = list(by_door([flight]))
    books = replay(pairs, pipeline.doors)
    assert {Verdict.OK} == {result.verdict for result in pipeline.results([event for _, event in pairs], books).values()}
    _, text = _explain(pipeline, pairs[-1][1].id, "--tenant", pipeline.tenant)
    assert "this event's word stands for airport, flight, status" in text, text


@pytest.mark.slow
def test_an_event_that_the_transcoder_refused_is_found_in_the_dead_letters(pipeline: Pipeline) -> None:
    event = next(event for _, event in by_door(itertools.islice(month(), 9_100, 9_101))).structured()
    event["data"]["flight"] = "not a number"
    request = urllib.request.Request(
        f"{pipeline.doors.http}/v1/events",
        data=orjson.dumps(event),
        headers={"authorization": f"Bearer {pipeline.key}", "content-type": "application/cloudevents+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert 200 == answer.status
    wait_until(lambda: "Dead-lettered" in _explain(pipeline, event["id"], "--tenant", pipeline.tenant)[1], "a dead letter", 60.0)
    code, text = _explain(pipeline, event["id"], "--tenant", pipeline.tenant)
    found = {place for place, seen in _places(text).items() if seen == "found"}
    assert (0, True) == (code, {"web-events", "dead letters"} <= found and not {"events", "lake", "rds"} & found), text


@pytest.mark.slow
def test_an_event_that_never_was_is_found_nowhere(pipeline: Pipeline) -> None:
    code, text = _explain(pipeline, "no-such-event")
    assert (1, True) == (code, "Found nowhere." in text), text
