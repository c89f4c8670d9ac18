"""The HTTP door's OpenAPI 3.1 document. Tests hold real answers against it."""

from typing import Any

from pipeline.doors.accept import Limits
from pipeline.doors.reasons import Reason

_STATUSES = ["accepted", "queued", "rejected", "retry"]


def document(limits: Limits) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    batch = {"application/json": {"schema": {"$ref": "#/components/schemas/BatchAnswer"}}}
    retry_after = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}}
    event = {"$ref": "#/components/schemas/CloudEvent"}
    single = {"application/json": {"schema": {"$ref": "#/components/schemas/EventAnswer"}}}
    later = {**problem, **batch}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spillway HTTP collector",
            "version": "1",
            "description": "Takes CloudEvents 1.0 in JSON. `accepted` means: durably stored, and will be delivered; "
            "`retry` means that it is not known to be: send it again with the same id.",
        },
        "security": [{"key": []}],
        "paths": {
            "/v1/events": {
                "post": {
                    "operationId": "publish",
                    "summary": "Send one event (structured or binary mode) or a batch",
                    "parameters": [
                        {
                            "name": "spillway-delivery",
                            "in": "header",
                            "schema": {"enum": ["guaranteed", "fire-and-forget"], "default": "guaranteed"},
                        },
                        *[
                            {"name": f"ce-{name}", "in": "header", "schema": {"type": "string"}, "description": "Binary mode."}
                            for name in ("id", "source", "specversion", "type", "time", "subject", "partitionkey", "traceparent")
                        ],
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/cloudevents+json": {"schema": event},
                            "application/cloudevents-batch+json": {
                                "schema": {"type": "array", "minItems": 1, "maxItems": limits.request_events, "items": event}
                            },
                            "application/json": {"schema": {"type": "object"}},
                        },
                    },
                    "responses": {
                        "200": {"description": "The event is stored.", "content": single},
                        "202": {"description": "Fire-and-forget: the event is queued.", "content": single},
                        "207": {"description": "A batch: one answer per event, in its order.", "content": batch},
                        "400": {"description": "The event, or the request, is wrong.", "content": problem},
                        "401": {"description": "No key, or one not in force.", "content": problem},
                        "403": {"description": "The key may not do that.", "content": problem},
                        "405": {"description": "Not a POST.", "content": problem},
                        "408": {"description": "The body did not arrive in time.", "content": problem},
                        "413": {"description": "The event or the request is too large.", "content": problem},
                        "415": {"description": "Not a content type of this door.", "content": problem},
                        "429": {"description": "Less, please.", "headers": retry_after, "content": later},
                        "503": {"description": "Not known to be stored: send again.", "headers": retry_after, "content": later},
                    },
                }
            }
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "spw_<key id>_<secret>"}},
            "schemas": _schemas(limits),
        },
    }


def _schemas(limits: Limits) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    reason = {"type": "string", "enum": [str(reason) for reason in Reason]}
    answer = {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": {"type": "string"},
            "status": {"type": "string", "enum": _STATUSES},
            "reason": reason,
            "message": {"type": "string"},
            "retry_after_seconds": {"type": "number"},
        },
        "additionalProperties": False,
    }
    return {
        "CloudEvent": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "data"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {**text, "maxLength": limits.id_characters},
                "source": {**text, "maxLength": limits.source_characters},
                "type": {**text, "maxLength": limits.type_characters, "description": "Full name of a deployed Protobuf message."},
                "time": {"type": "string", "format": "date-time", "description": "When it happened, with a zone."},
                "subject": {**text, "maxLength": limits.subject_characters},
                "partitionkey": {**text, "maxLength": limits.partition_key_characters},
                "datacontenttype": {"type": "string"},
                "data": {"type": "object", "description": "The message's fields in Protobuf's JSON mapping."},
            },
            "additionalProperties": {"type": ["string", "boolean", "integer", "null"]},
        },
        "EventAnswer": answer,
        "BatchAnswer": {
            "type": "object",
            "required": [*_STATUSES, "events"],
            "properties": {
                **{status: {"type": "integer", "minimum": 0} for status in _STATUSES},
                "events": {"type": "array", "items": {"$ref": "#/components/schemas/EventAnswer"}},
            },
            "additionalProperties": False,
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "reason", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "reason": reason,
                "detail": {"type": "string"},
                "id": {"type": "string"},
            },
            "additionalProperties": False,
        },
    }
