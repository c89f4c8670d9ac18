"""False pages: healthy, busy weeks through the real rules.

Every page of the rules is evaluated over all of a week. Exact where something happens, a sample where nothing does. From shortly
before any happening until two minutes after it, Prometheus scrapes and evaluates every 5 s, `for` and all. In between, where only
the noise of traffic could fire, expressions are asked every five minutes, with scrapes of 5 s in the minutes before and of 60 s
else; every answer is a suspicion, whatever `for` says, and has the whole week evaluated exactly, at three times the price.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alerts.proof.healthy import DAY, HOUR, healthy
from alerts.proof.rulebook import Firing, Pace, Rulebook, judge
from alerts.proof.server import Server, server
from alerts.proof.story import EPOCH_MS, SCRAPE_SECONDS, Story
from alerts.proof.world import World

QUIET_SECONDS, SPARSE_SECONDS, RECORD_SECONDS = 300, 60, 60
# Between two scrapes nothing is new: alerts that are evaluated each second see the same five times.
EXACT_SECONDS = 5
# Scraped as often as ever so long before anything is looked at: what short windows reach back to.
DENSE_SECONDS = 130.0
# Evaluated exactly so long before and after what happens.
BEFORE_SECONDS, AFTER_SECONDS = 10.0, 120.0
# Until short windows have something in them: not judged.
SETTLE_SECONDS = 1800.0


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
    story = story if exact else _thinned(story)
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
        found = run(where, book, healthy(seed), exact=exact)
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


def _thinned(story: Story) -> Story:
    """With the scrapes that something looks at, and one a minute."""
    at, kept = story.scrapes, np.zeros(len(story.scrapes), dtype=bool)
    kept[:: int(SPARSE_SECONDS / SCRAPE_SECONDS)] = True
    looks = (at - _quiet_offset(story)) % QUIET_SECONDS
    kept |= looks >= QUIET_SECONDS - DENSE_SECONDS
    for begins, ends in busy(story):
        kept |= (at >= begins - DENSE_SECONDS) & (at <= ends)
    return replace(story, scrapes=at[kept])


def _quiet_offset(story: Story) -> float:
    return float(np.random.default_rng([story.seed, 10]).uniform(0, QUIET_SECONDS))


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
