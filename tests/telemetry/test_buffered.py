"""Metrics that are added up later are, to whoever reads them, those of the library."""

import threading
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from telemetry.buffered import NOTES_MAX, BufferedCounter, BufferedHistogram

LABELS = ({}, {"door": "grpc"})
BUCKETS = (0.01, 0.1, 1.0)


def samples(registry: CollectorRegistry) -> list[Any]:
    """All but times of creation and of exemplars."""
    return sorted(
        (each.name, tuple(each.labels.items()), each.value, each.exemplar and (each.exemplar.labels, each.exemplar.value))
        for family in registry.collect()
        for each in family.samples
        if not each.name.endswith("_created")
    )


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("count", [0, 1, NOTES_MAX - 1, NOTES_MAX, 5 * NOTES_MAX + 3])
def test_the_same_samples_as_the_library_at_any_number_of_notes(labels: dict[str, str], count: int) -> None:
    random = Random(count)
    told = [(random.expovariate(3), {"trace_id": f"{n:032x}"} if random.random() < 0.2 else None) for n in range(count)]
    found = []
    for counter_of, histogram_of in ((Counter, Histogram), (BufferedCounter, BufferedHistogram)):
        registry = CollectorRegistry()
        counter: Any = counter_of("c", "help", tuple(labels), registry=registry)
        histogram: Any = histogram_of("h", "help", tuple(labels), registry=registry, buckets=BUCKETS)
        counter, histogram = (each.labels(**labels) if labels else each for each in (counter, histogram))
        for amount, exemplar in told:
            counter.inc(round(amount * 8), exemplar)
            histogram.observe(amount, exemplar)
        found.append(samples(registry))
    assert found[0] == found[1]


def test_what_many_threads_note_while_it_is_read_is_all_there_and_never_falls() -> None:
    registry = CollectorRegistry()
    counter, histogram = (of("x" + of.__name__, "help", registry=registry) for of in (BufferedCounter, BufferedHistogram))
    threads = [
        threading.Thread(target=lambda: [(counter.inc(), histogram.observe(0.5)) for _ in range(20_000)])  # type: ignore[attr-defined]
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    read = []
    while any(thread.is_alive() for thread in threads):
        read.append((registry.get_sample_value("xBufferedCounter_total"), registry.get_sample_value("xBufferedHistogram_count")))
    for thread in threads:
        thread.join()
    assert read
    assert [sorted(each) for each in zip(*read, strict=True)] == [list(each) for each in zip(*read, strict=True)]
    assert (80_000, 80_000) == (
        registry.get_sample_value("xBufferedCounter_total"), registry.get_sample_value("xBufferedHistogram_count"),
    )  # fmt: skip


def test_what_the_library_refuses_is_refused_at_once() -> None:
    counter = BufferedCounter("c", "help", registry=None)
    with pytest.raises(ValueError, match="non-negative"):
        counter.inc(-1)
    for without_labels in (
        BufferedCounter("d", "help", ("door",), registry=None).inc,
        BufferedHistogram("e", "help", ("door",), registry=None).observe,
    ):
        with pytest.raises(ValueError, match="missing label"):
            without_labels(1)


def test_an_exemplar_that_is_too_long_costs_no_observation_and_no_scrape() -> None:
    registry = CollectorRegistry()
    histogram = BufferedHistogram("h", "help", registry=registry)
    histogram.observe(0.5, {"trace_id": "x" * 1000})
    histogram.observe(0.5)
    assert 2 == registry.get_sample_value("h_count")


def test_whoever_counts_while_it_is_added_up_in_the_same_thread_waits_for_nobody_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A finalizer, or a signal's handler, may run at any time."""
    registry = CollectorRegistry()
    histogram = BufferedHistogram("h", "help", registry=registry)
    inside = Histogram.observe
    left = [3 * NOTES_MAX]

    def observe(self: Histogram, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if left[0]:
            left[0] -= 1
            histogram.observe(0.5)
        inside(self, amount, exemplar)

    monkeypatch.setattr(Histogram, "observe", observe)
    for _ in range(NOTES_MAX):
        histogram.observe(0.5)
    monkeypatch.undo()
    assert NOTES_MAX + 3 * NOTES_MAX - left[0] == registry.get_sample_value("h_count")


def test_a_reset_forgets_what_was_noted() -> None:
    registry = CollectorRegistry()
    counter = BufferedCounter("c", "help", registry=registry)
    counter.inc(3)
    counter.reset()
    counter.inc(2)
    assert 2 == registry.get_sample_value("c_total")
