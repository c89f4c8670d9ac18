"""The nines: how much time each objective leaves, and what each SLO has left of it now.

99 % of a year is 3.65 days, 99.999 % 5.26 minutes. A year has 365 days here, as in the table that everybody knows.
"""

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alerts import burn
from alerts.slos import Slo

DAY_SECONDS = 86400.0
PERIODS: Mapping[str, float] = {
    "year": 365 * DAY_SECONDS,
    "30 days": 30 * DAY_SECONDS,
    "week": 7 * DAY_SECONDS,
    "day": DAY_SECONDS,
}
NINES = (0.9, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 0.999999)
ASK_SECONDS_MAX = 10
_UNITS = (("days", DAY_SECONDS), ("hours", 3600.0), ("minutes", 60.0))


class NoAnswer(RuntimeError):
    """Prometheus did not answer, and why."""


def downtime_seconds(objective: float, period_seconds: float) -> float:
    """So long may everything be bad.

    Raises:
        ValueError: the objective is no share.
    """
    if not 0 <= objective <= 1:
        raise ValueError(f"an objective of {objective:g} is no share: write 0.999 for 99.9 %")
    return round(1 - objective, 12) * period_seconds


def words(seconds: float) -> str:
    """In the largest unit in which it is at least one: 3.65 days, 8.76 hours, 5.26 minutes."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds:.2f} seconds" if seconds >= 0.01 or not seconds else f"{seconds * 1000:.2f} ms"


def per_cent(share: float) -> str:
    return f"{share * 100:.7g} %"


@dataclass(frozen=True, slots=True)
class Budget:
    """What Prometheus knows of one SLO; None: nothing."""

    slo: Slo
    # Of the period's budget: 1 is all, below 0 more is spent than there was.
    left: float | None = None
    # 1: exactly the whole budget within the period.
    burn_rate: float | None = None

    @property
    def left_seconds(self) -> float | None:
        """Of total outage."""
        allowed = downtime_seconds(self.slo.objective, self.slo.days * DAY_SECONDS)
        return None if self.left is None else max(0.0, self.left * allowed)


def budgets(slos: Iterable[Slo], prometheus: str = "") -> tuple[Budget, ...]:
    """Raises: NoAnswer."""
    left = _by_slo(prometheus, burn.LEFT) if prometheus else {}
    rates = _by_slo(prometheus, burn.CURRENT) if prometheus else {}
    return tuple(Budget(slo, left.get(slo.name), rates.get(slo.name)) for slo in slos)


def _by_slo(prometheus: str, record: str) -> dict[str, float]:
    form = urllib.parse.urlencode({"query": record}).encode()
    try:
        with urllib.request.urlopen(f"{prometheus.rstrip('/')}/api/v1/query", form, timeout=ASK_SECONDS_MAX) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        values = {each["metric"]["sloth_slo"]: float(each["value"][1]) for each in found}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NoAnswer(
            f"Prometheus at {prometheus} does not say what is left ({exc}): start the stack with `spillway up`, or name another "
            "address by --prometheus"
        ) from exc
    # No number is not known; compared, it would be no less than 0.
    return {slo: value for slo, value in values.items() if not math.isnan(value)}
