"""The watch's own channels: PagerDuty's Events API v2, and a webhook. They go around Prometheus, Alertmanager and the escalator.

Source: PagerDuty, "Events API v2: send an alert event": routing_key, event_action, dedup_key, payload; 202 is success.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from alerts.watch.settings import WatchSettings
from alerts.watch.strikes import Message, Standing, Told, due
from telemetry import metrics as m
from telemetry.log import Logger
from telemetry.metrics import Metrics

SEND_SECONDS_MAX = 8.0
SUMMARY_CHARS_MAX = 1024

Send = Callable[[Message], None]


@dataclass(slots=True)
class Channel:
    name: str
    send: Send
    told: Told | None = None


# The channel of a watch that has none.
NOBODY = "none"


@dataclass(slots=True)
class Tellers:
    """Every channel that is configured, and what each was told."""

    channels: tuple[Channel, ...]
    metrics: Metrics
    log: Logger
    repeat_seconds: float
    _said_unheard: bool = field(default=False)

    @classmethod
    def of(cls, settings: WatchSettings, metrics: Metrics, log: Logger) -> "Tellers":
        channels = []
        if settings.pagerduty_key:
            channels.append(Channel("pagerduty", _pagerduty(settings)))
        if settings.webhook_url:
            # It would be told "over" after each start, and is no place where that means nothing.
            channels.append(Channel("webhook", _webhook(settings), Told(frozenset(), 0.0)))
        for name in [channel.name for channel in channels] or [NOBODY]:
            for outcome in ("sent", "failed"):
                metrics.counter(m.WATCH_MESSAGES, channel=name, outcome=outcome)
        return cls(tuple(channels), metrics, log, settings.repeat_seconds)

    def tell(self, standing: Standing, now: float) -> None:
        """Send to each channel what it does not know; what fails is sent at the next look."""
        for channel in self.channels:
            message = due(standing, channel.told, now, self.repeat_seconds)
            if message is None:
                continue
            try:
                channel.send(message)
            except (OSError, ValueError) as exc:
                self.metrics.counter(m.WATCH_MESSAGES, channel=channel.name, outcome="failed").inc()
                self.log.error("could not page", channel=channel.name, detail=_why(exc), message=message.summary)
                continue
            channel.told = Told(frozenset(message.paged), now)
            self.metrics.counter(m.WATCH_MESSAGES, channel=channel.name, outcome="sent").inc()
            self.log.warning("paged" if message.paged else "said that it is over", channel=channel.name, message=message.summary)
        if standing.paged and not self.channels and not self._said_unheard:
            self.metrics.counter(m.WATCH_MESSAGES, channel=NOBODY, outcome="failed").inc()
            remedy = "set SPILLWAY_WATCH_PAGERDUTY_KEY or SPILLWAY_WATCH_WEBHOOK_URL"
            self.log.error("nobody is paged: the watch has no channel", remedy=remedy, message=Message(standing.paged).summary)
        self._said_unheard = bool(standing.paged)


def _pagerduty(settings: WatchSettings) -> Send:
    def send(message: Message) -> None:
        event: dict[str, object] = {
            "routing_key": settings.pagerduty_key,
            "event_action": "resolve" if message.over else "trigger",
            "dedup_key": f"{settings.site}-watch",
        }
        if not message.over:
            event["payload"] = {
                "summary": message.summary[:SUMMARY_CHARS_MAX],
                "source": settings.site,
                "severity": "critical",
                "component": "watch",
                "custom_details": {**message.paged, "since": message.since, "next": "spillway watch --once; spillway status"},
            }
        _post(f"{settings.pagerduty_url}/v2/enqueue", event)

    return send


def _webhook(settings: WatchSettings) -> Send:
    def send(message: Message) -> None:
        status = "resolved" if message.over else "firing"
        told = {"site": settings.site, "status": status, "blind": dict(message.paged), "since": message.since}
        # `text` is what Slack and its like show.
        _post(settings.webhook_url, {**told, "text": message.summary})

    return send


def _post(url: str, body: dict[str, object]) -> None:
    """Raises: OSError: not taken. ValueError: no address."""
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(asked, timeout=SEND_SECONDS_MAX):
        return


def _why(exc: Exception) -> str:
    if isinstance(exc, urllib.error.HTTPError):
        return f"{exc.code}: {exc.read(300).decode('utf-8', 'replace')}"
    return f"{type(exc).__name__}: {exc}"
