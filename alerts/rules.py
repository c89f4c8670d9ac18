"""All alerts, and the file of rules that Prometheus reads (`python -m alerts` writes it).

Every expression is written for the interval at which Prometheus scrapes and evaluates: `$scrapes` in it is a range of four
scrapes, the least in which a rate can be trusted (one may be lost, and two are needed).
"""

import json
import re
from typing import Any

from alerts.alert import Alert
from alerts.annotations import annotations
from alerts.burn import BURNS, groups
from alerts.causes import CAUSES
from alerts.symptoms import SYMPTOMS
from alerts.watchdog import WATCHERS

ALERTS: tuple[Alert, ...] = (*SYMPTOMS, *BURNS, *CAUSES, *WATCHERS)

INTERVAL_SECONDS, INTERVAL_SECONDS_MAX = 5, 60
CONSOLE = "http://127.0.0.1:8088"
SCRAPES = 4
# Alerts are evaluated more often than is scraped: a total outage pages within 30 s, and waiting for a round costs up to five.
ALERTS_TIMES_FASTER = 5
_RANGE = re.compile(r"\[(\d+)([smhd])(?=[\]:])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# How long Firehose gathers: 5 s on the local stack; with the time that it takes to write and to read an object.
BACKUP_BUFFER_SECONDS = 60
# One after the other, in one group: a page that fires in the same round as its cause finds it. Prometheus tells Alertmanager once
# of an alert, and again only after a minute.
_ORDER = ("cause", "symptom", "watch")


def rules_text(interval_seconds: int = INTERVAL_SECONDS, console: str = CONSOLE) -> str:
    """Prometheus' rules file, as JSON.

    Raises:
        ValueError: the interval is out of its bounds.
    """
    if not 1 <= interval_seconds <= INTERVAL_SECONDS_MAX:
        raise ValueError(
            f"an interval of {interval_seconds} s is not within 1 to {INTERVAL_SECONDS_MAX} s: as Prometheus scrapes"
        )
    made = groups(interval_seconds)
    rules = [_rule(alert, interval_seconds, console) for kind in _ORDER for alert in ALERTS if alert.kind == kind]
    pace = max(1, interval_seconds // ALERTS_TIMES_FASTER)
    made.append({"name": "spillway-alerts", "interval": f"{pace}s", "rules": rules})
    return json.dumps({"groups": made}, indent=1) + "\n"


def at(expr: str, interval_seconds: int) -> str:
    """The expression for this interval.

    `$scrapes` is the least range in which a rate can be trusted: one scrape may be lost, and two are needed. `$half`,
    `$minute` and `$minutes` are half a minute, one and three, but never less than that.
    """
    least = SCRAPES * interval_seconds
    ranges = {
        "$interval": interval_seconds,
        # Where a scrape that is lost changes nothing, since another sign is wanted besides.
        "$some": 3 * interval_seconds,
        "$scrapes": least,
        "$half": max(30, least),
        "$minute": max(60, least),
        "$minutes": max(180, 3 * least),
        "$stale": max(130, least),
        # Events that the stream took so long before, Firehose has to have written since.
        "$backup_all": BACKUP_BUFFER_SECONDS + 90,
        "$backup_before": max(60, least),
        "$backup_ago": BACKUP_BUFFER_SECONDS + 30,
    }
    # A range that is written out, too: with seldom scrapes it would see nothing.
    expr = _RANGE.sub(lambda match: match[0] if int(match[1]) * _SECONDS[match[2]] >= least else f"[{least}s", expr)
    for name in sorted(ranges, key=len, reverse=True):
        expr = expr.replace(name, f"{ranges[name]}s")
    return expr


def _rule(alert: Alert, interval_seconds: int, console: str) -> dict[str, Any]:
    labels = {"severity": alert.severity, "kind": alert.kind, "owner": alert.owner, "policy": alert.policy}
    return {
        "alert": alert.name,
        "expr": at(alert.expr, interval_seconds),
        **({"for": f"{alert.for_seconds}s"} if alert.for_seconds else {}),
        **({"keep_firing_for": f"{alert.keep_firing_seconds}s"} if alert.keep_firing_seconds else {}),
        "labels": {**labels, "hop": alert.hop or "{{ or $labels.hop $labels.exit }}"},
        "annotations": annotations(alert, ALERTS, console),
    }
