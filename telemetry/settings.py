"""What a process may be told about its telemetry: `SPILLWAY_TELEMETRY_...`, or `[telemetry]` in the configuration file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

# OpenTelemetry's own name for it is honoured. Source: OpenTelemetry specification, "OTLP Exporter Configuration".
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    SECTION: ClassVar[str] = "telemetry"

    # Any OTLP/HTTP backend, as "http://127.0.0.1:4318"; if empty, OTEL_EXPORTER_OTLP_ENDPOINT; without either nothing is shipped.
    otlp_endpoint: str = ""
    # Of the events without a sampled trace context, this share is traced over all hops.
    trace_share: float = 0.0005
    # Of those whose producer says "sampled", this share. Canary events are always traced.
    flagged_share: float = 1.0
    # An event that took longer in one hop than this is traced though nobody asked; so is one that met an error.
    slow_seconds: float = 5.0
    # Spans of slow and failed events that one process emits a second, at most: a flood of errors must cost nothing.
    unplanned_spans_per_second_max: float = 50.0
    # What waits to be shipped, of each signal; beyond it is dropped and counted.
    queue_items_max: int = 4096
    ship_seconds: float = 1.0
    ship_timeout_seconds: float = 3.0
    # How often this worker has ended badly before this start. Its supervisor says so, nobody else.
    crashes: int = 0

    def endpoint(self, env: Mapping[str, str] | None = None) -> str:
        env = os.environ if env is None else env
        return (self.otlp_endpoint or env.get(ENDPOINT_VARIABLE, "")).rstrip("/")
