"""What a client counts: every fate, every wait, and what it holds while it waits."""

import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import SpillwayError, Unavailable
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import EventStatus, PublishResponse
from pipeline.sdk.answers import Accepted
from pipeline.sdk.client import Client, ClientOptions, SdkTelemetry
from pipeline.sdk.fates import Counts, Fate
from pipeline.sdk.figures import figures_of
from pipeline.sdk.publisher import Publisher
from pipeline.sdk.report import Report
from pipeline.sdk.segment import Entry
from pipeline.sdk.transport import MemoryTransport, accept_all
from telemetry.hops import BY_NAME
from telemetry.metrics import (
    SDK_BUFFER_BYTES,
    SDK_BUFFER_LIMIT_BYTES,
    SDK_EVENTS,
    SDK_PENDING_EVENTS,
    SDK_SEND_SECONDS,
    Metric,
    Metrics,
)
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings
from telemetry.tracing import trace_of
from tests.sdk.watched import Watched

PAGE = PageViewed(page_url="https://example.com/")
ACCEPTED, REJECTED = EventStatus.EVENT_STATUS_ACCEPTED, EventStatus.EVENT_STATUS_REJECTED
SDK_METRICS = (SDK_EVENTS, SDK_SEND_SECONDS, SDK_PENDING_EVENTS, SDK_BUFFER_BYTES, SDK_BUFFER_LIMIT_BYTES)


def down(events: Sequence[CloudEvent]) -> PublishResponse:
    raise Unavailable("nobody is there")


def gated(gate: threading.Event) -> MemoryTransport:
    def wait(events: Sequence[CloudEvent]) -> PublishResponse:
        assert gate.wait(10.0)
        return accept_all(events)

    return MemoryTransport(wait)


def buckets(metrics: Metrics) -> dict[float, float]:
    """Of the histogram: by upper bound, so many events and those of the bounds below."""
    (family,) = (f for f in metrics.registry.collect() if f.name == SDK_SEND_SECONDS.name)
    return {float(s.labels["le"]): s.value for s in family.samples if s.name.endswith("_bucket")}


def seconds_sum(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value(f"{SDK_SEND_SECONDS.name}_sum") or 0.0


def test_every_fate_is_there_from_the_beginning_and_is_zero() -> None:
    watched = Watched()
    watched.client(MemoryTransport()).close()
    (family,) = (f for f in watched.metrics.registry.collect() if f.name == SDK_EVENTS.name.removesuffix("_total"))
    counted = {s.labels["outcome"]: s.value for s in family.samples if s.name == SDK_EVENTS.name}
    assert dict.fromkeys(("accepted", "rejected", "unclear", "given_up", "not_taken"), 0.0) == counted
    assert set(counted) == {fate.value for fate in Fate}


@given(st.lists(st.sampled_from(["accept", "reject", "down"]), max_size=6), st.integers(1, 40))
def test_what_is_counted_is_what_the_client_says_in_its_statistics(answers: list[str], count: int) -> None:
    left = list(answers)

    def collector(events: Sequence[CloudEvent]) -> PublishResponse:
        match left.pop(0) if left else "accept":
            case "down":
                raise Unavailable("nobody is there")
            case "reject":
                return PublishResponse(statuses=[REJECTED] + [ACCEPTED] * (len(events) - 1))
        return accept_all(events)

    watched = Watched()
    with watched.client(MemoryTransport(collector)) as client:
        for _ in range(count):
            client.send(PAGE)
    stats = client.stats
    said = {"accepted": stats.accepted, "rejected": stats.rejected, "unclear": stats.unclear, "given_up": stats.undelivered}
    assert {fate: number for fate, number in said.items() if number} == watched.fates()
    # Each of them waited.
    assert count == buckets(watched.metrics)[float("inf")]


def test_what_send_refuses_is_counted_too() -> None:
    watched = Watched()
    client = watched.client(MemoryTransport(down), options=ClientOptions(buffer_bytes_max=400, on_full="raise"))
    refused = 0
    for _ in range(10):
        try:
            client.send(PAGE)
        except SpillwayError:
            refused += 1
    with pytest.raises(SpillwayError):
        client.close(0.0)
    assert {"given_up": 10.0 - refused, "not_taken": float(refused)} == watched.fates()
    assert 0 < refused < 10
    # Nobody waited for an answer to these.
    assert 10 - refused == buckets(watched.metrics)[float("inf")]


def test_the_histogram_is_one_of_events_not_of_batches() -> None:
    """Else its 99th percentile would be that of the batches: one event that waited long would weigh as much as 99."""
    now = [100.0]
    metrics = Metrics()
    report = Report(None, figures_of(metrics), clock=lambda: now[0])
    entries = [Entry(number, b"") for number in range(1, 111)]
    report.held(1, 100.0, None)  # and 2 to 10
    report.held(11, 104.0, None)
    now[0] = 104.25
    report.finished(entries[:60], [Accepted()] * 60, {}, Counts(accepted=60))
    report.finished(entries[60:], [Accepted()] * 50, {}, Counts(accepted=50))
    assert {0.1: 0, 0.25: 100, 2.5: 100, 5.0: 110, float("inf"): 110} == {
        bound: count for bound, count in buckets(metrics).items() if bound in (0.1, 0.25, 2.5, 5.0, float("inf"))
    }
    assert 10 * 4.25 + 100 * 0.25 == seconds_sum(metrics)


def test_what_waits_for_room_waits_as_well() -> None:
    """The clock starts at the call of `send`, not when the event was taken."""
    watched, gate, calling = Watched(), threading.Event(), threading.Event()

    def send_second() -> None:
        calling.set()
        client.send(PAGE)

    with watched.client(gated(gate), options=ClientOptions(buffer_bytes_max=200)) as client:
        client.send(PAGE)
        waiting = threading.Thread(target=send_second)
        waiting.start()
        assert calling.wait(10.0)
        waiting.join(1.0)
        assert waiting.is_alive()
        gate.set()
        waiting.join(10.0)
    assert (0, 2) == (buckets(watched.metrics)[0.5], buckets(watched.metrics)[float("inf")])


def test_recovered_events_are_counted_but_nobody_knows_how_long_they_took(tmp_path: Path) -> None:
    first, second = Watched(), Watched()
    client = first.client(MemoryTransport(down), spool=tmp_path)
    for _ in range(3):
        client.send(PAGE)
    client.close(0.0)
    assert {} == first.fates()
    with second.client(MemoryTransport(), spool=tmp_path) as again:
        again.send(PAGE)
    assert ({"accepted": 4.0}, 1) == (second.fates(), buckets(second.metrics)[float("inf")])


def test_the_wait_of_a_traced_event_names_its_trace() -> None:
    watched = Watched()
    with watched.client(MemoryTransport()) as client:
        client.send(PAGE, id="a", canary="probe-1")
        client.send(PAGE)
    text = watched.metrics.exposition(openmetrics=True).decode()
    assert 1 == text.count(f'# {{trace_id="{trace_of("/test", "a").hex_id}"}}')
    assert 2 == buckets(watched.metrics)[float("inf")]


def held(metrics: Metrics) -> tuple[float, float, float]:
    return tuple(metrics.value(metric) for metric in (SDK_PENDING_EVENTS, SDK_BUFFER_BYTES, SDK_BUFFER_LIMIT_BYTES))  # type: ignore[return-value]


def test_what_is_pending_is_seen_while_the_collector_does_not_answer(tmp_path: Path) -> None:
    for spool, limit in ((None, 32 * 1024 * 1024), (tmp_path, 1024 * 1024 * 1024)):
        watched, gate = Watched(), threading.Event()
        with watched.client(gated(gate), spool=spool) as client:
            for _ in range(50):
                client.send(PAGE)
            pending, buffered, limit_bytes = held(watched.metrics)
            assert (50, limit) == (pending, limit_bytes)
            assert 50 * 100 < buffered < 50 * 500
            gate.set()
            client.flush(10.0)
            assert 0 == held(watched.metrics)[0]
        # A client that is gone holds nothing, in a buffer that still has a size.
        assert (0, 0, limit) == held(watched.metrics)


def test_the_clients_of_a_process_share_the_figures_and_add_up() -> None:
    metrics, gate = Metrics(CollectorRegistry()), threading.Event()
    telemetry = SdkTelemetry(metrics=metrics)
    clients = [Client(publisher=Publisher(transport=gated(gate)), telemetry=telemetry) for _ in range(2)]
    for number, client in enumerate(clients):
        for _ in range(10 + number):
            client.send(PAGE)
    assert (21, 2 * 32 * 1024 * 1024) == (held(metrics)[0], held(metrics)[2])
    gate.set()
    for client in clients:
        client.close()
    assert 21 == metrics.value(SDK_EVENTS, outcome="accepted")


def test_the_golden_signals_of_the_hop_report_in_a_producer_that_has_a_port() -> None:
    """Each metric that their queries name is in what a scrape gets, with data."""
    telemetry = Telemetry.begin("checkout", "checkout-1", TelemetrySettings(), health_port=0)
    try:
        with Client(publisher=Publisher(transport=MemoryTransport()), telemetry=telemetry) as client:
            for _ in range(20):
                client.send(PAGE)
            client.flush(10.0)
            assert telemetry.health is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.health.port}/metrics", timeout=10) as answer:
                scraped = answer.read().decode()
    finally:
        telemetry.end()
    samples = {s.name: s for family in text_string_to_metric_families(scraped) for s in family.samples}
    queries = [signal.at("1m") for signal in BY_NAME["sdk"].signals.values()]
    missing: dict[str, list[Metric]] = {
        query: [one for one in SDK_METRICS if one.name in query and not set(samples) & {one.name, f"{one.name}_bucket"}]
        for query in queries
    }
    assert {} == {query: names for query, names in missing.items() if names}
    assert all(any(one.name in query for one in SDK_METRICS) for query in queries)
    assert 20 == samples[f"{SDK_SEND_SECONDS.name}_count"].value
