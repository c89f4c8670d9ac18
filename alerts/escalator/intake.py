"""What Alertmanager posts, as events: its webhook (version 4), and what its API says it has.

Source: Prometheus documentation, "Alertmanager configuration", webhook_config. Rules.
- A page is one alert name within one group; a group of several names makes several pages.
- `Watchdog` is a heartbeat and never a page. A `TestPage` that the escalator posted is a return, not a page.
- What the message left out (`truncatedAlerts`) may still fire: such a message opens pages and ends none.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from alerts.escalator.events import Event, Firing, PathTestReturned, Resolved, Verified, WatchdogHeard
from alerts.escalator.policy import DEFAULT, TICKET
from alerts.escalator.state import TEST_PAGE, WATCHDOG

ALERTS_MAX = 5000
TEXT_CHARS_MAX = 4000
TEST_LABEL = "test"


class InvalidMessage(Exception):
    """Not a message that Alertmanager sends; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class _Alert:
    name: str
    firing: bool
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: float


def events_of(body: Any) -> list[Event]:
    """Raises: InvalidMessage."""
    if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
        raise InvalidMessage("no list `alerts`: this takes the webhook message of Alertmanager, version 4")
    if str(body.get("version")) != "4":
        raise InvalidMessage(f"version is {body.get('version')!r}: this takes version 4 (Alertmanager 0.5 and newer)")
    if len(body["alerts"]) > ALERTS_MAX:
        raise InvalidMessage(f"more than {ALERTS_MAX} alerts in one message: set `max_alerts` of the webhook")
    group = _texts(body.get("groupLabels", {}), "groupLabels")
    partial = bool(body.get("truncatedAlerts", 0))
    by_name: dict[str, list[_Alert]] = {}
    for number, each in enumerate(body["alerts"]):
        alert = _alert(each, f"alerts[{number}]")
        by_name.setdefault(alert.name, []).append(alert)
    found: list[Event] = []
    for name, alerts in by_name.items():
        found += _of_name(name, alerts, group, partial)
    return found


def _of_name(name: str, alerts: list[_Alert], group: Mapping[str, str], partial: bool) -> list[Event]:
    firing = sorted((alert for alert in alerts if alert.firing), key=lambda alert: (alert.starts_at, alert.fingerprint))
    if name == WATCHDOG:
        return [WatchdogHeard()] if firing else []
    if name == TEST_PAGE:
        return [PathTestReturned(int(number)) for alert in firing if (number := alert.labels.get(TEST_LABEL, "")).isdigit()]
    subject = subject_of(name, group)
    if not firing:
        return [] if partial else [Resolved(subject)]
    labels = dict(sorted(set.intersection(*(set(alert.labels.items()) for alert in firing))))
    first = firing[0]
    members = tuple(sorted(alert.fingerprint for alert in firing))
    return [Firing(subject, name, labels, first.annotations, policy_name(labels), first.starts_at, members, partial)]


def verified_of(alerts: Any) -> Verified:
    """What `GET /api/v2/alerts` answered.

    Raises:
        InvalidMessage: something else.
    """
    if not isinstance(alerts, list):
        raise InvalidMessage("Alertmanager's /api/v2/alerts answered no list")
    active, mark = {}, ""
    for each in alerts:
        try:
            active[str(each["fingerprint"])] = each["status"]["state"] == "suppressed"
            if each["labels"]["alertname"] == WATCHDOG:
                mark = max(mark, str(each["updatedAt"]))
        except (KeyError, TypeError) as exc:
            raise InvalidMessage(f"Alertmanager's /api/v2/alerts answered an alert without {exc}") from exc
    return Verified(active, mark)


def _alert(told: Any, where: str) -> _Alert:
    if not isinstance(told, dict):
        raise InvalidMessage(f"{where} is no object")
    labels, annotations = (
        _texts(told.get("labels"), f"{where}.labels"),
        _texts(told.get("annotations", {}), f"{where}.annotations"),
    )
    status = told.get("status")
    if status not in ("firing", "resolved"):
        raise InvalidMessage(f"{where}.status is {status!r}: firing or resolved")
    if not labels.get("alertname"):
        raise InvalidMessage(f"{where}.labels has no alertname")
    fingerprint = told.get("fingerprint") or subject_of("", labels)
    return _Alert(
        labels["alertname"], status == "firing", str(fingerprint), labels, annotations, _time(told.get("startsAt"), where)
    )


def _texts(told: Any, where: str) -> dict[str, str]:
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise InvalidMessage(f"{where} is no object of texts")
    return {str(name): value[:TEXT_CHARS_MAX] for name, value in told.items()}


def _time(told: Any, where: str) -> float:
    try:
        at = datetime.fromisoformat(str(told).replace("Z", "+00:00"))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except ValueError as exc:
        raise InvalidMessage(f"{where}.startsAt is {told!r}: a time as 2026-11-26T04:00:00Z") from exc


def subject_of(alert: str, group: Mapping[str, str]) -> str:
    """Alert name, and a digest of the group's labels."""
    text = "\0".join(f"{name}\0{group[name]}" for name in sorted(group))
    return f"{alert}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def policy_name(labels: Mapping[str, str]) -> str:
    """Which policy an alert takes: tickets do not escalate, unless they name a policy of their own."""
    named = labels.get("policy", "")
    if labels.get("severity") == "ticket":
        return named if named and named != DEFAULT else TICKET
    return named or DEFAULT
