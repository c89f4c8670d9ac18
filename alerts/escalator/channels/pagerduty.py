"""PagerDuty, Events API v2: trigger, acknowledge, resolve of one incident by its dedup_key, the page's key.

Source: PagerDuty developer documentation, "Events API v2" (overview, trigger events, change events): 202 is taken; 400 is
permanent; 429, 5xx and no answer are to be tried again. Rules.
- A trigger that is sent again, and those of later levels, join the same incident: the key is equal.
- The hourly test is a change event, which notifies nobody, or (`info`) an incident of the lowest severity, resolved at once.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import orjson

from alerts.escalator.channels.http import Sent, post
from alerts.escalator.state import Kind
from alerts.escalator.words import Message, iso

DEFAULT_URL = "https://events.pagerduty.com"
KEY_CHARS = 32
DEDUP_CHARS_MAX, SUMMARY_CHARS_MAX = 255, 1024
DETAIL_CHARS_MAX = 4000


@dataclass(frozen=True, slots=True)
class PagerDuty:
    name: str
    routing_key: str
    url: str = DEFAULT_URL
    test_as: Literal["change", "info"] = "change"
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "acknowledge", "resolve", "test"))

    def send(self, message: Message) -> Sent:
        if message.kind != "test":
            return self._post("/v2/enqueue", event_of(message, self.routing_key))
        if self.test_as == "change":
            return self._post("/v2/change/enqueue", change_of(message, self.routing_key))
        sent = self._post("/v2/enqueue", trigger_of(message, self.routing_key))
        return sent if sent.result != "ok" else self._post("/v2/enqueue", _about(message, self.routing_key, "resolve"))

    def _post(self, path: str, body: dict[str, Any]) -> Sent:
        return post(self.url + path, orjson.dumps(body), {"content-type": "application/json"})


def event_of(message: Message, routing_key: str) -> dict[str, Any]:
    return trigger_of(message, routing_key) if message.kind == "trigger" else _about(message, routing_key, message.kind)


def trigger_of(message: Message, routing_key: str) -> dict[str, Any]:
    links = list(message.links)
    links += [(text, url) for text, url in (("Acknowledge", message.acknowledge), ("Resolve", message.resolve)) if url]
    payload = {
        "summary": message.title[:SUMMARY_CHARS_MAX],
        "source": message.labels.get("instance") or f"spillway {message.hop}".strip(),
        "severity": message.severity,
        "timestamp": iso(message.since),
        "component": message.hop or "spillway",
        "group": message.labels.get("owner", "pipeline"),
        "class": message.alert,
        "custom_details": {
            **{_name(name): text[:DETAIL_CHARS_MAX] for name, text in message.facts.items()},
            "labels": dict(message.labels),
        },
    }
    return {
        **_about(message, routing_key, "trigger"),
        "payload": payload,
        "links": [{"href": url, "text": text} for text, url in links],
        "client": "Spillway",
        **({"client_url": client} if (client := dict(message.links).get("All pages", "")) else {}),
    }


def change_of(message: Message, routing_key: str) -> dict[str, Any]:
    payload = {
        "summary": message.title,
        "timestamp": iso(message.since),
        "source": "spillway",
        "custom_details": {"key": message.key},
    }
    return {"routing_key": routing_key, "payload": payload, "links": []}


def _about(message: Message, routing_key: str, action: str) -> dict[str, Any]:
    return {"routing_key": routing_key, "event_action": action, "dedup_key": message.key[-DEDUP_CHARS_MAX:]}


def _name(title: str) -> str:
    return title.lower().replace(" ", "_")
