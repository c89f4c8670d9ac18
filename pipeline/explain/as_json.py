"""Fates, batches and log lines as JSON for programs. Times are seconds, or nanoseconds since 1970 where the name says so."""

from typing import Any

from pipeline.explain.fate import Fate
from pipeline.explain.path import State, Step
from pipeline.explain.told import Batch, Told
from pipeline.explain.verdict import advice, outcome, sentence
from telemetry.journey import Span
from telemetry.store_client import Line


def trace_json(told: Told) -> dict[str, Any]:
    return {
        "trace_ids": list(told.trace_ids),
        "events": [fate_json(fate) for fate in told.fates],
        "batches": [_batch_json(batch) for batch in told.batches],
        "other_spans": [_span_json(span) for span in told.others],
        "last_signs": {sign.hop: sign.text for sign in told.last_signs},
        "lines": None if told.lines_unknown else [_line_json(line) for line in told.lines],
        "lines_unknown": told.lines_unknown,
    }


def fate_json(fate: Fate) -> dict[str, Any]:
    slowest = fate.slowest
    return {
        "trace_id": fate.trace_id,
        "id": fate.id,
        "source": fate.source,
        "tenant": fate.tenant,
        "type": fate.type,
        "became": fate.became.value,
        "at": fate.at,
        "why": fate.why,
        "sentence": sentence(fate),
        "advice": advice(fate),
        "seconds": fate.seconds,
        "exits": fate.exits,
        "slowest": {"hop": slowest.hop, "share": slowest.share} if slowest else None,
        "redriven_at": fate.redriven_at,
        "hops": [_step_json(step) for step in fate.steps],
    }


def _step_json(step: Step) -> dict[str, Any]:
    about = {
        "hop": step.hop,
        "state": step.state.value,
        "waited_seconds": step.waited_seconds,
        "took_seconds": step.took_seconds,
        "skew_seconds": step.skew_seconds,
        "since_seconds": step.since_seconds,
        "overdue": step.overdue,
    }
    return about | (
        {"outcome": outcome(step.span, ended=step.state is State.ENDED), **_span_json(step.span)} if step.span else {}
    )


def _span_json(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "span_id": span.span_id,
        "worker": span.worker,
        "began_unix_nano": span.began_ns,
        "ended_unix_nano": span.ended_ns,
        "rebuilt": span.rebuilt,
        "failed": span.failed,
        "error": span.error,
        "attributes": dict(span.attributes),
        "links": [{"trace_id": trace_id, "span_id": span_id} for trace_id, span_id in span.links],
    }


def _batch_json(batch: Batch) -> dict[str, Any]:
    linked = [
        {"trace_id": one.trace_id, "event_id": one.event_id, "here": one.here, "became": one.became} for one in batch.linked
    ]
    return {"hop": batch.span.hop, "events": linked, **_span_json(batch.span)}


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "time_unix_nano": line.time_ns,
        "level": line.level,
        "event": line.event,
        "part": line.part,
        "worker": line.worker,
        "fields": dict(line.fields),
    }
