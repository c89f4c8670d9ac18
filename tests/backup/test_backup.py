"""The backup: read whole, read damaged, searched, played again."""

import gzip as stdlib_gzip
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frame
from pipeline.backup.gzip import plain
from pipeline.backup.objects import MemoryObjects
from pipeline.backup.reader import Backup, Damaged, EventPlace, Found, Place, Range
from pipeline.backup.replay import replay
from pipeline.errors import Unavailable
from pipeline.event import event_key, explicit_hash_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.streams.sink import MemorySink, NotWritten

KEY = "backup/events/2026/11/23/05/events-1"


def batch(number: int, slice: int = 3) -> StoredBatch:
    event = CloudEvent(id=f"e{number}", source="/s", type="t", binary_data=b"%d" % number)
    return StoredBatch(events=[event], tenant="acme", accepted_at_unix_micros=number, door="grpc", slice=slice, slices=16)


def joined(*numbers: int) -> bytes:
    return frame.join(batch(number).SerializeToString() for number in numbers)


def backup_of(body: bytes, key: str = KEY) -> Backup:
    return Backup(MemoryObjects({key: body}))


def ids(parts: object) -> list[str]:
    return [part.batch.events[0].id for part in parts if isinstance(part, Found)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pack", [bytes, stdlib_gzip.compress], ids=["plain", "gzip"])
def test_an_object_gives_every_batch_and_where_it_lies(pack: object) -> None:
    """TRAPS 10."""
    parts = list(backup_of(pack(joined(0, 1, 2))).read(KEY))  # type: ignore[operator]
    assert ["e0", "e1", "e2"] == ids(parts)
    assert Place(KEY, len(joined(0))) == parts[1].place  # type: ignore[union-attr]


def test_members_that_were_joined_are_read_on() -> None:
    body = stdlib_gzip.compress(joined(0)) + stdlib_gzip.compress(joined(1, 2))
    assert ["e0", "e1", "e2"] == ids(backup_of(body).read(KEY))


def test_a_damaged_frame_is_located_and_costs_one_frame() -> None:
    """TRAPS 10."""
    body = bytearray(joined(0, 1, 2))
    first, second = len(joined(0)), len(joined(0, 1))
    body[first + 20] ^= 1
    parts = list(backup_of(stdlib_gzip.compress(bytes(body))).read(KEY))
    assert ["e0", "e2"] == ids(parts)
    assert [Damaged(KEY, first, second, "payload check failed")] == [part for part in parts if isinstance(part, Damaged)]


def test_a_frame_that_holds_no_batch_is_damage() -> None:
    body = joined(0) + frame.encode(b"\xff\xff") + joined(1)
    parts = list(backup_of(body).read(KEY))
    assert ["e0", "e1"] == ids(parts)
    (damage,) = [part for part in parts if isinstance(part, Damaged)]
    assert (len(joined(0)), len(body) - len(joined(1))) == (damage.start, damage.end)


def test_a_truncated_object_gives_what_came_before_the_cut() -> None:
    """TRAPS 10."""
    whole = stdlib_gzip.compress(joined(*range(500)))
    parts = list(backup_of(whole[: len(whole) * 2 // 3]).read(KEY))
    found, damage = ids(parts), [part for part in parts if isinstance(part, Damaged)]
    assert [f"e{number}" for number in range(len(found))] == found
    assert 250 < len(found) < 500
    assert damage[-1].compressed
    assert (len(whole) * 2 // 3, "truncated") == (damage[-1].end, damage[-1].reason)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_flipped_bit_goes_unnoticed_and_what_is_given_out_is_what_was_written(data: st.DataObject) -> None:
    """TRAPS 10: whatever bit, whatever place; at worst a part is missing, and said to be."""
    written = [batch(number).SerializeToString() for number in range(20)]
    body = bytearray(stdlib_gzip.compress(frame.join(written), mtime=0) + stdlib_gzip.compress(frame.join(written), mtime=0))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= 1 << data.draw(st.integers(0, 7))
    parts = list(backup_of(bytes(body)).read(KEY))
    found = [part.payload for part in parts if isinstance(part, Found)]
    assert set(found) <= set(written)
    assert len(found) == 40 or [part for part in parts if isinstance(part, Damaged)]
    # The other member is not touched by the damage.
    assert len(found) >= 20 or not bytes(body).startswith(b"\x1f\x8b\x08")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 5000))
def test_what_is_read_before_a_cut_is_a_beginning_of_what_was_written(content: bytes, kept: int) -> None:
    whole = stdlib_gzip.compress(content)
    read = plain(whole[:kept])
    if kept >= len(whole):
        assert (content, ()) == (read.data, read.damage)
    elif kept >= 3:
        assert content.startswith(read.data)
        assert "truncated" == read.damage[-1].reason


def test_objects_are_listed_by_the_hour_of_their_oldest_record() -> None:
    hours = ["2026/11/21/05", "2026/11/22/23", "2026/11/23/04", "2026/11/23/05", "2026/11/23/06"]
    backup = Backup(
        MemoryObjects({f"backup/events/{hour}/o": b"" for hour in hours} | {"backup/web-events/2026/11/23/05/o": b""})
    )
    within = Range(datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC))
    # A Firehose that catches up joins records of up to a day.
    expected = [f"backup/events/{hour}/o" for hour in hours[1:4]]
    assert expected == [stored.key for stored in backup.objects("events", within)]
    assert [f"backup/events/{hour}/o" for hour in hours] == [stored.key for stored in backup.objects("events")]


def test_every_copy_of_an_event_is_found() -> None:
    """TRAPS 27: Firehose repeats."""
    backup = Backup(MemoryObjects({KEY: stdlib_gzip.compress(joined(0, 1)), KEY + "again": joined(1)}))
    expected = [EventPlace(Place(KEY, len(joined(0))), 0), EventPlace(Place(KEY + "again", 0), 0)]
    assert expected == list(backup.find(event_key("acme", "/s", "e1"), ["web-events", "events"]))
    assert [] == list(backup.find(event_key("other", "/s", "e1"), ["events"]))


async def test_a_replay_writes_the_same_bytes_under_the_hash_key_of_their_slice() -> None:
    """TRAPS 25: same ids, tenants and accept times, so the exits know them."""
    sink = MemorySink()
    done = await replay(backup_of(stdlib_gzip.compress(joined(*range(1200)))).batches("events"), sink)
    assert (1200, 1200, []) == (done.records, done.events, done.damaged)
    assert [batch(number).SerializeToString() for number in range(1200)] == [frame.decode(record.data) for record in sink.records]
    assert {explicit_hash_key(3, 16)} == {record.explicit_hash_key for record in sink.records}


async def test_a_replay_says_what_it_could_not_read() -> None:
    done = await replay(backup_of(joined(0) + b"garbage" + joined(1)).batches("events"), MemorySink())
    assert (2, 1) == (done.records, len(done.damaged))


async def test_a_replay_that_is_not_confirmed_ends_with_an_error() -> None:
    """TRAPS 1."""
    with pytest.raises(Unavailable):
        await replay(backup_of(joined(0)).batches("events"), MemorySink(refuse={"acme/3": NotWritten("throttled")}))
