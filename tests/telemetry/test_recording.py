"""The recording rules, checked by promtool and played stories whose ends are known: growth, steps, Mondays, silence.

Time begins on Thursday, 1 January 1970, so that day 4 is a Monday.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from telemetry import metrics as m
from telemetry.hops import HOPS
from telemetry.recording import GROUPS, INTERVAL_SECONDS_MAX, RECORDS, bands, days, forecasts, golden, rules_text
from telemetry.recording.__main__ import main
from tests.dashboards.prometheus import promtool

MINUTE, HALF_HOUR, HOUR, DAY = 60, 1800, 3600, 86400
# Prometheus takes a series for gone that is older.
LOOKBACK_SECONDS = 300
ANY_RECORD = '{__name__=~".+:.+:.+"}'
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Expect:
    """What a query says at the end of a story: values by labels, as promtool writes them."""

    expr: str
    values: Mapping[str, float]


def counted(pieces: Iterable[tuple[float, float]], step: int) -> str:
    """A counter's samples in promtool's words: (a second, for so many seconds), one after the other."""
    words, value = [], 0.0
    for per_second, seconds in pieces:
        count = round(seconds / step)
        words.append(f"{value:.10g}+{per_second * step:.10g}x{count - 1}")
        value += per_second * step * count
    return " ".join(words)


def level(pieces: Iterable[tuple[float, float, float]], step: int) -> str:
    """A gauge's samples: (from, growth a second, for so many seconds), one after the other."""
    words = []
    for start, per_second, seconds in pieces:
        sign = "-" if per_second < 0 else "+"
        words.append(f"{start:.10g}{sign}{abs(per_second) * step:.10g}x{round(seconds / step) - 1}")
    return " ".join(words)


def absent(seconds: float, step: int) -> str:
    return f"_x{round(seconds / step)}"


def of(metric: m.Metric | str, labels: Labels, suffix: str = "") -> str:
    name = metric if isinstance(metric, str) else metric.name
    return f"{name}{suffix}" + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def complaints(
    folder: Path,
    series: Mapping[str, str],
    expected: Sequence[Expect],
    *,
    at: int,
    step: int,
    evaluated: int | None = None,
    groups: Sequence[str] = (),
) -> str:
    """What promtool finds wrong with a story of samples each `step` seconds; empty if all is as expected."""
    rules = json.loads(rules_text())
    rules["groups"] = [group for group in rules["groups"] if not groups or group["name"] in groups]
    (folder / "rules.json").write_text(json.dumps(rules))
    story = {
        "interval": f"{step}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": each.expr,
                "eval_time": f"{at}s",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in each.values.items()],
            }
            for each in expected
        ],
    }
    told = {"rule_files": ["rules.json"], "evaluation_interval": f"{evaluated or step}s", "tests": [story]}
    (folder / "story.json").write_text(json.dumps(told))
    return promtool("test", "rules", str(folder / "story.json"))


# The file.


@pytest.mark.parametrize("interval", [1, 5, 30, INTERVAL_SECONDS_MAX])
def test_promtool_accepts_the_rules(tmp_path: Path, interval: int) -> None:
    assert 0 == main(["--interval", str(interval), "--out", str(tmp_path / "rules.json")])
    assert "" == promtool("check", "rules", "--lint-fatal", str(tmp_path / "rules.json"))


def test_without_a_file_the_rules_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main([])
    assert rules_text() == capsys.readouterr().out


@pytest.mark.parametrize("interval", [0, INTERVAL_SECONDS_MAX + 1])
def test_an_interval_that_leaves_gaps_between_samples_is_refused(interval: int) -> None:
    with pytest.raises(ValueError, match=f"{interval} s is not within 1 to {INTERVAL_SECONDS_MAX} s"):
        rules_text(interval)


def test_every_group_comes_round_before_its_series_count_as_gone() -> None:
    slowest = max(group.times_slower for group in GROUPS) * INTERVAL_SECONDS_MAX
    assert slowest < LOOKBACK_SECONDS


def test_every_record_says_what_it_is() -> None:
    assert [] == [each.name for each in RECORDS if not re.fullmatch(r"[a-z_]+:[a-z_0-9]+:[a-z_0-9]+", each.name)]
    assert [] == [each.name for each in RECORDS if not (each.title and each.unit)]
    assert [] == [each.name for each in RECORDS if not set(each.fixed) <= set(each.labels)]
    told_apart = [(each.name, *sorted(each.fixed.items())) for each in RECORDS]
    assert sorted(set(told_apart)) == sorted(told_apart)


def test_no_expression_is_read_differently_by_prometheus_3() -> None:
    # Renamed, or behind a flag of one of the two.
    changed = re.compile(r"\b(holt_winters|double_exponential_smoothing|limitk|limit_ratio|sort_by_label|info|mad_over_time)\b|@")
    assert [] == [each.name for each in RECORDS if changed.search(each.expr)]


def test_what_nobody_reports_is_absent(tmp_path: Path) -> None:
    series = {"up": "1x240"}
    assert "" == complaints(tmp_path, series, [Expect(ANY_RECORD, {})], at=HOUR, step=30)


def test_a_wrong_end_of_a_story_is_seen(tmp_path: Path) -> None:
    series = {of(m.STORE_BYTES, {}): "1x10", of(m.STORE_LIMIT_BYTES, {}): "4x10"}
    use = forecasts.of(forecasts.USE, forecasts.STORE)
    found = complaints(tmp_path, series, [Expect(use, {use: 0.5})], at=MINUTE, step=30)
    assert "2.5E-01" in found


# Signals and days.


def test_each_hop_has_its_four_signals_and_they_are_the_hops_own() -> None:
    recorded = {(each.name, each.fixed["hop"]): each for each in RECORDS if each.name in golden.NAMES.values()}
    declared = {(golden.NAMES[kind], hop.name): signal for hop in HOPS for kind, signal in hop.signals.items()}
    assert {key: (signal.at("1m"), signal.unit) for key, signal in declared.items()} == {
        key: (each.expr, each.unit) for key, each in recorded.items()
    }


def test_a_door_that_is_busy_one_that_is_idle_and_one_that_is_not_there(tmp_path: Path) -> None:
    events, seconds, step = m.DOOR_EVENTS, m.DOOR_REQUEST_SECONDS, 10
    busy, idle = counted([(6.0, HOUR)], step), counted([(0.0, HOUR)], step)
    series = {
        of(events, {"door": "grpc", "status": "accepted"}): busy,
        of(events, {"door": "grpc", "status": "retry"}): counted([(2.0, HOUR)], step),
        of(seconds, {"door": "grpc", "le": "0.1"}, "_bucket"): busy,
        of(seconds, {"door": "grpc", "le": "+Inf"}, "_bucket"): busy,
    }
    expected = [
        Expect(golden.TRAFFIC, {of(golden.TRAFFIC, {"hop": "grpc-door"}): 8.0}),
        Expect(golden.ERRORS, {of(golden.ERRORS, {"hop": "grpc-door"}): 0.25}),
        Expect(f"round({golden.LATENCY}, 0.001)", {of("", {"hop": "grpc-door"}): 0.099}),
        Expect(golden.SATURATION, {}),
    ]
    assert "" == complaints(tmp_path, series, expected, at=HALF_HOUR, step=step)
    series = {name: idle for name in series}
    expected = [Expect(name, {of(name, {"hop": "grpc-door"}): 0.0}) for name in (golden.TRAFFIC, golden.ERRORS, golden.LATENCY)]
    assert "" == complaints(tmp_path, series, expected, at=HALF_HOUR, step=step)


def test_an_exit_is_full_when_its_batches_take_as_long_as_what_they_may_hold_or_when_one_hangs(tmp_path: Path) -> None:
    """Batches of 3 s each 5 s of at most 20; of 19 s each 20 s; and one that has been under way for three minutes."""
    step = 5
    minutes = 10 * MINUTE + step
    series = {}
    for exit, per_second, seconds in (("lake", 0.2, 3.0), ("rds", 0.05, 19.0)):
        series |= {
            of(m.ETL_BATCH_SECONDS, {"exit": exit}, "_count"): counted([(per_second, minutes)], step),
            of(m.ETL_BATCH_SECONDS, {"exit": exit}, "_sum"): counted([(per_second * seconds, minutes)], step),
            of(m.ETL_LAST_BATCH, {"exit": exit}): level([(0.0, 1.0, minutes)], step),
            of(m.ETL_BATCH_LIMIT_SECONDS, {"exit": exit}): level([(20.0, 0.0, minutes)], step),
        }
    stuck = {"exit": "redis"}
    series |= {
        of(m.ETL_BATCH_SECONDS, stuck, "_count"): counted([(0.0, minutes)], step),
        of(m.ETL_BATCH_SECONDS, stuck, "_sum"): counted([(0.0, minutes)], step),
        of(m.ETL_LAST_BATCH, stuck): level([(0.0, 1.0, 7 * MINUTE), (7.0 * MINUTE, 0.0, 3 * MINUTE + step)], step),
        of(m.ETL_BATCH_LIMIT_SECONDS, stuck): level([(20.0, 0.0, minutes)], step),
    }
    full = f'round({golden.NAMES["saturation"]}{{hop=~"lake|rds|redis"}}, 0.001)'
    values = {"lake": 3 / 20, "rds": 19 / 20, "redis": 3 * MINUTE / 20}
    expected = Expect(full, {of("", {"hop": hop}): value for hop, value in values.items()})
    assert "" == complaints(tmp_path, series, [expected], at=10 * MINUTE, step=step, groups=["spillway-golden"])


def test_a_day_adds_up_its_24_hours_and_no_more(tmp_path: Path) -> None:
    step = 30
    shard = {"stream": "events", "shard": "0"}
    # A quiet day and a half; the last 24 hours have one hour in which the shard is half full.
    busy_hour = [(0.1 * golden.SHARD_BYTES_PER_SECOND, 30 * HOUR), (0.5 * golden.SHARD_BYTES_PER_SECOND, HOUR)]
    busy_hour.append((0.1 * golden.SHARD_BYTES_PER_SECOND, 6 * HOUR))
    steady = [(1.0, 37 * HOUR)]
    series = {
        of(m.DOOR_TENANT_EVENTS, {"door": "grpc", "tenant": "a", "type": "t"}): counted(steady, step),
        # The same events, as the HTTP door saw them before the transcoder brought them.
        of(m.DOOR_TENANT_EVENTS, {"door": "http", "tenant": "a", "type": "t"}): counted(steady, step),
        of(m.KINESIS_WRITE_BYTES, shard): counted(busy_hour, step),
        of(m.KINESIS_SHARD_RECORDS, shard): counted([(50.0, 37 * HOUR)], step),
        of(m.DEAD_LETTERS, {"stage": "redactor", "reason": "rule"}): counted([(0.0, 14 * HOUR), (0.01, 23 * HOUR)], step),
        of(m.ETL_FRESHNESS_SECONDS, {"exit": "lake", "le": "10.0"}, "_bucket"): counted(steady, step),
        of(m.ETL_FRESHNESS_SECONDS, {"exit": "lake", "le": "+Inf"}, "_bucket"): counted(steady, step),
        of(m.ETL_FRESHNESS_SECONDS, {"exit": "rds", "le": "10.0"}, "_bucket"): counted([(0.0, 37 * HOUR)], step),
        of(m.ETL_FRESHNESS_SECONDS, {"exit": "rds", "le": "+Inf"}, "_bucket"): counted([(0.0, 37 * HOUR)], step),
    }
    expected = [
        Expect(f"round({days.EVENTS})", {'{tenant="a", type="t"}': DAY}),
        Expect(f"round({days.BYTES} / 1048576)", {'{stream="events"}': round(0.1 * DAY + 0.4 * HOUR)}),
        Expect(f"round({days.SHARD_PEAK}, 0.01)", {'{stream="events", shard="0"}': 0.5}),
        Expect(f"round({days.DEAD_LETTERS}, 10)", {'{stage="redactor", reason="rule"}': 0.01 * 22 * HOUR // 10 * 10}),
        Expect(f"round({days.FRESHNESS}, 0.1)", {'{exit="lake"}': 9.9, '{exit="rds"}': 0.0}),
    ]
    slow = ("spillway-golden", "spillway-days")
    assert "" == complaints(tmp_path, series, expected, at=36 * HOUR, step=step, evaluated=5 * MINUTE, groups=slow)


# Forecasts.

FORECASTS = ("spillway-forecasts",)


def shard_peaks(stories: Mapping[str, str]) -> dict[str, str]:
    """The daily peaks of one shard each, by stream."""
    return {of(days.SHARD_PEAK, {"stream": stream, "shard": "0"}): values for stream, values in stories.items()}


def test_days_to_the_limit_and_their_error_over_weeks(tmp_path: Path) -> None:
    step = 5 * MINUTE
    peaks = {
        "grows": level([(0.10, 0.01 / DAY, 35 * DAY)], step),
        "falls": level([(0.70, -0.01 / DAY, 35 * DAY)], step),
        "idle": level([(0.0, 0, 35 * DAY)], step),
        "full": level([(0.85, 0, 35 * DAY)], step),
        "steps": level([(0.20, 0, 33.5 * DAY), (0.60, 0, 2 * DAY)], step),
        "days old": absent(26 * DAY, step) + " " + level([(0.10, 0.02 / DAY, 9 * DAY)], step),
        "hours old": absent(34 * DAY - 3 * HOUR, step) + " " + level([(0.10, 0.01 / HOUR, 9 * HOUR)], step),
    }
    ends = {
        # (0.8 - 0.44) at 0.01 a day.
        "grows": Ends(36.0, "last 4 weeks", "1 day", 0.0),
        "falls": Ends(forecasts.DAYS_MAX, "last 4 weeks", "1 day", 0.0),
        "idle": Ends(forecasts.DAYS_MAX, "last 4 weeks", "1 day", 0.0),
        "full": Ends(0.0, "last 4 weeks", "1 day", 0.0),
        # Yesterday nobody could know.
        "steps": Ends(None, "last 4 weeks", "1 day", 0.4),
        # (0.8 - 0.26) at 0.02 a day.
        "days old": Ends(27.0, "last 7 days", "1 day", 0.0),
        # (0.8 - 0.13) at 0.24 a day.
        "hours old": Ends(2.8, "last hour", "1 hour", 0.0),
    }
    series = {of(days.SHARD_PEAK, {"stream": stream, "shard": "0"}): values for stream, values in peaks.items()}
    left = {end.labels(stream): end.days for stream, end in ends.items() if end.days is not None}
    errors = {end.labels(stream, ahead=end.ahead): end.error for stream, end in ends.items()}
    expected = [
        Expect(f'round({forecasts.DAYS_TO_LIMIT}{{stream!="steps"}}, 0.1)', left),
        Expect(f"round({forecasts.FORECAST_ERROR}, 0.01)", errors),
        # Of the store and of readers nothing was reported.
        Expect(f'{{__name__=~"(resource|part):.+",resource!="{forecasts.SHARDS}"}}', {}),
    ]
    assert "" == complaints(tmp_path, series, expected, at=34 * DAY, step=step, evaluated=HOUR, groups=FORECASTS)


@dataclass(frozen=True)
class Ends:
    """How a forecast ends: days left (None: not asked), and the error of the forecast made so long ago."""

    days: float | None
    fitted_to: str
    ahead: str
    error: float

    def labels(self, stream: str, **more: str) -> str:
        return of("", {"resource": forecasts.SHARDS, "stream": stream, "fitted_to": self.fitted_to, **more})


def test_a_weekly_rhythm_is_no_growth(tmp_path: Path) -> None:
    # Thursday, Friday, a quiet weekend, Monday to Wednesday; on Wednesday evening a line through this week would rise.
    week = [(0.5, 0, 2 * DAY), (0.3, 0, 2 * DAY), (0.5, 0, 3 * DAY)]
    series = {of(days.SHARD_PEAK, {"stream": "events", "shard": "0"}): level(week * 5, 5 * MINUTE)}
    growth, use = forecasts.of(forecasts.GROWTH, forecasts.SHARDS), forecasts.of(forecasts.USE, forecasts.SHARDS)
    this_week = f"deriv({use}[4d]) * {DAY} > bool 0.05"
    expected = [
        Expect(f"abs({growth}) < bool 0.002", {Ends(None, "last 4 weeks", "", 0).labels("events"): 1.0}),
        Expect(this_week, {of("", {"resource": forecasts.SHARDS, "stream": "events"}): 1.0}),
    ]
    assert "" == complaints(
        tmp_path, series, expected, at=34 * DAY + 20 * HOUR, step=5 * MINUTE, evaluated=HOUR, groups=FORECASTS
    )


def test_a_store_that_fills_and_a_reader_that_has_stopped(tmp_path: Path) -> None:
    step = MINUTE
    series = {
        # A tenth, and a hundredth more each hour.
        of(m.STORE_BYTES, {}): level([(100.0, 10 / HOUR, 6 * HOUR)], step),
        of(m.STORE_LIMIT_BYTES, {}): level([(1000.0, 0, 6 * HOUR)], step),
        of(m.CONSUMER_BEHIND_SECONDS, {"part": "redactor", "shard": "0"}): level([(0, 0, 3 * HOUR), (0, 1, 3 * HOUR)], step),
        of(m.CONSUMER_BEHIND_SECONDS, {"part": "redactor", "shard": "1"}): level([(2, 0, 6 * HOUR)], step),
        of(m.CONSUMER_BEHIND_SECONDS, {"part": "transcoder", "shard": "0"}): level([(1, 0, 6 * HOUR)], step),
    }
    store, reader = {"resource": forecasts.STORE, "fitted_to": "last hour"}, {"resource": forecasts.RETENTION}
    lost, kept = [{**reader, "part": part, "fitted_to": "last 15 minutes"} for part in ("redactor", "transcoder")]
    expected = [
        # 850 of 1000 bytes at 10 an hour.
        Expect(f"round({forecasts.of(forecasts.DAYS_TO_LIMIT, forecasts.STORE)} * 24)", {of("", store): 85.0}),
        Expect(
            f"round({forecasts.of(forecasts.FORECAST_ERROR, forecasts.STORE)}, 0.001)",
            {of("", {**store, "ahead": "1 hour"}): 0.0},
        ),
        # Two hours behind, of the 168 that a record is kept.
        Expect(f"round({forecasts.HOURS_TO_LOSS})", {of("", lost): 166.0, of("", kept): forecasts.DAYS_MAX * 24}),
    ]
    assert "" == complaints(tmp_path, series, expected, at=5 * HOUR, step=step, groups=FORECASTS)


def test_what_began_hours_ago_and_is_steady_since_is_no_growth(tmp_path: Path) -> None:
    series = {
        of(m.STORE_BYTES, {}): level([(100.0, 0, 2 * HOUR), (600.0, 0, 4 * HOUR)], MINUTE),
        of(m.STORE_LIMIT_BYTES, {}): level([(1000.0, 0, 6 * HOUR)], MINUTE),
    }
    left = of(forecasts.DAYS_TO_LIMIT, {"resource": forecasts.STORE, "fitted_to": "last hour"})
    expected = [Expect(forecasts.DAYS_TO_LIMIT, {left: forecasts.DAYS_MAX})]
    assert "" == complaints(tmp_path, series, expected, at=4 * HOUR, step=MINUTE, groups=FORECASTS)


def test_use_of_shards_in_a_young_stack_is_forecast_from_what_there_is(tmp_path: Path) -> None:
    step, minutes = 10, 4
    shard = {"stream": "events", "shard": "0"}
    series = {
        of(m.KINESIS_WRITE_BYTES, shard): counted([(0.25 * golden.SHARD_BYTES_PER_SECOND, minutes * MINUTE)], step),
        # Fuller by records than by bytes.
        of(m.KINESIS_SHARD_RECORDS, shard): counted([(0.5 * golden.SHARD_RECORDS_PER_SECOND, minutes * MINUTE)], step),
    }
    about = {"resource": forecasts.SHARDS, "stream": "events", "fitted_to": "last hour"}
    expected = [
        Expect(golden.SHARD_USE, {of(golden.SHARD_USE, shard): 0.5}),
        Expect(forecasts.DAYS_TO_LIMIT, {of(forecasts.DAYS_TO_LIMIT, about): forecasts.DAYS_MAX}),
        Expect(forecasts.FORECAST_ERROR, {of(forecasts.FORECAST_ERROR, {**about, "ahead": "10 seconds"}): 0.0}),
    ]
    assert "" == complaints(tmp_path, series, expected, at=3 * MINUTE, step=step)


# Bands.

BANDS = ("spillway-bands",)
WEEKS, LAST_DAYS, HOURS = bands.WEEKS, bands.DAYS, bands.HOURS
SERIES_A_TENANT_AND_TYPE = 13
# The rate is over 5 minutes.
SCRAPED = 2 * MINUTE


def tenant(name: str) -> str:
    return of(m.DOOR_TENANT_EVENTS, {"door": "grpc", "tenant": name, "type": "t"})


def weeks_with(mondays: Sequence[float], else_per_second: float = 1.0) -> list[tuple[float, float]]:
    """Weeks from Thursday on; the pace of each Monday from 09:00 to 17:00, the last one unfinished."""
    pieces = []
    for monday in mondays:
        pieces += [(else_per_second, 4 * DAY + 9 * HOUR), (monday, 8 * HOUR), (else_per_second, 2 * DAY + 7 * HOUR)]
    return pieces


@pytest.mark.slow
def test_each_tenant_is_compared_with_the_longest_history_that_it_has(tmp_path: Path) -> None:
    monday_noon = 32 * DAY + 12 * HOUR
    door = of(m.DOOR_EVENTS, {"door": "grpc", "status": "accepted"})
    gone = counted(weeks_with([1, 1, 1, 1]), SCRAPED)
    series = {
        door: counted([(100.0, 35 * DAY)], SCRAPED),
        tenant("busy on mondays"): counted(weeks_with([10, 11, 10, 11, 11]), SCRAPED),
        tenant("not busy this monday"): counted(weeks_with([10, 11, 10, 11, 1]), SCRAPED),
        tenant("trickle that stops"): counted([(0.05, 32 * DAY), (0.0, 3 * DAY)], SCRAPED),
        tenant("gone with its series"): f"{gone} stale",
        tenant("eight days old"): absent(24 * DAY, SCRAPED) + " " + counted([(2.0, 11 * DAY)], SCRAPED),
        tenant("four days old"): absent(28 * DAY, SCRAPED) + " " + counted([(2.0, 7 * DAY)], SCRAPED),
        # One day or one week alone is no baseline.
        tenant("a day old"): absent(31 * DAY, SCRAPED) + " " + counted([(2.0, 4 * DAY)], SCRAPED),
        tenant("new"): absent(32 * DAY + 11 * HOUR, SCRAPED) + " " + counted([(3.0, 7 * DAY)], SCRAPED),
        tenant("idle"): counted([(0.0, 35 * DAY)], SCRAPED),
    }
    compared = {
        "busy on mondays": WEEKS,
        "not busy this monday": WEEKS,
        "trickle that stops": WEEKS,
        "gone with its series": WEEKS,
        "eight days old": LAST_DAYS,
        "four days old": LAST_DAYS,
        "a day old": HOURS,
        "new": HOURS,
        "idle": WEEKS,
    }
    labels = {name: of("", {"tenant": name, "type": "t", "compared_with": history}) for name, history in compared.items()}
    deviations = {
        "busy on mondays": 0.5,
        # Tenths of the mean of 10.5 are wider than what the Mondays differ by.
        "not busy this monday": -9.0,
        "trickle that stops": -0.5,
        "gone with its series": -10.0,
        "eight days old": 0.0,
        "four days old": 0.0,
        "a day old": 0.0,
        "new": 0.0,
        "idle": 0.0,
    }
    monday = 'tenant="busy on mondays"'
    rate = f"{bands.RATE}{{{monday}}}"
    flat = f"({rate} - avg_over_time({rate}[7d])) / stddev_over_time({rate}[7d])"
    expected = [
        Expect(f"round({bands.DEVIATIONS}, 0.5)", {labels[name]: value for name, value in deviations.items()}),
        # What a flat baseline would have made of it.
        Expect(f"{flat} > bool {bands.WIDTHS}", {of("", {"tenant": "busy on mondays", "type": "t"}): 1.0}),
        Expect('max(count by (tenant, type) ({__name__=~"tenant_type:.+"}))', {"{}": SERIES_A_TENANT_AND_TYPE}),
        Expect(f"round({bands.UPPER}{{{monday}}}, 0.01)", {labels["busy on mondays"]: 13.65}),
        Expect(f"round({bands.LOWER}{{{monday}}}, 0.01)", {labels["busy on mondays"]: 7.35}),
    ]
    assert "" == complaints(tmp_path, series, expected, at=monday_noon, step=SCRAPED, evaluated=HALF_HOUR, groups=BANDS)


@pytest.mark.parametrize(
    ("door_reports_seconds", "found"),
    [(2 * HOUR, {of("", {"tenant": "a", "type": "t", "compared_with": HOURS}): 1.0}), (HOUR, {})],
    ids=["the tenant is gone", "the door is gone"],
)
def test_a_tenant_that_is_gone_is_unusual_but_a_door_that_is_gone_says_nothing(
    tmp_path: Path, door_reports_seconds: int, found: Mapping[str, float]
) -> None:
    door = of(m.DOOR_EVENTS, {"door": "grpc", "status": "accepted"})
    series = {
        door: counted([(5.0, door_reports_seconds)], MINUTE) + " stale",
        tenant("a"): counted([(5.0, HOUR)], MINUTE) + " stale",
    }
    expected = [Expect(f"{bands.DEVIATIONS} < bool -{bands.WIDTHS}", found)]
    assert "" == complaints(tmp_path, series, expected, at=90 * MINUTE, step=MINUTE, groups=BANDS)
