"""What the escalator may be told: options of the command line, and `SPILLWAY_ESCALATOR_...` for the rest and for secrets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alerts.escalator.policy import FOLDER

PREFIX = "SPILLWAY_ESCALATOR_"


class InvalidSetting(Exception):
    """A setting can't be used; the text names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class EscalatorSettings:
    # So long after the last `Watchdog` the page MonitorBlind is opened; so long after the first start, if it was never heard.
    deadman_seconds: float = 100.0
    deadman_grace_seconds: float = 180.0
    # How often a test page takes the whole path; 0: never. So long it may take until it is back.
    test_every_seconds: float = 3600.0
    test_late_seconds: float = 120.0
    # The first one follows the first start after so long: the rest of the stack must be up.
    test_first_seconds: float = 60.0
    # How PagerDuty is told of it: `change` notifies nobody; `info` is an incident of the lowest severity, resolved at once.
    test_as: Literal["change", "info"] = "change"
    # How often Alertmanager is asked what it has.
    verify_seconds: float = 15.0
    # The address in signed links, as people's browsers reach it. Empty: the address that the escalator listens on.
    links: str = ""
    link_hours: float = 72.0
    # Asked of every program that does not come over a signed link, if set: `Authorization: Bearer`. Needed on other hosts.
    token: str = ""
    # Of PagerDuty's webhook (V3) that posts to /pagerduty: who acknowledges there has acknowledged here. Empty: it is not taken.
    pagerduty_webhook_secret: str = ""
    # Signs links. Empty: made once and kept in the data folder.
    secret: str = ""
    policies: Path = FOLDER


def load(env: Mapping[str, str] | None = None) -> EscalatorSettings:
    """Raises: InvalidSetting."""
    env = os.environ if env is None else env
    defaults = EscalatorSettings()
    test_as = env.get(f"{PREFIX}TEST_AS", "change")
    if test_as not in ("change", "info"):
        raise InvalidSetting(
            f"{PREFIX}TEST_AS is {test_as!r}: set change (notifies nobody) or info (an incident, resolved at once)"
        )
    return EscalatorSettings(
        _number(env, "DEADMAN_SECONDS", defaults.deadman_seconds, 1),
        _number(env, "DEADMAN_GRACE_SECONDS", defaults.deadman_grace_seconds, 1),
        _number(env, "TEST_EVERY_SECONDS", defaults.test_every_seconds, 0),
        _number(env, "TEST_LATE_SECONDS", defaults.test_late_seconds, 1),
        _number(env, "TEST_FIRST_SECONDS", defaults.test_first_seconds, 0),
        "info" if test_as == "info" else "change",
        _number(env, "VERIFY_SECONDS", defaults.verify_seconds, 1),
        env.get(f"{PREFIX}LINKS", "").rstrip("/"),
        _number(env, "LINK_HOURS", defaults.link_hours, 1),
        env.get(f"{PREFIX}TOKEN", ""),
        env.get(f"{PREFIX}PAGERDUTY_WEBHOOK_SECRET", ""),
        env.get(f"{PREFIX}SECRET", ""),
        Path(env.get(f"{PREFIX}POLICIES", FOLDER)),
    )


def _number(env: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = env.get(PREFIX + name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= 1e9:
        raise InvalidSetting(f"{PREFIX}{name} is {text!r}: set a number of at least {least:g}")
    return value
