"""What each tenant usually sends of each type at this time, and how far it is from that now.

Expected is the mean of the same hour (half before, half after this minute) of each of the last 4 weeks; with fewer than two such
weeks of history, of the last 7 days; with fewer than two such days, the mean of the last hours. `compared_with` names which, for
each tenant and type by itself. Rules:

- Usual is `WIDTHS` widths either side of what is expected. A width is the standard deviation of what it was compared with, but at
  least a tenth of the mean (a few weeks that happen to agree prove no precision) and at least 0.1 events/s (a trickle may stop).
- Deviations are signed: below 0 is less than expected. A tenant that is expected and has no series any more sends 0, as long as
  the door reports; if the door does not, there is no figure.
- Thirteen series a tenant and type, and no record of more than `SERIES_MAX`.
"""

from telemetry import metrics as m
from telemetry.recording.days import ENTRY
from telemetry.recording.record import Group, Record

RATE = "tenant_type:events:rate5m"
MEAN_HOUR = "tenant_type:events:mean1h"
BASELINE_MEAN = "tenant_type:events_baseline:mean"
BASELINE_DEVIATION = "tenant_type:events_baseline:stddev"
EXPECTED = "tenant_type:events_expected:mean"
WIDTH = "tenant_type:events_expected:width"
UPPER = "tenant_type:events_expected:upper"
LOWER = "tenant_type:events_expected:lower"
DEVIATIONS = "tenant_type:events:deviations"

WEEKS, DAYS, HOURS = "last 4 weeks", "last 7 days", "last hours"
HOURS_WINDOW = "3h"
WIDTHS = 3
WIDTH_OF_MEAN_MIN, WIDTH_EVENTS_PER_SECOND_MIN = 0.1, 0.1
# Of weeks or days, before they are a baseline: one alone does not deviate from itself.
PERIODS_MIN = 2
SERIES_MAX = 10_000

_LABELS = ("tenant", "type")
_COMPARED = (*_LABELS, "compared_with")
_HOW = {
    WEEKS: "the same hour of each of the last 4 weeks",
    DAYS: "the same hour of each of the last 7 days",
    HOURS: f"the last {HOURS_WINDOW}",
}
_THE_LABEL = "the label compared_with names what"
# The hour about the same minute so many days ago ended half an hour later than that minute.
_SAME_HOUR = {
    WEEKS: [f"{7 * weeks - 1}d23h30m" for weeks in range(1, 5)],
    DAYS: ["23h30m", *(f"{days - 1}d23h30m" for days in range(2, 8))],
}


def _over_periods(how: str, history: str) -> str:
    """The mean or deviation over the periods that exist, if they are enough."""
    periods = " or ".join(
        f'label_replace({MEAN_HOUR} offset {offset}, "period", "{number}", "", "")'
        for number, offset in enumerate(_SAME_HOUR[history], 1)
    )
    return f"{how} by (tenant, type) ({periods}) and count by (tenant, type) ({periods}) >= {PERIODS_MIN}"


def _baselines() -> tuple[Record, ...]:
    found = []
    for history, words in _HOW.items():
        for name, how in ((BASELINE_MEAN, "avg"), (BASELINE_DEVIATION, "stddev")):
            expr = f"{how}_over_time({RATE}[{HOURS_WINDOW}])" if history == HOURS else _over_periods(how, history)
            title = "Mean rate" if how == "avg" else "Standard deviation of the rate"
            fixed = {"compared_with": history}
            found.append(Record(name, f"{title} in {words}", "events/s", expr, _COMPARED, fixed, words))
    return tuple(found)


def _chosen(name: str) -> str:
    """Of the longest history that a tenant and type has."""
    return " or ignoring (compared_with) ".join(f'{name}{{compared_with="{history}"}}' for history in _HOW)


def _width() -> str:
    deviation, of_mean = f"({_chosen(BASELINE_DEVIATION)})", f"{EXPECTED} * {WIDTH_OF_MEAN_MIN}"
    return f"clamp_min(({deviation} >= {of_mean}) or {of_mean}, {WIDTH_EVENTS_PER_SECOND_MIN})"


def _deviations() -> str:
    door = f"{m.DOOR_EVENTS.name}{{{ENTRY}}}"
    silent = f"(sum by (tenant, type) ({EXPECTED}) * 0 and on () count({door}))"
    return f"(({RATE} or {silent}) - ignoring (compared_with) group_right () {EXPECTED}) / {WIDTH}"


GROUP = Group(
    "spillway-bands",
    2,
    (
        Record(
            RATE,
            "Events stored a second, by tenant and type",
            "events/s",
            f"sum by (tenant, type) (rate({m.DOOR_TENANT_EVENTS.name}{{{ENTRY}}}[5m]))",
            _LABELS,
        ),
        Record(MEAN_HOUR, "Mean rate of an hour", "events/s", f"avg_over_time({RATE}[1h])", _LABELS),
        *_baselines(),
        Record(EXPECTED, "Expected rate", "events/s", _chosen(BASELINE_MEAN), _COMPARED, compared_with=_THE_LABEL),
        Record(WIDTH, "One width of the band", "events/s", _width(), _COMPARED, compared_with=_THE_LABEL),
        Record(UPPER, "Usual up to", "events/s", f"{EXPECTED} + {WIDTHS} * {WIDTH}", _COMPARED, compared_with=_THE_LABEL),
        Record(
            LOWER,
            "Usual from",
            "events/s",
            f"clamp_min({EXPECTED} - {WIDTHS} * {WIDTH}, 0)",
            _COMPARED,
            compared_with=_THE_LABEL,
        ),
        Record(
            DEVIATIONS,
            "How unusual: widths from what is expected",
            "deviations",
            _deviations(),
            _COMPARED,
            compared_with=_THE_LABEL,
        ),
    ),
    series_max=SERIES_MAX,
)
