"""A rules file of Prometheus, judged over a server's series as its rule manager would.

Rules
- A group is evaluated every `interval`, at an offset of its own (Prometheus spreads groups by a hash of their names), and its
  rules one after the other.
- A recording rule's answers are written back under its name: later rules read them, those of other groups as of their last time.
- An alert is pending from the first evaluation that its expression answers, and fires at the first one that is `for` or more
  after. Source: Prometheus 2.42, rules/alerting.go, `Eval`.
- Only what is asked for is evaluated: an alert and the records that it reads, and those that they read.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.proof.series import Floats, Millis, Series, stale
from alerts.proof.server import Server

_DURATION = re.compile(r"(\d+)(ms|s|m|h|d|w|y)")
_MILLIS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
# Strings of an expression may hold anything.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
FIRING = "ALERTS"
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_FIRING_OF = re.compile(r'ALERTS\{[^}]*alertname="(\w+)"')


@dataclass(frozen=True, slots=True)
class Rule:
    # Of the record, or of the alert.
    name: str
    expr: str
    group: str
    interval_ms: int
    is_alert: bool
    for_ms: int
    labels: tuple[tuple[str, str], ...]

    @property
    def severity(self) -> str:
        return dict(self.labels).get("severity", "")

    @property
    def words(self) -> frozenset[str]:
        """Every word of its expression that may be a name of series."""
        return frozenset(_WORD.findall(_STRING.sub(" ", self.expr)))


@dataclass(frozen=True, slots=True)
class Firing:
    """One run of an alert."""

    alert: str
    labels: tuple[tuple[str, str], ...]
    pending_ms: int
    begins_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Rulebook:
    rules: tuple[Rule, ...]

    @property
    def alerts(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.is_alert)

    def pages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rule.name for rule in self.alerts if rule.severity == "page"))

    def closure(self, alerts: Collection[str]) -> tuple[Rule, ...]:
        """These alerts and all that they read, in the order of the file, but nothing before what it reads."""
        by_name: dict[str, list[Rule]] = {}
        for rule in self.rules:
            by_name.setdefault(rule.name, []).append(rule)
        chosen: dict[int, Rule] = {}
        place = {id(rule): at for at, rule in enumerate(self.rules)}

        def take(rule: Rule, above: tuple[int, ...]) -> None:
            if place[id(rule)] in chosen or place[id(rule)] in above:
                return
            for word in sorted((rule.words | set(_FIRING_OF.findall(rule.expr))) & by_name.keys()):
                for each in by_name[word]:
                    if each.is_alert or _selects(rule.expr, each):
                        take(each, (*above, place[id(rule)]))
            chosen[place[id(rule)]] = rule

        for rule in self.rules:
            if rule.is_alert and rule.name in alerts:
                take(rule, ())
        return tuple(chosen.values())

    def reads(self, alerts: Collection[str]) -> frozenset[str]:
        """Names of the series, buckets and sums of histograms with their endings, that these alerts rest on."""
        return frozenset(word for rule in self.closure(alerts) for word in rule.words)


def _selects(expr: str, record: Rule) -> bool:
    """Whether a selector of the expression can mean this record: labels that it fixes may speak against it."""
    fixed = dict(record.labels)
    choices = [matchers for name, matchers in _SELECTOR.findall(expr) if name == record.name]
    bare = re.search(rf"{re.escape(record.name)}(?![a-zA-Z0-9_:{{])", _STRING.sub(" ", expr))
    return bare is not None or any(
        all(_matches(operator, value, fixed[label]) for label, operator, value in _MATCHER.findall(matchers) if label in fixed)
        for matchers in choices
    )


def _matches(operator: str, wanted: str, value: str) -> bool:
    same = re.fullmatch(wanted, value) is not None if operator.endswith("~") else wanted == value
    return same is not operator.startswith("!")


def rulebook(text: str, interval_ms: int) -> Rulebook:
    """Of a rules file in JSON; `interval_ms` for groups that don't say."""
    return Rulebook(
        tuple(
            Rule(
                rule.get("alert") or rule["record"],
                str(rule["expr"]),
                group["name"],
                millis(group["interval"]) if "interval" in group else interval_ms,
                "alert" in rule,
                millis(rule.get("for", "0s")),
                tuple(sorted((name, str(value)) for name, value in rule.get("labels", {}).items())),
            )
            for group in json.loads(text)["groups"]
            for rule in group["rules"]
        )
    )


def millis(duration: str) -> int:
    """Of a duration in Prometheus' words."""
    return sum(int(count) * _MILLIS[unit] for count, unit in _DURATION.findall(str(duration)))


@dataclass(frozen=True, slots=True)
class Pace:
    """How often rules are evaluated: as the groups say, but not more often than `coarsest_ms`; at which offset."""

    offsets_ms: Mapping[str, int]
    at_least_ms: int = 0

    def times(self, rule: Rule, begins_ms: int, ends_ms: int) -> range:
        step = max(rule.interval_ms, self.at_least_ms)
        offset = self.offsets_ms.get(rule.group, 0) % step
        first = begins_ms + (offset - begins_ms) % step
        return range(first, ends_ms + 1, step)


def judge(
    server: Server,
    rules: Sequence[Rule],
    begins_ms: int,
    ends_ms: int,
    pace: Pace,
    *,
    since_ms: int | None = None,
    again: bool = False,
) -> list[Firing]:
    """What fires, of `closure`'s rules, evaluated from begin to end. Records are recorded from `since_ms` on, if that is earlier.

    `again`: of a time that was judged before; what was recorded then stands.
    """
    firings: list[Firing] = []
    read = frozenset(word for rule in rules for word in rule.words)
    for rule in rules:
        if not rule.is_alert:
            if again:
                continue
            began = begins_ms if since_ms is None else since_ms
            answers = server.query_range(rule.expr, pace.times(rule, began, ends_ms))
            server.write(_recorded(rule, answers, pace.times(rule, began, ends_ms)))
            continue
        times = pace.times(rule, begins_ms, ends_ms)
        found = [run for answer in server.query_range(rule.expr, times) for run in runs(rule, answer, times.step)]
        firings += found
        if FIRING in read and not again:
            server.write(_alerts(rule, found, times))
    return sorted(firings, key=lambda each: (each.begins_ms, each.alert, each.labels))


def runs(rule: Rule, answer: Series, step_ms: int) -> Iterable[Firing]:
    """The runs of firing of one of an alert's series."""
    # A label that is a template only repeats others.
    fixed = {name: value for name, value in rule.labels if "{{" not in value}
    labels = tuple(sorted((name, value) for name, value in {**answer.labels, **fixed, "__name__": ""}.items() if value))
    breaks = np.flatnonzero(np.diff(answer.times_ms) > step_ms) + 1
    for part in np.split(answer.times_ms, breaks):
        if not len(part):
            continue
        firing = part[part - part[0] >= rule.for_ms]
        if len(firing):
            yield Firing(rule.name, labels, int(part[0]), int(firing[0]), int(firing[-1]))


def _recorded(rule: Rule, answers: Iterable[Series], times: range) -> Iterable[Series]:
    for each in answers:
        yield _ended({**each.labels, **dict(rule.labels), "__name__": rule.name}, each.times_ms, each.values, times)


def _alerts(rule: Rule, firings: Iterable[Firing], times: range) -> Iterable[Series]:
    by_labels: dict[tuple[tuple[str, str], ...], list[Millis]] = {}
    for each in firings:
        by_labels.setdefault(each.labels, []).append(np.arange(each.begins_ms, each.ends_ms + 1, times.step, dtype=np.int64))
    for labels, parts in by_labels.items():
        at = np.concatenate(parts)
        named = {**dict(labels), "__name__": FIRING, "alertname": rule.name, "alertstate": "firing"}
        yield _ended(named, at, np.ones(len(at)), times)


def _ended(labels: Mapping[str, str], at: Millis, values: Floats, times: range) -> Series:
    """With the mark of the end where the next evaluation had no answer any more."""
    last = np.append(np.diff(at) > times.step, at[-1] + times.step <= times[-1])
    ends = np.flatnonzero(last)
    return Series(labels, np.insert(at, ends + 1, at[ends] + times.step), np.insert(values, ends + 1, stale(len(ends))))
