"""A process's own digests, and their way to the bucket.

    recorder = Recorder.begin(part, worker, objects, metrics, log)
    recorder.tally.note(...)                      on the hot path
    recorder.end()                                after the last event

Rules
- Out of band: no event waits for a digest, and a bucket that is away changes nothing but what is known. What could not be written
  stays and is written later, in order, under the same key and with the same bytes, since the first attempt may have been stored.
- It starts without the bucket (TRAPS 12).
- Killed, it takes with it what it saw since its last segment, at most `SEGMENT_SECONDS`; whoever reads the segments sees that the
  last one is missing, and from when on nothing is known.
- What nobody foresaw is logged, counted, and tried again like a bucket that is away, but not for ever: a segment that fails so
  `SURPRISES_MAX` times is let go. Its number stays without a segment, which says that what was seen then is not accounted for.
"""

import secrets
import threading
import time
from collections.abc import Callable

from botocore.config import Config

from pipeline.backup.objects import Objects
from pipeline.errors import SpillwayError
from pipeline.ledger.segment import Segment, encode
from pipeline.ledger.tally import Taken, Tally
from telemetry.log import Logger
from telemetry.metrics import LEDGER_EVENTS, LEDGER_SEGMENTS, LEDGER_UNWRITTEN_SECONDS, Metrics

# A segment that does not come through goes with the next try; nobody waits for it.
CALLS = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1})
SEGMENT_SECONDS = 5.0
_FIRST_SECONDS = 0.5
END_SECONDS_MAX = 3.0
SURPRISES_MAX = 3


class Recorder:
    """`now` is the wall clock, in seconds."""

    def __init__(
        self,
        part: str,
        worker: str,
        objects: Objects,
        metrics: Metrics,
        log: Logger | None = None,
        *,
        now: Callable[[], float] = time.time,
        boot: str | None = None,
    ) -> None:
        self.tally = Tally()
        self._part, self._worker, self._objects, self._log, self._now = part, worker, objects, log, now
        self._boot = boot or f"{int(now() * 1000):x}{secrets.token_hex(3)}"
        self._began_at = self._written_to = now()
        self._number = 0
        # Made, and not known to be written: the next to go.
        self._pending: tuple[Segment, bytes] | None = None
        # How often that one failed in a way that nobody foresaw.
        self._surprises = 0
        self._written = metrics.counter(LEDGER_SEGMENTS, outcome="written")
        self._failed = metrics.counter(LEDGER_SEGMENTS, outcome="failed")
        self._events = metrics.counter(LEDGER_EVENTS)
        metrics.gauge(LEDGER_UNWRITTEN_SECONDS).set_function(lambda: max(0.0, self._now() - self._written_to))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def begin(cls, part: str, worker: str, objects: Objects, metrics: Metrics, log: Logger | None = None) -> "Recorder":
        recorder = cls(part, worker, objects, metrics, log)
        recorder._thread = threading.Thread(target=recorder._run, name="ledger", daemon=True)
        recorder._thread.start()
        return recorder

    def end(self, timeout_seconds: float = END_SECONDS_MAX) -> bool:
        """Write the last segment; whether that is known to be written."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                return False
        return self.write(last=True)

    def write(self, *, last: bool = False) -> bool:
        """Bring what was seen to the bucket; whether all of it is there. Once the last is written there are no others."""
        while True:
            try:
                if self._pending is None:
                    self._pending = self._made(last=last)
                segment, body = self._pending
                self._objects.put(segment.key, body, {})
            except SpillwayError as exc:
                self._failed.inc()
                if self._log is not None:
                    self._log.warning("a ledger segment is not written", segment=self._number - 1, detail=str(exc))
                return False
            except Exception as exc:  # noqa: BLE001 - or this process would account for nothing until it begins anew
                self._surprised(exc)
                return False
            self._written.inc()
            self._pending, self._written_to, self._surprises = None, segment.reaches_to, 0
            if segment.last or not last:
                return True

    def _surprised(self, exc: Exception) -> None:
        self._failed.inc()
        self._surprises += 1
        let_go = self._pending is None or self._surprises >= SURPRISES_MAX
        if self._log is not None:
            self._log.error(
                "a ledger segment failed as nobody foresaw",
                segment=self._number - 1,
                kind=type(exc).__name__,
                detail=str(exc),
                let_go=let_go,
            )
        if let_go:
            self._pending, self._surprises = None, 0

    def _made(self, *, last: bool) -> tuple[Segment, bytes]:
        # Before anything is taken out of the tally: if that is lost on the way, its number is missing.
        number, self._number = self._number, self._number + 1
        # Before the digests are taken: what comes in between is in the next one, too.
        reaches_to = self._now()
        taken: Taken = self.tally.take()
        self._events.inc(sum(digest.events for digest in taken.digests.values()))
        segment = Segment(
            self._part,
            self._worker,
            self._boot,
            number,
            self._began_at,
            reaches_to,
            last,
            taken.digests,
            sorted(taken.incomplete),
        )
        return segment, encode(segment)

    def _run(self) -> None:
        wait_seconds = _FIRST_SECONDS
        while not self._stop.wait(wait_seconds):
            self.write()
            wait_seconds = SEGMENT_SECONDS
