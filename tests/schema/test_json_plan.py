"""The compiled JSON plan says what json_format says, and refuses what json_format alters in silence."""

import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent
from pipeline.schema.registry import Registry

from .random_messages import messages

REGISTRY = Registry.load(Path(__file__).parent / "protos")
TYPES = sorted(REGISTRY.types)
KINDS = REGISTRY.find("acme.kinds.Kinds")
LAWS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def by_the_oracle(kind, text):
    return json_format.Parse(text, kind.message_class())


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@LAWS
def test_what_json_format_writes_is_read_back_in_every_spelling(name, data):
    kind = REGISTRY.types[name]
    message = data.draw(messages(kind.message_class))
    try:
        text = json_format.MessageToJson(
            message,
            preserving_proto_field_name=data.draw(st.booleans()),
            use_integers_for_enums=data.draw(st.booleans()),
            always_print_fields_with_no_presence=data.draw(st.booleans()),
            ensure_ascii=data.draw(st.booleans()),
        )
        expected = by_the_oracle(kind, text).SerializeToString(deterministic=True)
    except (json_format.ParseError, json_format.SerializeToJsonError, ValueError):
        assume(False)  # it can't read its own largest float, nor write every field mask
    assert expected == kind.from_json(text).SerializeToString(deterministic=True)
    assert expected == kind.from_json(text.encode()).SerializeToString(deterministic=True)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            "",
            "1",
            "-1",
            "1.0",
            "1e2",
            "0x1",
            " 1",
            "x",
            "NaN",
            "nan",
            "Infinity",
            "-Infinity",
            "true",
            "COLOUR_RED",
            "YQ==",
            "YQ",
            "_-8=",
            "2013-01-01T10:17:00Z",
            "2013-01-01T10:17:00.123456789+02:30",
            "2013-01-01",
            "2013-13-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-01:00",
            "1.5s",
            "-3s",
            "1",
            "s",
            "a,b.c",
            "18446744073709551615",
            "3e38",
            "4e38",
        ]
    ),
    st.lists(st.integers(-1, 3) | st.none() | st.text(max_size=2), max_size=3),
    st.dictionaries(
        st.sampled_from(["a", "1", "true", "seconds", "name", "x"]), st.integers(0, 3) | st.none() | st.just("v"), max_size=2
    ),
)


@given(st.dictionaries(st.sampled_from([field.json_name for field in KINDS.descriptor.fields]), ODD, min_size=1, max_size=2))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_in_a_field_the_plan_never_reads_it_otherwise_than_json_format(members):
    """One direction is a law: what the plan takes, json_format takes, with the same meaning."""
    assume(not 3.4028e38 < abs(members.get("single") if isinstance(members.get("single"), float) else 0) < 3.4029e38)
    text = json.dumps(members)
    try:
        message = KINDS.from_json(text)
    except InvalidEvent as refusal:
        assert refusal.reason in ("wrong_type", "unknown_field")  # noqa: PT017
        return
    assert by_the_oracle(KINDS, text).SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@given(st.sampled_from([field.json_name for field in KINDS.descriptor.fields]), ODD)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_plan_refuses_json_format_refuses_or_alters(name, value):
    """The other direction holds but for what the plan's own docstring lists."""
    text = json.dumps({name: value})
    try:
        KINDS.from_json(text)
    except InvalidEvent:
        try:
            taken = by_the_oracle(KINDS, text)
        except json_format.ParseError:
            return
        assert stricter_on_purpose(name, value), f"json_format reads {text} as {taken}"


def stricter_on_purpose(name, value):
    if name == "raw":
        return not re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", value)
    if isinstance(value, str) and name in ("small", "big", "real", "single", "colour") and value.strip() != value:
        return True
    if name == "colour":
        return isinstance(value, (bool, float))
    if name in ("leaf", "leaves", "second"):
        return value in ([], "") or isinstance(value, list)
    if isinstance(value, str) and name in ("small", "big", "unsigned", "wrapped"):
        return abs(float(value)) > 2**53
    if name in ("real", "single"):
        return isinstance(value, bool) or value in ("nan", "infinity")
    return False


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"nope": 1}', "nope"),
        ('{"leaf": {"nope": 1}}', "leaf.nope"),
        ('{"leaves": [{}, {"below": {"nope": 1}}]}', "leaves[1].below.nope"),
        ('{"leafByName": {"ann@example.com": {"nope": 1}}}', "leafByName[*].nope"),
    ],
)
def test_an_unknown_field_is_refused_at_every_depth_with_its_path(text, path):
    """TRAPS 18: unknown fields are a decision, on record."""
    with pytest.raises(InvalidEvent) as refusal:
        KINDS.from_json(text)
    assert "unknown_field" == refusal.value.reason
    assert f"acme.kinds.Kinds: {path} is not in the deployed schema" in str(refusal.value)


@pytest.mark.parametrize(
    "text", ['{"ann@example.com": 1}', '{"leaf": {"name": 5141234567}}', '{"counts": {"ann@example.com": "x"}}']
)
def test_a_refusal_tells_neither_values_nor_what_may_be_one(text):
    with pytest.raises(InvalidEvent) as refusal:
        KINDS.from_json(text)
    assert "ann" not in str(refusal.value)
    assert "514" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        '{"a":1}}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        '{"name": 1, "name": 2}',
        b"\x00{",
        "[" * 100_000,
        '{"leaf":' * 200 + "{}" + "}" * 200,
    ],
)
def test_what_is_no_json_in_utf_8_is_bad_json(text):
    with pytest.raises(InvalidEvent) as refusal:
        KINDS.from_json(text)
    assert "bad_json" == refusal.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "null",
        '{"bigNumber": 1, "big_number": 2}',
        '{"first": "a", "third": 1}',
        '{"truths": {"true": 1, "yes": 2}}',
        '{"numbered": {"1": 1, "01": 2}}',
        '{"raw": "@@@@"}',
        '{"colour": 1.5}',
        '{"colour": true}',
        '{"name": "\\ud800"}',
    ],
)
def test_what_would_be_altered_in_silence_is_refused(text):
    with pytest.raises(InvalidEvent) as refusal:
        KINDS.from_json(text)
    assert "wrong_type" == refusal.value.reason


def test_the_largest_float_is_read():
    kind = REGISTRY.find("acme.kinds.Kinds")
    message = kind.message_class(single=3.4028234663852886e38)
    assert message == kind.from_json(json_format.MessageToJson(message))


@given(st.binary(max_size=40) | st.text(max_size=40))
@LAWS
def test_any_input_is_a_message_or_a_refusal(data):
    try:
        KINDS.from_json(data)
    except InvalidEvent as refusal:
        assert refusal.reason in ("bad_json", "unknown_field", "wrong_type")  # noqa: PT017
