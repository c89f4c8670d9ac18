"""The canary, simulated probe by probe: when it sends, what becomes of the probe at each hop, when it is seen, when overdue.

As `canary/` works: a round through both doors onto each shard every 5 s; an exit is looked at 2 s after the last look ended; a
probe is late when a look that began 15 s or more after it was sent did not see it, lost after 300 s; judged each second. A test
holds these figures to be the canary's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alerts.proof.series import Floats
from alerts.proof.spans import Spans, within
from alerts.proof.story import Story

ROUND_SECONDS, LOOK_SECONDS, LOOK_TAKES_SECONDS, JUDGE_SECONDS = 5.0, 2.0, 0.15, 1.0
DUE_SECONDS, LOST_SECONDS = 15.0, 300.0
BACKUP_DUE_SECONDS, BACKUP_LOST_SECONDS = 420.0, 840.0
DOOR_SECONDS_MAX = 4.0
CHECK_SECONDS = 300.0
DOORS = ("grpc", "http")
LANES = 2
EXITS = ("lake", "rds", "redis", "backup", "web-backup")
_DRAIN_SECONDS = 0.5
# Median seconds of each hop, and how they spread.
_HOP_SECONDS = {
    "grpc-door": 0.02, "http-door": 0.02, "transcoder": 0.25, "redactor": 0.3, "lake": 2.6, "rds": 2.2, "redis": 2.0,
    "backup": 7.0, "web-backup": 7.0,
}  # fmt: skip
_SPREAD = 0.35


@dataclass(frozen=True, slots=True)
class Door:
    sent: Floats
    # When the answer is known, and whether it acknowledged.
    answered: Floats
    accepted: np.ndarray


@dataclass(frozen=True, slots=True)
class Lane:
    """What became of all probes of a door at an exit."""

    exit: str
    door: str
    # Of those that were seen in time to say how fresh: when, and how many seconds.
    seen: Floats
    fresh: Floats
    # Spans of being overdue, a row a probe.
    overdue: Floats
    # When a verdict became final, by verdict.
    verdicts: Mapping[str, Floats]
    # When looks that worked ended, and looks that failed.
    looked: Floats
    failed: Floats


def deadlines(exit: str) -> tuple[float, float]:
    return (BACKUP_DUE_SECONDS, BACKUP_LOST_SECONDS) if exit.endswith("backup") else (DUE_SECONDS, LOST_SECONDS)


def send(story: Story, rng: np.random.Generator, alive: Spans, outages: Mapping[str, Spans], ends: float) -> dict[str, Door]:
    """`alive`: when the canary runs; `outages`: of hops."""
    rounds = np.arange(rng.uniform(0, ROUND_SECONDS), ends, ROUND_SECONDS)
    rounds = rounds[within(rounds, alive)]
    doors = {}
    for door in DOORS:
        sent = np.repeat(rounds, LANES)
        refused = within(sent, outages[f"{door}-door"])
        for fault in story.of("errors", f"{door}-door"):
            hit = (sent >= fault.begins) & (sent < fault.ends)
            refused |= hit & (np.repeat(rng.random(len(rounds)), LANES) < fault.share)
        waits = refused * (DOOR_SECONDS_MAX if door == "grpc" else 0.05)
        doors[door] = Door(sent, sent + waits + 0.02, ~refused)
    return doors


def look(
    story: Story,
    rng: np.random.Generator,
    exit: str,
    door: str,
    out: Door,
    alive: Spans,
    outages: Mapping[str, Spans],
    ends: float,
) -> Lane:
    at = out.sent
    for hop in way(door, exit):
        at = _through(at, outages[hop], rng) + _HOP_SECONDS[hop] * rng.lognormal(0, _SPREAD, len(at))
    for fault in story.of("loss", exit):
        lost = (out.sent >= fault.begins) & (out.sent < fault.ends) & (rng.random(len(at)) < fault.share)
        at = np.where(lost, np.inf, at)
    at, due, lost_after = at[out.accepted], *deadlines(exit)
    sent = out.sent[out.accepted]
    begins = np.arange(rng.uniform(0, LOOK_SECONDS), ends + due, LOOK_SECONDS + LOOK_TAKES_SECONDS)
    begins = begins[within(begins, alive)]
    blind = within(begins, story.spans("away", exit))
    failed, begins = begins[blind], begins[~blind]
    looks = np.append(begins, np.inf)
    seen = looks[np.searchsorted(begins, at)] + LOOK_TAKES_SECONDS
    # The first look that began after it was due, and what it says a moment later.
    due_look = looks[np.searchsorted(begins, sent + due)]
    judged = rng.uniform(0, JUDGE_SECONDS)
    told = np.ceil((due_look + LOOK_TAKES_SECONDS - judged) / JUDGE_SECONDS) * JUDGE_SECONDS + judged
    lost_look = looks[np.searchsorted(begins, sent + lost_after)]
    late = (seen > due_look + LOOK_TAKES_SECONDS) & np.isfinite(due_look)
    overdue = np.stack([told[late], np.minimum(seen[late], lost_look[late] + JUDGE_SECONDS)], axis=1)
    timed = np.isfinite(seen) & ((seen <= sent + due) | late)
    lost = late & (seen > lost_look)
    order = np.argsort(seen[timed])
    verdicts = {
        "delivered": np.sort(told[~late & np.isfinite(told)]),
        "late": np.sort(seen[late & ~lost]),
        "lost": np.sort(lost_look[lost & np.isfinite(lost_look)]),
    }
    return Lane(
        exit, door, seen[timed][order], (seen - sent)[timed][order], overdue, verdicts, begins + LOOK_TAKES_SECONDS, failed
    )


def way(door: str, exit: str) -> tuple[str, ...]:
    if exit == "web-backup":
        return ("http-door", "web-backup")
    start = ("http-door", "transcoder", "grpc-door") if door == "http" else ("grpc-door",)
    return (*start, "backup") if exit == "backup" else (*start, "redactor", exit)


def _through(at: Floats, spans: Spans, rng: np.random.Generator) -> Floats:
    """Who comes while the hop takes nothing waits until it does."""
    for begins, ends in spans:
        held = (at >= begins) & (at < ends)
        if held.any():
            at = np.where(held, ends + rng.uniform(0, _DRAIN_SECONDS, len(at)), at)
    return at
