"""Many observations at once are as many single ones."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry.many import observe_all
from telemetry.metrics import ETL_FRESHNESS_SECONDS, Metrics

# Quarters of a second add up exactly, in any order; some lie on a bucket's bound.
SECONDS = st.integers(0, 20_000).map(lambda quarters: quarters / 4)


def exposed(metrics: Metrics) -> list[str]:
    """All but when the histogram was made."""
    return [line for line in metrics.exposition().decode().splitlines() if "_created" not in line]


@given(
    st.lists(st.tuples(SECONDS, st.integers(1, 50)), max_size=20),
    st.lists(st.tuples(SECONDS, st.sampled_from(["a" * 32, "b" * 32])), max_size=10),
)
def test_many_observations_count_as_as_many_single_ones(ages: list[tuple[float, int]], examples: list[tuple[float, str]]) -> None:
    at_once, singly = Metrics(), Metrics()
    observe_all(at_once.histogram(ETL_FRESHNESS_SECONDS, exit="lake"), ETL_FRESHNESS_SECONDS, ages, examples)
    single = singly.histogram(ETL_FRESHNESS_SECONDS, exit="lake")
    for seconds, count in [*ages, *((seconds, 1) for seconds, _ in examples)]:
        for _ in range(count):
            single.observe(seconds)
    assert exposed(singly) == exposed(at_once)


def test_one_trace_for_each_bucket_is_its_exemplar() -> None:
    metrics = Metrics()
    histogram = metrics.histogram(ETL_FRESHNESS_SECONDS, exit="lake")
    observe_all(histogram, ETL_FRESHNESS_SECONDS, [(0.25, 3)], [(2.5, "a" * 32), (2.75, "b" * 32), (40.0, "c" * 32)])
    shown = [line for line in metrics.exposition(openmetrics=True).decode().splitlines() if "trace_id" in line]
    assert [('le="3.0"', "a" * 32), ('le="45.0"', "c" * 32)] == [
        (line.partition("{")[2].partition("}")[0].split(",")[1], line.partition('trace_id="')[2].partition('"')[0])
        for line in shown
    ]


def test_what_is_switched_off_is_not_counted() -> None:
    observe_all(Metrics.off().histogram(ETL_FRESHNESS_SECONDS, exit="lake"), ETL_FRESHNESS_SECONDS, [(1.0, 5)], [(1.0, "a" * 32)])
