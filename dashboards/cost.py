"""What a million events would cost on AWS at what flows now, by the list prices of `prices.json`.

Each service's dollars an hour come from measured rates (bytes, records, objects) and shards seen, times the price; divided by the
events that entered in an hour. An idle pipeline shows 0, though shards cost even then: see dollars an hour for that. Not counted:
RDS, ElastiCache, the Spark cluster, KMS, DynamoDB leases, traffic between zones and CloudWatch.

Assumed, as variables at the top of the page: how many vCPU and GB of memory the doors and workers take on Fargate, how many days
the backup is kept, how many objects a lake commit writes. A GB is 2^30 bytes.
"""

from dataclasses import dataclass

from dashboards.page import Ask, Page, Panel, Query, Row, Variable
from dashboards.prices import as_markdown, prices
from telemetry import metrics as m
from telemetry.hops import EXITS

UID = "spillway-cost"
ask = Ask()
GIB, HOUR_SECONDS, KIB = 1 << 30, 3600, 1024
HOURS_A_MONTH = 730
# Read by one enhanced fan-out consumer each, and by Firehose.
FANNED_OUT = "~web-events|events"
STREAMS = 3
# Source: Kinesis Data Streams pricing (25 KB), Firehose pricing (5 KB), both rounded up record by record.
PUT_UNIT_BYTES, FIREHOSE_STEP_BYTES, ON_DEMAND_STEP_BYTES = 25 * KIB, 5 * KIB, KIB

ASSUMED = (
    Variable("fargate_vcpu", "4", "Fargate vCPU", asked=True),
    Variable("fargate_memory_gb", "8", "Fargate memory GB", asked=True),
    Variable("backup_days", "30", "Backup kept, days", asked=True),
    Variable("objects_a_commit", "6", "Objects a lake commit", asked=True),
)

_BYTES, _RECORDS = m.KINESIS_WRITE_BYTES.name, m.KINESIS_SHARD_RECORDS.name


@dataclass(frozen=True, slots=True)
class Item:
    """One service's dollars an hour, as PromQL."""

    name: str
    dollars_an_hour: str


def _price(name: str) -> str:
    return f"$price_{name}"


def _an_hour(rate: str) -> str:
    return f"({rate}) * {HOUR_SECONDS}"


def _billed_gb(step_bytes: int, **labels: str) -> str:
    """GB an hour, with each record counted as at least one step. By stream's mean: exact if records are alike."""
    size = ask.rate(_BYTES, "stream", **labels)
    least = f"{ask.rate(_RECORDS, 'stream', **labels)} * {step_bytes}"
    return _an_hour(f"sum((({size}) >= ({least})) or ({least}))") + f" / {GIB}"


def _gb(**labels: str) -> str:
    return _an_hour(ask.rate(_BYTES, **labels)) + f" / {GIB}"


def _shards(stream: str = "") -> str:
    labels = {"stream": stream} if stream else {}
    return f"count(count by (stream, shard) ({ask.now('sum', _BYTES, 'stream, shard', **labels)}))"


def _put_units() -> str:
    """PUT payload units an hour: a unit for each record, more for those above 25 KB."""
    size, records = ask.rate(_BYTES, "stream"), ask.rate(_RECORDS, "stream")
    units = f"({size}) / {PUT_UNIT_BYTES}"
    return _an_hour(f"sum((({units}) >= ({records})) or ({records}))")


def items(on_demand: bool) -> tuple[Item, ...]:
    objects = (
        f"{ask.rate(m.BACKUP_OBJECTS.name)} + {ask.rate(m.ETL_BATCH_SECONDS.name + '_count', exit='lake')} * $objects_a_commit"
    )
    backed_up = _an_hour(ask.rate(_BYTES, stream=FANNED_OUT)) + f" / {GIB}"
    return (
        Item("Kinesis on demand", _on_demand()) if on_demand else Item("Kinesis provisioned", _provisioned()),
        Item("Firehose", f"{_billed_gb(FIREHOSE_STEP_BYTES, stream=FANNED_OUT)} * {_price('firehose_gb')}"),
        Item("S3 requests", f"{_an_hour(objects)} / 1000 * {_price('s3_put_thousand')}"),
        # What an hour adds is kept for so many days: its whole price is laid on that hour.
        Item("S3 backup storage", f"{backed_up} * {_price('s3_storage_gb_month')} * $backup_days * 24 / {HOURS_A_MONTH}"),
        Item(
            "Fargate",
            f"{ask.rate(m.DOOR_EVENTS.name)} * 0 + $fargate_vcpu * {_price('fargate_vcpu_hour')}"
            f" + $fargate_memory_gb * {_price('fargate_gb_hour')}",
        ),
        # A LCU is a GB an hour; connections and rules stay below that here.
        Item("Load balancer", f"{_gb(stream=FANNED_OUT)} * {_price('alb_lcu_hour')} + {_price('alb_hour')}"),
    )


def _provisioned() -> str:
    return (
        f"{_shards()} * {_price('kinesis_shard_hour')}"
        f" + {_put_units()} / 1e6 * {_price('kinesis_put_units_million')}"
        f" + {_shards(FANNED_OUT)} * {_price('kinesis_fan_out_shard_hour')}"
        f" + {_gb(stream=FANNED_OUT)} * {_price('kinesis_fan_out_gb')}"
    )


def _on_demand() -> str:
    """Each exit reads `events-clean` for itself; Firehose reads the other two streams."""
    return (
        f"{STREAMS} * {_price('kinesis_on_demand_stream_hour')}"
        f" + {_billed_gb(ON_DEMAND_STEP_BYTES)} * {_price('kinesis_on_demand_write_gb')}"
        f" + ({len(EXITS)} * {_gb(stream='events-clean')} + {_gb(stream=FANNED_OUT)}) * {_price('kinesis_on_demand_read_gb')}"
        f" + {_gb(stream=FANNED_OUT)} * {_price('kinesis_on_demand_fan_out_gb')}"
    )


ENTERED_AN_HOUR = _an_hour(ask.rate(m.DOOR_EVENTS.name, door="grpc", status="~accepted|queued"))


def _per_million(dollars_an_hour: str) -> str:
    return f"1e6 * ({dollars_an_hour}) / (({ENTERED_AN_HOUR}) > 0) or ({ENTERED_AN_HOUR}) * 0"


def _total(on_demand: bool) -> str:
    return " + ".join(f"({item.dollars_an_hour})" for item in items(on_demand))


def page() -> Page:
    known = prices()
    constants = tuple(Variable(f"price_{each.name}", f"{each.price:g}", each.unit) for each in known.prices)
    dated = f"List prices {known.region}, as known on {known.as_known_on}, {'' if known.verified else 'not '}verified."
    return Page(
        uid=UID,
        title="Cost per million events",
        description=f"What the present traffic would cost on AWS, for a million events. {dated}",
        rows=(
            Row("A million events", _per_million_panels(dated)),
            Row("An hour", _hourly_panels(dated)),
            Row(
                "Prices and what is assumed",
                (Panel("Prices", "short", "", "", (), "text", width=24, height=14, text=as_markdown(known)),),
            ),
        ),
        variables=(*ASSUMED, *constants),
    )


def _per_million_panels(dated: str) -> tuple[Panel, ...]:
    do = "Falls with bigger batches and fuller shards. The biggest line is the one to work on."
    return (
        Panel(
            "A million events, provisioned shards",
            "currencyUSD",
            f"All services that are counted, with Kinesis paid by the shard. {dated}",
            do,
            (Query(_per_million(_total(on_demand=False)), "a million"),),
            "number",
            width=6,
            height=8,
            hop="kinesis",
            decimals=2,
        ),
        Panel(
            "A million events, on demand",
            "currencyUSD",
            f"All services that are counted, with Kinesis on demand. {dated}",
            "Cheaper than provisioned only while the shards are mostly empty: compare.",
            (Query(_per_million(_total(on_demand=True)), "a million"),),
            "number",
            width=6,
            height=8,
            hop="kinesis",
            decimals=2,
        ),
        Panel(
            "A million events, by service",
            "currencyUSD",
            f"What each service takes of it. {dated}",
            do,
            tuple(
                Query(_per_million(item.dollars_an_hour), item.name)
                for item in (*items(on_demand=False), items(on_demand=True)[0])
            ),
            width=12,
            hop="kinesis",
        ),
    )


def _hourly_panels(dated: str) -> tuple[Panel, ...]:
    return (
        Panel(
            "Dollars an hour, by service",
            "currencyUSD",
            f"What runs up whether events come or not. {dated}",
            "Large while idle: fewer shards, or on demand.",
            tuple(Query(item.dollars_an_hour, item.name) for item in (*items(on_demand=False), items(on_demand=True)[0])),
            hop="kinesis",
        ),
        Panel(
            "Events in a Kinesis record",
            "short",
            "Events that entered for each record of `events`. Joined records cost less at Kinesis and far less at Firehose.",
            "Near 1: producers send single events, or the doors do not wait to join them.",
            (
                Query(
                    f"{ask.rate(m.DOOR_EVENTS.name, door='grpc', status='~accepted|queued')}"
                    f" / ({ask.rate(_RECORDS, stream='events')} > 0) or {ask.rate(_RECORDS, stream='events')} * 0",
                    "events",
                ),
            ),
            hop="kinesis",
        ),
    )
