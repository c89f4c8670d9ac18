"""What each process says of its work and of itself; `watchers.py` has canary and ledger.

To add a metric: an entry in its process's method. A test fails while a rule reads what is not simulated.
"""

from collections.abc import Iterator

import numpy as np

from alerts.proof.exposition import Exposition, Target
from alerts.proof.flow import Flow
from alerts.proof.series import Floats, Series
from alerts.proof.spans import stuck_since, within
from telemetry import metrics as m
from telemetry.hops import EXITS

_WRITER_OF = {"http": "web-events", "grpc": "events", "redactor": "events-clean"}
_SHARDS, _SHARDS_AFTER = ("shardId-000000000000", "shardId-000000000001"), ("shardId-000000000002", "shardId-000000000003")
TENANTS, _TYPES = ("acme", "globex"), ("spillway.events.v1.OrderPlaced",)
_EVENTS_A_REQUEST = 20.0
_MIB, _DAY_SECONDS = float(1 << 20), 86400.0


class Processes:
    def __init__(self, flow: Flow, expose: Exposition, rng: np.random.Generator) -> None:
        self._flow, self._expose, self._rng, self._story = flow, expose, rng, flow.story

    def of(self, target: Target) -> Iterator[Series]:
        makers = {
            "grpc": self._door, "http": self._door, "transcoder": self._worker, "redactor": self._worker, "etl": self._etl,
            "auditor": self._auditor, "store": self._store,
        }  # fmt: skip
        if target.process in makers:
            yield from makers[target.process](target)

    def _door(self, target: Target) -> Iterator[Series]:
        door = target.process
        hop, stream = f"{door}-door", _WRITER_OF[door]
        labels = {"door": door}
        hung = within(self._flow.at, self._story.spans("stopped", hop))
        refused = within(self._flow.at, self._story.spans("stopped", "kinesis"))
        asked = self._flow.traffic * self._flow.portion(target) * ~hung
        bad = np.maximum(self._flow.share("errors", hop), refused.astype(float))
        bad = np.maximum(bad, 1e-5 * self._rng.gamma(1.0, 1.0, len(self._flow.at)))
        malformed = np.maximum(self._flow.share("malformed", hop), 0.002 * self._rng.gamma(2.0, 0.5, len(self._flow.at)))
        for status, share in (("accepted", 1 - bad - malformed), ("retry", bad), ("rejected", malformed), ("queued", 0.0)):
            yield from self._expose.counter(target, m.DOOR_EVENTS, {**labels, "status": status}, asked * np.maximum(share, 0.0))
        reasons = {"throttled": bad * 0.2, "unavailable": bad * 0.7, "overloaded": bad * 0.1, "rule": malformed}
        reasons |= {"unauthenticated": malformed * 0.1, "deadline": bad * 0, "unknown_type": malformed * 0.2}
        for reason, share in reasons.items():
            yield from self._expose.counter(target, m.DOOR_REJECTIONS, {**labels, "reason": reason}, asked * share)
        slow = self._flow.share("slow", hop)
        usual = 0.008 * (1 + asked / 2000.0)
        yield from self._expose.histogram(
            target, m.DOOR_REQUEST_SECONDS, labels, asked / _EVENTS_A_REQUEST,
            lambda bound: at_most(bound, usual, 5.0) * (1 - slow) + (slow if bound >= 10.0 else 0.0), 0.01,
        )  # fmt: skip
        yield from self._expose.counter(target, m.DOOR_LOST_EVENTS, labels, 0.0)
        for tenant in TENANTS:
            for type_ in _TYPES:
                pace = asked * (1 - bad - malformed) / len(TENANTS)
                yield from self._expose.counter(target, m.DOOR_TENANT_EVENTS, {**labels, "tenant": tenant, "type": type_}, pace)
        yield from self._expose.gauge(target, m.DOOR_KEYS_USABLE, labels, 1.0)
        noise = self._rng.gamma(2.0, 0.5, len(target.ok))
        yield from self._expose.gauge(target, m.DOOR_IN_FLIGHT_BYTES, labels, _MIB * noise)
        yield from self._expose.gauge(target, m.DOOR_IN_FLIGHT_LIMIT_BYTES, labels, 64 * _MIB)
        yield from self._expose.gauge(target, m.DOOR_QUEUE_AGE_SECONDS, labels, 0.05 * noise)
        yield from self._writes(target, stream, asked * (1 - malformed), bad)

    def _writes(self, target: Target, stream: str, events: Floats, bad: Floats) -> Iterator[Series]:
        records, labels = events / 4.0, {"stream": stream}
        yield from self._expose.counter(target, m.KINESIS_WRITE_ENTRY_FAILURES, labels, 0.0)
        throttled = 1e-4 * self._rng.gamma(1.0, 1.0, len(self._flow.at))
        for outcome, share in (("written", 1 - bad), ("throttled", throttled + bad * 0.3), ("failed", bad * 0.7)):
            yield from self._expose.counter(target, m.KINESIS_WRITE_RECORDS, {**labels, "outcome": outcome}, records * share)
        yield from self._expose.histogram(
            target, m.KINESIS_WRITE_SECONDS, labels, records / 10.0, lambda bound: at_most(bound, 0.012, 4.0), 0.015
        )
        for shard in (*_SHARDS, *(_SHARDS_AFTER if self._story.reshards else ())):
            pace = records * (1 - bad) / 2 * self._shard_is_open(shard)
            yield from self._expose.counter(target, m.KINESIS_WRITE_BYTES, {**labels, "shard": shard}, pace * 1200)
            yield from self._expose.counter(target, m.KINESIS_SHARD_RECORDS, {**labels, "shard": shard}, pace)

    def _shard_is_open(self, shard: str) -> Floats:
        first = min(self._story.reshards, default=np.inf)
        return ((self._flow.at < first) if shard in _SHARDS else (self._flow.at >= first)).astype(float)

    def _worker(self, target: Target) -> Iterator[Series]:
        part, labels = target.process, {"part": target.process}
        events = (
            self._flow.traffic * (1 if part == "transcoder" else 2) * self._flow.open(part) + self._flow.late(part)
        ) * self._flow.portion(target)
        dead = 2e-5 * self._rng.gamma(1.0, 1.0, len(self._flow.at))
        yield from self._expose.counter(target, m.CONSUMER_RECORDS, labels, events / 4.0)
        for outcome, share in (("delivered", 1 - dead), ("dead_letter", dead)):
            yield from self._expose.counter(target, m.CONSUMER_EVENTS, {**labels, "outcome": outcome}, events * share)
        for reason in ("rule", "undecodable"):
            yield from self._expose.counter(target, m.DEAD_LETTERS, {"stage": part, "reason": reason}, events * dead / 2)
        refused = within(self._flow.at, self._story.spans("stopped", "kinesis")).astype(float)
        for kind in ("downstream", "failed", "lost"):
            pace = 0.2 * refused * self._flow.portion(target) if kind == "downstream" else 0.0
            yield from self._expose.counter(target, m.CONSUMER_FAILURES, {**labels, "kind": kind}, pace)
        for action in ("drop", "mask", "pseudonymise", "generalise") if part == "redactor" else ():
            yield from self._expose.counter(target, m.REDACTED_FIELDS, {"action": action}, events * 0.3)
            yield from self._expose.gauge(target, m.REDACTION_RULES, {"action": action}, 3.0)
        yield from self._expose.histogram(
            target, m.CONSUMER_PROCESS_SECONDS, labels, events / 40, lambda b: at_most(b, 0.08, 4.0), 0.1
        )
        yield from self._expose.histogram(
            target, m.CONSUMER_WAIT_SECONDS, labels, events / 40, lambda b: at_most(b, 0.4, 4.0), 0.5
        )
        yield from self._readers(target)
        if part in _WRITER_OF:
            yield from self._writes(target, _WRITER_OF[part], events, np.zeros(len(self._flow.at)))

    def _readers(self, target: Target) -> Iterator[Series]:
        """Each worker reads one of two shards, or both while the other is away."""
        part, ok = target.process, target.ok
        stuck = stuck_since(ok, self._flow.outages[part])
        behind = np.where(np.isfinite(stuck), ok - stuck, self._rng.gamma(1.5, 0.4, len(ok)))
        progress = np.where(np.isfinite(stuck), stuck, ok - self._rng.uniform(0, 5, len(ok)))
        mine = self._flow.of(part).index(target)
        for at, shard in enumerate(_SHARDS[: max(1, self._story.workers_each)]):
            if at % max(1, self._story.workers_each) != mine:
                continue
            labels = {"part": part, "shard": shard}
            yield from self._expose.gauge(target, m.CONSUMER_BEHIND_SECONDS, labels, behind)
            yield from self._expose.gauge(target, m.CONSUMER_PROGRESS, labels, progress + self._flow.epoch)
        yield from self._expose.gauge(target, m.CONSUMER_BEHIND_SECONDS, {"part": part, "shard": ""}, 0.0)

    def _etl(self, target: Target) -> Iterator[Series]:
        for exit in EXITS:
            labels, ok, at = {"exit": exit}, target.ok, self._flow.at
            # Behind the redactor nothing comes either, but the query itself is well.
            before = self._flow.open("redactor") * self._flow.open("grpc-door")
            late = self._flow.late(exit) + (self._flow.late("redactor") if exit not in self._flow.outages else 0.0)
            usual = self._flow.traffic * 2 * self._flow.open(exit) * before
            for outcome, pace in (
                ("loaded", usual + late),
                ("duplicate", usual * 1e-5),
                ("conflict", 0.0),
                ("dead", usual * 1e-6),
            ):
                yield from self._expose.counter(target, m.ETL_ROWS, {**labels, "outcome": outcome}, pace)
            for reason in ("undecodable", "rule"):
                yield from self._expose.counter(target, m.DEAD_LETTERS, {"stage": f"etl-{exit}", "reason": reason}, usual * 5e-7)
            failing = 0.1 * within(at, self._story.spans("away", exit)).astype(np.float64)
            yield from self._expose.counter(target, m.ETL_FAILURES, labels, failing)
            runs_ = 0.25 * self._flow.open(exit)
            yield from self._expose.histogram(target, m.ETL_BATCH_SECONDS, labels, runs_, lambda b: at_most(b, 1.5, 4.0), 1.8)
            yield from self._expose.gauge(target, m.ETL_BATCH_LIMIT_SECONDS, labels, 20.0)
            waited = self._flow.waited(exit)
            whole = usual + late
            yield from self._expose.histogram(
                target, m.ETL_FRESHNESS_SECONDS, labels, whole,
                lambda b, usual=usual, late=late, waited=waited, whole=whole: (  # type: ignore[misc]
                    usual * at_most(b, 3.0, 5.0) + late * np.minimum(1.0, b / waited)
                ) / np.maximum(whole, 1e-9), 3.2,
            )  # fmt: skip
            stuck = stuck_since(ok, self._flow.outages[exit])
            last = np.where(np.isfinite(stuck), stuck, ok - self._rng.uniform(0, 4, len(ok)))
            yield from self._expose.gauge(target, m.ETL_LAST_BATCH, labels, last + self._flow.epoch)
            yield from self._expose.gauge(target, m.ETL_INPUT_RATE, labels, np.interp(ok, at, usual / 4))
            yield from self._expose.gauge(target, m.ETL_PROCESSING_RATE, labels, 2500.0)

        for kind in ("not_registered", "schema"):
            yield from self._expose.counter(target, m.LAKE_REFUSALS, {"kind": kind}, 0.0)
        yield from self._expose.gauge(target, m.LAKE_SMALL_FILES, {}, 8.0)

    def _auditor(self, target: Target) -> Iterator[Series]:
        ok = target.ok
        for stream in ("web-events", "events"):
            exit = "web-backup" if stream == "web-events" else "backup"
            labels, events = {"stream": stream}, self._flow.traffic * (1 if stream == "web-events" else 2)
            events = events * self._flow.open(exit) + self._flow.late(exit)
            yield from self._expose.counter(target, m.BACKUP_EVENTS, labels, events)
            yield from self._expose.counter(target, m.BACKUP_OBJECTS, labels, 0.2 * self._flow.open(exit))
            damage = 0.1 * within(self._flow.at, self._story.spans("damage", stream, "")).astype(np.float64)
            yield from self._expose.counter(target, m.BACKUP_DAMAGE, labels, damage)
            yield from self._expose.histogram(
                target, m.BACKUP_FRESHNESS_SECONDS, labels, events, lambda b: at_most(b, 8.0, 6.0), 8.5
            )
            stuck = stuck_since(ok, self._flow.outages[exit])
            newest = np.where(np.isfinite(stuck), stuck, ok) - self._rng.uniform(1, 7, len(ok))
            yield from self._expose.gauge(target, m.BACKUP_NEWEST, labels, newest + self._flow.epoch)
            yield from self._expose.gauge(target, m.BACKUP_BEHIND_SECONDS, labels, self._rng.gamma(2.0, 1.5, len(ok)))
        # Now and then a round fails, and the next one does not.
        fails = np.sort(self._rng.uniform(0, self._flow.ends, self._rng.poisson(self._flow.ends / 200_000)))
        yield from self._expose.happened(target, m.BACKUP_AUDIT_FAILURES.name, {}, fails)

    def _store(self, target: Target) -> Iterator[Series]:
        for signal in ("spans", "logs"):
            for outcome in ("stored", "refused", "expired"):
                yield from self._expose.counter(
                    target, m.STORE_ITEMS, {"signal": signal, "outcome": outcome}, 12.0 if outcome == "stored" else 0.0
                )
        yield from self._expose.histogram(
            target, m.STORE_WRITE_SECONDS, {}, np.full(len(self._flow.at), 1.0), lambda b: at_most(b, 0.01, 4.0), 0.012
        )
        yield from self._expose.gauge(target, m.STORE_BYTES, {}, 600 * _MIB)
        yield from self._expose.gauge(target, m.STORE_LIMIT_BYTES, {}, 2048 * _MIB)
        yield from self._expose.gauge(target, m.DISK_USED_BYTES, {}, 90_000 * _MIB)
        yield from self._expose.gauge(target, m.DISK_SIZE_BYTES, {}, 200_000 * _MIB)
        for verdict, missing, pace in (("whole", "", 0.8), ("partial", "lake", 0.0), ("partial", "redactor", 0.0)):
            yield from self._expose.counter(target, m.TRACES_JUDGED, {"verdict": verdict, "missing": missing}, pace)

    def itself(self, target: Target) -> Iterator[Series]:
        """What every process says of itself; those that talk to AWS say how that goes."""
        yield from self._expose.gauge(target, m.PROCESS_START, {}, np.maximum(target.life, -_DAY_SECONDS) + self._flow.epoch)
        yield from self._expose.counter(target, m.PROCESS_CPU_SECONDS, {}, 0.15)
        yield from self._expose.gauge(target, m.PROCESS_CRASHES, {}, 0.0)
        for service in ("kinesis", "s3", "dynamodb"):
            for kind in ("denied", "throttled", "unavailable", "clock"):
                pace = 0.002 if (service, kind) == ("kinesis", "throttled") else 0.0
                yield from self._expose.counter(target, m.AWS_FAILURES, {"service": service, "kind": kind}, pace)
        yield from self._expose.gauge(target, m.AWS_CLOCK_SKEW_SECONDS, {}, 0.0)

    def telemetry(self, target: Target) -> Iterator[Series]:
        for signal in ("spans", "logs"):
            for outcome in ("shipped", "dropped", "failed"):
                yield from self._expose.counter(
                    target, m.TELEMETRY_ITEMS, {"signal": signal, "outcome": outcome}, 2.0 if outcome == "shipped" else 0.0
                )
            yield from self._expose.gauge(
                target, m.TELEMETRY_QUEUE_ITEMS, {"signal": signal}, self._rng.gamma(2.0, 4.0, len(target.ok))
            )
        if target.process in ("grpc", "http", "transcoder", "redactor", "auditor"):
            yield from self._expose.counter(target, m.LEDGER_EVENTS, {}, self._flow.traffic)
            for outcome in ("written", "failed"):
                yield from self._expose.counter(
                    target, m.LEDGER_SEGMENTS, {"outcome": outcome}, 0.2 if outcome == "written" else 0.0
                )
            yield from self._expose.gauge(target, m.LEDGER_UNWRITTEN_SECONDS, {}, self._rng.uniform(0, 5, len(target.ok)))


def at_most(bound: float, median: Floats | float, steepness: float) -> Floats | float:
    """Of what takes `median` as a rule, the share that takes at most so long: log-logistic."""
    return 1.0 / (1.0 + (median / bound) ** steepness)
