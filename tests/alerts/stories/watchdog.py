"""The watchers' own alerts."""

from telemetry import metrics as m
from tests.alerts.story import Change, Fires, Rate, Story

STORIES: tuple[Story, ...] = (
    Story(
        "Prometheus evaluates: the sign of life is there from the start, whatever happens",
        (Change(m.CANARY_SENT, {}, Rate(0)),),
        fires=(Fires("Watchdog"),),
        before_seconds=0,
    ),
)
