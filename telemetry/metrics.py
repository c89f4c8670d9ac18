"""The catalogue of metrics, and what parts count with.

A metric is declared here once and used by its constant, never by its name. Labels are bounded sets: never an event id, never
an error's text. A part gets a `Metrics` from its composition root and binds children once, outside the hot path: `inc` on a bound
child costs 0.8 us, a look-up by labels 3.3 us.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

F = TypeVar("F", Counter, Gauge)

LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


DOOR_EVENTS = Metric("spillway_door_events_total", "counter", "Events answered at a door.", ("door", "status"))
DOOR_REJECTIONS = Metric(
    "spillway_door_rejections_total", "counter", "Events refused at a door, by reason word.", ("door", "reason")
)
DOOR_REQUEST_SECONDS = Metric("spillway_door_request_seconds", "histogram", "Time from request to answer.", ("door",))
DOOR_LOST_EVENTS = Metric(
    "spillway_door_lost_events_total", "counter", "Fire-and-forget events that could not be written.", ("door",)
)
DOOR_KEYS_USABLE = Metric(
    "spillway_door_keys_usable", "gauge", "1 if the keys file could be read; 0: the last good one is in force.", ("door",)
)
DOOR_IN_FLIGHT_BYTES = Metric("spillway_door_in_flight_bytes", "gauge", "Bytes taken in and not yet answered.", ("door",))
KINESIS_WRITE_RECORDS = Metric(
    "spillway_kinesis_write_records_total", "counter", "Records by outcome of each attempt.", ("stream", "outcome")
)
KINESIS_WRITE_SECONDS = Metric("spillway_kinesis_write_seconds", "histogram", "Duration of one PutRecords call.", ("stream",))
CONSUMER_RECORDS = Metric("spillway_consumer_records_total", "counter", "Records processed and checkpointed.", ("part",))
CONSUMER_EVENTS = Metric("spillway_consumer_events_total", "counter", "Events by what became of them.", ("part", "outcome"))
CONSUMER_BEHIND_SECONDS = Metric(
    "spillway_consumer_behind_seconds", "gauge", "How far behind the shard's tip this reader is.", ("part", "shard")
)
CONSUMER_PROGRESS = Metric(
    "spillway_consumer_progress_timestamp_seconds",
    "gauge",
    "When this reader last finished a delivery of the shard; idle shards get one every 5 s.",
    ("part", "shard"),
)
CONSUMER_FAILURES = Metric(
    "spillway_consumer_failures_total", "counter", "Failures that stopped a shard, by kind.", ("part", "kind")
)
DEAD_LETTERS = Metric("spillway_dead_letters_total", "counter", "Events written to the dead letters.", ("stage", "reason"))
REDACTED_FIELDS = Metric("spillway_redacted_fields_total", "counter", "Fields changed by the redactor.", ("action",))
ETL_ROWS = Metric("spillway_etl_rows_total", "counter", "Rows by exit and what became of them.", ("exit", "outcome"))
ETL_BATCH_SECONDS = Metric("spillway_etl_batch_seconds", "histogram", "Duration of one micro-batch.", ("exit",))
ETL_FRESHNESS_SECONDS = Metric(
    "spillway_etl_freshness_seconds", "histogram", "From the door's accept time to being visible at an exit.", ("exit",)
)
ETL_FAILURES = Metric("spillway_etl_failures_total", "counter", "Micro-batches that failed.", ("exit",))

CATALOGUE: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class Metrics:
    """Makes bound children of the catalogue's metrics, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._families: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, metric: Metric, **labels: str) -> Counter:
        family = self._family(metric, Counter)
        return family.labels(**labels) if labels else family

    def gauge(self, metric: Metric, **labels: str) -> Gauge:
        family = self._family(metric, Gauge)
        return family.labels(**labels) if labels else family

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        family = self._families.get(metric.name)
        if family is None:
            family = Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=LATENCY_BUCKETS_SECONDS)
            self._families[metric.name] = family
        assert isinstance(family, Histogram)
        return family.labels(**labels) if labels else family

    def _family(self, metric: Metric, kind: type[F]) -> F:
        family = self._families.get(metric.name)
        if family is None:
            family = kind(metric.name, metric.help, metric.labels, registry=self.registry)
            self._families[metric.name] = family
        assert isinstance(family, kind)
        return family

    def forget(self, metric: Metric, **labels: str) -> None:
        """Show this child no more: what it stood for is somebody else's now."""
        family = self._families.get(metric.name)
        if family is not None:
            family.remove_by_labels(labels)

    def value(self, metric: Metric, **labels: str) -> float:
        """The current value of a counter or gauge: for tests and status pages."""
        return self.registry.get_sample_value(metric.name, labels) or 0.0

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
