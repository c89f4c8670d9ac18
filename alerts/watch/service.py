"""Looks again and again: asked by the process and by the command."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from alerts.watch.ask import look
from alerts.watch.judge import Outcome, Report
from alerts.watch.settings import WatchSettings
from alerts.watch.strikes import Standing, advance, settled
from alerts.watch.tell import Tellers
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics


@dataclass(slots=True)
class Watch:
    settings: WatchSettings
    metrics: Metrics
    log: Logger
    # None: nobody is paged.
    tellers: Tellers | None
    look: Callable[[WatchSettings], Report] = look
    standing: Standing = field(default_factory=Standing)
    latest: Report | None = None

    def step(self) -> Report:
        """One look, and what follows from it."""
        report = settled(self.standing, self.look(self.settings))
        before = self.latest.outcome if self.latest is not None else None
        self.standing, self.latest = advance(self.standing, report, self.settings.strikes), report
        for each in report.findings:
            self.metrics.gauge(m.WATCH_SIGHT, watcher=each.watcher).set(each.outcome is Outcome.OK)
        if report.outcome is not before:
            say = self.log.info if report.outcome is Outcome.OK else self.log.warning
            say("watched", outcome=report.outcome.value, detail=report.sentence)
        if self.tellers is not None:
            self.tellers.tell(self.standing, report.at)
        return report

    def run(self, stopping: threading.Event, seen: Callable[[Report], None] = lambda _: None) -> None:
        while not stopping.is_set():
            seen(self.step())
            stopping.wait(self.settings.every_seconds)

    def said(self) -> bytes:
        """For who asks the port: the last report, and who was paged about."""
        if self.latest is None:
            return b"{}"
        return json.dumps({**self.latest.json(), "paged": dict(self.standing.paged)}).encode()
