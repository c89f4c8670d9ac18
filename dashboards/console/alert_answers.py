"""What Prometheus, Alertmanager and the escalator say of alerts, as values of `alerting`; at most so many of each.

Whatever an answer lacks that it must have is a KeyError, ValueError or TypeError: who asked takes it for no answer.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboards import slo_records as slo
from dashboards.console.alerting import WATCHDOG, Budget, Channel, Firing, Health, Notice, Paged, Silence
from dashboards.console.sources import Json, Series

OPEN_MAX, HISTORY_MAX, SILENCES_MAX, CHANNELS_MAX = 500, 40, 60, 20
FIRING_MAX = 1000


def firing_of_alertmanager(answer: Json) -> tuple[Firing, ...]:
    """Of `/api/v2/alerts`."""
    found = [
        Firing(
            _texts(each["labels"]),
            _texts(each["annotations"]),
            seconds_of(each["startsAt"]),
            fingerprint=str(each["fingerprint"]),
            inhibited_by=tuple(map(str, each["status"]["inhibitedBy"])),
            silenced_by=tuple(map(str, each["status"]["silencedBy"])),
        )
        for each in answer
    ]
    return _most(found)


def firing_of_prometheus(answer: Json) -> tuple[Firing, ...]:
    """Of `/api/v1/alerts`: those that are pending, too."""
    found = [
        Firing(
            _texts(each["labels"]),
            _texts(each["annotations"]),
            seconds_of(each["activeAt"]),
            "pending" if each["state"] == "pending" else "firing",
        )
        for each in answer["data"]["alerts"]
    ]
    return _most(found)


def _most(found: Sequence[Firing]) -> tuple[Firing, ...]:
    """What pages is never left out for what does not."""
    order = sorted(found, key=lambda each: (each.name != WATCHDOG, not each.pages, each.kind != "symptom", each.since))
    return tuple(order[:FIRING_MAX])


def pages_of(answer: Json) -> tuple[Paged, ...]:
    return tuple(_paged(each) for each in answer["pages"])


def _paged(said: Mapping[str, Any]) -> Paged:
    state = said["state"]
    if state not in ("open", "acknowledged", "resolved"):
        raise ValueError(f"a page is {state}")
    levels = said.get("levels")
    return Paged(
        key=str(said["key"]),
        alert=str(said["alert"]),
        labels=_texts(said["labels"]),
        annotations=_texts(said["annotations"]),
        state=state,
        opened_at=float(said["opened_at"]),
        starts_at=_number(said.get("starts_at")),
        acknowledged_at=_number(said.get("acknowledged_at")),
        acknowledged_by=str(said.get("acknowledged_by") or ""),
        resolved_at=_number(said.get("resolved_at")),
        policy=str(said.get("policy") or ""),
        level=int(said.get("level") or 0),
        levels=len(levels) if isinstance(levels, list) else int(levels or 0),
        next_at=_number(said.get("next_at")),
        next=str(said.get("next") or ""),
        notified=tuple(
            Notice(float(each["at"]), int(each.get("level") or 0), str(each["who"]), str(each["channel"]), str(each["outcome"]),
                   str(each.get("detail") or ""), str(each.get("kind") or "trigger"))
            for each in said["notified"]
        ),
        own=said.get("series") == 0,
    )  # fmt: skip


def health_of(answer: Json) -> Health:
    deadman, test, outbox = answer["deadman"], answer["test_page"], answer["outbox"]
    return Health(
        now=_number(answer.get("now")),
        deadman=str(deadman["state"]),
        deadman_seen_at=_number(deadman.get("seen_at")),
        deadman_due_at=_number(deadman.get("due_at")),
        test_page=str(test["state"]),
        test_page_sent_at=_number(test.get("sent_at")),
        test_page_returned_at=_number(test.get("returned_at")),
        test_page_seconds=_number(test.get("seconds")),
        channels=tuple(
            Channel(str(each["name"]), str(each["state"]), _number(each.get("last_ok_at")), str(each.get("last_error") or ""),
                    bool(each.get("reaches_a_person", True)))
            for each in answer["channels"][:CHANNELS_MAX]
        ),
        waiting=int(outbox["pending"]),
        oldest_at=_number(outbox.get("oldest_at")),
        said=str(answer["said"]),
        durable=bool(answer.get("durable", True)),
    )  # fmt: skip


def silences_of(answer: Json) -> tuple[Silence, ...]:
    """Of `/api/v2/silences`: those in force, then those to come, then the newest that have ended."""
    order = ("active", "pending", "expired")
    found = [
        Silence(
            str(each["id"]),
            each["status"]["state"],
            tuple(_matcher(one) for one in each["matchers"]),
            seconds_of(each["startsAt"]),
            seconds_of(each["endsAt"]),
            str(each["createdBy"]),
            str(each["comment"]),
        )
        for each in answer
    ]
    return tuple(sorted(found, key=lambda each: (order.index(each.state), -each.ends_at))[:SILENCES_MAX])


def _matcher(said: Mapping[str, Any]) -> str:
    sign = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
    return f'{said["name"]}{sign[bool(said.get("isRegex")), bool(said.get("isEqual", True))]}"{said["value"]}"'


BUDGETS_QUERY = (
    f'{{__name__=~"{"|".join((slo.OBJECTIVE, slo.PERIOD_DAYS, slo.BUDGET_LEFT, slo.CURRENT_BURN))}",'
    f'sloth_service="{slo.SERVICE}"}}'
)


def budgets_of(series: Sequence[Series]) -> tuple[Budget, ...]:
    """Those with the least left first; what has no figure is not left out."""
    values: dict[str, dict[str, float]] = {}
    for each in series:
        values.setdefault(each.labels[slo.SLO], {})[each.labels["__name__"]] = each.last
    found = [
        Budget(name, said.get(slo.OBJECTIVE), said.get(slo.PERIOD_DAYS), said.get(slo.BUDGET_LEFT), said.get(slo.CURRENT_BURN))
        for name, said in values.items()
    ]
    return tuple(sorted(found, key=lambda each: (each.left is not None, each.left or 0.0, each.slo)))


def seconds_of(text: str) -> float:
    """Unix seconds of RFC 3339. Raises: ValueError: it is none."""
    # Go writes up to nine digits; Python reads six.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text)).replace("Z", "+00:00")).timestamp()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _texts(said: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in said.items()}
