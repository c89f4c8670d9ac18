"""Convicts a history of an escalator from its journal: when pages were opened, who was told when, what the receivers have.

It knows the policy, when the process was up and what channels answered; it does not ask the core. Times are true times, so a
clock that was set excuses nothing; what excuses lateness is only: the process was down, or a message of the same page was still
under way in the same channel. Promises:

1. Every level of an open page is told when it is due, within a second of the moment from which that was possible, to each of
its targets; not before, unless every channel of the level before refuses and nobody was reached by it. 2. Acknowledged or
closed pages tell nobody of a further level, nor try again. 3. Levels are repeated as often as the policy says, and no more. 4.
In the end every receiver has what is true: one incident a page, triggered, acknowledged or resolved. 5. A message that is sent
again has the same id, and no two messages share one; what was delivered is not sent again. 6. `MonitorBlind` is open when, and
only when, Watchdog was not heard or not renewed for too long, without the time that the process was down; and closed once it
is. 7. A page whose resolve got lost is closed all the same, where Alertmanager is asked.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise

from alerts.escalator.core import REFUSING_FAILURES, REFUSING_SECONDS
from alerts.escalator.due import RENEWAL_SECONDS
from alerts.escalator.policy import Level, Policy, Target, reaches_a_person
from alerts.escalator.state import BLIND
from tests.alerts.history_plan import CHANNELS, HEALED_VERIFYING_SECONDS
from tests.alerts.history_seen import Attempt, Life, Seen

ERROR_SECONDS_MAX = 1.0
# Of the slewing clock, over the longest timeout.
SLEWED_SECONDS = 0.2
# How long the process must be up to get to it.
TURN_SECONDS = 0.8
HEARTBEAT_SECONDS = 6.0


# By channel: since when it counts as refusing, and no more, in order.
Refusing = Mapping[str, list[tuple[float, bool]]]


def judge(seen: Seen) -> list[str]:
    return _Judge(seen).complaints()


class _Judge:
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.end = seen.plan.ends_at
        self.found = list(seen.complaints)
        self.by_key: dict[str, list[Attempt]] = {}
        for attempt in seen.attempts:
            self.by_key.setdefault(attempt.note.key, []).append(attempt)
        # Where it is a matter of the slewing clock whether a channel has failed for long enough, both are right.
        self.refusing: list[Refusing] = [
            {name: self._refusing(name, REFUSING_SECONDS + slewed) for name in CHANNELS}
            for slewed in (-SLEWED_SECONDS, SLEWED_SECONDS)
        ]

    def complaints(self) -> list[str]:
        for life in self.seen.lives.values():
            self._levels(life)
            self._receivers(life)
        self._ids()
        if self.seen.plan.watchdog:
            self._blindness()
        if self.seen.plan.verifies:
            self._lost_resolves()
        return self.found

    # -- 1, 2, 3

    def _levels(self, life: Life) -> None:
        policy = self._policy(life)
        stop = min(at for at in (life.acknowledged_at, life.closed_at, self.end) if at is not None)
        attempts = [each for each in self.by_key.get(life.key, []) if each.note.kind == "trigger"]
        late = [each for each in attempts if each.at > stop + 1e-6]
        if late:
            self.found.append(f"{life.key}: tells {late[0].note.id} at {late[0].at:.1f}, after it ended at {stop:.1f}")
        steps = [(round_, level) for round_ in range(1, policy.repeat + 2) for level in range(1, len(policy.levels) + 1)]
        beyond = [each for each in attempts if (each.note.round, each.note.level) not in steps]
        if beyond:
            self.found.append(f"{life.key}: tells {beyond[0].note.id}, which the policy does not know")
        due, hurried = life.opened_at, []
        for number, (round_, level) in enumerate(steps):
            told = life.told_at.get((round_, level))
            expected = _nearest([min(due, each) for each in hurried] or [due], told)
            if told is None:
                if self._possible(expected) + ERROR_SECONDS_MAX + SLEWED_SECONDS < stop:
                    self.found.append(f"{life.key}: level {round_}.{level} is not told; due {expected:.1f}, ended {stop:.1f}")
                return
            if not expected - ERROR_SECONDS_MAX - SLEWED_SECONDS <= told:
                self.found.append(f"{life.key}: level {round_}.{level} is told at {told:.1f}, due {expected:.1f}: too early")
                return
            if told > self._possible(expected) + ERROR_SECONDS_MAX + SLEWED_SECONDS:
                self.found.append(f"{life.key}: level {round_}.{level} is told at {told:.1f}, due {expected:.1f}: too late")
                return
            self._targets(life, policy.levels[level - 1], (round_, level), told, stop, attempts)
            seconds = policy.levels[level - 1].acknowledge_seconds
            if seconds is None or number == len(steps) - 1:
                return
            at_end = level == len(policy.levels)
            due = (told if at_end and told - expected > ERROR_SECONDS_MAX else expected) + seconds
            hurried = [] if at_end else self._hurried(policy.levels[level - 1], (round_, level), told, attempts)

    def _targets(
        self, life: Life, level: Level, step: tuple[int, int], told: float, stop: float, attempts: list[Attempt]
    ) -> None:  # fmt: skip
        for target in level.targets:
            tried = [each.at for each in attempts if _is_for(each, step, target)]
            until = self._possible(told)
            for each in self.by_key.get(life.key, []):
                # What was under way, or was told for the first time, too, before it; not what was tried again.
                first = each.at <= told or each.note.attempts == 0
                before = first and each.at <= until + ERROR_SECONDS_MAX and each.ends_at > until
                if before and each.note.channel == target.channel and not _is_for(each, step, target):
                    until = self._possible(each.ends_at)
            until += ERROR_SECONDS_MAX
            if not tried and until < stop:
                self.found.append(f"{life.key}: {target.who} was not told by {target.channel} of {step}; possible by {until:.1f}")
            elif tried and min(tried) > until:
                self.found.append(
                    f"{life.key}: {target.who} was told by {target.channel} of {step} at {min(tried):.1f}: too late"
                )

    def _hurried(self, level: Level, step: tuple[int, int], told: float, attempts: list[Attempt]) -> list[float]:
        """When it became clear that this level reaches nobody; infinite: it did not. Two, if its clock decides it."""
        return [self._unreached(level, step, told, attempts, refusing) for refusing in self.refusing]

    def _unreached(self, level: Level, step: tuple[int, int], told: float, attempts: list[Attempt], refusing: Refusing) -> float:
        channels = {target.channel for target in level.targets if reaches_a_person(target.channel)}
        if not channels:
            return float("inf")
        taken = [each.ends_at for each in attempts if (each.note.round, each.note.level) == step and each.result == "ok"
                 and each.note.channel in channels]  # fmt: skip
        moments = sorted({told, *(at for name in channels for at, _ in refusing[name] if at > told)})
        for at in moments:
            if any(ended <= at for ended in taken):
                break
            if all(_refuses(refusing[name], at) for name in channels):
                return at
        return float("inf")

    def _refusing(self, channel: str, least_seconds: float) -> list[tuple[float, bool]]:
        """When it began and ended to count as refusing, by what it answered."""
        changes: list[tuple[float, bool]] = []
        failures, since, refuses = 0, 0.0, False
        answered = [each for each in self.seen.attempts if each.note.channel == channel and each.result]
        for each in sorted(answered, key=lambda each: each.ends_at):
            if each.result == "ok":
                failures, was, refuses = 0, refuses, False
            else:
                since = since if failures else each.ends_at
                failures += 1
                lasts = failures >= REFUSING_FAILURES and each.ends_at - since >= least_seconds
                was, refuses = refuses, refuses or each.result == "refused" or lasts
            if was != refuses:
                changes.append((each.ends_at, refuses))
        return changes

    def _possible(self, at: float) -> float:
        """The first moment from `at` on at which the process is up for long enough."""
        for began, ended in self.seen.up:
            if max(began, at) + TURN_SECONDS <= ended:
                return max(began, at)
        return float("inf")

    def _policy(self, life: Life) -> Policy:
        policy = self.seen.plan.policy
        if not life.avoid:
            return policy
        targets = tuple(Target("on-call", name) for name in CHANNELS if name != life.avoid)
        return Policy("", (Level(targets, policy.levels[0].acknowledge_seconds),), policy.repeat)

    # -- 4

    def _receivers(self, life: Life) -> None:
        attempts = self.by_key.get(life.key, [])
        wanted = "resolved" if life.closed_at is not None else "acknowledged" if life.acknowledged_at is not None else "triggered"
        for channel in {each.note.channel for each in attempts if reaches_a_person(each.note.channel)}:
            mine = [each for each in attempts if each.note.channel == channel]
            has = self.seen.incidents.get((channel, life.key), [])
            if len(has) > 1:
                self.found.append(f"{life.key}: {channel} has {len(has)} incidents of it")
            if any(each.result == "refused" for each in mine) or self._just_ended(life):
                continue
            if has and has[-1] != wanted:
                self.found.append(f"{life.key} is {wanted}, and {channel} has {has[-1]}")
            if not has and wanted == "triggered":
                self.found.append(f"{life.key} is open, and {channel} knows nothing of it")

    def _just_ended(self, life: Life) -> bool:
        """Its last change, or its last level, is too young to be at every receiver."""
        changes = [life.opened_at, *life.told_at.values(), life.acknowledged_at or 0.0, life.closed_at or 0.0]
        return max(changes) > self.end - 100.0

    # -- 5

    def _ids(self) -> None:
        ids: dict[tuple[object, ...], str] = {}
        done: dict[str, float] = {}
        for each in self.seen.attempts:
            note = each.note
            what = (note.key, note.kind, note.round, note.level if note.kind == "trigger" else 0, note.who, note.channel)
            if ids.setdefault(what, note.id) != note.id:
                self.found.append(f"{note.id} was {ids[what]} before")
            if note.id in done:
                self.found.append(f"{note.id} was delivered at {done[note.id]:.1f} and is sent again at {each.at:.1f}")
            if each.result == "ok":
                done[note.id] = each.ends_at
        if len(set(ids.values())) < len(ids):
            self.found.append("two messages share an id")

    # -- 6

    def _blindness(self) -> None:
        late, grace = self.seen.setup.deadman_late_seconds, self.seen.setup.deadman_grace_seconds
        lives = sorted((each for each in self.seen.lives.values() if each.subject == BLIND), key=lambda each: each.opened_at)
        for life in lives:
            if not any(
                self._up_seconds(at, life.opened_at) >= allowed - SLEWED_SECONDS for at, allowed in self._signs(life, late, grace)
            ):
                self.found.append(f"MonitorBlind at {life.opened_at:.1f}: too early")
        for began, ended, allowed in self._gaps(late, grace):
            limit = allowed + HEARTBEAT_SECONDS * self.seen.restarts + ERROR_SECONDS_MAX + SLEWED_SECONDS
            if self._up_seconds(began, ended) <= limit:
                continue
            if not any(life.opened_at < ended and (life.closed_at or self.end + 1) >= ended for life in lives):
                self.found.append(f"no sign from {began:.1f} to {ended:.1f}, and MonitorBlind is not open")

    def _signs(self, life: Life, late: float, grace: float) -> list[tuple[float, float]]:
        """The last signs before it, each with how long it may be the last."""
        heard = [each for each in self.seen.heard if each < life.opened_at]
        renewed = [each for each in self.seen.renewed if each < life.opened_at]
        if not heard:
            return [(0.0, grace)]
        return [(heard[-1], late), *((at, late + RENEWAL_SECONDS) for at in renewed[-1:])]

    def _gaps(self, late: float, grace: float) -> Iterator[tuple[float, float, float]]:
        heard = self.seen.heard
        for began, ended in pairwise([0.0, *heard, self.end]):
            yield began, ended, late if began else grace
        for began, ended in pairwise([*self.seen.renewed, self.end]):
            if heard and heard[0] < began:
                yield began, ended, late + RENEWAL_SECONDS

    def _up_seconds(self, began: float, ended: float) -> float:
        return sum(max(0.0, min(to, ended) - max(since, began)) for since, to in self.seen.up)

    # -- 7

    def _lost_resolves(self) -> None:
        healed = self.end - HEALED_VERIFYING_SECONDS
        blind = [each for each in self.seen.lives.values() if each.subject == BLIND and (each.closed_at or self.end) > healed]
        for life in self.seen.lives.values():
            bursts = [each for each in self.seen.plan.bursts if each.subject == life.subject]
            over = bursts and all(each.until < healed for each in bursts)
            closes = self.seen.plan.policy.stop_on_resolve or life.acknowledged_at is not None
            if over and closes and life.closed_at is None and not blind:
                self.found.append(f"{life.key}: over since {max(each.until for each in bursts):.1f}, and never closed")


def _refuses(changes: list[tuple[float, bool]], at: float) -> bool:
    place = bisect_right(changes, (at, True))
    return place > 0 and changes[place - 1][1]


def _nearest(moments: list[float], told: float | None) -> float:
    """Of those that are all right, the one that was meant; the last, if nobody was told."""
    return max(moments) if told is None else min(moments, key=lambda each: abs(each - told))


def _is_for(attempt: Attempt, step: tuple[int, int], target: Target) -> bool:
    note = attempt.note
    return note.kind == "trigger" and (note.round, note.level, note.who, note.channel) == (*step, target.who, target.channel)
