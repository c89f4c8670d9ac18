"""Stories that alerts are tested by: a healthy pipeline, something happens to its series, this must fire and that must not.

How to write one
    Story(
        "Redis takes no writes",                              # the behaviour; also how pytest names it
        changes=(                                             # from the fault's first second on
            Change(m.ETL_FAILURES, {"exit": "redis"}, Rate(0.2)),
            Change(m.CANARY_OVERDUE_EVENTS, {"exit": "redis"}, Then((20, Value(0)), (0, Value(4)))),
        ),
        fires=(Fires("CanaryLost", {"exit": "redis"}),),      # with these labels, by the alert's `within_seconds`
        quiet=("ExitStale", *PAGES),                          # these never fire; PAGES: no page but those in `fires`
    )
  and put it into `STORIES` of a file in `tests/alerts/stories/`; `test_stories.py` finds it. Every alert needs a story in which
  it fires and one in which it is named as quiet (a look-alike): `test_complete.py` says which lacks one.

- The healthy pipeline is `healthy.CALM`: (metric, labels, behaviour) of every series that it has, with `job`, `instance`,
  `process` and `worker` as Prometheus would add them. Add what your alert reads and is not there yet.
- A change names a metric and some labels: all healthy series of it that have these labels behave so from the fault on. If there
  is none, a series with these labels begins then. No metric (`EVERY`): all series with these labels, `up` too.
- Behaviours: `Rate` and `Jump` of counters, `Value`, `Climb`, `Frozen`, `Clock` and `Began` of gauges, `GONE`, and `Then` of
  several, one after the other. `killed(worker)`: `up` is 0 and all its series are gone; `restarted(worker, after)`: and come
  back from 0.
- A histogram's buckets are series of their own: suffix `_bucket`, label `le`.

What is checked
- Scrapes and evaluations are each `step` seconds (5, or more for long windows). The fault begins right after a scrape. In
  promtool the evaluation sees a sample at once, in life up to an evaluation interval later: so a story must fire one interval
  before its deadline.
- Before the fault nothing that is named fires. `Fires(..., still_after=..., over_after=...)`: so many seconds after the fault's
  end it fires still, and is quiet again.
- Only the rules of named alerts are evaluated, with the recording rules that they need, and for PAGES all pages; the SLOs'
  budgets only with `budgets=True`: take a step of 30 s or 60 s then.

Played by `promtool test rules`, all stories of a step at once. `make test` leaves out PAGES where something fires; `make proof`
plays all of it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from alerts.alert import Alert
from alerts.rules import ALERTS, rules_text
from telemetry import metrics as m
from telemetry.recording import rules_text as recording_text
from tests.dashboards.prometheus import promtool

STEP_SECONDS = 5
# Longer than the ranges of what pages within seconds.
BEFORE_SECONDS = 150
# A fault without a deadline lasts so long.
FAULT_SECONDS = 150
CONSOLE = "http://console"
# Stories that one call of promtool plays.
BATCH = 8
PAGES = tuple(alert.name for alert in ALERTS if alert.severity == "page")
BY_NAME: Mapping[str, Alert] = {alert.name: alert for alert in ALERTS}
# Of a change: whatever the metric is.
EVERY = ""
UP = "up"

Labels = Mapping[str, str]


@dataclass
class Track:
    """One series while it is made: its last value (None: not there), and since when it behaves as it does now."""

    last: float | None = None


class Behaviour(Protocol):
    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        """The value at `now`; None: no sample. `since`: seconds of this behaviour so far."""


@dataclass(frozen=True)
class Rate:
    """A counter that grows by so much a second."""

    per_second: float

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return (track.last or 0.0) + self.per_second * step


@dataclass(frozen=True)
class Jump:
    """A counter that grows by so much at once, then by `per_second`."""

    by: float
    per_second: float = 0.0

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return (track.last or 0.0) + (self.by if since <= step else self.per_second * step)


@dataclass(frozen=True)
class Value:
    value: float

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return self.value


@dataclass(frozen=True)
class Climb:
    """A gauge that goes up, or down, from where it is told."""

    begins: float
    per_second: float

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return self.begins + self.per_second * since


@dataclass(frozen=True)
class Clock:
    """A gauge that is a time: now, less so many seconds."""

    ago: float = 0.0

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return now - self.ago


@dataclass(frozen=True)
class Began:
    """A gauge that is a time: when this behaviour began, as a process tells its start."""

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return now - since


@dataclass(frozen=True)
class Frozen:
    """It stays as it is."""

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return track.last


@dataclass(frozen=True)
class Gone:
    """Its target can't be scraped: Prometheus knows at once that the series has ended."""

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        return None


GONE = Gone()


@dataclass(frozen=True)
class Afresh:
    """A counter from 0, as after a restart, then as told."""

    then: Behaviour

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        if since <= step and isinstance(self.then, Rate | Jump):
            return 0.0
        return self.then.sample(now, since, step, track)


class Then:
    """For so many seconds this, then that; the last one for ever, whatever its seconds are."""

    def __init__(self, *pieces: tuple[float, Behaviour]) -> None:
        self.pieces = pieces

    def sample(self, now: float, since: float, step: float, track: Track) -> float | None:
        for seconds, behaviour in self.pieces[:-1]:
            if since <= seconds:
                return behaviour.sample(now, since, step, track)
            since -= seconds
        return self.pieces[-1][1].sample(now, since, step, track)


@dataclass(frozen=True)
class Series:
    """One series of the healthy pipeline."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    behaviour: Behaviour

    @property
    def name(self) -> str:
        return self.metric + "{" + ",".join(f'{label}="{value}"' for label, value in self.labels) + "}"

    def has(self, metric: str, labels: Labels) -> bool:
        return metric in (EVERY, self.metric) and set(labels.items()) <= set(self.labels)


def series(metric: m.Metric | str, labels: Labels, behaviour: Behaviour, suffix: str = "") -> Series:
    return Series(_name(metric) + suffix, tuple(sorted(labels.items())), behaviour)


@dataclass(frozen=True)
class Change:
    """From the fault on, series of this metric with at least these labels behave so."""

    metric: m.Metric | str
    labels: Labels
    behaviour: Behaviour
    suffix: str = ""

    @property
    def series(self) -> str:
        return _name(self.metric) + (self.suffix if self.metric else "")


@dataclass(frozen=True)
class Fires:
    alert: str
    labels: Labels = field(default_factory=dict)
    # Seconds after the fault's begin; None: as the alert promises.
    by: int | None = None
    # Still fires so many seconds after the fault's end; None: not looked at.
    still_after: int | None = None
    # Quiet again so many seconds after the fault's end; None: not looked at.
    over_after: int | None = None


@dataclass(frozen=True)
class Story:
    name: str
    changes: tuple[Change, ...]
    fires: tuple[Fires, ...] = ()
    # Names of alerts that must not fire at any time.
    quiet: tuple[str, ...] = ()
    # How long the fault lasts, and how long all is well before and afterwards. None: until the last deadline, and a step.
    fault_seconds: int | None = None
    before_seconds: int = BEFORE_SECONDS
    after_seconds: int = 0
    step_seconds: int = STEP_SECONDS
    # Whether the burn of the SLOs' budgets is worked out: hours decide it, and it costs more than all else.
    budgets: bool = False
    # Instead of the healthy pipeline's.
    calm: tuple[Series, ...] | None = None

    @property
    def lasts_seconds(self) -> int:
        if self.fault_seconds is not None:
            return self.fault_seconds
        return max([FAULT_SECONDS, *(deadline_of(each) for each in self.fires)]) + self.step_seconds


def without_others(story: Story) -> Story:
    """The story for every day: that nothing else pages is left to the long run, unless nothing at all may."""
    return replace(story, quiet=tuple(name for name in story.quiet if name not in PAGES)) if story.fires else story


def deadline_of(fires: Fires) -> int:
    return BY_NAME[fires.alert].within_seconds if fires.by is None else fires.by


def killed(worker: str) -> tuple[Change, ...]:
    return Change(EVERY, {"worker": worker}, GONE), Change(UP, {"worker": worker}, Value(0))


def restarted(worker: str, after: int, calm: Iterable[Series]) -> tuple[Change, ...]:
    """Not there for so many seconds, then from the start."""
    own = [each for each in calm if dict(each.labels).get("worker") == worker and each.metric != UP]
    back = [
        Change(each.metric, dict(each.labels), Then((after, GONE), (0, Afresh(each.behaviour))))
        for each in own
        if each.metric != m.PROCESS_START.name
    ]
    back.append(Change(m.PROCESS_START, {"worker": worker}, Then((after, GONE), (0, Began()))))
    return *back, Change(UP, {"worker": worker}, Then((after, Value(0)), (0, Value(1))))


# Making samples.


def samples(story: Story) -> dict[str, list[float | None]]:
    """Of each series, its samples from 0 on, one each step."""
    step, begins = story.step_seconds, story.before_seconds
    ends = begins + story.lasts_seconds
    steps = (ends + story.after_seconds) // step
    known = list(story.calm or ())
    for change in story.changes:
        if change.metric and not any(each.has(change.series, change.labels) for each in known):
            known.append(series(change.series, change.labels, Then((0, GONE))))
    made: dict[str, list[float | None]] = {}
    for each in known:
        # The last change that speaks of it counts.
        behaves = next((change.behaviour for change in reversed(story.changes) if each.has(change.series, change.labels)), None)
        track, values = Track(), []
        for at in range(steps + 1):
            now = at * step
            if behaves is not None and begins < now <= ends:
                value = behaves.sample(now, now - begins, step, track)
            else:
                value = each.behaviour.sample(now, now, step, track)
            # A counter that nobody reports goes on where it was when it is back.
            track.last = track.last if value is None else value
            values.append(value)
        made[each.name] = values
    return made


def words(values: Sequence[float | None]) -> str:
    """In promtool's notation: a series that ends is stale at once, as Prometheus has it."""
    said: list[str] = []
    at = 0
    while at < len(values):
        value, count = values[at], 1
        while at + count < len(values) and values[at + count] == value:
            count += 1
        if value is None:
            ended = at > 0
            said += (["stale"] if ended else []) + ([f"_x{count - ended}"] if count > ended else [])
        elif count == 1:
            said.append(f"{value:.10g}")
        else:
            said.append(f"{value:.10g}x{count - 1}")
        at += count
    return " ".join(said)


# Playing.


def play(stories: Sequence[Story], calm: Iterable[Series], folder: Path) -> dict[str, str]:
    """Of each story, by name, what is not as it should be; empty if all is."""
    calm = tuple(calm)
    found = dict.fromkeys((story.name for story in stories), "")
    for step in sorted({story.step_seconds for story in stories}):
        some = [story for story in stories if story.step_seconds == step]
        said = _played(some, calm, folder, step)
        for number, story in enumerate(some):
            mine = [line for line in said if f'story!=\\"{number}\\"' in line]
            found[story.name] = "\n".join(mine)
        if said and not any(found.values()):
            raise AssertionError("\n".join(said))
    return found


def _played(stories: Sequence[Story], calm: tuple[Series, ...], folder: Path, step: int) -> list[str]:
    files = []
    for number, story in enumerate(stories):
        named = {*story.quiet, *(each.alert for each in story.fires)}
        groups = rules_of(named, step, budgets=story.budgets)
        own = folder / f"rules-{step}-{number}.json"
        own.write_text(json.dumps({"groups": groups}))
        # What nobody reads costs time and changes nothing.
        read = " ".join(rule["expr"] for group in groups for rule in group["rules"])
        world = [each for each in (calm if story.calm is None else story.calm) if each.metric in read]
        made = {
            name: values for name, values in samples(replace(story, calm=tuple(world))).items() if name.partition("{")[0] in read
        }
        test = {
            "interval": f"{step}s",
            "input_series": [{"series": name, "values": words(values)} for name, values in made.items()],
            "promql_expr_test": [
                {"expr": expr, "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": 1}] if there else []}
                for expr, at, there in _expected(story, number)
            ],
        }
        # In life no order is promised among groups: here alerts come first, and read what was recorded a round before.
        order = [group["name"] for group in sorted(groups, key=lambda group: group["name"] != "spillway-alerts")]
        told = {"rule_files": [own.name], "evaluation_interval": f"{step}s", "group_eval_order": order, "tests": [test]}
        files.append(folder / f"story-{step}-{number}.json")
        files[-1].write_text(json.dumps(told))
    batches = (files[at : at + BATCH] for at in range(0, len(files), BATCH))
    return [complaint for batch in batches for complaint in _parts(promtool("test", "rules", *map(str, batch)))]


def _parts(said: str) -> list[str]:
    """One complaint each: promtool's lines from `expr:` on."""
    if not said:
        return []
    parts = re.split(r"(?m)^(?=\s*expr: )", said)
    return [part.strip() for part in parts if part.strip().startswith("expr:")] or [said]


def _expected(story: Story, number: int) -> Iterable[tuple[str, int, bool]]:
    """(query, when, whether it answers 1)."""
    begins, step = story.before_seconds, story.step_seconds
    ends = begins + story.lasts_seconds
    over = ends + story.after_seconds

    def of(alert: str, *labels: str) -> str:
        return "ALERTS{" + ",".join((f'alertname="{alert}"', 'alertstate="firing"', f'story!="{number}"', *labels)) + "}"

    fires: dict[str, list[Fires]] = {}
    for each in story.fires:
        fires.setdefault(each.alert, []).append(each)
        at = begins + deadline_of(each) - step
        labels = [f'{label}="{value}"' for label, value in each.labels.items()]
        yield f"count({of(each.alert, *labels)}) > bool 0", at, True
        if each.still_after is not None:
            yield f"count({of(each.alert, *labels)}) > bool 0", ends + each.still_after, True
        if each.over_after is not None:
            yield f"count({of(each.alert, *labels)}) > bool 0", ends + each.over_after, False
    for alert, several in fires.items():
        if begins:
            yield f"count(count_over_time({of(alert)}[{begins}s])) > bool 0", begins, False
        for label in {label for each in several for label in each.labels}:
            if all(label in each.labels for each in several):
                others = "|".join(sorted({each.labels[label] for each in several}))
                elsewhere = f'{label}!~"{others}"'
                yield f"count(count_over_time({of(alert, elsewhere)}[{over}s])) > bool 0", over, False
    for alert in dict.fromkeys(story.quiet):
        if alert not in fires:
            yield f"count(count_over_time({of(alert)}[{over}s])) > bool 0", over, False


def rules_of(names: Iterable[str], step: int, *, budgets: bool = True) -> list[dict[str, Any]]:
    """The groups with these alerts, and the recording rules that they need, and those that these need."""
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        raise ValueError(f"no alert is called {', '.join(unknown)}: see alerts.rules.ALERTS")
    pace = min(step, 60)
    groups = [*json.loads(recording_text(pace))["groups"], *json.loads(rules_text(pace, CONSOLE))["groups"]]
    wanted, records = set(names), {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    texts = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") in wanted]
    if not budgets:
        records = {record for record in records if not record.startswith("slo:")}
    needed: set[str] = set()
    while texts:
        more = {name for name in records - needed for text in texts if name in text}
        needed |= more
        texts = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("record") in more]
    chosen = []
    for group in groups:
        rules = [rule for rule in group["rules"] if rule.get("alert") in wanted or rule.get("record") in needed]
        if rules:
            # A story of long windows has one pace.
            chosen.append({**group, "interval": f"{step}s", "rules": rules})
    return chosen


def _name(metric: m.Metric | str) -> str:
    return metric if isinstance(metric, str) else metric.name
