"""The auditor: every object is read once, early or late; damage is named; what is away is waited for."""

import gzip
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline import frame
from pipeline.backup.auditor import LOOK_SECONDS_MAX, OBJECTS_MAX, Auditor, AuditorSettings, Source
from pipeline.backup.cursor import UPLOAD_MAX, Cursor
from pipeline.backup.objects import MemoryObjects, Stored
from pipeline.errors import Corrupt, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from telemetry import metrics as m
from telemetry.log import configure
from telemetry.metrics import Metrics
from telemetry.tracing import Tracer, trace_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SOURCES = (Source("web-events", "backup/web-events", "http-door"), Source("events", "backup", "grpc-door"))


class World:
    """A bucket and an auditor under a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON
        self.objects = MemoryObjects(now=lambda: self.now)
        self.read: list[str] = []
        self.listed: list[str] = []
        self.breaking: set[str] = set()
        self.log = io.StringIO()
        self._watch()
        self.start()

    def _watch(self) -> None:
        get, listing = self.objects.get, self.objects.list

        def watched_get(key: str) -> bytes:
            if key.startswith("backup/"):
                self.read.append(key.rpartition("/")[2])
            if key in self.breaking:
                raise ZeroDivisionError
            return get(key)

        def watched_list(prefix: str, after: str = "") -> object:
            self.listed.append(after)
            return listing(prefix, after)

        self.objects.get = watched_get  # type: ignore[method-assign]
        self.objects.list = watched_list  # type: ignore[assignment,method-assign]

    def start(self) -> None:
        """A process of its own: only what is in the bucket goes on."""
        self.metrics, self.spans = Metrics(), []  # type: ignore[var-annotated]
        self.auditor = Auditor(
            self.objects, SOURCES, self.metrics, configure("auditor", stream=self.log), Tracer("auditor", "a", self.spans.append),
            bucket="spillway", settings=AuditorSettings(save_seconds=0.0), now_seconds=lambda: self.now.timestamp(),
        )  # fmt: skip

    def put(self, *ids: str, hour: datetime | None = None, stream: str = "events", body: bytes | None = None) -> str:
        """An object with a batch for each id, accepted five seconds ago; under `hour`, else now's."""
        at = hour or self.now
        number = len(self.objects.bodies)
        unique = f"{number:08d}-0000-4000-8000-000000000000"
        key = f"backup/{stream}/{at:%Y/%m/%d/%H}/{stream}-backup-1-{at:%Y-%m-%d-%H-%M-%S}-{unique}.gz"
        self.objects.put(key, body if body is not None else gzip.compress(self.joined(*ids)), {})
        return key

    def joined(self, *ids: str) -> bytes:
        return frame.join(self.batch(id).SerializeToString() for id in ids)

    def batch(self, id: str) -> StoredBatch:
        event = CloudEvent(id=id, source="/s", type="t", spec_version="1.0", binary_data=b"x")
        if id.startswith("canary"):
            event.attributes["canary"].ce_boolean = True
        accepted_at = int((self.now - timedelta(seconds=5)).timestamp() * 1e6)
        return StoredBatch(events=[event], tenant="acme", accepted_at_unix_micros=accepted_at, door="grpc", slice=1, slices=16)

    def round(self, seconds: float = 2.0) -> list[str]:
        """Let time pass, look once, and say what was read."""
        self.now += timedelta(seconds=seconds)
        before = len(self.read)
        self.auditor.round()
        return self.read[before:]

    def count(self, metric: m.Metric, stream: str = "events") -> float:
        return self.metrics.value(metric, **({"stream": stream} if metric.labels else {}))

    def lines(self, event: str) -> list[dict[str, object]]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["event"] == event]


@pytest.fixture
def world() -> World:
    return World()


def name(key: str) -> str:
    return key.rpartition("/")[2]


def test_each_object_is_read_once_and_counted(world: World) -> None:
    keys = [world.put("a", "b"), world.put("c")]
    assert [name(key) for key in keys] == world.round()
    assert [] == world.round()
    later = world.put("d")
    assert [name(later)] == world.round()
    assert (3, 4, 0) == tuple(world.count(each) for each in (m.BACKUP_OBJECTS, m.BACKUP_EVENTS, m.BACKUP_DAMAGE))
    assert (0, 0) == (world.count(m.BACKUP_BEHIND_SECONDS), world.count(m.BACKUP_AUDIT_FAILURES))


def test_an_idle_auditor_shows_zeros_for_both_streams(world: World) -> None:
    shown = world.metrics.exposition().decode()
    for stream in ("web-events", "events"):
        for metric in (m.BACKUP_OBJECTS, m.BACKUP_EVENTS, m.BACKUP_DAMAGE, m.BACKUP_BEHIND_SECONDS):
            assert f'{metric.name}{{stream="{stream}"}} 0.0' in shown
        assert f'{m.BACKUP_FRESHNESS_SECONDS.name}_count{{stream="{stream}"}} 0.0' in shown
    assert f"{m.BACKUP_AUDIT_FAILURES.name} 0.0" in shown


def test_the_newest_object_is_known_and_none_is_as_old_as_the_auditor(world: World) -> None:
    began = NOON.timestamp()
    story = [world.count(m.BACKUP_NEWEST)]
    world.now += timedelta(seconds=8)
    world.put("a")
    for _ in range(2):
        world.round(seconds=60.0)
        story.append(world.count(m.BACKUP_NEWEST))
    assert [began, began + 8, began + 8] == story
    assert began == world.count(m.BACKUP_NEWEST, "web-events")


def test_freshness_is_from_the_accept_time_to_the_object(world: World) -> None:
    world.put("a", "b")
    world.round(seconds=60.0)
    value = world.metrics.registry.get_sample_value
    assert 10.0 == value(f"{m.BACKUP_FRESHNESS_SECONDS.name}_sum", {"stream": "events"})
    assert 2.0 == value(f"{m.BACKUP_FRESHNESS_SECONDS.name}_count", {"stream": "events"})


@pytest.mark.parametrize(("hours", "within_seconds"), [(1, 32.0), (20, 602.0)])
def test_an_object_that_comes_late_into_an_older_hour_is_found(world: World, hours: int, within_seconds: float) -> None:
    """TRAPS 27: after an outage Firehose names an object by its oldest record."""
    world.put("a")
    world.round()
    late = world.put("late", hour=world.now - timedelta(hours=hours))
    assert [] == world.round()
    assert [name(late)] == world.round(within_seconds)
    assert [] == world.round(within_seconds)


def test_most_rounds_list_the_last_minutes_only(world: World) -> None:
    for minutes in range(0, 600, 10):
        world.put("a", hour=NOON - timedelta(minutes=minutes))
    world.round()
    world.listed.clear()
    world.round()
    assert "backup/events/2026/11/25/11/events-backup-1-2026-11-25-11-57-00" == world.listed[1]


def test_a_damaged_object_is_named_with_its_place_and_the_rest_of_it_is_read(world: World) -> None:
    """TRAPS 10."""
    body = bytearray(world.joined("a", "b", "c"))
    first, second = len(world.joined("a")), len(world.joined("a", "b"))
    body[first + 20] ^= 1
    key = world.put(body=gzip.compress(bytes(body)))
    world.round()
    (line,) = world.lines("backup damaged")
    assert (key, first, second, "error") == (line["key"], line["offset"], line["end"], line["level"])
    assert (0, 2, 1) == tuple(world.count(each) for each in (m.BACKUP_OBJECTS, m.BACKUP_EVENTS, m.BACKUP_DAMAGE))
    assert ["damaged"] == [span.attributes["error.type"] for span in world.spans]
    assert [] == world.round()


def test_a_restart_goes_on_where_it_was(world: World) -> None:
    world.put("a")
    world.round()
    world.start()
    missed = world.put("b")
    assert [name(missed)] == world.round(3600.0 * 50)
    assert [] == world.round()


def test_what_came_late_while_it_was_down_is_found(world: World) -> None:
    world.put("a")
    world.round()
    world.now += timedelta(hours=30)
    late = world.put("late", hour=world.now - timedelta(hours=23))
    world.start()
    assert [name(late)] == world.round()


def test_a_crash_before_the_place_was_written_down_reads_again(world: World) -> None:
    key = world.put("a")
    world.round()
    world.objects.delete("ledger/auditor/events.json")
    world.start()
    assert [name(key)] == world.round()


def test_a_place_that_cannot_be_read_is_begun_anew(world: World) -> None:
    key = world.put("a")
    world.objects.put("ledger/auditor/events.json", b'{"seen": 7}', {})
    assert [name(key)] == world.round()
    assert 1 == len(world.lines("the auditor begins anew"))


def test_the_first_time_it_does_not_read_years(world: World) -> None:
    world.put("old")
    world.now += timedelta(days=400)
    world.start()
    young = world.put("young")
    assert [name(young)] == world.round()


def test_a_bucket_that_is_away_is_failure_and_lag_until_it_is_back(world: World) -> None:
    """TRAPS 12: also at the start."""
    world.objects.failure = Unavailable("away")
    assert [] == world.round()
    assert [] == world.round(LOOK_SECONDS_MAX)
    assert 4 == world.count(m.BACKUP_AUDIT_FAILURES)
    assert LOOK_SECONDS_MAX + 2 == world.count(m.BACKUP_BEHIND_SECONDS)
    world.objects.failure = None
    key = world.put("a")
    assert [name(key)] == world.round()
    assert 0 == world.count(m.BACKUP_BEHIND_SECONDS)


def test_an_object_that_breaks_the_reader_stays_unread_and_hides_no_other(world: World) -> None:
    broken, sound = world.put("a"), world.put("b")
    world.breaking.add(broken)
    world.round()
    assert 1 == world.count(m.BACKUP_OBJECTS)
    # However much is read after it, and over a restart.
    world.now += UPLOAD_MAX * 2
    world.put("c")
    world.round()
    assert 1200 + 4 == world.count(m.BACKUP_BEHIND_SECONDS)
    world.start()
    world.breaking.clear()
    assert [name(broken)] == [read for read in world.round() if read in (name(broken), name(sound))]
    assert 0 == world.count(m.BACKUP_BEHIND_SECONDS)


def test_an_object_that_went_before_it_was_read_is_counted_and_left(world: World) -> None:
    key = world.put("a")
    listing = world.objects.list

    def gone(prefix: str, after: str = "") -> object:
        found = list(listing(prefix, after))
        if prefix == "backup/events/":
            world.objects.bodies.pop(key, None)
        return iter(found)

    world.objects.list = gone  # type: ignore[assignment,method-assign]
    world.round()
    assert (1, 0) == (world.count(m.BACKUP_AUDIT_FAILURES), world.count(m.BACKUP_BEHIND_SECONDS))


def test_a_backlog_is_read_in_bounded_rounds_oldest_first(world: World) -> None:
    keys = []
    for _ in range(OBJECTS_MAX + 5):
        world.now += timedelta(seconds=1)
        keys.append(name(world.put("a")))
    assert keys[:OBJECTS_MAX] == world.round()
    assert 2 + 4 == world.count(m.BACKUP_BEHIND_SECONDS)
    assert keys[OBJECTS_MAX:] == world.round()


def test_a_traced_event_has_its_span_in_the_backup_and_the_others_have_none(world: World) -> None:
    key = world.put("plain", "canary-1")
    world.put("canary-1", stream="web-events")
    world.round()
    events = {span.attributes["spillway.hop"]: span for span in world.spans if "cloudevents.event_id" in span.attributes}
    trace = trace_of("/s", "canary-1")
    assert {"backup", "backup/web-events"} == set(events)
    span = events["backup"]
    assert (trace.trace_id, trace.span_id("backup"), trace.span_id("grpc-door")) == (
        span.context.trace_id, span.context.span_id, span.parent.span_id,
    )  # fmt: skip
    assert trace.span_id("http-door") == events["backup/web-events"].parent.span_id
    said = {"aws.s3.bucket": "spillway", "aws.s3.key": key, "spillway.backup.offset": len(world.joined("plain"))}
    assert said == {name: span.attributes[name] for name in said}
    assert 5_000_000_000 == span.end_time - span.start_time
    batches = [span for span in world.spans if "spillway.batch.traced_events" in span.attributes]
    assert [batches[1].context.span_id] == [link.context.span_id for link in span.links]


def test_a_batch_without_a_traced_event_has_no_span(world: World) -> None:
    world.put("plain")
    world.round()
    assert [] == world.spans


def test_to_stop_ends_the_round_after_the_object_in_hand(world: World) -> None:
    for _ in range(5):
        world.put("a")
    world.auditor.round(stop=lambda: len(world.read) >= 2)
    assert 2 == len(world.read)
    world.auditor.save()
    world.start()
    assert 3 == len(world.round())


def test_a_place_is_the_same_after_it_was_written_down() -> None:
    cursor = Cursor("backup/events/", NOON)
    cursor.read(Stored("backup/events/k", 1, NOON + timedelta(minutes=1)))
    cursor.advance([])
    assert cursor == Cursor.from_json("backup/events/", cursor.to_json())
    for body in (b"", b"[]", b"{}", b'{"read_until": 1, "newest_key": "", "seen": {}}'):
        with pytest.raises(Corrupt):
            Cursor.from_json("backup/events/", body)


def test_what_is_remembered_is_bounded_by_time() -> None:
    cursor = Cursor("backup/events/", NOON)
    for minute in range(100):
        cursor.read(Stored(f"backup/events/{minute:03}", 1, NOON + timedelta(minutes=minute)))
        cursor.advance([])
    assert 10 == len(cursor.seen)
