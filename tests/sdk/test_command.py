"""`spillway send`: every event gets a line, and the exit code says whether all went in."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.event import event_time_micros, subject, text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse, Rejection
from pipeline.sdk.command import send
from tests.sdk.collector import API_KEY, SmallCollector, serving

PAGE = "spillway.events.v1.PageViewed"
DATA = '{"pageUrl": "https://example.com/"}'


@pytest.fixture
def collector() -> Iterator[SmallCollector]:
    with serving(SmallCollector()) as collector:
        yield collector


def run(collector: SmallCollector, *arguments: str, text: str | None = None, key: str = API_KEY) -> Result:
    return CliRunner().invoke(send, ["--target", collector.target, "--key", key, *arguments], input=text)


def columns(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_one_event(collector: SmallCollector) -> None:
    result = run(collector, "--type", PAGE, "--subject", "user-1", "--data", DATA, "--id", "mine")
    assert (0, [["mine", "accepted"]]) == (result.exit_code, columns(result))
    (event,) = collector.events
    assert ("mine", "user-1") == (event.id, subject(event))
    assert PageViewed(page_url="https://example.com/") == PageViewed.FromString(event.binary_data)


def test_an_event_may_be_marked_and_put_into_a_trace(collector: SmallCollector) -> None:
    """By an option for all, by its line for one."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    lines = [
        json.dumps({"id": "a", "data": json.loads(DATA)}),
        json.dumps({"id": "b", "canary": "own", "data": json.loads(DATA)}),
    ]
    result = run(collector, "--type", PAGE, "--canary", "probe-1", "--traceparent", trace, "--file", "-", text="\n".join(lines))
    assert (0, [["a", "accepted"], ["b", "accepted"]]) == (result.exit_code, columns(result))
    assert [("probe-1", trace), ("own", trace)] == [
        (text_attribute(event, "canary"), text_attribute(event, "traceparent")) for event in collector.events
    ]


def test_lines_from_standard_input_each_with_its_answer_in_order(collector: SmallCollector) -> None:
    def answer(events: Sequence[CloudEvent]) -> PublishResponse:
        response = PublishResponse()
        for index, event in enumerate(events):
            bad = event.id == "bad"
            response.statuses.append(EventStatus.EVENT_STATUS_REJECTED if bad else EventStatus.EVENT_STATUS_ACCEPTED)
            if bad:
                response.rejections.append(
                    Rejection(index=index, status=EventStatus.EVENT_STATUS_REJECTED, reason="rule", message="no")
                )
        return response

    collector.answer = answer
    lines = [
        json.dumps({"id": "a", "data": json.loads(DATA), "time": "2013-01-01T05:15:00Z"}),
        "{broken",
        json.dumps({"id": "bad", "data": json.loads(DATA)}),
        json.dumps({"id": "x", "data": {"nonsense": 1}}),
        json.dumps({"id": "y", "dta": {}}),
        "",
        json.dumps({"id": "b", "type": PAGE, "data": json.loads(DATA)}),
    ]
    result = run(collector, "--type", PAGE, "--file", "-", text="\n".join(lines))
    assert [
        ["a", "accepted"],
        ["line 2", "not sent", "bad_json"],
        ["bad", "rejected", "rule"],
        ["line 4", "not sent", "unknown_field"],
        ["line 5", "not sent", "unknown_field"],
        ["b", "accepted"],
    ] == [row[:3] for row in columns(result)]
    assert 1 == result.exit_code
    assert 1_357_017_300_000_000 == event_time_micros(collector.events[0])


def test_lines_from_a_file(collector: SmallCollector, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps({"type": PAGE, "id": str(n), "data": json.loads(DATA)}) + "\n" for n in range(3000)))
    result = run(collector, "--file", str(file))
    assert (0, [[str(n), "accepted"] for n in range(3000)]) == (result.exit_code, columns(result))


def test_a_wrong_key_and_a_missing_one_are_said_plainly(collector: SmallCollector) -> None:
    wrong = run(collector, "--type", PAGE, "--data", DATA, "--id", "a", key="wrong")
    assert (1, [["a", "unanswered", "Refused"]]) == (wrong.exit_code, [row[:3] for row in columns(wrong)])
    missing = CliRunner().invoke(send, ["--type", PAGE, "--data", DATA], env={"SPILLWAY_KEY": "", "SPILLWAY_DEMO_KEY": ""})
    assert 2 == missing.exit_code
    assert "spillway keys add" in missing.output


def test_nobody_there_is_an_answer_too() -> None:
    result = CliRunner().invoke(send, ["--target", "127.0.0.1:9", "--key", "k", "--type", PAGE, "--data", DATA, "--wait", "0.5"])
    assert 1 == result.exit_code
    assert "unanswered" in result.stdout


def test_the_help_teaches() -> None:
    result = CliRunner().invoke(send, ["--help"])
    assert "spillway send --type spillway.events.v1.PageViewed" in result.output
    assert "Ends with 0" in result.output
