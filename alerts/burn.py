"""Burn rates of the SLOs' budgets, in Sloth's names and labels, and the alerts that are made of them.

A burn rate of 1 uses up exactly the budget of the period. An alert fires while both a long window (it matters) and a short one
(it still goes on) burn faster than its factor: multi-window, multi-burn-rate. Source: Google, The Site Reliability Workbook,
chapter 5, "Alerting on SLOs", table 5-8, and its ticket windows; Sloth has the same (`slok/sloth`, windows of 30 days).

- The worst witness counts, so each SLI is one figure, and who falls silent hides nothing of what others see.
- Windows up to an hour are read from the counters. Longer ones are the mean of the five-minute ratio over them, as Sloth does for
  the period: cheap, and an hour without traffic weighs as much as a busy one.
- Time in which nobody looked has burned nothing: a window that is not full yet counts by as much of it as there is, or the first
  bad minute of a young pipeline would be worth a month.
- Total outages page sooner, by `alerts.symptoms`: windows alone need 52 s at 99.9 %.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alerts.alert import Alert
from alerts.slos import API, SERVICE, SLOS, Slo

SLI, OBJECTIVE, BUDGET, PERIOD = (
    "slo:sli_error:ratio_rate",
    "slo:objective:ratio",
    "slo:error_budget:ratio",
    "slo:time_period:days",
)
CURRENT, SPENT = "slo:current_burn_rate:ratio", "slo:period_burn_rate:ratio"
LEFT = "slo:period_error_budget_remaining:ratio"
INFO = "sloth_slo_info"


@dataclass(frozen=True, slots=True)
class Windows:
    """Burning `factor` times too fast in the long and in the short window."""

    severity: Literal["page", "ticket"]
    long: str
    short: str
    factor: float


# The budget that is gone when the long window is full: 14.4 x 1 h / 30 d = 2 %. Source: the workbook, table 5-8, row 1.
# 6 x 6 h / 30 d = 5 %: row 2. 1 x 3 d / 30 d = 10 %: row 3. 3 x 1 d / 30 d = 10 %: Sloth's fourth (`ticket quick`).
# Each short window is 1/12 of the long one: the workbook, "6: Multiwindow, Multi-Burn-Rate Alerts".
WINDOWS = (
    Windows("page", "1h", "5m", 14.4),
    Windows("page", "6h", "30m", 6.0),
    Windows("ticket", "1d", "2h", 3.0),
    Windows("ticket", "3d", "6h", 1.0),
)
SHORTEST = "5m"
FROM_COUNTERS = ("30m", "1h")
# Each with the step at which the five-minute ratio is read.
AVERAGED: Mapping[str, str] = {"2h": "1m", "6h": "1m", "1d": "1m", "3d": "2m"}
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
PERIOD_STEP = "5m"
# So many times more seldom than Prometheus scrapes, since windows of an hour move slowly; at least every four minutes, since what
# is older than five is gone.
TIMES_SLOWER, MEANS_TIMES_SLOWER, SLOW_SECONDS_MAX = 3, 12, 240


def groups(interval_seconds: int, slos: Iterable[Slo] = SLOS) -> list[dict[str, Any]]:
    """Prometheus' groups of recording rules."""
    made = []
    pace = f"{min(TIMES_SLOWER * interval_seconds, SLOW_SECONDS_MAX)}s"
    slow = f"{min(MEANS_TIMES_SLOWER * interval_seconds, SLOW_SECONDS_MAX)}s"
    for slo in slos:
        made += [
            {"name": f"sloth-slo-sli-recordings-{slo.id}", "interval": pace, "rules": _from_counters(slo)},
            {"name": f"sloth-slo-sli-windows-{slo.id}", "interval": slow, "rules": _averaged(slo)},
            {"name": f"sloth-slo-meta-recordings-{slo.id}", "interval": slow, "rules": _metadata(slo)},
        ]
    return made


def labels_of(slo: Slo) -> dict[str, str]:
    return {"sloth_service": SERVICE, "sloth_slo": slo.name, "sloth_id": slo.id, **dict(slo.labels)}


def selector(slo: Slo) -> str:
    return f'{{sloth_id="{slo.id}",sloth_service="{SERVICE}",sloth_slo="{slo.name}"}}'


def sli(slo: Slo, window: str) -> str:
    """The worst witness' share of bad events."""
    named = (f'label_replace({each.ratio(window)}, "witness", "{each.name}", "", "")' for each in slo.witnesses)
    return f"max({' or '.join(named)})"


def _record(slo: Slo, name: str, expr: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expr, "labels": {**labels_of(slo), **labels}}


def _from_counters(slo: Slo) -> list[dict[str, Any]]:
    made = [_record(slo, f"{SLI}{SHORTEST}", sli(slo, SHORTEST), sloth_window=SHORTEST)]
    for window in FROM_COUNTERS:
        minutes = f"max(sum_over_time(({_shortest(slo)} * 0 + 1)[{window}:1m])) or max({_shortest(slo)}) * 0"
        seen = f"({minutes}) / {_steps(window, '1m')}"
        made.append(_record(slo, f"{SLI}{window}", f"{sli(slo, window)} * clamp_max({seen}, 1)", sloth_window=window))
    return made


def _averaged(slo: Slo) -> list[dict[str, Any]]:
    made = []
    for window, step in {**AVERAGED, f"{slo.days}d": PERIOD_STEP}.items():
        # A subquery's steps lie on the clock: until the first of them has come nothing was seen, and nothing was burned.
        burned = f"max(sum_over_time({_shortest(slo)}[{window}:{step}])) or max({_shortest(slo)}) * 0"
        mean = f"({burned}) / {_steps(window, step)}"
        made.append(_record(slo, f"{SLI}{window}", mean, sloth_window=window))
    return made


def _shortest(slo: Slo) -> str:
    return f"{SLI}{SHORTEST}{selector(slo)}"


def _steps(window: str, step: str) -> int:
    length, pace = (int(each[:-1]) * _SECONDS[each[-1]] for each in (window, step))
    return length // pace


def _metadata(slo: Slo) -> list[dict[str, Any]]:
    on, where = "/ on (sloth_id, sloth_slo, sloth_service) group_left ()", selector(slo)
    return [
        _record(slo, OBJECTIVE, f"vector({slo.objective:.9g})"),
        _record(slo, BUDGET, f"vector({slo.budget:.9g})"),
        _record(slo, PERIOD, f"vector({slo.days})"),
        _record(slo, CURRENT, f"max without (sloth_window) ({SLI}5m{where} {on} {BUDGET}{where})"),
        _record(slo, SPENT, f"max without (sloth_window) ({SLI}{slo.days}d{where} {on} {BUDGET}{where})"),
        _record(slo, LEFT, f"1 - {SPENT}{where}"),
        _record(slo, INFO, "vector(1)", sloth_mode="spillway", sloth_objective=f"{slo.objective * 100:.7g}", sloth_spec=API),
    ]


# Alerts.


def fires(name: str, severity: Literal["page", "ticket"], by: str) -> str:
    """Which budgets burn too fast, of the SLOs that name this alert, by one of their labels: `hop`, `exit`."""
    chosen = [slo for slo in SLOS if name == (slo.page if severity == "page" else slo.ticket)]
    if not chosen:
        raise ValueError(f"no SLO names {name} as its {severity}: write it into spec.burn of a file in alerts/slo/")
    return " or ".join(f"({_one(slo, severity, by)})" for slo in chosen)


def _one(slo: Slo, severity: str, by: str) -> str:
    pairs = [each for each in WINDOWS if each.severity == severity]
    where = selector(slo)
    return " or ".join(
        f"(max by ({by}) ({SLI}{each.short}{where} > ({each.factor:g} * {slo.budget:.9g}))"
        f" and max by ({by}) ({SLI}{each.long}{where} > ({each.factor:g} * {slo.budget:.9g})))"
        for each in pairs
    )


BURNS: tuple[Alert, ...] = (
    Alert(
        "IngestErrorsSlowBurn", "", "symptom", "ticket", fires("IngestErrorsSlowBurn", "ticket", "hop"),
        "{{ $labels.hop }} answers {{ $value | humanizePercentage }} badly: the month's budget will not last.",
        "now and then a sender has to send again",
        # Of a total outage: 3 x 0.1 % of a day is 260 s, and means lag.
        within_seconds=600, slo="{hop}-availability", absence="MonitorBlind", dashboard="spillway-overview",
        traces="{ status = error }", policy="ticket",
    ),
    Alert(
        "FreshnessFastBurn", "", "symptom", "page", fires("FreshnessFastBurn", "page", "exit"),
        "{{ $value | humanizePercentage }} of what should be at {{ $labels.exit }} is late.",
        "readers of this exit miss the newest events",
        # 14.4 x 1 % of an hour is 518 s if nothing arrives; the paces of groups, and minutes that were not seen, besides.
        within_seconds=660, slo="freshness-{exit}", absence="MonitorBlind", dashboard="spillway-delivery",
        traces="{ duration > 10s }",
    ),
    Alert(
        "FreshnessSlowBurn", "", "symptom", "ticket", fires("FreshnessSlowBurn", "ticket", "exit"),
        "{{ $value | humanizePercentage }} of what should be at {{ $labels.exit }} is late: the month's budget will not last.",
        "readers of this exit now and then miss the newest events",
        # 3 x 1 % of a day.
        within_seconds=3600, slo="freshness-{exit}", absence="MonitorBlind", dashboard="spillway-delivery", policy="ticket",
    ),
    Alert(
        "DeliverySlowBurn", "", "symptom", "ticket", fires("DeliverySlowBurn", "ticket", "sloth_slo"),
        "{{ $value | printf \"%.2g\" }} of what was acknowledged is lost, again and again: the cause is still there.",
        "data that users were promised is missing at an exit",
        within_seconds=600, slo="durability", absence="MonitorBlind", dashboard="spillway-ledger", policy="ticket",
    ),
)  # fmt: skip
