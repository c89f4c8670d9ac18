"""The spans of one event as its hops emit them: through the real tracer, encoded as OTLP, read as a store answers."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from telemetry.journey import Span, spans_of
from telemetry.tracing import BatchSpan, Trace, Tracer, trace_of

# Nanoseconds since 1970 of the moment that all times below are counted from: 2026-11-25 05:00:00 UTC.
BEGAN_NS = 1_795_582_800_000_000_000
SEQUENCE_NUMBER = "49590338271490256608559692538361571095921575989136588898"


def at_ns(seconds: float) -> int:
    return BEGAN_NS + round(seconds * 1e9)


class Trail:
    """One event; each call is what one hop says of it, in seconds after the beginning."""

    def __init__(self, id: str = "e-1", source: str = "/shop", traceparent: str = "") -> None:
        self.trace: Trace = trace_of(source, id, traceparent)
        self.emitted: list[ReadableSpan] = []

    def says(
        self, hop: str, began: float, ended: float, parent: str = "", *, error: str = "", worker: str = "",
        batch: BatchSpan | None = None, **said: Any,
    ) -> "Trail":  # fmt: skip
        """`said` are attributes below `spillway.`; a double underscore stands for a dot."""
        attributes = {f"spillway.{name.replace('__', '.')}": value for name, value in said.items()}
        attributes.setdefault("spillway.tenant", "acme")
        self.emit(hop, began, ended, parent, error=error, worker=worker, batch=batch, attributes=attributes)
        return self

    def emit(
        self, hop: str, began: float, ended: float, parent: str = "", *, error: str = "", worker: str = "",
        batch: BatchSpan | None = None, attributes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        tracer = Tracer(hop.split("/")[0], worker or f"{hop.split('/')[0]}-1", self.emitted.append)
        tracer.event(self.trace, hop, at_ns(began), at_ns(ended), parent=parent, error=error, batch=batch, attributes=attributes)

    def written(self, hop: str, began: float, ended: float, stream: str, **said: Any) -> "Trail":
        attributes = {
            "messaging.destination.name": stream,
            "messaging.destination.partition.id": "shardId-000000000001",
            "messaging.aws_kinesis.sequence_number": SEQUENCE_NUMBER,
            "spillway.tenant": "acme",
        }
        more = {f"spillway.{name}": value for name, value in said.items()}
        self.emit(f"{hop}/write", began, ended, hop, attributes=attributes | more)
        return self

    # -- the usual stretches

    def by_sdk(self) -> "Trail":
        self.says("sdk", 0.0, 0.1, outcome="accepted", attempts=1)
        self.says("grpc-door", 0.02, 0.09, "sdk", door__status="accepted")
        return self.written("grpc-door", 0.03, 0.085, "events", attempts=1)

    def redacted(self) -> "Trail":
        self.says("redactor", 0.3, 0.4, "grpc-door", waited_seconds=0.21)
        return self.written("redactor", 0.35, 0.395, "events-clean")

    def loaded(self) -> "Trail":
        self.says("lake", 1.4, 2.0, "redactor", waited_seconds=1.0, outcome="loaded")
        self.says("lake/commit", 1.8, 2.0, "lake", lake__version=17)
        self.says("rds", 1.1, 1.6, "redactor", waited_seconds=0.7, outcome="loaded")
        return self.says("redis", 1.1, 1.5, "redactor", waited_seconds=0.7, outcome="loaded")

    def backed_up(self) -> "Trail":
        return self.says("backup", 0.05, 60.0, "grpc-door")

    @property
    def spans(self) -> list[Span]:
        return spans_from(self.emitted)


def spans_from(emitted: Sequence[ReadableSpan]) -> list[Span]:
    return spans_of(MessageToDict(encode_spans(emitted)))


def batch_of(
    emitted: list[ReadableSpan], hop: str, began: float, ended: float, members: Sequence[Trace], **more: Any
) -> BatchSpan:
    """A batch's own span among `emitted`."""
    span = Tracer(hop, f"{hop}-1", emitted.append).batch(
        f"process {hop}", hop, at_ns(began), at_ns(ended), members=members, **more
    )
    assert span is not None
    return span
