"""All records as the file that Prometheus reads.

One interval sets the pace of all groups. A group must come round well within 5 minutes, since Prometheus takes a series that is
older than that for gone: hence the interval's bound.
"""

import json
from typing import Any

from telemetry.recording import bands, days, forecasts, golden
from telemetry.recording.record import Group, Record

GROUPS: tuple[Group, ...] = (golden.GROUP, days.GROUP, forecasts.GROUP, bands.GROUP)
RECORDS: tuple[Record, ...] = tuple(record for group in GROUPS for record in group.records)
# The labels of each name, of all its records together.
LABELS: dict[str, frozenset[str]] = {
    name: frozenset(label for record in RECORDS if record.name == name for label in record.labels)
    for name in dict.fromkeys(record.name for record in RECORDS)
}

INTERVAL_SECONDS = 30
INTERVAL_SECONDS_MAX = 60


def rules_text(interval_seconds: int = INTERVAL_SECONDS) -> str:
    """Prometheus' rules file, as JSON. The interval is how often the recent groups are evaluated: the scrape interval is right.

    Raises:
        ValueError: the interval is out of its bounds.
    """
    if not 1 <= interval_seconds <= INTERVAL_SECONDS_MAX:
        raise ValueError(f"an interval of {interval_seconds} s is not within 1 to {INTERVAL_SECONDS_MAX} s")
    return json.dumps({"groups": [_group(group, interval_seconds) for group in GROUPS]}, indent=1) + "\n"


def _group(group: Group, interval_seconds: int) -> dict[str, Any]:
    rules = [_rule(record) for record in group.records]
    limit = {"limit": group.series_max} if group.series_max else {}
    return {"name": group.name, "interval": f"{interval_seconds * group.times_slower}s", **limit, "rules": rules}


def _rule(record: Record) -> dict[str, Any]:
    return {"record": record.name, "expr": record.expr, **({"labels": dict(record.fixed)} if record.fixed else {})}
