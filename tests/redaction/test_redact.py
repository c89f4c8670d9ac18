"""The redactor's core: nothing personal passes, and every hole stops it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidEvent, InvalidSchema, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1 import acquisition_pb2 as acquisition
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.redaction.actions import generalised, masked, pseudonym
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.policy import rules, verify
from pipeline.redaction.redact import Redactor, check_identity
from pipeline.schema.registry import Registry
from telemetry.personal_data import find

REGISTRY = Registry.load()
REDACTOR = Redactor(REGISTRY, MemoryKeys())


def event(message, **envelope):
    envelope = {"id": "1", "source": "/shop", "spec_version": "1.0", "type": message.DESCRIPTOR.full_name} | envelope
    return CloudEvent(binary_data=message.SerializeToString(), **envelope)


def redacted(*events, tenant="acme", redactor=REDACTOR):
    return redactor.redact(
        StoredBatch(events=events, tenant=tenant, accepted_at_unix_micros=7, door="grpc", worker="w", slice=3, slices=16)
    )


def message_of(result, index=0):
    one = result.clean.events[index]
    return REGISTRY.find(one.type).parse(one.binary_data)


LEAD = acquisition.LeadSubmitted(
    channel=acquisition.LEAD_CHANNEL_FORM,
    full_name="Ann Bee",
    email="Ann@Example.com",
    phone="+1 (514) 555-1234",
    message="Call me at +1 514 555 1234 or write to ann%40example.com",
    campaign="spring",
    interests=["shoes", "ann@example.com"],
)


def test_each_field_is_treated_by_its_policy():
    result = redacted(event(LEAD))
    key = MemoryKeys().key("acme")
    expected = acquisition.LeadSubmitted(
        channel=acquisition.LEAD_CHANNEL_FORM,
        email=pseudonym(key, 1, "ann@example.com"),
        phone=pseudonym(key, 2, "15145551234"),
        message="Call me at [phone] or write to [email]",
        campaign="spring",
        interests=["shoes", "[email]"],
    )
    assert expected == message_of(result)
    assert {"drop": 1, "pseudonymise": 2, "scan": 2} == dict(result.changed)


def test_masks_and_generalisations():
    call = acquisition.CallFinished(caller_number="+1 514 555 1234", notes="card 4111 1111 1111 1111")
    page = acquisition.PageViewed(page_url="/?u=ann%40example.com", ip_address="203.0.113.9")
    profile = acquisition.ProfileChanged(
        birth_date="1985-02-03", street_address="1 road", preferences={"ann@example.com": "203.0.113.9"}
    )
    result = redacted(event(call), event(page), event(profile))
    assert acquisition.CallFinished(caller_number="***-1234", notes="card [card]") == message_of(result, 0)
    assert acquisition.PageViewed(page_url="/?u=[email]", ip_address="203.0.113.0/24") == message_of(result, 1)
    clean = message_of(result, 2)
    assert ("1985", "") == (clean.birth_date, clean.street_address)
    ((key, value),) = clean.preferences.items()
    assert key.startswith("entry_")
    assert "[ip]" == value


def test_what_the_batch_says_of_itself_is_kept():
    clean = redacted(event(LEAD)).clean
    assert ("acme", 7, "grpc", "w", 3, 16) == (
        clean.tenant, clean.accepted_at_unix_micros, clean.door, clean.worker, clean.slice, clean.slices,
    )  # fmt: skip


def test_equal_values_stay_equal_within_a_tenant_and_only_there():
    here, again, there = redacted(event(LEAD)), redacted(event(LEAD)), redacted(event(LEAD), tenant="other")
    assert here.clean == again.clean
    assert message_of(here).email != message_of(there).email


def test_a_personal_subject_becomes_the_pseudonym_of_the_field_that_holds_the_same():
    one = event(LEAD)
    one.attributes["subject"].ce_string = "ann@example.com"
    one.attributes["partitionkey"].ce_string = "customer ann@example.com"
    one.attributes["comment"].ce_string = "from 203.0.113.9"
    one.attributes["time"].ce_timestamp.seconds = 5
    one.attributes["traceparent"].ce_string = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    one.attributes["dataschema"].ce_uri = "https://x.com/s"
    one.attributes["count"].ce_integer = 5
    result = redacted(one)
    attributes = result.clean.events[0].attributes
    assert message_of(result).email == attributes["subject"].ce_string
    assert attributes["partitionkey"].ce_string.startswith("subject_")
    assert "from [ip]" == attributes["comment"].ce_string
    for same in ("time", "traceparent", "dataschema", "count"):
        assert one.attributes[same] == attributes[same]
    assert 3 == result.changed["attribute"]


UNKNOWN = b"\x98\x06\x01"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (event(LEAD, id="ann@example.com"), "personal_data_in_identity"),
        (event(LEAD, source="https://203.0.113.9.example/8.8.8.8"), "personal_data_in_identity"),
        (event(LEAD, type="acme.Nope"), "unknown_type"),
        (CloudEvent(id="1", source="/s", type=LEAD.DESCRIPTOR.full_name, binary_data=b"\xff"), "undecodable"),
        (CloudEvent(id="1", source="/s", type=LEAD.DESCRIPTOR.full_name, text_data="{}"), "undecodable"),
        (CloudEvent(id="1", source="/s", type=LEAD.DESCRIPTOR.full_name, binary_data=UNKNOWN), "unknown_field"),
        (CloudEvent.FromString(event(LEAD).SerializeToString() + UNKNOWN), "unknown_field"),
    ],
)
def test_what_cannot_be_judged_is_refused_alone(bad, reason):
    """TRAPS 9: one bad event is never its batch's fate."""
    result = redacted(event(LEAD, id="0"), bad, event(LEAD, id="2"))
    assert ["0", "2"] == [one.id for one in result.clean.events]
    assert [(1, reason)] == [(index, why.reason) for index, why in result.refused]
    assert "ann" not in str(result.refused[0][1])


def test_counters_uuids_and_private_hosts_are_good_identities():
    for id, source in [
        ("4155552671", "/x"),
        ("550e8400-e29b-41d4-a716-446655440000", "https://10.0.0.5/app"),
        ("1385167512123456", "x"),
    ]:
        check_identity(CloudEvent(id=id, source=source))


def test_without_a_key_nothing_passes():
    redactor = Redactor(REGISTRY, MemoryKeys(failure=Unavailable("KMS is away")))
    with pytest.raises(Unavailable):
        redacted(event(acquisition.PageViewed(page_url="/")), redactor=redactor)


BROKEN = [
    ("string a = 1 [(spillway.v1.personal_data).kind = PERSONAL_DATA_KIND_EMAIL];", "names no action"),
    ("string a = 1 [(spillway.v1.personal_data) = {}];", "names no action"),
    (
        "string a = 1 [(spillway.v1.personal_data) = {kind: PERSONAL_DATA_KIND_EMAIL action: REDACTION_ACTION_GENERALISE}];",
        "generalised",
    ),
    ("bytes a = 1;", "bytes can't be judged"),
    ("map<string, bytes> a = 1;", "bytes can't be judged"),
    ("google.protobuf.Any a = 1;", "Any can't be judged"),
    ("repeated google.protobuf.Any a = 1;", "Any can't be judged"),
    ("int64 phone = 1;", "sounds personal"),
    ("google.protobuf.Timestamp birth_date = 1;", "sounds personal"),
    ("int64 a = 1 [(spillway.v1.personal_data).action = REDACTION_ACTION_MASK];", "mask is for text"),
    ("Part a = 1 [(spillway.v1.personal_data).action = REDACTION_ACTION_MASK];", "inherits mask"),
    ("Deep a = 1;", "bytes can't be judged"),
]
HEAD = """syntax = "proto3"; package acme;
import "spillway/v1/policy.proto"; import "google/protobuf/any.proto"; import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto"; import "google/protobuf/struct.proto";
message Part { string text = 1; int32 number = 2; }
message Deep { repeated Deeper below = 1; }
message Deeper { bytes raw = 1; Deep above = 2; }
"""


@pytest.mark.parametrize(("field", "complaint"), BROKEN)
def test_a_policy_with_a_hole_stops_the_redactor_before_it_starts(tmp_path, field, complaint):
    (tmp_path / "x.proto").write_text(HEAD + "message Event { option (spillway.v1.entity) = {name: 'x'}; " + field + " }")
    with pytest.raises(InvalidSchema, match=complaint):
        Redactor(Registry.load(tmp_path), MemoryKeys())


def test_options_reach_into_messages_lists_maps_and_oneofs(tmp_path):
    (tmp_path / "x.proto").write_text(
        HEAD
        + """message Person {
          string name = 1;
          string note = 2 [(spillway.v1.personal_data).action = REDACTION_ACTION_SCAN];
          Person boss = 3;
        }
        message Event { option (spillway.v1.entity) = {name: "x"};
          Person masked = 1 [(spillway.v1.personal_data).action = REDACTION_ACTION_MASK];
          repeated Person people = 2;
          map<string, Person> by_name = 3;
          oneof who { string text = 4; Person person = 5; }
          repeated Person dropped = 6 [(spillway.v1.personal_data).action = REDACTION_ACTION_DROP];
          google.protobuf.StringValue wrapped = 7;
          google.protobuf.Struct anything = 8;
          Part kept = 9 [(spillway.v1.personal_data).action = REDACTION_ACTION_KEEP];
          int64 phone = 10 [(spillway.v1.personal_data).action = REDACTION_ACTION_DROP];
        }"""
    )
    registry = Registry.load(tmp_path)
    kind = registry.find("acme.Event")
    mail = "ann@example.com"
    person = {"name": mail, "note": f"x {mail}", "boss": {"name": mail}}
    message = kind.message_class(
        masked=person,
        people=[person],
        by_name={mail: person},
        person=person,
        dropped=[person],
        wrapped={"value": mail},
        kept={"text": mail},
        phone=5,
    )
    message.anything.update({"a": [mail, {mail: 1}]})
    result = Redactor(registry, MemoryKeys()).redact(StoredBatch(events=[event(message)], tenant="acme"))
    clean = kind.parse(result.clean.events[0].binary_data)
    scanned = {"name": "[email]", "note": "x [email]", "boss": {"name": "[email]"}}
    ((name, _),) = clean.by_name.items()
    assert [] == find(name)
    expected = kind.message_class(
        masked={"name": "***", "note": "x [email]", "boss": {"name": "***"}},
        people=[scanned],
        by_name={name: scanned},
        person=scanned,
        wrapped={"value": "[email]"},
        kept={"text": mail},
        anything=clean.anything,
    )
    assert expected == clean
    assert [] == find(str(clean.anything))


PERSONAL = ["ann.b@example.com", "+1 514 555 1234", "4111 1111 1111 1111", "203.0.113.9"]


@pytest.mark.parametrize("name", sorted(REGISTRY.types))
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_seeded_personal_data_is_found_in_no_clean_event(name, data):
    """Every text of every type is seeded, but for those that a person looked at and keeps."""
    kind = REGISTRY.types[name]
    message = kind.message_class()
    seeded(message, lambda: data.draw(st.text(max_size=5)) + " " + data.draw(st.sampled_from(PERSONAL)) + " ")
    one = event(message)
    for attribute in ("subject", "partitionkey", "other"):
        one.attributes[attribute].ce_string = data.draw(st.sampled_from(PERSONAL))
    clean = redacted(one).clean.SerializeToString().decode("latin-1")
    assert [seed for seed in PERSONAL if seed in clean] == []


def seeded(message, text):
    for field in message.DESCRIPTOR.fields:
        if "REDACTION_ACTION_KEEP" in str(field.GetOptions()) or field.message_type is not None:
            continue
        if field.type == field.TYPE_STRING and field.is_repeated:
            getattr(message, field.name).extend([text(), text()])
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, text())


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (1, "ann@mail.example.com", "a***@***.com"),
        (1, "x", "***"),
        (6, "4111 1111 1111 1111", "***-1111"),
        (2, "555", "***"),
        (3, "Ann", "***"),
    ],
)
def test_a_mask_keeps_a_shape_only(kind, value, expected):
    assert expected == masked(kind, value)
    assert [] == find(expected)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (5, "203.0.113.9", "203.0.113.0/24"),
        (5, "2001:db8:1:2::9", "2001:db8:1::/48"),
        (5, "::ffff:203.0.113.9", "203.0.113.0/24"),
        (5, "fe80::1%eth0", "fe80::/48"),
        (5, "unknown", ""),
        (7, "1985-02-03", "1985"),
        (7, "3 Feb 1985", "1985"),
        (7, "soon", ""),
    ],
)
def test_a_generalised_value_is_coarse_or_gone(kind, value, expected):
    assert expected == generalised(kind, value)
    assert [] == find(expected)


@given(st.text(min_size=1), st.integers(0, 8))
def test_a_pseudonym_is_never_taken_for_personal_data_again(value, kind):
    assert [] == find(pseudonym(b"k" * 32, kind, value))


def test_every_type_of_ours_has_a_complete_policy():
    assert set(REGISTRY.types) == set(verify(REGISTRY))


def test_a_refusal_is_an_event_and_a_bug_is_not_swallowed(monkeypatch):
    monkeypatch.setattr(REDACTOR, "_plans", {})
    with pytest.raises(KeyError):
        redacted(event(LEAD))
    assert issubclass(InvalidEvent, Exception)


def test_a_rule_that_is_gone_is_one_rule_less(tmp_path):
    """Of every message that a type can hold, each counted once, also of one that holds itself."""
    mask = "[(spillway.v1.personal_data) = {kind: PERSONAL_DATA_KIND_EMAIL action: REDACTION_ACTION_MASK}]"
    ours, found = rules(REGISTRY), []
    for number, rule in enumerate((mask, "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "x.proto").write_text(
            HEAD
            + """message Person {
              string phone = 1 [(spillway.v1.personal_data).action = REDACTION_ACTION_DROP];
              Person boss = 2;
            }
            message Event { option (spillway.v1.entity) = {name: "x"};
              string mail = 1 RULE;
              Person one = 2;
              repeated Person all = 3;
              string note = 4;
            }""".replace("RULE", rule)
        )
        found.append({word: count - ours[word] for word, count in rules(Registry.load(folder)).items() if count != ours[word]})
    assert [{"drop": 1, "mask": 1}, {"drop": 1}] == found
