"""The journal of a running worker: metrics for what happens all the time, a log line for what is rare.

A shard's gauges vanish when the shard is somebody else's, and not before: one that has stopped here and that nobody else has
taken keeps showing when it last moved, because a series that is absent alarms nobody (TRAPS 30).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.consumer.reader import Happening
from telemetry.log import Logger
from telemetry.metrics import CONSUMER_BEHIND_SECONDS, CONSUMER_FAILURES, CONSUMER_PROGRESS, CONSUMER_RECORDS, Metrics

_SILENT = {"idle", "subscribed", "subscription_ended", "processed", "checkpointed"}
_TROUBLE = {"failed", "stopped", "lost", "buried", "vanished", "blind", "subscription_lost", "busy"}
_STOP_KINDS = {"downstream", "permanent", "poison", "unavailable"}


@dataclass
class LoggedJournal:
    part: str
    metrics: Metrics
    log: Logger
    now_seconds: Callable[[], float] = time.time
    _stopped: set[str] = field(default_factory=set)

    def __call__(self, happening: Happening) -> None:
        if happening.what in ("checkpointed", "idle"):
            self.metrics.counter(CONSUMER_RECORDS, part=self.part).inc(happening.records)
            self.metrics.gauge(CONSUMER_BEHIND_SECONDS, part=self.part, shard=happening.shard_id).set(happening.behind_seconds)
            self.metrics.gauge(CONSUMER_PROGRESS, part=self.part, shard=happening.shard_id).set(self.now_seconds())
        self._forget_what_is_not_ours(happening)
        if happening.what in _TROUBLE:
            # A stop names its kind where others name a sequence number.
            kind = happening.position if happening.position in _STOP_KINDS else happening.what
            self.metrics.counter(CONSUMER_FAILURES, part=self.part, kind=kind).inc()
        if happening.what not in _SILENT:
            write = self.log.warning if happening.what in _TROUBLE else self.log.info
            write(
                happening.what,
                shard=happening.shard_id,
                position=happening.position,
                records=happening.records,
                detail=happening.detail,
            )

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
