"""Days to each limit, by a straight line through the use so far, and how wrong such lines have been.

Whatever can fill up is a `Resource`: a use as a share of what there is, and a limit. Records follow from it: its growth a day
(the slope of a linear regression), the days until use plus growth reaches the limit, the forecast that was made a while ago for
now, and the distance of that from what is now, which is its error. Rules:

- `fitted_to` names the history that the line is drawn through. The longest that exists is taken: whole weeks hold a weekly
  rhythm; an hour holds neither rhythm nor trend, so nobody should be woken by a forecast that is fitted to one.
- `ahead` names how long ago the forecast that is judged was made: the longest that exists.
- Not in sight is `DAYS_MAX`. A resource that is full, or past its limit, has 0 days. No data is no series.
- Use does not fall below 0, so neither does a forecast.

To add a resource: an entry in `RESOURCES`.
"""

from dataclasses import dataclass

from telemetry import metrics as m
from telemetry.hops import STREAM_RETENTION_HOURS
from telemetry.recording import days, golden
from telemetry.recording.record import Group, Record, first_of

USE = "resource:use:ratio"
GROWTH = "resource:use:growth_per_day"
DAYS_TO_LIMIT = "resource:use:days_to_limit"
FORECAST = "resource:use:forecast"
FORECAST_ERROR = "resource:use:forecast_error"
HOURS_TO_LOSS = "part:retention:hours_to_loss"

# Further away than this is not in sight.
DAYS_MAX = 365
RETENTION_SECONDS = STREAM_RETENTION_HOURS * 3600
_DAY_SECONDS = 86400
# A share a day. Slower growth than this reaches nothing within `DAYS_MAX`, and does not divide by 0.
_GROWTH_MIN = 1e-9


@dataclass(frozen=True, slots=True)
class Fit:
    """A history to draw a line through."""

    words: str
    # Of a range or a subquery.
    window: str
    # The range in which the series must have been there already for the history to be long enough; empty: any length will do.
    began: str = ""

    def slope(self, series: str) -> str:
        slope = f"deriv({series}[{self.window}]) * {_DAY_SECONDS}"
        return f"({slope} and present_over_time({series}{self.began}))" if self.began else slope


@dataclass(frozen=True, slots=True)
class Ahead:
    """How long before now the judged forecast was made."""

    words: str
    offset: str
    days: float


@dataclass(frozen=True, slots=True)
class Resource:
    name: str
    title: str
    # Its use as a share of what there is.
    use: str
    # The label that tells its series apart, if there are several.
    by: tuple[str, ...]
    limit: float
    limit_words: str
    fits: tuple[Fit, ...]
    aheads: tuple[Ahead, ...]


_LONG = (
    Fit("last 4 weeks", "4w:1h", "[1w] offset 3w"),
    Fit("last 7 days", "1w:10m", "[1d] offset 6d"),
    # No longer, or whatever began within some hours looks like growth for as long.
    Fit("last hour", "1h"),
)
# A reader that stops falls behind by a second each second: a day's line would not see it before the records are gone.
_SHORT = (Fit("last 15 minutes", "15m"),)
# A stack that is two minutes old has nothing better.
_MOMENT = Ahead("10 seconds", "10s", 10 / _DAY_SECONDS)
_HOUR = Ahead("1 hour", "1h", 1 / 24)
_DAY = Ahead("1 day", "1d", 1.0)

SHARDS, DISK, STORE, RETENTION = "shards", "disk", "trace store", "retention"
RESOURCES: tuple[Resource, ...] = (
    Resource(
        SHARDS,
        "A day's fullest minute of the fullest shard",
        # Not in a stream's first minute: until its window is full a rate rises, which would look like growth.
        f"max by (stream) ({days.SHARD_PEAK}) and on (stream) ({days.SHARD_PEAK} offset {golden.WINDOW})",
        ("stream",),
        0.8,
        "80 % of a shard",
        _LONG,
        (_DAY, _HOUR, _MOMENT),
    ),
    Resource(
        DISK,
        "Disk that is used",
        f"max({m.DISK_USED_BYTES.name}) / (max({m.DISK_SIZE_BYTES.name}) > 0)",
        (),
        0.9,
        "90 % of the disk",
        _LONG,
        (_DAY, _HOUR, _MOMENT),
    ),
    Resource(
        STORE,
        "Disk that the trace store takes",
        f"max({m.STORE_BYTES.name}) / (max({m.STORE_LIMIT_BYTES.name}) > 0)",
        (),
        1.0,
        "its limit, past which the oldest traces go",
        _LONG,
        (_DAY, _HOUR, _MOMENT),
    ),
    Resource(
        RETENTION,
        "How far the slowest reader is behind",
        f"max by (part) ({m.CONSUMER_BEHIND_SECONDS.name}) / {RETENTION_SECONDS}",
        ("part",),
        1.0,
        f"{STREAM_RETENTION_HOURS} hours, after which Kinesis forgets a record",
        _SHORT,
        (_HOUR, _MOMENT),
    ),
)
BY_NAME = {resource.name: resource for resource in RESOURCES}


def of(name: str, resource: str) -> str:
    """The record's series of one resource."""
    return f'{name}{{resource="{resource}"}}'


def _records(resource: Resource) -> tuple[Record, ...]:
    labels, fixed = ("resource", *resource.by), {"resource": resource.name}
    use, growth = of(USE, resource.name), of(GROWTH, resource.name)
    return (
        Record(USE, resource.title, "ratio", resource.use, labels, fixed, resource.limit_words),
        Record(
            GROWTH,
            f"{resource.title}: growth a day",
            "ratio/day",
            first_of("fitted_to", {fit.words: fit.slope(use) for fit in resource.fits}),
            (*labels, "fitted_to"),
            fixed,
            "the label fitted_to names the history",
        ),
        Record(
            DAYS_TO_LIMIT,
            f"{resource.title}: days to {resource.limit_words}",
            "days",
            f"clamp_max(clamp_min({resource.limit:g} - {use}, 0)"
            f" / ignoring (fitted_to) group_right () clamp_min({growth}, {_GROWTH_MIN:g}), {DAYS_MAX})",
            (*labels, "fitted_to"),
            fixed,
            resource.limit_words,
        ),
        Record(
            FORECAST,
            f"{resource.title}: what was forecast for now",
            "ratio",
            first_of("ahead", {ahead.words: _forecast(use, growth, ahead) for ahead in resource.aheads}, "fitted_to"),
            (*labels, "fitted_to", "ahead"),
            fixed,
            "the label ahead names how long ago it was made",
        ),
        Record(
            FORECAST_ERROR,
            f"{resource.title}: error of what was forecast for now",
            "ratio",
            f"abs({use} - ignoring (fitted_to, ahead) group_right () {of(FORECAST, resource.name)})",
            (*labels, "fitted_to", "ahead"),
            fixed,
            "the forecast for now, made so long ago as the label ahead names",
        ),
    )


def _forecast(use: str, growth: str, ahead: Ahead) -> str:
    then = f"{growth} offset {ahead.offset} * {ahead.days:.6g}"
    return f"clamp_min({use} offset {ahead.offset} + ignoring (fitted_to) group_right () {then}, 0)"


_HOURS = Record(
    HOURS_TO_LOSS,
    "Hours until the slowest reader loses records",
    "hours",
    f"{of(DAYS_TO_LIMIT, RETENTION)} * 24",
    ("resource", "part", "fitted_to"),
    compared_with=f"{STREAM_RETENTION_HOURS} hours, after which Kinesis forgets a record",
)

GROUP = Group("spillway-forecasts", 2, (*(record for resource in RESOURCES for record in _records(resource)), _HOURS))
