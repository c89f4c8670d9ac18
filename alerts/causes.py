"""What can be the cause of what users feel, K1 to K21 of the drill catalogue."""

from alerts.alert import Alert

CAUSES: tuple[Alert, ...] = ()
