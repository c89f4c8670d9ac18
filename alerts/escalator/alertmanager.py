"""What the escalator asks of Alertmanager: what it has, and to take a test page. API v2."""

import json
import urllib.error
import urllib.request
from typing import Any

from alerts.escalator.events import Verified
from alerts.escalator.intake import TEST_LABEL, InvalidMessage, verified_of
from alerts.escalator.state import TEST_PAGE
from alerts.escalator.words import iso

ANSWER_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 32 << 20


class Unanswered(Exception):
    """It did not answer, or not with what its API says."""


class Alertmanager:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def alerts(self) -> Verified:
        """Raises: Unanswered."""
        try:
            return verified_of(self._ask("/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true"))
        except InvalidMessage as exc:
            raise Unanswered(str(exc)) from exc

    def post_test(self, number: int, sent_at: float, lasts_seconds: float, console: str) -> None:
        """An alert that is over by itself, so that nothing stays behind. Posted again, it is the same alert.

        Raises:
            Unanswered: it did not take it.
        """
        labels = {
            "alertname": TEST_PAGE, "severity": "page", "kind": "watch", "owner": "pipeline", "policy": "default",
            "hop": "telemetry", TEST_LABEL: str(number),
        }  # fmt: skip
        annotations = {
            "summary": "The hourly test of the path from Alertmanager to the pager.",
            "feels": "Nothing: this is a test.",
            "dashboard": f"{console}/alerts",
            "runbook": f"{console}/runbooks/{TEST_PAGE}",
        }
        alert = {"labels": labels, "annotations": annotations, "startsAt": iso(sent_at), "endsAt": iso(sent_at + lasts_seconds)}
        self._ask("/api/v2/alerts", [alert])

    def _ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS_MAX) as answer:
                text = answer.read(ANSWER_BYTES_MAX)
            return json.loads(text) if text.strip() else None
        except urllib.error.HTTPError as exc:
            raise Unanswered(f"Alertmanager answered {exc.code}: {exc.read(300).decode(errors='replace').strip()}") from exc
        except (OSError, ValueError) as exc:
            raise Unanswered(f"Alertmanager at {self.url} does not answer: {getattr(exc, 'reason', exc)}") from exc
