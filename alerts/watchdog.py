"""The watchers' own alerts. `Watchdog` fires always: who expects it and does not get it knows that the path is broken."""

from alerts.alert import Alert

WATCHDOG = "Watchdog"

WATCHERS: tuple[Alert, ...] = (
    Alert(
        WATCHDOG,
        "",
        "watch",
        "none",
        "vector(1)",
        "Prometheus evaluates and Alertmanager is told.",
        "nothing: this is the sign of life that the escalator expects each minute",
        within_seconds=15,
        absence="MonitorBlind",
    ),
)
