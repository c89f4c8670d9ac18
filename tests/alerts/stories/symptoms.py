"""What each symptom fires on by its deadline, and what looks like it and is not."""

from telemetry import metrics as m
from tests.alerts.story import PAGES, Change, Climb, Fires, Rate, Story, Then, Value

# The canary sees that a probe is overdue so long after the fault: measured 16 to 21 s on the live stack (canary/README.md).
SEEN_SECONDS = 18


def nothing_arrives(exit: str, after: int = SEEN_SECONDS) -> tuple[Change, ...]:
    return (
        Change(m.CANARY_OVERDUE_EVENTS, {"exit": exit}, Then((after, Value(0)), (0, Climb(1, 0.4)))),
        *(Change(m.CANARY_FRESHNESS_SECONDS, {"exit": exit}, Rate(0), suffix) for suffix in ("_bucket", "_count", "_sum")),
    )


STORIES: tuple[Story, ...] = (
    Story("all is well", (), quiet=PAGES, fault_seconds=900),
    Story(
        "Redis takes no writes, and can be read",
        (*nothing_arrives("redis"), Change(m.ETL_FAILURES, {"exit": "redis"}, Rate(0.2))),
        fires=(Fires("CanaryLost", {"exit": "redis"}), Fires("ExitStale", {"exit": "redis"}, by=200)),
        quiet=PAGES,
    ),
)
