"""Event types are found by name, ours and a user's; what can't be read is refused."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent, InvalidSchema
from pipeline.gen.spillway.events.v1 import acquisition_pb2, flight_pb2
from pipeline.schema import registry as registry_module
from pipeline.schema.registry import Registry, StateRule

from .random_messages import messages

OURS = Registry.load()
THEIRS = """
syntax = "proto3";
package acme.v1;
import "spillway/v1/policy.proto";
import "buf/validate/validate.proto";
import "spillway/events/v1/acquisition.proto";
message Signed {
  option (spillway.v1.entity) = {name: "contract", constants: {attribute: "stage", value: "signed"}};
  string number = 1 [(buf.validate.field).string.min_len = 3, (spillway.v1.state) = "number"];
  repeated Page pages = 2;
  spillway.events.v1.OrderLine line = 3;
}
message Page { string title = 1; }
message Torn { string why = 1; }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "contract.proto").write_text(THEIRS)
    return tmp_path


def test_ours_are_found_with_their_stubs_and_their_state():
    kind = OURS.find("spillway.events.v1.FlightDeparted")
    assert flight_pb2.FlightDeparted is kind.message_class
    assert "plane" == kind.entity
    expected = (StateRule("status", constant="departed"), StateRule("flight", "flight"), StateRule("airport", "origin"))
    assert expected == kind.state_rules


def test_parts_of_events_and_the_pipelines_own_messages_are_no_event_types():
    assert not {"spillway.events.v1.OrderLine", "spillway.v1.StoredBatch", "io.cloudevents.v1.CloudEvent"} & set(OURS.types)


def test_an_unknown_type_is_refused():
    with pytest.raises(InvalidEvent) as refusal:
        OURS.find("spillway.events.v1.Nope")
    assert "unknown_type" == refusal.value.reason


def test_a_users_folder_adds_event_types_beside_ours(folder):
    registry = Registry.load(folder)
    assert {"acme.v1.Signed", "acme.v1.Torn"} == set(registry.types) - set(OURS.types)
    assert set(OURS.types) < set(registry.types)
    kind = registry.find("acme.v1.Signed")
    assert ("contract", (StateRule("stage", constant="signed"), StateRule("number", "number"))) == (kind.entity, kind.state_rules)
    message = kind.from_json('{"number": "12", "pages": [{"title": "x"}], "line": {"sku": ""}}')
    assert message == kind.parse(message.SerializeToString())
    with pytest.raises(InvalidEvent, match=r"number breaks string\.min_len; line\.sku breaks string\.min_len"):
        kind.check(message)


def test_a_folder_is_compiled_once_while_its_content_stays(folder, monkeypatch):
    (folder / "acme" / "only_here.proto").write_text('syntax = "proto3"; package acme.v1; message OnlyHere {}')
    compiled = []
    real = registry_module.compile_folder
    monkeypatch.setattr(registry_module, "compile_folder", lambda path: compiled.append(path) or real(path))
    Registry.load(folder)
    Registry.load(folder)
    assert 1 == len(compiled)
    (folder / "acme" / "more.proto").write_text('syntax = "proto3"; package acme.v1; message Renewed { string number = 1; }')
    assert "acme.v1.Renewed" in Registry.load(folder).types
    assert 2 == len(compiled)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("x.proto", "nonsense", "x.proto"),
        ("spillway/v1/policy.proto", 'syntax = "proto3";', "hides a file of ours"),
        (
            "x.proto",
            'syntax = "proto3"; package spillway.v1; message StoredBatch {}\n import "spillway/v1/record.proto";',
            "StoredBatch",
        ),
        (
            "x.proto",
            'syntax = "proto3"; import "spillway/v1/policy.proto"; message X { string a = 1 [(spillway.v1.state) = "a"]; }',
            "no `entity`",
        ),
        (
            "x.proto",
            'syntax = "proto3"; import "spillway/v1/policy.proto"; message X { option (spillway.v1.entity) = {name: "x"};'
            ' repeated string a = 1 [(spillway.v1.state) = "a"]; }',
            "single values",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start_and_says_why(tmp_path, path, text, complaint):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    with pytest.raises(InvalidSchema, match=complaint):
        Registry.load(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSchema, match="proto_dir"):
        Registry.load(tmp_path / "nope")


@pytest.mark.parametrize("name", sorted(OURS.types))
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_parse_reads_what_was_written(name, data):
    kind = OURS.types[name]
    message = data.draw(messages(kind.message_class))
    data = message.SerializeToString(deterministic=True)
    assert data == kind.parse(data).SerializeToString(deterministic=True)


@given(st.binary(max_size=60), st.sampled_from(sorted(OURS.types)))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_message_or_a_refusal(data, name):
    try:
        OURS.types[name].parse(data)
    except InvalidEvent as refusal:
        assert refusal.reason in ("undecodable", "unknown_field")  # noqa: PT017


UNKNOWN = b"\x98\x06\x01"  # field 99, varint 1


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (acquisition_pb2.OrderPlaced(order_id="1").SerializeToString() + UNKNOWN, "field number 99"),
        (b"\x22\x03" + UNKNOWN, r"lines\[0\]: field number 99"),
        (b"\x32\x03" + UNKNOWN, "promised_for: field number 99"),
    ],
)
def test_a_field_of_a_newer_schema_is_refused_at_every_depth(message, path):
    """TRAPS 18: unknown fields are a decision, on record."""
    with pytest.raises(InvalidEvent, match=path) as refusal:
        OURS.find("spillway.events.v1.OrderPlaced").parse(message)
    assert "unknown_field" == refusal.value.reason


def test_an_unknown_field_within_a_maps_message_is_refused():
    kind = Registry.load(Path(__file__).parent / "protos").find("acme.kinds.Kinds")
    message = kind.message_class()
    message.leaf_by_name["ann@example.com"].MergeFromString(UNKNOWN)
    with pytest.raises(InvalidEvent, match=r"leaf_by_name\[\*\]: field number 99"):
        kind.parse(message.SerializeToString())
