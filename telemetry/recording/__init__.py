"""Recording rules: what dashboards, alert rules and the console read instead of asking raw series again and again.

    python -m telemetry.recording --interval 5 --out rules.json     # Prometheus reads JSON as the YAML that it is

`golden` has each hop's four signals, `days` daily aggregates, `forecasts` days to each limit with the error of the forecast made
before, `bands` what each tenant usually sends of each type at this time. `record` says what a record is; `rules` makes the file.
"""

from telemetry.recording.record import Group, Record
from telemetry.recording.rules import GROUPS, INTERVAL_SECONDS_MAX, LABELS, RECORDS, rules_text

__all__ = ["GROUPS", "INTERVAL_SECONDS_MAX", "LABELS", "RECORDS", "Group", "Record", "rules_text"]
