"""Every query of every panel, asked of a real Prometheus that scrapes the stand-in pipeline and evaluates all rules."""

import math
import time

import pytest

from dashboards import cost, slo_records
from dashboards.queries import all_queries, resolve
from telemetry.hops import HOPS
from telemetry.recording import LABELS, RECORDS, Record, bands, forecasts
from tests.console.live import Live
from tests.dashboards.prometheus import Prometheus

pytestmark = pytest.mark.stack
# Long enough for two samples of a rate, as the live run has at its scrape interval.
WINDOW = "10s"
# What comes last: use of shards is a minute old before it counts, and 10 s more make the first forecast that can be judged.
LAST = forecasts.of(forecasts.FORECAST_ERROR, forecasts.SHARDS)
SAMPLES_WANTED, FILLED_SECONDS_MAX = 18, 120


@pytest.fixture(scope="module")
def scraped(world: Live) -> Prometheus:
    """Of the live world, at a moment when it is old enough and everybody answers: who misses one scrape has no gauges until the
    next."""
    server, ends = world.prometheus, time.monotonic() + FILLED_SECONDS_MAX
    budgets, answering = f"count({slo_records.BUDGET_LEFT})", "min(min_over_time(up[3s])) == 1"
    wanted = f"min(count_over_time(up[1m])) >= {SAMPLES_WANTED} and on () {LAST} and on () {budgets} and on () {answering}"
    while not (then := server.settled()).query(wanted):
        assert time.monotonic() < ends, "the stand-in is not scraped"
        time.sleep(0.5)
    return then


def test_every_query_is_answered(scraped: Prometheus) -> None:
    assert [] == [(uid, title, why, query) for uid, title, query in all_queries(WINDOW) if (why := trouble(scraped, query))]


def trouble(server: Prometheus, query: str) -> str:
    try:
        series = server.query(query)
    except ValueError as exc:
        return str(exc)
    if not series:
        return "empty"
    numbers = [float(each["value"][1]) for each in series]
    return "" if all(math.isfinite(number) for number in numbers) else "not a number"


def test_every_record_is_made_and_has_the_labels_that_it_declares(scraped: Prometheus) -> None:
    made: dict[str, set[str]] = {}
    for each in scraped.query('{__name__=~".+:.+:.+",__name__!~"slo:.+"}'):
        made.setdefault(each["metric"].pop("__name__"), set()).update(each["metric"])
    assert {name: set(labels) for name, labels in LABELS.items()} == made
    # Weeks and days have not gone by yet.
    due = [each for each in RECORDS if each.fixed.get("compared_with") not in (bands.WEEKS, bands.DAYS)]
    assert [] == [(each.title, why) for each in due if (why := trouble(scraped, selector(each)))]


def selector(record: Record) -> str:
    fixed = {"__name__": record.name, **record.fixed}
    return "{" + ",".join(f'{label}="{value}"' for label, value in fixed.items()) + "}"


@pytest.mark.parametrize(("query", "why"), [("no_such_metric", "empty"), ("0 / (up * 0)", "not a number")])
def test_an_empty_answer_is_seen(scraped: Prometheus, query: str, why: str) -> None:
    assert why == trouble(scraped, query)


def test_a_query_that_does_not_parse_is_seen(scraped: Prometheus) -> None:
    assert "parse error" in trouble(scraped, "sum(")


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: hop.name)
def test_choosing_a_worker_leaves_one_answer_and_choosing_nobody_leaves_none(scraped: Prometheus, hop: object) -> None:
    for signal in hop.signals.values():  # type: ignore[attr-defined]
        assert 1 == len(scraped.query(signal.at(WINDOW, ',worker=~".*"')))
        assert [] == scraped.query(signal.at(WINDOW, ',worker="nobody"'))


def test_fargate_costs_its_cpu_and_memory_whatever_flows(scraped: Prometheus) -> None:
    (fargate,) = [item for item in cost.items(on_demand=False) if item.name == "Fargate"]
    (answer,) = scraped.query(resolve(fargate.dollars_an_hour, WINDOW))
    assert pytest.approx(4 * 0.04048 + 8 * 0.004445) == float(answer["value"][1])
