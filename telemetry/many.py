"""Many observations of one histogram at once: at the price of a few additions a batch.

A batch has up to a million events, and `observe` costs 2 us for each. Events that were accepted together are equally old, so
they are counted by bucket first, and each bucket is raised once. prometheus-client has no public way to do that: this is the one
place that knows its insides (its version is pinned, and a test compares with as many single observations).
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from prometheus_client import Histogram

from telemetry.metrics import Metric


def observe_all(
    histogram: Histogram, metric: Metric, ages: Iterable[tuple[float, int]], examples: Iterable[tuple[float, str]] = ()
) -> None:
    """`ages`: seconds, and how many events. `examples`: seconds and trace id of events that are not among `ages`: one a bucket,
    at most, becomes its exemplar."""
    counts: dict[int, int] = {}
    total_seconds = 0.0
    shown: set[int] = set()
    for seconds, trace_id in examples:
        bucket = bisect_left(metric.buckets, seconds)
        if bucket not in shown:
            shown.add(bucket)
            histogram.observe(seconds, exemplar={"trace_id": trace_id})
        else:
            counts[bucket] = counts.get(bucket, 0) + 1
            total_seconds += seconds
    for seconds, count in ages:
        bucket = bisect_left(metric.buckets, seconds)
        counts[bucket] = counts.get(bucket, 0) + count
        total_seconds += seconds * count
    inside: Any = histogram
    if counts and isinstance(histogram, Histogram):
        inside._sum.inc(total_seconds)
        for bucket, count in counts.items():
            inside._buckets[bucket].inc(count)
