"""Lanes: what goes into which record, and that every event gets exactly one outcome."""

from collections import defaultdict
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frame
from pipeline.event import explicit_hash_key, stored_batch
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.streams.batching import GIVEN_UP, Batch, Bounds, Lanes, Origin, Request
from pipeline.streams.retry import Backoff, RetryBudget
from pipeline.streams.sink import NotWritten, Outcome, Written

from .simulated import Time

ACME = Origin("acme", "grpc")
FAILED = NotWritten("InternalFailure")


def event(name: str, size: int = 0) -> bytes:
    return CloudEvent(id=name, source="/s", binary_data=bytes(size)).SerializeToString()


def lanes(time: Time, *, slices: int = 4, bounds: Bounds | None = None, tokens: float = 1e9) -> Lanes:
    budget = RetryBudget(time, tokens_max=tokens, tokens_per_second=0, tokens_per_success=0)
    return Lanes(
        slices=slices, worker="w", budget=budget, random=Random(3), bounds=bounds or Bounds(), backoff=Backoff(cap_seconds=1)
    )


def ask(queue: Lanes, origin: Origin, placed: list[tuple[int, bytes]], deadline: float = 1e9) -> tuple[Request, list[Request]]:
    """A request in the lanes, and where it appears once it is settled."""
    settled: list[Request] = []
    request = Request(origin, len(placed), deadline, settled.append)
    queue.put(request, [slice for slice, _ in placed], [encoded for _, encoded in placed])
    return request, settled


def batch_of(batch: Batch) -> StoredBatch:
    return StoredBatch.FromString(frame.decode(batch.record.data))


def ids(batch: Batch) -> list[str]:
    return [one.id for one in batch_of(batch).events]


def test_a_record_is_the_frame_of_one_tenant_and_one_slice() -> None:
    queue = lanes(Time())
    ask(queue, ACME, [(2, event("a")), (1, event("b")), (2, event("c", 200))])
    records = {batch.record.explicit_hash_key: batch for batch in queue.take(0, 77)}
    two = records[explicit_hash_key(2, 4)]
    expected = stored_batch(
        [CloudEvent.FromString(event("a")), CloudEvent.FromString(event("c", 200))],
        tenant="acme",
        accepted_at_unix_micros=77,
        door="grpc",
        worker="w",
        slice=2,
        slices=4,
    )
    assert expected == batch_of(two)
    assert 2 == two.record.events
    assert {explicit_hash_key(1, 4), explicit_hash_key(2, 4)} == set(records)


def test_events_of_different_origin_never_share_a_record() -> None:
    queue = lanes(Time(), slices=1)
    behalf = Origin("acme", "http", 5)
    ask(queue, ACME, [(0, event("a"))])
    ask(queue, behalf, [(0, event("b"))])
    ask(queue, Origin("other", "grpc"), [(0, event("c"))])
    first = queue.take(0, 9)
    assert [["a"], ["c"]] == [ids(batch) for batch in first]
    queue.settle(first[0], Written("s", "1"), 0)
    [second] = queue.take(0, 9)
    assert ("http", 5, ["b"]) == (batch_of(second).door, batch_of(second).accepted_at_unix_micros, ids(second))


def test_one_record_of_a_lane_is_in_flight_so_order_within_a_subject_is_kept() -> None:
    """TRAPS 2."""
    queue = lanes(Time(), slices=1)
    ask(queue, ACME, [(0, event("a"))])
    [first] = queue.take(0, 0)
    ask(queue, ACME, [(0, event("b"))])
    assert [] == queue.take(0, 0)
    queue.settle(first, FAILED, 0)
    [again] = queue.take(10, 0)
    assert first.record == again.record
    queue.settle(again, Written("s", "1"), 10)
    assert [["b"]] == [ids(batch) for batch in queue.take(10, 0)]


def test_a_throttled_slice_rests_while_the_others_go_on() -> None:
    """TRAPS 4: throttling is per shard."""
    queue = lanes(Time(), slices=2)
    ask(queue, ACME, [(0, event("hot")), (1, event("cold"))])
    hot, cold = queue.take(0, 0)
    queue.settle(hot, NotWritten("ProvisionedThroughputExceededException", throttled=True), 0)
    queue.settle(cold, Written("s", "1"), 0)
    ask(queue, ACME, [(0, event("hot 2")), (1, event("cold 2"))])
    assert [["cold 2"]] == [ids(batch) for batch in queue.take(0, 0)]
    wake_at = queue.wake_at()
    assert wake_at is not None
    assert wake_at > 0
    assert [["hot"]] == [ids(batch) for batch in queue.take(wake_at, 0)]


def test_a_failed_record_is_written_whole_at_the_next_try() -> None:
    """TRAPS 6: nothing was moved out."""
    queue = lanes(Time(), slices=1)
    _, settled = ask(queue, ACME, [(0, event("a")), (0, event("b"))])
    for now in range(0, 50, 10):
        [batch] = queue.take(now, 0)
        assert ["a", "b"] == ids(batch)
        queue.settle(batch, FAILED, now)
    [batch] = queue.take(60, 0)
    queue.settle(batch, Written("s", "1"), 60)
    assert [[Written("s", "1")] * 2] == [request.outcomes for request in settled]
    assert queue.empty


def test_a_retry_is_the_same_record_with_the_same_accept_time() -> None:
    """TRAPS 3: the first attempt may be stored after all."""
    queue = lanes(Time(), slices=1)
    ask(queue, ACME, [(0, event("a"))])
    [first] = queue.take(0, 111)
    queue.settle(first, NotWritten("deadline"), 3)
    [second] = queue.take(10, 10_000_111)
    assert first.record == second.record
    assert 111 == batch_of(second).accepted_at_unix_micros


def test_past_its_deadline_an_event_is_answered_with_the_last_reason() -> None:
    queue = lanes(Time(), slices=1)
    _, settled = ask(queue, ACME, [(0, event("a"))], deadline=5)
    [batch] = queue.take(0, 0)
    queue.settle(batch, FAILED, 1)
    assert [] == queue.take(6, 0)
    assert [[FAILED]] == [request.outcomes for request in settled]
    assert queue.empty


def test_without_budget_the_failure_is_the_answer() -> None:
    """TRAPS 4."""
    queue = lanes(Time(), slices=1, tokens=0)
    _, settled = ask(queue, ACME, [(0, event("a"))])
    [batch] = queue.take(0, 0)
    queue.settle(batch, FAILED, 0)
    assert [[FAILED]] == [request.outcomes for request in settled]


def test_what_is_given_up_is_answered_as_not_stored() -> None:
    queue = lanes(Time(), slices=1)
    _, settled = ask(queue, ACME, [(0, event("a"))])
    assert 1 == queue.give_up()
    assert [[GIVEN_UP]] == [request.outcomes for request in settled]


def test_a_large_event_has_a_record_of_its_own_and_its_neighbours_go_on() -> None:
    """TRAPS 9."""
    queue = lanes(Time(), slices=1, bounds=Bounds(record_payload_bytes=1000))
    ask(queue, ACME, [(0, event("a")), (0, event("large", 2000)), (0, event("b"))])
    seen = []
    for now in range(3):
        [batch] = queue.take(now, 0)
        seen.append(ids(batch))
        queue.settle(batch, Written("s", "1"), now)
    assert [["a"], ["large"], ["b"]] == seen


requests = st.lists(
    st.tuples(
        st.sampled_from([ACME, Origin("acme", "http", 5), Origin("other", "grpc")]),
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), min_size=1, max_size=12),
        st.floats(0, 40),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(requests, st.randoms(use_true_random=False), st.integers(1, 5), st.integers(0, 30))
def test_every_event_gets_one_outcome_and_written_is_what_was_confirmed(
    wanted: list[tuple[Origin, list[tuple[int, int]], float]], chance: Random, call_records: int, tokens: int
) -> None:
    """Law: accepted = settled; Written only for events of a confirmed record; records keep to their bounds and order."""
    time = Time(now=0)
    bounds = Bounds(record_payload_bytes=600, call_records=call_records, call_bytes=3000)
    queue = lanes(time, bounds=bounds, tokens=tokens)
    settlements: dict[int, int] = defaultdict(int)
    confirmed: set[str] = set()
    accounts: list[tuple[Request, list[str]]] = []
    order: dict[tuple[str, int], list[str]] = defaultdict(list)
    out: list[Batch] = []
    pending = list(enumerate(wanted))
    while pending or not queue.empty:
        if pending and chance.random() < 0.5:
            number, (origin, placed, lasts) = pending.pop(0)
            names = [f"{number}.{index}" for index in range(len(placed))]

            def on_settled(_: Request, number: int = number) -> None:
                settlements[number] += 1

            request = Request(origin, len(placed), time.now + lasts, on_settled)
            accounts.append((request, names))
            queue.put(request, [slice for slice, _ in placed], [event(n, s) for n, (_, s) in zip(names, placed, strict=True)])
        taken = queue.take(time.now, 0)
        assert len(taken) <= call_records
        out += taken
        for batch in taken:
            assert len(batch.entries) == 1 or len(batch.record.data) <= 600 + frame.OVERHEAD_BYTES
            assert batch.record.events == len(ids(batch))
        chance.shuffle(out)
        while out and chance.random() < 0.7:
            batch = out.pop()
            fate: Outcome = Written("s", "1") if chance.random() < 0.6 else FAILED
            if isinstance(fate, Written):
                confirmed.update(ids(batch))
                order[batch_of(batch).tenant, batch_of(batch).slice] += ids(batch)
            queue.settle(batch, fate, time.now)
        time.now += chance.random()
    assert {number: 1 for number, _ in enumerate(wanted)} == dict(settlements)
    for request, names in accounts:
        written = {name for name, outcome in zip(names, request.outcomes, strict=True) if isinstance(outcome, Written)}
        assert written <= confirmed
        # Only an event past its deadline may be in the stream without its sender knowing.
        assert written == confirmed & set(names) or request.deadline <= time.now
    for line in order.values():
        assert sorted(line, key=lambda name: tuple(map(int, name.split(".")))) == line
        assert len(set(line)) == len(line)
