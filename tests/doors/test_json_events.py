"""JSON at the HTTP door: nothing is lost, doubled or mixed up on the way to the stored event."""

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.doors.json_events import Parsed, Unreadable, batched, binary, structured
from pipeline.errors import InvalidEvent
from pipeline.event import event_time_micros
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent

from .world import PAGE

ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/test", "type": PAGE, "time": "2026-01-01T00:00:00Z"}
HEAD = json.dumps(ENVELOPE)[:-1]

names = st.text(max_size=6)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, values, max_size=4)
layouts = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"indent": 2},
        {"separators": (" , ", "\t:\n")},
        {"separators": (",", ":"), "sort_keys": True},
    ]
)


def text_of(parsed: Parsed) -> str:
    assert isinstance(parsed.event, CloudEvent), parsed.event
    return parsed.event.text_data


def reason_of(parsed: Parsed) -> str:
    return parsed.event.why.reason if isinstance(parsed.event, Unreadable) else "accepted"


@settings(max_examples=300)
@given(objects, layouts)
def test_data_is_stored_as_it_was_written(data: dict[str, Any], layout: dict[str, Any]) -> None:
    written = json.dumps(data, **layout)
    body = f'{HEAD}, "data" : {written} }}'.encode()
    assert written == text_of(structured(body))


@settings(max_examples=300)
@given(objects)
def test_compact_json_takes_the_quick_way_to_the_same_text(data: dict[str, Any]) -> None:
    body = json.dumps({**ENVELOPE, "data": data}, separators=(",", ":"), ensure_ascii=False).encode()
    stored = text_of(structured(body))
    assert json.loads(stored) == data
    assert repr(json.loads(stored)) == repr(data)  # 1.0 stays 1.0, and an integer beyond 64 bits keeps its digits


@settings(max_examples=100)
@given(st.lists(objects, min_size=1, max_size=4), layouts)
def test_a_batch_is_its_events_one_by_one(data: list[dict[str, Any]], layout: dict[str, Any]) -> None:
    events = [{**ENVELOPE, "id": str(index), "data": one} for index, one in enumerate(data)]
    parsed = batched(json.dumps(events, **layout).encode(), 500)
    assert [str(index) for index in range(len(data))] == [one.id for one in parsed]
    assert data == [json.loads(text_of(one)) for one in parsed]


@pytest.mark.parametrize(
    "text", ["9007199254740993", "18446744073709551616123", "0.1234567890123456789012", "1E+2", "-0.0", '"\\u00e9\\/"']
)
def test_numbers_and_escapes_keep_their_digits(text: str) -> None:
    assert f'{{"n":{text}}}' == text_of(structured(f'{HEAD},"data":{{"n":{text}}}}}'.encode()))


BAD = [
    ("duplicate_key", '{"data":{"a":1,"a":2}}'),
    ("duplicate_key", '{"data":{"a":{"b":[{"c":1,"c":1}]}}}'),
    ("duplicate_key", '{"data":{},"data":{}}'),
    ("duplicate_key", '{"id":"x","data":{}}'),
    ("missing_data", "{}"),
    ("missing_data", '{"data":null}'),
    ("bad_json", '{"data":[]}'),
    ("bad_json", '{"data":"text"}'),
    ("bad_json", '{"data":7}'),
    ("data_content_type", '{"data_base64":"AA=="}'),
    ("data_content_type", '{"data":{},"datacontenttype":"text/plain"}'),
    ("data_content_type", '{"data":{},"datacontenttype":5}'),
    ("bad_attribute", '{"data":{},"extra":{}}'),
    ("bad_attribute", '{"data":{},"extra":1.5}'),
    ("bad_attribute", '{"data":{},"extra":2147483648}'),
    ("accepted", '{"data":{},"extra":2147483647,"flag":true,"text":"x","none":null}'),
    ("accepted", '{"data":{},"datacontenttype":"application/vnd.acme+json; charset=utf-8"}'),
]


@pytest.mark.parametrize(("expected", "members"), BAD)
@pytest.mark.parametrize("space", ["", " "])
def test_each_event_gets_its_reason_and_its_neighbours_are_left_alone(expected: str, members: str, space: str) -> None:
    """TRAPS 9: on the quick way and on the scanned one."""
    rest = members[1:-1]
    one = f"{HEAD}{',' if rest else ''}{rest}}}".replace('": ', '":').replace(', "', ',"')
    good = f'{HEAD},"data":{{}}}}'.replace('": ', '":').replace(', "', ',"')
    parsed = batched(f"[{space}{good},{one},{good}]".encode(), 500)
    assert ["accepted", expected, "accepted"] == [reason_of(item) for item in parsed]
    assert expected == reason_of(structured(f"{space}{one}".encode()))


@pytest.mark.parametrize("item", ["5", '"x"', "null", "[]", '[{"a":1,"a":2}]', "true"])
@pytest.mark.parametrize("space", ["", " "])
def test_what_is_no_object_in_a_batch_is_its_own_rejection(item: str, space: str) -> None:
    parsed = batched(f'[{space}{item},{HEAD},"data":{{}}}}]'.encode(), 500)
    assert ["malformed_request", "accepted"] == [reason_of(one) for one in parsed]


def test_an_event_nested_too_deeply_is_its_own_rejection() -> None:
    deep = f'{HEAD},"data":{{"a":{"[" * 1000}{"]" * 1000}}}}}'
    good = f'{HEAD},"data":{{}}}}'
    assert ["bad_json", "accepted"] == [reason_of(one) for one in batched(f"[{deep},{good}]".encode(), 500)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'[{"a":NaN}]', "bad_json"),
        (b'["\\ud800"]', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"{}", "malformed_request"),
        (b"[]", "empty_batch"),
        (b"[1,2,3]", "too_many_events"),
    ],
)
def test_what_is_no_batch_is_refused_as_a_whole(body: bytes, expected: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        batched(body, 2)
    assert expected == raised.value.reason


@settings(max_examples=500)
@given(st.data())
def test_any_mutation_is_events_or_an_invalid_request(data: st.DataObject) -> None:
    events = [{**ENVELOPE, "data": {"pageUrl": "x", "n": [1, {"a": "\u00e9"}]}}] * 2
    body = bytearray(json.dumps(events).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([b'"', b"{", b"}", b"[", b",", b":", b"\\", b"\xc3", b"9", b" "])
        )
    raw = bytes(body)
    parsed = [binary({"id": "1"}, "application/json", raw)]
    with contextlib.suppress(InvalidEvent):
        parsed += batched(raw, 500)
    with contextlib.suppress(InvalidEvent):
        parsed.append(structured(raw))
    assert all(isinstance(one.event, CloudEvent | Unreadable) for one in parsed)


def test_time_is_stored_as_the_moment_it_names() -> None:
    body = orjson.dumps({**ENVELOPE, "time": "2013-01-31T23:59:00.123456789-05:00", "data": {}})
    made = structured(body).event
    assert isinstance(made, CloudEvent)
    assert (1359694740, 123456789) == (made.attributes["time"].ce_timestamp.seconds, made.attributes["time"].ce_timestamp.nanos)
    assert 1359694740123456 == event_time_micros(made)


def test_binary_mode_is_headers_and_the_body_as_it_came() -> None:
    parsed = binary(
        {"id": "1", "source": "/s", "specversion": "1.0", "type": PAGE, "subject": "u"}, "application/json", b' {"a": 1} '
    )
    assert isinstance(parsed.event, CloudEvent)
    assert (' {"a": 1} ', "u") == (parsed.event.text_data, parsed.event.attributes["subject"].ce_string)
    assert "duplicate_key" == reason_of(binary({"id": "1"}, "application/json", b'{"a":1,"a":1}'))
    assert "bad_json" == reason_of(binary({"id": "1"}, "application/json", b"{"))
    assert "bad_attribute" == reason_of(binary({"id": "1", "data": "x"}, "application/json", b"{}"))
