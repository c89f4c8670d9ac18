"""What happens in a history of an escalator, by chance, from a seed.

What may happen:
- one to three groups of alerts, each firing several times, with repeats, messages that come late, twice or (a resolve) never;
- another series that joins; a silence; the process or Alertmanager's messages away for minutes;
- SIGKILL before or after any commit, after a channel took a message and before that is written, or at any time; a reboot;
- the wall clock set forwards or back by up to a day, at any time, also while the process is down; slewing up to 500 ppm;
- channels that refuse, hang, take a message and lose the answer, or refuse for good.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal

from alerts.escalator.policy import Level, Policy, Target

Ill = Literal["ok", "later", "hang", "lost", "never"]
CHANNELS = ("pagerduty", "slack", "email", "log")
# Until Prometheus has sent everything again.
FORGOTTEN_SECONDS_MAX = 110.0
# At the end all is well for so long.
HEALED_SECONDS = 200.0
HEALED_VERIFYING_SECONDS = 620.0
DAY = 86_400.0
# The hours in which Europe and America change their clocks, and some other ones.
BEGINS = (1_792_889_990.0, 1_793_512_790.0, 1_774_745_990.0, 1_772_953_190.0, 1_795_664_000.0)


@dataclass(frozen=True, slots=True)
class Burst:
    """An alert's group fires from `at` to `until`; `joins_at`: another series with it."""

    subject: str
    at: float
    until: float
    joins_at: float | None
    resolve_lost: bool


@dataclass(frozen=True, slots=True)
class Illness:
    channel: str
    at: float
    until: float
    how: Ill


@dataclass(frozen=True, slots=True)
class Kill:
    """At a time; or at the nth commit, before or after it; or at the nth message that a channel took."""

    where: Literal["time", "before", "after", "took"]
    at: float
    down_seconds: float
    reboot: bool


@dataclass(frozen=True, slots=True)
class Plan:
    policy: Policy
    # Until then things happen; afterwards all is well, so that every retry has its turn.
    busy_until: float
    ends_at: float
    bursts: tuple[Burst, ...]
    illnesses: tuple[Illness, ...]
    kills: tuple[Kill, ...]
    # (when, by how much)
    jumps: tuple[tuple[float, float], ...]
    slew: float
    wall_begin: float
    verifies: bool
    # Watchdog comes, but not from .. until; None: it is not watched in this history.
    watchdog: bool
    away: tuple[tuple[float, float], ...]
    silences: tuple[tuple[str, float, float], ...]
    # Alertmanager was restarted, and knows nothing yet.
    forgotten: tuple[tuple[float, float], ...]
    # How likely somebody acknowledges what reached them, and how soon.
    answers: float
    answer_seconds: float


def plan_of(seed: int) -> tuple[Plan, random.Random]:
    r = random.Random(seed)
    policy = _policy(r)
    healed = HEALED_VERIFYING_SECONDS if (verifies := r.random() < 0.3) else HEALED_SECONDS
    busy = r.uniform(200, 1500)
    ends_at = busy + healed
    subjects = [f"Alert{number}-{number:08x}" for number in range(r.choice((1, 1, 2, 3)))]
    bursts: list[Burst] = []
    for subject in subjects:
        at = r.uniform(1, busy * 0.5)
        for _ in range(r.choice((1, 1, 2, 4))):
            until = at + r.choice((r.uniform(5, 60), r.uniform(60, busy)))
            joins = r.uniform(at, until) if r.random() < 0.2 else None
            bursts.append(Burst(subject, at, until, joins, verifies and r.random() < 0.3))
            at = until + r.choice((r.uniform(1, 20), r.uniform(20, 200)))
            if at > busy:
                break
    illnesses = []
    for channel in CHANNELS[:3]:
        if r.random() < 0.35:
            at = r.uniform(0, busy * 0.8)
            illnesses.append(
                Illness(channel, at, min(busy, at + r.uniform(5, 500)), r.choice(("later", "hang", "lost", "never")))
            )
    kills = tuple(_kill(r, busy) for _ in range(r.choice((0, 0, 1, 1, 2, 4))))
    jumps: list[tuple[float, float]] = []
    if r.random() < 0.5 and not any(kill.reboot for kill in kills):
        for _ in range(r.choice((1, 1, 2))):
            size = r.choice((r.uniform(0.6, 5), r.uniform(5, 600), 3600.0, r.uniform(3600, DAY)))
            jumps.append((r.uniform(0, busy), size * r.choice((-1, 1))))
    watchdog = r.random() < 0.15
    away = ((at := r.uniform(0, busy), at + r.uniform(30, 500)),) if watchdog and r.random() < 0.6 else ()
    silences = ((subjects[0], at := r.uniform(0, busy), at + r.uniform(60, 400)),) if verifies and r.random() < 0.3 else ()
    forgotten = ((at := r.uniform(0, busy), at + r.uniform(10, FORGOTTEN_SECONDS_MAX)),) if verifies and r.random() < 0.4 else ()
    plan = Plan(
        policy, busy, ends_at, tuple(bursts), tuple(illnesses), kills, tuple(sorted(jumps)),
        r.uniform(-5e-4, 5e-4) * (r.random() < 0.3),
        r.choice(BEGINS), verifies, watchdog, away, silences, forgotten, r.choice((0.0, 0.3, 0.8)), r.uniform(2, 400),
    )  # fmt: skip
    return plan, r


def _policy(r: random.Random) -> Policy:
    levels = []
    for number in range(r.choice((1, 2, 2, 3))):
        channels = r.sample(CHANNELS, r.choice((1, 1, 2)))
        if number == 0 and channels == ["log"]:
            channels = ["pagerduty"]
        targets = tuple(Target(f"person{number}", channel) for channel in channels)
        levels.append(Level(targets, r.choice((30.0, 60.0, 120.0, 300.0))))
    return Policy("default", tuple(levels), r.choice((0, 1, 2)), r.random() < 0.85)


def _kill(r: random.Random, busy: float) -> Kill:
    where: Any = r.choice(("time", "before", "after", "took"))
    at = r.uniform(0, busy) if where == "time" else float(r.randint(2, 60) if where != "took" else r.randint(1, 8))
    return Kill(where, at, r.choice((r.uniform(0.3, 5), r.uniform(5, 60), r.uniform(60, 600))), r.random() < 0.1)
