"""A client whose spans and figures a test can read."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from pipeline.sdk.breaker import BreakerLimits
from pipeline.sdk.client import Client, ClientOptions, SdkTelemetry, Semantics
from pipeline.sdk.publisher import Publisher, PublisherOptions
from pipeline.sdk.retry import Backoff, BudgetSize
from pipeline.sdk.transport import MemoryTransport
from telemetry.metrics import SDK_EVENTS, Metrics
from telemetry.personal_data import mask
from telemetry.settings import TelemetrySettings
from telemetry.tracing import Tracer

QUICK = PublisherOptions(
    backoff=Backoff(ceiling_seconds_first=0.001, ceiling_seconds_max=0.005, floor_seconds=0.0005),
    budget=BudgetSize(tokens_max=1000.0, per_second=1000.0),
    breaker=BreakerLimits(pause_seconds_first=0.005, pause_seconds_max=0.01),
)


@dataclass
class Watched:
    """What clients report. Nothing is traced by chance unless a test wants it."""

    settings: TelemetrySettings = field(default_factory=lambda: TelemetrySettings(trace_share=0.0))
    spans: list[ReadableSpan] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.tracer = Tracer("checkout", "checkout-1", self.spans.append, self.settings, scrub=mask)
        self.telemetry = SdkTelemetry(self.tracer, self.metrics)

    def client(
        self,
        transport: MemoryTransport,
        *,
        spool: Path | None = None,
        semantics: Semantics = Semantics.EFFECTIVELY_ONCE,
        options: ClientOptions | None = None,
        on_rejected: Callable[..., None] = lambda event, error: None,
    ) -> Client:
        mode = "fire-and-forget" if semantics is Semantics.AT_MOST_ONCE else "guaranteed"
        publisher = Publisher(transport=transport, options=QUICK, delivery=mode, rng=random.Random(1))  # type: ignore[arg-type]
        return Client(
            source="/test",
            publisher=publisher,
            spool=spool,
            semantics=semantics,
            options=options,
            on_rejected=on_rejected,
            telemetry=self.telemetry,
        )

    def fates(self) -> dict[str, float]:
        """The counter of events, by outcome; what is zero is left out."""
        family = next(f for f in self.metrics.registry.collect() if f.name == SDK_EVENTS.name.removesuffix("_total"))
        return {s.labels["outcome"]: s.value for s in family.samples if s.name == SDK_EVENTS.name and s.value}

    def by_id(self) -> dict[str, ReadableSpan]:
        return {str(said(span)["cloudevents.event_id"]): span for span in self.spans}


def said(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def identity(span: ReadableSpan) -> tuple[int, int, int]:
    """Trace, span, parent (0: none)."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id, span.parent.span_id if span.parent else 0
