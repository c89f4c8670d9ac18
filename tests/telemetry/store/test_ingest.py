"""What was answered is in the file, once, however it came; what is too old or too much goes, the oldest first."""

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetry.store.database import Database, FolderInUseError
from telemetry.store.ingest import RefusedError
from telemetry.store.query import FoundTrace, LinesAsked, Queries, Range
from telemetry.store.retention import Retention
from telemetry.store.rows import SEVERITIES, export_of
from telemetry.store.traceql import field_of, parse
from tests.telemetry.store.spans import AT_NS, SECOND_NS, line, lines, request, span, trace_id
from tests.telemetry.store.world import HOUR, WAIT_SECONDS_MAX, World, wait_until

RESOURCES = ({"service.name": "a"}, {"service.name": "b"})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def answers(world: World) -> dict[str, Any]:
    """What the store says of all that it has. Of equal times the order is nobody's."""
    found = sorted(world.search("{ }"), key=lambda trace: trace["traceID"])
    return {
        "traces": {trace["traceID"]: world.trace(bytes.fromhex(trace["traceID"])) for trace in found},
        "summaries": found,
        "names": world.queries.tag_names(Range()),
        "events": {id: sorted(world.queries.traces_of_event(id)) for id in ("e-0", "e-1", "e-2")},
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    # Trace, span, and which resource it has.
    st.dictionaries(st.tuples(st.integers(1, 3), st.integers(1, 6)), st.sampled_from((0, 1)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_however_the_same_spans_are_split_mixed_and_repeated_the_answers_are_the_same(
    made: dict[tuple[int, int], int], chance: Any
) -> None:
    spans = [
        (span(trace, id, start_ns=AT_NS + place * SECOND_NS, attributes={"cloudevents.event_id": f"e-{id % 3}"}), RESOURCES[of])
        for place, ((trace, id), of) in enumerate(made.items())
    ]
    with tempfile.TemporaryDirectory(prefix="store-split-") as folder:
        with World(Path(folder) / "one") as at_once:
            for resource in RESOURCES:
                at_once.take(request(*(one for one, of in spans if of == resource), resource=resource))
            expected = answers(at_once)
        with World(Path(folder) / "many") as in_pieces:
            pieces = spans * chance.choice((1, 2))
            chance.shuffle(pieces)
            for one, resource in pieces:
                in_pieces.take(request(one, resource=resource))
            assert expected == answers(in_pieces)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (0, 0, 1)])
def test_a_rebuilt_span_never_takes_the_place_of_one_that_was_not(world: World, order: tuple[int, ...]) -> None:
    both = (span(1, 1, name="itself"), span(1, 1, name="rebuilt", attributes={"spillway.rebuilt": True}))
    for place in order:
        world.take(request(both[place]))
    assert ["itself"] == world.names("{ }")


def test_a_rebuilt_span_stands_in_where_there_is_no_other(world: World) -> None:
    world.take(request(span(1, 1, name="rebuilt", attributes={"spillway.rebuilt": True})))
    assert ["rebuilt"] == world.names("{ }")


def test_a_span_comes_back_as_it_was_sent(world: World) -> None:
    sent = span(1, 1, error="boom", attributes={"text": "é", "list": ["a", 1], "none": None, "bytes": b"\x00", "share": 0.5})
    sent.links.add(trace_id=trace_id(2), span_id=b"\1" * 8)
    sent.events.add(name="retried", time_unix_nano=AT_NS)
    sent.trace_state = "a=b"
    world.take(request(sent, resource={"service.name": "shop"}, scope="cart"))
    found = world.queries.trace(trace_id(1))
    assert found is not None
    (of_resource,) = found[0].resource_spans
    (of_scope,) = of_resource.scope_spans
    assert (request(sent, resource={"service.name": "shop"}, scope="cart").resource_spans[0], True) == (of_resource, found[1])
    assert [sent] == list(of_scope.spans)


@pytest.mark.parametrize("broken", [Span(), Span(trace_id=b"\1" * 16), Span(trace_id=b"\1" * 15, span_id=b"\1" * 8)])
def test_what_is_not_valid_is_left_out_and_counted_and_the_others_are_kept(world: World, broken: Span) -> None:
    assert 1 == world.take(request(span(1, 1), broken, span(2, 2)))
    assert (2.0, 1.0) == (world.items("spans", "stored"), world.items("spans", "refused"))
    assert 2 == len(world.search("{ }"))


def test_times_that_no_clock_has_do_no_harm(world: World) -> None:
    end_first = Span(trace_id=trace_id(1), span_id=b"\1" * 8, name="end first", start_time_unix_nano=9, end_time_unix_nano=3)
    far = Span(trace_id=trace_id(2), span_id=b"\2" * 8, name="far", start_time_unix_nano=2**64 - 1, end_time_unix_nano=2**64 - 1)
    world.take(request(end_first, far))
    assert ["end first", "far"] == world.names("{ }")


def test_a_sender_that_goes_away_takes_nothing_back(world: World) -> None:
    """And does not end the thread that writes: it would answer nobody any more."""
    futures = [world.ingest.offer(export_of(request(span(1, number)), 0), 100) for number in range(1, 50)]
    assert not any(future.cancel() for future in futures)
    assert [0] * 49 == [future.result(WAIT_SECONDS_MAX) for future in futures]
    assert 0 == world.take(request(span(2, 1)))


def test_past_the_bound_senders_are_refused_and_then_taken_again(tmp_path: Path) -> None:
    """The disk hangs: somebody else holds the file's lock."""
    with World(tmp_path, waiting_bytes_max=1_000) as world:
        world.take(request(span(9, 9)))
        other = sqlite3.connect(world.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        taken = [world.ingest.offer(export_of(request(span(1, number)), 0), 300) for number in (1, 2, 3)]
        with pytest.raises(RefusedError, match="send more slowly") as refusal:
            world.ingest.offer(export_of(request(span(1, 4)), 0), 300)
        assert (True, 1.0) == (refusal.value.busy, world.items("spans", "refused"))
        other.execute("ROLLBACK")
        other.close()
        assert [0, 0, 0] == [future.result(WAIT_SECONDS_MAX) for future in taken]
        assert 0 == world.take(request(span(2, 1)))
        assert (5.0, 1.0) == (world.items("spans", "stored"), world.items("spans", "refused"))


def test_one_request_larger_than_the_bound_is_taken_when_nothing_else_waits(tmp_path: Path) -> None:
    with World(tmp_path, waiting_bytes_max=10) as world:
        assert 0 == world.take(request(span(1, 1)))


def test_closing_writes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    world = World(tmp_path)
    futures = [world.ingest.offer(export_of(request(span(1, number)), 0), 100) for number in range(1, 200)]
    world.close()
    assert [0] * 199 == [future.result(0) for future in futures]
    with pytest.raises(RefusedError, match="stopping"):
        world.ingest.offer(export_of(request(span(1, 1)), 0), 100)
    with World(tmp_path) as again:
        assert 199 == len(again.names("{ }"))


def test_many_senders_and_askers_at_once_see_whole_traces_only(world: World) -> None:
    """Each request is one trace of three spans; whoever asks meanwhile sees all of it or nothing."""
    stopping, torn = threading.Event(), []

    def ask() -> None:
        while not stopping.is_set():
            torn.extend(trace["traceID"] for trace in world.search("{ }", limit=50) if len(trace["spanSet"]["spans"]) != 3)

    def send(sender: int) -> None:
        for number in range(60):
            trace = 1 + sender * 1_000 + number
            world.take(request(*(span(trace, part, start_ns=AT_NS + trace) for part in (1, 2, 3))))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in askers + senders:
        thread.start()
    for thread in senders:
        thread.join()
    stopping.set()
    for thread in askers:
        thread.join()
    assert ([], 240) == (torn, len(world.search("{ }")))


# -- retention


def test_what_is_too_old_goes_and_is_counted(tmp_path: Path) -> None:
    with World(tmp_path, retention=Retention(HOUR, 1 << 30)) as world:
        world.take(request(span(1, 1), span(1, 2)))
        world.take(lines([line("old")]))
        world.clock.now += HOUR / 2
        world.take(request(span(2, 1), resource={"service.name": "young"}))
        world.clock.now += HOUR / 2 + 5
        wait_until(lambda: world.items("spans", "expired") and world.items("logs", "expired"), "the old ones are gone")
        assert [2] == [int(trace["traceID"], 16) for trace in world.search("{ }")]
        assert (2.0, 1.0, []) == (
            world.items("spans", "expired"),
            world.items("logs", "expired"),
            world.queries.lines(LinesAsked()),
        )
        # Those that stay know whose they are, and origins that nobody has any more are gone.
        assert "young" == world.search("{ }")[0]["rootServiceName"]
        assert [(1,)] == world.database.reader().execute("SELECT count(*) FROM origins").fetchall()
        world.take(request(span(3, 1)))
        assert "spillway" == world.search('{ trace:id = "3" }')[0]["rootServiceName"]


def test_when_all_spans_of_an_origin_are_gone_the_next_one_has_it_again(tmp_path: Path) -> None:
    with World(tmp_path, retention=Retention(10.0, 1 << 30)) as world:
        world.take(request(span(1, 1)))
        world.clock.now += 15
        wait_until(lambda: world.items("spans", "expired"), "it is gone")
        world.take(request(span(2, 2)))
        assert "spillway" == world.search("{ }")[0]["rootServiceName"]


def test_a_question_sees_one_state_of_the_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that expires between being found and being read."""
    world.take(request(span(1, 1)))
    summaries = Queries._summaries

    def expire_before(*arguments: Any) -> Iterator[FoundTrace]:
        with contextlib.closing(sqlite3.connect(world.database.path)) as other, other:
            other.execute("DELETE FROM spans")
        return summaries(*arguments)

    monkeypatch.setattr(Queries, "_summaries", expire_before)
    assert [1] == [len(trace["spanSet"]["spans"]) for trace in world.search("{ }")]
    assert [] == world.search("{ }")


def test_age_counts_from_arrival_since_a_senders_clock_may_lie(tmp_path: Path) -> None:
    with World(tmp_path, retention=Retention(HOUR, 1 << 30)) as world:
        world.take(request(span(1, 1, start_ns=1), span(2, 2, start_ns=2**63 - 1)))
        world.clock.now += HOUR - 5
        world.take(request(span(3, 3)))
        assert 3 == len(world.search("{ }"))
        world.clock.now += 10
        wait_until(lambda: world.items("spans", "expired"), "the old ones are gone")
        assert [3] == [int(trace["traceID"], 16) for trace in world.search("{ }")]


def test_past_its_size_the_oldest_go_and_the_disk_has_it_back(tmp_path: Path) -> None:
    limit = 8 << 20
    with World(tmp_path, retention=Retention(1e9, limit)) as world:
        for number in range(1, 41):
            blob = {"blob": os.urandom(1_000).hex()}
            world.take(request(*(span(number, id, start_ns=AT_NS + number, attributes=blob) for id in range(1, 251))))
        wait_until(lambda: world.database.disk_bytes() <= limit, "the file is within its limit")
        found = [int(trace["traceID"], 16) for trace in world.search("{ }")]
        assert list(range(40, 40 - len(found), -1)) == found
        assert 10_000 == world.items("spans", "expired") + sum(len(spans) for spans in _spans_by_trace(world))
        assert limit / 4 < world.database.disk_bytes(), "no more is thrown away than has to be"


def _spans_by_trace(world: World) -> list[list[Any]]:
    return [trace["spanSet"]["spans"] for trace in world.search("{ }")]


# -- damage


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(os.urandom(100_000))
    (tmp_path / "store.sqlite.aside-1").write_bytes(b"older")
    with World(tmp_path) as world:
        assert 0 == world.take(request(span(1, 1)))
        assert 1 == len(world.search("{ }"))
        (said,) = (line for line in world.log() if line["level"] == "error")
        assert [said["aside"]] == [path.name for path in tmp_path.glob("*aside*")]


def test_a_file_of_another_layout_is_set_aside(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as other:
        other.executescript("CREATE TABLE spans (id); PRAGMA user_version = 99")
    other.close()
    with World(tmp_path) as world:
        assert 0 == world.take(request(span(1, 1)))
        assert ["its layout is 99, not 2"] == [line["why"] for line in world.log() if line["level"] == "error"]


def test_damage_that_a_reader_meets_is_seen_to_and_the_store_goes_on(world: World) -> None:
    for number in range(1, 400):
        world.take(request(span(number, number, attributes={"blob": "x" * 2_000})))
    with contextlib.closing(sqlite3.connect(world.database.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with world.database.path.open("r+b") as file:  # the newer half, where the writer does not look
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        file.write(os.urandom(size - size // 2))

    def asked() -> bool:
        try:
            world.search("{ }")
        except sqlite3.DatabaseError:
            return False
        return bool(list(world.folder.glob("*aside*")))

    wait_until(asked, "it is set aside, and the new one is read")
    world.take(request(span(9_999, 1)))
    assert [9_999] == [int(trace["traceID"], 16) for trace in world.search("{ }")]


def test_a_reader_of_the_old_file_does_not_condemn_the_new(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(os.urandom(10_000))
    with World(tmp_path) as world:
        world.take(request(span(1, 1)))
        assert 1 == world.database.generation
        world.database.suspect(0)
        assert not world.database.suspected
        world.database.suspect(1)
        assert world.database.suspected


def test_a_transaction_that_fails_for_a_reason_nobody_thought_of_is_answered_and_the_next_succeeds(world: World) -> None:
    export = export_of(request(span(1, 1)), 0)
    broken = export_of(request(span(1, 2)), 0)
    broken.groups[0].rows.append(object())  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="can't write"):
        world.ingest.offer(broken, 10).result(WAIT_SECONDS_MAX)
    wait_until(lambda: _taken(world, export), "it is taken after a moment")


def _taken(world: World, export: Any) -> bool:
    try:
        return world.ingest.offer(export, 10).result(WAIT_SECONDS_MAX) == 0
    except RefusedError:
        return False


def test_one_store_a_folder(world: World) -> None:
    with pytest.raises(FolderInUseError, match="another --folder"):
        Database(world.folder, None)  # type: ignore[arg-type]


# -- lines


def test_lines_are_found_by_each_of_their_sides(world: World) -> None:
    world.take(
        lines(
            [
                line("started", at_ns=AT_NS),
                line(
                    "event rejected: Ö", at_ns=AT_NS + 1, level="WARNING", severity=13, trace=7, event_id="e-1", reason='a "b" Ä'
                ),
                line("boom", at_ns=AT_NS + 2, level="ERROR", severity=17, trace=7, share=float("nan")),
            ]
        )
    )
    world.take(lines([line("elsewhere", at_ns=AT_NS + 3)], {"service.name": "shop"}))

    def found(**asked: Any) -> list[str]:
        return [one["event"] for one in world.queries.lines(LinesAsked(**asked))]

    assert ["started", "event rejected: Ö", "boom", "elsewhere"] == found()
    assert ["event rejected: Ö", "boom"] == found(trace_id=trace_id(7))
    assert ["event rejected: Ö"] == found(event_id="e-1")
    assert ["boom"] == found(severity_min=SEVERITIES["error"])
    assert ["event rejected: Ö", "boom"] == found(severity_min=SEVERITIES["warn"])
    assert ["elsewhere"] == found(process="shop")
    assert ["started", "event rejected: Ö", "boom"] == found(process="redactor-1") == found(process="redactor")
    assert ["event rejected: Ö"] == found(text="REJECT") == found(text='A "b" Ä') == found(text="D: Ö")
    assert [] == found(text="%") == found(text="' OR 1=1 --")
    assert ["event rejected: Ö", "boom"] == found(range=Range(AT_NS + 1, AT_NS + 2))
    assert ["boom", "elsewhere"] == found(limit=2)


def test_a_line_says_all_it_said_and_what_is_no_number_in_json_is_a_word(world: World) -> None:
    world.take(lines([line("x", trace=7, share=float("inf"), parts=["a", float("nan")], count=3)]))
    assert [
        {
            "time_unix_nano": AT_NS,
            "level": "info",
            "event": "x",
            "trace_id": trace_id(7).hex(),
            "fields": {"share": "Infinity", "parts": ["a", "NaN"], "count": 3},
            "part": "redactor",
            "worker": "redactor-1",
        }
    ] == world.queries.lines(LinesAsked())


# -- tags


def test_tags_are_those_of_the_newest_spans_each_with_its_values(world: World) -> None:
    world.take(request(span(1, 1, name="a", attributes={"tenant": "x", "count": 2, "ok": True, "list": ["p", "q"]})))
    world.take(request(span(2, 2, name="b", error="no", attributes={"tenant": "y"}), resource={"service.name": "shop"}))
    names = world.queries.tag_names(Range())
    assert {
        "resource": ["service.instance.id", "service.name", "spillway.part"],
        "span": ["count", "list", "ok", "tenant"],
    } == names

    def values(written: str, query: str = "{ }") -> list[Any]:
        return world.queries.tag_values(field_of(written), Range(), parse(query))

    assert ["x", "y"] == values("span.tenant") == values(".tenant")
    assert ["y"] == values("span.tenant", "{ status = error }")
    assert [2] == values("span.count")
    assert [True] == values("span.ok")
    assert ["p", "q"] == values("span.list")
    assert ["shop", "spillway"] == values("resource.service.name")
    assert ["a", "b"] == values("name")
    assert ["error", "ok", "unset"] == values("status")
    assert [] == values("duration") == values("span.none")
