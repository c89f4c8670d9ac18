"""SLOs: what is promised, how much of the error budget is left, how fast it burns, and the SLI over each window of the alerts."""

from dashboards import slo_records as slo
from dashboards.page import Page, Panel, Query, Row

UID = "spillway-slo"
TRACES = "{ status = error }"
LEGEND = f"{{{{{slo.SLO}}}}}"
# Of the budget: less is worth a talk about what is risked next.
LEFT_MIN = 0.25
# A fast burn: 2 % of 30 days' budget in an hour. Source: Google, The Site Reliability Workbook, chapter 5.
FAST_BURN = 14.4
DAY_SECONDS = 86400


def page() -> Page:
    return Page(
        uid=UID,
        title="SLOs and error budgets",
        description="What is promised, how much of the error budget is left, and how fast it burns: as the alerts see it.",
        rows=(_left(), _burn(), _sli()),
        from_ago="now-6h",
    )


def _by_slo(name: str) -> str:
    return f"max by ({slo.SLO}) ({name})"


def _left() -> Row:
    allowed = f"{_by_slo(slo.ERROR_BUDGET)} * {_by_slo(slo.PERIOD_DAYS)} * {DAY_SECONDS}"
    return Row(
        "What is promised, and what is left",
        (
            Panel(
                "Error budget left",
                "percentunit",
                "Of what may fail in the period (30 days, rolling), the share that has not. Below 0 the promise is broken.",
                "Below a quarter: take no risks with that SLO. Below 0: mend before anything new.",
                (Query(_by_slo(slo.BUDGET_LEFT), LEGEND),),
                limit=LEFT_MIN,
                falling=True,
                below_zero=True,
                traces=TRACES,
            ),
            Panel(
                "Objective",
                "percentunit",
                "The share that must be good in the period.",
                "To change one, change its file in alerts/slo; its alerts and this page follow.",
                (Query(_by_slo(slo.OBJECTIVE), LEGEND),),
                kind="number",
                width=6,
                traces=TRACES,
                decimals=3,
            ),
            Panel(
                "Total failure that the period allows",
                "s",
                "The error budget as time: so long may everything fail in the period.",
                "An outage that lasts longer breaks the promise. Escalation must be quicker than that.",
                (Query(allowed, LEGEND),),
                kind="number",
                width=6,
                traces=TRACES,
            ),
        ),
    )


def _burn() -> Row:
    return Row(
        "How fast it burns",
        (
            Panel(
                "Burn rate now",
                "short",
                "How many times faster than allowed errors happen now. 1 uses the budget up exactly at the end of the period.",
                "Above 14.4 for minutes: an alert pages. Above 1 for days: one makes a ticket. Its runbook says what to look at.",
                (Query(_by_slo(slo.CURRENT_BURN), LEGEND),),
                limit=FAST_BURN,
                traces=TRACES,
            ),
            Panel(
                "Burn rate of the period",
                "short",
                "The same over the whole period: above 1 the promise is broken.",
                "Rising towards 1: see which window below it comes from.",
                (Query(_by_slo(slo.PERIOD_BURN), LEGEND),),
                limit=1.0,
                traces=TRACES,
            ),
        ),
    )


def _sli() -> Row:
    return Row(
        "SLI: what failed, over each window",
        tuple(
            Panel(
                f"Failed, over {window}",
                "percentunit",
                f"Share of what was bad in the last {window}: the series that the burn rate alerts of this window read.",
                "Bad in a short window only: it has just begun. In a long one only: it is over, and the budget is spent.",
                (Query(_by_slo(slo.error_ratio(window)), LEGEND),),
                width=8,
                traces=TRACES,
                decimals=3,
            )
            for window in slo.WINDOWS
        ),
    )
