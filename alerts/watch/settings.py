"""Whom the watch asks, whom it pages, and what it takes for too late: from the environment, once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

PAGERDUTY_URL = "https://events.pagerduty.com"
PREFIX = "SPILLWAY_WATCH_"
# By watcher, the variable that says where it answers. `spillway up` sets them all.
ADDRESSES: Mapping[str, str] = {
    "prometheus": "SPILLWAY_PROMETHEUS_URL",
    "alertmanager": "SPILLWAY_ALERTMANAGER_URL",
    "escalator": "SPILLWAY_ESCALATOR_URL",
    "canary": "SPILLWAY_CANARY_URL",
    "ledger": "SPILLWAY_LEDGER_URL",
    "console": "SPILLWAY_CONSOLE_URL",
}


class InvalidSetting(Exception):
    """A setting can't be used; the text names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. What is older than this does not watch. Each is several times what is usual, and all together well below the three
    minutes within which a watcher's death is to be told."""

    answer: float = 4.0
    # Prometheus evaluates and scrapes every few seconds.
    evaluated: float = 60.0
    scraped: float = 60.0
    # Pages leave the escalator at once, or are tried again and again.
    outbox: float = 120.0
    # The canary reports each second, and looks at each exit every two while something is waited for.
    canary_report: float = 30.0
    canary_looked: float = 60.0
    # The ledger's rounds take seconds; a window is judged 100 s after it ends, or 120 s later if somebody has not spoken.
    ledger_round: float = 45.0
    ledger_judged: float = 300.0
    # Who has just begun knows nothing yet, for so long.
    begun: float = 180.0


@dataclass(frozen=True, slots=True)
class WatchSettings:
    # Watcher: where it answers; empty: not known, which is told. What this place does not have is not asked, and not missed.
    addresses: Mapping[str, str]
    every_seconds: float = 10.0
    # So many looks in a row have to find a watcher blind before somebody is paged.
    strikes: int = 2
    # Where a page goes, each if set: PagerDuty's Events API v2 with a routing key (the escalator's, if there is none of its own:
    # what matters is another way to it), and any webhook that takes JSON.
    pagerduty_url: str = PAGERDUTY_URL
    pagerduty_key: str = field(default="", repr=False)
    webhook_url: str = field(default="", repr=False)
    # Names this place in pages, and their dedup key: two places have two.
    site: str = "spillway"
    # A page that lasts is said again.
    repeat_seconds: float = 300.0
    escalator_token: str = field(default="", repr=False)
    limits: Limits = Limits()


def load(env: Mapping[str, str] | None = None) -> WatchSettings:
    """Raises: InvalidSetting."""
    env = os.environ if env is None else env
    without = tuple(name.strip() for name in env.get(f"{PREFIX}WITHOUT", "").split(",") if name.strip())
    unknown = sorted(set(without) - set(ADDRESSES))
    if unknown:
        raise InvalidSetting(f"{PREFIX}WITHOUT names {unknown[0]!r}; there are: {', '.join(ADDRESSES)}")
    return WatchSettings(
        addresses={name: env.get(variable, "").rstrip("/") for name, variable in ADDRESSES.items() if name not in without},
        every_seconds=_number(env, "EVERY_SECONDS", 10.0),
        strikes=int(_number(env, "STRIKES", 2.0)),
        pagerduty_url=(_either(env, "PAGERDUTY_URL") or PAGERDUTY_URL).rstrip("/"),
        pagerduty_key=_either(env, "PAGERDUTY_KEY"),
        webhook_url=env.get(f"{PREFIX}WEBHOOK_URL", ""),
        site=env.get(f"{PREFIX}SITE") or "spillway",
        repeat_seconds=_number(env, "REPEAT_SECONDS", 300.0),
        escalator_token=env.get("SPILLWAY_ESCALATOR_TOKEN", ""),
    )


def _either(env: Mapping[str, str], name: str) -> str:
    return env.get(f"{PREFIX}{name}") or env.get(f"SPILLWAY_ESCALATOR_{name}", "")


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(PREFIX + name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86_400:
        raise InvalidSetting(f"{PREFIX}{name} is {text!r}: set a number from 1 to 86400")
    return value
