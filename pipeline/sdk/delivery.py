"""What becomes of one sent event, told to its caller; and the three promises by name."""

import threading
import time
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import DeadlineExceeded, SpillwayError
from pipeline.sdk.answers import Accepted


class Semantics(Enum):
    """What sending an event promises.

    At most once: sent once, as fire-and-forget; acknowledged as soon as the collector has it in memory; nothing is sent again
    whose fate is unclear. Events may be lost, which is counted; none is doubled by us. Cheapest.

    At least once: acknowledged when the stream has it; sent again until then, with the same id. No event is lost while the
    process lives (with a spool: even if it dies); readers of the stream or the backup may see an event twice.

    Effectively once, the default: at least once on the way, and every exit keeps one of each (tenant, source, id). The ids
    make it so: they are made once per `send`. A caller who calls `send` again for the same thing, after a crash say, must
    pass the same `id` and `source` itself, or use a spool, which keeps them.
    """

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"
    EFFECTIVELY_ONCE = "effectively-once"


class Delivery:
    """Like a future: the answer to one event."""

    __slots__ = ("__weakref__", "_answer", "_error", "_settled", "id", "submitted_at")

    def __init__(self, id: str, settled: threading.Condition, submitted_at: float) -> None:
        self.id = id
        # Monotonic seconds.
        self.submitted_at = submitted_at
        self._settled = settled
        self._answer: Accepted | None = None
        self._error: SpillwayError | None = None

    def done(self) -> bool:
        return self._answer is not None or self._error is not None

    @property
    def error(self) -> SpillwayError | None:
        """Why the event was not delivered; None if it was, or if that is not known yet."""
        return self._error

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Block until the answer is there; False if it is not by then."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._settled:
            while not self.done():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0.0:
                    return False
                # Waking up now and then keeps Ctrl-C alive where an unbounded wait would not.
                self._settled.wait(min(1.0, left) if left is not None else 1.0)
        return True

    def result(self, timeout_seconds: float | None = None) -> Accepted:
        """Block until the event is acknowledged.

        Raises:
            InvalidEvent: rejected, with the reason word.
            Refused: the API key is not good. With a spool the event is kept and sent once the key is.
            Unavailable: (at most once) what became of it is not known, and it is not sent again.
            DeadlineExceeded: not acknowledged in this time. The client still tries, unless it said so by `done()`.
        """
        if not self.wait(timeout_seconds):
            raise DeadlineExceeded(f"event {self.id} is not acknowledged after {timeout_seconds} s; the client goes on trying")
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def _settle(self, outcome: Accepted | SpillwayError) -> None:
        """For the sender, which holds the lock and notifies."""
        if isinstance(outcome, Accepted):
            self._answer = outcome
        else:
            self._error = outcome


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events since the client was made: sent + recovered = the sum of all the others."""

    sent: int = 0
    # Found in the spool when the client was made.
    recovered: int = 0
    accepted: int = 0
    rejected: int = 0
    # At most once: lost, or not; it is not known.
    unclear: int = 0
    # Given up on: without a spool, after the deadline or at `close`.
    undelivered: int = 0
    pending: int = 0
