"""What every process says of itself."""

from telemetry import itself
from telemetry import metrics as m
from telemetry.metrics import Metrics


def test_start_crashes_and_cpu_are_shown_and_cpu_is_read_at_each_scrape() -> None:
    metrics, cpu = Metrics(), iter([1.5, 2.25])
    itself.report(metrics, crashes=3, now_seconds=lambda: 1000.0, cpu_seconds=lambda: next(cpu))
    shown = [metrics.exposition(openmetrics=kind).decode() for kind in (False, True)]
    assert [True, True] == [
        f"{m.PROCESS_START.name} 1000.0" in each and f"{m.PROCESS_CRASHES.name} 3.0" in each for each in shown
    ]
    assert [f"{m.PROCESS_CPU_SECONDS.name} {value}" in each for value, each in zip((1.5, 2.25), shown, strict=True)] == [
        True,
        True,
    ]


def test_counting_that_is_off_counts_none_of_it() -> None:
    metrics = Metrics.off()
    itself.report(metrics, crashes=1)
    assert b"" == metrics.exposition().strip()
