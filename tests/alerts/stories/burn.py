"""Budgets that burn: by the windows of the SLOs, with steps of 30 s and more. Partial outages of hours are measured elsewhere."""

from telemetry import metrics as m
from tests.alerts.healthy import CALM
from tests.alerts.stories.symptoms import arrives_after, not_answered
from tests.alerts.story import Change, Fires, Jump, Rate, Story, Then, killed, restarted

STEP = 30
# As much as makes windows of an hour meaningful.
BEFORE = 1200

STORIES: tuple[Story, ...] = (
    Story(
        "one collector is killed, another is deployed: some rounds are lost, and no budget to speak of",
        (
            *killed("grpc-1"),
            *restarted("http-1", 30, CALM),
            Change(m.CANARY_SENT, {"outcome": "unanswered"}, Jump(2)),
            Change(m.DOOR_EVENTS, {"door": "grpc", "status": "retry", "worker": "grpc-2"}, Jump(8)),
        ),
        quiet=("IngestErrorsFastBurn", "IngestErrorsSlowBurn", "FreshnessFastBurn", "FreshnessSlowBurn", "DeliverySlowBurn"),
        before_seconds=BEFORE,
        fault_seconds=600,
        step_seconds=STEP,
        budgets=True,
    ),
    Story(
        "a tenth of the answers at the gRPC door is `send it again`",
        (Change(m.DOOR_EVENTS, {"door": "grpc", "status": "retry"}, Rate(2.3)),),
        # 14.4 x 0.1 % of an hour is 518 s of a tenth; the mean of the short window and the pace of the groups besides.
        fires=(Fires("IngestErrorsFastBurn", {"hop": "grpc-door"}, by=900),),
        quiet=("FreshnessFastBurn",),
        before_seconds=BEFORE,
        step_seconds=STEP,
        budgets=True,
    ),
    Story(
        "the HTTP door answers only every second round, and is mended: its page is over when the short window is clean",
        not_answered("http", 0.5),
        fires=(Fires("IngestErrorsFastBurn", {"hop": "http-door"}, by=180, over_after=460),),
        before_seconds=BEFORE,
        # Longer, and the windows of 6 h and 30 min would hold it for half an hour.
        fault_seconds=180,
        after_seconds=480,
        step_seconds=STEP,
        budgets=True,
    ),
    Story(
        "the gRPC door is away for five minutes: a ticket besides the page",
        not_answered("grpc"),
        fires=(Fires("IngestErrorsSlowBurn", {"hop": "grpc-door"}),),
        step_seconds=STEP,
        budgets=True,
    ),
    Story(
        "every probe takes 20 s to the lake",
        arrives_after("lake", 20),
        fires=(Fires("FreshnessFastBurn", {"exit": "lake"}),),
        quiet=("IngestErrorsFastBurn", "DeliverySlowBurn"),
        step_seconds=STEP,
        budgets=True,
    ),
    Story(
        "every event takes two minutes to Redis, for most of an hour",
        tuple(
            Change(m.ETL_FRESHNESS_SECONDS, {"exit": "redis", "le": le}, Rate(0), "_bucket")
            for le in ("3.0", "5.0", "7.5", "10.0", "15.0", "20.0", "30.0", "45.0", "60.0")
        ),
        fires=(Fires("FreshnessSlowBurn", {"exit": "redis"}),),
        quiet=("DeliverySlowBurn", "IngestErrorsSlowBurn"),
        step_seconds=60,
        budgets=True,
    ),
    Story(
        "a twentieth of the events is late for ten minutes",
        tuple(
            Change(m.ETL_FRESHNESS_SECONDS, {"exit": "redis", "le": le}, Rate(48), "_bucket")
            for le in ("3.0", "5.0", "7.5", "10.0", "15.0", "20.0", "30.0", "45.0", "60.0")
        ),
        quiet=("FreshnessFastBurn", "FreshnessSlowBurn"),
        fault_seconds=600,
        step_seconds=60,
        budgets=True,
    ),
    Story(
        "one event of a hundred is lost, for minutes",
        (Change(m.LEDGER_FINDINGS, {"verdict": "LOST", "hop": "redactor"}, Rate(0.4)),),
        fires=(Fires("DeliverySlowBurn", {"sloth_slo": "durability"}),),
        quiet=("IngestErrorsSlowBurn",),
        step_seconds=60,
        budgets=True,
    ),
    Story(
        "what is late, doubled or not known is not lost",
        tuple(
            Change(m.LEDGER_WINDOWS, {"verdict": verdict}, Then((60, Rate(0.2)), (0, Rate(0)))) for verdict in ("LATE", "UNKNOWN")
        ),
        quiet=("DeliverySlowBurn",),
        step_seconds=60,
        budgets=True,
    ),
)
