"""The pipeline, simulated as far as Prometheus sees it: every metric of the catalogue, of every process, at every scrape.

    a story ─► who lives when ─► what flows in each bin of time ─► counters, gauges, histograms ─► what each scrape finds

Rules
- A counter is what its pace adds up to since its process began; a process that begins anew counts from 0.
- A scrape that fails leaves `up` at 0 and ends every series of its target, as Prometheus does.
- Whatever is random is so by the story's seed: the same story is the same series.
- To add a metric: an entry in its process's method. A test fails while a rule reads what is not simulated here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from prometheus_client import utils

from alerts.proof import canary
from alerts.proof.series import Floats, Millis, Series, stale
from alerts.proof.story import Story
from telemetry import metrics as m
from telemetry.hops import EXITS, HOPS
from telemetry.metrics import Metric

Bools = npt.NDArray[np.bool_]
Spans = list[tuple[float, float]]

# Process, and whether several share its work.
PROCESSES: dict[str, bool] = {
    "grpc": True, "http": True, "transcoder": True, "redactor": True, "etl": False, "auditor": False, "canary": False,
    "ledger": False, "store": False, "console": False, "escalator": False, "watch": False,
}  # fmt: skip
PORT_FIRST = 4600
STREAMS = ("web-events", "events", "events-clean")
_WRITER_OF = {"http": "web-events", "grpc": "events", "redactor": "events-clean"}
SHARDS, SHARDS_AFTER = ("shardId-000000000000", "shardId-000000000001"), ("shardId-000000000002", "shardId-000000000003")
TENANTS, TYPES = ("acme", "globex"), ("spillway.events.v1.OrderPlaced",)
VERDICTS = ("LOST", "DOUBLED", "PHANTOM", "CORRUPT")
WINDOW_SECONDS, LEDGER_DEADLINE_SECONDS, LEDGER_PATIENCE_SECONDS, LEDGER_ROUND_SECONDS = 10.0, 90.0, 120.0, 5.0
LEDGER_HORIZON_SECONDS = 3600.0
# Of a ledger that begins: until it has read what there is, it says that it can't see.
LEDGER_BEGIN_SECONDS = 12.0
_EVENTS_A_REQUEST = 20.0
MIB, DAY_SECONDS = float(1 << 20), 86400.0


@dataclass
class _Target:
    """A process with a health port: when it was looked at, and what was found."""

    process: str
    worker: str
    labels: dict[str, str]
    scrapes: Floats
    # When it does not live.
    dead: Spans
    # Scrapes that reach it, when each of its lives began, as seen from them, and the first scrapes that do not.
    ok: Floats = field(init=False)
    life: Floats = field(init=False)
    _lost: Floats = field(init=False)
    missed: Spans = field(default_factory=list)

    def __post_init__(self) -> None:
        reached = ~within(self.scrapes, self.dead) & ~within(self.scrapes, self.missed)
        self.up = reached.astype(float)
        self.ok = self.scrapes[reached]
        self._lost = self.scrapes[1:][reached[:-1] & ~reached[1:]]
        ends = np.array([end for _, end in self.dead] or [-np.inf])
        self.life = np.maximum.accumulate(np.append(-np.inf, np.sort(ends)))[
            np.searchsorted(np.sort(ends), self.ok, side="right")
        ]

    def found(self, labels: Mapping[str, str], values: Floats, epoch_ms: int) -> Series:
        """`values` are those at the scrapes that reach it."""
        places = np.searchsorted(self.ok, self._lost)
        times = np.insert(self.ok, places, self._lost)
        return Series({**labels, **self.labels}, to_ms(times, epoch_ms), np.insert(values, places, stale(len(places))))


class World:
    """The series of a story; `wanted`: names, as rules read them, or None for all."""

    def __init__(self, story: Story, wanted: Collection[str] | None = None) -> None:
        self.story, self._wanted = story, wanted
        self._rng = np.random.default_rng(story.seed)
        self._edges = story.edges
        self._at = (story.edges[:-1] + story.edges[1:]) / 2
        self._width = np.diff(story.edges)
        self._ends = float(story.edges[-1])
        self._epoch = story.epoch_ms / 1000
        self.targets = list(self._targets())
        self._hidden = {fault.where: fault.span for fault in story.faults if fault.kind == "absent"}
        self._outages = {
            hop: self._outage(hop) for hop in (*canary.way("http", "lake"), *EXITS, "backup", "web-backup", "kinesis")
        }
        self._traffic = np.maximum(story.traffic(self._at), 0.0)

    # Who lives.

    def _targets(self) -> Iterator[_Target]:
        port = PORT_FIRST
        for process, several in PROCESSES.items():
            count = self.story.workers_each if several else 1
            for number in range(count):
                worker = process if count == 1 else f"{process}-{number + 1}"
                labels = {"job": "spillway", "process": process, "worker": worker, "instance": f"127.0.0.1:{port}"}
                port += 1
                scrapes = self.story.scrapes + round(self._rng.uniform(0, 4.999), 3)
                dead, missed = self.story.spans("killed", process, worker), self.story.spans("unscraped", worker)
                yield _Target(process, worker, labels, scrapes, dead, missed=missed)

    def _of(self, process: str) -> list[_Target]:
        return [target for target in self.targets if target.process == process]

    def _all_dead(self, process: str) -> Spans:
        """When no worker of it lives."""
        common: Spans = [(-np.inf, np.inf)]
        for target in self._of(process):
            common = [(max(a, c), min(b, d)) for a, b in common for c, d in target.dead if max(a, c) < min(b, d)]
        return common

    def _outage(self, hop: str) -> Spans:
        """When a hop takes nothing."""
        process = {hop.name: hop.process for hop in HOPS}.get(hop, "")
        process = "" if hop in ("kinesis", "backup") else process
        spans = self.story.spans("stopped", hop) + self.story.spans("away", hop)
        spans += self._all_dead(process) if process else []
        return sorted(spans + (self.story.spans("stopped", "kinesis") if hop != "kinesis" and hop not in EXITS else []))

    # What is seen.

    def series(self) -> Iterator[Series]:
        for target in self.targets:
            for each in self._of_target(target):
                yield from self._without_hidden(each)

    def _of_target(self, target: _Target) -> Iterator[Series]:
        if self._wants("up"):
            yield Series({"__name__": "up", **target.labels}, to_ms(target.scrapes, self.story.epoch_ms), target.up)
        makers = {
            "grpc": self._door, "http": self._door, "transcoder": self._worker, "redactor": self._worker, "etl": self._etl,
            "auditor": self._auditor, "canary": self._canary, "ledger": self._ledger, "store": self._store,
        }  # fmt: skip
        if target.process in makers:
            yield from makers[target.process](target)
        yield from self._telemetry(target)
        yield from self._itself(target)

    def _without_hidden(self, series: Series) -> Iterator[Series]:
        """Series of a metric that is hidden end, as if they were no longer exposed."""
        name = series.labels["worker"] if series.name == "up" else _family(series.name)
        if name not in self._hidden:
            yield series
            return
        begins, ends = self._hidden[name]
        at = series.times_ms / 1000 - self._epoch
        kept = (at < begins) | (at >= ends)
        times, values = series.times_ms[kept], series.values[kept]
        gone = series.times_ms[~kept][:1]
        place = np.searchsorted(times, gone)
        # A target that is no longer scraped at all ends as well.
        yield Series(series.labels, np.insert(times, place, gone), np.insert(values, place, stale(len(gone))))

    def _wants(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted

    # Kinds of series.

    def _counter(self, target: _Target, metric: Metric, labels: Mapping[str, str], pace: Floats | float) -> Iterator[Series]:
        """`pace`: a second, in each bin."""
        if self._wants(metric.name):
            yield self._counted(target, metric.name, labels, self._cumulative(pace))

    def _cumulative(self, pace: Floats | float) -> Floats:
        return np.append(0.0, np.cumsum(pace * self._width))

    def _counted(self, target: _Target, name: str, labels: Mapping[str, str], cumulative: Floats) -> Series:
        at, began = (np.interp(times, self._edges, cumulative) for times in (target.ok, target.life))
        return target.found({"__name__": name, **labels}, np.floor(at - began + 1e-6), self.story.epoch_ms)

    def _happened(
        self, target: _Target, metric: str, labels: Mapping[str, str], times: Floats, weights: Floats | None = None
    ) -> Iterator[Series]:
        """A counter of single happenings; `times` rise."""
        if self._wants(metric):
            counts = np.append(0.0, np.cumsum(np.ones(len(times)) if weights is None else weights))
            at, began = (counts[np.searchsorted(times, when, side="right")] for when in (target.ok, target.life))
            yield target.found({"__name__": metric, **labels}, at - began, self.story.epoch_ms)

    def _gauge(
        self, target: _Target, metric: Metric | str, labels: Mapping[str, str], values: Floats | float
    ) -> Iterator[Series]:
        """`values` at the scrapes that reach it."""
        name = metric if isinstance(metric, str) else metric.name
        if self._wants(name):
            filled = np.broadcast_to(np.asarray(values, dtype=np.float64), target.ok.shape)
            yield target.found({"__name__": name, **labels}, filled, self.story.epoch_ms)

    def _histogram(
        self,
        target: _Target,
        metric: Metric,
        labels: Mapping[str, str],
        pace: Floats,
        share: Callable[[float], Floats | float],
        mean: float,
    ) -> Iterator[Series]:
        """`share(bound)`: of what is observed, how much is at most so long; in each bin, or always."""
        if self._wants(f"{metric.name}_bucket"):
            for bound in (*metric.buckets, np.inf):
                part = 1.0 if np.isinf(bound) else share(bound)
                le = {"le": le_of(bound)}
                yield self._counted(target, f"{metric.name}_bucket", {**labels, **le}, self._cumulative(pace * part))
        for suffix, times in (("_count", 1.0), ("_sum", mean)):
            if self._wants(metric.name + suffix):
                yield self._counted(target, metric.name + suffix, labels, self._cumulative(pace * times))

    def _observed(
        self, target: _Target, metric: Metric, labels: Mapping[str, str], at: Floats, values: Floats
    ) -> Iterator[Series]:
        """A histogram of single observations; times rise."""
        for bound in (*metric.buckets, np.inf) if self._wants(f"{metric.name}_bucket") else ():
            yield from self._happened(target, f"{metric.name}_bucket", {**labels, "le": le_of(bound)}, at[values <= bound])
        yield from self._happened(target, f"{metric.name}_count", labels, at)
        yield from self._happened(target, f"{metric.name}_sum", labels, at, values)

    def _wants_any(self, *metrics: Metric) -> bool:
        endings = ("", "_bucket", "_count", "_sum")
        return self._wanted is None or any(f"{each.name}{ending}" in self._wanted for each in metrics for ending in endings)

    # What flows.

    def _open(self, hop: str) -> Floats:
        """1 where the hop takes what comes."""
        return (~within(self._at, self._outages[hop])).astype(float)

    def _portion(self, target: _Target) -> Floats:
        """Of its process's work, what this worker has: those that live share it."""
        living = [~within(self._at, each.dead) for each in self._of(target.process)]
        mine = ~within(self._at, target.dead)
        shared: Floats = mine / np.maximum(np.sum(living, axis=0), 1).astype(np.float64)
        return shared

    def _share(self, kind: str, hop: str) -> Floats:
        share = np.zeros(len(self._at))
        for fault in self.story.faults:
            if fault.kind == kind and fault.where == hop:
                share[(self._at >= fault.begins) & (self._at < fault.ends)] = fault.share
        return share

    def _late(self, hop: str) -> Floats:
        """How much more than usual a hop takes in each bin: what had waited, within some seconds of its outage's end."""
        late = np.zeros(len(self._at))
        for begins, ends in self._outages[hop]:
            drain = (self._at >= ends) & (self._at < ends + _DRAIN_SECONDS)
            if drain.any():
                waited = self._traffic[within(self._at, [(begins, ends)])] @ self._width[within(self._at, [(begins, ends)])]
                late[drain] += waited / float(self._width[drain].sum())
        return late

    # Processes.

    def _door(self, target: _Target) -> Iterator[Series]:
        door = target.process
        hop, stream = f"{door}-door", _WRITER_OF[door]
        labels = {"door": door}
        hung = within(self._at, self.story.spans("stopped", hop))
        refused = within(self._at, self.story.spans("stopped", "kinesis"))
        asked = self._traffic * self._portion(target) * ~hung
        bad = np.maximum(self._share("errors", hop), refused.astype(float))
        bad = np.maximum(bad, 1e-5 * self._rng.gamma(1.0, 1.0, len(self._at)))
        malformed = np.maximum(self._share("malformed", hop), 0.002 * self._rng.gamma(2.0, 0.5, len(self._at)))
        for status, share in (("accepted", 1 - bad - malformed), ("retry", bad), ("rejected", malformed), ("queued", 0.0)):
            yield from self._counter(target, m.DOOR_EVENTS, {**labels, "status": status}, asked * np.maximum(share, 0.0))
        reasons = {"throttled": bad * 0.2, "unavailable": bad * 0.7, "overloaded": bad * 0.1, "rule": malformed}
        reasons |= {"unauthenticated": malformed * 0.1, "deadline": bad * 0, "unknown_type": malformed * 0.2}
        for reason, share in reasons.items():
            yield from self._counter(target, m.DOOR_REJECTIONS, {**labels, "reason": reason}, asked * share)
        slow = self._share("slow", hop)
        usual = 0.008 * (1 + asked / 2000.0)
        yield from self._histogram(
            target, m.DOOR_REQUEST_SECONDS, labels, asked / _EVENTS_A_REQUEST,
            lambda bound: at_most(bound, usual, 5.0) * (1 - slow) + (slow if bound >= 10.0 else 0.0), 0.01,
        )  # fmt: skip
        yield from self._counter(target, m.DOOR_LOST_EVENTS, labels, 0.0)
        for tenant in TENANTS:
            for type_ in TYPES:
                pace = asked * (1 - bad - malformed) / len(TENANTS)
                yield from self._counter(target, m.DOOR_TENANT_EVENTS, {**labels, "tenant": tenant, "type": type_}, pace)
        yield from self._gauge(target, m.DOOR_KEYS_USABLE, labels, 1.0)
        noise = self._rng.gamma(2.0, 0.5, len(target.ok))
        yield from self._gauge(target, m.DOOR_IN_FLIGHT_BYTES, labels, MIB * noise)
        yield from self._gauge(target, m.DOOR_IN_FLIGHT_LIMIT_BYTES, labels, 64 * MIB)
        yield from self._gauge(target, m.DOOR_QUEUE_AGE_SECONDS, labels, 0.05 * noise)
        yield from self._writes(target, stream, asked * (1 - malformed), bad)

    def _writes(self, target: _Target, stream: str, events: Floats, bad: Floats) -> Iterator[Series]:
        records, labels = events / 4.0, {"stream": stream}
        yield from self._counter(target, m.KINESIS_WRITE_ENTRY_FAILURES, labels, 0.0)
        throttled = 1e-4 * self._rng.gamma(1.0, 1.0, len(self._at))
        for outcome, share in (("written", 1 - bad), ("throttled", throttled + bad * 0.3), ("failed", bad * 0.7)):
            yield from self._counter(target, m.KINESIS_WRITE_RECORDS, {**labels, "outcome": outcome}, records * share)
        yield from self._histogram(
            target, m.KINESIS_WRITE_SECONDS, labels, records / 10.0, lambda bound: at_most(bound, 0.012, 4.0), 0.015
        )
        for shard in (*SHARDS, *(SHARDS_AFTER if self.story.reshards else ())):
            pace = records * (1 - bad) / 2 * self._shard_is_open(shard)
            yield from self._counter(target, m.KINESIS_WRITE_BYTES, {**labels, "shard": shard}, pace * 1200)
            yield from self._counter(target, m.KINESIS_SHARD_RECORDS, {**labels, "shard": shard}, pace)

    def _shard_is_open(self, shard: str) -> Floats:
        first = min(self.story.reshards, default=np.inf)
        return ((self._at < first) if shard in SHARDS else (self._at >= first)).astype(float)

    def _worker(self, target: _Target) -> Iterator[Series]:
        part, labels = target.process, {"part": target.process}
        events = (self._traffic * (1 if part == "transcoder" else 2) * self._open(part) + self._late(part)) * self._portion(
            target
        )
        dead = 2e-5 * self._rng.gamma(1.0, 1.0, len(self._at))
        yield from self._counter(target, m.CONSUMER_RECORDS, labels, events / 4.0)
        for outcome, share in (("delivered", 1 - dead), ("dead_letter", dead)):
            yield from self._counter(target, m.CONSUMER_EVENTS, {**labels, "outcome": outcome}, events * share)
        for reason in ("rule", "undecodable"):
            yield from self._counter(target, m.DEAD_LETTERS, {"stage": part, "reason": reason}, events * dead / 2)
        refused = within(self._at, self.story.spans("stopped", "kinesis")).astype(float)
        for kind in ("downstream", "failed", "lost"):
            pace = 0.2 * refused * self._portion(target) if kind == "downstream" else 0.0
            yield from self._counter(target, m.CONSUMER_FAILURES, {**labels, "kind": kind}, pace)
        for action in ("drop", "mask", "pseudonymise", "generalise") if part == "redactor" else ():
            yield from self._counter(target, m.REDACTED_FIELDS, {"action": action}, events * 0.3)
            yield from self._gauge(target, m.REDACTION_RULES, {"action": action}, 3.0)
        yield from self._histogram(target, m.CONSUMER_PROCESS_SECONDS, labels, events / 40, lambda b: at_most(b, 0.08, 4.0), 0.1)
        yield from self._histogram(target, m.CONSUMER_WAIT_SECONDS, labels, events / 40, lambda b: at_most(b, 0.4, 4.0), 0.5)
        yield from self._readers(target)
        if part in _WRITER_OF:
            yield from self._writes(target, _WRITER_OF[part], events, np.zeros(len(self._at)))

    def _readers(self, target: _Target) -> Iterator[Series]:
        """Each worker reads one of two shards, or both while the other is away."""
        part, ok = target.process, target.ok
        stuck = stuck_since(ok, self._outages[part])
        behind = np.where(np.isfinite(stuck), ok - stuck, self._rng.gamma(1.5, 0.4, len(ok)))
        progress = np.where(np.isfinite(stuck), stuck, ok - self._rng.uniform(0, 5, len(ok)))
        mine = self._of(part).index(target)
        for at, shard in enumerate(SHARDS[: max(1, self.story.workers_each)]):
            if at % max(1, self.story.workers_each) != mine:
                continue
            labels = {"part": part, "shard": shard}
            yield from self._gauge(target, m.CONSUMER_BEHIND_SECONDS, labels, behind)
            yield from self._gauge(target, m.CONSUMER_PROGRESS, labels, progress + self._epoch)
        yield from self._gauge(target, m.CONSUMER_BEHIND_SECONDS, {"part": part, "shard": ""}, 0.0)

    def _etl(self, target: _Target) -> Iterator[Series]:
        for exit in EXITS:
            labels, ok, at = {"exit": exit}, target.ok, self._at
            # Behind the redactor nothing comes either, but the query itself is well.
            before = self._open("redactor") * self._open("grpc-door")
            late = self._late(exit) + (self._late("redactor") if exit not in self._outages else 0.0)
            usual = self._traffic * 2 * self._open(exit) * before
            for outcome, pace in (
                ("loaded", usual + late),
                ("duplicate", usual * 1e-5),
                ("conflict", 0.0),
                ("dead", usual * 1e-6),
            ):
                yield from self._counter(target, m.ETL_ROWS, {**labels, "outcome": outcome}, pace)
            for reason in ("undecodable", "rule"):
                yield from self._counter(target, m.DEAD_LETTERS, {"stage": f"etl-{exit}", "reason": reason}, usual * 5e-7)
            failing = 0.1 * within(at, self.story.spans("away", exit)).astype(np.float64)
            yield from self._counter(target, m.ETL_FAILURES, labels, failing)
            runs_ = 0.25 * self._open(exit)
            yield from self._histogram(target, m.ETL_BATCH_SECONDS, labels, runs_, lambda b: at_most(b, 1.5, 4.0), 1.8)
            yield from self._gauge(target, m.ETL_BATCH_LIMIT_SECONDS, labels, 20.0)
            waited = self._waited(exit)
            whole = usual + late
            yield from self._histogram(
                target, m.ETL_FRESHNESS_SECONDS, labels, whole,
                lambda b, usual=usual, late=late, waited=waited, whole=whole: (  # type: ignore[misc]
                    usual * at_most(b, 3.0, 5.0) + late * np.minimum(1.0, b / waited)
                ) / np.maximum(whole, 1e-9), 3.2,
            )  # fmt: skip
            stuck = stuck_since(ok, self._outages[exit])
            last = np.where(np.isfinite(stuck), stuck, ok - self._rng.uniform(0, 4, len(ok)))
            yield from self._gauge(target, m.ETL_LAST_BATCH, labels, last + self._epoch)
            yield from self._gauge(target, m.ETL_INPUT_RATE, labels, np.interp(ok, at, usual / 4))
            yield from self._gauge(target, m.ETL_PROCESSING_RATE, labels, 2500.0)

        for kind in ("not_registered", "schema"):
            yield from self._counter(target, m.LAKE_REFUSALS, {"kind": kind}, 0.0)
        yield from self._gauge(target, m.LAKE_SMALL_FILES, {}, 8.0)

    def _waited(self, hop: str) -> Floats:
        """How long what comes late in a bin had waited at most."""
        waited = np.ones(len(self._at))
        for begins, ends in self._outages[hop]:
            waited[(self._at >= ends) & (self._at < ends + _DRAIN_SECONDS)] = max(1.0, ends - begins)
        return waited

    def _auditor(self, target: _Target) -> Iterator[Series]:
        ok = target.ok
        for stream in ("web-events", "events"):
            exit = "web-backup" if stream == "web-events" else "backup"
            labels, events = {"stream": stream}, self._traffic * (1 if stream == "web-events" else 2)
            events = events * self._open(exit) + self._late(exit)
            yield from self._counter(target, m.BACKUP_EVENTS, labels, events)
            yield from self._counter(target, m.BACKUP_OBJECTS, labels, 0.2 * self._open(exit))
            damage = 0.1 * within(self._at, self.story.spans("damage", stream, "")).astype(np.float64)
            yield from self._counter(target, m.BACKUP_DAMAGE, labels, damage)
            yield from self._histogram(target, m.BACKUP_FRESHNESS_SECONDS, labels, events, lambda b: at_most(b, 8.0, 6.0), 8.5)
            stuck = stuck_since(ok, self._outages[exit])
            newest = np.where(np.isfinite(stuck), stuck, ok) - self._rng.uniform(1, 7, len(ok))
            yield from self._gauge(target, m.BACKUP_NEWEST, labels, newest + self._epoch)
            yield from self._gauge(target, m.BACKUP_BEHIND_SECONDS, labels, self._rng.gamma(2.0, 1.5, len(ok)))
        # Now and then a round fails, and the next one does not.
        fails = np.sort(self._rng.uniform(0, self._ends, self._rng.poisson(self._ends / 200_000)))
        yield from self._happened(target, m.BACKUP_AUDIT_FAILURES.name, {}, fails)

    def _canary(self, target: _Target) -> Iterator[Series]:
        rng, alive = np.random.default_rng(self.story.seed + 1), complement(target.dead)
        doors = canary.send(self.story, rng, alive, self._outages, self._ends)
        for door, out in doors.items():
            for outcome in ("accepted", "rejected", "unanswered", "held_back"):
                mine = {"accepted": out.accepted, "unanswered": ~out.accepted}.get(outcome, np.zeros(len(out.sent), dtype=bool))
                yield from self._happened(
                    target, m.CANARY_SENT.name, {"door": door, "outcome": outcome}, np.sort(out.answered[mine])
                )
        for exit in canary.EXITS:
            for door in canary.DOORS:
                if exit == "web-backup" and door == "grpc":
                    continue
                lane = canary.look(self.story, rng, exit, door, doors[door], alive, self._outages, self._ends)
                yield from self._lane(target, lane)
        yield from self._blame(target)
        yield from self._checks(target)
        yield from self._gauge(target, m.CANARY_PENDING_EVENTS, {}, 30 + self._rng.gamma(3.0, 2.0, len(target.ok)))

    def _lane(self, target: _Target, lane: canary.Lane) -> Iterator[Series]:
        labels = {"exit": lane.exit, "door": lane.door}
        yield from self._observed(target, m.CANARY_FRESHNESS_SECONDS, labels, lane.seen, lane.fresh)
        for verdict, at in lane.verdicts.items():
            yield from self._happened(target, m.CANARY_VERDICTS.name, {**labels, "verdict": verdict}, at)
        begins, ends = np.sort(lane.overdue[:, 0]), np.sort(lane.overdue[:, 1])
        under_way = np.searchsorted(begins, target.ok, side="right") - np.searchsorted(ends, target.ok, side="right")
        yield from self._gauge(target, m.CANARY_OVERDUE_EVENTS, labels, under_way.astype(float))
        if lane.door == "http":
            exit = {"exit": lane.exit}
            for outcome, at in (("looked", lane.looked), ("failed", lane.failed)):
                yield from self._happened(target, m.CANARY_LOOKS.name, {**exit, "outcome": outcome}, at)
            yield from self._observed(target, m.CANARY_LOOK_SECONDS, exit, lane.looked, np.full(len(lane.looked), 0.15))
            if len(lane.looked):
                last = lane.looked[np.maximum(np.searchsorted(lane.looked, target.ok, side="right") - 1, 0)]
                yield from self._gauge(target, m.CANARY_LOOKED, exit, np.minimum(last, target.ok) + self._epoch)

    def _blame(self, target: _Target) -> Iterator[Series]:
        """Told from half a minute after a hop's outage began: when its first probes were due."""
        for hop in sorted({*self._outages, "etl"} - {"kinesis"}):
            blamed = np.zeros(len(target.ok))
            for begins, ends in self._outages.get(hop, []):
                wait = 5.0 if hop.endswith("-door") else 20.0
                blamed[(target.ok >= begins + wait) & (target.ok < ends + wait)] = 4.0
            yield from self._gauge(target, m.CANARY_BLAMED_EVENTS, {"hop": hop}, blamed)

    def _checks(self, target: _Target) -> Iterator[Series]:
        rounds = np.arange(self._rng.uniform(0, canary.CHECK_SECONDS), self._ends, canary.CHECK_SECONDS)
        for check in ("broken_event", "personal_data", "refused_keys", "old_schema"):
            convicted = within(rounds, self.story.spans("leak", check))
            for verdict, at in (("held", rounds[~convicted]), ("convicted", rounds[convicted]), ("unknown", rounds[:0])):
                yield from self._happened(target, m.CANARY_CHECKS.name, {"check": check, "verdict": verdict}, at)

    def _ledger(self, target: _Target) -> Iterator[Series]:
        ok, blind = target.ok, self.story.spans("blind", "ledger")
        windows = np.arange(0.0, self._ends, WINDOW_SECONDS)
        phase = self._rng.uniform(0, LEDGER_ROUND_SECONDS)
        judged = next_round(windows + WINDOW_SECONDS + LEDGER_DEADLINE_SECONDS, phase)
        lost = next_round(windows + WINDOW_SECONDS + LEDGER_DEADLINE_SECONDS + LEDGER_PATIENCE_SECONDS, phase)
        events = np.interp(windows, self._at, self._traffic) * WINDOW_SECONDS * 2
        yield from self._happened(target, m.LEDGER_ACCOUNTED.name, {}, judged, np.floor(events))
        for verdict in ("OK", "LATE", "UNKNOWN"):
            at = judged if verdict == "OK" else judged[:0]
            yield from self._happened(target, m.LEDGER_WINDOWS.name, {"verdict": verdict}, at, np.full(len(at), 4.0))
            yield from self._gauge(target, m.LEDGER_STANDING, {"verdict": verdict}, 1400.0 if verdict == "OK" else 0.0)
        for verdict in VERDICTS:
            convicted = [np.empty(0)]
            for hop in (*(hop.name for hop in HOPS), "events-clean", "backup/web-events"):
                at, weights = self._findings(verdict, hop, windows, events, judged, lost)
                convicted.append(at)
                yield from self._happened(target, m.LEDGER_FINDINGS.name, {"verdict": verdict, "hop": hop}, at, weights)
            at = np.sort(np.concatenate(convicted))
            yield from self._happened(target, m.LEDGER_WINDOWS.name, {"verdict": verdict}, at)
            # Until they leave the horizon.
            standing = np.searchsorted(at, ok, side="right") - np.searchsorted(at, ok - LEDGER_HORIZON_SECONDS, side="right")
            yield from self._gauge(target, m.LEDGER_STANDING, {"verdict": verdict}, standing.astype(float))
        seeing = (ok - np.maximum(target.life, -1e9) >= LEDGER_BEGIN_SECONDS) & ~within(ok, blind)
        yield from self._gauge(target, m.LEDGER_SIGHT, {}, seeing.astype(float))
        newest = windows[np.maximum(np.searchsorted(judged, ok, side="right") - 1, 0)] + WINDOW_SECONDS
        since = stuck_since(ok, blind)
        at_blind = windows[np.maximum(np.searchsorted(judged, np.where(np.isfinite(since), since, 0.0)) - 1, 0)] + WINDOW_SECONDS
        age = np.where(np.isfinite(since), ok - at_blind, ok - newest)
        yield from self._gauge(
            target, m.LEDGER_JUDGED_AGE, {}, np.where(ok - target.life < LEDGER_BEGIN_SECONDS, 0.0, np.maximum(age, 0))
        )
        yield from self._gauge(target, m.LEDGER_UNREADABLE, {}, 0.0)

    def _findings(
        self, verdict: str, hop: str, windows: Floats, events: Floats, judged: Floats, lost: Floats
    ) -> tuple[Floats, Floats]:
        """When the ledger convicts at this hop, and how many events."""
        count, at = np.zeros(len(windows)), lost if verdict == "LOST" else judged
        for fault in self.story.of("loss", hop) if verdict == "LOST" else ():
            hit = (windows >= fault.begins) & (windows < fault.ends)
            count += hit * self._rng.poisson(events * fault.share)
        for fault in self.story.of("convicted", verdict) if hop == "redactor" else ():
            count += (windows >= fault.begins) & (windows < fault.ends)
        return at[count > 0], count[count > 0]

    def _store(self, target: _Target) -> Iterator[Series]:
        for signal in ("spans", "logs"):
            for outcome in ("stored", "refused", "expired"):
                yield from self._counter(
                    target, m.STORE_ITEMS, {"signal": signal, "outcome": outcome}, 12.0 if outcome == "stored" else 0.0
                )
        yield from self._histogram(
            target, m.STORE_WRITE_SECONDS, {}, np.full(len(self._at), 1.0), lambda b: at_most(b, 0.01, 4.0), 0.012
        )
        yield from self._gauge(target, m.STORE_BYTES, {}, 600 * MIB)
        yield from self._gauge(target, m.STORE_LIMIT_BYTES, {}, 2048 * MIB)
        yield from self._gauge(target, m.DISK_USED_BYTES, {}, 90_000 * MIB)
        yield from self._gauge(target, m.DISK_SIZE_BYTES, {}, 200_000 * MIB)
        for verdict, missing, pace in (("whole", "", 0.8), ("partial", "lake", 0.0), ("partial", "redactor", 0.0)):
            yield from self._counter(target, m.TRACES_JUDGED, {"verdict": verdict, "missing": missing}, pace)

    def _itself(self, target: _Target) -> Iterator[Series]:
        """What every process says of itself; those that talk to AWS say how that goes."""
        yield from self._gauge(target, m.PROCESS_START, {}, np.maximum(target.life, -DAY_SECONDS) + self._epoch)
        yield from self._counter(target, m.PROCESS_CPU_SECONDS, {}, 0.15)
        yield from self._gauge(target, m.PROCESS_CRASHES, {}, 0.0)
        for service in ("kinesis", "s3", "dynamodb"):
            for kind in ("denied", "throttled", "unavailable", "clock"):
                pace = 0.002 if (service, kind) == ("kinesis", "throttled") else 0.0
                yield from self._counter(target, m.AWS_FAILURES, {"service": service, "kind": kind}, pace)
        yield from self._gauge(target, m.AWS_CLOCK_SKEW_SECONDS, {}, 0.0)

    def _telemetry(self, target: _Target) -> Iterator[Series]:
        for signal in ("spans", "logs"):
            for outcome in ("shipped", "dropped", "failed"):
                yield from self._counter(
                    target, m.TELEMETRY_ITEMS, {"signal": signal, "outcome": outcome}, 2.0 if outcome == "shipped" else 0.0
                )
            yield from self._gauge(target, m.TELEMETRY_QUEUE_ITEMS, {"signal": signal}, self._rng.gamma(2.0, 4.0, len(target.ok)))
        if target.process in ("grpc", "http", "transcoder", "redactor", "auditor"):
            yield from self._counter(target, m.LEDGER_EVENTS, {}, self._traffic)
            for outcome in ("written", "failed"):
                yield from self._counter(target, m.LEDGER_SEGMENTS, {"outcome": outcome}, 0.2 if outcome == "written" else 0.0)
            yield from self._gauge(target, m.LEDGER_UNWRITTEN_SECONDS, {}, self._rng.uniform(0, 5, len(target.ok)))


_DRAIN_SECONDS = 5.0


def within(at: Floats, spans: Spans) -> Bools:
    inside = np.zeros(len(at), dtype=bool)
    for begins, ends in spans:
        inside |= (at >= begins) & (at < ends)
    return inside


def complement(spans: Spans) -> Spans:
    """When it is none of these."""
    free, after = [], -np.inf
    for begins, ends in sorted(spans):
        if begins > after:
            free.append((after, begins))
        after = max(after, ends)
    return [*free, (after, np.inf)]


def stuck_since(at: Floats, spans: Spans) -> Floats:
    """Since when a hop takes nothing, where it takes nothing; else infinity."""
    since = np.full(len(at), np.inf)
    for begins, ends in spans:
        inside = (at >= begins) & (at < ends)
        since[inside] = np.minimum(since[inside], begins)
    return since


def at_most(bound: float, median: Floats | float, steepness: float) -> Floats | float:
    """Of what takes `median` as a rule, the share that takes at most so long: log-logistic."""
    return 1.0 / (1.0 + (median / bound) ** steepness)


def next_round(at: Floats, phase: float) -> Floats:
    return np.ceil((at - phase) / LEDGER_ROUND_SECONDS) * LEDGER_ROUND_SECONDS + phase


def le_of(bound: float) -> str:
    """A bucket's label, as prometheus-client writes it."""
    words: str = utils.floatToGoString(bound)  # type: ignore[no-untyped-call]
    return words


def to_ms(at: Floats, epoch_ms: int) -> Millis:
    return epoch_ms + np.rint(at * 1000).astype(np.int64)


def _family(name: str) -> str:
    for ending in ("_bucket", "_count", "_sum"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name
