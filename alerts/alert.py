"""What an alert is. Symptoms page, causes explain, and the watchers are watched.

An alert is data: `alerts.symptoms`, `alerts.causes` and `alerts.burn` list them, `alerts.rules` makes Prometheus' file of them,
`alerts.routing` Alertmanager's. Rules:

- A symptom is what users feel, and pages. A cause never pages: it is a ticket, is inhibited while a symptom that it explains is
  firing, and is named in that page's annotation `cause`.
- No alert is silent because its series is absent: it says so itself (`absent`, `or vector`), or another alert is named by
  `absence` that fires when that series is gone.
- Every expression is in what Prometheus 2.42 and 3.x share.
- `within_seconds` counts from the fault's first second, at a scrape and evaluation interval of 5 s, to firing. A test holds it.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["page", "ticket", "none"]
Kind = Literal["symptom", "cause", "watch"]

# Labels of every alert, beside those of its series: `severity`, `kind`, `owner`, `policy`, and `hop` (of the series, if any).
# Annotations of every alert: `summary`, `feels`, `dashboard`, `runbook`; of pages also `cause`, `trace`, `budget` if it has one.


@dataclass(frozen=True, slots=True)
class Alert:
    # Named like its runbook: `alerts/runbooks/<name>.md`.
    name: str
    # In the drill catalogue: S1, K7; empty: not in it.
    id: str
    kind: Kind
    severity: Severity
    expr: str
    # One line, with the figures: a template of Prometheus (`{{ $labels.exit }}`, `{{ $value }}`).
    summary: str
    # What users feel; of a cause: what an engineer sees.
    feels: str
    # Seconds from the fault's begin until it fires, at most.
    within_seconds: int
    for_seconds: int = 0
    keep_firing_seconds: int = 0
    # The hop to look at, as in `telemetry.hops`; empty: the series say by their labels `hop` or `exit`.
    hop: str = ""
    # Of a cause: the symptoms that it can explain, by name.
    explains: tuple[str, ...] = ()
    # The SLO whose budget it burns, by name.
    slo: str = ""
    # The alert that fires if this one's series are gone; empty: this one does.
    absence: str = ""
    # Who mends it, and which escalation policy (`alerts/policies/<policy>.yaml`) a page of it takes.
    owner: str = "pipeline"
    policy: str = "default"
    # A dashboard's uid.
    dashboard: str = "spillway-overview"
    # TraceQL that finds what to read.
    traces: str = ""
