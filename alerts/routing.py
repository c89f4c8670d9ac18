"""Alertmanager's configuration, made of the alerts: who is told how soon, what is told together, what is not told.

    page ──3 s──►  one webhook, the escalator's, for all of them: it knows policies and people, Alertmanager groups and silences
    ticket ─30 s─►
    Watchdog ────► each minute, as long as rules are evaluated and alerts get through: the dead man's switch

Rules
- What carries no severity is a page: a mistake is rather paged than lost.
- A cause is not told while a symptom fires that it explains (`Alert.explains`): the page names it. It is told once the symptom
  has gone and it has not. MonitorBlind explains nothing away: who is blind must hear what others see.
- Symptom and cause have to be able to mean the same exit: a Redis that fails is told though the canary misses its probes in the
  lake.
- A page that only follows from another of the same exit or door is not told beside it: nothing arrives, so it is stale, too.
- Pages of one alert go together, by policy; who joins later is told within `group_interval`.
- Alertmanager repeats only at a group's interval, and what it last told is some milliseconds younger than a multiple of that: a
  repeat is due a little before the interval in which it is wanted, or it comes one later.

Works on Alertmanager 0.25 and later; `amtool check-config` is content, and `amtool config routes test` says who gets what.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.alert import Alert
from alerts.watchdog import WATCHDOG
from telemetry.hops import EXITS

PAGES, TICKETS, HEARTBEAT = "pages", "tickets", "heartbeat"
TEST_PAGE = "TestPage"
# They say that nobody looks, not that something is so.
EXPLAIN_NOTHING = ("MonitorBlind",)
# A page that follows from another: of the same exit, or door, it says nothing that the other does not.
FOLLOWS = (("ExitStale", "CanaryLost", "exit"), ("CanarySlow", "IngestErrorsFastBurn", "hop"))
# The hops that are exits: an alert that names one by `hop` and has no `exit` means that.
EXIT_HOPS = (*EXITS, "backup")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: how long the first of a group waits for others, how soon a change of the group is told, and what lasts again."""

    wait: float
    interval: float
    repeat: float

    def said(self) -> dict[str, str]:
        words = {"group_wait": self.wait, "group_interval": self.interval, "repeat_interval": self.repeat}
        return {name: f"{round(seconds * 1000)}ms" for name, seconds in words.items()}


@dataclass(frozen=True, slots=True)
class Paces:
    # The wait is part of the 30 s in which a total outage pages (`alerts.proof`); a cause is named by annotation, not by waiting.
    page: Pace = Pace(wait=3.0, interval=5.0, repeat=240.0)
    ticket: Pace = Pace(wait=30.0, interval=60.0, repeat=4 * 3600.0)
    # Told at each second interval: once a minute.
    heartbeat: Pace = Pace(wait=0.0, interval=30.0, repeat=50.0)


def config_text(escalator: str, alerts: Sequence[Alert], paces: Paces | None = None) -> str:
    """`escalator`: its address, as "http://127.0.0.1:9095". JSON is YAML."""
    paces = paces or Paces()
    url = f"{escalator.rstrip('/')}/alertmanager"
    config: dict[str, Any] = {
        "route": {
            "receiver": PAGES,
            "group_by": ["alertname", "policy"],
            **paces.page.said(),
            "routes": [
                {
                    "receiver": HEARTBEAT,
                    "matchers": [f'alertname=~"{WATCHDOG}|{TEST_PAGE}"'],
                    "group_by": ["alertname"],
                    **paces.heartbeat.said(),
                },
                {"receiver": TICKETS, "matchers": ['severity=~"ticket|none"'], **paces.ticket.said()},
            ],
        },
        "receivers": [
            {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]} for name in (PAGES, TICKETS, HEARTBEAT)
        ],
        "inhibit_rules": list(_inhibitions(alerts)),
    }
    return json.dumps(config, indent=1) + "\n"


def _inhibitions(alerts: Sequence[Alert]) -> Iterator[dict[str, Any]]:
    for follows, first, label in FOLLOWS:
        # Not of alerts that have no such label: to Alertmanager two that lack it are equal in it.
        yield _inhibit([f'alertname="{first}"', f'{label}!=""'], [f'alertname="{follows}"', f'{label}!=""'], label)
    for alert in alerts:
        symptoms = sorted(set(alert.explains) - set(EXPLAIN_NOTHING))
        if alert.kind != "cause" or not symptoms:
            continue
        source, target = [f'alertname=~"{"|".join(symptoms)}"'], [f'alertname="{alert.name}"']
        if alert.hop in EXIT_HOPS:
            yield _inhibit([*source, f'exit=~"(web-)?{alert.hop}|"'], target)
            continue
        # Of one exit, or one of the two is of no exit in particular.
        yield _inhibit(source, target, "exit")
        yield _inhibit([*source, 'exit=""'], target)
        yield _inhibit(source, [*target, 'exit=""'])


def _inhibit(source: Sequence[str], target: Sequence[str], *equal: str) -> dict[str, Any]:
    return {"source_matchers": list(source), "target_matchers": list(target), **({"equal": list(equal)} if equal else {})}
