"""Slack: an incoming webhook, with blocks.

Source: Slack API documentation, "Sending messages using incoming webhooks" and "Block Kit": a section's text holds at most 3000
characters, ten fields of 2000 each; `&`, `<` and `>` are written as entities.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from alerts.escalator.channels.http import Sent, post
from alerts.escalator.state import Kind
from alerts.escalator.words import Message

SECTION_CHARS_MAX, FIELD_CHARS_MAX, FIELDS_MAX = 3000, 2000, 10
_SIGN = {"trigger": ":rotating_light:", "acknowledge": ":eyes:", "resolve": ":white_check_mark:", "test": ":wrench:"}


@dataclass(frozen=True, slots=True)
class Slack:
    name: str
    url: str
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "acknowledge", "resolve"))

    def send(self, message: Message) -> Sent:
        headers = {"content-type": "application/json", "idempotency-key": message.id}
        return post(self.url, orjson.dumps(body_of(message)), headers)


def body_of(message: Message) -> dict[str, Any]:
    text = f"{_SIGN[message.kind]} *{escaped(message.title)}*"
    facts = message.facts
    if message.kind != "trigger":
        said = facts.get("Acknowledged" if message.kind == "acknowledge" else "Resolved", "")
        text = f"{_SIGN[message.kind]} {message.kind}d {escaped(said)}: {escaped(message.title)}"
        return {"text": text, "blocks": [_section(text)]}
    fields = [
        {"type": "mrkdwn", "text": _cut(f"*{escaped(name)}*\n{escaped(value)}", FIELD_CHARS_MAX)} for name, value in facts.items()
    ]
    links = [*message.links, ("Acknowledge", message.acknowledge), ("Resolve", message.resolve)]
    shown = " · ".join(f"<{url}|{escaped(name)}>" for name, url in links if url)
    blocks: list[dict[str, Any]] = [_section(text)]
    blocks += [{"type": "section", "fields": fields[at : at + FIELDS_MAX]} for at in range(0, len(fields), FIELDS_MAX)]
    return {"text": text, "blocks": [*blocks, *([_section(shown)] if shown else [])]}


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, SECTION_CHARS_MAX)}}


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
