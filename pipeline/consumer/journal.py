"""The journal of a running worker: metrics for what happens all the time, a log line for what is rare.

A shard's gauges vanish when the shard is somebody else's, and not before: one that has stopped here and that nobody else has
taken keeps showing when it last moved, because a series that is absent alarms nobody (TRAPS 30).

A worker that holds no shard shows one all the same, named `NO_SHARD`: it is behind by as long as it has not been able to look
for shards, and by nothing while it can. So no worker reads as "no data", and none that is blind reads as well.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.consumer.reader import Happening
from telemetry.log import Logger
from telemetry.metrics import CONSUMER_BEHIND_SECONDS, CONSUMER_FAILURES, CONSUMER_PROGRESS, CONSUMER_RECORDS, Metrics

NO_SHARD = "none"
# A worker that looks for shards fails within this, or has looked with success.
BLIND_SECONDS_MAX = 30.0
_SILENT = {"idle", "subscribed", "subscription_ended", "processed", "checkpointed"}
_TROUBLE = {"failed", "stopped", "lost", "buried", "vanished", "blind", "subscription_lost", "busy"}
_STOP_KINDS = {"downstream", "permanent", "poison", "unavailable"}
_KINDS = (_TROUBLE - {"stopped"}) | _STOP_KINDS


@dataclass
class LoggedJournal:
    part: str
    metrics: Metrics
    log: Logger
    now_seconds: Callable[[], float] = time.time
    # Whose shards they are: for the log.
    stream: str = ""
    _stopped: set[str] = field(default_factory=set)
    # The first and the last time, of those that follow each other closely, that the shards could not be looked at.
    _blind: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Everything that it counts is there from the start, as zero."""
        self.metrics.counter(CONSUMER_RECORDS, part=self.part)
        for kind in sorted(_KINDS):
            self.metrics.counter(CONSUMER_FAILURES, part=self.part, kind=kind)
        self.metrics.gauge(CONSUMER_BEHIND_SECONDS, part=self.part, shard=NO_SHARD).set_function(self._blind_seconds)

    def __call__(self, happening: Happening) -> None:
        if happening.what in ("checkpointed", "idle"):
            self.metrics.counter(CONSUMER_RECORDS, part=self.part).inc(happening.records)
            self.metrics.gauge(CONSUMER_BEHIND_SECONDS, part=self.part, shard=happening.shard_id).set(happening.behind_seconds)
            self.metrics.gauge(CONSUMER_PROGRESS, part=self.part, shard=happening.shard_id).set(self.now_seconds())
        self._forget_what_is_not_ours(happening)
        if happening.what == "blind":
            now = self.now_seconds()
            goes_on = self._blind is not None and now - self._blind[1] <= BLIND_SECONDS_MAX
            self._blind = (self._blind[0] if self._blind and goes_on else now, now)
        if happening.what in _TROUBLE:
            # A stop names its kind where others name a sequence number.
            kind = happening.position if happening.position in _STOP_KINDS else happening.what
            self.metrics.counter(CONSUMER_FAILURES, part=self.part, kind=kind).inc()
        if happening.what not in _SILENT:
            write = self.log.warning if happening.what in _TROUBLE else self.log.info
            write(
                happening.what,
                hop=self.part,
                stream=self.stream,
                shard=happening.shard_id,
                sequence_number=happening.position if happening.position.isdigit() else "",
                position=happening.position,
                records=happening.records,
                detail=happening.detail,
            )

    def _blind_seconds(self) -> float:
        if self._blind is None or self.now_seconds() - self._blind[1] > BLIND_SECONDS_MAX:
            return 0.0
        return self.now_seconds() - self._blind[0]

    def _forget_what_is_not_ours(self, happening: Happening) -> None:
        if happening.what == "stopped":
            self._stopped.add(happening.shard_id)
            return
        stays = happening.what == "released" and happening.shard_id in self._stopped
        if happening.what in ("released", "lost", "ended", "handed_over") and not stays:
            for gauge in (CONSUMER_BEHIND_SECONDS, CONSUMER_PROGRESS):
                self.metrics.forget(gauge, part=self.part, shard=happening.shard_id)
        if happening.what in ("taken", "lost", "ended", "handed_over"):
            self._stopped.discard(happening.shard_id)
