"""False pages: healthy, busy weeks through the real rules, and one in which what is unhealthy is put in: that one must page.

A week has daily and weekly seasons, quiet nights, bursts, floods of events that are refused by right, deploys one worker at a
time, restarts, counter resets, missed scrapes, throttling within the budget, late batches inside their SLO, a reshard,
midnights, and restarts of canary and ledger. Every page of the rules is evaluated over all of it.

Exact where something happens, a sample where nothing does. From shortly before any of these happenings until two minutes after
it, Prometheus scrapes and evaluates every 5 s, `for` and all. In between, where only the noise of traffic could
fire, expressions are asked every five minutes, with scrapes of 5 s in the minutes before and of 60 s else; every answer is a
suspicion, whatever `for` says, and has the whole week evaluated exactly, at many times the price.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alerts.proof.rulebook import Firing, Pace, Rulebook, judge
from alerts.proof.series import Floats
from alerts.proof.server import Server, server
from alerts.proof.story import SCRAPE_SECONDS, Fault, Story
from alerts.proof.world import TENANTS, World

HOUR, DAY, WEEK = 3600.0, 86400.0, 604800.0
QUIET_SECONDS, SPARSE_SECONDS, RECORD_SECONDS = 300, 60, 60
# Between two scrapes nothing is new: alerts that are evaluated each second see the same five times.
EXACT_SECONDS = 5
# Scraped as often as ever so long before anything is looked at: what short windows reach back to.
DENSE_SECONDS = 130.0
# Evaluated exactly so long before and after what happens.
BEFORE_SECONDS, AFTER_SECONDS = 10.0, 120.0
# Until the windows of rules have something in them, and the story its first day: not judged.
SETTLE_SECONDS = 1800.0
# A Monday.
EPOCH_MS = 1_780_272_000_000
WORKERS_EACH = 2
_SEVERAL = ("grpc", "http", "transcoder", "redactor")


@dataclass(frozen=True, slots=True)
class Week:
    """What came of one."""

    seed: int
    # A fingerprint of those that page.
    rules: str
    exact: bool
    samples: int
    suspicions: int
    pages: tuple[Firing, ...]
    exact_hours: float
    cpu_seconds: float
    wall_seconds: float

    def line(self) -> str:
        return json.dumps(asdict(self))


# What must page.


@dataclass(frozen=True, slots=True)
class Mutant:
    words: str
    faults: tuple[Fault, ...]
    # From its begin, a page is there within so many seconds.
    within_seconds: float

    def moved(self, seconds: float) -> "Mutant":
        moved = tuple(replace(each, begins=each.begins + seconds, ends=each.ends + seconds) for each in self.faults)
        return replace(self, faults=moved)


def _minute(kind: str, where: str, share: float = 1.0, seconds: float = 60.0) -> tuple[Fault, ...]:
    return (Fault(kind, where, 0.0, seconds, share),)  # type: ignore[arg-type]


MUTANTS: tuple[Mutant, ...] = (
    Mutant("all gRPC doors gone", _minute("killed", "grpc"), 90),
    Mutant("all HTTP doors gone", _minute("killed", "http"), 90),
    Mutant("the gRPC door hangs", _minute("stopped", "grpc-door"), 90),
    Mutant("Kinesis refuses every write", _minute("stopped", "kinesis"), 90),
    Mutant("half of what comes by gRPC is to be sent again", _minute("errors", "grpc-door", 0.5, 120.0), 180),
    Mutant("all transcoders gone", _minute("killed", "transcoder"), 90),
    Mutant("all redactors gone", _minute("killed", "redactor"), 90),
    Mutant("the ETL gone", _minute("killed", "etl"), 90),
    Mutant("the lake takes no rows", _minute("stopped", "lake"), 90),
    Mutant("RDS takes no rows", _minute("stopped", "rds"), 90),
    Mutant("RDS can't be reached", _minute("away", "rds"), 90),
    Mutant("Redis can't be reached", _minute("away", "redis"), 90),
    Mutant("one event in 2,000 lost on the way to RDS", _minute("loss", "rds", 0.0005, 600.0), 700),
    Mutant("events twice at an exit", _minute("convicted", "DOUBLED"), 300),
    Mutant("events altered", _minute("convicted", "CORRUPT"), 300),
    Mutant("personal data at an exit", _minute("leak", "personal_data", 1.0, 300.0), 400),
    Mutant("damage in the backup", _minute("damage", "events"), 180),
    Mutant("the backup gets nothing", _minute("stopped", "backup", 1.0, 900.0), 900),
    Mutant("the canary gone", _minute("killed", "canary", 1.0, 300.0), 300),
    Mutant("the ledger gone", _minute("killed", "ledger", 1.0, 600.0), 600),
    Mutant("the ledger can't look", _minute("blind", "ledger", 1.0, 900.0), 900),
)
# Between two of them, and before the first.
MUTANT_HOURS = 2.0


# What happens in a healthy week.


def healthy(seed: int, seconds: float = WEEK, mutants: Sequence[Mutant] = (), *, exact: bool = False) -> Story:
    rng = np.random.default_rng([seed, 7])
    faults = tuple(fault for happens in _ORDINARY for fault in happens(rng, seconds))
    pace = Traffic.of(rng, seconds)
    story = Story(
        scrapes=np.arange(0.0, seconds, SCRAPE_SECONDS),
        edges=np.arange(0.0, seconds + SCRAPE_SECONDS, SCRAPE_SECONDS),
        faults=(*faults, *(fault for mutant in mutants for fault in mutant.faults)),
        traffic=pace.at,
        workers_each=WORKERS_EACH,
        epoch_ms=EPOCH_MS,
        reshards=(float(rng.uniform(0.2, 0.8) * seconds),),
        # What lasts for long is worth a look at its begin and its end; a mutant until it must have paged.
        happens=(
            *((at, at) for begins, lasts, _ in pace.bursts for at in (begins, begins + lasts)),
            *((each.faults[0].begins, each.faults[0].begins + each.within_seconds) for each in mutants),
        ),
        seed=seed,
    )
    return story if exact else replace(story, scrapes=_thinned(story))


def _thinned(story: Story) -> Floats:
    """Scrapes that something looks at, and one a minute."""
    at, kept = story.scrapes, np.zeros(len(story.scrapes), dtype=bool)
    kept[:: int(SPARSE_SECONDS / SCRAPE_SECONDS)] = True
    looks = (at - _quiet_offset(story)) % QUIET_SECONDS
    kept |= looks >= QUIET_SECONDS - DENSE_SECONDS
    for begins, ends in busy(story):
        kept |= (at >= begins - DENSE_SECONDS) & (at <= ends)
    return at[kept]


def _quiet_offset(story: Story) -> float:
    return float(np.random.default_rng([story.seed, 10]).uniform(0, QUIET_SECONDS))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events a second at each door: by hour, by day of the week, with noise, and bursts of up to twenty times."""

    base: float
    # Of the base, between noon and midnight.
    swing: float
    weekend: float
    # Begin, duration, times: bursts, and hours of a tenth of the usual.
    bursts: tuple[tuple[float, float, float], ...]
    seed: int

    @staticmethod
    def of(rng: np.random.Generator, seconds: float) -> "Traffic":
        base, swing, weekend = 10 ** rng.uniform(1.0, 3.0), rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)
        bursts = [
            (float(rng.uniform(0, seconds)), float(rng.uniform(20, 300)), float(10 ** rng.uniform(0.3, 1.3)))
            for _ in range(rng.poisson(4 * seconds / DAY))
        ]
        lulls = [(float(rng.uniform(0, seconds)), HOUR, 0.1) for _ in range(3)]
        return Traffic(base, swing, weekend, (*bursts, *lulls), int(rng.integers(1 << 31)))

    def at(self, when: Floats) -> Floats:
        pace = self.base * (1 - self.swing * np.cos(2 * np.pi * (when / DAY - 3 / 24)))
        pace = pace * np.where((when / DAY) % 7 >= 5, self.weekend, 1.0)
        for begins, lasts, times in self.bursts:
            pace = pace * np.where((when >= begins) & (when < begins + lasts), times, 1.0)
        noise = np.random.default_rng(self.seed).gamma(20.0, 1 / 20, len(when))
        return np.asarray(np.clip(pace, 0.5, 6000) * noise, dtype=np.float64)


Happens = Callable[[np.random.Generator, float], Iterator[Fault]]


def _times(rng: np.random.Generator, seconds: float, a_week: float) -> Floats:
    return np.sort(rng.uniform(0, seconds, rng.poisson(a_week * seconds / WEEK)))


def _deploys(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """Worker by worker; who drains asks a few to send again, and its shards stand for a moment until another has the lease."""
    for begins in _times(rng, seconds, 14):
        at = float(begins)
        for process in _SEVERAL:
            for number in range(WORKERS_EACH):
                lasts = float(rng.uniform(1.5, 9.0))
                yield Fault("killed", f"{process}-{number + 1}", at, at + lasts)
                if process in ("grpc", "http"):
                    yield Fault("errors", f"{process}-door", at - 2, at + 1, share=0.001)
                else:
                    yield Fault("stopped", process, at, at + float(rng.uniform(0.3, 3.0)))
                at += lasts + float(rng.uniform(8.0, 40.0))


def _restarts(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """Of any process, of which another is there or which nobody waits for."""
    several = [f"{process}-{number + 1}" for process in _SEVERAL for number in range(WORKERS_EACH)]
    for begins in _times(rng, seconds, 12):
        worker = str(rng.choice([*several, "auditor", "store", "console", "canary", "ledger"]))
        yield Fault("killed", worker, float(begins), float(begins + rng.uniform(1.0, 9.0)))


def _watchers_restart(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    for worker, a_week in (("canary", 4), ("ledger", 4)):
        for begins in _times(rng, seconds, a_week):
            yield Fault("killed", worker, float(begins), float(begins + rng.uniform(2.0, 14.0)))


def _missed_scrapes(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    everybody = [f"{process}-{number + 1}" for process in _SEVERAL for number in range(WORKERS_EACH)]
    everybody += ["etl", "auditor", "canary", "ledger", "store"]
    for begins in _times(rng, seconds, 20):
        yield Fault("unscraped", str(rng.choice(everybody)), float(begins), float(begins + SCRAPE_SECONDS))
    # Prometheus itself is busy: all of them at once.
    for begins in _times(rng, seconds, 4):
        for worker in everybody:
            yield Fault("unscraped", worker, float(begins), float(begins + SCRAPE_SECONDS))


def _late_batches(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A batch takes long, and what comes after waits: still within what the exit promises."""
    for exit in ("lake", "rds", "redis"):
        for begins in _times(rng, seconds, 3):
            yield Fault("stopped", exit, float(begins), float(begins + rng.uniform(4.0, 9.0)))


def _midnights(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """The lake begins a new partition of each tenant and type."""
    for day in range(1, int(seconds // DAY) + 1):
        yield Fault("stopped", "lake", day * DAY, day * DAY + float(rng.uniform(1.0, 2.0)) * len(TENANTS))


def _throttling(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A hot shard for some seconds: a few events are asked to be sent again."""
    for begins in _times(rng, seconds, 10):
        door = str(rng.choice(["grpc-door", "http-door"]))
        yield Fault(
            "errors", door, float(begins), float(begins + rng.uniform(5.0, 30.0)), share=float(rng.uniform(0.0005, 0.004))
        )


def _floods(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A producer whose events break the schema: a fifth of all, refused by right."""
    for begins in _times(rng, seconds, 5):
        door = str(rng.choice(["grpc-door", "http-door"]))
        yield Fault("malformed", door, float(begins), float(begins + rng.uniform(60, 300)), share=0.2)


_ORDINARY: tuple[Happens, ...] = (
    _deploys, _restarts, _watchers_restart, _missed_scrapes, _late_batches, _midnights, _throttling, _floods,
)  # fmt: skip


def mutated(seed: int) -> tuple[Story, tuple[Mutant, ...]]:
    """A healthy stretch with each mutant in it, one after the other."""
    rng = np.random.default_rng([seed, 8])
    placed = tuple(
        mutant.moved((number + 1) * MUTANT_HOURS * HOUR + float(rng.uniform(0, 600))) for number, mutant in enumerate(MUTANTS)
    )
    return healthy(seed, (len(MUTANTS) + 1) * MUTANT_HOURS * HOUR, placed), placed


# Judging.


def busy(story: Story) -> list[tuple[float, float]]:
    """Spans of story time in which something happens; joined where they touch."""
    spans = [fault.span for fault in story.faults] + [(at, at) for at in story.reshards]
    spans += story.happens
    joined: list[tuple[float, float]] = []
    for begins, ends in sorted((begins - BEFORE_SECONDS, ends + AFTER_SECONDS) for begins, ends in spans):
        if joined and begins <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(ends, joined[-1][1]))
        else:
            joined.append((begins, ends))
    return joined


@dataclass(frozen=True, slots=True)
class Judged:
    pages: tuple[Firing, ...]
    samples: int
    # Runs of answers where nothing happened.
    suspicions: int
    exact_seconds: float


def run(where: Server, book: Rulebook, story: Story, *, exact: bool = False) -> Judged:
    """The pages of a story. `exact`: all of it as often as the rules say."""
    pages = book.pages()
    rules = book.closure(pages)
    samples = where.write(World(story, book.reads(pages)).series())
    rng = np.random.default_rng([story.seed, 9])
    offsets = {rule.group: int(rng.integers(0, 5000)) for rule in rules}
    begins, ends = story.epoch_ms + int(SETTLE_SECONDS * 1000), story.epoch_ms + int(float(story.edges[-1]) * 1000)
    if exact:
        return Judged(
            tuple(judge(where, rules, begins, ends, Pace(offsets, EXACT_SECONDS * 1000), since_ms=story.epoch_ms)),
            samples,
            0,
            (ends - begins) / 1000,
        )
    judge(
        where,
        [rule for rule in rules if not rule.is_alert],
        begins,
        ends,
        Pace(offsets, RECORD_SECONDS * 1000),
        since_ms=story.epoch_ms,
    )
    alerts = [replace(rule, for_ms=0) for rule in rules if rule.is_alert]
    quiet = dict.fromkeys(offsets, int(_quiet_offset(story) * 1000))
    # `again`: these answers are no firing yet, so nothing is told to rules that read what fires.
    found = judge(where, alerts, begins, ends, Pace(quiet, QUIET_SECONDS * 1000), again=True)
    happens = busy(story)
    spans = [
        (max(begins, story.epoch_ms + int(first * 1000)), min(ends, story.epoch_ms + int(last * 1000))) for first, last in happens
    ]
    judged = [
        firing
        for first, last in spans
        if first < last
        for firing in judge(where, rules, first, last, Pace(offsets, EXACT_SECONDS * 1000), again=True)
    ]
    return Judged(
        tuple(judged),
        samples,
        sum(is_suspicious(each, happens, story.epoch_ms) for each in found),
        sum(last - first for first, last in spans if first < last) / 1000,
    )


def is_suspicious(found: Firing, happens: Sequence[tuple[float, float]], epoch_ms: int) -> bool:
    """Whether any of its answers, one each `QUIET_SECONDS`, came while nothing happened."""
    answers = np.arange(found.pending_ms, found.ends_ms + 1, QUIET_SECONDS * 1000) - epoch_ms
    return any(not any(first <= at <= last for first, last in happens) for at in answers / 1000)


def fingerprint(book: Rulebook) -> str:
    """Of the rules that page, as they were."""
    return hashlib.sha256(repr(book.closure(book.pages())).encode()).hexdigest()[:12]


def one(programs: Path, folder: Path, book: Rulebook, seed: int, *, exact: bool = False) -> Week:
    """A healthy week, judged by a server of its own."""
    began, cpu = time.monotonic(), time.process_time()
    with server(programs, folder) as where:
        found = run(where, book, healthy(seed, exact=exact), exact=exact)
        spent = where.cpu_seconds()
    if found.suspicions and not exact:
        # Between happenings scrapes are too far apart to say more: all of the week, then.
        return one(programs, folder, book, seed, exact=True)
    shutil.rmtree(folder, ignore_errors=True)
    spent += time.process_time() - cpu
    return Week(
        seed, fingerprint(book), exact, found.samples, found.suspicions, found.pages, round(found.exact_seconds / HOUR, 1),
        round(spent, 1), round(time.monotonic() - began, 1),
    )  # fmt: skip


def missed(placed: Sequence[Mutant], pages: Sequence[Firing], epoch_ms: int) -> list[str]:
    """Mutants that did not page in time, in words."""
    out = []
    for mutant in placed:
        begins = mutant.faults[0].begins
        after = sorted((each.begins_ms - epoch_ms) / 1000 - begins for each in pages)
        first = next((seconds for seconds in after if seconds >= 0), np.inf)
        if first > mutant.within_seconds:
            out.append(f"{mutant.words}: no page within {mutant.within_seconds:g} s")
    return out


def known(file: Path, rules: str) -> dict[int, dict[str, Any]]:
    """Weeks of an earlier run of the same rules, by seed."""
    rows = [json.loads(line) for line in file.read_text().splitlines() if line] if file.exists() else []
    return {row["seed"]: row for row in rows if row["rules"] == rules}


def row(week: Week) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(week.line())
    return made


def told(week: Week) -> str:
    pages = "; ".join(
        f"{each.alert} {dict(each.labels)} on day {(each.begins_ms - EPOCH_MS) / 1000 / DAY:.5f}" for each in week.pages[:5]
    )
    return f"week {week.seed}: {len(week.pages)} pages, {week.suspicions} suspicions, {week.cpu_seconds:.0f} CPU s. {pages}"


def met(placed: Sequence[Mutant], pages: Sequence[Firing], epoch_ms: int) -> list[str]:
    """What each mutant was paged by, and how soon."""
    out = []
    for mutant in placed:
        begins = mutant.faults[0].begins
        first: dict[str, float] = {}
        for each in pages:
            seconds = (each.begins_ms - epoch_ms) / 1000 - begins
            if 0 <= seconds <= mutant.within_seconds:
                first.setdefault(each.alert, seconds)
        by = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(first.items(), key=lambda item: item[1]))
        out.append(f"{mutant.words}: {by or 'nothing'}")
    return out
