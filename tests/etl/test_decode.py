"""From records to events: nothing that is in a record is lost, whatever is in it."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline import frame
from pipeline.dead_letters.letters import decode as open_letter
from pipeline.etl.decode import Dead, decode
from pipeline.etl.letters import write_letters
from pipeline.event import event_key, payload_digest
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from tests.etl.events import REGISTRY, arrived, cloud_event, decoded, raw_record, record


class Letters(dict[str, bytes]):
    def put(self, key: str, body: bytes) -> None:
        self[key] = body


def test_events_come_out_in_order_with_their_envelope():
    out = decoded(arrived("a", at=1.5), arrived("b", plane="N2"))
    assert [("a", "N1", 1_500_000), ("b", "N2", 1_356_998_400_000_000)] == [(e.id, e.subject, e.time_micros) for e in out.events]
    assert {"acme"} == {e.tenant for e in out.events}


def test_a_repeat_is_a_duplicate():
    out = decoded(arrived("a"), arrived("b"), arrived("a"))
    assert (["a", "b"], 1, []) == ([e.id for e in out.events], out.duplicates, out.buried())


def test_same_id_other_payload_is_a_conflict_and_the_first_stays():
    """TRAPS 22."""
    out = decoded(arrived("a", to="ORD"), arrived("a", to="LAX"))
    assert ["ORD"] == [e.message.destination for e in out.events]
    assert ["LAX"] == [e.message.destination for e in out.conflicts]
    assert [("conflict", 1)] == [(dead.reason, dead.index) for dead in out.buried()]


def test_one_bad_event_leaves_its_neighbours_alone():
    bad = cloud_event("x", "spillway.events.v1.FlightArrived", b"\xff\xff", at=1)
    unknown = cloud_event("y", "no.such.Type", b"", at=1)
    timeless = arrived("z")
    del timeless.attributes["time"]
    out = decoded(arrived("a"), bad, unknown, timeless, arrived("b"))
    assert ["a", "b"] == [e.id for e in out.events]
    assert [("undecodable", 1), ("unknown_type", 2), ("bad_time", 3)] == [(dead.reason, dead.index) for dead in out.dead]


def test_a_damaged_record_is_one_dead_letter_with_all_its_bytes():
    data = bytearray(record(arrived("a")).data)
    data[-3] ^= 0x40
    records = [raw_record(bytes(data), number=1), record(arrived("b"), number=2)]
    out = decode(records, REGISTRY.find)
    assert (["b"], [("corrupt", None)]) == ([e.id for e in out.events], [(dead.reason, dead.index) for dead in out.dead])
    letters = Letters()
    write_letters("etl-lake", records, out.dead, letters)
    assert [bytes(data)] == [open_letter(body).record for body in letters.values()]


def test_a_letter_holds_the_whole_event_with_tenant_and_accept_time_and_is_the_same_when_written_again():
    records = [record(arrived("a"), arrived("b"), tenant="globex")]
    letters = Letters()
    for _ in range(2):
        write_letters("etl-rds", records, [Dead("conflict", "why", 0, 1)], letters)
    assert ["dead-letters/etl-rds/conflict/2013/01/01/events-clean-shardId-000000000000-1-1"] == list(letters)
    kept = open_letter(next(iter(letters.values()))).event
    expected = StoredBatch.FromString(frame.decode(records[0].data))
    del expected.events[0]
    assert expected == kept


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ORD", "LAX"])), max_size=12), st.integers(1, 4))
def test_in_is_out(kinds: list[tuple[str, str]], per_record: int) -> None:
    """Events in = events + duplicates + conflicts + dead, however they are cut into records."""
    events = [arrived(id, to=to) for id, to in kinds]
    records = [record(*events[at : at + per_record], number=at) for at in range(0, len(events), per_record)]
    out = decode(records, REGISTRY.find)
    assert len(events) == len(out.events) + out.duplicates + len(out.buried())
    assert len({id for id, _ in kinds}) == len(out.events)


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.floats(-60_000_000_000, 250_000_000_000))
def test_identity_and_digest_are_those_of_every_other_part(id: str, source: str, plane: str, at: float) -> None:
    event = arrived(id, source=source, plane=plane, at=at)
    (read,) = decoded(event, tenant="t\u00e9").events
    assert (event_key("t\u00e9", source, id), payload_digest(event)) == (read.key, read.digest)
