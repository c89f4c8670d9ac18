"""Events and their traces: what `telemetry.tracing` needs to know of an event, and the spans of hops that kept silent."""

from pipeline.event import StoredRecord, text_attribute
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from telemetry.tracing import CANARY_ATTRIBUTE, TRACEPARENT_ATTRIBUTE, Trace, Tracer, Value, trace_of


def kept(tracer: Tracer, event: CloudEvent) -> Trace | None:
    """The event's trace if it is to be traced, decided alike at every hop."""
    if not tracer.on:
        return None
    attributes = event.attributes
    traceparent = text_attribute(event, TRACEPARENT_ATTRIBUTE) if TRACEPARENT_ATTRIBUTE in attributes else ""
    return tracer.trace(event.source, event.id, traceparent, CANARY_ATTRIBUTE in attributes)


def unplanned(tracer: Tracer, event: CloudEvent, batch: StoredBatch, record: StoredRecord) -> Trace | None:
    """The trace of an event that fails or is slow here and was not to be traced; None if the second's budget is used up.

    The hops before this one have said nothing: their spans are rebuilt from the times that the event carries. What they did
    themselves is not known; each span reaches from the accept time to the record's arrival and is marked `spillway.rebuilt`.
    """
    if not tracer.may_emit_unplanned(4):
        return None
    trace = trace_of(event.source, event.id, text_attribute(event, TRACEPARENT_ATTRIBUTE))
    accepted_ns, arrived_ns = batch.accepted_at_unix_micros * 1_000, record.arrived_at_unix_micros * 1_000
    door = f"{batch.door}-door"
    hops = [(door, "")]
    if batch.door == "http" and record.stream != "web-events":
        hops += [("transcoder", door), ("grpc-door", "transcoder")]
    for hop, parent in hops:
        attributes: dict[str, Value] = {
            "spillway.rebuilt": True,
            "spillway.tenant": batch.tenant,
            "cloudevents.event_type": event.type,
        }
        tracer.event(trace, hop, accepted_ns, arrived_ns, parent=parent, attributes=attributes, worker=batch.worker, part=hop)
    return trace
