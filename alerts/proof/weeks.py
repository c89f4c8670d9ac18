"""False pages: healthy, busy weeks through the real rules, and one in which what is unhealthy is put in: that one must page.

A week has daily and weekly seasons, quiet nights, bursts, floods of events that are refused by right, deploys one worker at a time,
restarts, counter resets, missed scrapes, throttling within the budget, late batches inside their SLO, a reshard, midnights, and
restarts of canary and ledger. Every page of the rules is evaluated over all of it.

Coarse to find, exact to judge: expressions are asked every `COARSE_SECONDS`, and every answer counts as a suspicion, whatever `for`
says. The minutes about a suspicion are then evaluated as often as the rules say, `for` and all, and only that is a page.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from alerts.proof.rulebook import Firing, Pace, Rulebook, judge
from alerts.proof.series import Floats
from alerts.proof.server import Server, server
from alerts.proof.story import SCRAPE_SECONDS, Fault, Story, regular
from alerts.proof.world import TENANTS, World, within

HOUR, DAY, WEEK = 3600.0, 86400.0, 604800.0
COARSE_SECONDS = 15
# Evaluated exactly so long before and after a suspicion.
ABOUT_SECONDS = 420.0
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
    kind: str
    rules: str
    samples: int
    suspicions: int
    pages: tuple[Firing, ...]
    cpu_seconds: float
    wall_seconds: float

    def line(self) -> str:
        return json.dumps(asdict(self))


# What happens in a healthy week.


def healthy(seed: int, seconds: float = WEEK) -> Story:
    rng = np.random.default_rng([seed, 7])
    faults = tuple(fault for happens in _ORDINARY for fault in happens(rng, seconds))
    reshards = (float(rng.uniform(0.2, 0.8) * seconds),)
    story = regular(seconds, seed)
    return replace(
        story,
        faults=faults,
        traffic=traffic(rng, seconds),
        workers_each=WORKERS_EACH,
        epoch_ms=EPOCH_MS,
        reshards=reshards,
    )


def traffic(rng: np.random.Generator, seconds: float) -> Callable[[Floats], Floats]:
    """Events a second at each door: by hour, by day of the week, with noise, and bursts of up to twenty times."""
    base, swing, weekend = 10 ** rng.uniform(1.0, 3.0), rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)
    count = rng.poisson(8 * seconds / DAY)
    bursts = np.stack([rng.uniform(0, seconds, count), rng.uniform(20, 600, count), 10 ** rng.uniform(0.3, 1.3, count)], axis=1)
    # A tenth of the usual, for an hour.
    lulls = np.stack([rng.uniform(0, seconds, 3), np.full(3, HOUR), np.full(3, 0.1)], axis=1)
    noise = np.random.default_rng(rng.integers(1 << 31))

    def at(when: Floats) -> Floats:
        pace = base * (1 - swing * np.cos(2 * np.pi * (when / DAY - 3 / 24)))
        pace = pace * np.where((when / DAY) % 7 >= 5, weekend, 1.0)
        for begins, lasts, times in np.concatenate([bursts, lulls]):
            pace = pace * np.where((when >= begins) & (when < begins + lasts), times, 1.0)
        return np.asarray(np.clip(pace, 0.5, 6000) * noise.gamma(20.0, 1 / 20, len(when)), dtype=np.float64)

    return at


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
    for begins in _times(rng, seconds, 60):
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
        yield Fault("errors", door, float(begins), float(begins + rng.uniform(5.0, 30.0)), share=float(rng.uniform(0.0005, 0.004)))


def _floods(rng: np.random.Generator, seconds: float) -> Iterator[Fault]:
    """A producer whose events break the schema: a fifth of all, refused by right."""
    for begins in _times(rng, seconds, 5):
        door = str(rng.choice(["grpc-door", "http-door"]))
        yield Fault("malformed", door, float(begins), float(begins + rng.uniform(60, 1800)), share=0.2)


_ORDINARY: tuple[Happens, ...] = (
    _deploys, _restarts, _watchers_restart, _missed_scrapes, _late_batches, _midnights, _throttling, _floods,
)  # fmt: skip


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
    Mutant("one event in 2,000 lost on the way to RDS", _minute("loss", "rds", 0.0005, 120.0), 360),
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


def mutated(seed: int) -> tuple[Story, tuple[Mutant, ...]]:
    """A healthy stretch with each mutant in it, one after the other."""
    seconds = (len(MUTANTS) + 1) * MUTANT_HOURS * HOUR
    story = healthy(seed, seconds)
    rng = np.random.default_rng([seed, 8])
    placed = tuple(
        mutant.moved((number + 1) * MUTANT_HOURS * HOUR + float(rng.uniform(0, 600))) for number, mutant in enumerate(MUTANTS)
    )
    return replace(story, faults=(*story.faults, *(fault for each in placed for fault in each.faults))), placed


# Judging.


def suspicions(found: Iterable[Firing], story: Story) -> list[tuple[float, float]]:
    """Spans of story time to look at exactly, joined where they touch."""
    epoch, spans = story.epoch_ms, list[tuple[float, float]]()
    for each in sorted(found, key=lambda each: each.pending_ms):
        begins, ends = (each.pending_ms - epoch) / 1000 - ABOUT_SECONDS, (each.ends_ms - epoch) / 1000 + ABOUT_SECONDS
        if spans and begins <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(ends, spans[-1][1]))
        else:
            spans.append((begins, ends))
    return spans


def run(where: Server, book: Rulebook, story: Story, *, coarse_seconds: int = COARSE_SECONDS) -> tuple[list[Firing], int, int]:
    """The pages, how many suspicions there were, and how many samples."""
    pages = book.pages()
    rules = book.closure(pages)
    samples = where.write(World(story, book.reads(pages)).series())
    rng = np.random.default_rng([story.seed, 9])
    offsets = {rule.group: int(rng.integers(0, 5000)) for rule in rules}
    begins, ends = story.epoch_ms + int(SETTLE_SECONDS * 1000), story.epoch_ms + int(float(story.edges[-1]) * 1000)
    at_once = [replace(rule, for_ms=0) for rule in rules]
    found = judge(where, at_once, begins, ends, Pace(offsets, coarse_seconds * 1000), since_ms=story.epoch_ms)
    spans = suspicions(found, story)
    # What was recorded coarsely stays so; alerts are asked as often as they are evaluated.
    alerts = [rule for rule in rules if rule.is_alert]
    judged = [
        firing
        for first, last in spans
        for firing in judge(
            where,
            alerts,
            max(begins, story.epoch_ms + int(first * 1000)),
            min(ends, story.epoch_ms + int(last * 1000)),
            Pace(offsets),
        )
    ]
    return judged, len(spans), samples


def fingerprint(book: Rulebook) -> str:
    """Of the rules that page, as they were."""
    return hashlib.sha256(repr(book.closure(book.pages())).encode()).hexdigest()[:12]


def one(programs: Path, folder: Path, book: Rulebook, seed: int, *, coarse_seconds: int = COARSE_SECONDS) -> Week:
    began, cpu = time.monotonic(), time.process_time()
    shutil.rmtree(folder, ignore_errors=True)
    with server(programs, folder) as where:
        pages, suspected, samples = run(where, book, healthy(seed), coarse_seconds=coarse_seconds)
        spent = where.cpu_seconds()
    shutil.rmtree(folder, ignore_errors=True)
    spent += time.process_time() - cpu
    return Week(seed, "healthy", fingerprint(book), samples, suspected, tuple(pages), spent, time.monotonic() - began)


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


def known(file: Path, rules: str) -> dict[int, dict[str, object]]:
    """Weeks of an earlier run of the same rules, by seed."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines if line]
    return {row["seed"]: row for row in rows if row["rules"] == rules and row["kind"] == "healthy"}


def within_any(at: Floats, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    return within(at, list(spans))
