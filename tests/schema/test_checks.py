"""The generated checks say what protovalidate says."""

from pathlib import Path

import protovalidate
import pytest
from google.protobuf import message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent, InvalidSchema
from pipeline.schema.checks import Violation, compiled_here
from pipeline.schema.registry import Registry
from pipeline.schema.rules import Unsupported, python_pattern

from .random_messages import messages

PROTOS = Path(__file__).parent / "protos"
REGISTRY = Registry.load(PROTOS)
TYPES = sorted(REGISTRY.types)


def by_the_oracle(message):
    found = []
    for violation in protovalidate.collect_violations(message):
        path = ""
        for element in violation.proto.field.elements if violation.proto.field else ():
            path += ("." if path else "") + element.field_name
            if element.subscript is not None:
                path += f"[{element.subscript.value}]" if element.subscript.field == "index" else "[*]"
        found.append(Violation(path, violation.proto.rule_id))
    return sorted(found, key=lambda violation: (violation.field, violation.rule))


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_checks_find_exactly_the_violations_that_protovalidate_finds(name, data):
    kind = REGISTRY.types[name]
    message = data.draw(messages(kind.message_class))
    found = sorted(kind.violations(message), key=lambda violation: (violation.field, violation.rule))
    assert by_the_oracle(message) == found


def test_only_types_with_rules_of_protovalidates_own_are_left_to_it():
    left = {name for name in TYPES if compiled_here(REGISTRY.types[name].descriptor) is not None}
    assert {"acme.rules.Foreign"} == left


def test_an_unsupported_rule_is_still_checked():
    kind = REGISTRY.find("acme.rules.Foreign")
    message = kind.message_class(a=3, b=4, link="no link", word="a b")
    assert ["string.pattern", "string.uri", "sum"] == sorted(violation.rule for violation in kind.violations(message))


def test_a_refusal_names_field_and_rule_but_never_the_value():
    kind = REGISTRY.find("spillway.events.v1.OrderPlaced")
    message = kind.from_json('{"orderId": "1", "currency": "secret", "lines": [{"sku": "", "quantity": 1}]}')
    with pytest.raises(InvalidEvent) as refusal:
        kind.check(message)
    assert "rule" == refusal.value.reason
    assert "spillway.events.v1.OrderPlaced: currency breaks string.pattern; lines[0].sku breaks string.min_len" == str(
        refusal.value
    )


def test_a_maps_key_is_not_told_since_it_may_be_personal():
    kind = REGISTRY.find("acme.rules.Collections")
    message = kind.message_class()
    message.counts["ann@example.com"] = -1
    assert Violation("counts[*]", "int32.gt") in kind.violations(message)


def test_rules_that_contradict_their_field_stop_the_start(tmp_path):
    (tmp_path / "bad.proto").write_text(
        'syntax = "proto3"; package bad; import "buf/validate/validate.proto";'
        "message Bad { string a = 1 [(buf.validate.field).int32.gt = 1]; }"
    )
    with pytest.raises(InvalidSchema, match=r"bad\.Bad"):
        Registry.load(tmp_path)


@pytest.mark.parametrize(
    "pattern",
    [r"\w+", r"(?i)a", r"(a+)+$", r"a*a*a*a*b", r"[[:alpha:]]", r"\bx", r"(a|b)*", r"[a&&b]", r"\pL", r"a||b"],
)
def test_a_pattern_that_may_mean_something_else_or_take_long_is_left_to_protovalidate(pattern):
    with pytest.raises(Unsupported):
        python_pattern(pattern)


@given(st.from_regex(r"[A-Z]{3}\n?", fullmatch=True))
def test_a_dollar_is_the_very_end(text):
    assert (len(text) == 3) == (python_pattern("^[A-Z]{3}$").search(text) is not None)


def test_every_reachable_message_can_be_made():
    for kind in REGISTRY.types.values():
        assert message_factory.GetMessageClass(kind.descriptor) is kind.message_class
