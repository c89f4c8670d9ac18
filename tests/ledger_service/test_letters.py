"""Dead letters by stage and window: each read once, found whatever its reason, and no more one when it is gone."""

from datetime import UTC, datetime

import pytest

from canary.ledger import letters as module
from canary.ledger.letters import LETTER_STAGES, LetterSource
from pipeline.dead_letters.letters import Letter, encode, event_letter, key_of
from pipeline.errors import Unavailable
from pipeline.event import StoredRecord
from pipeline.frame import encode as framed
from tests.ledger_service.world import NOON, World, elements


class Bucket:
    def __init__(self) -> None:
        self.world = World()
        self.objects = self.world.objects
        self.window = self.world.window()
        self.source = LetterSource(self.objects)
        self.gets: list[str] = []
        get = self.objects.get
        self.objects.get = lambda key: (self.gets.append(key), get(key))[1]  # type: ignore[method-assign]

    def letter(self, id: str, stage: str, reason: str = "poison", arrived_at: float = NOON) -> str:
        batch = self.world.batch([id], self.window)
        record = StoredRecord(
            "events", "shard-0", f"{len(self.objects.bodies)}", framed(batch.SerializeToString()), int(arrived_at * 1e6)
        )
        letter = event_letter(stage, reason, "why", record, batch, 0)
        self.objects.put(key_of(letter), encode(letter, 1), {})
        return key_of(letter)

    def look(self) -> None:
        self.source.look(NOON - 3600, NOON + 60)

    def dead(self, stage: str) -> list[int]:
        return sorted(self.source.of(self.window)[stage].elements.keys.tolist())


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def keys(*ids: str) -> list[int]:
    return sorted(elements(*ids).keys.tolist())


def test_letters_of_all_reasons_are_found_by_stage_and_read_once(bucket: Bucket) -> None:
    bucket.letter("a", "redactor", "corrupt")
    bucket.letter("b", "redactor", "poison")
    bucket.letter("c", "redactor", "unknown_type")
    bucket.letter("d", "etl-rds", "unstorable")
    bucket.look()
    assert (keys("a", "b", "c"), keys("d"), []) == (bucket.dead("redactor"), bucket.dead("etl-rds"), bucket.dead("transcoder"))
    assert set(LETTER_STAGES) == set(bucket.source.of(bucket.window))
    bucket.look()
    assert 4 == len(bucket.gets)


def test_letters_of_days_before_the_horizon_are_not_read(bucket: Bucket) -> None:
    bucket.letter("old", "redactor", arrived_at=NOON - 3 * 86_400)
    bucket.letter("new", "redactor")
    bucket.look()
    assert (keys("new"), 1) == (bucket.dead("redactor"), len(bucket.gets))


def test_a_redriven_letter_is_none_any_more(bucket: Bucket) -> None:
    key = bucket.letter("a", "redactor")
    bucket.look()
    bucket.objects.delete(key)
    bucket.look()
    assert [] == bucket.dead("redactor")


def test_a_record_that_was_buried_whole_holds_all_its_events(bucket: Bucket) -> None:
    batch = bucket.world.batch(["a", "b"], bucket.window)
    record = StoredRecord("events", "shard-0", "1", framed(batch.SerializeToString()), int(NOON * 1e6))
    letter = Letter("redactor", "poison", "why", record)
    bucket.objects.put(key_of(letter), encode(letter, 1), {})
    bucket.look()
    assert keys("a", "b") == bucket.dead("redactor")


def test_a_letter_that_cannot_be_read_is_counted_and_clears_nobody(bucket: Bucket) -> None:
    letter = Letter("redactor", "corrupt", "why", StoredRecord("events", "shard-0", "1", b"garbage", int(NOON * 1e6)))
    bucket.objects.put(key_of(letter), encode(letter, 1), {})
    bucket.objects.put(bucket.letter("a", "etl-lake"), b"garbage", {})
    bucket.look()
    assert (2, [], []) == (bucket.source.unreadable, bucket.dead("redactor"), bucket.dead("etl-lake"))


def test_a_backlog_is_not_known_until_all_of_it_is_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_MAX", 2)
    for id in ("a", "b", "c"):
        bucket.letter(id, "redactor")
    with pytest.raises(Unavailable, match="1 dead letters are still to be read"):
        bucket.look()
    bucket.look()
    assert keys("a", "b", "c") == bucket.dead("redactor")


def test_days_are_those_of_utc() -> None:
    midnight = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    assert ["2026/11/25", "2026/11/26"] == list(module._days(midnight - 1, midnight + 1))
