"""What canary and ledger say of what they saw."""

from collections.abc import Iterator

import numpy as np

from alerts.proof import canary
from alerts.proof.exposition import Exposition, Target
from alerts.proof.flow import Flow
from alerts.proof.series import Floats, Series
from alerts.proof.spans import complement, stuck_since, within
from telemetry import metrics as m
from telemetry.hops import HOPS

_VERDICTS = ("LOST", "DOUBLED", "PHANTOM", "CORRUPT")
WINDOW_SECONDS, LEDGER_DEADLINE_SECONDS, LEDGER_PATIENCE_SECONDS, LEDGER_ROUND_SECONDS = 10.0, 90.0, 120.0, 5.0
LEDGER_HORIZON_SECONDS = 3600.0
# Of a ledger that begins: until it has read what there is, it says that it can't see.
_LEDGER_BEGIN_SECONDS = 12.0


class Watchers:
    def __init__(self, flow: Flow, expose: Exposition, rng: np.random.Generator) -> None:
        self._flow, self._expose, self._rng, self._story = flow, expose, rng, flow.story

    def of(self, target: Target) -> Iterator[Series]:
        makers = {"canary": self._canary, "ledger": self._ledger}
        if target.process in makers:
            yield from makers[target.process](target)

    def _canary(self, target: Target) -> Iterator[Series]:
        rng, alive = np.random.default_rng(self._story.seed + 1), complement(target.dead)
        doors = canary.send(self._story, rng, alive, self._flow.outages, self._flow.ends)
        for door, out in doors.items():
            for outcome in ("accepted", "rejected", "unanswered", "held_back"):
                mine = {"accepted": out.accepted, "unanswered": ~out.accepted}.get(outcome, np.zeros(len(out.sent), dtype=bool))
                yield from self._expose.happened(
                    target, m.CANARY_SENT.name, {"door": door, "outcome": outcome}, np.sort(out.answered[mine])
                )
        for exit in canary.EXITS:
            for door in canary.DOORS:
                if exit == "web-backup" and door == "grpc":
                    continue
                lane = canary.look(self._story, rng, exit, door, doors[door], alive, self._flow.outages, self._flow.ends)
                yield from self._lane(target, lane)
        yield from self._blame(target)
        yield from self._checks(target)
        yield from self._expose.gauge(target, m.CANARY_PENDING_EVENTS, {}, 30 + self._rng.gamma(3.0, 2.0, len(target.ok)))

    def _lane(self, target: Target, lane: canary.Lane) -> Iterator[Series]:
        labels = {"exit": lane.exit, "door": lane.door}
        yield from self._expose.observed(target, m.CANARY_FRESHNESS_SECONDS, labels, lane.seen, lane.fresh)
        for verdict, at in lane.verdicts.items():
            yield from self._expose.happened(target, m.CANARY_VERDICTS.name, {**labels, "verdict": verdict}, at)
        begins, ends = np.sort(lane.overdue[:, 0]), np.sort(lane.overdue[:, 1])
        under_way = np.searchsorted(begins, target.ok, side="right") - np.searchsorted(ends, target.ok, side="right")
        yield from self._expose.gauge(target, m.CANARY_OVERDUE_EVENTS, labels, under_way.astype(float))
        if lane.door == "http":
            exit = {"exit": lane.exit}
            for outcome, at in (("looked", lane.looked), ("failed", lane.failed)):
                yield from self._expose.happened(target, m.CANARY_LOOKS.name, {**exit, "outcome": outcome}, at)
            yield from self._expose.observed(target, m.CANARY_LOOK_SECONDS, exit, lane.looked, np.full(len(lane.looked), 0.15))
            if len(lane.looked):
                last = lane.looked[np.maximum(np.searchsorted(lane.looked, target.ok, side="right") - 1, 0)]
                yield from self._expose.gauge(target, m.CANARY_LOOKED, exit, np.minimum(last, target.ok) + self._flow.epoch)

    def _blame(self, target: Target) -> Iterator[Series]:
        """Told from half a minute after a hop's outage began: when its first probes were due."""
        for hop in sorted({*self._flow.outages, "etl"} - {"kinesis"}):
            blamed = np.zeros(len(target.ok))
            for begins, ends in self._flow.outages.get(hop, []):
                wait = 5.0 if hop.endswith("-door") else 20.0
                blamed[(target.ok >= begins + wait) & (target.ok < ends + wait)] = 4.0
            yield from self._expose.gauge(target, m.CANARY_BLAMED_EVENTS, {"hop": hop}, blamed)

    def _checks(self, target: Target) -> Iterator[Series]:
        rounds = np.arange(self._rng.uniform(0, canary.CHECK_SECONDS), self._flow.ends, canary.CHECK_SECONDS)
        for check in ("broken_event", "personal_data", "refused_keys", "old_schema"):
            convicted = within(rounds, self._story.spans("leak", check))
            for verdict, at in (("held", rounds[~convicted]), ("convicted", rounds[convicted]), ("unknown", rounds[:0])):
                yield from self._expose.happened(target, m.CANARY_CHECKS.name, {"check": check, "verdict": verdict}, at)

    def _ledger(self, target: Target) -> Iterator[Series]:
        ok, blind = target.ok, self._story.spans("blind", "ledger")
        windows = np.arange(0.0, self._flow.ends, WINDOW_SECONDS)
        phase = self._rng.uniform(0, LEDGER_ROUND_SECONDS)
        judged = _next_round(windows + WINDOW_SECONDS + LEDGER_DEADLINE_SECONDS, phase)
        lost = _next_round(windows + WINDOW_SECONDS + LEDGER_DEADLINE_SECONDS + LEDGER_PATIENCE_SECONDS, phase)
        events = np.interp(windows, self._flow.at, self._flow.traffic) * WINDOW_SECONDS * 2
        yield from self._expose.happened(target, m.LEDGER_ACCOUNTED.name, {}, judged, np.floor(events))
        for verdict in ("OK", "LATE", "UNKNOWN"):
            at = judged if verdict == "OK" else judged[:0]
            yield from self._expose.happened(target, m.LEDGER_WINDOWS.name, {"verdict": verdict}, at, np.full(len(at), 4.0))
            yield from self._expose.gauge(target, m.LEDGER_STANDING, {"verdict": verdict}, 1400.0 if verdict == "OK" else 0.0)
        for verdict in _VERDICTS:
            convicted = [np.empty(0)]
            for hop in (*(hop.name for hop in HOPS), "events-clean", "backup/web-events"):
                at, weights = self._findings(verdict, hop, windows, events, judged, lost)
                convicted.append(at)
                yield from self._expose.happened(target, m.LEDGER_FINDINGS.name, {"verdict": verdict, "hop": hop}, at, weights)
            at = np.sort(np.concatenate(convicted))
            yield from self._expose.happened(target, m.LEDGER_WINDOWS.name, {"verdict": verdict}, at)
            # Until they leave the horizon.
            standing = np.searchsorted(at, ok, side="right") - np.searchsorted(at, ok - LEDGER_HORIZON_SECONDS, side="right")
            yield from self._expose.gauge(target, m.LEDGER_STANDING, {"verdict": verdict}, standing.astype(float))
        seeing = (ok - np.maximum(target.life, -1e9) >= _LEDGER_BEGIN_SECONDS) & ~within(ok, blind)
        yield from self._expose.gauge(target, m.LEDGER_SIGHT, {}, seeing.astype(float))
        newest = windows[np.maximum(np.searchsorted(judged, ok, side="right") - 1, 0)] + WINDOW_SECONDS
        since = stuck_since(ok, blind)
        at_blind = windows[np.maximum(np.searchsorted(judged, np.where(np.isfinite(since), since, 0.0)) - 1, 0)] + WINDOW_SECONDS
        age = np.where(np.isfinite(since), ok - at_blind, ok - newest)
        yield from self._expose.gauge(
            target, m.LEDGER_JUDGED_AGE, {}, np.where(ok - target.life < _LEDGER_BEGIN_SECONDS, 0.0, np.maximum(age, 0))
        )
        yield from self._expose.gauge(target, m.LEDGER_UNREADABLE, {}, 0.0)

    def _findings(
        self, verdict: str, hop: str, windows: Floats, events: Floats, judged: Floats, lost: Floats
    ) -> tuple[Floats, Floats]:
        """When the ledger convicts at this hop, and how many events."""
        count, at = np.zeros(len(windows)), lost if verdict == "LOST" else judged
        for fault in self._story.of("loss", hop) if verdict == "LOST" else ():
            hit = (windows >= fault.begins) & (windows < fault.ends)
            count += hit * self._rng.poisson(events * fault.share)
        for fault in self._story.of("convicted", verdict) if hop == "redactor" else ():
            count += (windows >= fault.begins) & (windows < fault.ends)
        return at[count > 0], count[count > 0]


def _next_round(at: Floats, phase: float) -> Floats:
    return np.ceil((at - phase) / LEDGER_ROUND_SECONDS) * LEDGER_ROUND_SECONDS + phase
