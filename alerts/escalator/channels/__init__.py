"""Channels: how a page reaches somebody. Each is a name, the kinds of messages that it takes, and `send`.

    SPILLWAY_ESCALATOR_PAGERDUTY_KEY       integration key (Events API v2)    ..._PAGERDUTY_URL for another region or a stand-in
    SPILLWAY_ESCALATOR_SLACK_URL           incoming webhook
    SPILLWAY_ESCALATOR_WEBHOOK_URL         any program                        ..._WEBHOOK_SECRET signs
    SPILLWAY_ESCALATOR_EMAIL_TO            addresses, with commas             ..._SMTP_URL, ..._SMTP_FROM
    SPILLWAY_ESCALATOR_APPRISE_URL         a URL as apprise documents

A name in the middle makes another of that kind: `SPILLWAY_ESCALATOR_PAGERDUTY_LEAD_KEY` is the channel `pagerduty-lead`.
`console` and `log` are always there. To add a kind: a file with a class beside these, a line in `_KINDS`, and its variable in
`alerts.escalator.policy.VARIABLES`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol
from urllib.parse import urlsplit

from alerts.escalator.channels.http import Sent
from alerts.escalator.channels.mail import Mail
from alerts.escalator.channels.others import Apprise
from alerts.escalator.channels.pagerduty import DEFAULT_URL, KEY_CHARS, PagerDuty
from alerts.escalator.channels.slack import Slack
from alerts.escalator.channels.webhook import Webhook
from alerts.escalator.policy import VARIABLES
from alerts.escalator.settings import PREFIX, EscalatorSettings, InvalidSetting
from alerts.escalator.state import Kind
from alerts.escalator.words import Message

__all__ = ["Channel", "Console", "Log", "Sent", "configured"]


class Channel(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def tells(self) -> frozenset[Kind]: ...

    def send(self, message: Message) -> Sent:
        """Within seconds: bounded by the channel itself. Never raises for what the other side does."""


@dataclass(frozen=True, slots=True)
class Console:
    """The console's page shows what the escalator knows; nothing need be sent."""

    name: str = "console"
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger",))

    def send(self, message: Message) -> Sent:
        return Sent("ok", "shown")


@dataclass(frozen=True, slots=True)
class Log:
    write: Callable[[Message], None]
    name: str = "log"
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "acknowledge", "resolve"))

    def send(self, message: Message) -> Sent:
        self.write(message)
        return Sent("ok", "written")


def configured(env: Mapping[str, str], settings: EscalatorSettings) -> dict[str, Channel]:
    """Those that reach a person, by name.

    Raises:
        InvalidSetting: a variable can't be used.
    """
    found: dict[str, Channel] = {}
    for kind, variable in VARIABLES.items():
        head, _, tail = variable.rpartition("_")
        pattern = re.compile(rf"{head}(?:_([A-Z0-9]+))?_{tail}")
        for each in sorted(env):
            match = pattern.fullmatch(each)
            if match and env[each].strip():
                name = kind + (f"-{match[1].lower()}" if match[1] else "")
                found[name] = _KINDS[kind](name, env[each].strip(), each, env, settings)
    return found


def _pagerduty(name: str, value: str, variable: str, env: Mapping[str, str], settings: EscalatorSettings) -> Channel:
    if not re.fullmatch(rf"[A-Za-z0-9]{{{KEY_CHARS}}}", value):
        raise InvalidSetting(f"{variable} is no integration key of PagerDuty: {KEY_CHARS} letters and digits (Events API v2)")
    return PagerDuty(
        name, value, _url(env.get(f"{PREFIX}PAGERDUTY_URL", DEFAULT_URL), f"{PREFIX}PAGERDUTY_URL"), settings.test_as
    )


def _slack(name: str, value: str, variable: str, env: Mapping[str, str], settings: EscalatorSettings) -> Channel:
    return Slack(name, _url(value, variable))


def _webhook(name: str, value: str, variable: str, env: Mapping[str, str], settings: EscalatorSettings) -> Channel:
    return Webhook(name, _url(value, variable), env.get(variable.removesuffix("URL") + "SECRET", ""))


def _email(name: str, value: str, variable: str, env: Mapping[str, str], settings: EscalatorSettings) -> Channel:
    server, sender = env.get(f"{PREFIX}SMTP_URL", ""), env.get(f"{PREFIX}SMTP_FROM", "")
    if urlsplit(server).scheme not in ("smtp", "smtps"):
        raise InvalidSetting(f"{variable} is set, so {PREFIX}SMTP_URL must be too: smtp://user:password@host:587 or smtps://...")
    if "@" not in sender or "@" not in value:
        raise InvalidSetting(f"{variable} and {PREFIX}SMTP_FROM must be e-mail addresses")
    return Mail(name, value, sender, server)


def _apprise(name: str, value: str, variable: str, env: Mapping[str, str], settings: EscalatorSettings) -> Channel:
    return Apprise(name, value)


def _url(value: str, variable: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise InvalidSetting(f"{variable} is no address: set https://...")
    return value.rstrip("/")


_KINDS: dict[str, Callable[[str, str, str, Mapping[str, str], EscalatorSettings], Channel]] = {
    "pagerduty": _pagerduty, "slack": _slack, "webhook": _webhook, "email": _email, "apprise": _apprise,
}  # fmt: skip
