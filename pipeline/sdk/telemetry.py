"""Where a client's spans and figures go.

    telemetry = SdkTelemetry.begin("checkout", metrics=Metrics(prometheus_client.REGISTRY))
    client = Client(target, key, telemetry=telemetry)
    ...
    client.close()
    telemetry.end()

Rules. A client takes anything that has a `tracer` and `metrics`: this, or the `telemetry.process.Telemetry` of a process of the
pipeline. Who made it ends it. A client that was given none makes its own from the environment: spans where that names an OTLP
backend, no metrics, since nobody could read them; and nothing at all where it names none. Nothing of OpenTelemetry or Prometheus
is imported before it is used. A backend that is slow or away delays nothing but `end`, by `END_SECONDS_MAX` at most.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import load
from pipeline.sdk.report import Report
from telemetry.settings import ENDPOINT_VARIABLE, TelemetrySettings

if TYPE_CHECKING:
    from pipeline.sdk.figures import Figures
    from pipeline.sdk.spans import SdkSpans
    from telemetry.metrics import Metrics
    from telemetry.shipping import Shipper
    from telemetry.tracing import Tracer

LOG = logging.getLogger("spillway.sdk")

END_SECONDS_MAX = 2.0
VARIABLES = ("SPILLWAY_TELEMETRY_OTLP_ENDPOINT", ENDPOINT_VARIABLE)


class Reports(Protocol):
    """What a client needs to report. None: no spans, no figures."""

    @property
    def tracer(self) -> "Tracer | None": ...

    @property
    def metrics(self) -> "Metrics | None": ...


@dataclass(frozen=True, slots=True)
class SdkTelemetry:
    """Telemetry of a program that sends events. `SdkTelemetry()` reports nothing, whatever the environment says."""

    tracer: "Tracer | None" = None
    metrics: "Metrics | None" = None
    _shipper: "Shipper[Any] | None" = None
    # What the shipper counts with: the caller's, or its own.
    _counted: "Metrics | None" = None
    _endpoint: str = ""

    @classmethod
    def begin(
        cls, part: str = "sdk", worker: str = "", *, metrics: "Metrics | None" = None, settings: TelemetrySettings | None = None
    ) -> "SdkTelemetry":
        """`part` and `worker` name the program in its spans. `metrics` is where figures go. `settings`: by default those of the
        environment and the configuration file; without an endpoint in them there are no spans.

        Raises:
            InvalidConfiguration: a setting of the environment or the file is wrong.
        """
        settings = settings or load(TelemetrySettings)
        endpoint = settings.endpoint()
        if not endpoint:
            return cls(None, metrics)
        from telemetry.metrics import Metrics
        from telemetry.otlp import span_sender
        from telemetry.personal_data import mask
        from telemetry.shipping import Shipper
        from telemetry.tracing import Tracer

        send = span_sender(endpoint, settings.ship_timeout_seconds)
        counted = metrics or Metrics()
        shipper = Shipper(
            "spans",
            send,
            counted,
            queue_items_max=settings.queue_items_max,
            ship_seconds=settings.ship_seconds,
        )
        tracer = Tracer(part, worker or f"{part}-{os.getpid()}", shipper.put, settings, scrub=mask)
        return cls(tracer, metrics, shipper, counted, endpoint)

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None) -> "SdkTelemetry":
        """Of a client that was given none."""
        env = os.environ if env is None else env
        return cls.begin() if any(env.get(name) for name in VARIABLES) else cls()

    def end(self, timeout_seconds: float = END_SECONDS_MAX) -> None:
        """Ship what is left, within the bound. Spans that are lost are told in the log; no event is touched."""
        if self._shipper is None or self._counted is None:
            return
        in_time = self._shipper.flush(timeout_seconds / 2)
        self._shipper.close(timeout_seconds / 2)
        from telemetry.metrics import TELEMETRY_ITEMS

        fates = {fate: self._counted.value(TELEMETRY_ITEMS, signal="spans", outcome=fate) for fate in ("failed", "dropped")}
        if not in_time or any(fates.values()):
            LOG.warning(
                "not all spans could be shipped to %s (%d failed, %d dropped%s); no event is touched by that",
                self._endpoint, fates["failed"], fates["dropped"], "" if in_time else ", the rest not in time",
            )  # fmt: skip


def report_of(reports: Reports) -> Report | None:
    """A new client's report; None if there is nothing to report to."""
    spans, figures = _spans(reports.tracer), _figures(reports.metrics)
    return None if spans is None and figures is None else Report(spans, figures)


def _spans(tracer: "Tracer | None") -> "SdkSpans | None":
    if tracer is None or not tracer.on:
        return None
    from pipeline.sdk.spans import SdkSpans

    return SdkSpans(tracer)


def _figures(metrics: "Metrics | None") -> "Figures | None":
    if metrics is None or not metrics.on:
        return None
    from pipeline.sdk.figures import figures_of

    return figures_of(metrics)
