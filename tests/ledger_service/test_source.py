"""Segments in the bucket: each read once, from whoever writes, wherever its hour lies."""

from datetime import UTC, datetime

import pytest

from canary.ledger.books import Window
from canary.ledger.collect import SILENT_SECONDS, Collected
from canary.ledger.source import FULL_LOOK_SECONDS, SegmentSource
from pipeline.backup.objects import MemoryObjects
from pipeline.errors import Unavailable
from pipeline.ledger import tiers
from pipeline.ledger.segment import Segment, encode
from pipeline.ledger.tally import Digest, Slot
from tests.ledger_service.world import NOON, elements

HORIZON = 3600.0


class Bucket:
    def __init__(self) -> None:
        self.now = float(NOON)
        self.objects = MemoryObjects(now=lambda: datetime.fromtimestamp(self.now, UTC))
        self.gets: list[str] = []
        self.lists: list[str] = []
        get, listing = self.objects.get, self.objects.list
        self.objects.get = lambda key: (self.gets.append(key), get(key))[1]  # type: ignore[method-assign]
        self.objects.list = lambda prefix, after="": (self.lists.append(prefix), listing(prefix, after))[1]  # type: ignore[method-assign]
        self.begin()

    def begin(self) -> None:
        self.collected = Collected(100.0)
        self.source = SegmentSource(self.objects, self.collected, HORIZON, now=lambda: self.now)

    def write(
        self, number: int, worker: str = "grpc-1", at: float | None = None, boot: str = "b", body: bytes | None = None
    ) -> str:
        slot = Slot(tiers.GRPC_ACKNOWLEDGED, "acme", "grpc", NOON)
        digest = Digest()
        digest.add(elements(f"{worker}-{boot}-{number}"))
        segment = Segment("grpc", worker, boot, number, NOON - 7200, self.now if at is None else at, digests={slot: digest})
        self.objects.put(segment.key, encode(segment) if body is None else body, {})
        return segment.key

    def look(self, seconds: float = 5.0) -> int:
        self.now += seconds
        return self.source.look()

    @property
    def events(self) -> int:
        return self.collected.events(Window("acme", "grpc", NOON)).get(tiers.GRPC_ACKNOWLEDGED, 0)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def test_each_segment_is_read_once(bucket: Bucket) -> None:
    bucket.write(0)
    assert (1, 1) == (bucket.look(), bucket.events)
    bucket.write(1)
    assert (1, 0, 2) == (bucket.look(), bucket.look(), bucket.events)
    assert 2 == len(bucket.gets)


def test_a_new_worker_and_a_new_boot_are_found(bucket: Bucket) -> None:
    bucket.write(0)
    bucket.look()
    bucket.write(0, boot="c")
    assert 1 == bucket.look()
    bucket.write(0, worker="grpc-2")
    assert 1 == sum(bucket.look() for _ in range(int(FULL_LOOK_SECONDS // 5)))


def test_one_that_comes_late_under_a_key_that_was_passed_is_found(bucket: Bucket) -> None:
    bucket.write(1)
    bucket.look()
    bucket.write(0, at=NOON)
    assert 1 == sum(bucket.look() for _ in range(int(FULL_LOOK_SECONDS // 5)))


def test_the_turn_of_an_hour_hides_nothing(bucket: Bucket) -> None:
    bucket.now = NOON + 3590.0
    found = []
    for number in range(20):
        bucket.write(number)
        found.append(bucket.look(2.0))
    assert ([1] * 20, 20) == (found, bucket.events)


def test_most_looks_ask_for_what_is_new_only(bucket: Bucket) -> None:
    bucket.write(0)
    bucket.look()
    bucket.lists.clear()
    bucket.look()
    assert ["ledger/digests/2026/11/25/12/grpc-1/"] == [prefix for prefix in bucket.lists if "/12/" in prefix]
    assert all(prefix.endswith("grpc-1/") for prefix in bucket.lists)


def test_the_horizon_is_read_at_the_start_and_what_is_older_is_not(bucket: Bucket) -> None:
    bucket.write(0, at=NOON - 3000)
    bucket.write(1, at=NOON - 3 * 3600)
    assert 1 == bucket.look()
    bucket.begin()
    assert (1, 1) == (bucket.look(), bucket.events)


def test_a_damaged_segment_is_not_added_and_not_read_again(bucket: Bucket) -> None:
    key = bucket.write(0)
    bucket.write(1, body=b"garbage")
    bucket.look()
    assert ({0: float(NOON), 1: None}, 1) == (dict(bucket.collected.instances[0].reached), bucket.events)
    assert (0, 2) == (bucket.look(), len(bucket.gets))
    assert key in bucket.gets


def test_a_bucket_that_is_away_is_read_when_it_is_back_and_nothing_twice(bucket: Bucket) -> None:
    bucket.write(0)
    bucket.look()
    bucket.write(1)
    bucket.objects.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        bucket.look()
    bucket.objects.failure = None
    assert (1, 2) == (bucket.look(), bucket.events)


def test_who_could_not_look_calls_nobody_silent(bucket: Bucket) -> None:
    bucket.write(0)
    bucket.look()
    bucket.objects.failure = Unavailable("away")
    for _ in range(20):
        with pytest.raises(Unavailable):
            bucket.look()
    bucket.objects.failure = None
    # The process comes with its next segment a moment later.
    bucket.look()
    assert [tiers.GRPC_ACKNOWLEDGED, tiers.GRPC_UNCERTAIN] == list(bucket.collected.lagging(NOON))
    bucket.look(SILENT_SECONDS)
    assert {} == bucket.collected.lagging(NOON)


def test_a_look_that_breaks_off_adds_nothing_twice(bucket: Bucket) -> None:
    for number in range(4):
        bucket.write(number)
    get, left = bucket.objects.get, [2]

    def breaks(key: str) -> bytes:
        left[0] -= 1
        if left[0] < 0:
            raise Unavailable("away")
        return get(key)

    bucket.objects.get = breaks  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        bucket.look()
    left[0] = 100
    bucket.look()
    assert 4 == bucket.events
