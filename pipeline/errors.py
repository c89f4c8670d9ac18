"""What can go wrong, as types. Retryable and permanent are types, so that nobody decides by reading a text.

    SpillwayError
    ├── Retryable              the same call may succeed later
    │   ├── Throttled          the other side asks for less; it is not down
    │   ├── Unavailable        the other side did not answer, or answered that it is broken
    │   └── DeadlineExceeded   our own bound; whether it took effect is not known
    ├── Permanent              the same call will fail again
    │   ├── Refused            the caller may not do that (key, tenant)
    │   ├── InvalidEvent       this event can't be taken; carries a reason word
    │   ├── InvalidSchema      an event type or its options can't be used
    │   └── InvalidConfiguration
    ├── LeaseLost              somebody else owns the shard now: stop, and do not checkpoint
    └── Corrupt                stored bytes are not what was written

botocore's errors are translated once, in the adapters; ours become gRPC and HTTP status once, at the doors.
"""


class SpillwayError(Exception):
    """Base of every error that Spillway raises on purpose."""


class Retryable(SpillwayError):
    """The same call may succeed later. `retry_after_seconds` is the other side's hint, if it gave one."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Throttled(Retryable):
    """The other side asks for less. Not a reason to call it down."""


class Unavailable(Retryable):
    """The other side did not answer, or answered that it is broken."""


class DeadlineExceeded(Retryable):
    """Our own bound was reached. Whether the call took effect is not known."""


class Permanent(SpillwayError):
    """The same call will fail again."""


class Refused(Permanent):
    """The caller may not do that."""


class InvalidEvent(Permanent):
    """This event can't be taken. `reason` is one word of a bounded set, fit for a metric's label and an object's key."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidSchema(Permanent):
    """An event type, or its options, can't be used."""


class InvalidConfiguration(Permanent):
    """A setting is missing or wrong; the message names it and says what would be right."""


class LeaseLost(SpillwayError):
    """Somebody else owns the shard now: stop, and do not checkpoint."""


class Corrupt(SpillwayError):
    """Stored bytes are not what was written."""
