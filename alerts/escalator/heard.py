"""What PagerDuty posts: who acknowledges or resolves an incident in its app has done so here.

Source: PagerDuty developer documentation, "Webhooks" (V3): one event a message, `event.event_type`, `event.data.incident_key`
(the dedup_key), `event.agent`; the header `X-PagerDuty-Signature` holds `v1=<hex of HMAC-SHA256(secret, body)>`, several with
commas while secrets change. What we told PagerDuty ourselves comes back, and changes nothing.
"""

import hashlib
import hmac
import json

from alerts.escalator.events import Acknowledge, Event, ResolveByHand
from alerts.escalator.intake import InvalidMessage


def is_signed(header: str, body: bytes, secret: str) -> bool:
    wanted = f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return any(hmac.compare_digest(given.strip().encode(), wanted.encode()) for given in header.split(","))


def events_of(body: bytes) -> list[Event]:
    """Empty: an event that says nothing about acknowledging.

    Raises:
        InvalidMessage: it is none of PagerDuty's.
    """
    try:
        event = json.loads(body)["event"]
        kind, data, agent = str(event["event_type"]), event.get("data") or {}, event.get("agent") or {}
        key, who = str(data.get("incident_key", "")), f"{agent.get('summary') or 'somebody'} (PagerDuty)"
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidMessage(f"no webhook message of PagerDuty (V3): {exc}") from exc
    if kind == "incident.acknowledged":
        return [Acknowledge(key, who)]
    return [ResolveByHand(key, who)] if kind == "incident.resolved" else []
