"""What can become of an event at its sender, in words: labels of metrics, attributes of spans."""

from enum import StrEnum
from typing import NamedTuple

from pipeline.errors import InvalidEvent, SpillwayError, Unavailable
from pipeline.sdk.answers import Accepted


class Fate(StrEnum):
    ACCEPTED = "accepted"
    # By the collector, by name: it will never take it.
    REJECTED = "rejected"
    # At most once: lost, or not; it is not known.
    UNCLEAR = "unclear"
    # Without a spool: after the deadline, at `close`, or with a key that is refused.
    GIVEN_UP = "given_up"
    # `send` raised: no room, no disk, too large, closed. The caller still has it.
    NOT_TAKEN = "not_taken"


class Counts(NamedTuple):
    """How many events were taken and have now met each fate."""

    accepted: int = 0
    rejected: int = 0
    unclear: int = 0
    given_up: int = 0


def fate_of(outcome: Accepted | SpillwayError) -> Fate:
    """Of an event that was taken."""
    match outcome:
        case Accepted():
            return Fate.ACCEPTED
        case InvalidEvent():
            return Fate.REJECTED
        case Unavailable():
            return Fate.UNCLEAR
        case _:
            return Fate.GIVEN_UP
