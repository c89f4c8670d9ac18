"""Any program: a POST of JSON, with an `Idempotency-Key` and, if a secret is set, a signature over time and body.

`X-Spillway-Signature: t=<Unix seconds>,v1=<hex of HMAC-SHA256(secret, "<t>." + body)>`. The receiver computes the same, and
refuses what is older than some minutes.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from alerts.escalator.channels.http import Sent, post
from alerts.escalator.state import Kind
from alerts.escalator.words import Message


@dataclass(frozen=True, slots=True)
class Webhook:
    name: str
    url: str
    secret: str = ""
    clock: Callable[[], float] = time.time
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "acknowledge", "resolve"))

    def send(self, message: Message) -> Sent:
        body = orjson.dumps(body_of(message))
        headers = {"content-type": "application/json", "idempotency-key": message.id}
        if self.secret:
            headers["x-spillway-signature"] = signature(self.secret, round(self.clock()), body)
        return post(self.url, body, headers)


def signature(secret: str, at: int, body: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def body_of(message: Message) -> dict[str, Any]:
    return {
        "version": 1,
        "id": message.id,
        "key": message.key,
        "kind": message.kind,
        "alert": message.alert,
        "severity": message.severity,
        "who": message.who,
        "hop": message.hop,
        "title": message.title,
        "since": message.since,
        "facts": dict(message.facts),
        "labels": dict(message.labels),
        "links": [{"text": text, "href": url} for text, url in message.links],
        "acknowledge": message.acknowledge,
        "resolve": message.resolve,
    }
