"""What the ledger tells: metrics, and a log line for each thing that it found, once."""

from collections.abc import Iterable

from canary.ledger.judge import Class, Finding
from canary.ledger.verdicts import Judged
from pipeline.ledger.tally import WINDOW_SECONDS
from telemetry import metrics as m
from telemetry.hops import HOPS
from telemetry.log import Logger
from telemetry.metrics import Metrics

# Lines for one window; the number of those beyond is one more.
LINES_MAX = 50
# Where a finding can be: the hops, the streams between them, and what a hop adds to its name.
HOP_LABELS = frozenset(hop.name for hop in HOPS) | {"events-clean", "backup/web-events"}
CONVICTING = (Class.LOST, Class.CORRUPT, Class.PHANTOM, Class.DOUBLED)


class Teller:
    def __init__(self, metrics: Metrics, log: Logger | None = None) -> None:
        self.log, self._metrics = log, metrics
        self._windows = {kind: metrics.counter(m.LEDGER_WINDOWS, verdict=kind.value) for kind in Class}
        self._standing = {kind: metrics.gauge(m.LEDGER_STANDING, verdict=kind.value) for kind in Class}
        self._accounted = metrics.counter(m.LEDGER_ACCOUNTED)
        for kind in CONVICTING:
            for hop in sorted(HOP_LABELS):
                metrics.counter(m.LEDGER_FINDINGS, verdict=kind.value, hop=hop)
        self._age = metrics.gauge(m.LEDGER_JUDGED_AGE)
        self._sight = metrics.gauge(m.LEDGER_SIGHT)
        self._unreadable = metrics.gauge(m.LEDGER_UNREADABLE)
        self._blind_because = ""
        self._unread: set[str] = set()

    def blind(self, why: str) -> None:
        """Nothing could be judged."""
        self._sight.set(0)
        if not self._blind_because and self.log is not None:
            self.log.warning("the ledger can't look", detail=why)
        self._blind_because = why

    def seeing(self, unreadable_letters: int) -> None:
        self._unreadable.set(unreadable_letters)
        if self._blind_because and self.log is not None:
            self.log.info("the ledger can look again")
        self._blind_because = ""

    def exit_unread(self, exit: str, why: str) -> None:
        if exit not in self._unread:
            self.warn("an exit can't be read", why, hop=exit)
        self._unread.add(exit)

    def exit_read(self, exit: str) -> None:
        self._unread.discard(exit)

    def sight(self) -> None:
        """After a round in which segments and dead letters could be read."""
        self._sight.set(0 if self._unread else 1)

    def unjudged(self, start: int, end: int) -> None:
        """Windows of these accept times left the horizon: the ledger was blind all the while."""
        self._windows[Class.UNKNOWN].inc((end - start) / WINDOW_SECONDS)
        if self.log is not None:
            self.log.error("windows were never judged", start=start, end=end)

    def warn(self, what: str, why: str, **where: str) -> None:
        if self.log is not None:
            self.log.warning(what, detail=why, **where)

    def tell(self, row: Judged, before: Judged | None) -> None:
        """A verdict, and the one that this window had before."""
        if before is None:
            self._accounted.inc(row.events)
        elif row.events > before.events:
            self._accounted.inc(row.events - before.events)
        if before is None or before.kind is not row.kind:
            self._windows[row.kind].inc()
            self._say_verdict(row, before)
        known = {_mark(each) for each in before.findings} if before is not None else set()
        fresh = [each for each in row.findings if each.kind in CONVICTING and _mark(each) not in known]
        for each in fresh:
            self._metrics.counter(m.LEDGER_FINDINGS, verdict=each.kind.value, hop=hop_label(each.hop)).inc()
        self._say_findings(row, fresh)

    def standing(self, rows: Iterable[Judged], age_seconds: float) -> None:
        counts = dict.fromkeys(Class, 0)
        for row in rows:
            counts[row.kind] += 1
        for kind, count in counts.items():
            self._standing[kind].set(count)
        self._age.set(age_seconds)

    def _say_verdict(self, row: Judged, before: Judged | None) -> None:
        if self.log is None or (row.kind is Class.OK and before is None):
            return
        say = self.log.error if row.kind in CONVICTING else self.log.warning if row.kind is Class.UNKNOWN else self.log.info
        reasons = sorted({each.detail for each in row.findings if each.key is None})[:3]
        say(
            "a window's verdict", verdict=row.kind.value, was=before.kind.value if before else "", tenant=row.window.tenant,
            door=row.window.door, window=row.window.start, events=row.events, findings=len(row.findings) + row.beyond,
            detail="; ".join(reasons), how=row.how,
        )  # fmt: skip

    def _say_findings(self, row: Judged, fresh: list[Finding]) -> None:
        if self.log is None:
            return
        for each in fresh[:LINES_MAX]:
            self.log.error(
                "ledger finding", verdict=each.kind.value, hop=each.hop,
                event_id=each.name.id or "", event_source=each.name.source or "",
                tenant=row.window.tenant, door=row.window.door, window=row.window.start,
                places=",".join(each.places), last_seen=each.last_seen, detail=each.detail,
            )  # fmt: skip
        if len(fresh) > LINES_MAX:
            self.log.error(
                "more ledger findings", window=row.window.start, tenant=row.window.tenant, findings=len(fresh) - LINES_MAX
            )


def hop_label(hop: str) -> str:
    return hop if hop in HOP_LABELS else "other"


def _mark(each: Finding) -> tuple[str, str, int | None]:
    return each.kind.value, each.hop, each.key
