"""The telemetry of one process, as its composition root gets it: log, metrics, tracer, health port.

    telemetry = Telemetry.begin("redactor", worker, settings, health_port=4603, scrub=mask)
    ...
    telemetry.end()

Rules. Nothing here has to be up: without a backend spans and lines are dropped and counted, and the process works on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from telemetry import itself
from telemetry import log as logs
from telemetry.health import Health
from telemetry.log import Logger
from telemetry.metrics import Metrics
from telemetry.otlp import log_sender, span_sender
from telemetry.settings import TelemetrySettings
from telemetry.shipping import Shipper
from telemetry.tracing import Tracer


@dataclass(slots=True)
class Telemetry:
    part: str
    worker: str
    log: Logger
    metrics: Metrics
    tracer: Tracer
    # None if the process was given no health port.
    health: Health | None = None
    _shippers: list[Shipper[Any]] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        part: str,
        worker: str,
        settings: TelemetrySettings,
        *,
        health_port: int | None = None,
        scrub: Callable[[str], str] = str,
    ) -> "Telemetry":
        metrics = Metrics()
        itself.report(metrics, settings.crashes)
        endpoint = settings.endpoint()
        shippers: list[Shipper[Any]] = []
        ship_span, ship_line = None, None
        spans: Shipper[ReadableSpan] | None = None
        if endpoint:
            timeout, queue_max, pause = settings.ship_timeout_seconds, settings.queue_items_max, settings.ship_seconds
            send_spans, send_lines = span_sender(endpoint, timeout), log_sender(endpoint, timeout, part, worker)
            spans = Shipper("spans", send_spans, metrics, queue_items_max=queue_max, ship_seconds=pause)
            lines = Shipper("logs", send_lines, metrics, queue_items_max=queue_max, ship_seconds=pause)
            ship_span, ship_line = spans.put, lines.put
            shippers = [spans, lines]
        return cls(
            part,
            worker,
            logs.configure(part, worker, scrub=scrub, ship=ship_line),
            metrics,
            Tracer(part, worker, ship_span, settings, scrub=scrub, later=spans.later if spans else None),
            None if health_port is None else Health(metrics, health_port),
            shippers,
        )

    def set_ready(self, ready: bool) -> None:
        if self.health is not None:
            self.health.set_ready(ready)

    def end(self, timeout_seconds: float = 3.0) -> None:
        """Ship what is left, within the bound, which is one for all signals, and close the port."""
        deadline = time.monotonic() + timeout_seconds
        for shipper in self._shippers:
            shipper.close(max(0.0, deadline - time.monotonic()))
        if self.health is not None:
            self.health.close()
