"""The recorded series of SLOs, by the names and labels that Sloth gives them.

They are made by the rules of `alerts`, which dashboards do not import: what is read here is declared here, and a test holds that
both mean the same.
"""

SERVICE = "spillway"
SLO = "sloth_slo"
# Every series of an SLO has these.
LABELS = ("sloth_service", SLO, "sloth_id")

OBJECTIVE = "slo:objective:ratio"
ERROR_BUDGET = "slo:error_budget:ratio"
PERIOD_DAYS = "slo:time_period:days"
CURRENT_BURN = "slo:current_burn_rate:ratio"
PERIOD_BURN = "slo:period_burn_rate:ratio"
BUDGET_LEFT = "slo:period_error_budget_remaining:ratio"
# Windows of the SLI; each has a series of its own.
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
NAMES = (OBJECTIVE, ERROR_BUDGET, PERIOD_DAYS, CURRENT_BURN, PERIOD_BURN, BUDGET_LEFT)


def error_ratio(window: str) -> str:
    return f"slo:sli_error:ratio_rate{window}"
