"""What both doors share: accounts, bounds, semantics."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.doors.accept import Decision
from pipeline.doors.collect import Answer, NotTaken
from pipeline.doors.reasons import Reason, Status
from pipeline.event import slice_of
from pipeline.streams.sink import MemorySink, NotWritten
from telemetry.metrics import DOOR_EVENTS, DOOR_LOST_EVENTS, DOOR_REJECTIONS

from .world import NOW_MICROS, SLICES, GatedSink, World, event, stored, stored_ids, world

THROTTLED = NotWritten("ProvisionedThroughputExceededException", throttled=True)


def decisions(there: World, *events: bytes) -> list[Decision]:
    return [there.collector.acceptance.decide(encoded, NOW_MICROS) for encoded in events]


async def publish(there: World, *events: bytes, wait_seconds: float | None = None, **metadata: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in metadata.items()}
    caller = there.collector.identify({**there.bearer, **headers})
    hold = there.collector.admit(caller, sum(map(len, events)))
    return await there.collector.publish(caller, decisions(there, *events), hold, wait_seconds)


def good(id: str, subject: str = "") -> bytes:
    return event(id, subject=subject).SerializeToString()


def where(subject: str) -> str:
    return f"acme/{slice_of(subject, SLICES)}"


async def test_accepted_means_written_and_nothing_else_is_accepted(tmp_path: Path) -> None:
    """TRAPS 5, 9."""
    sink = MemorySink()
    there = world(tmp_path, sink)
    answer = await publish(there, good("a"), b"\xff", good("b"))
    assert [Status.ACCEPTED, Status.REJECTED, Status.ACCEPTED] == list(answer.statuses)
    assert [(1, Reason.UNDECODABLE)] == [(problem.index, problem.reason) for problem in answer.problems]
    assert ["a", "b"] == stored_ids(sink.records)
    assert 2 == there.metrics.value(DOOR_EVENTS, door="grpc", status="accepted")
    assert 1 == there.metrics.value(DOOR_REJECTIONS, door="grpc", reason="undecodable")
    assert 0 == there.in_flight.bytes


async def test_a_slice_that_is_not_written_is_retry_and_its_neighbours_are_accepted(tmp_path: Path) -> None:
    """TRAPS 1, 4, 9."""
    sink = MemorySink(refuse={where("hot"): THROTTLED})
    there = world(tmp_path, sink, write_seconds=0.1)
    answer = await publish(there, good("a", "hot"), good("b", "cold"))
    assert [Status.RETRY, Status.ACCEPTED] == list(answer.statuses)
    assert [(0, Reason.THROTTLED, 1.0)] == [(one.index, one.reason, one.retry_after_seconds) for one in answer.problems]
    assert ["b"] == stored_ids(sink.records)


async def test_who_stops_waiting_is_told_retry_and_the_write_goes_on(tmp_path: Path) -> None:
    """TRAPS 8: bytes in flight stay taken until the write is settled, whoever waits."""
    sink = GatedSink()
    there = world(tmp_path, sink)
    answer = await publish(there, good("a"), wait_seconds=0.01)
    assert [(Status.RETRY, Reason.DEADLINE)] == [(one.status, one.reason) for one in answer.problems]
    leaver = asyncio.create_task(publish(there, good("b")))
    await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert there.in_flight.bytes > 0
    sink.gate.set()
    assert 0 == await there.commit.drain(5)
    assert ["a", "b"] == stored_ids(sink.records)
    assert 0 == there.in_flight.bytes


async def test_past_the_bytes_in_flight_the_answer_is_later_with_a_hint(tmp_path: Path) -> None:
    sink = GatedSink()
    there = world(tmp_path, sink, in_flight_bytes=200)
    first = asyncio.create_task(publish(there, good("a")))
    await asyncio.sleep(0)
    with pytest.raises(NotTaken) as raised:
        await publish(there, good("b"))
    assert (Reason.OVERLOADED, 1.0) == (raised.value.reason, raised.value.retry_after_seconds)
    sink.gate.set()
    await first
    assert [Status.ACCEPTED] == list((await publish(there, good("b"))).statuses)


async def test_fire_and_forget_is_answered_once_queued_and_its_loss_is_counted(tmp_path: Path) -> None:
    sink = GatedSink(refuse={where("hot"): THROTTLED})
    there = world(tmp_path, sink, write_seconds=0.05)
    answer = await publish(there, good("a", "hot"), good("b", "cold"), b"", spillway_delivery="fire-and-forget")
    assert [Status.QUEUED, Status.QUEUED, Status.REJECTED] == list(answer.statuses)
    assert [] == sink.records
    assert there.in_flight.bytes > 0
    sink.gate.set()
    await there.commit.drain(1)
    assert ["b"] == stored_ids(sink.records)
    assert 1 == there.metrics.value(DOOR_LOST_EVENTS, door="grpc")
    assert 0 == there.in_flight.bytes


async def test_a_service_acts_for_a_tenant_and_keeps_the_accept_time(tmp_path: Path) -> None:
    sink = MemorySink()
    there = world(tmp_path, sink)
    caller = there.collector.identify(
        {
            "authorization": f"Bearer {there.service_key}",
            "spillway-tenant": "acme",
            "spillway-accepted-at-micros": "1234567",
            "spillway-door": "http",
        }
    )
    await there.collector.publish(caller, decisions(there, good("a")), there.collector.admit(caller, 10), None)
    [batch] = stored(sink.records)
    assert ("acme", 1234567, "http") == (batch.tenant, batch.accepted_at_unix_micros, batch.door)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"spillway-tenant": "other"}, Reason.FORBIDDEN),
        ({"spillway-tenant": "acme"}, Reason.FORBIDDEN),
        ({"spillway-accepted-at-micros": "1"}, Reason.FORBIDDEN),
        ({"spillway-delivery": "maybe"}, Reason.BAD_METADATA),
        ({"authorization": "Bearer spw_x_y"}, Reason.UNAUTHENTICATED),
        ({"authorization": ""}, Reason.UNAUTHENTICATED),
    ],
)
async def test_a_producer_speaks_for_its_own_tenant_only(tmp_path: Path, metadata: dict[str, str], expected: Reason) -> None:
    there = world(tmp_path, MemorySink())
    with pytest.raises(NotTaken) as raised:
        there.collector.identify({**there.bearer, **metadata})
    assert expected == raised.value.reason


@pytest.mark.parametrize(
    "metadata",
    [
        {"spillway-tenant": "Not A Tenant"},
        {"spillway-tenant": "acme", "spillway-door": "window"},
        {"spillway-tenant": "acme", "spillway-accepted-at-micros": "soon"},
        {"spillway-tenant": "acme", "spillway-accepted-at-micros": "-5"},
        {"spillway-tenant": "acme", "spillway-accepted-at-micros": str(NOW_MICROS * 2)},
        {"spillway-tenant": "acme", "spillway-accepted-at-micros": "٣"},
    ],
)
async def test_a_service_that_says_nonsense_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    there = world(tmp_path, MemorySink())
    with pytest.raises(NotTaken) as raised:
        there.collector.identify({"authorization": f"Bearer {there.service_key}", **metadata})
    assert Reason.BAD_METADATA == raised.value.reason


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["hot", "cold", "warm"]), st.booleans()), min_size=1, max_size=20))
async def test_the_accepted_set_is_the_written_set(tmp_path: Path, wanted: list[tuple[str, bool]]) -> None:
    """Law: each event gets exactly one status, and ACCEPTED are exactly those in the stream."""
    sink = MemorySink(refuse={where("hot"): THROTTLED})
    there = world(tmp_path, sink, write_seconds=0.02)
    names = [str(index) for index in range(len(wanted))]
    events = [good(name, subject) if fine else b"\xff" for name, (subject, fine) in zip(names, wanted, strict=True)]
    answer = await publish(there, *events)
    assert len(wanted) == len(answer.statuses)
    assert stored_ids(sink.records) == sorted(
        name for name, status in zip(names, answer.statuses, strict=True) if status == Status.ACCEPTED
    )
    assert {index for index, status in enumerate(answer.statuses) if status != Status.ACCEPTED} == {
        problem.index for problem in answer.problems
    }
