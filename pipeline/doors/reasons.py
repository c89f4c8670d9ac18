"""Every reason word that a door answers with, once. Bounded: each is also the value of a metric's label.

A word is an interface: clients program against it, so words are added, never changed. What each means to a sender, and what
to do, stands in the README beside this file; a test holds the two together.
"""

from enum import IntEnum, StrEnum


class Status(IntEnum):
    """What an event is answered with: spillway.v1.EventStatus."""

    ACCEPTED = 1
    QUEUED = 2
    REJECTED = 3
    RETRY = 4


class Reason(StrEnum):
    # Of one event: rejected, however often it is sent.
    MISSING_ATTRIBUTE = "missing_attribute"
    BAD_ATTRIBUTE = "bad_attribute"
    SPEC_VERSION = "spec_version"
    BAD_TIME = "bad_time"
    TIME_AHEAD = "time_ahead"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_DATA = "missing_data"
    DATA_CONTENT_TYPE = "data_content_type"
    TYPE_MISMATCH = "type_mismatch"
    EVENT_TOO_LARGE = "event_too_large"
    UNDECODABLE = "undecodable"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    RULE = "rule"
    BAD_JSON = "bad_json"
    DUPLICATE_KEY = "duplicate_key"
    INVALID_DATA = "invalid_data"
    # Of one event: not known to be stored, send it again with the same id.
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    # Of a whole request.
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    BAD_METADATA = "bad_metadata"
    EMPTY_BATCH = "empty_batch"
    TOO_MANY_EVENTS = "too_many_events"
    REQUEST_TOO_LARGE = "request_too_large"
    MALFORMED_REQUEST = "malformed_request"
    CONTENT_TYPE = "content_type"
    BODY_TIMEOUT = "body_timeout"
    NOT_FOUND = "not_found"
    METHOD = "method"


def reason_of(word: str) -> Reason:
    """The word as one of ours; a word of another part that is not listed here is `invalid_data`."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.INVALID_DATA
