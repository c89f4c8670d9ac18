"""What a page says: what users feel, the probable cause and its hop, the budget that is left, and where to read on.

The cause is looked up by Prometheus itself when it makes the page: a template asks for the causes that are pending or firing and
can explain this symptom. A cause at another exit, or another door, than the symptom's explains nothing.
"""

from collections.abc import Iterable
from urllib.parse import quote

from alerts.alert import Alert
from telemetry.hops import EXITS

# Exits fail each for itself, and so do doors.
_APART = (f"^({'|'.join(EXITS)})$", "^(grpc|http)-door$")
NO_CAUSE = "none of the known causes is seen"
NO_BUDGET = "not known"
# In a template's string.
_REMAINING = 'slo:period_error_budget_remaining:ratio{sloth_slo=\\"$SLO\\"}'


def annotations(alert: Alert, alerts: Iterable[Alert], console: str) -> dict[str, str]:
    said = {
        "summary": alert.summary,
        "feels": alert.feels,
        "dashboard": f"{console}/d/{alert.dashboard}",
        "runbook": f"{console}/runbooks/{alert.name}",
    }
    if alert.severity != "page":
        return said
    said["cause"] = cause(alert.name, alerts)
    said["trace"] = f"{console}/traces" + (f"?q={quote(alert.traces)}" if alert.traces else "")
    if alert.slo:
        said["budget"] = budget(alert.slo)
    return said


def cause(symptom: str, alerts: Iterable[Alert]) -> str:
    """A template of Prometheus, in what 2.42 has."""
    names = "|".join(alert.name for alert in alerts if symptom in alert.explains)
    if not names:
        return NO_CAUSE
    ask = f'ALERTS{{kind="cause",alertname=~"{names}"}}'.replace('"', '\\"')
    elsewhere = " ".join(f'(and (match "{these}" $at) (match "{these}" .Labels.hop) (ne .Labels.hop $at))' for these in _APART)
    return (
        "{{ $at := or $labels.exit $labels.hop }}{{ $any := false }}"
        f'{{{{ range query "{ask}" }}}}'
        f"{{{{ if not (or {elsewhere}) }}}}{{{{ if $any }}}}; {{{{ end }}}}{{{{ $any = true }}}}"
        "{{ .Labels.alertname }}{{ if .Labels.hop }} at {{ .Labels.hop }}{{ end }} ({{ .Labels.alertstate }})"
        "{{ end }}{{ end }}"
        f"{{{{ if not $any }}}}{NO_CAUSE}{{{{ end }}}}"
    )


def budget(slo: str) -> str:
    """`slo` may have the alert's label `{exit}` or `{hop}` in its name."""
    label = next((label for label in ("exit", "hop") if f"{{{label}}}" in slo), "")
    name, query = slo, f'"{_REMAINING}"'.replace("$SLO", slo)
    if label:
        name = slo.replace(f"{{{label}}}", f"{{{{ $labels.{label} }}}}")
        query = f'(printf "{_REMAINING}" $labels.{label})'.replace("$SLO", slo.replace(f"{{{label}}}", "%s"))
    return (
        f"{{{{ with query {query} }}}}{{{{ . | first | value | humanizePercentage }}}} of the error budget of {name} is left"
        f"{{{{ else }}}}{NO_BUDGET}{{{{ end }}}}"
    )
