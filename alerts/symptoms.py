"""What users feel, S1 to S10 of the drill catalogue: these page.

- The canary is a user: what it does not get, users do not get. Its gauge of overdue probes tells of a dead exit in 20 s, while
  its verdict "lost" takes five minutes. Overdue counts only as long as it can look.
- An exit that nobody can look at is dead if the ETL can't write to it either; two witnesses. If only the canary can't look, it is
  the canary that is blind (`MonitorBlind`).
- The ledger's findings stand for an hour: what was lost does not mend itself by being forgotten.
"""

from alerts.alert import Alert
from telemetry import metrics as m
from telemetry.hops import EXITS

_EXITS = "|".join(EXITS)
# A look every 2 s that may take 8 s, a scrape later: older, and it can't look.
LOOKED_SECONDS_MAX = 16
# A query that looks at the stream every few seconds, and has not for so long.
BATCH_SECONDS_MAX = 16

_SENT = f'sum(increase({m.CANARY_SENT.name}{{outcome="accepted"}}[1m])) > 0'


def _blind(seconds: int) -> str:
    """Exits that the canary can't look at, though it sent what should be there."""
    looked = f'time() - max by (exit) ({m.CANARY_LOOKED.name}{{exit=~"{_EXITS}"}}) > {seconds}'
    never = f'max by (exit) (increase({m.CANARY_LOOKS.name}{{exit=~"{_EXITS}",outcome="failed"}}[1m])) > 0'
    return f"(({looked}) or (({never}) unless on (exit) {m.CANARY_LOOKED.name})) and on () ({_SENT})"


_OVERDUE = f'sum by (exit) ({m.CANARY_OVERDUE_EVENTS.name}{{exit=~"{_EXITS}"}}) > 0'
_STUCK = f"time() - max by (exit) (last_over_time({m.ETL_LAST_BATCH.name}[1h])) > {BATCH_SECONDS_MAX}"
_FAILING = f"sum by (exit) (increase({m.ETL_FAILURES.name}[1m])) > 0"

SYMPTOMS: tuple[Alert, ...] = (
    Alert(
        "CanaryLost",
        "S1",
        "symptom",
        "page",
        f"(({_OVERDUE}) unless on (exit) ({_blind(LOOKED_SECONDS_MAX)}))"
        f" or on (exit) (({_blind(LOOKED_SECONDS_MAX)}) and on (exit) (({_STUCK}) or ({_FAILING})))",
        "Nothing that was acknowledged arrives at {{ $labels.exit }}: probes are overdue, or nobody can read or write it.",
        "events are accepted and can't be found at this exit",
        within_seconds=30,
        slo="freshness-{exit}",
        absence="MonitorBlind",
        dashboard="spillway-canary",
    ),
)
