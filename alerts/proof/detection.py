"""How soon it is known: total outages of each hop at any phase of scrape, evaluation and canary; and partial ones, beside the
standard burn-rate windows.

A trial is an hour of health, and then an outage at a moment that the seed chooses. Each target is scraped at an offset of its
own, each group of rules is evaluated at its own, the canary's rounds and looks have theirs; all fall anew in each trial. What is
measured is the first page's firing, and `group_wait`, after which Alertmanager tells.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alerts.proof.rulebook import Firing, Pace, Rulebook, judge, rulebook
from alerts.proof.server import Server, server
from alerts.proof.story import EPOCH_MS, SCRAPE_SECONDS, Fault, Kind, Story
from alerts.proof.world import World
from alerts.routing import Paces

GROUP_WAIT_SECONDS = Paces().page.wait
PROMISED_SECONDS = 30.0
HOUR, DAY = 3600.0, 86400.0
# A trial: health, sparsely scraped at first, and then the outage.
_HEALTHY_SECONDS, _DENSE_SECONDS, _WATCHED_SECONDS = 3900.0, 400.0, 60.0
# From one trial to the next: longer than anything that is asked reaches back.
_APART_SECONDS = 8 * HOUR
_BIN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Outage:
    hop: str
    words: str
    kind: Kind
    where: str
    # Promised to page within 30 s; the backup has minutes by design (Firehose gathers).
    within_seconds: float = PROMISED_SECONDS
    watched_seconds: float = _WATCHED_SECONDS


OUTAGES: tuple[Outage, ...] = (
    Outage("grpc-door", "its processes are gone", "killed", "grpc"),
    Outage("grpc-door", "it hangs", "stopped", "grpc-door"),
    Outage("http-door", "its processes are gone", "killed", "http"),
    Outage("http-door", "it hangs", "stopped", "http-door"),
    Outage("kinesis", "refuses every write", "stopped", "kinesis"),
    Outage("transcoder", "its processes are gone", "killed", "transcoder"),
    Outage("redactor", "its processes are gone", "killed", "redactor"),
    Outage("etl", "its process is gone", "killed", "etl"),
    Outage("lake", "takes no rows", "stopped", "lake"),
    Outage("rds", "takes no rows", "stopped", "rds"),
    Outage("rds", "can't be reached", "away", "rds"),
    Outage("redis", "takes no rows", "stopped", "redis"),
    Outage("redis", "can't be reached", "away", "redis"),
    Outage("backup", "gets nothing", "stopped", "backup", within_seconds=180.0, watched_seconds=240.0),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds from the outage's begin to the firing of the first page; infinity: none. And its name."""

    seconds: float
    alert: str
    # A page that was there before.
    false: bool


def trial_story(outage: Outage, number: int, seed: int) -> tuple[Story, float]:
    """And when its outage begins."""
    rng = np.random.default_rng([seed, number])
    begins = _HEALTHY_SECONDS + float(rng.uniform(0, 60))
    ends = begins + outage.watched_seconds
    dense = _HEALTHY_SECONDS - _DENSE_SECONDS
    scrapes = np.concatenate([np.arange(0.0, dense, 60.0), np.arange(dense, ends, SCRAPE_SECONDS)])
    edges = np.concatenate([np.arange(0.0, dense, 60.0), np.arange(dense, begins - 5, SCRAPE_SECONDS)])
    edges = np.append(edges, np.arange(edges[-1] + SCRAPE_SECONDS, ends + SCRAPE_SECONDS, _BIN_SECONDS))
    story = Story(
        scrapes,
        edges,
        (Fault(outage.kind, outage.where, begins),),
        epoch_ms=EPOCH_MS + int(number * _APART_SECONDS * 1000),
        seed=seed * 100_003 + number,
    )
    return story, begins


def trial(where: Server, book: Rulebook, outage: Outage, number: int, seed: int) -> Trial:
    story, begins = trial_story(outage, number, seed)
    # Budgets burn for longer than this: without their records they say nothing, and what is measured is the more honest.
    rules = [rule for rule in book.closure(book.pages()) if rule.is_alert]
    where.write(World(story, frozenset(word for rule in rules for word in rule.words)).series())
    rng = np.random.default_rng([seed, number, 1])
    pace = Pace({group: int(rng.integers(0, 5000)) for group in sorted({rule.group for rule in rules})})
    begins_ms = story.epoch_ms + round(begins * 1000)
    found = judge(where, rules, begins_ms - 10_000, begins_ms + round(outage.watched_seconds * 1000), pace)
    after = [each for each in found if each.begins_ms >= begins_ms]
    false = any(each.begins_ms < begins_ms for each in found)
    if not after:
        return Trial(np.inf, "", false)
    return Trial((after[0].begins_ms - begins_ms) / 1000, after[0].alert, false)


@dataclass(frozen=True, slots=True)
class Row:
    outage: Outage
    trials: tuple[Trial, ...]

    def quantile(self, share: float) -> float:
        """Of the time to the page, `group_wait` included."""
        times = np.sort([each.seconds for each in self.trials]) + GROUP_WAIT_SECONDS
        return float(times[min(len(times) - 1, int(np.ceil(share * len(times))) - 1)])

    @property
    def held(self) -> bool:
        return self.quantile(0.95) <= self.outage.within_seconds and not any(each.false for each in self.trials)

    @property
    def alerts(self) -> str:
        names = [each.alert or "none" for each in self.trials]
        return ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(sorted(names, key=names.count, reverse=True)))

    def markdown(self) -> str:
        figures = " | ".join(f"{self.quantile(share):.1f}" for share in (0.5, 0.95, 1.0))
        kept = "yes" if self.held else "NO"
        return (
            f"| {self.outage.hop} | {self.outage.words} | {figures} | {self.outage.within_seconds:g} | {kept} | {self.alerts} |"
        )


ROW_TITLE = (
    "| hop | outage | p50 s | p95 s | max s | promised s | held | first page, of how many trials |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def total(programs: Path, folder: Path, book: Rulebook, count: int, seed: int, outage: Outage) -> Row:
    with server(programs, folder) as where:
        return Row(outage, tuple(trial(where, book, outage, number, seed) for number in range(count)))


# Partial outages.

SHARES = (1.0, 0.1, 0.01, 0.001, 0.0005)
OBJECTIVE = 0.999
# Source: Google, The Site Reliability Workbook, chapter 5, table 5-8: long window, short window, factor.
STANDARD: tuple[tuple[str, str, float, str], ...] = (
    ("1h", "5m", 14.4, "page"),
    ("6h", "30m", 6.0, "page"),
    ("3d", "6h", 1.0, "ticket"),
)
_WINDOW_SECONDS = {"1h": HOUR, "5m": 300.0, "6h": 6 * HOUR, "30m": 1800.0, "3d": 3 * DAY}
_BEFORE = 3.2 * DAY
# Watched for so long, at so many seconds: what fires within minutes is told to 5 s, within hours to a minute.
_NEAR, _FAR = (1500.0, 5), (5 * HOUR, 60)


def standard_rules() -> str:
    """The plain windows over what the gRPC door answers."""

    def ratio(window: str) -> str:
        bad, whole = (f'sum(rate(spillway_door_events_total{{door="grpc"{more}}}[{window}]))' for more in (',status="retry"', ""))
        return f"({bad} / {whole})"

    rules = [
        {
            "alert": f"Standard {long}/{short}",
            "expr": f"{ratio(long)} > {factor * (1 - OBJECTIVE):.6g} and {ratio(short)} > {factor * (1 - OBJECTIVE):.6g}",
            "labels": {"severity": severity},
        }
        for long, short, factor, severity in STANDARD
    ]
    return json.dumps({"groups": [{"name": "standard", "interval": "5s", "rules": rules}]})


def arithmetic(share: float) -> float:
    """Seconds until the first standard window that pages is full enough; infinity: never."""
    return min(
        (
            factor * (1 - OBJECTIVE) / share * _WINDOW_SECONDS[long]
            for long, _, factor, severity in STANDARD
            if severity == "page" and share > factor * (1 - OBJECTIVE)
        ),
        default=np.inf,
    )


def partial_story(kind: Kind, where: str, share: float, seed: int) -> tuple[Story, float]:
    begins = _BEFORE + 17.0
    ends = begins + _FAR[0]
    dense = _BEFORE - 600
    scrapes = np.concatenate(
        [
            np.arange(0.0, dense, 60.0),
            np.arange(dense, begins + _NEAR[0], SCRAPE_SECONDS),
            np.arange(begins + _NEAR[0] + 60, ends, 20.0),
        ]
    )
    return Story(
        scrapes, np.unique(np.append(scrapes, begins)), (Fault(kind, where, begins, share=share),), epoch_ms=EPOCH_MS, seed=seed
    ), begins


def partial(where: Server, book: Rulebook, names: Sequence[str], story: Story, begins: float) -> dict[str, float]:
    """Seconds until each of these alerts fires first, those that do, over the story's series."""
    rules, begins_ms = book.closure(names), story.epoch_ms + round(begins * 1000)
    found: list[Firing] = []
    records = [rule for rule in rules if not rule.is_alert]
    judge(where, records, begins_ms - 1000, begins_ms + round(_FAR[0] * 1000), Pace({}, 60_000), since_ms=story.epoch_ms)
    near, far = (begins_ms + round(seconds * 1000) for seconds, _ in (_NEAR, _FAR))
    found += judge(where, rules, begins_ms, near, Pace({}, _NEAR[1] * 1000), again=True)
    # Later scrapes are too far apart for short windows: only what reads long ones is asked.
    budgets = [rule for rule in rules if rule.is_alert and (rule.words & {each.name for each in records} or not records)]
    found += judge(where, budgets, near, far, Pace({}, _FAR[1] * 1000), again=True)
    first: dict[str, float] = {}
    for each in sorted(found, key=lambda each: each.begins_ms):
        first.setdefault(each.alert, (each.begins_ms - begins_ms) / 1000)
    return first


@dataclass(frozen=True, slots=True)
class Partial:
    words: str
    kind: Kind
    share: float
    # Seconds to firing.
    ours: dict[str, float]
    standard: dict[str, float]

    @property
    def held(self) -> bool:
        """Ours page no later than the standard windows would; a loss always pages."""
        soonest = min(self.ours.values(), default=np.inf)
        return bool(soonest < np.inf if self.kind == "loss" else soonest <= arithmetic(self.share))

    def markdown(self) -> str:
        def soonest(found: dict[str, float]) -> str:
            first = sorted(found.items(), key=lambda item: item[1])[:2]
            return "; ".join(f"{name} {in_words(seconds)}" for name, seconds in first) or "never"

        windows = {name: seconds for name, seconds in self.standard.items() if "3d" not in name}
        cells = (self.words, f"{self.share:.2%}", soonest(self.ours), soonest(windows), in_words(arithmetic(self.share)))
        return f"| {' | '.join(cells)} |"


PARTIAL_TITLE = (
    "| what | share | first pages of ours, after | the standard windows' page, measured | by arithmetic |\n"
    "| --- | --- | --- | --- | --- |"
)


def in_words(seconds: float) -> str:
    if np.isinf(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def partials(programs: Path, folder: Path, book: Rulebook, seed: int) -> Iterator[Partial]:
    standard = rulebook(standard_rules(), 5000)
    kinds: tuple[tuple[str, Kind, str], ...] = (
        ("acknowledged events lost on the way to RDS", "loss", "rds"),
        ("events asked to be sent again at the gRPC door", "errors", "grpc-door"),
    )
    for words, kind, at in kinds:
        for share in SHARES:
            story, begins = partial_story(kind, at, share, seed)
            with server(programs, folder) as where:
                windows = [rule.name for rule in standard.alerts]
                names = book.pages()
                reads = book.reads(names) | standard.reads(windows)
                where.write(World(story, reads).series())
                ours = partial(where, book, names, story, begins)
                plain = partial(where, standard, windows, story, begins)
            yield Partial(words, kind, share, ours, plain)
